"""Single-agent pieces that methods share: playing, returns, distributions, optimizers, replay."""

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
from .normalize import Normalizer, RewardScaler
from .play import Trials, play
from .policy import Network, Policy, context_size, flatten, is_image, observation_size, perceive
from .ppo import PPO, ActorCritic, PPOState, clipped_policy_loss, value_loss
from .replay import Replay
from .returns import discounted_returns, generalized_advantages
from .rollout import Rollout, RolloutState, begin_rollout, rollout
from .sac import SAC, SACState
from .soft_networks import Critics, SoftPolicy
from .trpo import FisherMatrix, TrustRegionStep, conjugate_gradient, trust_region_update
from .visits import Schedule, Visit, Visits, begin_visits, visit

__all__ = [
    "PPO",
    "SAC",
    "AbstractDistribution",
    "ActorCritic",
    "Categorical",
    "Critics",
    "DiagonalGaussian",
    "FisherMatrix",
    "Network",
    "Normalizer",
    "PPOState",
    "Policy",
    "PolicyAgent",
    "Replay",
    "RewardScaler",
    "Rollout",
    "RolloutState",
    "SACState",
    "Schedule",
    "SoftPolicy",
    "TanhGaussian",
    "Trials",
    "TrustRegionStep",
    "Visit",
    "Visits",
    "begin_rollout",
    "begin_visits",
    "clipped_policy_loss",
    "conjugate_gradient",
    "context_size",
    "discounted_returns",
    "episode_advantages",
    "fit",
    "flatten",
    "generalized_advantages",
    "is_image",
    "linear_baseline",
    "observation_size",
    "outputs_for",
    "perceive",
    "play",
    "rollout",
    "trust_region_update",
    "value_loss",
    "visit",
]
