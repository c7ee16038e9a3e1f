"""To reach a place and never to have entered a region: a goal cannot say it, a context can (the lecture's
remark on what goal-conditioned policies are not)."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..rl import play
from ..tasks import ForbiddenRegion
from .card import Card, Measure
from .workshop import Trained, Workshop

STEPS = 1_600_000
SETTINGS: dict[str, Any] = {
    "num_envs": 64,
    "rollout_length": 64,
    "minibatches": 8,
    "epochs": 6,
    "learning_rate": 1e-3,
    "initial_std": 0.5,
}


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO twice, alike but for the objective: told the goal and paid for nearing it; told the region too,
    and not paid any more once it was entered."""
    small = {"num_envs": 4, "rollout_length": 16, "minibatches": 2}
    names = {"goal": "goal-conditioned", "goal-and-region": "contextual"}
    trained = {
        objective: workshop.train(
            objective,
            "ppo",
            "forbidden-region",
            family_settings={"objective": objective},
            steps=workshop.pick(STEPS, 128),
            settings=SETTINGS | workshop.pick({}, small),
            reveal="context",
        )
        for objective in names
    }
    rows = []
    for objective, name in names.items():
        found = _ends(workshop, trained[objective])
        entered = (0.5, "at least") if objective == "goal" else (0.05, "at most")
        rows += [
            Measure(
                f"episodes that enter the region, {name} policy", found["entered"],
                None, *entered, proportion=True,  # pyright: ignore[reportArgumentType]
            ),
            Measure(
                f"episodes that reach the goal, {name} policy", found["success"],
                None, 0.9, proportion=True,
            ),
        ]  # fmt: skip
    return rows


def _ends(workshop: Workshop, trained: Trained) -> dict[str, list[float]]:
    """Of each seed's agent the share of episodes, one of each test task, in which an event happened."""
    problem, family = trained.problem, trained.problem.target
    assert isinstance(family, ForbiddenRegion)
    task_key, play_key = jax.random.split(jax.random.key(1))
    params = family.tasks(task_key, "test", workshop.pick(1000, 20))
    context = jax.vmap(lambda task: problem.context(family, task))(params)

    @eqx.filter_jit
    def played(agent: Any) -> dict[str, Any]:
        steps = play(agent, family, params, context, play_key, 1).transitions
        return {
            name: (steps.events[name] & steps.valid).any(-1).mean()
            for name in ("entered", "success")
        }

    found = [jax.tree.map(np.asarray, played(agent)) for agent in trained.agents]
    return {name: [float(one[name]) for one in found] for name in ("entered", "success")}


CARD = Card(
    name="goals-cannot-say",
    title="A goal does not say which region must never be entered; a context does",
    source="The lecture's remark on goals; nothing published",
    run=run,
    seeds=5,
    first_seed=3,
    note=(
        "Every region lies across the straight way. The goal-conditioned policy does what it was told,"
        " and what it was not told is nowhere in its goal."
    ),
    tried=(
        (
            "half as many steps, seeds 0 to 2: goals reached by the contextual policy",
            "0.65, 0.99, 0.98: one stops short of a third of the goals",
        ),
    ),
    revised=(
        "800,000 steps missed the bar for reaching the goal by one seed of three; it has twice as many, on five seeds"
        " that were named before any of them ran."
    ),
)
