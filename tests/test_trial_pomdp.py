"""Trials as episodes of one partially observed process, and what transforms of families share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl import registry
from stemrl.core import Box, Problem, UserError
from stemrl.drawing import Scene
from stemrl.optimal import RandomAgent
from stemrl.report.record import record
from stemrl.report.scene import scene
from stemrl.rl import play
from stemrl.tasks import Bandit, GridNavi, Maze, Point2D, Randomized, TrialPOMDP, inner_returns
from stemrl.tasks.transforms import named_family
from stemrl.tasks.trial_pomdp import TrialEnv

STEP = jax.jit(lambda env, *args: env.step(*args), static_argnums=0)


def walk(env, actions):
    """Observations, states, rewards, ends and events of a trial under fixed actions."""
    params = {"split": jnp.int32(0)}
    obs, state = env.reset(jax.random.key(0), params)
    rows = [(obs, state, 0.0, False, {})]
    for time, action in enumerate(actions):
        obs, state, reward, end, truncated, events = STEP(
            env, jax.random.key(time), state, jnp.asarray(action), params
        )
        assert not truncated
        rows.append((obs, state, float(reward), bool(end), events))
    return rows


def test_a_trial_is_an_episode_that_hides_its_task():
    """Two episodes of three steps on a 3×3 grid: what is observed, when it begins again, and when it
    ends, by hand."""
    family = TrialPOMDP(GridNavi(size=3, horizon=3), episodes=2)
    assert (family.horizon, family.trial_episodes) == (6, 1)
    assert family.observation_space == Box((2 + 5 + 2,)) and family.finite
    rows = walk(family.env, [1, 2, 2, 1, 1, 0])
    obs = np.stack([row[0] for row in rows])
    goal = np.asarray(rows[0][1].params["goal"])
    assert all(np.array_equal(row[1].params["goal"], goal) for row in rows)
    assert np.array_equal(obs[:, :2], [[0, 0], [0, 1], [1, 1], [0, 0], [0, 1], [0, 2], [0, 2]])
    assert np.array_equal(obs[0, 2:], np.zeros(7))
    assert np.array_equal(obs[1:, 2:7], np.eye(5)[[1, 2, 2, 1, 1, 0]])
    assert np.array_equal(obs[1:, 7], np.float32([row[2] for row in rows[1:]]))
    assert np.array_equal(obs[:, 8], [0, 0, 0, 1, 0, 0, 1])
    assert [row[3] for row in rows] == [False] * 6 + [True]
    assert [int(row[4]["episode"]) for row in rows[1:]] == [0, 0, 0, 1, 1, 1]
    assert [bool(row[4]["episode_end"]) for row in rows[1:]] == [False, False, True] * 2


def test_an_episode_that_ends_early_is_followed_by_the_next():
    """At its goal a point's episode ends; the next starts from the origin with the same goal, in
    one lane of a batch and not in the other."""
    env = TrialEnv(Point2D(horizon=10), episodes=3)
    params = {"split": jnp.int32(0)}
    states = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 2), params)[1]
    goals = jnp.asarray([[0.05, 0.0], [0.4, 0.4]])
    states = jax.tree.map(lambda x: x, states)
    states.params["goal"] = goals
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    keys = jax.random.split(jax.random.key(1), 2)
    obs, states, reward, end, _, events = step(keys, states, jnp.asarray([[0.05, 0.0]] * 2), params)
    assert np.allclose(obs[:, :2], [[0, 0], [0.05, 0]]) and not np.any(end)
    assert events["episode_end"].tolist() == [True, False]
    assert states.episode.tolist() == [1, 0] and states.elapsed.tolist() == [0, 1]
    # The previous action in an agent's units, its reward, and the end.
    np.testing.assert_allclose(obs[:, 2:4], [[0.5, 0.0]] * 2, atol=1e-6)
    np.testing.assert_allclose(obs[:, 4], reward)
    assert obs[:, 5].tolist() == [1.0, 0.0]


def test_a_trial_pays_what_its_episodes_pay():
    """Played by a random agent: each inner episode's return is what the bandit's pulls pay."""
    family = TrialPOMDP(Bandit(arms=3, pulls=20))
    assert family.horizon == 20
    problem = Problem.of(family)
    params = family.tasks(jax.random.key(0), "test", 200)
    trials = jax.jit(
        lambda: play(RandomAgent(family.action_space), family, params, None, jax.random.key(1), 1)
    )()
    pulls = np.asarray(inner_returns(trials.transitions, 20))[:, 0, 0]
    assert pulls.shape == (200, 20) and set(np.unique(pulls)) == {0.0, 1.0}
    np.testing.assert_allclose(pulls.sum(1), trials.returns[:, 0, 0])
    assert abs(pulls.mean() - 0.5) < 0.05
    # One task a trial: pulls of a trial are alike, of different trials not.
    assert pulls.mean(1).std() > 1.3 * np.sqrt(0.25 / 20)
    with pytest.raises(UserError, match="no context"):
        Problem.of(family, "context").context(family, {"split": jnp.int32(0)})
    assert problem.context(family, params) is None


def test_a_transform_is_drawn_as_what_it_is_made_of():
    family = TrialPOMDP(Randomized(Maze()), 2)
    problem = Problem.of(family)
    params = family.tasks(jax.random.key(0), "train", 1)
    recording = record(RandomAgent(family.action_space), problem, params, 1, key=jax.random.key(1))
    assert recording is not None
    task, states, _ = recording.episode(0, 0)
    drawn = scene(family, task, states)
    assert isinstance(drawn, Scene) and {"wall", "goal", "body"} <= {s.role for s in drawn.shapes}


def test_the_inner_family_by_its_name_with_settings():
    family = registry.make(
        "families", "trial-pomdp", family="gridnavi size=3 horizon=5", episodes=2
    )
    inner = GridNavi(size=3, horizon=5)
    assert family.inner == inner and family.horizon == 10
    assert family.identity == f"trial-pomdp@1({inner.identity},episodes=2)"
    assert TrialPOMDP("bandit").inner_episodes == 10
    nested = TrialPOMDP("randomized family=point-2d", 2)
    assert isinstance(nested.inner, Randomized) and nested.inner.inner == Point2D()
    for text, message in (
        ("gridnavi sise=3", "did you mean 'size'"),
        ("gridnavy", "gridnavi"),
    ):
        with pytest.raises(UserError, match=message):
            named_family(text)
    with pytest.raises(UserError, match="host"):
        TrialPOMDP("gymnasium")
    with pytest.raises(UserError, match="episodes"):
        TrialPOMDP("bandit", -1)
