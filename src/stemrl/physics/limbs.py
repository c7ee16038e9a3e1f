"""Limbs of other lengths and girths: a body's geoms, what hangs on them, its mass and inertia.

A limb is a body with a long axis, that of its capsules or cylinders. Its *length* ℓ stretches the
body along that axis a: every point fixed to it moves, p ↦ p + (ℓ − 1)(a·p)a, the cylindrical parts
lengthen and no radius changes. Its *radius* ρ scales the radii. Mass, centre of mass and inertia
follow at the nominal density, as if the model had been compiled from the changed file; joints stay
where the limbs meet, and a robot that does not float freely is put at its nominal height above the
ground.
"""

# MuJoCo's bindings carry no types.
# pyright: reportAttributeAccessIssue=false

import copy
import functools

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..core import UserError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LIMB_FIELDS = (
    "geom_size",
    "geom_pos",
    "geom_rbound",
    "geom_aabb",
    "geom_sameframe",
    "site_pos",
    "site_sameframe",
    "jnt_pos",
    "body_pos",
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_iquat",
    "body_sameframe",
    "bvh_aabb",
)
"""All that `Limbs.write` may change."""

_SPHERE = int(mujoco.mjtGeom.mjGEOM_SPHERE)
_CAPSULE = int(mujoco.mjtGeom.mjGEOM_CAPSULE)
_CYLINDER = int(mujoco.mjtGeom.mjGEOM_CYLINDER)


