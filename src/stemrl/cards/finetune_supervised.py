"""Card `finetune-supervised`: many labels in the source, ten in the target."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..core import FewShotAgent
from ..evaluation import evaluate_few_shot
from .card import Card, Measure, differences
from .workshop import Workshop

ANGLE = 35.0
LABELS = 10_000
"""Of the source."""
FEW = 10
"""Of the target."""
SHOTS = 50
"""At most, of each of the two moons."""
PRETRAINING: dict[str, Any] = {
    "meta_batch_size": 1, "shots": 1, "queries": 48, "learning_rate": 1e-2, "hidden": (40, 40),
    "optimizer": "adam", "adapt_steps": 100, "adapt_learning_rate": 1e-2,
}  # fmt: skip
"""Batches of 50 labels, one after the other; then a hundred steps of Adam on the target's."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Pretrain once, then go on from there on ever more labels of the target: all layers, the last one
    alone, and a network that starts afresh, the same steps on the same labels."""
    trained = workshop.train(
        "pretrained", "pretrained-supervised", "moons", steps=workshop.pick(LABELS, 100),
        settings=PRETRAINING, target="moons", target_settings={"angle": ANGLE},
    )  # fmt: skip
    tasks, shots = workshop.pick((200, SHOTS), (4, FEW // 2))
    workshop.settings["test"] = {"training sets": tasks, "queries": 200}
    agents: dict[str, list[FewShotAgent]] = {"fine-tuned": trained.agents}
    agents["head alone"] = [
        FewShotAgent(dataclasses.replace(a.learner, head_only=True), a.problem, a.learned)  # pyright: ignore[reportArgumentType]
        for a in trained.agents
    ]
    agents["from scratch"] = [
        FewShotAgent(a.learner, a.problem, a.learner.parameters(a.problem, jax.random.key(1000 + s)))  # pyright: ignore[reportAttributeAccessIssue]
        for s, a in zip(workshop.seeds, trained.agents, strict=True)
    ]  # fmt: skip
    found: dict[str, dict[int, list[float]]] = {}
    for name, ones in agents.items():
        parts = [evaluate_few_shot(a, tasks=tasks, shots=shots, queries=200, seed=0) for a in ones]
        labels = [2 * n for n in parts[0].shots]
        means = np.stack([part.scores.mean((0, 2)) for part in parts])
        found[name] = {n: means[:, i].tolist() for i, n in enumerate(labels)}
        workshop.curve(
            "labels", name, labels, means, x_label="labels of the target", y_label="accuracy there"
        )
    at = {name: values[FEW] for name, values in found.items()}
    tuned = at["fine-tuned"]
    return [
        Measure(f"fine-tuned − from scratch at {FEW} labels (paired)",
                differences(tuned, at["from scratch"]), low_bar=0.0),
        Measure(f"accuracy in the target, fine-tuned on {FEW} labels", tuned, proportion=True),
        Measure("the same, head alone", at["head alone"], proportion=True),
        Measure("the same, from scratch", at["from scratch"], proportion=True),
        Measure("pretrained, no label of the target", found["fine-tuned"][0], proportion=True),
        Measure(f"fine-tuned − from scratch at {2 * shots} labels (paired)",
                differences(found["fine-tuned"][2 * shots], found["from scratch"][2 * shots])),
    ]  # fmt: skip


CARD = Card(
    name="finetune-supervised",
    title="Ten labels are enough for a classifier that has seen ten thousand elsewhere",
    source="The lecture's 10,000 labels in the source and 10 in the target; nothing published",
    run=run,
    seeds=5,
    note=(
        "The source is two moons, the target the same two rotated by 35°. All three take the same hundred"
        " steps on the same labels; a seed's accuracy is a mean over 200 training sets."
    ),
)
