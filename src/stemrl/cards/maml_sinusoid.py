"""Card `maml-sinusoid`: sine waves from five points (Finn et al. 1703.03400, §5.1, Table 2)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import Split, State
from ..evaluate import few_shot_losses
from ..meta import SupervisedMaml
from ..tasks.sinusoid import Sinusoid
from .card import Card, Measure, differences
from .workshop import Workshop

STEPS = (1, 5, 10)
"""Gradient steps on the examples of a test task."""
PUBLISHED = {"MAML": (0.67, 0.38, 0.35), "pretrained": (2.41, 2.23, 2.19)}
"""Table 2: 5-shot mean squared error after those."""
FINE_TUNING_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""What the baseline's step size is chosen from ("automatically tuned", says the paper)."""
TUNING_SEED = 1
"""Of the tasks that choose it."""
AFTER = tuple(f"{n} step" + ("s" if n > 1 else "") for n in STEPS)
LESS = "at most"


def run(workshop: Workshop) -> list[Measure]:
    """Train MAML and pretraining, and let both fit the same new sine waves."""
    family = Sinusoid()
    updates = workshop.pick(70_000, 512)
    tasks = workshop.pick(6_000, 100)
    maml = SupervisedMaml(inner_learning_rate=0.01)
    pretraining = SupervisedMaml(inner_steps=0)
    workshop.settings["test"] = {"tasks": tasks, "queries": 100, "gradient_steps": list(STEPS)}
    meta = workshop.train_supervised("MAML", maml, family, updates=updates)
    pooled = workshop.train_supervised("pretrained", pretraining, family, updates=updates)

    def losses(learner: SupervisedMaml, state: State, **options: Any) -> np.ndarray:
        """Mean over tasks, `[steps]`."""
        options = {"shots": 5, "steps": STEPS, "tasks": tasks, **options}
        return few_shot_losses(learner, family, state, **options).mean(1)

    def adapted(**options: Any) -> np.ndarray:
        """MAML's, `[steps, seeds]`."""
        return np.stack([losses(maml, state, **options) for state in meta], 1)

    def at_each_rate(state: State, **options: Any) -> np.ndarray:
        """The pretrained network's, `[rates, steps]`."""
        rates = jnp.asarray(FINE_TUNING_RATES)
        learners = [dataclasses.replace(pretraining, inner_learning_rate=rate) for rate in rates]
        return np.stack([losses(learner, state, **options) for learner in learners])

    def fine_tuned(tuned_on: Split, **options: Any) -> np.ndarray:
        """Pretraining's, `[steps, seeds]`, for each number of steps with its own step size, which
        other tasks of the split `tuned_on` have chosen."""
        columns, each = [], np.arange(len(STEPS))
        for state in pooled:
            tried = at_each_rate(state, split=tuned_on, seed=TUNING_SEED)
            best = np.nanargmin(tried, axis=0)
            chosen = [FINE_TUNING_RATES[i] for i in best]
            workshop.settings["pretrained"].setdefault(f"rates_tuned_on_{tuned_on}", []).append(
                chosen
            )
            columns.append(at_each_rate(state, **options)[best, each])
        return np.stack(columns, 1)

    few, plain = adapted(), fine_tuned("train")
    return [
        *_rows("MAML, 5 shots", few, PUBLISHED["MAML"], barred=True),
        *_rows("MAML, 10 shots", adapted(shots=10)),
        *_rows("pretrained, 5 shots", plain, PUBLISHED["pretrained"]),
        *[
            Measure(f"MAML − pretrained, 5 shots, {after}", gain, direction=LESS, low_bar=0.0)
            for after, gain in zip(AFTER, map(differences, few, plain), strict=True)
        ],
        Measure("predicting zero (exact)", [family.zero_loss("test")], direction=LESS),
        *_rows("MAML, amplitude 5 to 10, 5 shots", adapted(split="ood")),
        *_rows("pretrained, amplitude 5 to 10, 5 shots", fine_tuned("ood", split="ood")),
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
    source="Finn et al. 2017, arXiv:1703.03400, §5.1 and Table 2 (text)",
    run=run,
)
