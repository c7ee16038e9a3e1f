"""Transfer: what was learned in one place, used in another."""

from .finetune import FineTune, FineTuner, Learning

__all__ = ["FineTune", "FineTuner", "Learning"]
