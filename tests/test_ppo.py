"""PPO: its losses by hand, and the optima of probes."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.rl import PPO, PPOState, clipped_policy_loss, fit, value_loss
from stemrl.rl.fitting import annealed, explained_variance, optimizer, shuffled, standardize
from stemrl.tasks.point import Point2D

SMALL: dict[str, Any] = {
    "num_envs": 16,
    "rollout_length": 32,
    "minibatches": 4,
    "epochs": 4,
    "hidden": (32,),
    "learning_rate": 3e-3,
    "discount": 0.9,
}


def train(learner: PPO, problem: Problem, updates: int) -> tuple[PPOState, dict[str, float], int]:
    """The state and metrics after some updates, and how often the update was traced."""
    traces = []

    @eqx.filter_jit
    def update(learner: PPO, problem: Problem, state: PPOState):
        traces.append(1)
        return learner.update(problem, state)

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    metrics = {}
    for _ in range(updates):
        state, metrics = update(learner, problem, state)
    return state, {k: float(v) for k, v in metrics.items()}, len(traces)


def values(state: PPOState, *observations: float) -> list[float]:
    """V in the world's units."""
    inputs = state.normalizer(jnp.asarray(observations)[:, None])
    scaled = state.networks.values(inputs, None)
    return (scaled * state.scaler.statistics.std[0]).tolist()


# ---- the pieces, by hand ----


