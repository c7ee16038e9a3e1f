"""Transfer: what was learned in one place, used in another."""

from .classifiers import Classifiers, Step, visits
from .darc import Both, Darc, DarcState, correction_table
from .finetune import FineTune, FineTuner, Learning

__all__ = [
    "Both",
    "Classifiers",
    "Darc",
    "DarcState",
    "FineTune",
    "FineTuner",
    "Learning",
    "Step",
    "correction_table",
    "visits",
]
