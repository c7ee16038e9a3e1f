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


class CausalMemory(eqx.Module):
    """What the agent believes, and the last sample that it saw."""

    weights: Float[Array, "networks nodes nodes"]
    log_belief: Float[Array, " networks"]
    """Unnormalized."""
    values: Float[Array, " visible"]
    chosen: Int[Array, ""]
    """The node that was set in it (0: the first visible one)."""
    time: Int[Array, ""]


class CausalAgent(AbstractAgent):
    """Sets the visible nodes one after another, weighs every network by the likelihood of all samples,
    and chooses the node whose value it expects to be the highest."""

    networks: Float[Array, "networks nodes nodes"] | None
    """Those that it may meet, each as likely; `None`: the one that its context reveals."""
    nodes: int = eqx.field(static=True)
    condition: Condition = eqx.field(static=True)
    associative: bool = eqx.field(static=True, default=False)
    """Whether it takes the quiz for the question of what values go together with −5."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    @classmethod
    def of(cls, family: CausalGraphs, *, associative: bool = False) -> "CausalAgent":
        """The agent that knows how networks are drawn for training."""
        return cls(all_networks(family), family.nodes, family.condition, associative)

    def start(self, context: Context, key: PRNGKeyArray) -> CausalMemory:
        weights = self.networks
        if weights is None:
            weights = task_in(context).reshape(1, self.nodes, self.nodes)
        zero = jnp.zeros((), jnp.int32)
        return CausalMemory(weights, jnp.zeros(len(weights)), jnp.zeros(self.nodes - 1), zero, zero)

    def begin(self, memory: CausalMemory, key: PRNGKeyArray) -> CausalMemory:
        return memory

    def act(self, memory: CausalMemory, carry: CausalMemory, obs: Array, key: PRNGKeyArray):
        visible = self.nodes - 1
        asked = jnp.argmax(obs[2 * visible :]).astype(jnp.int32)
        answers = jax.vmap(lambda w: self._answer(w, carry, asked))(carry.weights)
        expected = jax.nn.softmax(carry.log_belief) @ answers
        action = jnp.where(carry.time < visible, carry.time, jnp.argmax(expected))
        return action.astype(jnp.int32), carry, {}

    def observe(self, memory: CausalMemory, carry: CausalMemory, transition: Transition):
        values = transition.next_obs[: self.nodes - 1]
        seen = jax.vmap(lambda w: sample_log_density(w, values, transition.action, self.condition))(
            carry.weights
        )
        shown = carry.time < self.nodes - 1
        return CausalMemory(
            carry.weights,
            carry.log_belief + jnp.where(shown, seen, 0.0),
            values,
            transition.action,
            carry.time + 1,
        )

    def _answer(self, weights: Array, carry: CausalMemory, asked: Array) -> Array:
        """Expected values of the visible nodes in the quiz, if `weights` are the network's."""
        if self.associative:
            covariance = _effects(weights) @ _effects(weights)[asked + 1]
            return ASKED * covariance[1:] / covariance[asked + 1]
        noise = jnp.zeros(self.nodes)
        if self.condition == "counterfactual":
            noise = expected_noise(weights, carry.values, carry.chosen)
        return intervened(weights, noise, asked + 1, ASKED)[1:]


def sample_log_density(
    weights: Float[Array, "nodes nodes"],
    values: Float[Array, " visible"],
    chosen: Int[Array, ""],
    condition: Condition,
) -> Float[Array, ""]:
    """Log-density of a sample's visible `values` in the information phase, where `chosen` (0: the
    first visible node) was set to 5 or found to be 5, as the condition says; of the others given
    that one."""
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
        # What is sure to be 5 says nothing.
        covariance = covariance.at[node].set(0.0).at[:, node].set(0.0).at[node, node].set(1.0)
    return jax.scipy.stats.multivariate_normal.logpdf(values, mean[1:], covariance[1:, 1:])


def expected_noise(
    weights: Float[Array, "nodes nodes"], values: Float[Array, " visible"], chosen: Int[Array, ""]
) -> Float[Array, " nodes"]:
    """Posterior mean of every node's noise, the hidden one's too, after a sample in which `chosen`
    was set to 5: the smallest noise that explains it."""
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
    """What knowing the network (but not the noise) earns in the quiz, on average over the node that
    is set."""

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
    """Every network that the train split may draw, as often as it is likely. Raises `UserError` for
    5 nodes, of which there are too many."""
    if family.nodes > 4:
        raise UserError("causal-graphs is solved exactly up to 4 nodes; take --family.nodes 4")
    return jnp.asarray(_all_networks(family.nodes, family.shuffle))


def _effects(weights: Float[Array, "nodes nodes"]) -> Float[Array, "nodes nodes"]:
    """What a unit of the noise of j adds to i, (1 − W)⁻¹."""
    return jax.vmap(functools.partial(propagate, weights))(jnp.eye(len(weights))).T
