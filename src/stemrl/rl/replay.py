"""A replay buffer, as part of a learner's state, and the steps that go into it."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import Context


class Row(NamedTuple):
    """One step in the replay, or with leading dimensions many. Raw."""

    obs: Array
    context: Context
    action: Array
    reward: Float[Array, "..."]
    carries_on: Float[Array, "..."]
    """0 after a termination, else 1: a truncation bootstraps."""
    next_obs: Array


class Replay(eqx.Module):
    """The last `capacity` rows, in a ring.

    Rows come in chunks of one size that divides the capacity, so that a chunk is one contiguous
    write: with a donated state it happens in place, and nothing is copied but the chunk.
    """

    rows: PyTree[Array]
    """Every leaf `[capacity, …]`."""
    position: Int[Array, ""]
    """Where the next chunk goes."""
    size: Int[Array, ""]
    """Rows held."""

    @classmethod
    def of(cls, row: PyTree[Array], capacity: int) -> "Replay":
        """An empty one for rows like `row` (without leading dimensions)."""
        rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)
        return cls(rows, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        """Rows it can hold."""
        return jax.tree.leaves(self.rows)[0].shape[0]

    def add(self, chunk: PyTree[Array]) -> "Replay":
        """With a chunk, every leaf `[n, …]`, over the oldest. `n` must divide the capacity and be
        the same every time."""
        n = jax.tree.leaves(chunk)[0].shape[0]
        if self.capacity % n:
            raise ValueError(f"chunks of {n} rows do not divide a capacity of {self.capacity}")
        rows = jax.tree.map(
            lambda ring, new: lax.dynamic_update_slice_in_dim(
                ring, new.astype(ring.dtype), self.position, 0
            ),
            self.rows,
            chunk,
        )
        return Replay(
            rows, (self.position + n) % self.capacity, jnp.minimum(self.size + n, self.capacity)
        )

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> PyTree[Array]:
        """Rows drawn uniformly with replacement, every leaf `[*shape, …]`. Not from an empty one."""
        index = jax.random.randint(key, shape, 0, self.size)
        return jax.tree.map(lambda ring: ring[index], self.rows)
