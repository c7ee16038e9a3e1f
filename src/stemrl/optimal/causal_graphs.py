"""Exact inference in `causal-graphs`: the baselines of Dasgupta et al. (2019, 1901.08162), which know
the network or infer it, and answer by cause and effect or by association.

All visible nodes are jointly Gaussian given the network, so the posterior over all networks that the
train split can draw is a sum over them, and so is the expected answer to the quiz.
"""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Context, Transition, UserError
from ..tasks.causal_graphs import (
    ASKED,
    NOISE,
    SHOWN,
    CausalGraphs,
    Condition,
    decode,
    held_out,
    intervened,
    propagate,
)
from .revealed import task_in


class CausalTables(eqx.Module):
    """What follows from a network, for each node that may be chosen in the information phase and, in
    the last two, for each that the quiz may ask about: a sample's density, and the expected answer,
    which is affine in the last sample."""

    mean: Float[Array, "networks chosen visible"]
    whiten: Float[Array, "networks chosen visible visible"]
    """The inverse of the covariance's Cholesky factor."""
    log_scale: Float[Array, "networks chosen"]
    """Log-density at the mean."""
    answer: Float[Array, "networks chosen asked visible"]
    """Expected values in the quiz after a sample of zeros."""
    gain: Float[Array, "networks chosen asked visible visible"]
    """What each value of the last sample adds to them: nothing but in counterfactual questions."""

    @classmethod
    def of(
        cls,
        networks: Float[Array, "networks nodes nodes"],
        condition: Condition,
        associative: bool,
    ) -> "CausalTables":
        """Return the tables of some networks."""
        visible = jnp.arange(networks.shape[1] - 1)

        def one(weights: Array, chosen: Array):
            mean, covariance = sample_moments(weights, chosen, condition)
            factor = jnp.linalg.cholesky(covariance)
            whiten = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(visible)), lower=True)
            scale = jnp.sum(jnp.log(jnp.diag(whiten))) - 0.5 * len(visible) * jnp.log(2 * jnp.pi)

            def answer(values: Array, asked: Array) -> Array:
                return expected_answer(weights, values, chosen, asked, condition, associative)

            zeros = jnp.zeros(len(visible))
            answers = jax.vmap(lambda asked: answer(zeros, asked))(visible)
            gains = jax.vmap(lambda asked: jax.jacfwd(answer)(zeros, asked))(visible)
            return cls(mean, whiten, scale, answers, gains)

        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(networks, visible)

    def log_density(self, values: Array, chosen: Array) -> Float[Array, " networks"]:
        """Return the log-density of a sample's visible values, by every network."""
        off = values - self.mean[:, chosen]
        white = jnp.einsum("nij,nj->ni", self.whiten[:, chosen], off)
        return self.log_scale[:, chosen] - 0.5 * jnp.sum(white**2, axis=1)

    def expected(self, values: Array, chosen: Array, asked: Array) -> Array:
        """Return the expected values in the quiz by every network, `[networks, visible]`."""
        gain = self.gain[:, chosen, asked] @ values
        return self.answer[:, chosen, asked] + gain


class CausalMemory(eqx.Module):
    """What the agent believes, and the last sample that it saw."""

    tables: CausalTables | None
    """Of the network that was revealed."""
    log_belief: Float[Array, " networks"]
    """Unnormalized."""
    values: Float[Array, " visible"]
    chosen: Int[Array, ""]
    """The node that was set in it (0: the first visible one)."""
    time: Int[Array, ""]


