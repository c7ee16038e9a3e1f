"""Memories that look back or learn: read at once as step by step, resets and padding anywhere; TTT's
dual form; what RL² makes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from stemrl.networks import ResidualStack, TTTLinear, memory_cell

TIME, LANES, INPUTS, LENGTH, MINI_BATCH = 22, 4, 3, 6, 4
NAMES = ("snail", "transformer", "ttt", "gru stack")


@jax.jit
def unroll(cell, state, x, reset=None, valid=None):
    return cell.unroll(state, x, reset, valid)


@jax.jit
def input_gradient(cell, state, x, reset, valid, weight, weight_last):
    """With respect to `x`, of the weighted squares of the outputs and the weighted sum of what is held
    at the end."""

    def said(x):
        last, outputs = cell.unroll(state, x, reset, valid)
        held = sum(jnp.sum(y) for y in jax.tree.leaves(last) if y.dtype == x.dtype)
        return jnp.sum(weight[..., None] * outputs * (1 + outputs)) + weight_last * held

    return jax.grad(said)(x)


@eqx.filter_jit
def cell_of(name, size=64, length=LENGTH, key=0):
    """Two layers, two heads at size 64, a window and mini-batches shorter than the sequences."""
    keys = jax.random.split(jax.random.key(key), 3)
    if name == "ttt":
        memories = [TTTLinear(size, size, mini_batch=MINI_BATCH, key=k) for k in keys[1:]]
        return ResidualStack(INPUTS, tuple(memories), key=keys[0])
    name, _, _ = name.partition(" ")
    return memory_cell(name, INPUTS, size, length=length, layers=2, key=keys[0])


def moved(cell, way, step):
    """Every parameter, biases and norms too, so far away from its value. In NumPy, since JAX would compile
    a program for each shape."""
    return jax.tree.map(lambda x, d: np.asarray(x) + np.float32(step) * d, cell, way)


def way_of(cell, seed):
    """A direction in which parameters may go."""
    values = np.random.default_rng(seed)
    return jax.tree.map(lambda x: values.standard_normal(x.shape, np.float32), cell)


@jax.jit
def step_by_step(cell, state, x, reset, valid):
    """What `unroll` promises, in a loop."""

    def step(state, row):
        x, reset, valid = row

        def where(flag, new, old):
            return jnp.where(flag.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        state = jax.tree.map(lambda new, old: where(reset, new, old), cell.initial(), state)
        following, output = cell.step(state, x)
        return jax.tree.map(lambda new, old: where(valid, new, old), following, state), output

    return jax.lax.scan(step, state, (x, reset, valid))


@pytest.fixture(scope="module", params=NAMES)
def setting(request):
    """A cell, what lanes hold after different pasts, inputs, resets anywhere, holes of padding."""
    keys = jax.random.split(jax.random.key(1), 6)
    cell = cell_of(request.param)
    cell = jax.device_put(moved(cell, way_of(cell, 0), 0.1))
    state = jax.tree.map(lambda y: jnp.broadcast_to(y, (LANES, *y.shape)), cell.initial())
    past = jax.random.normal(keys[1], (TIME, LANES, INPUTS))
    # Nothing before; a little; more than the window; ended in the middle of a mini-batch.
    lived = jnp.arange(TIME)[:, None] < jnp.array([0, 3, 9, 6])
    state, _ = step_by_step(cell, state, past, jnp.zeros_like(lived), lived)
    x = jax.random.normal(keys[2], (TIME, LANES, INPUTS))
    reset = jax.random.bernoulli(keys[3], 0.15, (TIME, LANES)).at[:, 2].set(False)
    # A short trial or two within one block, and one that starts with the sequence.
    reset = reset.at[jnp.array([8, 9, 11]), 1].set(True).at[0, 3].set(True)
    valid = jax.random.bernoulli(keys[4], 0.7, (TIME, LANES)).at[-3:, 1].set(False)
    # A reset on padding, after which nothing comes.
    reset = reset.at[-2, 1].set(True)
    return cell, state, x, reset, valid


def close(ours, theirs, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance), ours, theirs
    )


def test_at_once_is_step_by_step(setting):
    """With what came in, and resets in the middle of lanes; past the window and mini-batches."""
    cell, state, x, reset, _ = setting
    never, always = reset & False, reset | True
    for resets in (never, reset):
        given = cell, state, x, resets, always
        close(unroll(*given), step_by_step(*given))


def test_padding_anywhere_is_not_read(setting):
    cell, state, x, reset, valid = setting
    last, outputs = unroll(cell, state, x, reset, valid)
    expected, stepped = step_by_step(cell, state, x, reset, valid)
    close(last, expected)
    close(outputs[valid], stepped[valid])

    gradient = input_gradient(cell, state, x, reset, valid, valid.astype(float), 1.0)
    assert not jnp.any(gradient[~valid]) and jnp.all(jnp.any(gradient[valid] != 0, axis=-1))


def test_chunks_are_the_whole(setting):
    cell, state, x, reset, _ = setting
    valid, half = reset | True, TIME // 2
    last, outputs = unroll(cell, state, x, reset, valid)
    middle, first = unroll(cell, state, x[:half], reset[:half], valid[:half])
    end, second = unroll(cell, middle, x[half:], reset[half:], valid[half:])
    close((end, jnp.concatenate([first, second])), (last, outputs))


def test_a_reset_forgets_and_only_a_reset(setting):
    """No gradient passes a reset; without one it reaches as far back as is promised."""
    cell, state, x, _, _ = setting
    reset = jnp.zeros((TIME, LANES), bool).at[18, 1].set(True)
    last = jnp.zeros((TIME, LANES)).at[-1].set(1.0)
    gradient = input_gradient(cell, state, x, reset, reset | True, last, 0.0)
    reached = jnp.any(gradient != 0, axis=-1)
    assert not reached[:18, 1].any() and reached[18:, 1].all()
    # A window of two layers reaches back twice its length.
    assert reached[-(2 * LENGTH - 1) :, 0].all()


def test_every_parameter_is_learned_and_its_gradient_right(setting):
    cell, state, x, reset, _ = setting
    x, reset = x[:9], reset[:9]

    @jax.jit
    @jax.value_and_grad
    def loss(cell):
        return jnp.mean(jnp.sin(cell.unroll(state, x, reset)[1]))

    gradient = loss(cell)[1]
    # A key's bias adds the same to all logits of a query, and a softmax does not see that.
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        blind = ".key.bias" in jax.tree_util.keystr(path)
        assert bool(np.any(np.asarray(leaf) != 0)) != blind, jax.tree_util.keystr(path)
    # Along a few directions, by central differences.
    for seed in range(3):
        way, step = way_of(cell, 1 + seed), 2e-3
        ahead, behind = (float(loss(moved(cell, way, s * step))[0]) for s in (1, -1))
        slope = sum(
            np.sum(np.asarray(a) * b)
            for a, b in zip(*map(jax.tree.leaves, (gradient, way)), strict=True)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_leading_dimensions(name):
    cell = cell_of(name, size=5)
    assert cell.size == 5
    x = jax.random.normal(jax.random.key(0), (7, INPUTS))
    alone = unroll(cell, cell.initial(), x)[1]
    assert alone.shape == (7, 5)
    state = jax.tree.map(lambda y: jnp.broadcast_to(y, (2, 3, *y.shape)), cell.initial())
    close(
        unroll(cell, state, jnp.broadcast_to(x[:, None, None], (7, 2, 3, INPUTS)))[1][:, 1, 2],
        alone,
    )

    def shortest():
        one = cell_of(name, size=5, length=1)
        return one.step(one.initial(), x[0])[1]

    assert jax.eval_shape(shortest).shape == (5,)
