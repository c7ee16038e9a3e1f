"""Causal graphs to be learned from a few samples and then asked about (Dasgupta et al. 2019, 1901.08162).

A task is a linear-Gaussian network of N nodes, Xᵢ = Σⱼ wᵢⱼ Xⱼ + εᵢ with weights in {−1, 0, 1} and
εᵢ ∼ N(0, 0.1²), whose first node, a root, is never seen and confounds the others. An episode is an
information phase of N − 1 steps, each of which shows the visible nodes of one sample, and a quiz: one
visible node is set to −5, and the agent chooses a node and is paid its value. Which node is set is
shown before the choice; the sample is not.

What the information phase shows is the condition:

- `observational`: samples of the network as it is;
- `conditional`: samples in which the node that the agent chose happens to be 5;
- `interventional`: samples in which that node is *set* to 5, so that nothing above it is changed;
- `counterfactual`: the same, and the noise of the last sample returns in the quiz: "what if, in this
  very sample, the node had been −5 instead?";
- `associative`: as `conditional`, and in training the quiz conditions too instead of setting, so
  that what is learned is association, which is then tested on causes.
"""

import functools
import itertools
from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractFamily, Box, Discrete, Params, Split, UserError

NOISE = 0.1
"""Standard deviation of every node's own noise."""
SHOWN = 5.0
"""To what a chosen node is set in the information phase."""
ASKED = -5.0
"""To what the quiz sets its node."""
HELD_OUT = 0.05
"""Share of the networks that are the test split's (in the paper, those of 12 kinds)."""

Condition = Literal[
    "observational", "conditional", "interventional", "counterfactual", "associative"
]


class CausalState(eqx.Module):
    """How far the episode is."""

    time: Int[Array, ""]
    """Samples shown."""
    asked: Int[Array, ""]
    """The visible node that the quiz sets, drawn at the start."""
    noise: Float[Array, " nodes"]
    """Of the last sample shown."""


class CausalEnv(eqx.Module):
    """The network; params `{"weights": [nodes, nodes], "associative": bool}`, wᵢⱼ from j to i; whether
    the quiz conditions instead of setting. The actions are the visible nodes."""

    nodes: int = eqx.field(static=True)
    condition: Condition = eqx.field(static=True)

    @property
    def visible(self) -> int:
        """All but the first node."""
        return self.nodes - 1

    def reset(self, key: PRNGKeyArray, params: Params):
        """Begin with nothing shown, and draw the node that the quiz will set."""
        asked = jax.random.randint(key, (), 0, self.visible)
        zero = jnp.zeros((), jnp.int32)
        state = CausalState(zero, asked, jnp.zeros(self.nodes))
        return self._see(state, jnp.zeros(self.visible), jnp.zeros(self.visible)), state

    def step(self, key: PRNGKeyArray, state: CausalState, action: Array, params: Params):
        """Show a sample, or, in the last step, pay the chosen node's value in the quiz, which ends
        the episode. The event `success` says whether that value was the highest, `quiz` whether this
        was the last step."""
        weights, node = params["weights"], action + 1
        noise = NOISE * jax.random.normal(key, (self.nodes,))
        quiz = state.time == self.visible
        if self.condition == "counterfactual":
            noise = jnp.where(quiz, state.noise, noise)
        if self.condition == "observational":
            values, chosen = propagate(weights, noise), jnp.zeros(self.visible)
        else:
            given = conditioned if self.condition in ("conditional", "associative") else intervened
            values = given(weights, noise, node, SHOWN)
            chosen = jax.nn.one_hot(action, self.visible)
        answer = jnp.where(
            params["associative"],
            conditioned(weights, noise, state.asked + 1, ASKED),
            intervened(weights, noise, state.asked + 1, ASKED),
        )[1:]
        events = {
            "success": quiz & (answer[action] >= jnp.max(answer)),
            "quiz": quiz,
        }
        after = CausalState(state.time + 1, state.asked, noise)
        shown = jnp.where(quiz, 0.0, 1.0)
        obs = self._see(after, shown * values[1:], shown * chosen)
        reward = jnp.where(quiz, answer[action], 0.0)
        return obs, after, reward, quiz, jnp.asarray(False), events

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the visible nodes' values in the last sample, which of them was set
        in it (one-hot; none in the observational condition), and which one the quiz sets (one-hot,
        once the quiz is next): `[3 · visible]`."""
        return Box((3 * self.visible,))

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the visible nodes."""
        return Discrete(self.visible)

    def _see(self, state: CausalState, values: Array, chosen: Array) -> Array:
        asked = jax.nn.one_hot(state.asked, self.visible)
        asked = jnp.where(state.time == self.visible, asked, 0.0)
        return jnp.concatenate([values, chosen, asked])


