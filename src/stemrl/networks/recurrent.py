"""Recurrent memories: GRU and LSTM.

On a CPU the cost of a recurrent network lies in the number of operations a step, not in their size.
So the gates of a cell are one matrix, inputs are multiplied by theirs for the whole sequence before
the loop, and the state is one array.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .memory import AbstractMemoryCell, unroll_steps
from .orthogonal import orthogonal


class GRU(AbstractMemoryCell):
    """The gated recurrent unit (Cho 1406.1078). Its reset gate stands behind the recurrent product,
    so that one product a step is enough.

    r, z = σ(Wx + Uh);  n = tanh(Wₙx + r ⊙ (Uₙh + c));  h′ = (1 − z) ⊙ n + z ⊙ h.  The output is h′.
    """

    input: Float[Array, "inputs 3*size"]
    recurrent: Float[Array, "size 3*size"]
    bias: Float[Array, " 3*size"]
    candidate_bias: Float[Array, " size"]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, *, chrono_span: int = 0, key: PRNGKeyArray):
        """**Arguments:** entries of an input and of the state; `chrono_span` as in `memory_cell`."""
        self.input, self.recurrent = _gates(inputs, size, 3, key)
        self.bias = jnp.zeros(3 * size)
        if chrono_span:
            self.bias = self.bias.at[size : 2 * size].set(_keeping(size, chrono_span, key))
        self.candidate_bias = jnp.zeros(size)
        self.size = size

    def initial(self) -> Float[Array, " size"]:
        return jnp.zeros(self.size)

    def step(
        self, state: Float[Array, "... size"], x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... size"], Float[Array, "... size"]]:
        return self._advance(state, x @ self.input + self.bias)

    def unroll(
        self,
        state: Float[Array, "... size"],
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[Float[Array, "... size"], Float[Array, "time ... size"]]:
        gates = x @ self.input + self.bias
        return unroll_steps(self._advance, self.initial(), state, gates, reset, valid)

    def _advance(self, h: Array, from_input: Array) -> tuple[Array, Array]:
        gates = 2 * self.size
        from_state = h @ self.recurrent
        r, z = jnp.split(jax.nn.sigmoid(from_input[..., :gates] + from_state[..., :gates]), 2, -1)
        n = jnp.tanh(from_input[..., gates:] + r * (from_state[..., gates:] + self.candidate_bias))
        h = n + z * (h - n)
        return h, h


class LSTM(AbstractMemoryCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with a forget gate that starts
    open).

    i, f, o = σ(Wx + Uh);  g = tanh(…);  c′ = f ⊙ c + i ⊙ g;  h′ = o ⊙ tanh c′.  The state is
    (h, c) in one array, the output h′.
    """

    input: Float[Array, "inputs 4*size"]
    recurrent: Float[Array, "size 4*size"]
    bias: Float[Array, " 4*size"]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, *, chrono_span: int = 0, key: PRNGKeyArray):
        """**Arguments:** entries of an input, and of h and c each; `chrono_span` as in `memory_cell`."""
        self.input, self.recurrent = _gates(inputs, size, 4, key)
        # The forget gate starts at σ(1): gradients flow through c from the beginning.
        keep = _keeping(size, chrono_span, key) if chrono_span else jnp.ones(size)
        self.bias = jnp.zeros(4 * size).at[size : 2 * size].set(keep)
        if chrono_span:
            self.bias = self.bias.at[:size].set(-keep)
        self.size = size

    def initial(self) -> Float[Array, " 2*size"]:
        return jnp.zeros(2 * self.size)

    def step(
        self, state: Float[Array, "... 2*size"], x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... 2*size"], Float[Array, "... size"]]:
        return self._advance(state, x @ self.input + self.bias)

    def unroll(
        self,
        state: Float[Array, "... 2*size"],
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[Float[Array, "... 2*size"], Float[Array, "time ... size"]]:
        gates = x @ self.input + self.bias
        return unroll_steps(self._advance, self.initial(), state, gates, reset, valid)

    def _advance(self, state: Array, from_input: Array) -> tuple[Array, Array]:
        h, c = jnp.split(state, 2, -1)
        gates = from_input + h @ self.recurrent
        i, f, o = jnp.split(jax.nn.sigmoid(gates[..., : 3 * self.size]), 3, -1)
        c = f * c + i * jnp.tanh(gates[..., 3 * self.size :])
        h = o * jnp.tanh(c)
        return jnp.concatenate([h, c], -1), h


def _keeping(size: int, chrono_span: int, key: PRNGKeyArray) -> Float[Array, " size"]:
    """Biases b of a gate that keeps: σ(b) = T/(1 + T), T uniform in 1 to `chrono_span` − 1."""
    longest = max(chrono_span - 1.0, 1.0)
    times = jax.random.uniform(jax.random.fold_in(key, _KEEPING), (size,), float, 1.0, longest)
    return jnp.log(times)


_KEEPING = 0x5EA2
"""Folded into the key, so that the weights are those without a span."""


def _gates(inputs: int, size: int, gates: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Input weights `[inputs, gates·size]` and recurrent weights, orthogonal gate by gate."""
    input_key, recurrent_key = jax.random.split(key)
    blocks = [orthogonal(k, (size, size)) for k in jax.random.split(recurrent_key, gates)]
    scale = jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
    return scale(input_key, (inputs, gates * size)), jnp.concatenate(blocks, axis=1)
