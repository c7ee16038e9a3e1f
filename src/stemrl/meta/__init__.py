"""Meta-learning: agents that learn, over a few episodes, what their task is. What learns it from a
few examples is in `stemrl.meta.supervised`."""

from .belief import BeliefAgent, Inference
from .dpt import DPT, DPTAgent, DPTState
from .maesn import MAESN, MAESNAgent, MAESNState
from .maml import MAML, MAMLState
from .maml_agent import FastWeights, Initialization, MAMLAgent
from .pearl import PEARL, PEARLState
from .pearl_agent import Belief, Encoder, Factors, PEARLAgent
from .rdpg import RDPG
from .recurrent_control import AbstractRecurrentControl, ControlState
from .recurrent_networks import ControlNetworks
from .rl2 import RL2
from .rsvg import RSVG
from .stories import Story
from .trials import TrialState
from .variational_rnn import VariationalNetworks, VariationalRNN
from .varibad import Decoder, Decoders, VariBAD, VariBADAgent, VariBADNetworks

__all__ = [
    "DPT",
    "MAESN",
    "MAML",
    "PEARL",
    "RDPG",
    "RL2",
    "RSVG",
    "AbstractRecurrentControl",
    "Belief",
    "BeliefAgent",
    "ControlNetworks",
    "ControlState",
    "DPTAgent",
    "DPTState",
    "Decoder",
    "Decoders",
    "Encoder",
    "Factors",
    "FastWeights",
    "Inference",
    "Initialization",
    "MAESNAgent",
    "MAESNState",
    "MAMLAgent",
    "MAMLState",
    "PEARLAgent",
    "PEARLState",
    "Story",
    "TrialState",
    "VariBAD",
    "VariBADAgent",
    "VariBADNetworks",
    "VariationalNetworks",
    "VariationalRNN",
]
