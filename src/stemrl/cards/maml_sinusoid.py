"""Card `maml-sinusoid`: sine waves from five points (Finn et al. 1703.03400, §5.1, Table 2)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import FewShotAgent, Split
from ..evaluation import few_shot_losses
from ..meta.supervised import SupervisedMAML
from ..tasks.sinusoid import Sinusoid
from .card import Card, Measure, differences
from .workshop import Workshop

STEPS = (1, 5, 10)
"""Gradient steps on the examples of a test task."""
PUBLISHED = {"MAML": (0.67, 0.38, 0.35), "pretrained": (2.41, 2.23, 2.19)}
"""Table 2: 5-shot mean squared error after those."""
FINE_TUNING_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""What the baseline's step size is chosen from ("automatically tuned", says the paper), and out of
distribution MAML's too."""
TUNING_SEED = 1
"""Of the tasks that choose."""
AFTER = tuple(f"{n} step" + ("s" if n > 1 else "") for n in STEPS)
LESS = "at most"


def run(workshop: Workshop) -> list[Measure]:
    """Train MAML and pretraining, and let both fit the same new sine waves."""
    family = Sinusoid()
    updates = workshop.pick(70_000, 512)
    tasks = workshop.pick(40_000, 100)
    # The paper trains on one step from ten points. From there ten steps at test run away to infinity
    # on 2 to 90 of 6,000 tasks (two seeds each of three settings), which a mean does not forgive.
    # Two steps, on the five points there will be, stay put.
    maml = SupervisedMAML(inner_steps=2, shots=5, decay_updates=updates)
    pretraining = SupervisedMAML(inner_steps=0, decay_updates=updates)
    workshop.settings["test"] = {"tasks": tasks, "queries": 100, "gradient_steps": list(STEPS)}
    meta = workshop.train_supervised("MAML", maml, family, updates=updates).agents
    pooled = workshop.train_supervised("pretrained", pretraining, family, updates=updates).agents

    def losses(agent: FewShotAgent, **options: Any) -> np.ndarray:
        """Mean over tasks, `[steps]`."""
        options = {"shots": 5, "steps": STEPS, "tasks": tasks, **options}
        return few_shot_losses(agent, **options).mean(1)

    def adapted(**options: Any) -> np.ndarray:
        """MAML's, `[steps, seeds]`."""
        return np.stack([losses(agent, **options) for agent in meta], 1)

    def at_each_rate(agent: FewShotAgent, **options: Any) -> np.ndarray:
        """`[rates, steps]`."""
        found = []
        for rate in jnp.asarray(FINE_TUNING_RATES):
            learner = dataclasses.replace(agent.learner, inner_learning_rate=rate)
            found.append(losses(dataclasses.replace(agent, learner=learner), **options))
        return np.stack(found)

    def tuned(label: str, agents: Sequence[FewShotAgent], split: Split) -> np.ndarray:
        """`[steps, seeds]`, for each number of steps with its own step size, which other tasks of
        the split have chosen."""
        columns, each = [], np.arange(len(STEPS))
        choosing: Split = "train" if split == "test" else split
        for agent in agents:
            tried = at_each_rate(agent, split=choosing, seed=TUNING_SEED, tasks=tasks // 10)
            best = np.nanargmin(tried, axis=0)
            chosen = [FINE_TUNING_RATES[i] for i in best]
            workshop.settings[label].setdefault(f"rates_tuned_on_{choosing}", []).append(chosen)
            columns.append(at_each_rate(agent, split=split)[best, each])
        return np.stack(columns, 1)

    few, plain = adapted(), tuned("pretrained", pooled, "test")
    return [
        *_rows("MAML, 5 shots", few, PUBLISHED["MAML"], barred=True),
        *_rows("MAML, 10 shots", adapted(shots=10)),
        *_rows("pretrained, 5 shots", plain, PUBLISHED["pretrained"]),
        *[
            Measure(f"MAML − pretrained, 5 shots, {after}", gain, direction=LESS, low_bar=0.0)
            for after, gain in zip(AFTER, map(differences, few, plain), strict=True)
        ],
        Measure("predicting zero (exact)", [family.zero_loss("test")], direction=LESS),
        # Twice the amplitude is twice the gradient: with the step size of training MAML's steps run
        # away here, so it is tuned as for the pretrained network.
        *_rows("MAML, amplitude 5 to 10, tuned rate", tuned("MAML", meta, "ood")),
        *_rows(
            "pretrained, amplitude 5 to 10, tuned rate",
            tuned("pretrained", pooled, "ood"),
        ),
        Measure(
            "predicting zero, amplitude 5 to 10 (exact)", [family.zero_loss("ood")], direction=LESS
        ),
    ]


def _rows(
    what: str,
    losses: np.ndarray,
    published: tuple[float | None, ...] = (None, None, None),
    *,
    barred: bool = False,
) -> list[Measure]:
    """A row for each number of gradient steps; `barred`: what was published is to be reached."""
    return [
        Measure(f"{what}, {after}", values, number, number if barred else None, LESS)
        for after, values, number in zip(AFTER, losses, published, strict=True)
    ]


CARD = Card(
    name="maml-sinusoid",
    title="MAML learns a sine wave from five points in one gradient step",
    source="Finn et al. 2017 (1703.03400), §5.1 and Table 2",
    run=run,
    seeds=5,
    note=(
        "40,000 waves leave an evaluation a standard error of about 0.005. The differences are paired"
        " over seeds. Out of distribution, and for pretraining, the step size at test is tuned on"
        " other waves; MAML's within the distribution is that of training."
    ),
    differs=(
        "Trained on two inner steps from five points, not on the paper's one step from ten.",
        "The outer step size decays to 0, which the paper does not say.",
    ),
    tried=(
        (
            "the paper's one step from ten points",
            "ten steps at test run away to infinity on 2 to 90 of 6,000 waves, and the mean with them",
        ),
    ),
)
