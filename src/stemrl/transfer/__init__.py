"""Transfer: what was learned in one place, used in another."""

from .classifiers import Classifiers, Step, visits
from .darc import DARC, Both, DARCState, correction_table
from .finetune import FineTune, FineTuner, Learning

__all__ = [
    "DARC",
    "Both",
    "Classifiers",
    "DARCState",
    "FineTune",
    "FineTuner",
    "Learning",
    "Step",
    "correction_table",
    "visits",
]
