"""What meta-training has never met: half of the tasks left out, and then asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Problem
from ..tasks.point import PointHalfPlane
from .card import Card, Measure, differences
from .workshop import Trained, Workshop, point_means

STEPS = {"rl2": 1_200_000, "maml": 2_400_000}
SETTINGS: dict[str, dict[str, Any]] = {
    "rl2": {"episodes": 3, "batch_steps": 12_000, "epochs": 4, "anneal_updates": 100},
    "maml": {"meta_batch_size": 20, "inner_episodes": 20, "inner_learning_rate": 0.5},
}
TINY: dict[str, dict[str, Any]] = {
    "rl2": {"batch_steps": 60, "epochs": 1, "hidden_size": 8, "minibatches": 2},
    "maml": {"meta_batch_size": 2, "inner_episodes": 2, "hidden": (8,)},
}
NAMES = {"rl2": "RL²", "maml": "MAML"}
TRAINED_ON = {"all": "point-2d", "half": "point-half-plane"}
ROUNDS = {"rl2": 2, "maml": 3}
"""Adaptations at test: episodes that RL² has seen, gradient steps of MAML."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Train each method on all of the plane and on half of it, and judge all four on both halves."""
    family = {"horizon": workshop.pick(30, 5)}
    trained: dict[tuple[str, str], Trained] = {
        (method, where): workshop.train(
            f"{method}-{where}",
            method,
            name,
            steps=workshop.pick(STEPS[method], 60),
            settings=SETTINGS[method] | workshop.pick({}, TINY[method]),
            family_settings=family,
        )
        for method in NAMES
        for where, name in TRAINED_ON.items()
    }
    problem = Problem.of(PointHalfPlane(**family))
    found: dict[tuple[str, str, str], np.ndarray] = {}
    for (method, where), agents in trained.items():
        each = agents.agents
        for half, split in (("met", "test"), ("left out", "ood")):
            evaluations = workshop.judge(
                each,
                problem,
                split=split,
                tasks=workshop.pick(200, 4),
                episodes=ROUNDS[method] * each[0].episodes_per_round,
            )
            means = point_means(evaluations)  # [seeds, adaptations + 1]
            found[method, where, half] = means
            workshop.curve(
                half, f"{NAMES[method]}, trained on {where}", np.arange(means.shape[1]), means,
                x_label="adaptations", y_label="return",
            )  # fmt: skip
    claims, beside = [], []
    for method, name in NAMES.items():
        whole, part = (found[method, where, "left out"][:, -1] for where in TRAINED_ON)
        claims.append(
            Measure(
                f"{name}, goals in the half left out: trained on half − trained on all (paired)",
                differences(part, whole), None, direction="at most", low_bar=0.0,
            )
        )  # fmt: skip
        for half in ("met", "left out"):
            for where in TRAINED_ON:
                means = found[method, where, half]
                beside += [
                    Measure(f"{name} trained on {where}, goals in the half {half}: {when}", means[:, i])
                    for when, i in (("at first", 0), (f"after {ROUNDS[method]} adaptations", -1))
                ]  # fmt: skip
    return [*claims, *beside]


CARD = Card(
    name="meta-support",
    title="Half of the tasks left out of meta-training, and then asked for",
    source="The lecture's half-cheetah, on a point in the plane; nothing published to compare with",
    run=run,
    seeds=5,
    note=(
        "Goals in [−0.5, 0.5]², reward minus the distance, 30 steps an episode. *All* has them anywhere, *half*"
        " only to the right of the start; judged on 200 goals of either half. An adaptation is an episode seen"
        " (RL²) or a gradient step on 20 episodes (MAML)."
    ),
    differs=(
        "The lecture's half-cheetah itself ({1, −1, 0.5} m/s in training, −0.2 at test; no task backward) was not"
        " run: two methods by two distributions are hours of two cores.",
    ),
)
