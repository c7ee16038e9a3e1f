"""Meta-learning: agents that learn, over a few episodes, what their task is."""

from .maml import Maml, MamlState
from .maml_agent import FastWeights, Initialisation, MamlAgent
from .rl2 import Rl2, Rl2State

__all__ = [
    "FastWeights",
    "Initialisation",
    "Maml",
    "MamlAgent",
    "MamlState",
    "Rl2",
    "Rl2State",
]
