"""RL²: fast reinforcement learning via slow reinforcement learning (Duan et al. 2016, 1611.02779;
the same idea as Wang et al. 2016, 1611.05763).

The problem: an agent meets a task drawn from a distribution, plays a *trial* of several episodes on
it and should do well over all of them, exploration included. The idea: make the learning algorithm
itself a recurrent network. At each step it reads the observation and what came of its previous
action (that action, its reward, whether the episode ended), and its hidden state lives on from
episode to episode of a trial; at a new task it is cleared. Trained by an ordinary RL method to
maximize the return of whole trials,

    max_θ  E_{M ∼ p(M)} E_{π_θ} [ Σ_{t=0}^{trial} γᵗ r_t ],

the network comes to implement a learning algorithm for p(M) in its activations. Here the ordinary
method is PPO on whole lanes, with the gradient through all of a chunk's steps.

The unit is the trial: an episode's end inside a trial cuts neither the return nor the memory; the
trial's end is terminal; where a chunk ends in the middle of a trial, the value stands in.
"""

from typing import Any, ClassVar, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractLearner, Context, Problem, UserError
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
from ..rl.ppo import clipped_policy_loss, value_loss
from .history import HistoryAgent, RecurrentActorCritic, history_agent


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
    """GAE in units of trials: the value of the next *step*, be it the next episode's first, stands
    for what follows, up to the trial's end, after which nothing does. `last_value` is that of what
    follows the sequence."""
    next_value = jnp.append(value[1:], last_value)
    return generalized_advantages(
        reward, value, next_value, ~trial_end, ~trial_end, discount, gae_lambda
    )


def evaluate_lanes(
    networks: RecurrentActorCritic, lanes: Lanes
) -> tuple[Float[Array, "time lanes"], Float[Array, "time lanes"], Float[Array, "time lanes"]]:
    """Log-probability of the actions taken, entropy and value at every step, `[time, lanes]`, by
    running the memory over the lanes again."""
    inputs, previous, context, reset, action = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1),
        (lanes.inputs, lanes.previous, lanes.context, lanes.reset, lanes.action),
    )
    x = networks.read(inputs, previous, context)
    _, output = networks.cell.unroll(lanes.hidden, x, reset)
    distribution, value = networks.heads(output, x)
    return distribution.log_prob(action), distribution.entropy(), value


