"""Learners whose unit is a whole trial: what RL² and the methods that infer a latent task share.

A lane plays trials, several episodes of one unknown task, one trial after another; the agent's memory
lives on from episode to episode (`history.py`). The return that counts is that of the trial: an
episode's end inside a trial cuts neither it nor the memory; the trial's end is terminal; where a chunk
ends in the middle of a trial, the value stands in. A method says which networks there are, who acts
with them, and how an update improves them.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, Context, Problem, State, UserError
from ..networks import Cell, MemoryState
from ..rl import (
    Normalizer,
    RewardScaler,
    Rollout,
    RolloutState,
    begin_rollout,
    flatten,
    generalized_advantages,
    is_image,
    observation_size,
    perceive,
    rollout,
)
from ..rl.fitting import (
    annealed,
    explained_variance,
    fit,
    optimizer,
    require_positive,
    standardize,
    weighted_mean,
)
from ..rl.inheriting import inherit_parts
from .history import HistoryAgent


class Chunk(NamedTuple):
    """What `collect` hands to `learn`."""

    rollout: Rollout
    """`[time, lanes, …]`."""
    hidden: MemoryState
    """Before the first step, `[lanes, …]`."""
    last_value: Float[Array, " lanes"]
    """Of what follows the last step, unless a trial ended with it."""


class Lanes(NamedTuple):
    """Whole lanes to learn from, every leaf `[lanes, time, …]` but the first."""

    hidden: MemoryState
    """Before the first step, `[lanes, …]`."""
    inputs: Array
    previous: Array
    context: Context
    reset: Bool[Array, "lanes time"]
    """Where a trial, and so the memory, starts."""
    action: Array
    log_prob: Float[Array, "lanes time"]
    """Under the policy that acted."""
    advantage: Float[Array, "lanes time"]
    target: Float[Array, "lanes time"]


def trial_advantages(
    reward: Float[Array, " time"],
    value: Float[Array, " time"],
    last_value: Float[Array, ""],
    trial_end: Bool[Array, " time"],
    discount: float | Array,
    gae_lambda: float | Array,
) -> Float[Array, " time"]:
    """Return GAE in units of trials: the value of the next *step*, be it the next episode's first,
    stands for what follows, up to the trial's end, after which nothing does. `last_value` is that
    of what follows the sequence."""
    next_value = jnp.append(value[1:], last_value)
    return generalized_advantages(
        reward, value, next_value, ~trial_end, ~trial_end, discount, gae_lambda
    )


class TrialState(eqx.Module):
    """Everything that such a learner knows."""

    networks: Any
    """All that gradients move."""
    optimizer: Any
    observations: Normalizer
    rewards: Normalizer
    scaler: RewardScaler
    rollout_state: RolloutState
    updates: Int[Array, ""]
    key: PRNGKeyArray


class AbstractTrialLearner(AbstractLearner):
    """PPO in units of trials, with a memory over the whole trial."""

    cell: Cell = eqx.field(static=True, default="gru")
    """The memory: gru, lstm, delta (fast weights), snail, transformer or ttt."""
    layers: int = eqx.field(static=True, default=0)
    """Layers of memory; 0: one of gru, lstm and delta, two of the others."""
    hidden_size: int = eqx.field(static=True, default=64)
    """Entries of the memory's output (the authors': 256)."""
    chrono_span: int = eqx.field(static=True, default=0)
    """Steps over which the memory's entries start out forgetting, each over its own share (Tallec and
    Ollivier 1804.11188): about the length of a trial. 0: over one or two steps, all alike."""
    previous_observation: bool = eqx.field(static=True, default=False)
    """Whether the observation at which the previous action was taken is read again with what came of
    that action, so that what is to be stored is in one input."""
    episodes: int = eqx.field(static=True, default=0)
    """Episodes a trial; 0: as many as the family says."""
    trials: int = eqx.field(static=True, default=1)
    """Trials (of full length) that a lane plays between two updates."""
    batch_steps: int = eqx.field(static=True, default=12_000)
    """About how many environment steps an update takes, shared out to lanes of `trials` trials."""
    epochs: int = eqx.field(static=True, default=8)
    """Passes over the lanes of an update."""
    minibatches: int = eqx.field(static=True, default=4)
    """Gradient steps a pass, each on a share of the lanes."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    anneal_updates: int | None = eqx.field(static=True, default=None)
    """Updates over which the step size falls linearly to zero; constant if none."""
    discount: float = 0.99
    """Discount factor γ, a step; it runs on from episode to episode of a trial."""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation (the authors' code: 0.3 on bandits)."""
    clip: float = 0.2
    """How far a probability ratio may move before it stops counting, ε (the authors': 0.1)."""
    value_weight: float = 0.5
    """Weight of the value's loss."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    anneal_entropy: bool = eqx.field(static=True, default=False)
    """Whether that weight falls along with the step size."""
    max_gradient_norm: float = 0.5
    """Bound on the gradient's global norm."""
    target_kl: float | None = None
    """Stop an update's epochs beyond 1.5 times this KL divergence (nats); never if none."""
    initial_std: float = 1.0
    """First standard deviation of continuous actions, whose range is [−1, 1]."""
    normalize_observations: bool = eqx.field(static=True, default=True)
    """Whether observations and previous rewards are read by their running mean and deviation."""
    normalize_rewards: bool = eqx.field(static=True, default=True)
    """Whether rewards to learn from are divided by the deviation of the discounted return."""

    def __check_init__(self):
        require_positive(self, "hidden_size", "trials", "batch_steps", "epochs", "minibatches")
        if self.episodes < 0:
            raise UserError(f"episodes must be 0 (as the family says) or more, not {self.episodes}")
        if self.chrono_span < 0:
            raise UserError(f"chrono_span must be at least 0, not {self.chrono_span}")
        if self.cell not in get_args(Cell):
            raise UserError(f"cell must be one of {', '.join(get_args(Cell))}, not {self.cell!r}")
        if self.layers < 0:
            raise UserError(f"layers must be at least 0, not {self.layers}")
        if self.chrono_span and self.cell not in ("gru", "lstm"):
            raise UserError(
                f"chrono_span is for gru and lstm; {self.cell} forgets nothing by itself"
            )

    def trial_episodes(self, problem: Problem) -> int:
        """Return how many episodes a trial has."""
        return self.episodes or problem.source.trial_episodes

    def shape(self, problem: Problem) -> tuple[int, int]:
        """Return steps and lanes of an update."""
        steps = self.trials * self.trial_episodes(problem) * problem.source.horizon
        lanes = max(1, round(self.batch_steps / steps / self.minibatches)) * self.minibatches
        return steps, lanes

    @abc.abstractmethod
    def fresh_networks(self, problem: Problem, key: PRNGKeyArray) -> Any:
        """Return the networks before anything is learned."""

    @abc.abstractmethod
    def agent_of(
        self, problem: Problem, networks: Any, observations: Normalizer, rewards: Normalizer
    ) -> HistoryAgent:
        """Return who acts with these networks."""

    @abc.abstractmethod
    def improve(
        self, problem: Problem, state: TrialState, lanes: Lanes, chunk: Chunk, key: PRNGKeyArray
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Learn from `lanes`, which were made of `chunk`. Return networks, optimizer and metrics."""

    def fresh_optimizer(self, networks: Any) -> Any:
        """Return the optimizer before its first step."""
        return optimizer(self.max_gradient_norm).init(networks)

    def memory_settings(self, problem: Problem) -> dict[str, Any]:
        """Return what a memory of these settings is made of (`HistoryReader`)."""
        return {
            "cell": self.cell,
            "size": self.hidden_size,
            "length": self.trial_episodes(problem) * problem.source.horizon,
            "layers": self.layers,
            "chrono_span": self.chrono_span,
            "previous_observation": self.previous_observation,
        }

    def init(self, problem: Problem, key: PRNGKeyArray) -> TrialState:
        network_key, live_key, key = jax.random.split(key, 3)
        lanes = self.shape(problem)[1]
        networks = self.fresh_networks(problem, network_key)
        observations = Normalizer.of(observation_size(problem.source.observation_space))
        rewards = Normalizer.of(1)
        agent = self.agent_of(problem, networks, observations, rewards)
        return TrialState(
            networks=networks,
            optimizer=self.fresh_optimizer(networks),
            observations=observations,
            rewards=rewards,
            scaler=RewardScaler.of(lanes),
            rollout_state=begin_rollout(agent, problem, problem.source, live_key, lanes),
            updates=jnp.zeros((), jnp.int32),
            key=key,
        )

    def inherit(
        self, problem: Problem, state: TrialState, donor: AbstractLearner, found: State
    ) -> tuple[TrialState, list[str]]:
        """Take over networks and what observations and rewards are scaled by; a fresh optimizer."""
        parts, left = inherit_parts(state, found, "networks", "observations", "rewards")
        return dataclasses.replace(state, **parts), left

    def collect(self, problem: Problem, state: TrialState) -> tuple[TrialState, Chunk]:
        key, stream_key, value_key = jax.random.split(state.key, 3)
        steps, lanes = self.shape(problem)
        agent = self.agent(problem, state)
        rollout_state, experience = rollout(
            agent,
            problem,
            problem.source,
            state.rollout_state,
            stream_key,
            steps,
            self.trial_episodes(problem),
        )
        last_value = value_of(agent, rollout_state, jax.random.split(value_key, lanes))
        chunk = Chunk(experience, state.rollout_state.carry.hidden, last_value)
        return eqx.tree_at(lambda s: (s.rollout_state, s.key), state, (rollout_state, key)), chunk

    def learn(
        self, problem: Problem, state: TrialState, experience: Chunk
    ) -> tuple[TrialState, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        space, steps = problem.source.observation_space, experience.rollout.transitions
        reward, scaler = steps.reward, state.scaler
        if self.normalize_rewards:
            scaler = scaler.update(reward, experience.rollout.trial_end, self.discount)
            reward = scaler(reward)
        lanes, value = self.lanes_of(problem, state, experience, reward)
        networks, optimizer_state, metrics = self.improve(
            problem, state, lanes, experience, fit_key
        )
        # What acted is what was learned from: the new statistics serve from the next step on.
        observations, rewards = state.observations, state.rewards
        if self.normalize_observations:
            rewards = rewards.update(steps.reward[..., None])
            if not is_image(space):
                observations = observations.update(flatten(space, steps.obs))
        metrics = {
            "return": experience.rollout.mean_return(),
            **by_episode(experience.rollout, self.trial_episodes(problem)),
            **metrics,
            "explained_variance": explained_variance(
                value, lanes.target, jnp.ones_like(lanes.target)
            ),
        }
        state = dataclasses.replace(
            state,
            networks=networks,
            optimizer=optimizer_state,
            observations=observations,
            rewards=rewards,
            scaler=scaler,
            updates=state.updates + 1,
            key=key,
        )
        return state, metrics

    def fit(
        self,
        loss: Callable[[Any, Any, float | Array], tuple[Array, dict[str, Array]]],
        parameters: PyTree[Array],
        optimizer_state: optax.OptState,
        rows: PyTree[Array],
        updates: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Return `fit` by these settings after `updates` updates; `loss(parameters, minibatch,
        entropy_weight)` is told the weight of the entropy by then."""
        over = self.anneal_updates if self.anneal_entropy else None
        entropy_weight = annealed(self.entropy_weight, over, updates)
        return fit(
            lambda parameters, rows: loss(parameters, rows, entropy_weight),
            parameters,
            optimizer_state,
            rows,
            key,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=annealed(self.learning_rate, self.anneal_updates, updates),
            max_gradient_norm=self.max_gradient_norm,
            target_kl=self.target_kl,
        )

    def lanes_of(
        self,
        problem: Problem,
        state: TrialState,
        experience: Chunk,
        reward: Float[Array, "time lanes"],
    ) -> tuple[Lanes, Float[Array, "lanes time"]]:
        """Return the experience as lanes with advantages (standardized) and value targets, and the
        values that the agent itself saw. `reward` is the scaled one."""
        steps = experience.rollout.transitions
        value = steps.info["value"]
        advantage = jax.vmap(trial_advantages, (1, 1, 0, 1, None, None), 1)(
            reward,
            value,
            experience.last_value,
            experience.rollout.trial_end,
            self.discount,
            self.gae_lambda,
        )
        inputs = perceive(problem.source.observation_space, state.observations, steps.obs)
        by_time = Lanes(
            hidden=None,
            inputs=inputs,
            previous=self.agent(problem, state).perceive_previous(steps.info["previous"]),
            context=steps.info["context"],
            reset=experience.rollout.trial_start,
            action=steps.action,
            log_prob=steps.info["log_prob"],
            advantage=standardize(advantage, jnp.ones_like(advantage)),
            target=advantage + value,
        )
        by_lane = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), by_time)
        return by_lane._replace(hidden=experience.hidden), value.T

    def agent(self, problem: Problem, state: TrialState) -> HistoryAgent:
        return self.agent_of(problem, state.networks, state.observations, state.rewards)

    def steps_per_update(self, problem: Problem) -> int:
        steps, lanes = self.shape(problem)
        return steps * lanes


@eqx.filter_jit
def value_of(
    agent: HistoryAgent, rollout_state: RolloutState, keys: PRNGKeyArray
) -> Float[Array, " lanes"]:
    """Return the value of what follows in every lane. (Compiled here for worlds stepped on the
    host.)"""
    return jax.vmap(agent.act)(rollout_state.memory, rollout_state.carry, rollout_state.obs, keys)[
        2
    ]["value"]


def by_episode(rollout: Rollout, episodes: int) -> dict[str, Array]:
    """Return the mean return of a trial's first and last episodes, among those that ended in this
    chunk."""
    ended = rollout.transitions.ended

    def mean(which: Any) -> Array:
        return weighted_mean(rollout.score, (ended & which).astype(jnp.float32))

    return {
        "return/first": mean(rollout.episode == 0),
        "return/last": mean(rollout.episode == episodes - 1),
    }
