"""Meta-learning: agents that learn, over a few episodes, what their task is; and regressors that
learn it from a few examples."""

from .maml import Maml, MamlState
from .maml_agent import FastWeights, Initialisation, MamlAgent
from .maml_supervised import SupervisedMaml, SupervisedMamlState
from .rl2 import Rl2, Rl2State

__all__ = [
    "FastWeights",
    "Initialisation",
    "Maml",
    "MamlAgent",
    "MamlState",
    "Rl2",
    "Rl2State",
    "SupervisedMaml",
    "SupervisedMamlState",
]
