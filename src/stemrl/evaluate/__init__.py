"""Evaluation: adaptation curves on held-out tasks, and the statistics of scores."""

from .evaluator import Evaluation, draw_tasks, episodes_to_adapt, evaluate
from .statistics import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    performance_profile,
    probability_of_improvement,
    t_interval,
)

__all__ = [
    "Evaluation",
    "bootstrap_interval",
    "draw_tasks",
    "episodes_to_adapt",
    "evaluate",
    "improvement_interval",
    "iqm",
    "performance_profile",
    "probability_of_improvement",
    "t_interval",
]
