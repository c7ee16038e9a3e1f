"""Single-agent pieces that methods share: playing, returns, distributions, optimisers, replay."""

from .agent import PolicyAgent
from .baseline import episode_advantages, linear_baseline
from .distributions import (
    AbstractDistribution,
    Categorical,
    DiagonalGaussian,
    TanhGaussian,
    outputs_for,
)
from .fitting import fit
from .normalise import Normaliser, RewardScaler
from .play import Trials, play
from .policy import Network, Policy, context_size, flatten, is_image, observation_size, perceive
from .ppo import ActorCritic, Ppo, PpoState, clipped_policy_loss, value_loss
from .replay import Replay
from .returns import discounted_returns, generalised_advantages
from .sac import Sac, SacState
from .soft_networks import Critics, SoftPolicy
from .stream import Live, Stream, enter, stream
from .trpo import FisherMatrix, TrustRegionStep, conjugate_gradient, trust_region_update

__all__ = [
    "AbstractDistribution",
    "ActorCritic",
    "Categorical",
    "Critics",
    "DiagonalGaussian",
    "FisherMatrix",
    "Live",
    "Network",
    "Normaliser",
    "Policy",
    "PolicyAgent",
    "Ppo",
    "PpoState",
    "Replay",
    "RewardScaler",
    "Sac",
    "SacState",
    "SoftPolicy",
    "Stream",
    "TanhGaussian",
    "Trials",
    "TrustRegionStep",
    "clipped_policy_loss",
    "conjugate_gradient",
    "context_size",
    "discounted_returns",
    "enter",
    "episode_advantages",
    "fit",
    "flatten",
    "generalised_advantages",
    "is_image",
    "linear_baseline",
    "observation_size",
    "outputs_for",
    "perceive",
    "play",
    "stream",
    "trust_region_update",
    "value_loss",
]
