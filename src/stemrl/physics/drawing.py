"""Where a robot's parts are, for pictures without OpenGL: every part is a line with a thickness."""

# MuJoCo's bindings carry no types.
# pyright: reportAttributeAccessIssue=false

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

# Groups 0 to 2 are what MuJoCo's own viewer shows at first.
_SHOWN_GROUPS = 3


class Skeleton(NamedTuple):
    """The parts of a robot, in the order of `poses`."""

    names: tuple[str, ...]
    """The geoms' names; empty where they have none."""
    limbs: tuple[int, ...]
    """Which limb of its body each belongs to, counted where it is attached; -1 for the trunk: the
    bodies on the way from the first one to the last at which the robot branches."""
    kinds: tuple[str, ...]
    """`sphere`, `capsule`, `cylinder`, `ellipsoid` or `box`: all but the first are drawn along their
    longest axis. Meshes and height fields are no lines and are left out."""
    radii: Float[np.ndarray, " parts"]
    """Half the thickness (metres)."""
    colours: Float[np.ndarray, "parts 4"]
    """Red, green, blue and opacity, 0 to 1."""
    ground: float | None
    """Height of the floor (metres), if there is a level one."""
    walls: Float[np.ndarray, "walls 2 3"]
    """Boxes that stand in the world: their lowest and their highest corner."""


def skeleton(model: mujoco.MjModel) -> Skeleton:
    """Return the drawn parts of `model`."""
    parts = _parts(model)
    level = model.geom_quat[:, 1] ** 2 + model.geom_quat[:, 2] ** 2 < 1e-6
    planes = np.flatnonzero(level & (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE))
    limbs = _limbs(model)
    axes = [_axis(model, i) for i in parts]
    return Skeleton(
        names=tuple(model.geom(i).name for i in parts),
        limbs=tuple(limbs[model.geom_bodyid[i]] for i in parts),
        kinds=tuple(
            mujoco.mjtGeom(int(model.geom_type[i])).name.removeprefix("mjGEOM_").lower()
            for i in parts
        ),
        radii=np.array([radius for _, radius in axes]),
        colours=np.array(model.geom_rgba[parts], float),
        ground=float(model.geom_pos[planes[0], 2]) if len(planes) else None,
        walls=np.array(
            [
                [model.geom_pos[i] - model.geom_size[i], model.geom_pos[i] + model.geom_size[i]]
                for i in np.flatnonzero(_walls(model))
            ]
        ).reshape(-1, 2, 3),
    )


def poses(
    model: mujoco.MjModel, qpos: Float[np.ndarray, "time nq"]
) -> Float[np.ndarray, "time parts 2 3"]:
    """Return both ends of every part's axis in the world; the same point twice for a sphere."""
    data = mujoco.MjData(model)
    parts = _parts(model)
    half = np.array([axis for axis, _ in (_axis(model, i) for i in parts)])
    ends = np.empty((len(qpos), len(parts), 2, 3))
    for t, positions in enumerate(qpos):
        data.qpos[:] = positions
        mujoco.mj_kinematics(model, data)
        centre = data.geom_xpos[parts]
        reach = np.einsum("gij,gj->gi", data.geom_xmat[parts].reshape(-1, 3, 3), half)
        ends[t, :, 0], ends[t, :, 1] = centre - reach, centre + reach
    return ends


def _parts(model: mujoco.MjModel) -> np.ndarray:
    """The geoms that are drawn: those that a viewer shows and, of a body whose shown ones are all
    meshes, the simple shapes with which it collides."""
    simple = np.isin(model.geom_type, [int(kind) for kind in _LINES]) & ~_walls(model)
    seen = (model.geom_group < _SHOWN_GROUPS) & (model.geom_rgba[:, 3] > 0.0)
    plain = set(model.geom_bodyid[simple & seen].tolist())
    bare = np.array([body not in plain for body in model.geom_bodyid], bool)
    hidden = simple & bare & (model.geom_bodyid > 0) & (model.geom_contype > 0)
    return np.flatnonzero(simple & seen | hidden)


_LINES = (
    mujoco.mjtGeom.mjGEOM_SPHERE,
    mujoco.mjtGeom.mjGEOM_CAPSULE,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    mujoco.mjtGeom.mjGEOM_BOX,
)


def _limbs(model: mujoco.MjModel) -> list[int]:
    """Of each body: -1 on the trunk, else which limb it is of the body that the limb hangs on."""
    children: list[list[int]] = [[] for _ in range(model.nbody)]
    for body in range(1, model.nbody):
        children[int(model.body_parentid[body])].append(body)
    branches = [len(inner) > 1 for inner in children]
    for body in reversed(range(1, model.nbody)):
        branches[int(model.body_parentid[body])] |= branches[body] and model.body_parentid[body] > 0
    limbs = [-1] * model.nbody
    for body in range(1, model.nbody):
        parent = int(model.body_parentid[body])
        if limbs[parent] >= 0:
            limbs[body] = limbs[parent]
        elif parent and not branches[body]:
            limbs[body] = [child for child in children[parent] if not branches[child]].index(body)
    return limbs


def _walls(model: mujoco.MjModel) -> np.ndarray:
    """Which geoms are boxes that belong to no body."""
    return (model.geom_bodyid == 0) & (model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)


def _axis(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, float]:
    """From the geom's centre to one end of its axis, in its own frame, and its radius."""
    kind, size = mujoco.mjtGeom(int(model.geom_type[geom])), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.zeros(3), float(size[0])
    if kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
        return np.array([0.0, 0.0, size[1]]), float(size[0])
    size = model.geom_aabb[geom, 3:]  # half sizes of the box around it
    longest, radius = int(np.argmax(size)), float(np.sort(size)[1])
    axis = np.zeros(3)
    axis[longest] = max(size[longest] - radius, 0.0)
    return axis, radius
