"""Memory cells: against the textbook's equations, and what resetting and freezing promise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from stemrl.networks import GRU, LSTM, DeltaMemory, memory_cell

TIME, LANES, INPUTS, SIZE = 7, 3, 4, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_reference(cell: GRU, h, x):
    """One step, gate by gate, in NumPy."""
    wr, wz, wn = np.split(np.asarray(cell.input, float), 3, 1)
    ur, uz, un = np.split(np.asarray(cell.recurrent, float), 3, 1)
    br, bz, bn = np.split(np.asarray(cell.bias, float), 3)
    c = np.asarray(cell.candidate_bias, float)
    r = sigmoid(x @ wr + br + h @ ur)
    z = sigmoid(x @ wz + bz + h @ uz)
    n = np.tanh(x @ wn + bn + r * (h @ un + c))
    h = (1 - z) * n + z * h
    return h, h


def lstm_reference(cell: LSTM, state, x):
    """One step, gate by gate, in NumPy."""
    h, c = np.split(state, 2, -1)
    w, u = np.asarray(cell.input, float), np.asarray(cell.recurrent, float)
    i, f, o, g = np.split(x @ w + np.asarray(cell.bias, float) + h @ u, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return np.concatenate([h, c], -1), h


def delta_reference(cell: DeltaMemory, state, x):
    """One step, lane by lane and head by head, in NumPy."""
    width = cell.size // cell.heads
    parts = np.split(x @ np.asarray(cell.projections, float), 4, -1)
    parts[2] = parts[2] + np.asarray(cell.value_bias, float)
    parts[3] = sigmoid(parts[3] + np.asarray(cell.strength_bias, float))
    state, found = state.copy(), np.empty((*x.shape[:-1], cell.size))
    for lane in range(len(x)):
        for head in range(cell.heads):
            mine = slice(head * width, (head + 1) * width)
            key, query, value, strength = (part[lane, mine] for part in parts)
            key, query = (y * sigmoid(y) for y in (key, query))
            key, query = (y / np.sqrt(y @ y + 1e-6) for y in (key, query))
            fast = state[lane].reshape(cell.heads, width, width)[head]
            fast += np.outer(strength * (value - fast @ key), key)  # a view of `state`
            found[lane, mine] = fast @ query
    return state, found


@jax.jit
def unroll(cell, state, x, reset=None, valid=None):
    return cell.unroll(state, x, reset, valid)


@jax.jit
def step(cell, state, x):
    return cell.step(state, x)


made = eqx.filter_jit(memory_cell)

REFERENCES = {"gru": gru_reference, "lstm": lstm_reference, "delta": delta_reference}


@pytest.fixture(scope="module", params=["gru", "lstm", "delta"])
def setting(request):
    """Name, cell with random biases, start states and inputs."""
    keys = jax.random.split(jax.random.key(0), 4)
    cell = made(request.param, INPUTS, SIZE, key=keys[0])
    leaves, tree = jax.tree.flatten(cell)
    noise = jax.random.split(keys[1], len(leaves))
    leaves = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, noise, strict=True)]
    cell = jax.tree.unflatten(tree, leaves)
    state = jax.random.normal(keys[2], (LANES, *cell.initial().shape))
    x = jax.random.normal(keys[3], (TIME, LANES, INPUTS))
    return request.param, cell, state, x


def test_unroll_is_step_after_step_is_the_reference(setting):
    name, cell, state, x = setting
    last, outputs = unroll(cell, state, x)
    stepped, expected = state, np.asarray(state, float)
    for t in range(TIME):
        stepped, output = step(cell, stepped, x[t])
        expected, reference = REFERENCES[name](cell, expected, np.asarray(x[t], float))
        np.testing.assert_allclose(outputs[t], output, atol=1e-6)
        np.testing.assert_allclose(output, reference, atol=1e-5)
    np.testing.assert_allclose(last, stepped, atol=1e-6)
    assert outputs.shape == (TIME, LANES, cell.size)


def test_a_reset_forgets_everything_before_it(setting):
    _, cell, state, x = setting
    reset = jnp.zeros((TIME, LANES), bool).at[4, 1].set(True)
    last, outputs = unroll(cell, state, x, reset)
    _, plain = unroll(cell, state, x)
    start = jnp.broadcast_to(cell.initial(), state.shape)
    fresh, after = unroll(cell, start, x[4:])
    np.testing.assert_array_equal(outputs[4:, 1], after[:, 1])
    np.testing.assert_array_equal(last[1], fresh[1])
    np.testing.assert_array_equal(outputs[:, 0], plain[:, 0])

    def ending(state, x):
        return jnp.sum(cell.unroll(state, x, reset)[0][1] ** 2)

    by_state, by_input = jax.jit(jax.grad(ending, (0, 1)))(state, x)
    assert not jnp.any(by_state) and not jnp.any(by_input[:4]) and jnp.any(by_input[4:, 1])


def test_a_memory_stands_still_on_padding(setting):
    """Whatever the padding holds: same states as without it, and no gradient."""
    _, cell, state, x = setting
    valid = jnp.ones((TIME, LANES), bool).at[2:5, 0].set(False).at[6, 2].set(False)
    last, outputs = unroll(cell, state, x, None, valid)
    short = jnp.concatenate([x[:2, :1], x[5:, :1]])
    expected, shortened = unroll(cell, state[:1], short)
    np.testing.assert_allclose(last[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(outputs[5:, 0], shortened[2:, 0], atol=1e-6)
    np.testing.assert_allclose(last[2], unroll(cell, state, x[:6])[0][2], atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(cell.unroll(state, x, None, valid)[0])))(x)
    assert not jnp.any(gradient[~valid]) and jnp.all(jnp.any(gradient[valid] != 0, axis=-1))


def test_any_leading_dimensions(setting):
    _, cell, state, x = setting
    alone = unroll(cell, state[0], x[:, 0])[1]
    np.testing.assert_allclose(alone, unroll(cell, state, x)[1][:, 0], atol=1e-6)
    two = unroll(cell, state[None], x[:, None])[1]
    assert two.shape == (TIME, 1, LANES, SIZE)


def test_the_gradient_agrees_with_finite_differences(setting):
    _, cell, state, x = setting
    reset = jnp.zeros((TIME, LANES), bool).at[3, 0].set(True)

    @jax.jit
    def loss(cell, x):
        return jnp.sum(jnp.sin(cell.unroll(state, x, reset)[1]))

    jax.test_util.check_grads(loss, (cell, x), 1, modes=("fwd", "rev"), atol=1e-2, rtol=1e-2)


def test_fast_weights_are_a_table():
    """Keys of unit vectors, β = 1: what was last written is found, and nothing else is touched."""
    size = 6
    cell = made("delta", 3 * size, size, key=jax.random.key(0))
    assert isinstance(cell, DeltaMemory) and cell.heads == 1
    one, no = 100 * jnp.eye(size), jnp.zeros((size, size))  # SiLU and length 1 make 100 a 1
    cell = eqx.tree_at(
        lambda c: (c.projections, c.strength_bias),
        cell,
        (
            # Of an input (key, query, value): keys, queries, values; strengths are by bias alone.
            jnp.block([[one, no, no, no], [no, one, no, no], [no, no, jnp.eye(size), no]]),
            jnp.full(size, 50.0),
        ),
    )
    state, table = cell.initial(), {}
    generator = np.random.default_rng(0)
    for _ in range(30):
        key, query = generator.integers(size, size=2)
        value = generator.normal(size=size).astype(np.float32)
        table[key] = value
        x = np.concatenate([np.eye(size)[key], np.eye(size)[query], value])
        state, found = step(cell, state, jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(found, table.get(query, np.zeros(size)), atol=1e-5)


@pytest.mark.parametrize(("size", "heads"), ((8, 1), (64, 2), (96, 3), (100, 2), (97, 1)))
def test_heads_are_of_about_32(size, heads):
    cell = eqx.filter_eval_shape(memory_cell, "delta", 3, size, key=jax.random.key(0))
    assert isinstance(cell, DeltaMemory) and cell.heads == heads
    assert eqx.filter_eval_shape(lambda c: c.step(c.initial(), jnp.ones(3))[1], cell).shape == (
        size,
    )


@pytest.mark.parametrize("name", ("gru", "lstm"))
def test_a_span_is_how_long_entries_are_kept(name):
    """Without inputs and recurrence an entry's gate alone keeps it: for 1 to `chrono_span` steps, evenly."""
    cell = made(name, 1, 300, chrono_span=50, key=jax.random.key(0))
    keep = sigmoid(np.asarray(cell.bias[300:600]))
    times = keep / (1 - keep)
    assert 0.99 < times.min() < 2 and 48 < times.max() < 49.01
    assert abs(times.mean() - 25) < 2
    if name == "lstm":
        np.testing.assert_allclose(sigmoid(np.asarray(cell.bias[:300])), 1 - keep, atol=1e-6)
    plain = made(name, 1, 300, key=jax.random.key(0))
    np.testing.assert_array_equal(cell.input, plain.input)


def test_unknown_cell():
    with pytest.raises(ValueError, match="known: gru, lstm"):
        memory_cell("ntm", 1, 1, key=jax.random.key(0))  # pyright: ignore[reportArgumentType]
