"""Single-agent pieces that methods share: playing, returns, distributions, optimisers, replay."""

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

__all__ = [
    "AbstractDistribution",
    "Categorical",
    "DiagonalGaussian",
    "Live",
    "Network",
    "Normaliser",
    "Policy",
    "RewardScaler",
    "Stream",
    "TanhGaussian",
    "Trials",
    "context_size",
    "discounted_returns",
    "enter",
    "flatten",
    "generalised_advantages",
    "is_image",
    "observation_size",
    "outputs_for",
    "perceive",
    "play",
    "stream",
]
