"""Does a random latent help out of the deadlock in which nothing is found, so nothing is inferred, so
nothing is tried? The lecture's argument for a variational RNN over a deterministic one, on sparse rewards."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .card import Card, Measure, differences
from .workshop import Trained, Workshop, point_means

STEPS = 600_000
ZERO = 0.02
"""A mean return of an episode below this counts as zero: a goal that is met once in fifty episodes."""
RADIUS = 0.05
"""Of the goal; at the family's 0.2 nobody stays at zero, at 0.1 hardly anybody."""
SETTINGS: dict[str, Any] = {
    "batch_steps": 2_400,
    "learning_rate": 1e-3,
    "epochs": 4,
    "initial_std": 0.5,
    "episodes": 4,
}


def run(workshop: Workshop) -> Sequence[Measure]:
    """The same method with ω drawn and with its mean; RL² beside it."""
    trained = {
        "ω drawn": _train(workshop, "drawn", "variational-rnn", {"noise": 1.0}),
        "ω its mean": _train(workshop, "mean", "variational-rnn", {"noise": 0.0}),
        "RL²": _train(workshop, "rl2", "rl2", {}),
    }
    rows, zeros = [], {}
    for name, one in trained.items():
        found = workshop.evaluate(one, tasks=workshop.pick(200, 10), episodes=3)
        each = point_means(found)
        zeros[name] = (each.mean(1) < ZERO).astype(float)
        rows += [
            Measure(f"{name}: seeds that stay at zero", zeros[name], proportion=True),
            Measure(f"{name}: return, first episode", each[:, 0]),
            Measure(f"{name}: return, fourth episode", each[:, -1]),
        ]
    paired = differences(list(zeros["ω its mean"]), list(zeros["ω drawn"]))
    return [Measure("seeds at zero, ω its mean − ω drawn, paired", np.array(paired)), *rows]


def _train(workshop: Workshop, label: str, method: str, settings: dict[str, Any]) -> Trained:
    small = {"batch_steps": 160, "epochs": 1, "hidden_size": 8, "minibatches": 2}
    settings = SETTINGS | settings
    return workshop.train(
        label,
        method,
        "point-sparse",
        family_settings={"radius": RADIUS},
        steps=workshop.pick(STEPS, 320),
        settings=settings | workshop.pick({}, small),
    )


CARD = Card(
    name="latent-deadlock",
    title="Whether a random latent keeps a learner from staying at zero where rewards are sparse",
    source="The lecture's argument for a variational RNN; PEARL's sparse point; nothing published",
    run=run,
    seeds=10,
    note=(
        "No bar: whichever way it falls. Both are `variational-rnn`, trained alike but for the noise of ω"
        " in acting and learning; the policy's own randomness is the same. A goal of radius 0.05 at a distance"
        " of 1 is rarely met by chance."
    ),
    differs=(
        "There is no paper: the argument is a lecture's, and the setting was chosen so that some seeds"
        " do stay at zero.",
    ),
    tried=(
        ("radius 0.2 (5 seeds, 0.6M steps)", "no seed at zero, with ω drawn or not"),
        (
            "radius 0.1, first deviation 0.5 (5 seeds, 0.4M steps)",
            "none at zero in the end, either way",
        ),
    ),
)
