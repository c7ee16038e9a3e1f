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
from .dqn import DQN, DQNLearned
from .experience import Rollout, RolloutState, Trials
from .fitting import fit
from .normalize import Normalizer, RewardScaler
from .off_policy import AbstractOffPolicy, Explorer, OffPolicyState, ValueRange
from .on_policy import AbstractOnPolicy, ActorCritic, OnPolicyState, value_loss
from .play import play
from .player import Player
from .policy import Network, Policy, context_size, flatten, is_image, observation_size, perceive
from .ppo import PPO, PPOState, clipped_policy_loss
from .replay import Episode, Replay, Row, draw_steps
from .returns import discounted_returns, generalized_advantages
from .rollout import begin_rollout, rollout
from .sac import SAC, SACLearned, SACState
from .soft_networks import Critics, Networks, SoftPolicy
from .td3 import TD3, DeterministicPolicy, TD3Learned
from .trpo import FisherMatrix, TrustRegionStep, conjugate_gradient, trust_region_update
from .trust_region import TRPO
from .visits import Schedule, Visit, Visits, begin_visits, visit

__all__ = [
    "DQN",
    "PPO",
    "SAC",
    "TD3",
    "TRPO",
    "AbstractDistribution",
    "AbstractOffPolicy",
    "AbstractOnPolicy",
    "ActorCritic",
    "Categorical",
    "Critics",
    "DQNLearned",
    "DeterministicPolicy",
    "DiagonalGaussian",
    "Episode",
    "Explorer",
    "FisherMatrix",
    "Network",
    "Networks",
    "Normalizer",
    "OffPolicyState",
    "OnPolicyState",
    "PPOState",
    "Player",
    "Policy",
    "PolicyAgent",
    "Replay",
    "RewardScaler",
    "Rollout",
    "RolloutState",
    "Row",
    "SACLearned",
    "SACState",
    "Schedule",
    "SoftPolicy",
    "TD3Learned",
    "TanhGaussian",
    "Trials",
    "TrustRegionStep",
    "ValueRange",
    "Visit",
    "Visits",
    "begin_rollout",
    "begin_visits",
    "clipped_policy_loss",
    "conjugate_gradient",
    "context_size",
    "discounted_returns",
    "draw_steps",
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
