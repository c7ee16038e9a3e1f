"""RL² on arms that tell of each other, in each condition of Wang et al. (2016, 1611.05763, §3.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Problem
from ..evaluation import Evaluation, draw_tasks
from ..optimal import known_optima, reference_agent
from ..tasks.dependent_bandit import TARGETS, Condition, DependentBandit
from .card import Card, Measure
from .workshop import Trained, Workshop

TRIALS = 20_000
"""Of an evaluation."""
NEAR = 1.1
"""Times the optimum's regret: the aim."""
STEPS = 3_000_000
TWO: dict[str, Any] = {
    "hidden_size": 48,
    "batch_steps": 12_000,
    "epochs": 4,
    "learning_rate": 3e-3,
    "anneal_updates": STEPS // 12_000,
    "gae_lambda": 0.9,
    "chrono_span": 100,
    "head_hidden_size": 48,
    "entropy_weight": 0.03,
    "anneal_entropy": True,
}
"""Two arms and a hundred pulls."""
FEW_STEPS = 1_500_000
ELEVEN = TWO | {
    "batch_steps": 6_000,
    "anneal_updates": FEW_STEPS // 6_000,
    "chrono_span": 0,
    "discount": 1.0,
}
"""Eleven arms and five pulls."""
CONDITIONS: tuple[Condition, ...] = (
    "independent",
    "uniform",
    "easy",
    "medium",
    "hard",
    "informative",
)


def run(workshop: Workshop) -> Sequence[Measure]:
    """One training a condition; all play the same trials as Thompson sampling does."""
    conditions = workshop.pick(CONDITIONS, CONDITIONS[1:2])
    begun = {condition: _train(workshop, condition) for condition in conditions}
    return [row for condition in conditions for row in _rows(workshop, condition, begun[condition])]


def _family(workshop: Workshop, condition: Condition) -> DependentBandit:
    return DependentBandit(condition=condition, pulls=workshop.pick(0, 5))


def _train(workshop: Workshop, condition: Condition) -> Trained:
    informative = condition == "informative"
    steps = FEW_STEPS if informative else STEPS
    small = {"batch_steps": 200, "epochs": 1, "hidden_size": 8, "minibatches": 2}
    return workshop.train(
        condition,
        "rl2",
        "dependent-bandit",
        steps=workshop.pick(steps, 400),
        settings=(ELEVEN if informative else TWO) | workshop.pick({}, small),
        family_settings=_family(workshop, condition).settings(),
    )


def _rows(workshop: Workshop, condition: Condition, trained: Trained) -> list[Measure]:
    family = _family(workshop, condition)
    trials, pulls = workshop.pick(TRIALS, 50), family.trial_episodes
    params, _ = draw_tasks(family, "test", trials, 0)
    optima = known_optima(family, params, "test", pulls)
    assert optima is not None and optima.bayes_optimal is not None
    best = optima.known_task
    optimum = float((best - optima.bayes_optimal).sum(1).mean())

    def regret(evaluation: Evaluation) -> float:
        return float((best - evaluation.scores[..., 0]).sum(1).mean())

    if condition == "informative":
        thompson = sampling_regret(pulls)
    else:
        agent = reference_agent("thompson", family)
        (played,) = workshop.judge([agent], Problem.of(family), tasks=trials)
        thompson = regret(played)
    ours = [regret(found) for found in workshop.evaluate(trained, tasks=trials)]
    return [
        Measure(f"RL², {condition}", ours, bar=thompson, direction="at most",
                aim=NEAR * optimum),
        Measure(f"Thompson sampling, {condition}", [thompson]),
        Measure(f"Bayes-optimal, {condition} (exact)", [optimum]),
    ]  # fmt: skip


def sampling_regret(pulls: int) -> float:
    """Regret that Thompson sampling expects with the informative arm: a target drawn from the
    posterior is pulled, and never the arm that only tells, so it tries one target after another."""
    missed = np.clip(1.0 - np.arange(1, pulls + 1) / TARGETS, 0.0, None)
    return float((5.0 - 1.1) * missed.sum())


CARD = Card(
    name="dependent-bandits",
    title="RL² uses what one arm says of another, which Thompson sampling does not",
    source="Wang et al. 2016 (1611.05763), §3.1; their results are curves; the optima are exact",
    run=run,
    note=(
        "Regret of a trial: a hundred pulls of two arms, five with the informative one. Thompson sampling"
        " takes two arms for independent; with the informative arm it draws a target from the exact"
        " posterior, which is computed, not played. There RL² ended where who never pays for information ends."
    ),
    differs=(
        "By PPO, where the paper has A2C; a GRU of 48, where it has an LSTM of 48.",
        "One agent a condition, as there; the tests of an agent of one condition in another are left out.",
    ),
)
