"""Goals of one's own in a maze without any reward (after Skew-Fit, Pong et al. 2020): what can be reached on
demand, beside goals from a box that one cannot know, and beside none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..rl import play
from ..tasks import PointMazeGoals
from .card import Card, Measure, differences
from .workshop import Trained, Workshop

EPISODES, HORIZON, UPDATES = 16, 100, 250
SETTINGS: dict[str, Any] = {
    "learner": "sac initial_temperature=0.1 learn_temperature=false",
    "episodes": EPISODES, "gradient_steps": 100, "hidden": (64, 64), "target_rate": 0.02,
    "tolerance": 0.08, "capacity": EPISODES * UPDATES,
}  # fmt: skip
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "dreams": ("goals dreamed", {}),
    "box": ("goals from the box", {"dreamed": 0.0}),
    "none": ("no goals", {"exploration": 1.0}),
    "common": ("goals as common as they were reached", {"skew": 0.0}),
}
"""Where goals come from: names, and what is changed."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """One learner, one maze, one number of steps: goals that are dreamed, drawn from the box around the
    maze, or none but actions at random, from which the same hindsight learns."""
    updates = workshop.pick(UPDATES, 2)
    small = workshop.pick({}, {"gradient_steps": 2, "capacity": 2 * EPISODES, "candidates": 8})
    trained = {
        way: workshop.train(
            way, "goal-dreaming", "point-maze-goals",
            steps=updates * EPISODES * HORIZON, settings=SETTINGS | changes | small,
            family_settings={"layout": "spiral", "horizon": HORIZON}, reveal="context",
        )
        for way, (_, changes) in WAYS.items()
    }  # fmt: skip
    found = {way: _on_demand(workshop, one) for way, one in trained.items()}
    for way, one in trained.items():
        steps, apart = _goals(one)
        workshop.curve(
            "frontier", WAYS[way][0], steps, apart, y_label="goals further apart than the tolerance"
        )
    _draw(trained, workshop.picture("reached"))
    return [
        Measure(
            "goals reached on demand, " + WAYS[way][0], values,
            aim=0.8 if way == "dreams" else None, proportion=True,
        )
        for way, values in found.items()
    ] + [
        Measure(
            f"dreams beyond {WAYS[way][0]} (paired)", differences(found["dreams"], found[way]),
            low_bar=0.0,
        )
        for way in ("box", "none")
    ]  # fmt: skip


def _on_demand(workshop: Workshop, trained: Trained) -> list[float]:
    """Of each seed's agent the share of goals, uniform over what can be reached, that it gets to."""
    family: Any = trained.problem.target
    assert isinstance(family, PointMazeGoals)
    task_key, play_key = jax.random.split(jax.random.key(1))
    params = family.tasks(task_key, "test", workshop.pick(1000, 20))
    context = jax.vmap(family.context)(params)

    @eqx.filter_jit
    def share(agent: Any) -> Any:
        steps = play(agent, family, params, context, play_key, 1).transitions
        return jnp.any(steps.events["success"] & steps.valid, axis=-1).mean()

    return [float(share(agent)) for agent in trained.agents]


def _goals(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """How many goals there are among those reached, as training went: steps `[rows]`, and `[seeds,
    rows]`."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for run in trained.runs:
        for row in run.metrics():
            if row["kind"] == "update":
                rows.setdefault(row["seed"], []).append((row["steps"], row["goals"]))
    found = np.array([rows[seed] for seed in sorted(rows)])
    return found[0, :, 0], found[:, :, 1]


def _draw(trained: dict[str, Trained], file: Path) -> None:
    """Where the first seed has been, each place in the colour of the episode that came there first."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(3.1 * len(trained), 3.4), layout="constrained")
    for axes, (way, one) in zip(figure.subplots(1, len(trained)), trained.items(), strict=True):
        run = one.runs[0]
        state = run.state()
        if run.config.seeds > 1:
            state = jax.tree.map(lambda x: x[0], state)
        episodes: Any = state.replay.rows
        size = int(state.replay.size)
        places = np.asarray(episodes.next_obs)[:size]
        valid = np.arange(places.shape[1]) < np.asarray(episodes.length)[:size, None]
        when = np.broadcast_to(np.arange(size)[:, None], valid.shape)[valid]
        places = places[valid]
        world = one.problem.source.env.world
        _, first = np.unique(np.floor(places / (0.2 * world.cell)), axis=0, return_index=True)
        for wall in world.walls:
            axes.add_patch(
                Rectangle(wall - world.cell / 2, world.cell, world.cell, color="0.8", lw=0)
            )
        axes.scatter(*places[first].T, c=when[first], s=2, vmin=0, vmax=size)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
        axes.set_title(WAYS[way][0], fontsize=9)
        axes.set_axis_off()
    figure.savefig(file, dpi=130)


CARD = Card(
    name="dream-goals",
    title="Who dreams goals of what was reached gets further in a maze without any reward",
    source="After Pong et al. 2020 (1903.03698); nothing published on this maze",
    run=run,
    seeds=5,
    note=(
        "A spiral, whose end is 48 of the longest steps away; episodes of 100. Goals to judge by are uniform"
        " over what can be reached, which no learner is told. In the picture, places in the colour of the"
        " episode that came there first: dark early, bright late."
    ),
)
