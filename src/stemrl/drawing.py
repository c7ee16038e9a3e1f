"""How an episode looks: a scene of a few flat primitives, for reports and animations.

A family whose episodes should be seen defines

    def draw(self, params, states) -> Scene

with the parameters of one task and the states of one episode (NumPy leaves, states `[frames, …]`).
Plain data: whoever draws it (a web page, a GIF) needs to know nothing of the family.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

Kind = Literal["capsule", "band", "disc", "square", "trail"]
"""A primitive; `Shape` says what each is."""
Role = Literal["body", "near", "far", "goal", "start", "wall", "cell"]
"""What a shape stands for, which gives it its colour; `near` and `far` are the limbs on the viewer's
side of a body and on the other."""
ROLES: tuple[str, ...] = get_args(Role)
"""Their names."""


@dataclass(frozen=True)
class Shape:
    """One primitive over time, in the scene's units of length, with y pointing up.

    A `capsule` is a thick line between two points with an outline, a `band` is one without. A
    `disc` and a `square` have one point. A `trail` is the path of its one point up to the present.
    """

    kind: Kind
    points: np.ndarray
    """`[frames, n, 2]`, or `[1, n, 2]` if it stands still; `n` is 2 for capsules and bands, else 1."""
    size: float
    """Radius, half the side, or half the trail's width."""
    role: Role = "body"
    """What it is, which gives it its colour. A capsule that is a `goal` is a flagpole;
    out of sight, it is an arrow at the window's edge."""


@dataclass(frozen=True)
class Gauge:
    """A quantity that the task is about, shown beside the value that it asks for."""

    label: str
    values: np.ndarray
    """`[frames]`."""
    target: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Scene:
    """An episode that can be drawn."""

    shapes: Sequence[Shape]
    """Painted in this order."""
    camera: np.ndarray
    """`[frames, 2]` or `[1, 2]`: the point at the window's centre."""
    window: tuple[float, float]
    """Width and height of what is seen (length units)."""
    seconds: float
    """Time between two frames."""
    frames: int
    ground: float | None = None
    """Height of the ground, if there is one: drawn with ticks, so that running shows."""
    gauge: Gauge | None = None
    caption: str = ""

    def thinned(self, most: int) -> "Scene":
        """Return the same scene with at most `most` frames."""
        every = -(-self.frames // most)
        if every == 1:
            return self

        def thin(values: np.ndarray) -> np.ndarray:
            return values if len(values) == 1 else values[::every]

        shapes = [Shape(s.kind, thin(s.points), s.size, s.role) for s in self.shapes]
        gauge = self.gauge
        if gauge is not None:
            gauge = Gauge(gauge.label, thin(gauge.values), gauge.target, gauge.unit)
        return replace(
            self,
            shapes=shapes,
            camera=thin(self.camera),
            seconds=self.seconds * every,
            frames=-(-self.frames // every),
            gauge=gauge,
        )

    def seen_in(self, window: tuple[float, float]) -> "Scene":
        """Return the same scene through a window of this size, with the ground as far above its
        lower edge."""
        camera = self.camera
        if self.ground is not None:
            below = (self.ground - camera[:, 1]) / self.window[1]
            camera = np.stack([camera[:, 0], self.ground - below * window[1]], 1)
        return replace(self, window=window, camera=camera)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with every length rounded to a thousandth of a unit."""

        def flat(values: np.ndarray) -> list[float]:
            return [round(float(v), 3) for v in np.asarray(values, float).ravel()]

        gauge = self.gauge
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 4),
            "window": list(self.window),
            "camera": flat(self.camera),
            "ground": self.ground,
            "caption": self.caption,
            "gauge": gauge
            and {
                "label": gauge.label,
                "unit": gauge.unit,
                "target": None if gauge.target is None else round(float(gauge.target), 3),
                "values": flat(gauge.values),
            },
            "shapes": [
                {"kind": s.kind, "role": s.role, "size": round(s.size, 4), "points": flat(s.points)}
                for s in self.shapes
            ],
        }
