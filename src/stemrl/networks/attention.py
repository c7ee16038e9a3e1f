"""Causal attention as a memory (Vaswani et al. 1706.03762): everything read in a trial is kept, and
looked up anew at each step.

Each input makes a query q, a key k and a value v; what is said is a mean of the trial's values so
far,

    oₜ = Σ_s softmax_s(qₜ·R(t−s)k_s / √d) v_s,      s ≤ t of the same trial,

in several heads. R turns pairs of a key's entries by angles proportional to how long ago it was
(rotary positions, Su et al. 2104.09864): what counts is the distance, not the place. So nothing is
said of places that training never saw, and in a trial longer than `length` the memory is of the
last `length` inputs, a window that slides. With a residual stack around it (`stack.py`) it is a
Transformer.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .cache import kept, last_position, pack, positions, push, visible
from .memory import AbstractMemoryCell, heads_of
from .mlp import Linear
from .orthogonal import orthogonal

BASE = 10_000.0
"""The slowest pair of entries turns by about 1/BASE a step, the fastest by 1."""


class AttentionState(NamedTuple):
    """The trial's last inputs, as they are looked up."""

    keys: Float[Array, "... heads length width"]
    """Of the last inputs, the newest last, already turned; zero where there was none."""
    values: Float[Array, "... heads length width"]
    position: Int[Array, "..."]
    """Inputs read in this trial."""


class Attention(AbstractMemoryCell):
    """Multi-head causal attention over the last `length` inputs of a trial."""

    project: Float[Array, "inputs 3*size"]
    """To queries, keys and values."""
    out: Linear
    size: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        size: int,
        length: int,
        *,
        final_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** entries of an input and of the output; how many inputs are kept;
        `final_scale` multiplies the first weights of the output."""
        *keys, last = jax.random.split(key, 4)
        self.project = jnp.concatenate([orthogonal(k, (inputs, size)) for k in keys], axis=1)
        self.out = Linear(size, size, scale=final_scale, key=last)
        self.size = size
        self.heads = heads_of(size)
        self.length = length

    def initial(self) -> AttentionState:
        empty = jnp.zeros((self.heads, self.length, self.size // self.heads))
        return AttentionState(empty, empty, jnp.zeros((), jnp.int32))

    def step(
        self, state: AttentionState, x: Float[Array, "... inputs"]
    ) -> tuple[AttentionState, Float[Array, "... size"]]:
        query, key, value = self._project(x, state.position)
        keys, values = push(state.keys, key), push(state.values, value)
        back = jnp.arange(self.length - 1, -1, -1)
        seen = back <= state.position[..., None, None, None]
        found = attend(query[..., None, :], keys, values, seen)[..., 0, :]
        output = self.out(found.reshape(*x.shape[:-1], self.size))
        return AttentionState(keys, values, state.position + 1), output

    def unroll(
        self,
        state: AttentionState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[AttentionState, Float[Array, "time ... size"]]:
        packed = pack(x, reset, valid)
        position = positions(state.position, len(x), packed.reset)
        query, *new = (jnp.moveaxis(part, 0, -2) for part in self._project(packed.x, position[:-1]))
        keys, values = (
            jnp.concatenate(pair, axis=-2)
            for pair in zip((state.keys, state.values), new, strict=True)
        )
        seen = visible(jnp.moveaxis(position[:-1], 0, -1), self.length)[..., None, :, :]
        found = jnp.moveaxis(attend(query, keys, values, seen), -2, 0)
        output = self.out(found.reshape(*x.shape[:-1], self.size))
        last = last_position(position, packed.count)
        count = None if packed.count is None else packed.count[..., None]
        state = AttentionState(
            *(kept(y, self.length, count, last[..., None]) for y in (keys, values)),
            last,  # pyright: ignore
        )
        return state, packed.unpack(output)

    def _project(
        self, x: Float[Array, "... inputs"], position: Int[Array, "..."]
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and values, each `[…, heads, width]`."""
        parts = jnp.split(x @ self.project, 3, axis=-1)
        query, key, value = (p.reshape(*p.shape[:-1], self.heads, -1) for p in parts)
        angles = _angles(position, query.shape[-1])[..., None, :]
        return _turn(query, angles), _turn(key, angles), value


def attend(
    query: Float[Array, "... queries width"],
    keys: Float[Array, "... entries width"],
    values: Float[Array, "... entries width"],
    seen: Bool[Array, "... queries entries"],
) -> Float[Array, "... queries width"]:
    """Return means of the values seen, by how well their keys fit the query."""
    logits = query @ jnp.swapaxes(keys, -1, -2) * query.shape[-1] ** -0.5
    return jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1) @ values


def _angles(position: Int[Array, "..."], width: int) -> Float[Array, "... width//2"]:
    """How far each pair of entries is turned at these positions, in radians."""
    half = width // 2
    return position[..., None] * BASE ** (-jnp.arange(half) / max(half, 1))


def _turn(x: Float[Array, "... width"], angles: Float[Array, "... half"]) -> Array:
    """Entry i of the first half and of the second as a point in a plane, turned; of an odd number
    the last stays."""
    half = angles.shape[-1]
    a, b, rest = jnp.split(x, [half, 2 * half], axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)
