"""From the states of an episode to a scene: by the family's own `draw`, or by what the states say.

Families of simulated bodies (an environment with `skeleton` and `poses`) and points in a plane (a
state with a `position`, parameters with a `goal`) are drawn here; any other family draws itself
(see `stemrl.drawing`) or has no animation.
"""

from typing import Any

import numpy as np

from ..core import AbstractFamily, Params
from ..drawing import Scene, Shape
from .bodies import bodies

MOST_FRAMES = 150


def scene(family: AbstractFamily, params: Params, states: Any) -> Scene | None:
    """Return the episode with these `states` (`[frames, …]`) of the task `params` as a scene; both
    have NumPy leaves. Return `None` if the family cannot be drawn."""
    if hasattr(family, "inside"):
        return scene(*family.inside(params, states))  # pyright: ignore[reportAttributeAccessIssue]
    draw = getattr(family, "draw", None)
    drawn = None
    if draw is not None:
        drawn = draw(params, states)
    elif hasattr(family.env, "poses"):
        drawn = bodies(family, params, states)
    elif hasattr(states, "position") and isinstance(params, dict) and "goal" in params:
        drawn = _plane(family, params, states)
    return drawn and drawn.thinned(MOST_FRAMES)


def _plane(family: AbstractFamily, params: dict[str, Any], states: Any) -> Scene:
    """A point, or a walker over cells, and its goal."""
    position = np.asarray(states.position, float)
    goal = np.asarray(params["goal"], float)
    frames, size = len(position), getattr(family.env, "size", None)
    if size is not None:
        cells = [
            Shape("square", np.asarray([[[x, y]]], float), 0.46, "cell")
            for x in range(size)
            for y in range(size)
        ]
        shapes = [
            *cells,
            Shape("square", goal[None, None], 0.46, "goal"),
            Shape("trail", position[:, None], 0.05, "near"),
            Shape("disc", position[:, None], 0.28, "body"),
        ]
        middle = np.full((1, 2), (size - 1) / 2)
        return Scene(shapes, middle, (size * 1.15, size * 1.15), 0.25, frames)
    # Centred on the start, so that all episodes of a task are seen alike.
    points = np.concatenate([position, goal[None]])
    extent = max(2.3 * float(np.abs(points).max()), 0.5)
    radius = getattr(family.env, "radius", None) or extent / 40
    shapes = [
        Shape("disc", np.zeros((1, 1, 2)), extent / 80, "start"),
        Shape("disc", goal[None, None], radius, "goal"),
        Shape("trail", position[:, None], extent / 150, "near"),
        Shape("disc", position[:, None], extent / 45, "body"),
    ]
    return Scene(shapes, np.zeros((1, 2)), (extent, extent), 0.05, frames)