class Limbs:
    """The limbs of one nominal model, with what is needed to change them.

    `lengths` and `radii` map a body to the position of its factor in the values.
    """

    def __init__(
        self, nominal: mujoco.MjModel, lengths: dict[int, int], radii: dict[int, int]
    ) -> None:
        self.nominal, self.lengths, self.radii = nominal, lengths, radii
        self.bodies = sorted({*lengths, *radii})
        self.geoms = {
            body: list(range(start, start + nominal.body_geomnum[body]))
            for body, start in enumerate(nominal.body_geomadr)
        }
        self.axes = {body: self._axis(body) for body in self.bodies}
        self.densities = {body: self._density(body) for body in self.bodies}
        self.roots = [
            body
            for body in range(1, nominal.nbody)
            if nominal.body_parentid[body] == 0 and not self._floats(body)
        ]
        self.scratch = mujoco.MjData(nominal)
        self.lowest = {root: _lowest(nominal, self.scratch, root) for root in self.roots}
        # A task's model is set again for each of its episodes; tasks are drawn far less often.
        self.shape = functools.lru_cache(maxsize=1024)(self._shape)

    def write(self, model: mujoco.MjModel, values: Vector) -> None:
        """Set all `LIMB_FIELDS` of `model` to what the factors in `values` make of the nominal
        ones."""
        lengths = tuple(values[position] for position in self.lengths.values())
        radii = tuple(values[position] for position in self.radii.values())
        for field, array in zip(LIMB_FIELDS, self.shape(lengths, radii), strict=True):
            getattr(model, field)[...] = array

    def _shape(self, lengths: tuple[float, ...], radii: tuple[float, ...]) -> list[Vector]:
        model = copy.copy(self.nominal)
        length = dict(zip(self.lengths, lengths, strict=True))
        radius = dict(zip(self.radii, radii, strict=True))
        for body in self.bodies:
            self._change(model, body, length.get(body, 1.0), radius.get(body, 1.0))
        # Every robot stands so that its lowest point is as high as the nominal one's. (Its `qpos`
        # then measures from there, and a height that counts as healthy moves along.)
        for root in self.roots:
            model.body_pos[root, 2] += self.lowest[root] - _lowest(model, self.scratch, root)
        return [getattr(model, field).copy() for field in LIMB_FIELDS]

    def _floats(self, root: int) -> bool:
        joint = self.nominal.body_jntadr[root]
        return joint >= 0 and self.nominal.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE

    def _name(self, body: int) -> str:
        return mujoco.mj_id2name(self.nominal, mujoco.mjtObj.mjOBJ_BODY, body) or f"#{body}"

    def _axis(self, body: int) -> Vector:
        """The unit vector along the body's capsules and cylinders, in the body's frame."""
        model = self.nominal
        axes = []
        for geom in self.geoms[body]:
            kind = model.geom_type[geom]
            if kind not in (_SPHERE, _CAPSULE, _CYLINDER):
                raise UserError(
                    f"body '{self._name(body)}' cannot change its limb size: it has geoms other"
                    " than spheres, capsules and cylinders"
                )
            if kind != _SPHERE:
                axes.append(_matrix(model.geom_quat[geom])[:, 2])
        if body in self.lengths and not axes:
            raise UserError(
                f"body '{self._name(body)}' has no limb_length: it has no capsule or cylinder"
            )
        if any(abs(axes[0] @ axis) < 0.999 for axis in axes):
            raise UserError(
                f"body '{self._name(body)}' has no one long axis: its capsules are not parallel"
            )
        return axes[0] if axes else np.zeros(3)

    def _density(self, body: int) -> float:
        """Mass over volume; raises `UserError` where the body's mass and inertia are not those of
        its geoms at one density, so that they could not be recomputed."""
        model = self.nominal
        volume = sum(_inertia(model, geom)[0] for geom in self.geoms[body])
        if not volume or model.body_mass[body] == 0:
            raise UserError(f"body '{self._name(body)}' has no mass of its own, and so no limb")
        density = model.body_mass[body] / volume
        _, centre, inertia = self._compose(model, body, density)
        frame = _matrix(model.body_iquat[body])
        moments = frame @ np.diag(model.body_inertia[body]) @ frame.T
        tolerance = 1e-5 * np.max(model.body_inertia[body])
        if not (
            np.allclose(centre, model.body_ipos[body], atol=1e-6)
            and np.allclose(inertia, moments, rtol=0, atol=tolerance)
        ):
            raise UserError(
                f"body '{self._name(body)}' cannot change its limb size: its inertia is not that"
                " of its geoms at one density (give the file inertiafromgeom and one density)"
            )
        return density

    def _change(self, model: mujoco.MjModel, body: int, length: float, radius: float) -> None:
        if length == 1.0 and radius == 1.0:
            return
        axis, geoms = self.axes[body], self.geoms[body]

        def stretch(points: Vector) -> Vector:
            return points + (length - 1.0) * (points @ axis)[..., None] * axis

        for geom in geoms:
            model.geom_pos[geom] = stretch(self.nominal.geom_pos[geom])
            model.geom_size[geom, 0] *= radius
            if model.geom_type[geom] != _SPHERE:
                model.geom_size[geom, 1] *= length
            _bound(model, geom)
        sites = self.nominal.site_bodyid == body
        model.site_pos[sites] = stretch(self.nominal.site_pos[sites])
        # A root's joints connect it to the world and stay; the others' move with the limb, and the
        # limb with them, so that its first joint stays where the parent has it.
        if self.nominal.body_parentid[body] != 0 and self.nominal.body_jntnum[body] > 0:
            joints = self.nominal.jnt_bodyid == body
            model.jnt_pos[joints] = stretch(self.nominal.jnt_pos[joints])
            first = self.nominal.body_jntadr[body]
            moved = model.jnt_pos[first] - self.nominal.jnt_pos[first]
            model.body_pos[body] -= _matrix(self.nominal.body_quat[body]) @ moved
        for child in np.flatnonzero(self.nominal.body_parentid == body):
            anchor = self.nominal.body_pos[child].copy()
            if self.nominal.body_jntnum[child] > 0:
                joint = self.nominal.body_jntadr[child]
                turn = _matrix(self.nominal.body_quat[child])
                anchor += turn @ self.nominal.jnt_pos[joint]
            model.body_pos[child] += stretch(anchor) - anchor
        self._weigh(model, body)

    def _weigh(self, model: mujoco.MjModel, body: int) -> None:
        """Mass, centre and principal moments of the changed geoms."""
        geoms = self.geoms[body]
        mass, centre, inertia = self._compose(model, body, self.densities[body])
        model.body_mass[body], model.body_ipos[body] = mass, centre
        frame = _matrix(self.nominal.body_iquat[body])
        moments = frame.T @ inertia @ frame
        off_diagonal = moments - np.diag(np.diag(moments))
        if np.max(np.abs(off_diagonal)) <= 1e-10 * np.trace(moments):
            model.body_inertia[body] = np.diag(moments)
        else:
            model.body_inertia[body], turn = np.linalg.eigh(moments)
            turn[:, 2] *= np.sign(np.linalg.det(turn))
            mujoco.mju_mat2Quat(model.body_iquat[body], (frame @ turn).reshape(-1))
        if len(geoms) > 1:
            # The shortcuts of coinciding frames may no longer hold.
            model.body_sameframe[body] = 0
            model.geom_sameframe[geoms] = 0
            model.site_sameframe[self.nominal.site_bodyid == body] = 0
        reach = max(
            float(np.linalg.norm(model.geom_pos[geom] - centre) + model.geom_rbound[geom])
            for geom in geoms
        )
        # Boxes that cull collisions early, in the inertial frame: one that holds the whole body.
        start = model.body_bvhadr[body]
        if start >= 0:
            model.bvh_aabb[start : start + model.body_bvhnum[body]] = [0, 0, 0, *[reach] * 3]

    def _compose(
        self, model: mujoco.MjModel, body: int, density: float
    ) -> tuple[float, Vector, Matrix]:
        """Mass, centre and inertia about it, `[3, 3]`, of a body's geoms, in the body's frame."""
        geoms = self.geoms[body]
        parts = [_inertia(model, geom) for geom in geoms]
        masses = density * np.array([volume for volume, _ in parts])
        mass = float(np.sum(masses))
        centre = masses @ model.geom_pos[geoms] / mass
        inertia = np.zeros((3, 3))
        for geom, weight, (_, moments) in zip(geoms, masses, parts, strict=True):
            turn = _matrix(model.geom_quat[geom])
            away = model.geom_pos[geom] - centre
            # Steiner: I = R diag(moments) Rᵀ + m (|d|² 1 − d dᵀ).
            inertia += turn @ np.diag(density * moments) @ turn.T
            inertia += weight * (away @ away * np.eye(3) - np.outer(away, away))
        return mass, centre, inertia


