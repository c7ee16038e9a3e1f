"""A stem cell: parameters that go nowhere in particular, one gradient step from any heading.

The lecture shows an ant that runs on the spot and, after one gradient step, runs forward or backward.
Here it is a point in the plane, and eight headings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..rl.play import play
from .card import Card, Measure
from .workshop import Workshop

HEADINGS = 8
SETTINGS: dict[str, Any] = {
    "meta_batch_size": 20,
    "inner_episodes": 20,
    "inner_learning_rate": 0.5,
    "hidden": (32, 32),
    # Below it the gradients of a step, which grow as 1 / σ², lead past the heading.
    "min_std": 0.2,
}
UPDATES = 100


def run(workshop: Workshop) -> Sequence[Measure]:
    """Meta-train on all headings; then eight of them, before and after exactly one gradient step."""
    settings = SETTINGS | workshop.pick({}, {"meta_batch_size": 2, "inner_episodes": 4})
    family = {"horizon": workshop.pick(50, 10)}
    updates = workshop.pick(UPDATES, 2)
    steps = updates * settings["meta_batch_size"] * 2 * settings["inner_episodes"]
    meta = workshop.train(
        "maml",
        "maml",
        "point-dir",
        steps=steps * family["horizon"],
        settings=settings,
        family_settings=family,
    )
    angles = 2 * np.pi * np.arange(HEADINGS) / HEADINGS
    headings = np.stack([np.cos(angles), np.sin(angles)], 1)

    @eqx.filter_jit
    def paths(agent: Any, key: Any) -> Any:
        """Positions, `[headings, rounds, episodes, time + 1, 2]`, the start among them."""
        tasks = {"direction": jnp.asarray(headings)}
        steps = play(agent, meta.problem.source, tasks, None, key, 2).transitions
        return jnp.concatenate([steps.obs, steps.next_obs[..., -1:, :]], axis=-2)

    found = [
        np.asarray(paths(agent, jax.random.key(100 + seed)))
        for seed, agent in zip(workshop.seeds, meta.agents, strict=True)
    ]
    untrained = [
        np.asarray(paths(run.learner.agent(run.problem, state), jax.random.key(100 + seed)))
        for run in meta.runs[:1]
        for seed in workshop.seeds
        for state in [run.learner.init(run.problem, jax.random.key(seed))]
    ]
    draw_paths(found[0], workshop.picture("paths"))

    def rows(name: str, found: list[np.ndarray], cosine: tuple = (), ratio: tuple = ()):
        moved = [path[..., -1, :] - path[..., 0, :] for path in found]
        far = [np.linalg.norm(m, axis=-1).mean((0, 2)) for m in moved]  # each [before, after]
        goes = [
            (np.sum(m * headings[:, None, None], -1) / np.linalg.norm(m, axis=-1).clip(1e-8))
            for m in moved
        ]
        return [
            Measure(f"{name}: cosine of way and heading, after", [c[:, 1].mean() for c in goes], None, *cosine),
            Measure(f"{name}: displacement before over after", [f[0] / f[1] for f in far], None, *ratio),
            Measure(f"{name}: cosine of way and heading, before", [c[:, 0].mean() for c in goes]),
            Measure(f"{name}: least cosine of the eight, after", [c[:, 1].mean(-1).min() for c in goes]),
            Measure(f"{name}: displacement before (longest steps)", [10 * f[0] for f in far]),
            Measure(f"{name}: displacement after (longest steps)", [10 * f[1] for f in far]),
        ]  # fmt: skip

    return [
        *rows("MAML", found, (0.8,), (0.2, "at most")),
        *rows("never trained", untrained),
    ]


def draw_paths(paths: np.ndarray, file: Path, episodes: int = 5) -> None:
    """Episodes before and after the gradient step, `[headings, 2, episodes, time, 2]`, in one
    picture: before grey, after a colour for each heading."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["hsv"](np.arange(len(paths)) / len(paths))
    for heading, colour in zip(paths, colours, strict=True):
        for path in heading[1, :episodes]:
            axes.plot(*path.T, color=colour, linewidth=0.8)
    for heading in paths:
        for path in heading[0, :episodes]:
            axes.plot(*path.T, color="0.35", linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_title("before (grey) and after one gradient step", fontsize=10)
    figure.savefig(file, dpi=120)


CARD = Card(
    name="stem-cell",
    title="A point that goes nowhere in particular, one gradient step from any heading",
    source="The lecture's ant (Finn et al. 2017, 1703.03400, §5.3.2), on a point; nothing published",
    run=run,
    note=(
        "Displacements and cosines are those of single episodes with the policy's noise, on average over"
        " eight headings × 20 episodes; the step is taken on 20 episodes of the heading. What was never"
        " trained takes the same step from a random network. One seed of three turns only for some of the"
        " headings after its step, and all drift a little before it: neither was mended yet."
    ),
    differs=(
        "A point (`point-dir`, reward the displacement along the heading) in the ant's place; `ant-dir`"
        " itself was not run.",
    ),
    tried=(
        (
            "deviation floor of 0.5 (one other seed, other headings, 100 updates)",
            "cosine 0.98; displacement before over after 0.45: it drifts",
        ),
        (
            "no floor (the same)",
            "cosine 0.95, ratio 0.17; after 125 updates cosine 0.62, ratio 0.06",
        ),
        ("likelihood-ratio surrogate (the same)", "cosine 0.72, ratio 0.33"),
    ),
)
