"""Hindsight on an arm that is paid only where its tip is at the goal (after Andrychowicz et al. 1707.01495,
§4, on our own engine's reacher)."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..physics.reacher import ReacherGoal
from ..rl import play
from .card import Card, Measure, differences
from .workshop import Trained, Workshop

STEPS = 80_000
SETTINGS: dict[str, Any] = {
    "learner": "td3 exploration_noise=0.2", "hidden": (128, 128), "gradient_steps": 200,
    "batch_size": 256, "target_rate": 0.02, "capacity": STEPS // 50,
}  # fmt: skip
WAYS = {"future": "HER (TD3, future, k = 4)", "none": "the same learner without it"}


def run(workshop: Workshop) -> Sequence[Measure]:
    """TD3 with hindsight and without, by as many steps; judged by where the last step of an episode left
    the tip."""
    small = workshop.pick({}, {"gradient_steps": 2, "hidden": (8,), "batch_size": 8})
    trained = {
        strategy: workshop.train(
            strategy, "her", "reacher-goal",
            steps=workshop.pick(STEPS, 1), settings={**SETTINGS, "strategy": strategy, **small},
            reveal="context",
        )
        for strategy in WAYS
    }  # fmt: skip
    found = {strategy: _ends(workshop, one) for strategy, one in trained.items()}
    for strategy, one in trained.items():
        rows = [row for run in one.runs for row in run.metrics() if row["kind"] == "update"]
        curves = [
            [row["success"] for row in rows if row["seed"] == seed] for seed in workshop.seeds
        ]
        steps = [row["steps"] for row in rows if row["seed"] == workshop.seeds[0]]
        workshop.curve(
            "training", WAYS[strategy], steps, np.asarray(curves),
            y_label="episodes that were at the goal",
        )  # fmt: skip
    rows = []
    for strategy, name in WAYS.items():
        rows += [
            Measure(f"at the goal at the end, {name}", found[strategy]["success"], proportion=True),
            Measure(
                f"distance at the end (mm), {name}", found[strategy]["distance"],
                direction="at most",
            ),
        ]  # fmt: skip
    gained = differences(found["future"]["success"], found["none"]["success"])
    return [*rows, Measure("HER beyond the same learner without (paired)", gained, low_bar=0.0)]


def _ends(workshop: Workshop, trained: Trained) -> dict[str, list[float]]:
    """Of each seed's agent, on the same goals, one episode each: the share whose last step left the tip
    within the tolerance, and the mean distance then."""
    problem, family = trained.problem, trained.problem.target
    assert isinstance(family, ReacherGoal)
    task_key, play_key = jax.random.split(jax.random.key(1))
    params = family.tasks(task_key, "test", workshop.pick(500, 8))
    context = jax.vmap(lambda task: problem.context(family, task))(params)

    @eqx.filter_jit
    def played(agent: Any) -> dict[str, Any]:
        events = play(agent, family, params, context, play_key, 1).transitions.events
        return {
            "success": events["success"][..., -1].astype(jnp.float32).mean(),
            "distance": 1000.0 * events["distance"][..., -1].mean(),
        }

    found = [jax.tree.map(float, played(agent)) for agent in trained.agents]
    return {name: [one[name] for one in found] for name in ("success", "distance")}


CARD = Card(
    name="her-reacher",
    title="With hindsight an arm learns to reach places for which it was hardly ever paid",
    source="After Andrychowicz et al. 2017 (1707.01495), §4; the paper's arms are others",
    run=run,
    seeds=5,
    note=(
        "Gymnasium's Reacher-v5 with the target as the goal: 0 within 20 mm of it, −1 elsewhere, and no"
        " episode ends early. Goals are uniform over a disc of 200 mm, of which 1% is within the tolerance."
        " How fast it is beside Stable-Baselines3's HER is among the benchmarks, on bit flipping."
    ),
    differs=("TD3 in the place of DDPG, one process in the place of 19.",),
)
