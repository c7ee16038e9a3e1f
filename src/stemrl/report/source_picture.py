"""The distribution of worlds that EPOpt trains on, as the target narrows it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..core import UserError
from ..runs.run import Run

PREFIX = "source/mean/"


def source_history(run: Run, seed: int | None = None) -> dict[str, Float[np.ndarray, " rows"]]:
    """Return what a run of `epopt` with a target's budget wrote of its source distribution, for one
    of its seeds (by default the first), by metric: each parameter's `source/mean/NAME` and
    `source/std/NAME`, `source/rounds`, and `target_steps`. Raise `UserError` for a run without
    these metrics."""
    seed = run.config.seed if seed is None else seed
    rows = [row for row in run.metrics() if "source/rounds" in row and row["seed"] == seed]
    names = [k for k in (rows[0] if rows else {}) if k.startswith("source/") or k == "target_steps"]
    if not any(name.startswith(PREFIX) for name in names):
        raise UserError(f"{run.path} has narrowed no source distribution of a few parameters")
    return {name: np.asarray([row[name] for row in rows], float) for name in names}


def draw_source(
    history: Mapping[str, Float[np.ndarray, " rows"]],
    path: str | Path,
    *,
    truth: Mapping[str, float] | None = None,
) -> Path:
    """Draw the densities as a PNG, one panel for each parameter and one line for each round, from
    the first (dashed: mean and deviation of the simulator's own worlds) to the last. Return the
    path.

    - `history`: what `source_history` returns.
    - `truth`: the target's parameters, if they are known.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    means = {name.removeprefix(PREFIX): x for name, x in history.items() if name.startswith(PREFIX)}
    varied = [name for name in means if np.max(history[f"source/std/{name}"]) > 0]
    if not varied:
        raise UserError("there is no parameter whose distribution could be drawn")
    rounds = np.asarray(history["source/rounds"], int)
    # The first row of each number of rounds.
    shown = [int(np.argmax(rounds == r)) for r in np.unique(rounds)]
    colours = colormaps["viridis"](np.linspace(0.85, 0.0, len(shown)))
    figure = Figure(figsize=(3.6 * len(varied) + 0.6, 3.0), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(varied), squeeze=False)[0], varied, strict=True):
        mean, std = means[name], np.asarray(history[f"source/std/{name}"])
        first = shown[0]
        x = np.linspace(mean[first] - 3 * std[first], mean[first] + 3 * std[first], 600)
        for row, colour in zip(shown, colours, strict=True):
            width = max(float(std[row]), 1e-9)
            density = np.exp(-0.5 * ((x - mean[row]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
            line = "--" if row == first else "-"
            panel.plot(x, density, line, color=colour, lw=1.4, label=f"round {rounds[row]}")
        if truth is not None and name in truth:
            panel.axvline(truth[name], color="crimson", lw=1.2, label="the target")
        panel.set(xlabel=name, ylabel="density", ylim=(0.0, None))
        panel.legend(fontsize=6, frameon=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
