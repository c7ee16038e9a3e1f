"""Hindsight on Gymnasium-Robotics' FetchReach (Andrychowicz et al. 1707.01495, §4), stepped on the host."""

from collections.abc import Sequence
from typing import Any

import jax

from .card import Card, Measure
from .fetch import HORIZON, film, judged, require_robotics
from .workshop import Trained, Workshop

LENGTHS = {5_000: {"aim": 1.0}, 10_000: {"bar": 0.95}}
"""Environment steps of a training, and what is asked of it."""
SETTINGS: dict[str, Any] = {
    "learner": "td3 exploration_noise=0.2", "episodes": 4, "gradient_steps": 100,
    "hidden": (256, 256), "batch_size": 256, "target_rate": 0.02, "capacity": 200,
}  # fmt: skip


def run(workshop: Workshop) -> Sequence[Measure]:
    """TD3 with hindsight for 5,000 and for 10,000 steps; success is to be at the goal with the last step."""
    require_robotics("her-fetch-reach")
    small = workshop.pick({}, {"episodes": 2, "gradient_steps": 2, "hidden": (8,), "batch_size": 8})
    trained = {
        steps: workshop.train(
            f"steps-{steps}", "her", "gymnasium-goals",
            steps=workshop.pick(steps, 1), settings=SETTINGS | small, reveal="context",
            family_settings={"environment": "FetchReach-v4", "horizon": HORIZON},
        )
        for steps in workshop.pick(LENGTHS, (10_000,))
    }  # fmt: skip
    _film(workshop, trained[10_000])
    return [
        Measure(
            f"success after {steps:,} steps", judged(workshop, one, 50)["success"], 1.0 if steps == 10_000 else None,
            LENGTHS[steps].get("bar"), aim=LENGTHS[steps].get("aim"), proportion=True,
        )
        for steps, one in trained.items()
    ]  # fmt: skip


def _film(workshop: Workshop, trained: Trained) -> None:
    """The arm before the first seed's training, and after it."""
    problem, run = trained.problem, trained.runs[0]
    learner = run.learner
    new = learner.agent(problem, learner.init(problem, jax.random.key(run.config.seed)))
    agents = {"before training": new, "after 10,000 steps": trained.agents[0]}
    film(agents, problem, workshop.picture("arm"))


CARD = Card(
    name="her-fetch-reach",
    title="With hindsight a robot's arm learns to reach in minutes",
    source="Andrychowicz et al. 2017 (1707.01495), §4; solved in under 5,000 to 20,000 steps elsewhere",
    run=run,
    note=(
        "`FetchReach-v4` as Gymnasium-Robotics has it, on the host; needs the extra `robotics`. Success is"
        " where the last of 50 steps leaves the gripper. The 5,000 steps are trainings of their own. The film is of the first"
        " seed's agent, before the first step of its training and after the last, from one start to one goal"
        " (red), with the way of the gripper (orange)."
    ),
    differs=("TD3 in the place of DDPG, two layers of 256 in the place of three, one process.",),
)
