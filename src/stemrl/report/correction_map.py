"""Δr of a grid as a picture: where a step gives the source away, and where it speaks for the target."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..core import UserError
from ..tasks.grid_wall import ACTIONS, MOVES, GridWall

LIMIT = 4.0
"""Where the colours end (nats): e⁴, 55 times as likely in one domain as in the other."""


def correction_map(
    family: GridWall,
    tables: Mapping[str, Float[np.ndarray, "cells actions cells"]],
    path: str | Path,
) -> Path:
    """Draw tables of Δr(s, a, s′) side by side as a PNG, such as what was learned beside the exact
    `log_ratio`. Return the path.

    Each cell is cut into four wedges, one for each action. The outer part is coloured by Δr of a
    step that went where it was meant to, the inner part by Δr of a step that left the walker where
    it was. Grey stands for what is never possible (NaN), or against the edge of the grid. The wall
    is drawn where `family` has it.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    size = family.size
    shape = (size**2, ACTIONS, size**2)
    for title, table in tables.items():
        if np.shape(table) != shape:
            raise UserError(f"'{title}' must be a table of {shape}, not {np.shape(table)}")
    figure = Figure(figsize=(4.2 * len(tables) + 0.8, 4.2), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    colours = ScalarMappable(Normalize(-LIMIT, LIMIT), colormaps["RdBu"].with_extremes(bad="0.85"))
    polygons, where = _wedges(size)
    for panel, (title, table) in zip(panels, tables.items(), strict=True):
        values = [np.nan if w is None else np.asarray(table)[w] for w in where]
        shown = np.clip(
            np.ma.masked_invalid(np.nan_to_num(values, nan=np.nan, neginf=-LIMIT)), -LIMIT, LIMIT
        )
        panel.add_collection(
            PolyCollection(polygons, facecolors=colours.to_rgba(shown), edgecolors="white", lw=0.3)
        )
        if family.wall:
            x = size // 2 - 0.5
            panel.plot([x, x], [-0.5, size - 1.5], color="black", lw=3)
        for label, x in (("start", 0), ("goal", size - 1)):
            panel.text(x, -0.62, label, ha="center", va="top", fontsize=8)
        panel.set(xlim=(-0.55, size - 0.45), ylim=(-0.9, size - 0.45), aspect="equal", title=title)
        panel.set_axis_off()
    figure.colorbar(colours, ax=list(panels), label="Δr (nats)", extend="both", shrink=0.8)
    path = Path(path)
    figure.savefig(path, format="png", dpi=150)
    return path


def _wedges(size: int) -> tuple[list[np.ndarray], list[tuple[int, int, int] | None]]:
    """The polygons of every cell, and the (s, a, s′) that each stands for."""
    polygons, where = [], []
    for x in range(size):
        for y in range(size):
            cell, centre = y * size + x, np.array([x, y], float)
            for action, move in enumerate(MOVES[:ACTIONS]):
                along = 0.5 * np.array(move, float)
                aside = along[::-1] * (1, -1)
                corners = np.array([along + aside, along - aside])
                inner = 0.55 * corners
                polygons += [
                    centre + np.array([inner[0], inner[1], (0, 0)]),
                    centre + np.array([corners[0], corners[1], inner[1], inner[0]]),
                ]
                to = x + move[0], y + move[1]
                inside = min(to) >= 0 and max(to) < size
                where += [
                    (cell, action, cell),
                    (cell, action, to[1] * size + to[0]) if inside else None,
                ]
    return polygons, where
