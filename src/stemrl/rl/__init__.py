"""Single-agent pieces that methods share: playing, returns, distributions, optimisers, replay."""

from .baseline import episode_advantages, linear_baseline
from .distributions import (
    AbstractDistribution,
    Categorical,
    DiagonalGaussian,
    TanhGaussian,
    outputs_for,
)
from .normalise import Normaliser, RewardScaler
from .play import Trials, play
from .policy import Network, Policy, context_size, flatten, is_image, observation_size, perceive
from .returns import discounted_returns, generalised_advantages
from .stream import Live, Stream, enter, stream
from .trpo import FisherMatrix, TrustRegionStep, conjugate_gradient, trust_region_update

__all__ = [
    "AbstractDistribution",
    "Categorical",
    "DiagonalGaussian",
    "FisherMatrix",
    "Live",
    "Network",
    "Normaliser",
    "Policy",
    "RewardScaler",
    "Stream",
    "TanhGaussian",
    "Trials",
    "TrustRegionStep",
    "conjugate_gradient",
    "context_size",
    "discounted_returns",
    "enter",
    "episode_advantages",
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
]