def test_the_clipped_loss_by_hand():
    ratio = jnp.array([1.0, 1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = jnp.array([1.0, 1.0, -1.0, 1.0, -1.0, 2.0])
    # min(ρA, clip(ρ, 0.8, 1.2) A), row by row:
    surrogate = np.array([1.0, 1.2, -1.5, 0.5, -0.8, 2.2])
    loss, moved = clipped_policy_loss(
        jnp.log(ratio), jnp.zeros(6), advantage, jnp.ones(6), clip=0.2
    )
    assert float(loss) == pytest.approx(-surrogate.mean(), rel=1e-6)
    assert float(moved["clip_fraction"]) == pytest.approx(4 / 6)
    assert float(moved["kl"]) == pytest.approx(float(jnp.mean(ratio - 1 - jnp.log(ratio))))


def test_padding_counts_in_no_loss_and_overflows_nothing():
    log_prob = jnp.array([0.1, 1e4])
    weight = jnp.array([1.0, 0.0])

    def loss(log_prob):
        return clipped_policy_loss(log_prob, jnp.zeros(2), jnp.ones(2), weight, 0.2)[0]

    assert float(loss(log_prob)) == pytest.approx(-math.exp(0.1))
    assert jax.grad(loss)(log_prob).tolist() == pytest.approx([-math.exp(0.1), 0.0])
    assert float(value_loss(jnp.array([1.0, 9.0]), jnp.array([3.0, 0.0]), weight)) == 2.0
    assert standardize(jnp.array([1.0, 3.0, 99.0]), jnp.array([1.0, 1.0, 0.0])).tolist() == (
        pytest.approx([-1.0, 1.0, 0.0])
    )


def test_explained_variance_by_hand():
    target = jnp.array([1.0, 2.0, 3.0])
    ones = jnp.ones(3)
    assert float(explained_variance(target, target, ones)) == pytest.approx(1.0)
    assert float(explained_variance(jnp.zeros(3), target, ones)) == pytest.approx(0.0, abs=1e-6)


def test_every_epoch_is_a_permutation():
    index = shuffled(jax.random.key(0), rows=12, epochs=3, minibatches=4)
    assert index.shape == (12, 3)
    epochs = np.sort(index.reshape(3, 12), axis=1)
    assert (epochs == np.arange(12)).all()


def test_the_gradient_is_bounded_by_its_global_norm():
    gradient = {"a": jnp.full(4, 3.0), "b": jnp.full(9, 4.0)}  # norm √(36 + 144)
    clip = optimizer(max_gradient_norm=0.5)
    # Adam's first moment after one step is (1 − β₁) g.
    moments = clip.update(gradient, clip.init(gradient))[1][1].mu
    norm = math.sqrt(sum(float(jnp.sum(m**2)) for m in moments.values())) / 0.1
    assert norm == pytest.approx(0.5, rel=1e-5)


def test_epochs_stop_where_the_policy_has_moved_too_far():
    def loss(p, rows):
        return -p * jnp.mean(rows), {"kl": p**2}

    settings: dict[str, Any] = {"epochs": 10, "minibatches": 2, "max_gradient_norm": 1.0}
    start, rows = jnp.zeros(()), jnp.ones(8)
    moments = optimizer(1.0).init(start)

    def moved(target_kl):
        return fit(
            loss,
            start,
            moments,
            rows,
            jax.random.key(0),
            learning_rate=0.1,
            target_kl=target_kl,
            **settings,
        )

    assert float(moved(None)[0]) > 1.5
    stopped, _, metrics = moved(0.06)  # stops at p² > 0.09, so p = 0.3 + one step
    assert float(stopped) == pytest.approx(0.3, abs=0.11)
    assert 0 < float(metrics["epochs_taken"]) < 5


def test_the_step_size_falls_to_zero_and_stays():
    rates = [float(annealed(0.1, 4, jnp.asarray(i))) for i in range(6)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0, 0.0])
    assert annealed(0.1, None, jnp.asarray(3)) == 0.1


@pytest.mark.parametrize("wrong", [{"num_envs": 0}, {"num_envs": 1, "rollout_length": 8}])
def test_wrong_settings_are_said_in_one_line(wrong: dict[str, int]):
    with pytest.raises(UserError, match="must be at") as caught:
        PPO(**wrong)
    assert "\n" not in str(caught.value)


# ---- probes ----


def test_values_bootstrap_through_truncation():
    state, metrics, traces = train(PPO(**SMALL), Problem.of(probes.Forever()), 40)
    assert values(state, 0.0) == pytest.approx([10.0], abs=0.3)
    assert metrics["return"] == 5.0
    assert traces == 1


def test_values_end_with_a_termination():
    state, _, _ = train(PPO(**SMALL), Problem.of(probes.Countdown()), 40)
    expected = [(1 - 0.9**k) / 0.1 for k in (1, 3, 5)]
    assert values(state, 0.2, 0.6, 1.0) == pytest.approx(expected, abs=0.3)


def test_continuous_actions_find_the_optimum():
    problem = Problem.of(probes.MatchNumber())
    learner = PPO(**SMALL | {"initial_std": 0.5})
    state, metrics, _ = train(learner, problem, 60)
    assert metrics["return"] > -0.1
    mode = learner.agent(problem, state).policy(state.normalizer(jnp.array([[-1.0], [1.0]]))).mode()
    assert mode[:, 0].tolist() == pytest.approx([-0.5, 0.5], abs=0.1)


@pytest.mark.long  # pictures
def test_images_and_discrete_actions_find_the_optimum():
    learner = PPO(**SMALL | {"num_envs": 8, "rollout_length": 16, "minibatches": 2})
    _, metrics, _ = train(learner, Problem.of(probes.Picture()), 15)
    assert metrics["return"] > 0.95


def test_a_revealed_context_tells_the_task():
    """Without it no policy gets more than 1 of the 2."""
    problem = Problem.of(probes.HiddenArm(), "context")
    with jax.debug_key_reuse(True):
        _, metrics, _ = train(PPO(**SMALL | {"anneal_updates": 30}), problem, 30)
    assert metrics["return"] > 1.9


def test_contextual_navigation_is_nearly_optimal_soon():
    """Straight to the goal at full speed costs about 1; standing still about 38. One seed:
    how soon differs by rounding alone, hence a few updates more than it needs on average."""
    learner = PPO(
        num_envs=32, rollout_length=64, minibatches=8, learning_rate=2e-3, initial_std=0.5
    )
    _, metrics, _ = train(learner, Problem.of(Point2D(), "context"), 24)
    assert metrics["return"] > -3.0
