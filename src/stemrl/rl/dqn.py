"""Deep Q-learning (Mnih et al. 2015), for discrete actions.

The problem: learn the value of each action from old experience. The idea: a network Q(s, a) is
fitted to what it would be worth by a slow copy of itself, Q̄, from the next state on:

    y = r + γ maxₐ′ Q̄(s′, a′)            (0 for what follows a termination)
    L = ½ E[(Q(s, a) − y)²]

Q̄ stands still while an update's gradient steps are taken, and then moves towards Q. Double
Q-learning (van Hasselt et al. 2016, 1509.06461) lets Q choose the action that Q̄ values.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
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
    State,
    UserError,
)
from .distributions import refuse_several_choices
from .fitting import gradient_steps
from .normalize import Normalizer
from .off_policy import AbstractOffPolicy, OffPolicyState, ValueRange, moved
from .policy import Network, perceive
from .replay import Row
from .tuning import Tune, require_only_the_head_is_new, require_tune, tuned


class DQNLearned(eqx.Module):
    """The networks, and the state of the optimizer that moves them."""

    network: Network
    """Q(s, ·)."""
    target: Network
    """Its slow copy, Q̄."""
    optimizer: optax.OptState


class DQN(AbstractOffPolicy):
    """Deep Q-learning with packed lanes, one network for all tasks; discrete actions only."""

    name: ClassVar[str] = "dqn"

    exploration: float = 0.1
    """Probability of a uniformly random action while collecting, after the warm-up."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    target_rate: float = 0.2
    """How far the target network moves towards the network after each update."""
    double: bool = eqx.field(static=True, default=True)
    """Whether the network chooses the next action whose value the target network gives."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns: all, the head (each network's last layer) alone, or gradual, the
    head at first and one more layer below it every `updates_per_layer` updates; after --start."""
    updates_per_layer: int = eqx.field(static=True, default=20)
    """With gradual tuning: updates that learn until the next layer learns too."""

    def __check_init__(self):
        require_tune(self.tune, self.updates_per_layer)

    def inherit(
        self, problem: Problem, state: OffPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OffPolicyState, list[str]]:
        state, left = super().inherit(problem, state, donor, found)
        require_only_the_head_is_new(state.learned.network, left, self.tune, "network")
        return state, left

    def begin(
        self, observations: Space, actions: Space, context_size: int, key: PRNGKeyArray
    ) -> DQNLearned:
        if not isinstance(actions, Discrete):
            refuse_several_choices(f"'{self.name}'", actions)
            raise UserError(
                f"'{self.name}' chooses among discrete actions, and these are continuous;"
                " 'sac' and 'td3' learn them"
            )
        network = Network(
            observations,
            context_size,
            actions.n,
            self.hidden,
            "relu",
            final_scale=0.01,
            key=key,
        )
        state = optax.scale_by_adam().init(network)  # pyright: ignore[reportArgumentType]
        return DQNLearned(network, network, state)

    def fit(
        self,
        learned: DQNLearned,
        batches: Row,
        key: PRNGKeyArray,
        value_range: ValueRange | None = None,
    ) -> tuple[DQNLearned, dict[str, Array]]:
        # Batch by batch, for the layers of all of them together would not fit the cache.
        next_values = lax.map(lambda b: learned.target(b.next_obs, b.context), batches)

        def gradient(network: Network, slow: None, drawn: tuple[Row, Array]):
            rows, next_values = drawn
            target = self.targets(network, rows, next_values, value_range)
            loss, direction = jax.value_and_grad(
                lambda network: q_loss(network(rows.obs, rows.context), rows.action, target)
            )(network)
            return direction, {"loss/value": loss, "value": jnp.mean(target)}

        steps = optax.tree_utils.tree_get(learned.optimizer, "count")
        unfrozen = steps // (self._gradient_steps * self.updates_per_layer)
        descent = gradient_steps(
            gradient,
            learned.network,
            learned.optimizer,
            (batches, next_values),
            learning_rate=self.learning_rate,
            factors=tuned(learned.network, self.tune, unfrozen),
        )
        target = moved(learned.target, descent.parameters, self.target_rate)
        learned = DQNLearned(descent.parameters, target, descent.optimizer_state)
        return learned, jax.tree.map(jnp.mean, descent.metrics)

    def targets(
        self,
        network: Network,
        rows: Row,
        next_values: Float[Array, "batch actions"],
        value_range: ValueRange | None,
    ) -> Float[Array, " batch"]:
        """Return the target y of each row of a batch. `next_values` are Q̄ of the next
        observations, `[batch, actions]`."""
        chosen_by = network(rows.next_obs, rows.context) if self.double else None
        target = bellman_targets(
            rows.reward, rows.carries_on, next_values, self.discount, chosen_by
        )
        return target if value_range is None else jnp.clip(target, *value_range)

    def policy(
        self,
        learned: DQNLearned,
        observations: Space,
        normalizer: Normalizer | None,
        exploring: bool = False,
    ) -> "QAgent":
        return QAgent(
            network=learned.network,
            exploration=jnp.zeros(()),
            space=observations,
            normalizer=normalizer,
        )


def bellman_targets(
    reward: Float[Array, "..."],
    carries_on: Float[Array, "..."],
    next_values: Float[Array, "... actions"],
    discount: float | Array,
    chosen_by: Float[Array, "... actions"] | None = None,
) -> Float[Array, "..."]:
    """Return y = r + γ c Q̄(s′, a′).

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
    """Return ½ E[(Q(s, a) − y)²]."""
    return 0.5 * jnp.mean((value_of(values, action) - target) ** 2)


def value_of(values: Float[Array, "... actions"], action: Int[Array, "..."]) -> Float[Array, "..."]:
    """Return Q(s, a) of Q(s, ·)."""
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
    normalizer: Normalizer | None = None
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        values = self.network(perceive(self.space, self.normalizer, obs), memory)
        best = jnp.argmax(values, axis=-1).astype(jnp.int32)
        if self.greedy:
            return best, carry, {}
        explore_key, action_key = jax.random.split(key)
        anything = jax.random.randint(action_key, best.shape, 0, values.shape[-1])
        explore = jax.random.bernoulli(explore_key, self.exploration)
        return jnp.where(explore, anything, best), carry, {}
