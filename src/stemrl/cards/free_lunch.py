"""What a policy loses in the nominal world by training on a whole range of worlds (the lecture's free
lunch of randomization)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Problem
from ..physics.randomized import HopperParams
from .card import Card, Measure, differences
from .epopt_cartpole import returns, train_pole
from .workshop import Trained, Workshop

STEPS = 1_000_000
SETTINGS: dict[str, Any] = {"num_envs": 64, "rollout_length": 128, "learning_rate": 5e-4}
WIDTH = 1.5
"""Of the randomized hoppers: multipliers up to 1.5^1.5 = 1.84 either way, of 24 numbers at once."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Trained in the nominal world alone or on the range, with as many steps; judged in the nominal
    one."""
    steps, tasks = workshop.pick((STEPS, 100), (1, 4))
    settings = SETTINGS | workshop.pick({}, {"num_envs": 2, "rollout_length": 8, "minibatches": 2})
    poles = {spread: train_pole(workshop, spread, 1.0) for spread in ("nominal", "random")}

    def hopper(label: str, width: float) -> Trained:
        inner = f"hopper-params width={width:g}"
        return workshop.train(
            label, "ppo", "randomized", steps=steps, settings=settings,
            family_settings={"family": inner},
        )  # fmt: skip

    hoppers = {"nominal": hopper("hopper-nominal", 0.0), "random": hopper("hopper-random", WIDTH)}
    problem = Problem.of(HopperParams(width=0.0))
    runs = {
        label: [
            e.scores[:, 0].mean()
            for e in workshop.judge(h.agents, problem, tasks=tasks, episodes=0)
        ]
        for label, h in hoppers.items()
    }
    stood = {
        label: [float(r.mean()) for r in returns(workshop, p, "nominal")]
        for label, p in poles.items()
    }
    rows: list[Measure] = []
    for name, found in (("cart-pole", stood), ("hopper-params", runs)):
        lost = differences(found["nominal"], found["random"])
        share = np.asarray(lost) / np.mean(found["nominal"])
        rows += [
            Measure(f"nominal {name}, trained on it alone", found["nominal"]),
            Measure(f"nominal {name}, trained on the whole range", found["random"]),
            Measure(f"{name}: what is lost (paired)", lost, direction="at most"),
            Measure(f"{name}: that as a share of the return", share, direction="at most"),
        ]
    return rows


CARD = Card(
    name="free-lunch",
    title="What training on a whole range of worlds costs in the nominal one",
    source="The lecture's claim that more worlds cost each single one almost nothing; nothing published",
    run=run,
    seeds=5,
    note=(
        "Whichever way it falls: the intervals of the paired differences say how much is lost with as many"
        " steps in all. No bar."
    ),
    differs=("The lecture's humanoid is not here: its training does not fit a card of this size.",),
)
