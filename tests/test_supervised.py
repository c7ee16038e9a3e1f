"""Supervised meta-learning: sine waves, MAML's meta-gradient, the loop, and that it learns."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from stemrl.core import Examples, UserError
from stemrl.evaluate import few_shot_losses
from stemrl.meta import SupervisedMaml
from stemrl.runs import NonFinite, checkpoint, train_supervised
from stemrl.runs.metrics import read_rows
from stemrl.tasks.sinusoid import Sinusoid

SMALL = dict(meta_batch_size=3, shots=4, queries=5, hidden=(8,), inner_learning_rate=0.05)
FAMILY = Sinusoid()


# --- The family ------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0.1, 5), ("ood", 5, 10)])
def test_sine_waves_are_drawn_as_the_paper_says(split, low, high):
    n = 4096
    tasks = FAMILY.tasks(jax.random.key(0), split, n)
    keys = jax.random.split(jax.random.key(1), n)
    x, y = jax.vmap(lambda k, p: FAMILY.data(k, p, 8))(keys, tasks)
    assert x.shape == y.shape == (n, 8, 1)
    a, phase = tasks["amplitude"], tasks["phase"]
    for values, (first, last) in ((a, (low, high)), (phase, (0, np.pi)), (x, (-5, 5))):
        assert first <= values.min() and values.max() <= last
        # Deciles of a uniform distribution, within 5 standard errors.
        deciles = np.quantile(np.ravel(values), np.arange(0.1, 1, 0.1))
        np.testing.assert_allclose(
            deciles, first + (last - first) * np.arange(0.1, 1, 0.1), atol=2.5 * (last - first) / 64
        )
    assert abs(np.corrcoef(a, phase)[0, 1]) < 5 / 64
    np.testing.assert_allclose(
        y, a[:, None, None] * np.sin(x - phase[:, None, None]), rtol=1e-4, atol=1e-4
    )
    # E[y²]: the analytic value, within 5 standard errors over tasks.
    squares = np.mean(np.asarray(y) ** 2, (1, 2))
    error = squares.std() / np.sqrt(n)
    assert abs(squares.mean() - FAMILY.zero_loss(split)) < 5 * error


def test_predicting_zero_costs_what_it_does_with_a_known_amplitude():
    """A = 2 always: E[y²] = A²/2 = 2. And Table 2's "about 4.25"."""
    assert Sinusoid(min_amplitude=2, max_amplitude=2).zero_loss("train") == pytest.approx(2)
    assert FAMILY.zero_loss("test") == pytest.approx(4.2517, abs=1e-4)


def test_another_range_is_another_family():
    assert FAMILY.identity != Sinusoid(max_amplitude=4).identity
    assert FAMILY.identity.startswith("sinusoid@1(")


# --- The meta-gradient -----------------------------------------------------------------------


def meta_objective(**settings):
    """The outer objective on three tasks, as a function of flat θ (and rates), in float64."""
    learner = SupervisedMaml(**{**SMALL, "activation": "tanh", **settings})
    initialization = learner.init(FAMILY, jax.random.key(0)).initialization
    train, test = learner.draw(FAMILY, jax.random.key(1))
    theta, unflatten = ravel_pytree(jax.tree.map(lambda x: x.astype(jnp.float64), initialization))
    return lambda v: learner.objective(FAMILY, unflatten(v), train, test)[0], theta


@pytest.mark.parametrize(("inner_steps", "rates"), [(1, "fixed"), (2, "element"), (6, "tensor")])
def test_meta_gradient_agrees_with_finite_differences(inner_steps, rates):
    with jax.enable_x64(True):
        objective, theta = meta_objective(inner_steps=inner_steps, inner_rates=rates)
        direction = jax.random.normal(jax.random.key(2), theta.shape, jnp.float64)

        @jax.jit
        def both(theta, v):
            h = 1e-5
            ahead, behind = jax.lax.map(objective, jnp.stack([theta + h * v, theta - h * v]))
            return jax.grad(objective)(theta) @ v, (ahead - behind) / (2 * h)

        exact, numeric = both(theta, direction)
        np.testing.assert_allclose(exact, numeric, rtol=1e-6)


def test_first_order_leaves_the_second_derivatives_out():
    with jax.enable_x64(True):
        (value, exact), (first_value, first) = (
            jax.jit(jax.value_and_grad(objective))(theta)
            for objective, theta in (meta_objective(), meta_objective(first_order=True))
        )
        np.testing.assert_allclose(value, first_value, rtol=1e-12)
        assert jnp.linalg.norm(exact - first) > 0.02 * jnp.linalg.norm(exact)


def test_fit_is_plain_gradient_descent_on_the_training_set():
    """A linear model by hand: ŷ = w x + b, gradients 2·mean(e x) and 2·mean(e)."""
    learner = SupervisedMaml(hidden=(), inner_learning_rate=0.1)
    state = learner.init(FAMILY, jax.random.key(0))
    x, y = np.array([[0.5], [-1.0], [2.0]]), np.array([[1.0], [0.0], [-1.0]])
    w, b = float(state.initialization.network.layers[0].weight[0, 0]), 0.0
    for _ in range(3):
        e = w * x + b - y
        w, b = w - 0.1 * 2 * np.mean(e * x), b - 0.1 * 2 * np.mean(e)
    fitted = learner.fit(FAMILY, state, Examples(jnp.asarray(x), jnp.asarray(y)), 3)
    np.testing.assert_allclose(fitted(jnp.asarray(x)), w * x + b, rtol=1e-5)


