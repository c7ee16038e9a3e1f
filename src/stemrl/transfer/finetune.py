"""Fine-tuning: the plainest transfer there is, and what every meta-learner must beat.

The problem: a new task, a few episodes. The idea: carry over everything that was learned on the
training tasks (policy, value function, optimizer, normalizers) and simply go on learning by PPO
(Schulman et al. 2017, 1707.06347) on the episodes of the task at hand. Nothing was optimized to be
adapted from, which is what sets it apart from MAML. The same agent with fresh networks is training
from scratch on the same budget.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Carry,
    Context,
    Info,
    Obs,
    Problem,
    Space,
    State,
    Transition,
)
from ..networks import Activation
from ..rl.agent import PolicyAgent
from ..rl.experience import Rollout
from ..rl.fitting import fit, optimizer, require_positive
from ..rl.normalize import Normalizer, RewardScaler
from ..rl.on_policy import ActorCritic, rows_of
from ..rl.policy import flatten, is_image, observation_size
from ..rl.ppo import PPO, PPOState, ppo_loss
from ..rl.tuning import Tune, require_tune, tuned


class Learning(eqx.Module):
    """The fine-tuner's memory: everything that its learning has moved."""

    networks: ActorCritic
    optimizer: optax.OptState
    normalizer: Normalizer
    scaler: RewardScaler
    context: Context


