"""Deep Q-learning (Mnih et al. 2015), as pieces: for methods with discrete actions and a replay.

The problem: learn the value of each action from old experience. The idea: a network Q(s, a) is
fitted to what it would be worth by a slow copy of itself, Q̄, from the next state on:

    y = r + γ maxₐ′ Q̄(s′, a′)            (0 for what follows a termination)
    L = ½ E[(Q(s, a) − y)²]

Double Q-learning (van Hasselt et al. 2016, 1509.06461) lets Q choose the action that Q̄ values.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Carry,
    Context,
    Discrete,
    Info,
    Memory,
    Obs,
    Problem,
    Space,
    UserError,
)
from .policy import Network, context_size, perceive


def q_network(
    learner: AbstractLearner, problem: Problem, hidden: tuple[int, ...], *, key: PRNGKeyArray
) -> Network:
    """A fresh network (ReLU) from what is observed and revealed to a value for each action. Raises
    `UserError` in the name of `learner` where actions are continuous."""
    actions = problem.source.action_space
    if not isinstance(actions, Discrete):
        raise UserError(
            f"'{learner.name}' chooses among discrete actions;"
            f" those of '{problem.source.name}' are continuous"
        )
    return Network(
        problem.source.observation_space,
        context_size(problem),
        actions.n,
        hidden,
        "relu",
        final_scale=0.01,
        key=key,
    )


def bellman_targets(
    reward: Float[Array, "..."],
    carries_on: Float[Array, "..."],
    next_values: Float[Array, "... actions"],
    discount: float | Array,
    chosen_by: Float[Array, "... actions"] | None = None,
) -> Float[Array, "..."]:
    """y = r + γ c Q̄(s′, a′).

    **Arguments:**

    - `carries_on`: c, 0 after a termination, else 1.
    - `next_values`: Q̄(s′, ·), of the slow copy.
    - `chosen_by`: the values whose best action is a′: those of Q for double Q-learning, Q̄'s own
      if none.
    """
    if chosen_by is None:
        best = jnp.max(next_values, axis=-1)
    else:
        best = value_of(next_values, jnp.argmax(chosen_by, axis=-1))
    return reward + discount * carries_on * best


def q_loss(
    values: Float[Array, "... actions"], action: Int[Array, "..."], target: Float[Array, "..."]
) -> Float[Array, ""]:
    """½ E[(Q(s, a) − y)²]."""
    return 0.5 * jnp.mean((value_of(values, action) - target) ** 2)


def value_of(values: Float[Array, "... actions"], action: Int[Array, "..."]) -> Float[Array, "..."]:
    """Q(s, a) of Q(s, ·)."""
    # A sum, for the gradient of an indexing is a slow scatter.
    return jnp.sum(values * jax.nn.one_hot(action, values.shape[-1]), axis=-1)


class QAgent(AbstractAgent):
    """Takes the action of the highest value or, with probability `exploration`, any.

    The memory is the context (or `None`), the carry `()`.
    """

    network: Network
    exploration: Float[Array, ""]
    space: Space = eqx.field(static=True)
    """The observation space."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        values = self.network(perceive(self.space, None, obs), memory)
        best = jnp.argmax(values, axis=-1)
        if self.greedy:
            return best, carry, {}
        explore_key, action_key = jax.random.split(key)
        anything = jax.random.randint(action_key, best.shape, 0, values.shape[-1])
        explore = jax.random.bernoulli(explore_key, self.exploration)
        return jnp.where(explore, anything, best), carry, {}
