"""The families of the multi-task chapter: what is paid for, by hand, and what a choice of worlds is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Discrete, Problem, UserError
from stemrl.optimal import RandomAgent
from stemrl.physics.hopper_tasks import HopperTasks
from stemrl.report.record import record
from stemrl.report.scene import scene
from stemrl.tasks import (
    Bandit,
    ForbiddenRegion,
    GridNavi,
    Imperfect,
    Point2D,
    PointConflict,
    PointDir,
    Randomized,
    WorldChoice,
)

KEY = jax.random.key(0)


def walk(env, params, actions, key=KEY):
    """Observations, rewards, ends and events under fixed actions, `[steps, …]`, up to the end or not."""

    def step(carry, action):
        state, key = carry
        key, now = jax.random.split(key)
        obs, state, reward, ended, _, events = env.step(now, state, action, params)
        return (state, key), (obs, reward, ended, events)

    obs, state = env.reset(key, params)
    rest = jax.jit(lambda s: jax.lax.scan(step, (s, key), jnp.asarray(actions))[1])(state)
    return obs, jax.tree.map(np.asarray, rest)


def test_conflicting_goals_are_opposite_and_only_the_context_says_which():
    family = PointConflict()
    tasks = family.tasks(KEY, "train", 4)
    order = np.argmax(np.asarray(tasks["task"]), 1)
    assert sorted(order[:2]) == [0, 1] and family.worlds == 2
    np.testing.assert_allclose(tasks["goal"][0], -tasks["goal"][1], atol=1e-6)
    only = PointConflict(goals=4, only=1).sample(KEY, "test")
    np.testing.assert_allclose(only["goal"], [0, 1], atol=1e-6)
    assert PointConflict(goals=4, only=1).context(only).tolist() == [0, 1, 0, 0]
    with pytest.raises(UserError, match="only must be from 0 to 1, not 2"):
        PointConflict(only=2)
    with pytest.raises(UserError, match="no split 'ood'"):
        family.tasks(KEY, "ood", 2)


def test_a_heading_pays_for_the_way_along_it_and_no_corner_is_further():
    family = PointDir(horizon=3)
    env, params = family.env, {"direction": jnp.array([0.6, 0.8])}
    _, (obs, reward, ended, _) = walk(env, params, [[0.1, 0.1], [0.0, -0.05], [0.06, 0.08]])
    np.testing.assert_allclose(reward, [1.4 / np.sqrt(2), -0.4, 1.0], rtol=1e-5)
    np.testing.assert_allclose(obs[0], [0.1 / np.sqrt(2)] * 2, rtol=1e-5)
    assert not ended.any()
    np.testing.assert_allclose(jnp.linalg.norm(family.sample(KEY, "test")["direction"]), 1, 1e-5)
    with pytest.raises(UserError, match="no ood split"):
        family.sample(KEY, "ood")


def test_a_hopper_is_paid_for_what_it_is_asked():
    family = HopperTasks()
    tasks = family.tasks(KEY, "train", 3)
    assert sorted(np.argmax(np.asarray(tasks["task"]), 1)) == [0, 1, 2]
    actions = 0.3 * jnp.ones((3, 3))
    rewards = []
    for which in range(3):
        params = {"task": jnp.eye(3)[which]}
        _, (_, reward, ended, events) = walk(family.env, params, actions)
        rewards.append(reward)
        assert not ended.any()
    speed, cost = events["speed"], 1e-3 * 3 * 0.09
    np.testing.assert_allclose(rewards[0], speed + 1 - cost, rtol=1e-5)
    np.testing.assert_allclose(rewards[1], -speed + 1 - cost, rtol=1e-5)
    # Jumping: it moves up or down, and running is taken off.
    assert ((rewards[2] - 1 + cost + np.abs(speed)) >= 0).all()
    alone = HopperTasks(only="jump").tasks(KEY, "test", 2)
    assert np.asarray(alone["task"]).tolist() == [[0, 0, 1]] * 2


REGION = {"goal": jnp.array([0.8, 0.0]), "region": jnp.array([0.4, 0.0, 0.2])}


def ways():
    """Straight through the region to the goal, and round it."""
    straight = np.tile([0.1, 0.0], (12, 1))
    up, along, down = (
        np.tile(step, (n, 1)) for step, n in (([0, 0.1], 3), ([0.1, 0], 8), ([0, -0.1], 3))
    )
    return np.float32(straight), np.float32(np.concatenate([up, along, down]))  # fmt: skip


@pytest.mark.parametrize("reward_type", ("sparse", "dense"))
def test_a_region_once_entered_cannot_be_undone(reward_type: str):
    straight, around = ways()
    told = ForbiddenRegion(objective="goal-and-region", reward_type=reward_type)
    asked = ForbiddenRegion(objective="goal", reward_type=reward_type)
    for family, through in ((told, False), (asked, True)):
        _, (_, reward, ended, events) = walk(family.env, REGION, straight)
        assert events["success"].any() and events["entered"][-1]
        # Where the region counts, no goal ends the episode any more.
        assert ended.any() == through
        first = int(np.argmax(events["entered"]))
        after = reward[first:]
        if not through:
            assert (after == (-1 if reward_type == "sparse" else -2)).all()
        _, (_, reward, ended, events) = walk(family.env, REGION, around)
        assert ended[-1] and not events["entered"].any() and events["success"][-1]
    assert told.context(REGION).shape == (5,) and asked.context(REGION).shape == (2,)
    # What hindsight computes is what the environment says.
    obs, (seen, reward, ended, _) = walk(told.env, REGION, straight)
    before = np.concatenate([np.asarray(obs)[None], seen[:-1]])
    again = jax.vmap(lambda o, a, n: told.reward(o, a, n, REGION))(before, straight, seen)
    np.testing.assert_allclose(again[0], reward)
    np.testing.assert_array_equal(again[1], ended)


def test_passing_through_a_region_between_two_steps_counts():
    env = ForbiddenRegion().env
    params = {"goal": jnp.array([0.8, 0.0]), "region": jnp.array([0.05, 0.0, 0.01])}
    state = env.reset(KEY, params)[1]
    state = type(state)(jnp.array([0.0, 0.0]), jnp.asarray(False))
    assert env.step(KEY, state, jnp.array([0.1, 0.0]), params)[5]["entered"]


def test_goals_lie_behind_their_regions():
    family = ForbiddenRegion()
    params = family.tasks(KEY, "train", 200)
    goal, region = np.asarray(params["goal"]), np.asarray(params["region"])
    far = np.linalg.norm(goal, axis=1)
    assert ((far >= 0.7) & (far <= 1)).all()
    ahead = goal / far[:, None]
    beside = np.abs(ahead[:, 0] * region[:, 1] - ahead[:, 1] * region[:, 0])
    assert (beside < region[:, 2]).all()  # the straight way goes through
    assert (np.linalg.norm(goal - region[:, :2], axis=1) > region[:, 2] + 0.1).all()


def test_actions_arrive_late_and_weaker():
    family = Imperfect(Point2D(horizon=10), actuator_width=0.5, sensor_noise=0.0, delay=2)
    inner = {"goal": jnp.array([5.0, 5.0])}
    params = {"inner": inner, "actuators": jnp.array([0.5, 1.5]), "delay": jnp.int32(2)}
    actions = np.asarray([[0.1, 0.05], [0.1, 0.1], [0, 0], [0, 0]], np.float32)
    obs, (seen, *_) = walk(family.env, params, actions)
    moved = np.diff(np.concatenate([np.asarray(obs)[None], seen]), axis=0)
    # A strong actuator goes no further than its bound.
    np.testing.assert_allclose(moved, [[0, 0], [0, 0], [0.05, 0.075], [0.05, 0.1]], atol=1e-6)
    drawn = family.tasks(KEY, "ood", 50)
    assert (np.asarray(drawn["delay"]) == 3).all()
    assert (np.abs(np.asarray(drawn["actuators"]) - 1).max(1) > 0.5).all()
    assert "noise" not in drawn
    context = Imperfect(Point2D()).context(
        jax.tree.map(lambda x: x[0], Imperfect(Point2D()).tasks(KEY, "train", 1))
    )
    assert context.shape == (2 + 2 + 1 + 1,)


def test_noise_is_on_what_is_seen_alone_and_nothing_leaves_all_as_it_was():
    noisy = Imperfect(Point2D(), actuator_width=0.0, sensor_noise=0.1, delay=0)
    params = {"inner": {"goal": jnp.zeros(2)}, "noise": jnp.float32(0.1)}
    actions = np.zeros((200, 2), np.float32)
    _, (seen, reward, _, _) = walk(noisy.env, params, actions)
    assert 0.08 < np.std(seen) < 0.12
    assert np.ptp(reward) == 0  # the point itself stands still
    plain = Imperfect(Point2D(), actuator_width=0.0, sensor_noise=0.0, delay=0)
    ours = walk(plain.env, {"inner": params["inner"]}, actions + 0.05)
    theirs = walk(Point2D().env, params["inner"], actions + 0.05)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_imperfections_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="discrete actions, which have no strength"):
        Imperfect(GridNavi())
    with pytest.raises(UserError, match="not observed in numbers"):
        Imperfect(Bandit(), actuator_width=0.0)
    with pytest.raises(UserError, match="so that no factor is negative"):
        Imperfect(Point2D(), actuator_width=0.8)
    assert Randomized(Imperfect(Point2D())).horizon == Point2D().horizon


def best(family, params, horizon):
    """The best return of a deterministic world with discrete actions, by trying all."""
    acts = jnp.stack(jnp.meshgrid(*[jnp.arange(family.action_space.n)] * horizon), -1)
    acts = acts.reshape(-1, horizon)

    def total(actions):
        def step(carry, action):
            state, alive = carry
            _, state, reward, ended, _, _ = family.env.step(KEY, state, action, params)
            return (state, alive & ~ended), reward * alive

        state = family.env.reset(KEY, params)[1]
        return jax.lax.scan(step, (state, jnp.asarray(True)), actions)[1].sum()

    return float(jax.jit(jax.vmap(total))(acts).max())


def test_the_optimum_of_a_choice_is_the_best_worlds():
    """Two worlds whose goals are at different distances: whoever may choose has the better one's
    value, and has paid nothing for the choice."""
    near, far = GridNavi(size=3, horizon=3), GridNavi(size=3, horizon=3)
    family = WorldChoice((near, far))
    tasks = (jnp.array([1, 1]), jnp.array([2, 2]))
    params = {"worlds": tuple({"goal": goal} for goal in tasks)}
    values = [
        best(world, task, 3) for world, task in zip((near, far), params["worlds"], strict=True)
    ]
    assert values[0] != values[1]
    assert best(family, params, 4) == pytest.approx(max(values))
    assert isinstance(family.action_space, Discrete) and family.horizon == 4
    with pytest.raises(UserError, match="no context"):
        family.context(params)


def test_the_first_action_leads_into_a_world_and_is_seen():
    family = WorldChoice((Point2D(horizon=5), PointConflict(horizon=5)))
    params = jax.tree.map(lambda x: x[0], family.tasks(KEY, "train", 1))
    assert family.env.chosen(jnp.array([-0.5, 0.0])) == 0
    assert family.env.chosen(jnp.array([1.0, 0.0])) == 1
    actions = np.float32([[0.9, 0.0], [1.0, -1.0], [0.0, 0.0]])
    obs, (seen, reward, _, events) = walk(family.env, params, actions)
    assert not np.asarray(obs).any() and reward[0] == 0
    assert (seen[:, :2] == [0, 1]).all() and (events["world"] == 1).all()
    # Actions of the point are in [−1, 1] here and ±0.1 there.
    np.testing.assert_allclose(seen[1, 2:] - seen[0, 2:], [0.1, -0.1], atol=1e-6)


def test_chance_chooses_in_turn_and_the_context_says_which():
    family = WorldChoice((Point2D(horizon=5), PointConflict(horizon=5)), chooser="chance")
    tasks = family.tasks(KEY, "train", 6)
    which = np.asarray(tasks["which"])
    assert np.bincount(which).tolist() == [3, 3] and family.worlds == 2
    told = jax.vmap(family.context)(tasks)
    assert np.argmax(np.asarray(told), 1).tolist() == which.tolist()
    assert family.identity.startswith("world-choice@1(point-2d@")
    one = jax.tree.map(lambda x: x[np.argmax(which == 1)], tasks)
    obs = family.env.reset(KEY, one)[0]
    assert obs[:2].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("families", "message"),
    [
        (("point-2d",), "at least two families, not 1"),
        (("point-2d", "gridnavi"), "some of the families have discrete actions, some continuous"),
        (("point-2d", "pixel-reach"), "seen as pictures"),
        (("point-2d", "point-3d"), "unknown family 'point-3d'"),
    ],
)
def test_worlds_that_do_not_go_together_are_refused(families, message: str):
    with pytest.raises(UserError, match=message):
        WorldChoice(families)


@pytest.mark.parametrize(
    "family",
    [
        ForbiddenRegion(horizon=4),
        Imperfect(PointConflict(horizon=4)),
        WorldChoice((PointConflict(horizon=4), ForbiddenRegion(horizon=4))),
        WorldChoice((PointConflict(horizon=4), ForbiddenRegion(horizon=4)), chooser="chance"),
    ],
    ids=lambda family: family.name,
)
def test_their_episodes_can_be_drawn(family):
    problem = Problem.of(family)
    params = family.tasks(KEY, "test", 1)
    found = record(RandomAgent(family.action_space), problem, params, 1, key=KEY)
    assert found is not None
    task, states, _ = found.episode(0, 0)
    drawn = scene(family, task, states)
    assert drawn is not None and drawn.frames == len(jax.tree.leaves(states)[0])
