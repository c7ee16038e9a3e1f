"""Simulated bodies as scenes: planar robots from the side, others from above at an angle."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core import AbstractFamily
from ..drawing import Gauge, Role, Scene, Shape

ELEVATION, AZIMUTH = 0.6, 0.45
"""From where a robot that moves in space is seen (radians)."""
ASPECT = 2.4
"""Width over height of the window from the side."""
SPEED_SECONDS = 0.25
"""Speeds are shown as means over this long: a gait's own shaking is no news."""


def bodies(family: AbstractFamily, params: Any, states: Any) -> Scene | None:
    """Return the scene of a family whose environment has `poses` and `skeleton` (see `physics`);
    `None` for a robot of nothing but meshes."""
    env: Any = family.env
    ends = np.asarray(env.poses(params, states), float)
    skeleton = env.skeleton(params)
    seconds = float(env.engine.seconds)
    if not skeleton.names:
        return None
    roles: list[Role] = [role_of(limb) for limb in skeleton.limbs]
    trunk = roles.index("body") if "body" in roles else 0
    centre = ends[:, trunk].mean(1)
    wishes = params if isinstance(params, dict) else {}
    if np.ptp(ends[..., 1]) < 1e-3:
        return _side(ends, skeleton, roles, centre, seconds, wishes)
    return _oblique(ends, skeleton, roles, centre, seconds, wishes)


def role_of(limb: int) -> Role:
    """Return a part's colour: the trunk, or limbs by turns one side's or the other's."""
    return "body" if limb < 0 else ("near", "far")[limb % 2]


def _side(
    ends: Float[np.ndarray, "frames parts 2 3"],
    skeleton: Any,
    roles: list[Role],
    centre: Float[np.ndarray, "frames 3"],
    seconds: float,
    wishes: dict[str, Any],
) -> Scene:
    flat = ends[..., [0, 2]]
    ground = skeleton.ground if skeleton.ground is not None else float(flat[..., 1].min())
    # By its height at first, so that all episodes are seen to one scale.
    height = 1.6 * max(float(flat[0, ..., 1].max()) - ground, 0.2)
    window = (ASPECT * height, height)
    camera = np.stack([centre[:, 0], np.full(len(centre), ground + 0.32 * height)], 1)
    shapes, gauge = _asked_from_side(centre, seconds, wishes, ground, height)
    for low, high in skeleton.walls:
        if high[2] > ground:
            # Squares as wide as it is, one on the other, as high as the window.
            middle, half = (low[0] + high[0]) / 2, (high[0] - low[0]) / 2
            for up in np.arange(ground + half, ground + height + half, 2 * half):
                shapes.append(Shape("square", np.asarray([[[middle, up]]]), half, "wall"))
    # The far side is painted first.
    order = sorted(range(len(roles)), key=lambda i: ("far", "near", "body").index(roles[i]))
    shapes += [Shape("capsule", flat[:, i], float(skeleton.radii[i]), roles[i]) for i in order]
    return Scene(shapes, camera, window, seconds, len(flat), skeleton.ground, gauge)


def _asked_from_side(
    centre: Float[np.ndarray, "frames 3"],
    seconds: float,
    wishes: dict[str, Any],
    ground: float,
    height: float,
) -> tuple[list[Shape], Gauge | None]:
    """What the task asks for: a flag that moves at the wanted speed, beside a gauge."""
    target = _scalar(wishes, "velocity", "speed", "target_velocity")
    direction = _scalar(wishes, "direction")
    if target is None and direction is None:
        return [], None
    speed = _speed(centre, seconds)
    if target is not None:
        at = centre[0, 0] + target * seconds * np.arange(len(centre))
    else:
        at = np.full(len(centre), centre[0, 0] + 1000.0 * math.copysign(1.0, direction or 1.0))
    foot = np.stack([at, np.full(len(at), ground)], 1)
    pole = np.stack([foot, foot + np.asarray([0.0, 0.62 * height])], 1)
    return [Shape("capsule", pole, 0.008 * height, "goal")], Gauge("speed", speed, target, " m/s")


