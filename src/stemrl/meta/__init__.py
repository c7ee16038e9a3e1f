"""Meta-learning: agents that learn, over a few episodes, what their task is; and regressors that
learn it from a few examples."""

from .maml import MAML, MAMLState
from .maml_agent import FastWeights, Initialization, MAMLAgent
from .maml_supervised import SupervisedMaml, SupervisedMamlState
from .rl2 import RL2, RL2State

__all__ = [
    "MAML",
    "RL2",
    "FastWeights",
    "Initialization",
    "MAMLAgent",
    "MAMLState",
    "RL2State",
    "SupervisedMaml",
    "SupervisedMamlState",
]
