"""SNAIL, a simple neural attentive meta-learner (Mishra et al. 1707.03141).

The problem: from a few examples of an unknown function, predict the rest of it. The idea: learning from
examples is a sequence problem, (x₁, y₁), …, (x_K, y_K), (x, ?). What solves it must bring together all
of the past and find single things in it. Causal convolutions with growing dilation do the first,
causal attention the second, and the two take turns, each adding its output to the features that it was
given:

    TC:         for d = 1, 2, 4, … up to the length:  z ← [z, tanh(conv_d z) ⊙ σ(conv_d z)]
    attention:  z ← [z, softmax(q(z) k(z)ᵀ / √size, over the past) v(z)]

and a last layer predicts at the position whose label is missing. At no position does anything depend on
a later one.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import Examples, SupervisedProblem
from ...networks import Linear
from .learner import AbstractReader, Features, pairs


class DilatedBlock(eqx.Module):
    """A causal convolution of two positions, `dilation` apart, gated; its output is added to the
    features."""

    now: Linear
    before: Linear
    dilation: int = eqx.field(static=True)

    def __init__(self, inputs: int, filters: int, dilation: int, *, key: PRNGKeyArray):
        """**Arguments:** features that come in and that are added."""
        one, other = jax.random.split(key)
        self.now = Linear(inputs, 2 * filters, key=one)
        self.before = Linear(inputs, 2 * filters, key=other)
        self.dilation = dilation

    def __call__(self, z: Float[Array, "time inputs"]) -> Float[Array, "time more"]:
        return self._gated(z, jnp.pad(z, ((self.dilation, 0), (0, 0)))[: len(z)])

    def ends(
        self, past: Float[Array, "time inputs"], z: Float[Array, "n inputs"]
    ) -> Float[Array, "n more"]:
        """Return the output at the last position of `n` sequences that have all but that in common."""
        known = self.dilation <= len(past)
        before = past[len(past) - self.dilation] if known else jnp.zeros(z.shape[-1])
        return self._gated(z, jnp.broadcast_to(before, z.shape))

    def _gated(self, z: Array, before: Array) -> Array:
        value, gate = jnp.split(self.now(z) + self.before(before), 2, axis=-1)
        return jnp.concatenate([z, jnp.tanh(value) * jax.nn.sigmoid(gate)], axis=-1)


class CausalAttention(eqx.Module):
    """One head of attention over the past and the present; what it finds is added to the features."""

    query: Linear
    key: Linear
    value: Linear

    def __init__(self, inputs: int, size: int, values: int, *, key: PRNGKeyArray):
        """**Arguments:** features that come in, entries of a key, features that are added."""
        key, value = jax.random.split(key)
        # The same to begin with, so that like finds like before anything is learned. With two random
        # maps that takes thousands of updates in which nothing else is learned either.
        self.query = self.key = Linear(inputs, size, key=key)
        self.value = Linear(inputs, values, key=value)

    def __call__(self, z: Float[Array, "time inputs"]) -> Float[Array, "time more"]:
        query, key = self.query(z), self.key(z)
        fit = query @ key.T / math.sqrt(query.shape[-1])
        past = jnp.tril(jnp.ones(fit.shape, bool))
        found = jax.nn.softmax(jnp.where(past, fit, -jnp.inf), axis=-1) @ self.value(z)
        return jnp.concatenate([z, found], axis=-1)

    def ends(
        self, past: Float[Array, "time inputs"], z: Float[Array, "n inputs"]
    ) -> Float[Array, "n more"]:
        """Return the output at the last position of `n` sequences that have all but that in common."""
        query = self.query(z)
        own = jnp.sum(query * self.key(z), axis=-1, keepdims=True)
        fit = jnp.concatenate([query @ self.key(past).T, own], axis=-1) / math.sqrt(query.shape[-1])
        weight = jax.nn.softmax(fit, axis=-1)
        found = weight[:, :-1] @ self.value(past) + weight[:, -1:] * self.value(z)
        return jnp.concatenate([z, found], axis=-1)


class Snail(eqx.Module):
    """φ of this method: features of every position of a sequence, and the last layer."""

    features: Features
    embed: Linear
    blocks: tuple[DilatedBlock | CausalAttention, ...]
    output: Linear

    def __call__(self, pairs: Float[Array, "time both"]) -> Float[Array, "time outputs"]:
        z = self.embed(pairs)
        for block in self.blocks:
            z = block(z)
        return self.output(z)

    def ends(
        self, past: Float[Array, "time both"], asked: Float[Array, "n both"]
    ) -> Float[Array, "n outputs"]:
        """Return the output at the last position of `n` sequences that have all but that in common:
        since nothing in the past depends on it, that is gone through once."""
        z, last = self.embed(past), self.embed(asked)
        for block in self.blocks:
            z, last = block(z), block.ends(z, last)
        return self.output(last)


class Continued(eqx.Module):
    """A predictor: every x is the end of a sequence of its own."""

    network: Snail
    past: Float[Array, "time both"]
    outputs: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        x = self.network.features(x)
        unknown = jnp.zeros((len(x), self.outputs))
        return self.network.ends(self.past, jnp.concatenate([x, unknown], axis=-1))


class SNAILSupervised(AbstractReader):
    """Causal convolutions and causal attention over the training set and an x."""

    name: ClassVar[str] = "snail-supervised"

    embedding: int = eqx.field(static=True, default=32)
    """Features of a pair, to begin with."""
    filters: int = eqx.field(static=True, default=32)
    """Features that each convolution adds."""
    key_size: int = eqx.field(static=True, default=16)
    """Entries of a key."""
    value_size: int = eqx.field(static=True, default=32)
    """Features that each attention adds."""
    rounds: int = eqx.field(static=True, default=2)
    """Times that convolutions and attention take turns, after a first attention."""

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Snail:
        family = problem.source
        length = self.shots * family.examples_per_shot + 1
        dilations = [2**i for i in range(max(1, math.ceil(math.log2(length))))]
        count = 4 + self.rounds * (len(dilations) + 1)
        keys = iter(jax.random.split(key, count))
        features = Features(family.inputs, self.features, key=next(keys))
        embed = Linear(features.size + family.outputs, self.embedding, key=next(keys))
        wide, blocks = self.embedding, []

        def attend() -> None:
            nonlocal wide
            blocks.append(CausalAttention(wide, self.key_size, self.value_size, key=next(keys)))
            wide += self.value_size

        attend()
        for _ in range(self.rounds):
            for dilation in dilations:
                blocks.append(DilatedBlock(wide, self.filters, dilation, key=next(keys)))
                wide += self.filters
            attend()
        return Snail(features, embed, tuple(blocks), Linear(wide, family.outputs, key=next(keys)))

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Snail,
        train: Examples,
        steps: int | None = None,
    ) -> Continued:
        return Continued(learned, pairs(learned.features, train), problem.target.outputs)
