"""Learning from fresh experience: what PPO and TRPO share.

Packed lanes are played by the policy as it is; their steps become rows with advantages and value
targets; the method improves policy and value on them, and throws them away. How it does is all that a
method has to say (`loss` and `improve`); those that change rewards, rows or losses from outside
(DARC, EPOpt, DANN, fine-tuning) use the same parts.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, Context, Problem, Space, State, Transition, UserError
from ..networks import Activation
from .agent import PolicyAgent
from .experience import Rollout, RolloutState
from .fitting import explained_variance, optimizer, require_positive, standardize, weighted_mean
from .inheriting import inherit_parts, learned_parts
from .multi_task import tasks_of
from .normalize import Normalizer, RewardScaler
from .policy import Network, Policy, context_size, flatten, is_image, observation_size, perceive
from .returns import generalized_advantages
from .rollout import begin_rollout, rollout


class ActorCritic(eqx.Module):
    """A policy and a value function that share no layers."""

    policy: Policy
    value: Network

    @classmethod
    def of(
        cls,
        problem: Problem,
        hidden: tuple[int, ...],
        activation: Activation,
        *,
        initial_std: float = 1.0,
        context: int | None = None,
        tasks: int = 0,
        key: PRNGKeyArray,
    ) -> "ActorCritic":
        """Return fresh networks for the spaces of `problem`.

        - `context`: how many entries contexts have; by default as many as `problem` reveals.
        - `tasks`: how many heads there are, if each task has its own.
        """
        policy_key, value_key = jax.random.split(key)
        observations, actions = problem.source.observation_space, problem.source.action_space
        context = context_size(problem) if context is None else context
        return cls(
            Policy(
                observations,
                actions,
                context,
                hidden,
                activation,
                initial_std=initial_std,
                tasks=tasks,
                key=policy_key,
            ),
            Network(observations, context, 1, hidden, activation, tasks=tasks, key=value_key),
        )

    def values(self, inputs: Array, context: Context) -> Float[Array, "..."]:
        """Return V of inputs that `perceive` gave."""
        return self.value(inputs, context)[..., 0]


class Rows(NamedTuple):
    """Steps to learn from, every leaf `[rows, …]`."""

    inputs: Array
    """What the networks are given."""
    context: Context
    action: Array
    log_prob: Float[Array, " rows"]
    """Under the policy that acted."""
    advantage: Float[Array, " rows"]
    target: Float[Array, " rows"]
    """Of the value: advantage + value before learning, in scaled rewards."""
    weight: Float[Array, " rows"]
    """1, or 0 on padding."""
    policy_weight: Float[Array, " rows"]
    """Of each step in what the policy learns from; the value learns from all that `weight` counts."""


def value_loss(
    value: Float[Array, "..."], target: Float[Array, "..."], weight: Float[Array, "..."]
) -> Float[Array, ""]:
    """Return ½ E[(V − V̂)²], the weighted mean over the steps."""
    return 0.5 * weighted_mean((value - target) ** 2, weight)


def rows_of(
    networks: ActorCritic,
    normalizer: Normalizer,
    space: Space,
    steps: Transition,
    reward: Float[Array, "batch time"],
    discount: float | Array,
    gae_lambda: float | Array,
    policy_weight: Float[Array, "batch time"] | None = None,
) -> tuple[Rows, Float[Array, " rows"]]:
    """Return sequences of steps, every leaf `[batch, time, …]`, as rows with advantages
    (standardized over all of them) and value targets; and their values as they were. `reward` is
    the scaled one; `policy_weight` says which steps the policy learns from, all if none.

    Both values of a step are the network's own, that of the true next observation too: what a time
    limit cuts off counts, what follows a termination does not.
    """
    inputs, next_inputs = (perceive(space, normalizer, x) for x in (steps.obs, steps.next_obs))
    context = steps.info["context"]
    value, next_value = networks.values(inputs, context), networks.values(next_inputs, context)
    weight = steps.valid.astype(jnp.float32)
    advantage = jax.vmap(generalized_advantages, in_axes=(0, 0, 0, 0, 0, None, None))(
        reward,
        value,
        next_value,
        ~steps.terminated,
        ~steps.ended & steps.valid,
        discount,
        gae_lambda,
    )
    rows = Rows(
        inputs=inputs,
        context=context,
        action=steps.action,
        log_prob=steps.info["log_prob"],
        advantage=standardize(advantage, weight),
        target=advantage + value,
        weight=weight,
        policy_weight=weight if policy_weight is None else weight * policy_weight,
    )
    rows, value = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (rows, value))
    return rows, value


class OnPolicyState(eqx.Module):
    """Everything that an on-policy learner knows."""

    networks: ActorCritic
    optimizer: optax.OptState
    normalizer: Normalizer
    scaler: RewardScaler
    rollout_state: RolloutState
    updates: Int[Array, ""]
    key: PRNGKeyArray


class AbstractOnPolicy(AbstractLearner):
    """A learner from packed lanes of fresh steps. It has one policy for all tasks, which sees the
    context if that is revealed."""

    num_envs: int = eqx.field(static=True, default=32)
    """Worlds played side by side."""
    rollout_length: int = eqx.field(static=True, default=128)
    """Steps in each lane between two updates."""
    epochs: int = eqx.field(static=True, default=8)
    """Passes over the steps of an update."""
    minibatches: int = eqx.field(static=True, default=16)
    """Gradient steps a pass."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    anneal_updates: int | None = eqx.field(static=True, default=None)
    """Updates over which the step size falls linearly to zero; constant if none."""
    discount: float = 0.99
    """Discount factor γ."""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation."""
    max_gradient_norm: float = 0.5
    """Bound on the gradient's global norm."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(64, 64))
    """Hidden layers of policy and value."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""
    initial_std: float = 1.0
    """First standard deviation of continuous actions, whose range is [−1, 1]."""
    heads: bool = eqx.field(static=True, default=False)
    """Whether each task has a head of its own on layers that all share; for families of a few tasks,
    with the context revealed."""
    normalize_observations: bool = eqx.field(static=True, default=True)
    """Whether networks see observations by their running mean and deviation."""
    normalize_rewards: bool = eqx.field(static=True, default=True)
    """Whether rewards are divided by the deviation of the running discounted return."""

    # ---- what a method says ---------------------------------------------------------------------

    @abc.abstractmethod
    def loss(
        self, networks: ActorCritic, rows: Rows
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the loss that gradient steps on some rows descend, and its parts as metrics."""

    @abc.abstractmethod
    def improve(
        self,
        loss: Callable[[Any, Any], tuple[Array, dict[str, Array]]],
        parameters: Any,
        optimizer_state: optax.OptState,
        rows: Any,
        updates: Int[Array, ""],
        key: PRNGKeyArray,
        *,
        factors: PyTree[Array] | None = None,
    ) -> tuple[Any, optax.OptState, dict[str, Array]]:
        """Learn from `rows` by gradient steps on `loss`, after `updates` updates. Return
        parameters, optimizer and metrics. `factors` multiply the step size, for each leaf of
        `parameters`."""

    # ---- the method around it -------------------------------------------------------------------

    def __check_init__(self):
        require_positive(self, "num_envs", "rollout_length", "epochs", "minibatches")
        if self.minibatches > self.num_envs * self.rollout_length:
            raise UserError(
                f"minibatches must be at most num_envs × rollout_length"
                f" = {self.num_envs * self.rollout_length}, not {self.minibatches}"
            )

    def init(self, problem: Problem, key: PRNGKeyArray) -> OnPolicyState:
        network_key, live_key, key = jax.random.split(key, 3)
        networks = ActorCritic.of(
            problem,
            self.hidden,
            self.activation,
            initial_std=self.initial_std,
            tasks=tasks_of(problem, "heads") if self.heads else 0,
            key=network_key,
        )
        normalizer = Normalizer.of(observation_size(problem.source.observation_space))
        agent = PolicyAgent(
            policy=networks.policy,
            normalizer=normalizer,
            space=problem.source.observation_space,
        )
        return OnPolicyState(
            networks=networks,
            optimizer=optimizer(self.max_gradient_norm).init(networks),  # pyright: ignore
            normalizer=normalizer,
            scaler=RewardScaler.of(self.num_envs),
            rollout_state=begin_rollout(agent, problem, problem.source, live_key, self.num_envs),
            updates=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: OnPolicyState) -> tuple[OnPolicyState, Rollout]:
        key, stream_key = jax.random.split(state.key)
        agent = self.agent(problem, state)
        rollout_state, experience = rollout(
            agent, problem, problem.source, state.rollout_state, stream_key, self.rollout_length
        )
        return eqx.tree_at(
            lambda s: (s.rollout_state, s.key), state, (rollout_state, key)
        ), experience

    def learn(
        self,
        problem: Problem,
        state: OnPolicyState,
        experience: Rollout,
        reward: Callable[[Transition], Array] | None = None,
        weight: Callable[[Transition], Array] | None = None,
    ) -> tuple[OnPolicyState, dict[str, Array]]:
        """Learn from a chunk of steps. Return the next state and the metrics.

        - `reward`: if given, it says what steps earn, in place of their own reward.
        - `weight`: if given, it says how much each step counts in what policy and value learn from.
        """
        key, fit_key = jax.random.split(state.key)
        steps = experience.transitions
        state, rows, value = self.prepare(
            problem, state, steps, None if reward is None else reward(steps)
        )
        if weight is not None:
            # Rows are lane after lane.
            counts = jnp.swapaxes(weight(steps), 0, 1).reshape(-1)
            rows = rows._replace(
                weight=rows.weight * counts, policy_weight=rows.policy_weight * counts
            )
        networks, optimizer_state, metrics = self.improve(
            self.loss, state.networks, state.optimizer, rows, state.updates, fit_key
        )
        metrics = {
            "return": experience.mean_return(),
            **metrics,
            "explained_variance": explained_variance(value, rows.target, rows.weight),
        }
        state = dataclasses.replace(
            state,
            networks=networks,
            optimizer=optimizer_state,
            updates=state.updates + 1,
            key=key,
        )
        return state, metrics

    def inherit(
        self, problem: Problem, state: OnPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OnPolicyState, list[str]]:
        """Take over networks and what observations and rewards are scaled by; a fresh optimizer."""
        parts, left = inherit_parts(state, found, "networks", "normalizer")
        theirs = learned_parts(found, "networks", "scaler").get("scaler")
        scaler = (
            state.scaler
            if theirs is None
            else RewardScaler(state.scaler.running, theirs.statistics)
        )
        return dataclasses.replace(state, **parts, scaler=scaler), left

    def fresh_optimizer(self, networks: PyTree[Array]) -> optax.OptState:
        """Return the optimizer before its first step, for whatever is to be moved."""
        return optimizer(self.max_gradient_norm).init(networks)  # pyright: ignore

    def prepare(
        self,
        problem: Problem,
        state: OnPolicyState,
        steps: Transition,
        reward: Float[Array, "time lanes"] | None = None,
        policy_weight: Float[Array, "time lanes"] | None = None,
    ) -> tuple[OnPolicyState, Rows, Float[Array, " rows"]]:
        """Turn steps `[time, lanes, …]` into rows. Return the state, which has counted their
        observations and rewards, the rows, and the values that the networks gave before.

        - `reward`: if given, it takes the place of what the steps paid.
        - `policy_weight`: see `rows_of`.
        """
        space = problem.source.observation_space
        reward, scaler = steps.reward if reward is None else reward, state.scaler
        if self.normalize_rewards:
            scaler = scaler.update(reward, steps.ended, self.discount, steps.valid)
            reward = scaler(reward)
        # [time, lanes, …] to [lanes, time, …]
        by_lane, reward, policy_weight = jax.tree.map(
            lambda x: jnp.swapaxes(x, 0, 1), (steps, reward, policy_weight)
        )
        rows, value = rows_of(
            state.networks,
            state.normalizer,
            space,
            by_lane,
            reward,  # pyright: ignore[reportArgumentType]
            self.discount,
            self.gae_lambda,
            policy_weight,
        )
        # What acted is what is learned from: the new statistics serve from the next step on.
        normalizer = state.normalizer
        if self.normalize_observations and not is_image(space):
            normalizer = normalizer.update(flatten(space, steps.obs), steps.valid)
        return dataclasses.replace(state, normalizer=normalizer, scaler=scaler), rows, value

    def agent(self, problem: Problem, state: OnPolicyState) -> PolicyAgent:
        return PolicyAgent(
            policy=state.networks.policy,
            normalizer=state.normalizer,
            space=problem.source.observation_space,
        )

    def steps_per_update(self, problem: Problem) -> int:
        return self.num_envs * self.rollout_length
