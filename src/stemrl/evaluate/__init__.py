"""Evaluation: adaptation curves on held-out tasks, and the statistics of scores.

The package can be called: `stemrl.evaluate(run)` is `stemrl.api.evaluate(run)`. A function of that
name in `stemrl` would be replaced by this package as soon as anything imports it.
"""

import sys
import types
from typing import Any

from .evaluator import (
    Evaluation,
    Played,
    adapts,
    draw_tasks,
    episodes_to_adapt,
    evaluate,
    play_tasks,
)
from .few_shot import (
    FewShotEvaluation,
    draw_few_shot,
    evaluate_few_shot,
    few_shot_losses,
    refuse_acting,
    refuse_examples,
)
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


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Evaluation:
        from ..api import evaluate

        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