def _oblique(
    ends: Float[np.ndarray, "frames parts 2 3"],
    skeleton: Any,
    roles: list[Role],
    centre: Float[np.ndarray, "frames 3"],
    seconds: float,
    wishes: dict[str, Any],
) -> Scene:
    flat, depth = _project(ends)
    ground = skeleton.ground if skeleton.ground is not None else float(ends[..., 2].min())
    size = float(np.percentile(np.ptp(ends.reshape(len(ends), -1, 3), axis=1).max(1), 90))
    width = 3.4 * max(size, 0.3)
    low, high = centre[:, :2].min(0) - width, centre[:, :2].max(0) + width
    shapes = [] if skeleton.ground is None else _grid(low, high, ground)
    goal = wishes.get("goal")
    if goal is not None and np.size(goal) == 2:
        at, _ = _project(np.asarray([[[*np.ravel(goal), ground]]], float))
        shapes.append(Shape("disc", at, 0.15 * size, "goal"))
    heading = _heading(wishes)
    if heading is not None:
        aim = np.asarray([math.cos(heading), math.sin(heading)])
        near = np.concatenate([centre[0, :2] + 0.8 * size * aim, [ground]])
        far = np.concatenate([centre[0, :2] + 60.0 * size * aim, [ground]])
        line, _ = _project(np.stack([near, far])[None, None])
        shapes.append(Shape("band", line[:, 0], 0.02 * size, "goal"))
    order = np.argsort(-depth.mean((0, 2)))
    shapes += [Shape("capsule", flat[:, i], float(skeleton.radii[i]), roles[i]) for i in order]
    camera, _ = _project(np.concatenate([centre[:, :2], np.full((len(centre), 1), ground)], 1))
    target = _scalar(wishes, "velocity", "speed", "target_velocity")
    gauge = None
    if target is not None:
        gauge = Gauge("speed", _speed(centre, seconds), target, " m/s")
    return Scene(shapes, camera, (width, width / 1.9), seconds, len(flat), None, gauge)


def _project(points: Float[np.ndarray, "... 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Orthographic: positions in the picture `[…, 2]` and depth away from the viewer `[…]`."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    across = x * math.cos(AZIMUTH) - y * math.sin(AZIMUTH)
    away = x * math.sin(AZIMUTH) + y * math.cos(AZIMUTH)
    up = z * math.cos(ELEVATION) + away * math.sin(ELEVATION)
    return np.stack([across, up], -1), away * math.cos(ELEVATION) - z * math.sin(ELEVATION)


def _grid(low: np.ndarray, high: np.ndarray, ground: float) -> list[Shape]:
    """The floor's lines, a whole number of metres apart."""
    step = max(1, math.ceil(float((high - low).max()) / 40))
    lines = []
    for axis in (0, 1):
        for value in range(math.floor(low[axis]), math.ceil(high[axis]) + 1, step):
            line = np.full((1, 2, 3), ground)
            line[0, :, axis] = value
            line[0, :, 1 - axis] = low[1 - axis], high[1 - axis]
            lines.append(Shape("band", _project(line)[0], 0.008, "cell"))
    return lines


def _heading(wishes: dict[str, Any]) -> float | None:
    angle = _scalar(wishes, "heading", "angle")
    if angle is not None:
        return angle
    direction = wishes.get("direction")
    if direction is None:
        return None
    if np.size(direction) == 2:
        x, y = np.ravel(direction)
        return math.atan2(y, x)
    return 0.0 if float(np.ravel(direction)[0]) >= 0 else math.pi


def _scalar(wishes: dict[str, Any], *names: str) -> float | None:
    for name in names:
        if name in wishes and np.size(wishes[name]) == 1:
            return float(np.ravel(wishes[name])[0])
    return None


def _speed(centre: Float[np.ndarray, "frames 3"], seconds: float) -> np.ndarray:
    """Forward speed (metres a second), a moving mean that is shorter at the ends."""
    if len(centre) < 2:
        return np.zeros(len(centre))
    speed = np.gradient(centre[:, 0], seconds)
    half = max(1, round(SPEED_SECONDS / seconds / 2))
    return np.asarray([speed[max(0, i - half) : i + half + 1].mean() for i in range(len(speed))])
