"""Returns and advantages by hand, distributions against SciPy, statistics against NumPy, and what
the two rollouts promise."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import probes
from stemrl.core import AbstractAgent, Box, Discrete, Problem, Space
from stemrl.networks.mlp import patches
from stemrl.networks.orthogonal import orthogonal
from stemrl.rl import (
    Categorical,
    DiagonalGaussian,
    Normalizer,
    RewardScaler,
    TanhGaussian,
    begin_rollout,
    discounted_returns,
    generalized_advantages,
    play,
    rollout,
)
from stemrl.rl.ppo import PPO
from stemrl.rl.returns import lowest_value
from stemrl.tasks.random_mdp import RandomMDP

KEY = jax.random.key(0)


class Random(AbstractAgent):
    """Acts at random and counts its adaptations in its memory."""

    space: Space = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context, key):
        return jnp.zeros(())

    def begin(self, memory, key):
        return jnp.zeros(())

    def act(self, memory, carry, obs, key):
        if isinstance(self.space, Discrete):
            return self.space.sample(key), carry, {"memory": memory, "carry": carry}
        action = jax.random.uniform(key, self.space.shape, minval=-1.5, maxval=1.5)
        return action, carry, {"memory": memory, "carry": carry}

    def observe(self, memory, carry, transition):
        return carry + 1

    def adapt(self, memory, carries, episodes, key):
        return memory + 1


def played(family: Any, tasks: int = 3, rounds: int = 2, episodes_per_round: int = 2):
    agent = Random(space=family.action_space, episodes_per_round=episodes_per_round)
    return jax.jit(
        lambda key: play(agent, family, family.tasks(key, "train", tasks), None, key, rounds)
    )(KEY)


def streamed(family: Any, steps: int = 12, lanes: int = 2, episodes: int = 1, chunks: int = 2):
    agent, problem = Random(space=family.action_space), Problem.of(family)
    rollout_state = begin_rollout(agent, problem, family, KEY, lanes)
    go = jax.jit(
        lambda rollout_state, key: rollout(
            agent, problem, family, rollout_state, key, steps, episodes
        )
    )
    parts = []
    for key in jax.random.split(jax.random.key(1), chunks):
        rollout_state, part = go(rollout_state, key)
        parts.append(part)
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


# ---- returns ----


def test_discounted_returns_by_hand():
    assert discounted_returns(jnp.array([1.0, 2.0, 3.0]), 0.5).tolist() == [2.75, 3.5, 3.0]


def test_the_lowest_value_by_hand():
    assert lowest_value(0.98) == pytest.approx(-50.0)
    assert lowest_value(1.0) == float(lowest_value(jnp.float32(1.0))) == -jnp.inf


def test_advantages_by_hand():
    """Four steps: one inside, a truncation, a termination, and one that the batch cuts off."""
    reward = np.array([1.0, 2.0, 3.0, 4.0])
    value = np.array([0.5, 1.0, 1.5, 2.0])
    next_value = np.array([1.0, 7.0, 9.0, 3.0])
    bootstrap, carry_on = [True, True, False, True], [True, False, False, True]
    d0 = 1.0 + 0.9 * 1.0 - 0.5
    d1 = 2.0 + 0.9 * 7.0 - 1.0  # cut by time: the next observation counts
    d2 = 3.0 - 1.5  # ended: it does not
    d3 = 4.0 + 0.9 * 3.0 - 2.0
    got = generalized_advantages(
        *map(jnp.asarray, (reward, value, next_value, bootstrap, carry_on)), 0.9, 0.8
    )
    np.testing.assert_allclose(got, [d0 + 0.72 * d1, d1, d2, d3], rtol=1e-6)


def test_with_a_trace_of_one_advantages_are_returns_minus_values():
    reward, value = jax.random.normal(KEY, (2, 7))
    carry_on = jnp.arange(7) < 6
    got = generalized_advantages(
        reward, value, jnp.append(value[1:], 0.0), carry_on, carry_on, 0.9, 1.0
    )
    np.testing.assert_allclose(got, discounted_returns(reward, 0.9) - value, rtol=1e-4, atol=1e-5)


# ---- distributions ----


def test_a_categorical_agrees_with_scipy():
    logits = jnp.array([[0.3, -1.2, 2.0], [0.0, 0.0, 0.0]])
    p = np.asarray(jax.nn.softmax(logits))
    ours, other = Categorical(logits), Categorical(jnp.zeros((2, 3)))
    np.testing.assert_allclose(ours.entropy(), stats.entropy(p, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        ours.kl(other), stats.entropy(p, np.full((2, 3), 1 / 3), axis=1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        ours.log_prob(jnp.array([2, 1])), np.log([p[0, 2], p[1, 1]]), rtol=1e-5
    )
    assert ours.mode().tolist()[0] == 2
    drawn = jax.vmap(ours.sample)(jax.random.split(KEY, 4000))
    assert float(jnp.mean(drawn[:, 0] == 2)) == pytest.approx(p[0, 2], abs=0.03)


def test_a_gaussian_agrees_with_scipy():
    mean, log_std = jnp.array([0.5, -1.0]), jnp.array([0.2, -0.7])
    theirs = stats.multivariate_normal(np.asarray(mean), np.diag(np.exp(2 * np.asarray(log_std))))
    ours = DiagonalGaussian(mean, log_std)
    x = jax.random.normal(KEY, (5, 2))
    np.testing.assert_allclose(ours.log_prob(x), theirs.logpdf(np.asarray(x)), rtol=1e-5)
    assert float(ours.entropy()) == pytest.approx(float(theirs.entropy()), rel=1e-5)
    other = DiagonalGaussian(mean + 0.3, log_std - 0.4)
    drawn = DiagonalGaussian(*jnp.broadcast_arrays(mean, jnp.zeros((50_000, 2)))).mean
    drawn = drawn + jnp.exp(log_std) * jax.random.normal(KEY, drawn.shape)
    sampled = jnp.mean(ours.log_prob(drawn) - other.log_prob(drawn))
    assert float(ours.kl(other)) == pytest.approx(float(sampled), rel=0.03)
    assert float(ours.kl(ours)) == pytest.approx(0.0, abs=1e-6)


def test_a_squashed_gaussian_is_a_density():
    ours = TanhGaussian(jnp.array([0.4]), jnp.array([-0.3]))
    x = np.linspace(-0.9999, 0.9999, 20_001)
    density = np.exp(np.asarray(jax.vmap(ours.log_prob)(jnp.asarray(x)[:, None])))
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=2e-3)
    action, log_prob = ours.sample_with_log_prob(KEY)
    assert float(log_prob) == pytest.approx(float(ours.log_prob(action)), rel=1e-4)
    assert jnp.isfinite(
        TanhGaussian(jnp.array([40.0]), jnp.array([0.0])).from_noise(jnp.ones(1))[1]
    )


# ---- statistics ----


def test_the_normalizer_agrees_with_numpy_over_chunks_and_padding():
    x = np.asarray(3.0 + 2.0 * jax.random.normal(KEY, (4, 25, 3)))
    valid = np.asarray(jax.random.bernoulli(KEY, 0.7, (4, 25)))
    normalizer = Normalizer.of(3)
    assert (normalizer(jnp.asarray(x[0])) == jnp.clip(x[0], -10, 10)).all()
    for chunk, mask in zip(x, valid, strict=True):
        normalizer = normalizer.update(jnp.asarray(chunk), jnp.asarray(mask))
    kept = x[valid]
    assert int(normalizer.count) == len(kept)
    np.testing.assert_allclose(normalizer.mean, kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normalizer.std, kept.std(0), rtol=1e-4)


def test_the_reward_scale_is_that_of_discounted_sums():
    reward = np.asarray(jax.random.normal(KEY, (20, 2)))
    ended = np.zeros((20, 2), bool)
    ended[[4, 11], [0, 1]] = True
    sums, running = [], np.zeros(2)
    for r, e in zip(reward, ended, strict=True):
        running = 0.9 * running + r
        sums.append(running.copy())
        running[e] = 0.0
    scaler = RewardScaler.of(2)
    for part in (slice(0, 7), slice(7, 20)):
        scaler = scaler.update(jnp.asarray(reward[part]), jnp.asarray(ended[part]), 0.9)
    np.testing.assert_allclose(scaler.statistics.std[0], np.std(sums), rtol=1e-4)
    np.testing.assert_allclose(scaler(jnp.asarray(2.0)), 2.0 / np.std(sums), rtol=1e-4)


# ---- the rollouts ----


def test_rounds_are_padded_and_stand_still_past_the_end():
    steps = played(probes.Countdown(length=3, horizon=6)).transitions
    assert steps.reward.shape == (3, 2, 2, 6)
    np.testing.assert_array_equal(steps.valid[..., :3], True)
    np.testing.assert_array_equal(steps.valid[..., 3:], False)
    np.testing.assert_array_equal(steps.reward[..., 3:], 0.0)
    np.testing.assert_array_equal(steps.terminated[0, 0, 0], np.arange(6) == 2)
    assert not steps.truncated.any()
    assert not any(bool(jnp.isnan(x).any()) for x in (steps.reward, steps.next_obs))


def test_the_horizon_truncates_and_the_next_observation_is_the_true_one():
    steps = played(probes.Countdown(length=9, horizon=4)).transitions
    np.testing.assert_array_equal(steps.truncated[0, 0, 0], np.arange(4) == 3)
    assert not steps.terminated.any()
    np.testing.assert_allclose(steps.next_obs[0, 0, 0, :, 0], np.array([8, 7, 6, 5]) / 9, rtol=1e-6)


def test_the_agent_adapts_between_rounds_and_observes_inside_them():
    trials = played(probes.Countdown(length=3, horizon=6))
    info = trials.transitions.info
    np.testing.assert_array_equal(info["memory"][:, 0], 0.0)
    np.testing.assert_array_equal(info["memory"][:, 1, :, :3], 1.0)
    np.testing.assert_array_equal(info["carry"][0, 0, 0, :3], [0, 1, 2])
    np.testing.assert_array_equal(trials.carries, 3.0)
    np.testing.assert_array_equal(trials.returns, 3.0)
    np.testing.assert_array_equal(trials.lengths, 3)


def test_a_stream_is_packed_and_goes_on_over_chunks():
    part = streamed(probes.Countdown(length=5, horizon=9), steps=7)
    steps = part.transitions
    np.testing.assert_array_equal(steps.terminated[:, 0], np.arange(14) % 5 == 4)
    np.testing.assert_array_equal(part.trial_start[:, 0], np.arange(14) % 5 == 0)
    np.testing.assert_allclose(part.score[:, 0], np.arange(14) % 5 + 1)
    # The true next observation, also where the next row is another episode's first.
    np.testing.assert_allclose(steps.next_obs[4, 0], [0.0])
    np.testing.assert_allclose(steps.obs[5, 0], [1.0])
    inside = ~np.asarray(steps.ended[:-1])
    np.testing.assert_allclose(steps.obs[1:][inside], steps.next_obs[:-1][inside])


def test_a_stream_truncates_at_the_horizon_and_counts_a_trials_episodes():
    part = streamed(probes.Forever(horizon=3), steps=9, episodes=2, chunks=1)
    steps = part.transitions
    np.testing.assert_array_equal(steps.truncated[:, 0], np.arange(9) % 3 == 2)
    assert not steps.terminated.any()
    np.testing.assert_array_equal(part.trial_end[:, 0], np.arange(9) % 6 == 5)
    np.testing.assert_array_equal(part.episode[:, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(steps.info["memory"][:, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0])
    assert float(part.mean_return()) == 3.0


def test_actions_reach_the_world_clipped_and_scaled():
    steps = played(probes.MatchNumber(), rounds=1, episodes_per_round=20).transitions
    action, obs, reward = (x[:, 0, :, 0] for x in (steps.action, steps.obs, steps.reward))
    assert float(jnp.abs(action).max()) > 1.0  # as the agent gave it
    world = 2.0 * jnp.clip(action[..., 0], -1, 1)
    np.testing.assert_allclose(reward, -((world - obs[..., 0]) ** 2), rtol=1e-5)
    assert isinstance(probes.MatchNumber().action_space, Box)


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        family = probes.HiddenArm()
        agent, problem = Random(space=family.action_space, episodes_per_round=1), Problem.of(family)
        params = family.tasks(jax.random.key(2), "test", 2)
        jax.jit(lambda key: play(agent, family, params, None, key, 2))(jax.random.key(3))
        rollout_state = begin_rollout(agent, problem, family, jax.random.key(4), 2)
        jax.jit(lambda key: rollout(agent, problem, family, rollout_state, key, 3, 2))(
            jax.random.key(5)
        )


def test_several_seeds_draw_tasks_only_where_a_trial_ended():
    """To start anew stays a choice under `vmap`: both sides at every step were eleven times slower."""
    problem = Problem.of(RandomMDP(states=3, actions=2))
    learner = PPO(num_envs=2, rollout_length=4, minibatches=1, hidden=(4,))
    # One after another, as `runs.programs` does.
    states = jax.jit(lambda keys: jax.lax.map(lambda key: learner.init(problem, key), keys))(
        jax.random.split(jax.random.key(0), 3)
    )
    program = str(jax.make_jaxpr(jax.vmap(lambda state: learner.collect(problem, state)))(states))
    assert "cond[" in program
    together = jax.jit(jax.vmap(lambda state: learner.collect(problem, state)[1]))(states)
    alone = jax.jit(lambda state: learner.collect(problem, state)[1])(
        jax.tree.map(lambda x: x[1], states)
    )
    for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[1], theirs, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (9, 5), (1, 2)])
def test_patches_times_a_kernel_are_a_convolution(shape):
    image = jax.random.normal(jax.random.key(0), (2, *shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    theirs = jax.lax.conv_general_dilated(
        image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(patches(image) @ kernel.reshape(-1, 4), theirs, atol=1e-5)


def test_outside_of_a_program_a_rollout_is_compiled_once_and_not_at_every_call():
    """So that a source in JAX costs nothing beside a target whose worlds are Python objects."""
    traced = []

    class Counted(probes.ConstantReward):
        def move(self, key: Any, state: Any, action: Any, params: Any):
            traced.append(1)
            return super().move(key, state, action, params)

    problem = Problem.of(Counted())
    learner = PPO(num_envs=2, rollout_length=3, minibatches=1, hidden=(4,))
    agent = learner.agent(problem, eqx.filter_jit(learner.init)(problem, jax.random.key(0)))
    state = begin_rollout(agent, problem, problem.source, jax.random.key(1), 2)
    params = problem.source.tasks(jax.random.key(0), "train", 2)
    counts = []
    for seed in range(3):
        key = jax.random.key(seed)
        state, _ = rollout(agent, problem, problem.source, state, key, 3)
        play(agent, problem.source, params, None, key, 1)
        counts.append(len(traced))
    assert counts[0] == counts[1] == counts[2] > 0


def test_a_batch_of_orthogonal_weights_is_drawn_one_after_another():
    """Batched QR decompositions of one program can wait for each other for ever."""

    def draw(key):
        return orthogonal(key, (6, 4))

    keys = jax.random.split(jax.random.key(0), 3)
    weights = jax.vmap(draw)(keys)
    np.testing.assert_array_equal(weights, [draw(key) for key in keys])
    np.testing.assert_allclose(weights[1].T @ weights[1], np.eye(4), atol=1e-6)
    program = str(jax.make_jaxpr(jax.vmap(draw))(keys))
    assert re.findall(r"f32\[([\d,]+)\] \w+:f32\[[\d,]+\] = qr\[", program) == ["6,4"]
