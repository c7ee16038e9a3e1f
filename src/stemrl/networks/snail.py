"""SNAIL, the simple neural attentive learner (Mishra et al. 1707.03141): causal convolutions that
gather, and attention that points.

Everything is concatenated, nothing replaced: each block reads all that the blocks before it said.
A *temporal convolution* block is a row of dense blocks with dilations R = 1, 2, 4, … up to the
trial's length, so that its last one has seen the whole trial,

    [x, tanh(Wx + W′x₋R + b) ⊙ σ(Vx + V′x₋R + c)],

where x₋R is the input R steps back, zero before the trial's start. An *attention* block looks
something up among all steps so far, [x, Σ_s softmax_s(qₜ·k_s / √K) v_s]. Here one layer is a block
of convolutions and one of attention, and a linear map makes the output of all that was gathered.

Because a block reads a beginning of the row that all blocks make, what has to be kept of a step is
that row alone. Attention needs no keys and values of its own in it: q·(Kf) = (Kᵀq)·f.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .cache import kept, last_position, pack, positions, push, visible
from .memory import AbstractMemoryCell
from .mlp import Linear


class SNAILState(NamedTuple):
    """The trial's last steps."""

    row: Float[Array, "... length features"]
    """Everything that the blocks said at each of the last steps, the newest last; zero where there
    was none."""
    position: Int[Array, "..."]
    """Inputs read in this trial."""


class Convolution(eqx.Module):
    """A dense block: a gated causal convolution over this step and the one `dilation` steps back."""

    now: Linear
    back: Float[Array, "features 2*filters"]
    features: int = eqx.field(static=True)
    dilation: int = eqx.field(static=True)

    def __init__(self, features: int, filters: int, dilation: int, *, key: PRNGKeyArray):
        # Two taps: each of half the variance.
        taps = Linear(2 * features, 2 * filters, key=key)
        self.back, now = jnp.split(taps.weight, 2)
        self.now = eqx.tree_at(lambda t: t.weight, taps, now)
        self.features = features
        self.dilation = dilation

    def step(self, x: Float[Array, "... features"], row: Array, position: Array) -> Array:
        earlier = row[..., row.shape[-2] - self.dilation, : self.features]
        return self._gate(x, earlier)

    def unroll(
        self,
        x: Float[Array, "... time features"],
        row: Float[Array, "... length all"],
        position: Int[Array, "... time"],
    ) -> Float[Array, "... time filters"]:
        came_in = row[..., row.shape[-2] - self.dilation :, : self.features]
        earlier = jnp.concatenate([came_in, x], axis=-2)[..., : x.shape[-2], :]
        same_trial = self.dilation <= position[..., None]
        return self._gate(x, jnp.where(same_trial, earlier, 0.0))

    def _gate(self, x: Array, earlier: Array) -> Array:
        said, gate = jnp.split(self.now(x) + earlier @ self.back, 2, axis=-1)
        return jnp.tanh(said) * jax.nn.sigmoid(gate)


class Pointer(eqx.Module):
    """An attention block: one head over all steps so far."""

    query: Linear
    key: Linear
    value: Linear
    features: int = eqx.field(static=True)

    def __init__(self, features: int, filters: int, *, key: PRNGKeyArray):
        self.query, self.key, self.value = (
            Linear(features, filters, key=k) for k in jax.random.split(key, 3)
        )
        self.features = features

    def step(self, x: Float[Array, "... features"], row: Array, position: Array) -> Array:
        steps = push(row[..., : self.features], x)
        back = jnp.arange(row.shape[-2] - 1, -1, -1)
        return self._point(x[..., None, :], steps, back <= position[..., None, None])[..., 0, :]

    def unroll(
        self,
        x: Float[Array, "... time features"],
        row: Float[Array, "... length all"],
        position: Int[Array, "... time"],
    ) -> Float[Array, "... time filters"]:
        steps = jnp.concatenate([row[..., : self.features], x], axis=-2)
        return self._point(x, steps, visible(position, row.shape[-2]))

    def _point(self, x: Array, steps: Array, seen: Bool[Array, "... queries steps"]) -> Array:
        # q·(f K + k) = (q Kᵀ)·f + q·k, and the last is the same for all steps. Means of values are
        # values of means.
        query = self.query(x) * self.query.bias.shape[-1] ** -0.5
        logits = (query @ self.key.weight.T) @ jnp.swapaxes(steps, -1, -2)
        weights = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
        return self.value(weights @ steps)


class SNAIL(AbstractMemoryCell):
    """Blocks of dilated causal convolutions and of causal attention, over the last `length` inputs
    of a trial."""

    embed: Linear
    blocks: tuple[Convolution | Pointer, ...]
    out: Linear
    size: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, length: int, *, layers: int = 1, key: PRNGKeyArray):
        """**Arguments:** entries of an input and of the output; how many inputs are looked back on;
        `layers` of convolutions and attention each, every block adding `size`/4 entries."""
        embed_key, out_key, *keys = jax.random.split(key, layers + 2)
        filters = max(size // 4, 1)
        dilations = [2**i for i in range(math.ceil(math.log2(length)))]
        self.embed = Linear(inputs, size, key=embed_key)
        features, blocks = size, []
        for layer_key in keys:
            *convolution_keys, pointer_key = jax.random.split(layer_key, len(dilations) + 1)
            for dilation, k in zip(dilations, convolution_keys, strict=True):
                blocks.append(Convolution(features, filters, dilation, key=k))
                features += filters
            blocks.append(Pointer(features, filters, key=pointer_key))
            features += filters
        self.blocks = tuple(blocks)
        self.out = Linear(features, size, key=out_key)
        self.size = size
        self.length = length

    def initial(self) -> SNAILState:
        # What the last block says nobody reads again.
        features = self.blocks[-1].features
        return SNAILState(jnp.zeros((self.length, features)), jnp.zeros((), jnp.int32))

    def step(
        self, state: SNAILState, x: Float[Array, "... inputs"]
    ) -> tuple[SNAILState, Float[Array, "... size"]]:
        features = self.embed(x)
        for block in self.blocks:
            said = block.step(features, state.row, state.position)
            features = jnp.concatenate([features, said], axis=-1)
        row = push(state.row, features[..., : state.row.shape[-1]])
        return SNAILState(row, state.position + 1), self.out(features)

    def unroll(
        self,
        state: SNAILState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[SNAILState, Float[Array, "time ... size"]]:
        packed = pack(x, reset, valid)
        position = positions(state.position, len(x), packed.reset)
        last = last_position(position, packed.count)
        position = jnp.moveaxis(position[:-1], 0, -1)
        features = jnp.moveaxis(self.embed(packed.x), 0, -2)
        for block in self.blocks:
            said = block.unroll(features, state.row, position)
            features = jnp.concatenate([features, said], axis=-1)
        row = jnp.concatenate([state.row, features[..., : state.row.shape[-1]]], axis=-2)
        state = SNAILState(kept(row, self.length, packed.count, last), last)
        return state, packed.unpack(jnp.moveaxis(self.out(features), -2, 0))
