"""Reference agents of tabular processes: the optimum of a known one, and reference agents that learn it.

PSRL (Osband 1306.0940) draws one process from the posterior at the start of every episode and
plays its optimum; the greedy agent plays that of the posterior's mean.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Context, Transition
from .revealed import task_in


def optimal_action_values(
    transition: Float[Array, "states actions states"],
    reward: Float[Array, "states actions"],
    horizon: int,
) -> Float[Array, "horizon states actions"]:
    """Return Q*ₜ(s, a) = r(s, a) + Σ P(s′|s, a) max Q*ₜ₊₁(s′, ·), undiscounted, `horizon` steps."""

    def step(value: Float[Array, " states"], _):
        q = reward + transition @ value
        return jnp.max(q, axis=1), q

    zero = jnp.zeros(reward.shape[0])
    return jax.lax.scan(step, zero, length=horizon, xs=None, reverse=True)[1]


class Plan(eqx.Module):
    """What to do in this episode, and how far it is."""

    values: Float[Array, "horizon states actions"]
    time: Int[Array, ""]


class KnownProcess(AbstractAgent):
    """An agent that plays the optimum of the process that its context (a `random-mdp`'s) reveals."""

    states: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)
    horizon: int = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    def start(self, context: Context, key: PRNGKeyArray) -> Float[Array, "horizon s a"]:
        context = task_in(context)
        cut = self.states * self.actions * self.states
        transition = context[:cut].reshape(self.states, self.actions, self.states)
        reward = context[cut:].reshape(self.states, self.actions)
        return optimal_action_values(transition, reward, self.horizon)

    def begin(self, memory: Array, key: PRNGKeyArray) -> Plan:
        return Plan(memory, jnp.zeros((), jnp.int32))

    def act(self, memory: Array, carry: Plan, obs: Array, key: PRNGKeyArray):
        action = jnp.argmax(carry.values[carry.time, obs]).astype(jnp.int32)
        return action, Plan(carry.values, jnp.minimum(carry.time + 1, self.horizon - 1)), {}


class Experience(eqx.Module):
    """Sufficient statistics of a process."""

    visits: Float[Array, "states actions states"]
    reward_sum: Float[Array, "states actions"]


class AbstractBelief(eqx.Module):
    """What to believe of the true process, by what was seen of it; episodes are planned for that."""

    @abc.abstractmethod
    def process(
        self, seen: Experience, prior_mean: float | Array, key: PRNGKeyArray
    ) -> tuple[Float[Array, "states actions states"], Float[Array, "states actions"]]:
        """Return the transition probabilities and the mean rewards of the process to plan for."""


class Drawn(AbstractBelief):
    """Believe in one process that is drawn from the posterior: PSRL."""

    def process(self, seen: Experience, prior_mean: float | Array, key: PRNGKeyArray):
        transition_key, reward_key = jax.random.split(key)
        transition = jax.random.dirichlet(transition_key, 1.0 + seen.visits)
        mean, deviation = _rewards(seen, prior_mean)
        return transition, mean + deviation * jax.random.normal(reward_key, mean.shape)


class Average(AbstractBelief):
    """Believe in the mean of the posterior. It explores by chance alone."""

    def process(self, seen: Experience, prior_mean: float | Array, key: PRNGKeyArray):
        counts = 1.0 + seen.visits
        return counts / jnp.sum(counts, axis=-1, keepdims=True), _rewards(seen, prior_mean)[0]


def _rewards(seen: Experience, prior_mean: float | Array) -> tuple[Array, Array]:
    """Mean and deviation of the posterior N((μ₀ + Σr) / (1 + n), 1 / (1 + n)) of mean rewards."""
    n = jnp.sum(seen.visits, axis=-1)
    return (prior_mean + seen.reward_sum) / (1.0 + n), 1.0 / jnp.sqrt(1.0 + n)


class TabularAgent(AbstractAgent):
    """An agent that plans every episode for the process that it believes in. It has the true prior:
    transitions Dirichlet(1), mean rewards N(`prior_mean`, 1) under unit noise. (The PSRL that was
    published with RL² had a prior mean of 0, where the truth is 1.)"""

    belief: AbstractBelief
    states: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)
    horizon: int = eqx.field(static=True)
    prior_mean: float = 1.0
    epsilon: float = 0.0
    """How often it takes any action instead of the planned one."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Experience:
        shape = (self.states, self.actions)
        return Experience(jnp.zeros((*shape, self.states)), jnp.zeros(shape))

    def begin(self, memory: Experience, key: PRNGKeyArray) -> tuple[Plan, Experience]:
        process = self.belief.process(memory, self.prior_mean, key)
        values = optimal_action_values(*process, self.horizon)
        return Plan(values, jnp.zeros((), jnp.int32)), memory

    def act(
        self, memory: Experience, carry: tuple[Plan, Experience], obs: Array, key: PRNGKeyArray
    ):
        plan, seen = carry
        explore_key, any_key = jax.random.split(key)
        planned = jnp.argmax(plan.values[plan.time, obs])
        explore = jax.random.bernoulli(explore_key, self.epsilon)
        action = jnp.where(explore, jax.random.randint(any_key, (), 0, self.actions), planned)
        later = jnp.minimum(plan.time + 1, self.horizon - 1)
        return action.astype(jnp.int32), (Plan(plan.values, later), seen), {}

    def observe(
        self, memory: Experience, carry: tuple[Plan, Experience], transition: Transition
    ) -> tuple[Plan, Experience]:
        plan, seen = carry
        where = (transition.obs, transition.action)
        visits = seen.visits.at[(*where, transition.next_obs)].add(1.0)
        return plan, Experience(visits, seen.reward_sum.at[where].add(transition.reward))

    def adapt(
        self,
        memory: Experience,
        carries: tuple[Plan, Experience],
        episodes: Transition | None,
        key: PRNGKeyArray,
    ) -> Experience:
        return jax.tree.map(lambda x: x[-1], carries[1])
