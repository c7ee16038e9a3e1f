"""Meta-learning: agents that learn, over a few episodes, what their task is. What learns it from a
few examples is in `stemrl.meta.supervised`."""

from .maesn import MAESN, MAESNAgent, MAESNState
from .maml import MAML, MAMLState
from .maml_agent import FastWeights, Initialization, MAMLAgent
from .pearl import PEARL, Belief, Encoder, Factors, PEARLAgent, PEARLState
from .rl2 import RL2
from .trials import TrialState

__all__ = [
    "MAESN",
    "MAML",
    "PEARL",
    "RL2",
    "Belief",
    "Encoder",
    "Factors",
    "FastWeights",
    "Initialization",
    "MAESNAgent",
    "MAESNState",
    "MAMLAgent",
    "MAMLState",
    "PEARLAgent",
    "PEARLState",
    "TrialState",
]
