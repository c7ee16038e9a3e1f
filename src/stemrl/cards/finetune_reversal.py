"""A half-cheetah that has learned to run forward must run backward: the lecture's hard case of fine-tuning."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .card import Card, Measure, differences
from .workshop import Trained, Workshop, learning_curves, steps_to

STEPS = 200_000
# A chunk is an episode of every lane, so that each row of the metrics has whole ones.
PPO: dict[str, Any] = {
    "num_envs": 10, "rollout_length": 200, "learning_rate": 7e-4, "epochs": 8, "minibatches": 8,
}  # fmt: skip
BONUS = 0.01
"""Weight of the entropy bonus, in pretraining alone."""
SHARE = 0.5
"""Of what training from scratch reaches in the end: the threshold."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO forward, with an entropy bonus and without; from each on, backward; and backward from scratch."""
    settings = PPO | workshop.pick(
        {}, {"num_envs": 2, "rollout_length": 8, "minibatches": 2, "hidden": (4,)}
    )
    steps = workshop.pick(STEPS, 96)

    def train(label: str, way: str, bonus: float, start: Trained | None = None) -> Trained:
        return workshop.train(
            label, "ppo", "half-cheetah-dir", steps=steps, start=start,
            settings=settings | {"entropy_weight": bonus}, family_settings={"way": way},
        )  # fmt: skip

    forward = {
        "without a bonus": train("forward", "forward", 0.0),
        "with a bonus": train("forward-bonus", "forward", BONUS),
    }
    scratch = train("scratch", "backward", 0.0)
    tuned = {
        f"fine-tuned, pretrained {name}": train(f"{one.label}-back", "backward", 0.0, one)
        for name, one in forward.items()
    }
    curves = {
        n: learning_curves(t, "update") for n, t in {"from scratch": scratch, **tuned}.items()
    }
    at_the_end = {n: r[:, -10:].mean(axis=1) for n, (_, r) in curves.items()}
    threshold = SHARE * float(np.mean(at_the_end["from scratch"]))
    taken = {n: steps_to(s, r, threshold) for n, (s, r) in curves.items()}
    for name, (at, returns) in curves.items():
        every = max(1, len(at) // 60)
        workshop.curve("backward", name, at[::every], returns[:, ::every])
    rows = [
        Measure(
            f"return forward, pretrained {n}", learning_curves(t, "update")[1][:, -10:].mean(axis=1)
        )
        for n, t in forward.items()
    ]
    for name in curves:
        rows += [
            Measure(f"first return backward, {name}", curves[name][1][:, :3].mean(axis=1)),
            Measure(f"steps to {threshold:.0f} backward, {name}", taken[name], direction="at most"),
            Measure(f"return backward in the end, {name}", at_the_end[name]),
        ]
    rows += [
        Measure(
            f"steps: {name} − from scratch (paired)",
            differences(taken[name], taken["from scratch"]), direction="at most",
        )
        for name in tuned
    ]  # fmt: skip
    with_bonus, without = (
        taken[f"fine-tuned, pretrained {n} a bonus"] for n in ("with", "without")
    )
    rows.append(
        Measure(
            "steps: with a bonus − without (paired)",
            differences(with_bonus, without),
            direction="at most",
        )
    )
    return rows


CARD = Card(
    name="finetune-reversal",
    title="Forward, then backward: does fine-tuning a half-cheetah help or harm?",
    source="The lecture's hard case of fine-tuning; nothing published",
    run=run,
    seeds=5,
    note=(
        "Where the interval of fine-tuned − from scratch lies above 0, transfer is negative. The threshold is"
        " half of what training from scratch reaches; no bar, whichever way it falls."
    ),
    differs=("A training that never reaches the threshold counts with all its steps.",),
)