class FineTuner(AbstractAgent):
    """An agent that goes on learning on the task at hand: each adaptation is PPO on a round of
    episodes."""

    networks: ActorCritic
    optimizer: optax.OptState
    normalizer: Normalizer
    scaler: RewardScaler
    """The scaler of rewards, with one lane for each of the round's episodes."""
    learning_rate: Float[Array, ""]
    discount: Float[Array, ""]
    gae_lambda: Float[Array, ""]
    clip: Float[Array, ""]
    value_weight: Float[Array, ""]
    entropy_weight: Float[Array, ""]
    max_gradient_norm: Float[Array, ""]
    tune: Tune = eqx.field(static=True)
    """What learns."""
    epochs: int = eqx.field(static=True)
    minibatches: int = eqx.field(static=True)
    normalize: tuple[bool, bool] = eqx.field(static=True)
    """Whether the statistics of observations and of rewards go on moving."""
    space: Space = eqx.field(static=True)
    """The observation space."""
    episodes_per_round: int = eqx.field(static=True)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Learning:
        return Learning(self.networks, self.optimizer, self.normalizer, self.scaler, context)

    def begin(self, memory: Learning, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Learning, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        policy = PolicyAgent(
            policy=memory.networks.policy,
            normalizer=memory.normalizer,
            space=self.space,
            greedy=self.greedy,
        )
        action, _, info = policy.act(memory.context, (), obs, key)
        return action, carry, info

    def adapt(
        self, memory: Learning, carries: Carry, episodes: Transition | None, key: PRNGKeyArray
    ) -> Learning:
        """Take a few epochs of PPO on `episodes`, `[episodes, time, …]`."""
        if episodes is None:
            raise ValueError("fine-tuning learns from whole episodes; play it with `play`")
        normalize_observations, normalize_rewards = self.normalize
        reward, scaler = episodes.reward, memory.scaler
        if normalize_rewards:
            scaler = scaler.update(reward.T, episodes.ended.T, self.discount, episodes.valid.T)
            reward = scaler(reward)
        rows, _ = rows_of(
            memory.networks,
            memory.normalizer,
            self.space,
            episodes,
            reward,
            self.discount,
            self.gae_lambda,
        )
        # Adam may have begun with the moments of pretraining, and with its count.
        steps, before = (
            optax.tree_utils.tree_get(moments, "count")
            for moments in (memory.optimizer, self.optimizer)
        )
        rounds = (steps - before) // (self.epochs * self.minibatches)
        networks, optimizer_state, _ = fit(
            lambda networks, rows: ppo_loss(
                networks, rows, self.clip, self.value_weight, self.entropy_weight
            ),
            memory.networks,
            memory.optimizer,
            rows,
            key,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=self.learning_rate,
            max_gradient_norm=self.max_gradient_norm,
            factors=tuned(memory.networks, self.tune, rounds),
        )
        normalizer = memory.normalizer
        if normalize_observations and not is_image(self.space):
            normalizer = normalizer.update(flatten(self.space, episodes.obs), episodes.valid)
        return Learning(networks, optimizer_state, normalizer, scaler, memory.context)


class FineTune(AbstractLearner):
    """PPO over the training tasks. The agent starts from what was learned, and goes on learning."""

    name: ClassVar[str] = "finetune"

    episodes_per_round: int = eqx.field(static=True, default=20)
    """Episodes of the new task between two adaptations."""
    adapt_epochs: int = eqx.field(static=True, default=8)
    """Passes over a round's steps in an adaptation."""
    adapt_minibatches: int = eqx.field(static=True, default=8)
    """Gradient steps a pass in an adaptation."""
    adapt_learning_rate: float = 1e-3
    """Adam's step size in an adaptation."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns in an adaptation: all, the head (each network's last layer, and the deviation) alone,
    or gradual, the head in the first one and one more layer below it in each."""
    reset_optimizer: bool = eqx.field(static=True, default=True)
    """Whether Adam starts afresh on a new task instead of with the moments of pretraining."""
    num_envs: int = eqx.field(static=True, default=32)
    """Pretraining: worlds played side by side."""
    rollout_length: int = eqx.field(static=True, default=128)
    """Pretraining: steps in each lane between two updates."""
    epochs: int = eqx.field(static=True, default=8)
    """Pretraining: passes over the steps of an update."""
    minibatches: int = eqx.field(static=True, default=16)
    """Pretraining: gradient steps a pass."""
    learning_rate: float = 3e-4
    """Pretraining: Adam's step size."""
    discount: float = 0.99
    """Discount factor γ."""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation."""
    clip: float = 0.2
    """How far a probability ratio may move before it stops counting, ε."""
    value_weight: float = 0.5
    """Weight of the value's loss."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    max_gradient_norm: float = 0.5
    """Bound on the gradient's global norm."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(64, 64))
    """Hidden layers of policy and value."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""
    initial_std: float = 1.0
    """First standard deviation of continuous actions, whose range is [−1, 1]."""
    normalize_observations: bool = eqx.field(static=True, default=True)
    """Whether networks see observations by their running mean and deviation."""
    normalize_rewards: bool = eqx.field(static=True, default=True)
    """Whether rewards are divided by the deviation of the running discounted return."""

    def __check_init__(self):
        require_positive(self, "episodes_per_round", "adapt_epochs", "adapt_minibatches")
        require_tune(self.tune, 1)
        _ = self.pretraining

    @property
    def pretraining(self) -> PPO:
        """The learner of the training tasks."""
        return PPO(
            num_envs=self.num_envs,
            rollout_length=self.rollout_length,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=self.learning_rate,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            clip=self.clip,
            value_weight=self.value_weight,
            entropy_weight=self.entropy_weight,
            max_gradient_norm=self.max_gradient_norm,
            hidden=self.hidden,
            activation=self.activation,
            initial_std=self.initial_std,
            normalize_observations=self.normalize_observations,
            normalize_rewards=self.normalize_rewards,
        )

    def init(self, problem: Problem, key: PRNGKeyArray) -> PPOState:
        return self.pretraining.init(problem, key)

    def collect(self, problem: Problem, state: PPOState) -> tuple[PPOState, Rollout]:
        return self.pretraining.collect(problem, state)

    def learn(
        self, problem: Problem, state: PPOState, experience: Rollout
    ) -> tuple[PPOState, dict[str, Array]]:
        return self.pretraining.learn(problem, state, experience)

    def inherit(
        self, problem: Problem, state: PPOState, donor: AbstractLearner, found: State
    ) -> tuple[PPOState, list[str]]:
        return self.pretraining.inherit(problem, state, donor, found)

    def steps_per_update(self, problem: Problem) -> int:
        return self.pretraining.steps_per_update(problem)

    def agent(self, problem: Problem, state: PPOState) -> FineTuner:
        moments = state.optimizer
        if self.reset_optimizer:
            moments = optimizer(self.max_gradient_norm).init(state.networks)  # pyright: ignore
        scaler = RewardScaler(jnp.zeros(self.episodes_per_round), state.scaler.statistics)
        return self._agent(problem, state.networks, moments, state.normalizer, scaler)

    def from_scratch(self, problem: Problem, key: PRNGKeyArray) -> FineTuner:
        """Return the same agent before any pretraining. It is training from scratch on the target
        alone, the baseline of every adaptation curve."""
        networks = ActorCritic.of(
            problem, self.hidden, self.activation, initial_std=self.initial_std, key=key
        )
        return self._agent(
            problem,
            networks,
            optimizer(self.max_gradient_norm).init(networks),  # pyright: ignore
            Normalizer.of(observation_size(problem.source.observation_space)),
            RewardScaler.of(self.episodes_per_round),
        )

    def _agent(
        self,
        problem: Problem,
        networks: ActorCritic,
        moments: optax.OptState,
        normalizer: Normalizer,
        scaler: RewardScaler,
    ) -> FineTuner:
        # Numbers of a type of their own, as an agent that was exported has them: the same program plays both.
        return FineTuner(
            networks=networks,
            optimizer=moments,
            normalizer=normalizer,
            scaler=scaler,
            learning_rate=jnp.asarray(self.adapt_learning_rate, float),
            discount=jnp.asarray(self.discount, float),
            gae_lambda=jnp.asarray(self.gae_lambda, float),
            clip=jnp.asarray(self.clip, float),
            value_weight=jnp.asarray(self.value_weight, float),
            entropy_weight=jnp.asarray(self.entropy_weight, float),
            max_gradient_norm=jnp.asarray(self.max_gradient_norm, float),
            tune=self.tune,
            epochs=self.adapt_epochs,
            minibatches=self.adapt_minibatches,
            normalize=(self.normalize_observations, self.normalize_rewards),
            space=problem.source.observation_space,
            episodes_per_round=self.episodes_per_round,
        )
