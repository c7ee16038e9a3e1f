"""Supervised meta-learning, g_φ(D_train) → f: what learns to make a predictor of a few examples."""

from .cnp import CNP
from .gradient import GradientDescent
from .learned_optimizer import CoordinatewiseOptimizer, LearnedOptimizer
from .learner import (
    AbstractFewShotLearner,
    AbstractReader,
    Features,
    FewShotState,
    OnFeatures,
)
from .maml import SupervisedMAML
from .rnn import RNNSupervised
from .snail import SNAILSupervised

__all__ = [
    "CNP",
    "AbstractFewShotLearner",
    "AbstractReader",
    "CoordinatewiseOptimizer",
    "Features",
    "FewShotState",
    "GradientDescent",
    "LearnedOptimizer",
    "OnFeatures",
    "RNNSupervised",
    "SNAILSupervised",
    "SupervisedMAML",
]
