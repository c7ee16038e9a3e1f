"""The reacher: Gymnasium's numbers, and goals that relabel."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.physics.reacher import ReacherGoal, ReacherState, tip_of

KEY = jax.random.key(0)


def test_a_trajectory_is_gymnasiums(monkeypatch, tmp_path):
    """Fifty steps, an episode, from the same start: v5's observation is ours and the goal."""
    monkeypatch.chdir(tmp_path)
    world = gymnasium.make("Reacher-v5").unwrapped
    world.reset(seed=3)
    family = ReacherGoal(reward_type="dense")
    env, params = family.env, {"goal": jnp.asarray(world.goal, jnp.float32)}
    qpos, qvel = world.data.qpos.copy(), world.data.qvel.copy()
    state = ReacherState(env.engine.start(qpos, qvel), tip_of(jnp.asarray(qpos[:2])))
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(np.float32)

    def step(state, action):
        out = env.step(KEY, state, action, params)
        return out[1], (out[0], out[2], out[3] | out[4])

    _, (obs, reward, ended) = jax.jit(lambda s, a: jax.lax.scan(step, s, a))(state, actions)
    theirs = [world.step(action)[:2] for action in actions]
    goal = np.broadcast_to(world.goal, (50, 2))
    ours = np.concatenate([obs[:, :4], goal, obs[:, 4:6], obs[:, 6:] - goal], axis=1)
    np.testing.assert_allclose(ours, np.stack([o for o, _ in theirs]), atol=2e-6)
    np.testing.assert_allclose(reward, [r for _, r in theirs], atol=2e-6)
    assert not ended.any() and np.ptp(obs[:, 6]) > 0.05
    low, high = env.action_space().bounds()
    np.testing.assert_array_equal(low, world.action_space.low)
    np.testing.assert_array_equal(high, world.action_space.high)


def test_episodes_start_as_gymnasiums_do(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    world = gymnasium.make("Reacher-v5").unwrapped
    theirs = np.stack([world.reset(seed=i)[0] for i in range(500)])
    family = ReacherGoal()
    params = family.tasks(KEY, "train", 500)
    obs, states = jax.vmap(family.env.reset)(jax.random.split(KEY, 500), params)
    goal = np.asarray(params["goal"])
    ours = np.concatenate([obs[:, :4], goal, obs[:, 4:6], obs[:, 6:] - goal], axis=1)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.02)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.15, atol=1e-3)
    # What is observed is what is simulated.
    qpos = family.env.engine.positions(states.physics)
    np.testing.assert_allclose(np.cos(qpos[:, :2]), obs[:, :2], atol=1e-6)
    np.testing.assert_allclose(qpos[:, 2:], goal, atol=1e-6)


@pytest.mark.parametrize("reward_type", ("sparse", "dense"))
def test_goals_relabel(reward_type):
    """What `reward` says of a stored step under another goal is what `step` would have said."""
    family = ReacherGoal(reward_type=reward_type)

    @jax.jit
    @jax.vmap
    def both(key):
        a, b, c, d = jax.random.split(key, 4)
        params = family.sample(a, "train")
        obs, state = family.env.reset(b, params)
        action = family.action_space.sample(c)
        near = family.achieved(obs) + 0.02 * jax.random.normal(d, (2,))
        other = family.with_goal(params, near)
        out = family.env.step(a, state, action, other)
        judged = family.reward(obs, action, out[0], other)
        own = family.with_goal(params, family.achieved(out[0]))
        return out[2], out[5]["success"], judged, family.reward(obs, action, out[0], own)[0]

    reward, success, judged, own = both(jax.random.split(KEY, 100))
    np.testing.assert_allclose(reward, judged[0], atol=1e-7)
    assert 0.2 < np.mean(success) < 0.8 and not np.any(judged[1])
    if reward_type == "sparse":
        np.testing.assert_array_equal(reward, np.where(success, 0.0, -1.0))
        np.testing.assert_array_equal(own, np.zeros(100))


def test_where_the_tip_is():
    np.testing.assert_allclose(tip_of(jnp.zeros(2)), [0.21, 0.0], atol=1e-7)
    np.testing.assert_allclose(tip_of(jnp.asarray([np.pi / 2, -np.pi / 2])), [0.11, 0.1], atol=1e-7)


def test_the_picture_and_bad_settings():
    family = ReacherGoal()
    params = family.sample(KEY, "train")
    goal = np.asarray(params["goal"])
    assert np.linalg.norm(goal) < 0.2 and family.context(params).shape == (2,)
    obs, state = family.env.reset(KEY, params)
    scene = family.draw({"goal": goal}, jax.tree.map(lambda x: np.stack([x] * 3), state))
    tips = next(s for s in scene.shapes if s.kind == "trail").points[:, 0]
    np.testing.assert_allclose(tips, np.stack([family.achieved(obs)] * 3), atol=1e-6)
    assert scene.frames == 3 and scene.seconds == pytest.approx(0.02)
    with pytest.raises(UserError, match="no split 'ood'"):
        family.sample(KEY, "ood")
    with pytest.raises(UserError, match="reward_type"):
        ReacherGoal(reward_type="none")
    with pytest.raises(UserError, match="tolerance"):
        ReacherGoal(tolerance=0.0)
