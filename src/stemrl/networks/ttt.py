"""TTT-Linear: a memory that is a model, trained on what it reads (Sun et al. 2407.04620).

The state is the weights of a small model, and to read an input is to take a step of gradient
descent. A training view k of the input (the key) is mapped to what its label view v (the value) adds
to it, and a third view q asks the model:

    f(k) = LN(k W + b),      ℓ(W; k, v) = ½‖f(k) − (v − k)‖²,
    W ← W − η ∇ℓ(W; k, v),      output q + f(q),

W starting every trial from learned weights W₀, η a learned function of the input. So MAML's inner
loop has become a layer: the outer loss teaches what the inner one should be about.

Gradients are taken in *mini-batches* of a trial's inputs: those of one are all taken at the weights
W that the mini-batch began with, while an output already sees the steps up to its own. Then all its
outputs are a few products of matrices (the dual form): with G the gradients at the model's linear
outputs, times η,

    outputs Q W − tril(Q Kᵀ) G,      last weights W − Kᵀ G.

With ℓ linear in k W, no LN and W₀ = 0 this is linear attention; with a mini-batch of one it is the
delta rule of `fast_weights.py` with LN inside. The bias b is a row of W whose key entry is 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .cache import last_position, pack, positions, take
from .memory import AbstractMemoryCell, heads_of
from .mlp import LayerNorm, Linear, standardized
from .orthogonal import orthogonal

MINI_BATCH = 16
"""Inputs of a mini-batch (the authors': 16)."""


class TTTState(NamedTuple):
    """What the trial has changed of the learned first weights, so that these are always those of
    the present learner."""

    began: Float[Array, "... heads width+1 width"]
    """Where the mini-batch began."""
    now: Float[Array, "... heads width+1 width"]
    position: Int[Array, "..."]
    """Inputs read in this trial."""


class Views(NamedTuple):
    """What an input is to the inner models; keys and queries end with a 1 for the bias."""

    key: Float[Array, "... heads width+1"]
    query: Float[Array, "... heads width+1"]
    label: Float[Array, "... heads width"]
    """v − k."""
    rate: Float[Array, "... heads 1"]


class Blocks(NamedTuple):
    """Where the steps of sequences stand in blocks that are read at once, every leaf
    `[blocks, block, …]` but `place`. No mini-batch ends in the middle of a block."""

    rows: Int[Array, "blocks block ..."]
    """The step that stands there."""
    real: Bool[Array, "blocks block ..."]
    """Whether one does, and not padding."""
    fresh: Bool[Array, "blocks block ..."]
    """Whether a trial starts with it."""
    full: Bool[Array, "blocks block ..."]
    """Whether a mini-batch ends with it."""
    place: Int[Array, "time ..."]
    """Where each step is among all places."""


def blocks_of(
    position: Int[Array, "time+1 ..."],
    reset: Bool[Array, "time ..."] | None,
    count: Int[Array, "..."] | None,
    mini_batch: int,
) -> Blocks:
    """Return blocks that end where one is full or a mini-batch ends, in each sequence for itself.

    A trial may start anywhere in a block, for it starts from weights that are known. The end of a
    mini-batch may not: the gradients after it are taken at weights made of those before. There are
    always enough blocks; those left over are empty.
    """
    time = len(position) - 1
    size = min(mini_batch, time)
    blocks = -(-time // size) + -(-(time - 1) // mini_batch)
    step = jnp.broadcast_to(
        jnp.arange(time).reshape(-1, *[1] * (position.ndim - 1)), position[:-1].shape
    )
    cut = (step % size == 0) | ((position[:-1] % mini_batch == 0) & (position[:-1] > 0))
    begin = jax.lax.cummax(jnp.where(cut, step, 0))
    place = (jnp.cumsum(cut, axis=0) - 1) * size + step - begin
    nobody = jnp.full((blocks * size, *position.shape[1:]), time)
    rows = jnp.put_along_axis(nobody, place, step, axis=0, inplace=False)
    real = rows < (time if count is None else count)
    rows = jnp.minimum(rows, time - 1)

    def flag(of_step: Bool[Array, "time ..."] | None) -> Array:
        if of_step is None:
            return jnp.zeros_like(real)
        return real & jnp.take_along_axis(of_step, rows, axis=0)

    flags = (rows, real, flag(reset), flag((position[:-1] + 1) % mini_batch == 0))
    return Blocks(*(x.reshape(blocks, size, *x.shape[1:]) for x in flags), place)  # pyright: ignore


def dual_form(
    slopes: Callable[[Array], Array],
    key: Float[Array, "... steps inputs"],
    query: Float[Array, "... steps inputs"],
    at_key: Float[Array, "... steps outputs"],
    at_query: Float[Array, "... steps outputs"],
    sees: Bool[Array, "... steps steps"],
) -> tuple[Float[Array, "... steps outputs"], Float[Array, "... steps outputs"]]:
    """Return the linear outputs for queries, each after the gradient steps that it sees, and the
    steps' slopes G (see the module's docstring).

    **Arguments:**

    - `slopes(z)`: gradients of the inner losses at the linear outputs z, times their rates.
    - `at_key`: linear outputs for the keys at the weights where gradients are taken.
    - `at_query`: linear outputs for the queries before all these steps.
    - `sees[i, j]`: whether output i comes after step j.
    """
    slope = slopes(at_key)
    reach = jnp.where(sees, query @ jnp.swapaxes(key, -1, -2), 0.0)
    return at_query - reach @ slope, slope


class TTTLinear(AbstractMemoryCell):
    """TTT-Linear: each head is a linear model that is trained while it reads."""

    project: Float[Array, "inputs 3*size"]
    """To queries, keys and values."""
    rate: Linear
    """A map to the step size of each head, through a sigmoid."""
    weights: Float[Array, "heads width+1 width"]
    """W₀, with the bias as its last row."""
    scale: Float[Array, "heads 1 width"]
    """The scale of the layer norm inside of the inner models."""
    shift: Float[Array, "heads 1 width"]
    """The shift of the layer norm inside of the inner models."""
    out_norm: LayerNorm
    out: Linear
    size: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    mini_batch: int = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        size: int,
        *,
        mini_batch: int = MINI_BATCH,
        final_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** entries of an input and of the output; inputs of a mini-batch;
        `final_scale` multiplies the first weights of the output."""
        *keys, rate_key, weights_key, out_key = jax.random.split(key, 6)
        self.project = jnp.concatenate([orthogonal(k, (inputs, size)) for k in keys], axis=1)
        self.size = size
        self.heads = heads_of(size)
        width = size // self.heads
        self.rate = Linear(inputs, self.heads, key=rate_key)
        first = orthogonal(weights_key, (self.heads, width, width))
        self.weights = jnp.concatenate([first, jnp.zeros((self.heads, 1, width))], axis=1)
        self.scale = jnp.ones((self.heads, 1, width))
        self.shift = jnp.zeros((self.heads, 1, width))
        self.out_norm = LayerNorm(size)
        self.out = Linear(size, size, scale=final_scale, key=out_key)
        self.mini_batch = mini_batch

    def initial(self) -> TTTState:
        unchanged = jnp.zeros_like(self.weights)
        return TTTState(unchanged, unchanged, jnp.zeros((), jnp.int32))

    def step(
        self, state: TTTState, x: Float[Array, "... inputs"]
    ) -> tuple[TTTState, Float[Array, "... size"]]:
        views = jax.tree.map(lambda y: y[..., None, :], self._views(x))
        slope = self._slopes(views, views.key @ (self.weights + state.began))
        now = state.now - jnp.swapaxes(views.key, -1, -2) @ slope
        said = self._answer(views, views.query @ (self.weights + now))[..., 0, :]
        position = state.position + 1
        full = (position % self.mini_batch == 0)[..., None, None, None]
        return TTTState(jnp.where(full, now, state.began), now, position), self._say(said)

    def unroll(
        self,
        state: TTTState,
        x: Float[Array, "time ... inputs"],
        reset: Bool[Array, "time ..."] | None = None,
        valid: Bool[Array, "time ..."] | None = None,
    ) -> tuple[TTTState, Float[Array, "time ... size"]]:
        packed = pack(x, reset, valid)
        position = positions(state.position, len(x), packed.reset)
        blocks = blocks_of(position, packed.reset, packed.count, self.mini_batch)
        last = last_position(position, packed.count)

        def read(changes: tuple[Array, Array], block: Blocks):
            def reading(changes):
                return self._read(*changes, take(packed.x, block.rows), block)  # pyright: ignore

            def idle(changes):
                return changes, jnp.zeros((*block.rows.shape, self.size))

            return jax.lax.cond(jnp.any(block.real), reading, idle, changes)

        (began, now), said = jax.lax.scan(
            read, (state.began, state.now), blocks._replace(place=None)
        )
        said = take(said.reshape(-1, *said.shape[2:]), blocks.place)
        there = (last > 0)[..., None, None, None]
        state = TTTState(jnp.where(there, began, 0.0), jnp.where(there, now, 0.0), last)
        return state, packed.unpack(self._say(said))

    def _read(
        self, began: Array, now: Array, x: Float[Array, "block ... inputs"], block: Blocks
    ) -> tuple[tuple[Array, Array], Float[Array, "block ... size"]]:
        """The changes after a block, and what the inner models say in it. Of the trials in it the
        first goes on from the changes given, the others start from none."""
        views = jax.tree.map(lambda y: jnp.moveaxis(y, 0, -2), self._views(x))
        trial = jnp.moveaxis(jnp.cumsum(block.fresh, axis=0), 0, -1)[..., None, :]
        real, full = (jnp.moveaxis(y, 0, -1)[..., None, :] for y in (block.real, block.full))
        goes_on, in_last = trial == 0, real & (trial == trial[..., -1:])
        earlier = jnp.tril(jnp.ones((len(x), len(x)), bool))
        sees = earlier & (trial[..., :, None] == trial[..., None, :]) & real[..., None, :]

        def times(key: Array, change: Array) -> Array:
            return key @ self.weights + jnp.where(goes_on[..., None], key @ change, 0.0)

        answer, slope = dual_form(
            lambda z: self._slopes(views, z),
            views.key,
            views.query,
            times(views.key, began),
            times(views.query, now),
            sees,
        )
        steps = jnp.swapaxes(jnp.where(in_last[..., None], views.key, 0.0), -1, -2) @ slope
        only = goes_on[..., -1:, None]
        now = jnp.where(only, now, 0.0) - steps
        done = jnp.any(full & in_last, axis=-1)[..., None, None]
        began = jnp.where(done, now, jnp.where(only, began, 0.0))
        return (began, now), jnp.moveaxis(self._answer(views, answer), -2, 0)

    def _views(self, x: Float[Array, "... inputs"]) -> Views:
        parts = jnp.split(x @ self.project, 3, axis=-1)
        query, key, value = (p.reshape(*p.shape[:-1], self.heads, -1) for p in parts)
        one = jnp.ones((*key.shape[:-1], 1))
        rate = jax.nn.sigmoid(self.rate(x))[..., None] / key.shape[-1]
        return Views(
            jnp.concatenate([key, one], -1), jnp.concatenate([query, one], -1), value - key, rate
        )

    def _slopes(self, views: Views, z: Float[Array, "... heads steps width"]) -> Array:
        """η ∂ℓ/∂z at linear outputs z."""

        def losses(z: Array) -> Float[Array, ""]:
            return 0.5 * jnp.sum((self._normalize(z) - views.label) ** 2)

        return views.rate * jax.grad(losses)(z)

    def _answer(
        self, views: Views, z: Float[Array, "... heads steps width"]
    ) -> Float[Array, "... steps size"]:
        """q + f(q) of all heads, from the linear outputs for the queries."""
        answer = jnp.swapaxes(views.query[..., :-1] + self._normalize(z), -2, -3)
        return answer.reshape(*answer.shape[:-2], self.size)

    def _normalize(self, z: Float[Array, "... heads steps width"]) -> Array:
        return standardized(z) * self.scale + self.shift

    def _say(self, answer: Float[Array, "... size"]) -> Float[Array, "... size"]:
        return self.out(self.out_norm(answer))
