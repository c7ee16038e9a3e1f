"""Memories that read one input after another: what a policy knows of its history.

A memory resets where a trial starts, and stands still on padding. Both need to happen in the middle
of a batch of sequences, so `unroll` takes a flag for each step and sequence.

On a CPU the cost of a recurrent network lies in the number of operations a step, not in their size.
So the gates of a cell are one matrix, inputs are multiplied by theirs for the whole sequence before
the loop, and the state is one array.
"""

import abc
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

MemoryState = PyTree[Array]
"""What a memory holds; every leaf `[…, size of that leaf]`, with the leading dimensions of the
inputs."""

Cell = Literal["gru", "lstm"]
"""The memories there are; see `memory_cell`."""


class AbstractMemoryCell(eqx.Module):
    """A memory: a state, and what it says after each input."""

    size: eqx.AbstractVar[int]
    """Static: entries of an output."""

    @abc.abstractmethod
    def initial(self) -> MemoryState:
        """The state before the first input, without leading dimensions."""

    @abc.abstractmethod
    def step(
        self, state: MemoryState, x: Float[Array, "... inputs"]
    ) -> tuple[MemoryState, Float[Array, "... size"]]:
        """Read one input: the next state, and the output."""

    @abc.abstractmethod
    def unroll(
        self,
        state: MemoryState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[MemoryState, Float[Array, "time ... size"]]:
        """Read whole sequences: the last state, and the output after each input.

        **Arguments:**

        - `state`: before the first input, with the leading dimensions of one time step.
        - `reset`: where True, the state is the initial one before the step's input is read.
        - `valid`: where False, the step leaves the state as it was (after a reset, if there is
          one), and its output is to be ignored.
        """


class Gru(AbstractMemoryCell):
    """The gated recurrent unit (Cho 1406.1078), its reset gate behind the recurrent product, so
    that one product a step is enough.

    r, z = σ(Wx + Uh);  n = tanh(Wₙx + r ⊙ (Uₙh + c));  h′ = (1 − z) ⊙ n + z ⊙ h.  The output is h′.
    """

    input: Float[Array, "inputs 3*size"]
    recurrent: Float[Array, "size 3*size"]
    bias: Float[Array, " 3*size"]
    candidate_bias: Float[Array, " size"]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, *, span: int = 0, key: PRNGKeyArray):
        """**Arguments:** entries of an input and of the state; see `memory_cell` for `span`."""
        self.input, self.recurrent = _gates(inputs, size, 3, key)
        self.bias = jnp.zeros(3 * size)
        if span:
            self.bias = self.bias.at[size : 2 * size].set(_keeping(size, span, key))
        self.candidate_bias = jnp.zeros(size)
        self.size = size

    def initial(self) -> Float[Array, " size"]:
        return jnp.zeros(self.size)

    def step(
        self, state: Float[Array, "... size"], x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... size"], Float[Array, "... size"]]:
        state = self._advance(state, x @ self.input + self.bias)
        return state, state

    def unroll(
        self,
        state: Float[Array, "... size"],
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[Float[Array, "... size"], Float[Array, "time ... size"]]:
        return _scan(self._advance, self.initial(), state, x @ self.input + self.bias, reset, valid)

    def _advance(self, h: Array, from_input: Array) -> Array:
        gates = 2 * self.size
        from_state = h @ self.recurrent
        r, z = jnp.split(jax.nn.sigmoid(from_input[..., :gates] + from_state[..., :gates]), 2, -1)
        n = jnp.tanh(from_input[..., gates:] + r * (from_state[..., gates:] + self.candidate_bias))
        return n + z * (h - n)


class Lstm(AbstractMemoryCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with a forget gate that starts
    open).

    i, f, o = σ(Wx + Uh);  g = tanh(…);  c′ = f ⊙ c + i ⊙ g;  h′ = o ⊙ tanh c′.  The state is
    (h, c) in one array, the output h′.
    """

    input: Float[Array, "inputs 4*size"]
    recurrent: Float[Array, "size 4*size"]
    bias: Float[Array, " 4*size"]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, *, span: int = 0, key: PRNGKeyArray):
        """**Arguments:** entries of an input, and of h and c each; see `memory_cell` for `span`."""
        self.input, self.recurrent = _gates(inputs, size, 4, key)
        # The forget gate starts at σ(1): gradients flow through c from the beginning.
        keep = _keeping(size, span, key) if span else jnp.ones(size)
        self.bias = jnp.zeros(4 * size).at[size : 2 * size].set(keep)
        if span:
            self.bias = self.bias.at[:size].set(-keep)
        self.size = size

    def initial(self) -> Float[Array, " 2*size"]:
        return jnp.zeros(2 * self.size)

    def step(
        self, state: Float[Array, "... 2*size"], x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... 2*size"], Float[Array, "... size"]]:
        state = self._advance(state, x @ self.input + self.bias)
        return state, state[..., : self.size]

    def unroll(
        self,
        state: Float[Array, "... 2*size"],
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[Float[Array, "... 2*size"], Float[Array, "time ... size"]]:
        gates = x @ self.input + self.bias
        state, states = _scan(self._advance, self.initial(), state, gates, reset, valid)
        return state, states[..., : self.size]

    def _advance(self, state: Array, from_input: Array) -> Array:
        h, c = jnp.split(state, 2, -1)
        gates = from_input + h @ self.recurrent
        i, f, o = jnp.split(jax.nn.sigmoid(gates[..., : 3 * self.size]), 3, -1)
        c = f * c + i * jnp.tanh(gates[..., 3 * self.size :])
        return jnp.concatenate([o * jnp.tanh(c), c], -1)


def memory_cell(
    cell: Cell, inputs: int, size: int, *, span: int = 0, key: PRNGKeyArray
) -> AbstractMemoryCell:
    """The memory called `cell`. With `span`, its entries start out forgetting in 1 to `span` steps,
    each in a time of its own (Tallec and Ollivier 1804.11188); without, in one or two."""
    kinds: dict[str, type[Gru] | type[Lstm]] = {"gru": Gru, "lstm": Lstm}
    if cell not in kinds:
        raise ValueError(f"unknown memory cell {cell!r}; known: {', '.join(kinds)}")
    return kinds[cell](inputs, size, span=span, key=key)


def _keeping(size: int, span: int, key: PRNGKeyArray) -> Float[Array, " size"]:
    """Biases b of a gate that keeps: σ(b) = T/(1 + T), T uniform in 1 to `span` − 1."""
    longest = max(span - 1.0, 1.0)
    times = jax.random.uniform(jax.random.fold_in(key, _KEEPING), (size,), float, 1.0, longest)
    return jnp.log(times)


_KEEPING = 0x5EA2
"""Folded into the key, so that the weights are those without a span."""


def _gates(inputs: int, size: int, gates: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Input weights `[inputs, gates·size]` and recurrent weights, orthogonal gate by gate."""
    input_key, recurrent_key = jax.random.split(key)
    orthogonal = jax.nn.initializers.orthogonal()
    blocks = [orthogonal(k, (size, size)) for k in jax.random.split(recurrent_key, gates)]
    scale = jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
    return scale(input_key, (inputs, gates * size)), jnp.concatenate(blocks, axis=1)


def _scan(advance, initial: Array, state: Array, x: Array, reset, valid) -> tuple[Array, Array]:
    def step(state: Array, row: tuple):
        x, reset, valid = row
        if reset is not None:
            state = jnp.where(reset[..., None], initial, state)
        following = advance(state, x)
        if valid is not None:
            following = jnp.where(valid[..., None], following, state)
        return following, following

    return jax.lax.scan(step, state, (x, reset, valid))
