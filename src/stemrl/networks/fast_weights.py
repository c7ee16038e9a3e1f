"""Fast weights: a memory that is a matrix, written by the delta rule (Schlag, Irie and Schmidhuber
2102.11174; Widrow and Hoff 1960).

A recurrent network has to learn where to store something and how to find it again. Here that is
built in. A state S of each head maps keys to values; every input makes a key k, a value v, a query q
and a strength β of writing, and

    S ← S + (β ⊙ (v − S k)) kᵀ,      output S q,

one gradient step, with rate β, on ½|S k − v|²: what S says for k moves towards v, what it says for
keys orthogonal to k stays. Keys and queries are of unit length (Yang et al. 2406.06484), so that the
rule is stable for every β in [0, 1]. In the paper β is one number; here each entry of a value has
its own, so that what is known of one action can be written and what is known of others left.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .memory import AbstractMemoryCell, heads_of, unroll_steps
from .orthogonal import orthogonal

SEGMENT = 5
"""Steps of a sequence that are one piece to the gradient."""
CAUTIOUS = -1.0
"""First bias of β: writing starts at σ(−1), a quarter of the way."""


class DeltaMemory(AbstractMemoryCell):
    """Fast weights that are written by the delta rule. The output is what was found, of all heads."""

    projections: Float[Array, "inputs 4*size"]
    """To keys, queries, values and strengths."""
    value_bias: Float[Array, " size"]
    strength_bias: Float[Array, " size"]
    size: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, *, key: PRNGKeyArray):
        """**Arguments:** entries of an input and of the output."""
        blocks = [orthogonal(k, (inputs, size)) for k in jax.random.split(key, 4)]
        self.projections = jnp.concatenate(blocks, axis=1)
        self.value_bias = jnp.zeros(size)
        self.strength_bias = jnp.full(size, CAUTIOUS)
        self.size = size
        self.heads = heads_of(size)

    def initial(self) -> Float[Array, " heads*head*head"]:
        return jnp.zeros(self.size * self.size // self.heads)

    def step(
        self, state: Float[Array, "... heads*head*head"], x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... heads*head*head"], Float[Array, "... size"]]:
        return self._advance(state, self._project(x))

    def unroll(
        self,
        state: Float[Array, "... heads*head*head"],
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[Float[Array, "... heads*head*head"], Float[Array, "time ... size"]]:
        time = x.shape[0]
        whole = time - time % SEGMENT

        def segment(state: Array, rows: tuple) -> tuple[Array, Array]:
            return unroll_steps(self._advance, self.initial(), state, *rows, unroll=SEGMENT)

        # A gradient keeps the matrix of a segment's first step only and makes the others again:
        # on a CPU that is 1.6 times as fast as to write all of them to memory and read them back.
        rows = (self._project(x), reset, valid)
        first = jax.tree.map(lambda y: y[:whole].reshape(-1, SEGMENT, *y.shape[1:]), rows)
        state, found = jax.lax.scan(jax.checkpoint(segment), state, first)
        rest = jax.tree.map(lambda y: y[whole:], rows)
        state, last = unroll_steps(self._advance, self.initial(), state, *rest)
        return state, jnp.concatenate([found.reshape(whole, *found.shape[2:]), last])

    def _project(self, x: Float[Array, "... inputs"]) -> tuple[Array, ...]:
        """Key, query, value and strength of every head, each `[…, heads, head]`."""
        parts = jnp.split(x @ self.projections, 4, -1)
        key, query, value, strength = (
            part.reshape(*part.shape[:-1], self.heads, -1)
            for part in (*parts[:2], parts[2] + self.value_bias, parts[3] + self.strength_bias)
        )
        return _unit(key), _unit(query), value, jax.nn.sigmoid(strength)

    def _advance(self, state: Array, projected: tuple[Array, ...]) -> tuple[Array, Array]:
        key, query, value, strength = projected
        width = self.size // self.heads
        fast = state.reshape(*state.shape[:-1], self.heads, width, width)
        error = value - jnp.einsum("...vk,...k->...v", fast, key)
        fast = fast + (strength * error)[..., :, None] * key[..., None, :]
        found = jnp.einsum("...vk,...k->...v", fast, query)
        return fast.reshape(state.shape), found.reshape(*found.shape[:-2], self.size)


def _unit(x: Float[Array, "... entries"]) -> Float[Array, "... entries"]:
    """SiLU, then length 1 (0 stays 0, and has a gradient)."""
    x = jax.nn.silu(x)
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
