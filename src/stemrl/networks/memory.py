"""Memories that read one input after another: what a policy knows of its history.

A memory resets where a trial starts, and stands still on padding. Both need to happen in the middle
of a batch of sequences, so `unroll` takes a flag for each step and sequence.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

MemoryState = PyTree[Array]
"""What a memory holds. Every leaf has the leading dimensions of the inputs, then those that it has
in `initial`."""

HEAD = 32
"""Entries of a head's keys and values, or a little more where the size is no multiple of it."""


def heads_of(size: int) -> int:
    """Return how many heads of about `HEAD` entries a memory of this size has."""
    return max(h for h in range(1, max(size // HEAD, 1) + 1) if size % h == 0)


class AbstractMemoryCell(eqx.Module):
    """A memory: a state that reads one input after another, and an output after each."""

    size: eqx.AbstractVar[int]
    """How many entries an output has (static)."""

    @abc.abstractmethod
    def initial(self) -> MemoryState:
        """Return the state before the first input, without leading dimensions."""

    @abc.abstractmethod
    def step(
        self, state: MemoryState, x: Float[Array, "... inputs"]
    ) -> tuple[MemoryState, Float[Array, "... size"]]:
        """Read one input. Return the next state and the output."""

    @abc.abstractmethod
    def unroll(
        self,
        state: MemoryState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[MemoryState, Float[Array, "time ... size"]]:
        """Read whole sequences. Return the last state, and the output after each input.

        - `state`: the state before the first input, with the leading dimensions of one time step.
        - `reset`: where it is True, the state becomes the initial one before the step's input is
          read.
        - `valid`: where it is False, the step leaves the state as it was (after a reset, if there
          is one), and its output is to be ignored.
        """


def unroll_steps(
    advance: Callable[[Array, Any], tuple[Array, Array]],
    initial: Array,
    state: Array,
    x: PyTree[Array],
    reset: Bool[Array, "time ..."] | None,
    valid: Bool[Array, "time ..."] | None,
    unroll: int = 1,
) -> tuple[Array, Array]:
    """Return `AbstractMemoryCell.unroll` of a state in one array; `advance` is given a step's `x`,
    and `unroll` steps are compiled as one."""

    def step(state: Array, row: tuple) -> tuple[Array, Array]:
        x, reset, valid = row
        if reset is not None:
            state = jnp.where(reset[..., None], initial, state)
        following, output = advance(state, x)
        if valid is not None:
            following = jnp.where(valid[..., None], following, state)
        return following, output

    return jax.lax.scan(step, state, (x, reset, valid), unroll=unroll)