def rl2_loss(
    networks: RecurrentActorCritic,
    lanes: Lanes,
    clip: float | Array,
    value_weight: float | Array,
    entropy_weight: float | Array,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """PPO's objective on some lanes, and its parts."""
    log_prob, entropy, value = evaluate_lanes(networks, lanes)
    one = jnp.ones_like(value)
    policy, moved = clipped_policy_loss(log_prob, lanes.log_prob.T, lanes.advantage.T, one, clip)
    fitted = value_loss(value, lanes.target.T, one)
    entropy = weighted_mean(entropy, one)
    loss = policy + value_weight * fitted - entropy_weight * entropy
    return loss, {"loss/policy": policy, "loss/value": fitted, "entropy": entropy, **moved}


class RL2State(eqx.Module):
    """Everything that RL² knows."""

    networks: RecurrentActorCritic
    optimizer: optax.OptState
    observations: Normalizer
    rewards: Normalizer
    scaler: RewardScaler
    rollout_state: RolloutState
    updates: Int[Array, ""]
    key: PRNGKeyArray


class RL2(AbstractLearner):
    """RL² with PPO: a recurrent policy over the history of a whole trial."""

    name: ClassVar[str] = "rl2"

    cell: Cell = eqx.field(static=True, default="gru")
    """The memory: gru, lstm, delta (fast weights), snail, transformer or ttt."""
    layers: int = eqx.field(static=True, default=0)
    """Layers of memory; 0: one of gru, lstm and delta, two of the others."""
    hidden_size: int = eqx.field(static=True, default=64)
    """Entries of the memory's output (the authors': 256)."""
    chrono_span: int = eqx.field(static=True, default=0)
    """Steps over which the memory's entries start out forgetting, each over its own share (Tallec and
    Ollivier 1804.11188): about the length of a trial. 0: over one or two steps, all alike."""
    head_hidden_size: int = eqx.field(static=True, default=0)
    """Entries of a ReLU layer between the memory and the heads, which sees the input too; none if 0."""
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
        if min(self.chrono_span, self.head_hidden_size) < 0:
            raise UserError(
                f"chrono_span and head_hidden_size must be at least 0, not {self.chrono_span} and {self.head_hidden_size}"
            )
        if self.cell not in get_args(Cell):
            raise UserError(f"cell must be one of {', '.join(get_args(Cell))}, not {self.cell!r}")
        if self.layers < 0:
            raise UserError(f"layers must be at least 0, not {self.layers}")
        if self.chrono_span and self.cell not in ("gru", "lstm"):
            raise UserError(
                f"chrono_span is for gru and lstm; {self.cell} forgets nothing by itself"
            )

    def trial_episodes(self, problem: Problem) -> int:
        """Episodes a trial."""
        return self.episodes or problem.source.trial_episodes

    def shape(self, problem: Problem) -> tuple[int, int]:
        """Steps and lanes of an update."""
        steps = self.trials * self.trial_episodes(problem) * problem.source.horizon
        lanes = max(1, round(self.batch_steps / steps / self.minibatches)) * self.minibatches
        return steps, lanes

    def init(self, problem: Problem, key: PRNGKeyArray) -> RL2State:
        network_key, live_key, key = jax.random.split(key, 3)
        lanes = self.shape(problem)[1]
        networks = RecurrentActorCritic.of(
            problem,
            self.cell,
            self.hidden_size,
            initial_std=self.initial_std,
            length=self.trial_episodes(problem) * problem.source.horizon,
            layers=self.layers,
            chrono_span=self.chrono_span,
            head_hidden_size=self.head_hidden_size,
            previous_observation=self.previous_observation,
            key=network_key,
        )
        observations = Normalizer.of(observation_size(problem.source.observation_space))
        rewards = Normalizer.of(1)
        agent = history_agent(problem.source, networks, observations, rewards)
        return RL2State(
            networks=networks,
            optimizer=optimizer(self.max_gradient_norm).init(networks),  # pyright: ignore
            observations=observations,
            rewards=rewards,
            scaler=RewardScaler.of(lanes),
            rollout_state=begin_rollout(agent, problem, problem.source, live_key, lanes),
            updates=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: RL2State) -> tuple[RL2State, Chunk]:
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
        self, problem: Problem, state: RL2State, experience: Chunk
    ) -> tuple[RL2State, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        space, steps = problem.source.observation_space, experience.rollout.transitions
        reward, scaler = steps.reward, state.scaler
        if self.normalize_rewards:
            scaler = scaler.update(reward, experience.rollout.trial_end, self.discount)
            reward = scaler(reward)
        lanes, value = self.lanes_of(problem, state, experience, reward)
        over = self.anneal_updates if self.anneal_entropy else None
        entropy_weight = annealed(self.entropy_weight, over, state.updates)
        networks, optimizer_state, metrics = fit(
            lambda networks, lanes: rl2_loss(
                networks, lanes, self.clip, self.value_weight, entropy_weight
            ),
            state.networks,
            state.optimizer,
            lanes,
            fit_key,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=annealed(self.learning_rate, self.anneal_updates, state.updates),
            max_gradient_norm=self.max_gradient_norm,
            target_kl=self.target_kl,
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
        return (
            RL2State(
                networks=networks,
                optimizer=optimizer_state,
                observations=observations,
                rewards=rewards,
                scaler=scaler,
                rollout_state=state.rollout_state,
                updates=state.updates + 1,
                key=key,
            ),
            metrics,
        )

    def lanes_of(
        self,
        problem: Problem,
        state: RL2State,
        experience: Chunk,
        reward: Float[Array, "time lanes"],
    ) -> tuple[Lanes, Float[Array, "lanes time"]]:
        """The experience as lanes with advantages (standardized) and value targets, and the values
        that the agent itself saw. `reward` is the scaled one."""
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

    def agent(self, problem: Problem, state: RL2State) -> HistoryAgent:
        return history_agent(problem.source, state.networks, state.observations, state.rewards)

    def steps_per_update(self, problem: Problem) -> int:
        steps, lanes = self.shape(problem)
        return steps * lanes


@eqx.filter_jit
def value_of(
    agent: HistoryAgent, rollout_state: RolloutState, keys: PRNGKeyArray
) -> Float[Array, " lanes"]:
    """The value of what follows in every lane. (Compiled here for worlds stepped on the host.)"""
    return jax.vmap(agent.act)(rollout_state.memory, rollout_state.carry, rollout_state.obs, keys)[
        2
    ]["value"]


def by_episode(rollout: Rollout, episodes: int) -> dict[str, Array]:
    """Mean return of a trial's first and last episodes, among those that ended in this chunk."""
    ended = rollout.transitions.ended

    def mean(which: Any) -> Array:
        return weighted_mean(rollout.score, (ended & which).astype(jnp.float32))

    return {
        "return/first": mean(rollout.episode == 0),
        "return/last": mean(rollout.episode == episodes - 1),
    }
