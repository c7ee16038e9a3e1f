"""Evaluation: adaptation curves on held-out tasks, and the statistics of scores.

`stemrl.evaluate(run)`, which opens runs and puts the agents of several seeds together, is a function of
`stemrl.api`; the one here is given an agent and a problem.
"""

from .evaluator import adapts, draw_tasks, episodes_to_adapt, evaluate
from .few_shot import (
    FewShotEvaluation,
    draw_few_shot,
    evaluate_few_shot,
    few_shot_losses,
    refuse_acting,
    refuse_examples,
)
from .playing import Played, play_tasks
from .result import Evaluation
from .statistics import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    performance_profile,
    probability_of_improvement,
    profile_interval,
    proportion_interval,
    t_interval,
)
from .transfer import (
    Estimate,
    Generalization,
    Retention,
    Transfer,
    generalization,
    retention,
    transfer,
)

__all__ = [
    "Estimate",
    "Evaluation",
    "FewShotEvaluation",
    "Generalization",
    "Played",
    "Retention",
    "Transfer",
    "adapts",
    "bootstrap_interval",
    "draw_few_shot",
    "draw_tasks",
    "episodes_to_adapt",
    "evaluate",
    "evaluate_few_shot",
    "few_shot_losses",
    "generalization",
    "improvement_interval",
    "iqm",
    "performance_profile",
    "play_tasks",
    "probability_of_improvement",
    "profile_interval",
    "proportion_interval",
    "refuse_acting",
    "refuse_examples",
    "retention",
    "t_interval",
    "transfer",
]