def _inertia(model: mujoco.MjModel, geom: int) -> tuple[float, Vector]:
    """Volume and principal moments, at a density of 1, of a sphere, capsule or cylinder."""
    r, half, _ = model.geom_size[geom]
    kind = model.geom_type[geom]
    ball = 0.0 if kind == _CYLINDER else 4 / 3 * np.pi * r**3
    height = 0.0 if kind == _SPHERE else 2 * half
    tube = np.pi * r**2 * height
    along = tube * r**2 / 2 + ball * r**2 * 2 / 5
    # The ball's halves sit on the tube's ends: Steiner with a hemisphere's centre at 3r/8.
    across = tube * (3 * r**2 + height**2) / 12
    across += ball * (2 / 5 * r**2 + height**2 / 4 + 3 / 8 * height * r)
    return ball + tube, np.array([across, across, along])


def _bound(model: mujoco.MjModel, geom: int) -> None:
    """Bounding sphere and box of a changed geom."""
    r, half, _ = model.geom_size[geom]
    kind = model.geom_type[geom]
    long = {_SPHERE: r, _CAPSULE: half + r, _CYLINDER: half}[kind]
    model.geom_rbound[geom] = np.hypot(r, half) if kind == _CYLINDER else long
    model.geom_aabb[geom] = [0, 0, 0, r, r, long]


def _lowest(model: mujoco.MjModel, data: mujoco.MjData, root: int) -> float:
    """Height of the lowest point of a robot in its initial pose."""
    data.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, data)
    lowest = np.inf
    for geom in np.flatnonzero(model.body_rootid[model.geom_bodyid] == root):
        height = data.geom_xpos[geom, 2]
        if model.geom_type[geom] == _CAPSULE:
            height -= abs(data.geom_xmat[geom, 8]) * model.geom_size[geom, 1]
            height -= model.geom_size[geom, 0]
        else:
            height -= model.geom_rbound[geom]
        lowest = min(lowest, height)
    return float(lowest) if np.isfinite(lowest) else 0.0


def _matrix(quaternion: Vector) -> Matrix:
    """The rotation matrix of a unit quaternion."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
