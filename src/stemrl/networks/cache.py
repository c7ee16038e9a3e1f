"""What memories that look back share: which step stands where in its trial, and which steps it sees.

A recurrent network is told of a reset and forgets. A memory that looks back at earlier inputs has to
know, for each step of each sequence, how far back its trial goes. One number says it: the step's
*position*, how many inputs of the same trial came before it. With the last inputs kept in the order
in which they came, the newest last, the entry d steps back is of the same trial if d ≤ position,
whether it came in with the state or stands in the sequence itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Packed(NamedTuple):
    """Sequences whose valid steps come first."""

    x: Float[Array, "time ... inputs"]
    reset: Bool[Array, "time ..."] | None
    count: Int[Array, "..."] | None  # pyright: ignore
    """Valid steps of each sequence; all if none."""
    back: Int[Array, "time ..."] | None
    """Where each step of the sequences as they were is now."""

    def unpack(self, outputs: Float[Array, "time ... size"]) -> Float[Array, "time ... size"]:
        """Return the outputs in the order of the sequences as they were."""
        return outputs if self.back is None else take(outputs, self.back)


def pack(
    x: Float[Array, "time ... inputs"],
    reset: Bool[Array, "time ..."] | None,
    valid: Bool[Array, "time ..."] | None,
) -> Packed:
    """Return the valid steps of each sequence first, in their order, so that the entry d steps back
    is d rows up. A reset on padding moves to the step that follows it."""
    if valid is None:
        return Packed(x, reset, None, None)
    order = jnp.argsort(~valid, axis=0, stable=True)
    count = jnp.sum(valid, axis=0)
    if reset is not None:
        trial = jnp.cumsum(reset, axis=0)
        padding = jnp.arange(len(x)).reshape(-1, *[1] * count.ndim) >= count
        trial = jnp.where(padding, trial[-1], jnp.take_along_axis(trial, order, 0))
        reset = jnp.diff(trial, axis=0, prepend=jnp.zeros_like(trial[:1])) > 0
    return Packed(take(x, order), reset, count, jnp.argsort(order, axis=0))


def take(x: Float[Array, "time ... entries"], rows: Int[Array, "time ..."]) -> Array:
    """Return of each sequence the entries in these rows."""
    return jnp.take_along_axis(x, rows[..., None], axis=0)


def positions(
    before: Int[Array, "..."], time: int, reset: Bool[Array, "time ..."] | None
) -> Int[Array, "time+1 ..."]:
    """Return how many inputs of its trial came before each step, and before the one that follows
    the last; `before` is that number before the first step, unless that is reset."""
    step = jnp.arange(time + 1).reshape(-1, *[1] * before.ndim)
    if reset is None:
        return before + step
    began = jax.lax.cummax(jnp.where(reset, step[:-1], -1))
    began = jnp.concatenate([began, began[-1:]])
    return jnp.where(began < 0, before + step, step - began)


def last_position(
    position: Int[Array, "time+1 ..."], count: Int[Array, "..."] | None
) -> Int[Array, "..."]:
    """Return the position after `count` steps, all if none."""
    if count is None:
        return position[-1]
    return jnp.take_along_axis(position, count[None], axis=0)[0]


def visible(position: Int[Array, "... time"], length: int) -> Bool[Array, "... time length+time"]:
    """Return which of `length` cached entries and `time` new ones each new one sees: those of its
    trial, itself included, and at most `length`."""
    time = position.shape[-1]
    back = length + jnp.arange(time)[:, None] - jnp.arange(length + time)
    return (back >= 0) & (back < length) & (back <= position[..., None])


def kept(
    entries: Float[Array, "... length+time size"],
    length: int,
    count: Int[Array, "..."] | None,
    position: Int[Array, "..."],
) -> Float[Array, "... length size"]:
    """Return the last `length` entries after `count` new ones, zero where they are of an earlier
    trial; `position` counts the inputs of the present one."""
    if count is None:
        last = entries[..., entries.shape[-2] - length :, :]
    else:
        rows = count[..., None] + jnp.arange(length)
        last = jnp.take_along_axis(entries, rows[..., None], axis=-2)
    back = jnp.arange(length, 0, -1)
    return jnp.where((back <= position[..., None])[..., None], last, 0.0)


def push(
    entries: Float[Array, "... length size"], newest: Float[Array, "... size"]
) -> Float[Array, "... length size"]:
    """Return the entries with a new one at the end, without the oldest."""
    return jnp.concatenate([entries[..., 1:, :], newest[..., None, :]], axis=-2)