class CausalAgent(AbstractAgent):
    """An agent that sets the visible nodes one after another, weighs every network by the
    likelihood of all samples, and chooses the node whose value it expects to be the highest."""

    tables: CausalTables | None
    """Tables of the networks that it may meet, each as likely as the others; `None` if it is told
    the network."""
    nodes: int = eqx.field(static=True)
    condition: Condition = eqx.field(static=True)
    associative: bool = eqx.field(static=True, default=False)
    """Whether it answers another question in the quiz: which values go together with −5."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    @classmethod
    def of(
        cls, family: CausalGraphs, *, known: bool = False, associative: bool = False
    ) -> "CausalAgent":
        """Return the agent that knows how networks are drawn for training; with `known`, the one
        that is told its network."""
        condition = family.condition
        tables = None
        if not known:
            make = jax.jit(CausalTables.of, static_argnums=(1, 2))
            tables = make(all_networks(family), condition, associative)
        return cls(tables=tables, nodes=family.nodes, condition=condition, associative=associative)

    def start(self, context: Context, key: PRNGKeyArray) -> CausalMemory:
        told = None
        if self.tables is None:
            weights = task_in(context).reshape(1, self.nodes, self.nodes)
            told = CausalTables.of(weights, self.condition, self.associative)
        networks = len(self._tables(told).log_scale)
        zero = jnp.zeros((), jnp.int32)
        return CausalMemory(told, jnp.zeros(networks), jnp.zeros(self.nodes - 1), zero, zero)

    def begin(self, memory: CausalMemory, key: PRNGKeyArray) -> CausalMemory:
        return memory

    def act(self, memory: CausalMemory, carry: CausalMemory, obs: Array, key: PRNGKeyArray):
        visible = self.nodes - 1
        asked = jnp.argmax(obs[2 * visible :])
        answers = self._tables(carry.tables).expected(carry.values, carry.chosen, asked)
        expected = jax.nn.softmax(carry.log_belief) @ answers
        action = jnp.where(carry.time < visible, carry.time, jnp.argmax(expected))
        return action.astype(jnp.int32), carry, {}

    def observe(self, memory: CausalMemory, carry: CausalMemory, transition: Transition):
        values, chosen = transition.next_obs[: self.nodes - 1], transition.action
        seen = self._tables(carry.tables).log_density(values, chosen)
        shown = carry.time < self.nodes - 1  # the quiz shows nothing
        belief = carry.log_belief + jnp.where(shown, seen, 0.0)
        return CausalMemory(carry.tables, belief, values, chosen, carry.time + 1)

    def _tables(self, told: CausalTables | None) -> CausalTables:
        tables = told if self.tables is None else self.tables
        assert tables is not None
        return tables


def sample_moments(
    weights: Float[Array, "nodes nodes"], chosen: Int[Array, ""], condition: Condition
) -> tuple[Float[Array, " visible"], Float[Array, "visible visible"]]:
    """Return mean and covariance of a sample's visible values in the information phase, where
    `chosen` (0: the first visible node) was set to 5 or found to be 5, as the condition says. What
    is sure to be 5 is given a variance of 1, so that it says the same of every network."""
    node = chosen + 1
    mean = jnp.zeros(len(weights))
    if condition in ("interventional", "counterfactual"):
        effects = _effects(weights.at[node].set(0.0))
        mean = SHOWN * effects[:, node]
        effects = effects.at[:, node].set(0.0)
        covariance = NOISE**2 * effects @ effects.T
    else:
        effects = _effects(weights)
        covariance = NOISE**2 * effects @ effects.T
        if condition != "observational":
            told = covariance[:, node] / covariance[node, node]
            mean = SHOWN * told
            covariance = covariance - jnp.outer(told, covariance[node])
    if condition != "observational":
        covariance = covariance.at[node].set(0.0).at[:, node].set(0.0).at[node, node].set(1.0)
    return mean[1:], covariance[1:, 1:]


def expected_answer(
    weights: Float[Array, "nodes nodes"],
    values: Float[Array, " visible"],
    chosen: Int[Array, ""],
    asked: Int[Array, ""],
    condition: Condition,
    associative: bool = False,
) -> Float[Array, " visible"]:
    """Return the expected visible values in the quiz about `asked`, after a last sample of these
    `values`: where that node is set to −5, or (`associative`) where it is found to be −5."""
    if associative:
        covariance = _effects(weights) @ _effects(weights)[asked + 1]
        return ASKED * covariance[1:] / covariance[asked + 1]
    noise = jnp.zeros(len(weights))
    if condition == "counterfactual":
        noise = expected_noise(weights, values, chosen)
    return intervened(weights, noise, asked + 1, ASKED)[1:]


def expected_noise(
    weights: Float[Array, "nodes nodes"], values: Float[Array, " visible"], chosen: Int[Array, ""]
) -> Float[Array, " nodes"]:
    """Return the posterior mean of every node's noise, the hidden one's too, after a sample in
    which `chosen` was set to 5: the smallest noise that explains it."""
    node = chosen + 1
    effects = _effects(weights.at[node].set(0.0))
    unexplained = values - SHOWN * effects[1:, node]
    effects = effects.at[:, node].set(0.0)
    unexplained = unexplained.at[chosen].set(0.0)
    gram = (effects @ effects.T)[1:, 1:].at[chosen, chosen].add(1.0)
    return effects[1:].T @ jnp.linalg.solve(gram, unexplained)


def cause_effect_values(
    weights: Float[np.ndarray, "tasks nodes nodes"],
) -> Float[np.ndarray, " tasks"]:
    """Return what an agent earns in the quiz that knows the network, but not the noise, on average
    over the node that is set: `[tasks]`."""

    @jax.jit
    @jax.vmap
    def best(weights):
        nodes = weights.shape[0]
        answers = jax.vmap(lambda node: intervened(weights, jnp.zeros(nodes), node, ASKED))(
            jnp.arange(1, nodes)
        )
        return jnp.mean(jnp.max(answers[:, 1:], axis=1))

    return np.asarray(best(jnp.asarray(weights)), float)


@functools.cache
def _all_networks(nodes: int, shuffle: bool) -> Float[np.ndarray, "networks nodes nodes"]:
    codes = np.flatnonzero(~held_out(nodes))
    weights = np.asarray(jax.vmap(lambda code: decode(code, nodes))(jnp.asarray(codes, jnp.int32)))
    if not shuffle:
        return weights
    orders = [[0, *order] for order in itertools.permutations(range(1, nodes))]
    return np.concatenate([weights[:, order][:, :, order] for order in orders])


def all_networks(family: CausalGraphs) -> Float[Array, "networks nodes nodes"]:
    """Return every network that the train split may draw, as often as it is likely. Raises
    `UserError` for 5 nodes, of which there are too many."""
    if family.nodes > 4:
        raise UserError("causal-graphs is solved exactly up to 4 nodes; take --family.nodes 4")
    return jnp.asarray(_all_networks(family.nodes, family.shuffle))


def _effects(weights: Float[Array, "nodes nodes"]) -> Float[Array, "nodes nodes"]:
    """What a unit of the noise of j adds to i, (1 − W)⁻¹."""
    return jax.vmap(functools.partial(propagate, weights))(jnp.eye(len(weights))).T