# --- The loop --------------------------------------------------------------------------------

QUICK = SupervisedMaml(**SMALL, inner_rates="element")


def same(a, b):
    """Whether two states are equal, bit for bit."""

    def data(x):
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(data(x), data(y)) for x, y in pairs)


def test_resumed_training_is_the_same_bit_for_bit(tmp_path):
    whole = train_supervised(
        QUICK, FAMILY, tmp_path / "whole", updates=600, seeds=2, progress=False
    )
    for updates in (100, 520, 600):
        parts = train_supervised(
            QUICK, FAMILY, tmp_path / "parts", updates=updates, seeds=2, progress=False
        )
    assert all(same(a, b) for a, b in zip(whole.states, parts.states, strict=True))
    assert not same(*whole.states)
    # Opened again, it is there without training.
    again = train_supervised(
        QUICK, FAMILY, tmp_path / "whole", updates=600, seeds=2, progress=False
    )
    assert again.seconds == pytest.approx(whole.seconds, abs=1e-3)
    assert all(same(a, b) for a, b in zip(whole.states, again.states, strict=True))
    rows = read_rows(tmp_path / "parts" / "metrics.jsonl")
    assert [(r["update"], r["seed"]) for r in rows] == [
        (n, seed) for n in (100, 512, 520, 600) for seed in (0, 1)
    ]
    # A damaged checkpoint is passed over for the one before it.
    saved = checkpoint.saved(tmp_path / "parts" / "checkpoints")
    (saved[-1] / "state.safetensors").write_bytes(b"nothing")
    parts = train_supervised(
        QUICK, FAMILY, tmp_path / "parts", updates=600, seeds=2, progress=False
    )
    assert all(same(a, b) for a, b in zip(whole.states, parts.states, strict=True))
    with pytest.raises(UserError, match="cannot resume with another shots"):
        other = dataclasses.replace(QUICK, shots=5)
        train_supervised(other, FAMILY, tmp_path / "parts", updates=700, seeds=2)
    with pytest.raises(UserError, match="cannot resume with another family"):
        train_supervised(QUICK, Sinusoid(reach=4), tmp_path / "parts", updates=700, seeds=2)
    with pytest.raises(UserError, match="600 updates already"):
        train_supervised(QUICK, FAMILY, tmp_path / "parts", updates=10, seeds=2)


def test_what_blows_up_says_so(tmp_path):
    wild = dataclasses.replace(QUICK, inner_learning_rate=1e30)
    with pytest.raises(NonFinite, match=r"update 1: .* of seed 0 is not finite"):
        train_supervised(wild, FAMILY, tmp_path, updates=600, progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "shots must be at least 1"),
        ({"inner_steps": -1}, "inner_steps must be at least 0"),
        ({"inner_rates": "all"}, "inner_rates must be fixed, tensor or element"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings, message):
    with pytest.raises(UserError, match=message):
        SupervisedMaml(**settings)
    with pytest.raises(UserError, match="amplitudes"):
        Sinusoid(min_amplitude=6)


# --- Learning --------------------------------------------------------------------------------


def test_maml_adapts_where_pretraining_cannot(tmp_path):
    """The same learner without its inner step is pretraining, which no few steps save."""
    after = {}
    for inner_steps in (1, 0):
        learner = SupervisedMaml(inner_steps=inner_steps, learning_rate=3e-3)
        run = train_supervised(
            learner, FAMILY, tmp_path / str(inner_steps), updates=3000, progress=False
        )
        losses = few_shot_losses(
            learner, FAMILY, run.states[0], shots=10, steps=(0, 1, 5), tasks=200
        )
        after[inner_steps] = losses.mean(1)
    before, one, five = after[1]
    assert five < one < 0.5 * before
    assert one < 1.5 and after[0][1] > 2 * one
    assert after[0][2] > 2 * five


def test_every_learner_is_shown_the_same_tasks():
    """Losses of equal predictors are equal, and those of another seed are not."""
    linear = SupervisedMaml(hidden=())
    state = linear.init(FAMILY, jax.random.key(0))
    options = dict(shots=5, tasks=4, queries=7)
    first = few_shot_losses(linear, FAMILY, state, steps=(0, 0, 1), **options)
    assert first.shape == (3, 4) and np.array_equal(first[0], first[1])
    other = dataclasses.replace(linear, inner_learning_rate=0.0)
    np.testing.assert_array_equal(
        few_shot_losses(other, FAMILY, state, steps=(3,), **options)[0], first[0]
    )
    assert not np.array_equal(
        few_shot_losses(linear, FAMILY, state, steps=(0,), seed=1, **options)[0], first[0]
    )
    with pytest.raises(UserError, match="at least 1"):
        few_shot_losses(linear, FAMILY, state, shots=0)


# --- The card --------------------------------------------------------------------------------


def test_the_card_runs(tmp_path, monkeypatch):
    from stemrl.cards import reproduce

    monkeypatch.chdir(tmp_path)
    result, path = reproduce("maml-sinusoid", scale="quick", seeds=2, progress=False)
    assert json.loads(path.read_text()) == result
    rows = {row["name"]: row for row in result["rows"]}
    assert all(np.isfinite(row["mean"]) for row in rows.values())
    bars = [row["bar"] for row in rows.values() if row["bar"] is not None]
    assert bars == [0.67, 0.38, 0.35]
    assert result["settings"]["MAML"]["updates"] == 512
