"""Transfer: what was learned in one place, used in another."""

from .classifiers import Classifiers, Step, visits
from .dann import DANN, DANNState
from .darc import DARC, Both, DARCState, correction_table
from .epopt import EPOpt
from .finetune import FineTune, FineTuner, Learning

__all__ = [
    "DANN",
    "DARC",
    "Both",
    "Classifiers",
    "DANNState",
    "DARCState",
    "EPOpt",
    "FineTune",
    "FineTuner",
    "Learning",
    "Step",
    "correction_table",
    "visits",
]
