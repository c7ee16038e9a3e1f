"""The exact Bayes-optimal agents of `dependent-bandit`.

Where one arm pays with probability p and the other with 1 − p, a success of the one says what a
failure of the other does: every pull tells as much, whichever arm it is, so the best agent always
pulls the arm that more pulls have spoken for. With the informative arm it pulls that one first.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.stats import binom

from ..core import AbstractAgent, Context, Transition
from ..tasks.dependent_bandit import TARGETS


class PairedArms(AbstractAgent):
    """An agent that pulls the arm for which more pulls have spoken. This is the optimum for two
    arms that pay with p and 1 − p, if both are as likely to be the better one. Ties are broken at
    random."""

    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def begin(self, memory: Array, key: PRNGKeyArray) -> Array:
        return memory

    def act(self, memory: Array, carry: Array, obs: Array, key: PRNGKeyArray):
        toss = jax.random.randint(key, (), 0, 2)
        arm = jnp.where(carry == 0, toss, (carry < 0).astype(jnp.int32))
        return arm, carry, {}

    def observe(self, memory: Array, carry: Array, transition: Transition) -> Array:
        for_first = (transition.action == 0) == (transition.reward > 0.5)
        return carry + jnp.where(for_first, 1, -1)

    def adapt(self, memory: Array, carries: Array, episodes: Transition | None, key: PRNGKeyArray):
        return carries[-1]


class Informed(AbstractAgent):
    """An agent that pulls the informative arm once, and then the arm that it named."""

    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    def start(self, context: Context, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.full((), TARGETS, jnp.int32)

    def begin(self, memory: Array, key: PRNGKeyArray) -> Array:
        return memory

    def act(self, memory: Array, carry: Array, obs: Array, key: PRNGKeyArray):
        return carry, carry, {}

    def observe(self, memory: Array, carry: Array, transition: Transition) -> Array:
        named = jnp.round(10 * transition.reward).astype(jnp.int32) - 1
        return jnp.where(transition.action == TARGETS, named, carry)

    def adapt(self, memory: Array, carries: Array, episodes: Transition | None, key: PRNGKeyArray):
        return carries[-1]


def paired_returns(
    probabilities: Float[np.ndarray, "tasks 2"], pulls: int
) -> Float[np.ndarray, "tasks pulls"]:
    """Return the expected reward of each pull of `PairedArms`. Of t pulls, a number that is
    binomial with the better arm's probability speaks for that arm, whichever arms were pulled."""
    best = np.asarray(probabilities, float).max(axis=1, keepdims=True)
    before = np.arange(pulls)
    ahead = binom.sf(before // 2, before, best)  # more than half
    tied = np.where(before % 2 == 0, binom.pmf(before // 2, before, best), 0.0)
    right = ahead + 0.5 * tied
    return right * best + (1.0 - right) * (1.0 - best)


def informed_returns(
    targets: Int[np.ndarray, " tasks"], pulls: int
) -> Float[np.ndarray, "tasks pulls"]:
    """Return what `Informed` earns with each pull."""
    returns = np.full((len(targets), pulls), 5.0)
    returns[:, 0] = 0.1 * (np.asarray(targets) + 1)
    return returns
