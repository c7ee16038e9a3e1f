"""Transfer: what was learned in one place, used in another."""

from .classifiers import Classifiers, Step, visits
from .dann import DANN, DANNState
from .dann_supervised import DANNSupervised, DANNSupervisedState, reverse_validation
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
    "DANNSupervised",
    "DANNSupervisedState",
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
    "reverse_validation",
    "visits",
]
