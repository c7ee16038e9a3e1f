"""The gradient loop: rates of each leaf, what is held still, slow copies, and the hook."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from stemrl.rl.fitting import descend, fit, gradient_steps, optimizer

SGD = optax.identity()


def test_each_leaf_moves_at_its_own_rate():
    parameters = {"trunk": jnp.ones(2), "head": jnp.ones(1)}
    gradient = {"trunk": jnp.ones(2), "head": jnp.ones(1)}
    factors = {"trunk": jnp.asarray(0.1), "head": jnp.asarray(1.0)}
    moved, _ = descend(SGD, gradient, SGD.init(parameters), parameters, 0.5, factors)
    assert moved["trunk"].tolist() == pytest.approx([0.95, 0.95])
    assert moved["head"].tolist() == pytest.approx([0.5])


def test_what_stands_still_does_not_count_in_the_norm():
    parameters = {"trunk": jnp.zeros(1), "head": jnp.zeros(1)}
    gradient = {"trunk": jnp.full(1, 300.0), "head": jnp.full(1, 0.5)}
    clip: Any = optax.clip_by_global_norm(1.0)
    still = {"trunk": jnp.asarray(0.0), "head": jnp.asarray(1.0)}
    alone, _ = descend(clip, gradient, clip.init(parameters), parameters, 1.0, still)
    assert alone["trunk"].tolist() == [0.0] and alone["head"].tolist() == [-0.5]
    both, _ = descend(clip, gradient, clip.init(parameters), parameters, 1.0)
    assert float(both["head"][0]) > -0.01


def test_slow_copies_follow_each_step_and_the_gradient_sees_them():
    def gradient(x, slow, batch):
        return x - batch, {"slow": slow}

    descent = gradient_steps(
        gradient,
        jnp.zeros(()),
        SGD.init(jnp.zeros(())),
        jnp.asarray([1.0, 1.0]),
        learning_rate=0.5,
        transform=SGD,
        slow=jnp.zeros(()),
        after=lambda x, slow: slow + 0.1 * (x - slow),
    )
    # x: 0.5, 0.75; slow: 0.05, 0.05 + 0.1 · 0.7.
    assert float(descent.parameters) == 0.75
    assert float(descent.slow) == pytest.approx(0.12)
    assert descent.metrics["slow"].tolist() == pytest.approx([0.0, 0.05])
    assert descent.taken.tolist() == [1.0, 1.0]


def test_from_the_first_refusal_on_nothing_moves():
    descent = gradient_steps(
        lambda x, slow, batch: (-jnp.ones(()), {"far": x}),
        jnp.zeros(()),
        SGD.init(jnp.zeros(())),
        jnp.arange(6),
        learning_rate=1.0,
        transform=SGD,
        go_on=lambda metrics: metrics["far"] < 3,
    )
    assert float(descent.parameters) == 3.0
    assert descent.taken.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_hook_replaces_the_gradient_of_a_minibatch():
    def loss(x, rows):
        return jnp.mean(rows) * x, {"loss": x}

    def opposite(loss, x, rows):
        gradient, metrics = jax.grad(loss, has_aux=True)(x, rows)
        return -gradient, metrics

    def moved(gradient) -> float:
        start: Any = jnp.zeros(())
        return float(
            fit(
                loss,
                start,
                optimizer(1.0).init(start),
                jnp.ones(8),
                jax.random.key(0),
                epochs=1,
                minibatches=2,
                learning_rate=0.1,
                max_gradient_norm=1.0,
                gradient=gradient,
            )[0]
        )

    assert moved(None) == pytest.approx(-0.2, rel=1e-3)
    assert moved(opposite) == pytest.approx(0.2, rel=1e-3)
