"""TRPO, its parts, and the linear feature baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.rl import (
    Categorical,
    DiagonalGaussian,
    FisherMatrix,
    conjugate_gradient,
    discounted_returns,
    episode_advantages,
    linear_baseline,
    trust_region_update,
)


def test_conjugate_gradient_solves_a_positive_definite_system():
    root = jax.random.normal(jax.random.key(0), (6, 6))
    matrix = root @ root.T + jnp.eye(6)
    b = jnp.arange(6.0) - 2
    x, product = conjugate_gradient(lambda v: matrix @ v, b, 12)
    np.testing.assert_allclose(x, jnp.linalg.solve(matrix, b), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(product, matrix @ x, rtol=1e-3, atol=1e-5)


def test_conjugate_gradient_of_nothing_is_nothing():
    x, _ = conjugate_gradient(lambda v: v, jnp.zeros(3), 5)
    np.testing.assert_array_equal(x, jnp.zeros(3))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_fisher_matrix_is_the_covariance_of_the_score(kind):
    """F = E[∇log π ∇log πᵀ], here with the expectation over actions taken exactly."""
    seen_key, theta_key = jax.random.split(jax.random.key(1))
    inputs = jax.random.normal(seen_key, (5, 3))
    weight = jnp.array([0.4, 0.3, 0.2, 0.1, 0.0])

    if kind == "categorical":
        theta = jax.random.normal(theta_key, (3 * 4,))

        def policy(theta):
            return Categorical(inputs @ theta.reshape(3, 4))

        score = jax.jacobian(lambda t: jax.nn.log_softmax(policy(t).logits))(theta)
        chance = jax.nn.softmax(policy(theta).logits)
        expected = jnp.einsum("s,sa,sai,saj->ij", weight, chance, score, score)
    else:
        theta = jax.random.normal(theta_key, (3 * 2 + 2,))

        def policy(theta):
            return DiagonalGaussian(inputs @ theta[:6].reshape(3, 2), theta[6:])

        mean = jax.jacobian(lambda t: policy(t).mean)(theta)
        expected = jnp.einsum("s,sai,saj,a->ij", weight, mean, mean, jnp.exp(-2 * theta[6:]))
        expected += jnp.diag(jnp.concatenate([jnp.zeros(6), jnp.full(2, 2.0)]))

    matrix = FisherMatrix.of(policy, theta, weight)
    columns = jax.vmap(lambda v: matrix @ v)(jnp.eye(theta.size))
    np.testing.assert_allclose(columns, expected, rtol=1e-4, atol=1e-5)


def quadratic(max_kl, evaluate=None):
    """A Gaussian with unit deviation whose mean is θ: KL = ½ ‖Δ‖², surrogate g · θ."""
    slope, start = jnp.array([3.0, -4.0]), jnp.array([1.0, 2.0])

    def true(theta):
        return slope @ theta, 0.5 * jnp.sum((theta - start) ** 2)

    new, report = trust_region_update(
        start,
        slope,
        lambda v: v,
        evaluate or true,
        surrogate=slope @ start,
        max_kl=max_kl,
        damping=0.0,
    )
    return start, new, report


def test_step_reaches_the_edge_of_the_trust_region_along_the_natural_gradient():
    start, new, report = quadratic(0.02)
    # √(2δ) = 0.2 along (3, −4) / 5, shortened at most by rounding.
    np.testing.assert_allclose(new - start, 0.2 * jnp.array([0.6, -0.8]), rtol=0.06)
    assert report.accepted and 0.017 < report.kl <= 0.02
    np.testing.assert_allclose(report.improvement, 5 * 0.2, rtol=0.06)


def test_line_search_shortens_a_step_that_leaves_the_region():
    """The true KL is nine times what the Fisher matrix promised."""
    start = jnp.array([1.0, 2.0])

    def evaluate(theta):
        return jnp.array([3.0, -4.0]) @ theta, 4.5 * jnp.sum((theta - start) ** 2)

    _, new, report = quadratic(0.02, evaluate)
    assert report.accepted and report.backtracks >= 1
    assert 0.01 < 4.5 * jnp.sum((new - start) ** 2) <= 0.02


@pytest.mark.parametrize("value", [-100.0, jnp.nan])
def test_parameters_stay_where_nothing_improves(value):
    start, new, report = quadratic(0.02, lambda theta: (jnp.asarray(value), jnp.zeros(())))
    np.testing.assert_array_equal(new, start)
    assert not report.accepted and report.improvement == 0 and report.kl == 0
    assert report.backtracks == 10


def episodes(key, count=6, time=20, size=3):
    obs = jax.random.normal(key, (count, time, size))
    length = jnp.arange(count) + time - count + 1
    return obs, jnp.arange(time)[None] < length[:, None]


def test_baseline_recovers_what_is_linear_in_its_features():
    obs, valid = episodes(jax.random.key(2))
    time = jnp.arange(20) / 20
    returns = 2.0 + obs[..., 0] - 0.5 * obs[..., 1] ** 2 + 3.0 * time - time**3
    value = linear_baseline(obs, jnp.where(valid, returns, 0.0), valid)
    np.testing.assert_allclose(value, jnp.where(valid, returns, 0.0), atol=0.02)


def test_baseline_without_observations_is_a_function_of_time():
    valid = jnp.ones((4, 10), bool)
    returns = jnp.broadcast_to(10.0 - jnp.arange(10.0), (4, 10))
    np.testing.assert_allclose(linear_baseline(None, returns, valid), returns, atol=0.05)


def test_baseline_of_features_that_do_not_vary_is_the_mean():
    valid = jnp.ones((4, 1), bool)
    value = linear_baseline(jnp.ones((4, 1, 2)), jnp.arange(4.0)[:, None], valid)
    np.testing.assert_allclose(value, 1.5, rtol=1e-5)


def test_advantages_with_a_trace_of_one_are_returns_over_baseline():
    obs, valid = episodes(jax.random.key(3))
    reward = jnp.where(valid, jax.random.normal(jax.random.key(4), valid.shape), 0.0)
    returns = jax.vmap(lambda r: discounted_returns(r, 0.9))(reward)
    raw = (returns - linear_baseline(obs, returns, valid))[valid]
    advantage = episode_advantages(obs, reward, valid, 0.9, 1.0)
    np.testing.assert_allclose(advantage[valid], (raw - raw.mean()) / raw.std(), atol=1e-4)
    np.testing.assert_array_equal(advantage[~valid], 0.0)


def test_padding_changes_nothing():
    obs, valid = episodes(jax.random.key(5))
    reward = jnp.where(valid, jax.random.normal(jax.random.key(6), valid.shape), 0.0)
    junk = jnp.where(valid[..., None], obs, 1e3)
    np.testing.assert_allclose(
        episode_advantages(obs, reward, valid, 0.99, 0.95),
        episode_advantages(junk, reward, valid, 0.99, 0.95),
        atol=1e-4,
    )
