"""Memories on top of each other, as the blocks of a Transformer are: a residual stack.

    y = x + memory(norm(x));      x ← y + MLP(norm(y))

in every layer, norms before what they feed (Xiong et al. 2002.04745: it trains without a warm-up).
Any memory can be the layer's: with attention it is a causal Transformer, with TTT the backbone of
that paper.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .memory import AbstractMemoryCell, MemoryState
from .mlp import MLP, LayerNorm, Linear

WIDER = 4
"""Hidden entries of a layer's MLP for each entry of its input."""


class Layer(eqx.Module):
    """A memory and a perceptron, each added to what it reads."""

    memory_norm: LayerNorm
    memory: AbstractMemoryCell
    mlp_norm: LayerNorm
    mlp: MLP


class ResidualStack(AbstractMemoryCell):
    """Layers of memories between a linear map of the inputs and a norm. The state is that of each
    layer's memory."""

    embed: Linear
    layers: tuple[Layer, ...]
    norm: LayerNorm
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, memories: tuple[AbstractMemoryCell, ...], *, key: PRNGKeyArray):
        """**Arguments:** entries of an input; the layers' memories, which read as many entries as
        they say, all the same number."""
        embed_key, *keys = jax.random.split(key, len(memories) + 1)
        self.size = size = memories[0].size
        self.embed = Linear(inputs, size, key=embed_key)
        self.layers = tuple(
            Layer(
                LayerNorm(size),
                memory,
                LayerNorm(size),
                MLP(size, size, (WIDER * size,), "gelu", final_scale=len(keys) ** -0.5, key=k),
            )
            for memory, k in zip(memories, keys, strict=True)
        )
        self.norm = LayerNorm(size)

    def initial(self) -> MemoryState:
        return tuple(layer.memory.initial() for layer in self.layers)

    def step(
        self, state: MemoryState, x: Float[Array, "... inputs"]
    ) -> tuple[MemoryState, Float[Array, "... size"]]:
        def read(memory: AbstractMemoryCell, state: MemoryState, x: Array):
            return memory.step(state, x)

        return self._through(read, state, x)

    def unroll(
        self,
        state: MemoryState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[MemoryState, Float[Array, "time ... size"]]:
        def read(memory: AbstractMemoryCell, state: MemoryState, x: Array):
            return memory.unroll(state, x, reset, valid)

        return self._through(read, state, x)

    def _through(self, read, state: MemoryState, x: Array) -> tuple[MemoryState, Array]:
        """All layers, each memory reading by `read(memory, state, x)`."""
        x, states = self.embed(x), []
        for layer, held in zip(self.layers, state, strict=True):
            held, found = read(layer.memory, held, layer.memory_norm(x))
            states.append(held)
            x = x + found
            x = x + layer.mlp(layer.mlp_norm(x))
        return tuple(states), self.norm(x)
