"""Transfer: what was learned in one place, used in another."""

from .classifiers import Classifiers, Step, visits
from .dann import DANN, DANNState
from .darc import DARC, Both, DARCState, correction_table
from .epopt import EPOpt, EPOptState
from .finetune import FineTune, FineTuner, Learning
from .source_distribution import Beliefs, believe, log_likelihoods

__all__ = [
    "DANN",
    "DARC",
    "Beliefs",
    "Both",
    "Classifiers",
    "DANNState",
    "DARCState",
    "EPOpt",
    "EPOptState",
    "FineTune",
    "FineTuner",
    "Learning",
    "Step",
    "believe",
    "correction_table",
    "log_likelihoods",
    "visits",
]