class CausalGraphs(AbstractFamily):
    """Causal networks to learn of by looking or by setting nodes, then to be asked about (Dasgupta
    et al. 2019, 1901.08162). The test split's structures are never met in training."""

    name: ClassVar[str] = "causal-graphs"

    nodes: int = eqx.field(static=True, default=5)
    """Nodes of a network, the hidden one included: 3, 4 or 5."""
    condition: Condition = eqx.field(static=True, default="interventional")
    """What the information phase shows: observational, conditional, interventional, counterfactual or
    associative."""
    shuffle: bool = eqx.field(static=True, default=True)
    """Whether the visible nodes are named in random order; without, a node's causes come before it,
    which tells much."""

    def __check_init__(self):
        if self.nodes not in (3, 4, 5):
            raise UserError(f"causal-graphs needs 3, 4 or 5 nodes, not nodes={self.nodes}")
        if self.condition not in get_args(Condition):
            known = ", ".join(get_args(Condition))
            raise UserError(f"condition must be one of {known}, not {self.condition!r}")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A sample for each visible node, and the quiz."""
        return self.nodes

    @property
    def trial_episodes(self) -> int:
        """1: a network is met once."""
        return 1

    @property
    def env(self) -> CausalEnv:
        return CausalEnv(self.nodes, self.condition)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a network of the split, each as likely: `test` has those of some kinds, `train` the
        others (see `held_out`). Raises `UserError` for `ood`."""
        if split == "ood":
            raise UserError("causal-graphs has no ood split; the test split's graphs are held out")
        which_key, order_key = jax.random.split(key)
        held = held_out(self.nodes)
        codes = jnp.asarray(np.flatnonzero(held == (split == "test")), jnp.int32)
        code = codes[jax.random.randint(which_key, (), 0, len(codes))]
        weights = decode(code, self.nodes)
        if self.shuffle:
            order = 1 + jax.random.permutation(order_key, self.nodes - 1)
            order = jnp.concatenate([jnp.zeros(1, order.dtype), order])
            weights = weights[order][:, order]
        associative = self.condition == "associative" and split == "train"
        return {"weights": weights, "associative": jnp.asarray(associative)}

    def context(self, params: Params) -> Array:
        """Return the weights, row by row, `[nodes · nodes]`."""
        return params["weights"].ravel()


def propagate(
    weights: Float[Array, "nodes nodes"], noise: Float[Array, " nodes"]
) -> Float[Array, " nodes"]:
    """Return the nodes' values, x = W x + ε."""
    values = noise
    for _ in range(len(noise) - 1):  # no path is longer
        values = noise + weights @ values
    return values


def intervened(
    weights: Float[Array, "nodes nodes"],
    noise: Float[Array, " nodes"],
    node: Int[Array, ""],
    value: float,
) -> Float[Array, " nodes"]:
    """Return the nodes' values where `node` is set to `value`: what points to it is cut."""
    return propagate(weights.at[node].set(0.0), noise.at[node].set(value))


def conditioned(
    weights: Float[Array, "nodes nodes"],
    noise: Float[Array, " nodes"],
    node: Int[Array, ""],
    value: float,
) -> Float[Array, " nodes"]:
    """Return a sample of the nodes' values given that `node` happens to be `value`, made of the
    free one with this `noise`: x + Σ·ⱼ / Σⱼⱼ (value − xⱼ), with Σ = A Aᵀ and x = A ε."""
    effects = jax.vmap(functools.partial(propagate, weights))(jnp.eye(len(noise))).T
    covariance = effects @ effects[node]
    free = propagate(weights, noise)
    return free + covariance / covariance[node] * (value - free[node])


def decode(code: Int[Array, ""], nodes: int) -> Float[Array, "nodes nodes"]:
    """Return the weights of network number `code`, 0 to 3^(n(n−1)/2) − 1: digits of base 3 below
    the diagonal, so that causes come first."""
    rows, columns = np.tril_indices(nodes, -1)
    digits = code // jnp.asarray(3 ** np.arange(len(rows)), jnp.int32) % 3
    return jnp.zeros((nodes, nodes)).at[rows, columns].set(digits - 1.0)


@functools.cache
def held_out(nodes: int) -> Bool[np.ndarray, " networks"]:
    """Return which networks are the test split's: all of some kinds, drawn once, where two are of a
    kind if they differ in nothing but the nodes' names."""
    rows, columns = np.tril_indices(nodes, -1)
    count = 3 ** len(rows)
    weights = np.zeros((count, nodes, nodes))
    weights[:, rows, columns] = np.arange(count)[:, None] // 3 ** np.arange(len(rows)) % 3 - 1
    # A kind is the largest number, digits of base 3, that one of its networks' matrices spells.
    places = 3.0 ** np.arange(nodes * nodes).reshape(nodes, nodes)
    orders = [list(order) for order in itertools.permutations(range(nodes))]
    renamed = np.stack([places[order][:, order].ravel() for order in orders], 1)
    kind = (weights.reshape(count, -1) @ renamed).max(1)
    kinds, sizes = np.unique(kind, return_counts=True)
    order = np.random.default_rng(0).permutation(len(kinds))
    few = np.cumsum(sizes[order]) <= max(3, HELD_OUT * count)
    return np.isin(kind, kinds[order[few]])
