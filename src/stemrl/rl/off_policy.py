"""Learning from old experience: what soft actor-critic, TD3 and deep Q-learning share.

Such a learner has a core that knows nothing of worlds and replays: `begin` makes its networks from
sizes, `fit` takes gradient steps on rows that somebody else drew, `policy` makes an agent of what it
has learned. Methods with a replay of their own (hindsight, PEARL) use these three. Around the core
stands a complete method: packed lanes fill a ring of steps, batches are drawn from it uniformly.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Box,
    Carry,
    Context,
    Info,
    Memory,
    Obs,
    Problem,
    Space,
    State,
    UserError,
    scale_action,
)
from .experience import Rollout, RolloutState, only_if
from .fitting import require_positive
from .inheriting import holder_of, inherit_parts
from .normalize import Normalizer
from .policy import context_size, flatten, is_image, observation_size, perceive
from .replay import Replay, Row
from .rollout import begin_rollout, rollout

Learned = PyTree[Array]
"""What the core of a learner knows: networks, their slow copies, the optimizer's state."""


class ValueRange(NamedTuple):
    """Two numbers between which every value is known to lie."""

    low: float | Array
    high: float | Array


class Explorer(AbstractAgent):
    """An agent that takes a uniformly random action with probability `random`, and otherwise does
    what another agent does.

    The other agent's memory must be the context. The `info` of a step holds it as `context`.
    """

    policy: AbstractAgent
    random: Float[Array, ""]
    """Probability of a uniformly random action: 1 while warming up."""
    actions: Space = eqx.field(static=True)
    """The action space."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return self.policy.start(context, key)

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return self.policy.begin(memory, key)

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        choice_key, uniform_key, policy_key = jax.random.split(key, 3)
        if isinstance(self.actions, Box):
            uniform = jax.random.uniform(uniform_key, self.actions.shape, minval=-1.0)
        else:
            uniform = scale_action(self.actions, self.actions.sample(uniform_key))
        chosen, carry, _ = self.policy.act(memory, carry, obs, policy_key)
        at_random = jax.random.bernoulli(choice_key, self.random)
        return jnp.where(at_random, uniform, chosen), carry, {"context": memory}


class OffPolicyState(eqx.Module):
    """Everything that an off-policy learner knows."""

    learned: Any
    """What the method itself has learned; see `Learned`."""
    replay: Replay
    normalizer: Normalizer
    rollout_state: RolloutState
    collected: Int[Array, ""]
    """Environment steps taken so far."""
    key: PRNGKeyArray


class AbstractOffPolicy(AbstractLearner):
    """A learner with a replay. It plays packed lanes with one policy for all tasks, which sees the
    context if that is revealed."""

    num_envs: int = eqx.field(static=True, default=4)
    """Worlds played side by side; a few cost a simulator hardly more than one."""
    rollout_length: int = eqx.field(static=True, default=16)
    """Steps in each lane between two bouts of learning."""
    update_to_data: float = eqx.field(static=True, default=1.0)
    """Gradient steps for each environment step."""
    batch_size: int = eqx.field(static=True, default=256)
    """Stored steps in a gradient step."""
    capacity: int = eqx.field(static=True, default=300_000)
    """Steps in the replay, rounded up to whole updates; a checkpoint holds them all."""
    warm_up_steps: int = eqx.field(static=True, default=1_000)
    """Environment steps taken at random before learning begins."""
    exploration: float = 0.0
    """Probability of a uniformly random action after that."""
    learning_rate: float = 3e-4
    """Adam's step size, for everything that is learned."""
    discount: float = 0.99
    """Discount factor γ."""
    target_rate: float = 0.005
    """How far the slow copies of the networks move towards them each time."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256, 256))
    """Hidden layers of each network (ReLU)."""
    normalize_observations: bool = eqx.field(static=True, default=False)
    """Whether networks see observations by their running mean and deviation."""

    # ---- the core -------------------------------------------------------------------------------

    @abc.abstractmethod
    def begin(
        self, observations: Space, actions: Space, context_size: int, key: PRNGKeyArray
    ) -> Learned:
        """Return fresh networks for these spaces and a context of so many entries (0 for none),
        whatever the context is: a task's parameters, a goal, a latent. Raises `UserError` for
        spaces that the method cannot learn in."""

    @abc.abstractmethod
    def fit(
        self,
        learned: Learned,
        batches: Row,
        key: PRNGKeyArray,
        value_range: ValueRange | None = None,
    ) -> tuple[Learned, dict[str, Array]]:
        """Take gradient steps, one on each of `batches`. Return the result and the mean of the
        steps' metrics.

        **Arguments:**

        - `batches`: every leaf `[gradient steps, batch, …]`; observations as the networks see them
          (see `perceive`).
        - `value_range`: what targets are clipped to, if something is known of values. A method
          whose values are more than returns (with entropy in them) leaves it aside.
        """

    @abc.abstractmethod
    def policy(
        self,
        learned: Learned,
        observations: Space,
        normalizer: Normalizer | None,
        exploring: bool = False,
    ) -> AbstractAgent:
        """Return the agent of what has been learned; its memory is the context. With `exploring`,
        it acts with the noise that the method explores with."""

    # ---- the method around it -------------------------------------------------------------------

    def __check_init__(self):
        require_positive(self, "num_envs", "rollout_length", "batch_size", "capacity")
        if not self.hidden:
            raise UserError("hidden must name at least one layer, such as (256, 256)")
        if self._gradient_steps < 1:
            raise UserError(
                "update_to_data × num_envs × rollout_length must make at least one gradient step,"
                f" not {self.update_to_data * self.num_envs * self.rollout_length:g}"
            )

    @property
    def _gradient_steps(self) -> int:
        return round(self.update_to_data * self.num_envs * self.rollout_length)

    def init(self, problem: Problem, key: PRNGKeyArray) -> OffPolicyState:
        learned_key, live_key, key = jax.random.split(key, 3)
        family = problem.source
        learned = self.begin(
            family.observation_space, family.action_space, context_size(problem), learned_key
        )
        normalizer = Normalizer.of(observation_size(family.observation_space))
        agent = self.policy(learned, family.observation_space, normalizer)
        rollout_state = begin_rollout(agent, problem, family, live_key, self.num_envs)
        return OffPolicyState(
            learned=learned,
            replay=Replay.of(
                _empty_row(problem, rollout_state),
                self.capacity,
                chunk=self.steps_per_update(problem),
            ),
            normalizer=normalizer,
            rollout_state=rollout_state,
            collected=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: OffPolicyState) -> tuple[OffPolicyState, Rollout]:
        key, stream_key = jax.random.split(state.key)
        agent = self.explorer(problem, state)
        rollout_state, experience = rollout(
            agent, problem, problem.source, state.rollout_state, stream_key, self.rollout_length
        )
        return eqx.tree_at(
            lambda s: (s.rollout_state, s.key), state, (rollout_state, key)
        ), experience

    def learn(
        self,
        problem: Problem,
        state: OffPolicyState,
        experience: Rollout,
        reward: Callable[[Row], Array] | None = None,
    ) -> tuple[OffPolicyState, dict[str, Array]]:
        """Store a chunk of steps, and learn from the replay. Return the next state and the metrics.

        - `reward`: if given, it says what rows drawn from the replay earn, in place of their stored
          reward. It is for rewards that are themselves being learned, and would be out of date if
          they were stored.
        """
        key, sample_key, fit_key = jax.random.split(state.key, 3)
        space = problem.source.observation_space
        steps = experience.transitions
        chunk = Row(
            steps.obs,
            steps.info["context"],
            steps.action,
            steps.reward,
            1.0 - steps.terminated.astype(jnp.float32),
            steps.next_obs,
        )
        replay = state.replay.add(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), chunk))
        normalizer = state.normalizer
        if self.normalize_observations and not is_image(space):
            normalizer = normalizer.update(flatten(space, steps.obs))
        collected = state.collected + self.steps_per_update(problem)

        # All that the loop needs is drawn at once.
        batches = replay.steps(sample_key, (self._gradient_steps, self.batch_size))
        if reward is not None:
            batches = batches._replace(reward=reward(batches))
        batches = seen(space, normalizer, batches)

        learned, metrics = only_if(
            collected >= self.warm_up_steps,
            lambda learned: self.fit(learned, batches, fit_key),
            state.learned,
        )
        state = OffPolicyState(
            learned=learned,
            replay=replay,
            normalizer=normalizer,
            rollout_state=state.rollout_state,
            collected=collected,
            key=key,
        )
        return state, {"return": experience.mean_return(), **metrics}

    def agent(self, problem: Problem, state: OffPolicyState) -> AbstractAgent:
        return self.policy(state.learned, problem.source.observation_space, state.normalizer)

    def explorer(self, problem: Problem, state: OffPolicyState) -> Explorer:
        """Return the agent that collects: random at first, then with the method's own noise."""
        space = problem.source.observation_space
        warming = state.collected < self.warm_up_steps
        return Explorer(
            policy=self.policy(state.learned, space, state.normalizer, exploring=True),
            random=jnp.where(warming, 1.0, self.exploration).astype(jnp.float32),
            actions=problem.source.action_space,
        )

    def inherit(
        self, problem: Problem, state: OffPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OffPolicyState, list[str]]:
        """Take over networks, their slow copies and what observations are scaled by; with a fresh
        optimizer and an empty replay."""
        # How often an optimizer has stepped is its own matter: it begins anew.
        fields = [f.name for f in dataclasses.fields(state.learned) if f.name != "steps"]
        names = [name for name in fields if "optimizer" not in name]
        found = holder_of(found, names[0])
        parts, left = inherit_parts(state.learned, found, *names)
        learned = dataclasses.replace(state.learned, **parts)
        scale, missing = inherit_parts(state, found, "normalizer")
        return dataclasses.replace(state, learned=learned, **scale), left + missing

    def steps_per_update(self, problem: Problem) -> int:
        return self.num_envs * self.rollout_length


def seen(space: Space, normalizer: Normalizer | None, rows: Row) -> Row:
    """Return rows whose observations are as the networks see them."""
    return rows._replace(
        obs=perceive(space, normalizer, rows.obs),
        next_obs=perceive(space, normalizer, rows.next_obs),
    )


def moved(slow: PyTree[Array], now: PyTree[Array], rate: float | Array) -> Any:
    """Return the slow copy of networks after a move towards them: θ̄ + rate (θ − θ̄)."""
    return jax.tree.map(lambda s, n: s + rate * (n - s), slow, now)


def _empty_row(problem: Problem, rollout_state: RolloutState) -> Row:
    """One row of zeros."""
    obs, context = jax.tree.map(
        lambda x: jnp.zeros(x.shape[1:], x.dtype), (rollout_state.obs, rollout_state.context)
    )
    space = problem.source.action_space
    action = jnp.zeros(space.shape, jnp.float32 if isinstance(space, Box) else jnp.int32)
    return Row(obs, context, action, jnp.zeros(()), jnp.zeros(()), obs)
