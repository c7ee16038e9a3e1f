"""DARC in reverse: a wall in the source that the target does not have (the lecture's remark on 2006.13916)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..rl import play
from ..tasks.grid_wall import GridWall
from ..transfer import DARC
from .card import Card, Measure
from .darc_grid import CLASSIFIERS, LEARNER, UPDATES
from .workshop import Trained, Workshop, steps_of_target, words


def run(workshop: Workshop) -> Sequence[Measure]:
    """DARC from the walled grid into the free one, and a policy that learns in the free one."""
    updates, tasks = workshop.pick((UPDATES, 500), (12, 20))
    size = workshop.pick(5, 3)
    steps = updates * LEARNER["num_envs"] * LEARNER["rollout_length"]
    darc = {"learner": words("ppo", LEARNER), **CLASSIFIERS}
    walled: dict[str, Any] = {"size": size, "slip": 0.1, "wall": True}
    free: dict[str, Any] = {"size": size, "slip": 0.1}
    into: dict[str, Any] = {
        "family_settings": walled, "target": "grid-wall", "target_settings": free,
    }  # fmt: skip
    target = GridWall(**free)
    few = steps_of_target(DARC(**darc), GridWall(**walled), target, steps)
    adapted = workshop.train(
        "darc", "darc", "grid-wall", steps=steps, settings=darc, budget=few, **into
    )
    there = workshop.train(
        "target", "ppo", "grid-wall", steps=steps, settings=LEARNER, family_settings=free
    )

    def ways(trained: Trained) -> tuple[list[float], list[float]]:
        played = [_ways(agent, target, tasks) for agent in trained.agents]
        return [p[0] for p in played], [p[1] for p in played]

    (darc_success, darc_round), (own_success, own_round) = ways(adapted), ways(there)
    return [
        Measure("episodes in which DARC takes the long way", darc_round, None, 0.9, proportion=True),
        Measure(
            "the same of a policy of the target", own_round, None, 0.1, "at most", proportion=True
        ),
        Measure("success in the target, DARC", darc_success, proportion=True),
        Measure("success of a policy of the target", own_success, proportion=True),
    ]  # fmt: skip


def _ways(agent: Any, family: GridWall, tasks: int) -> tuple[float, float]:
    """The share of episodes that reach the goal, and of those that go through the top row, where the
    wall of the source ends."""
    params = family.tasks(jax.random.key(1), "test", tasks)
    trials = play(agent, family, params, None, jax.random.key(2), 1)
    steps = trials.transitions
    cells, valid = np.asarray(steps.next_obs), np.asarray(steps.valid)
    top = ((cells // family.size == family.size - 1) & valid).any(-1)
    found = np.asarray(jnp.any(steps.events["success"] & steps.valid, -1))
    return float(found.mean()), float(top.mean())


CARD = Card(
    name="darc-reverse",
    title="DARC keeps to what both domains can do: the long way, where the target has a short one",
    source="The lecture's reverse case of Eysenbach et al. 2021 (2006.13916); nothing published",
    run=run,
    note=(
        "What DARC learns in is the intersection of both domains. Where the source lacks a way that the"
        " target has, no reward, however corrected, can pay for it: no step of the source ever takes it."
    ),
)
