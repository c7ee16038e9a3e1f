"""The families of the meta-learning chapter: dynamics, distributions, and numbers known beforehand."""

import math

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.tasks.cart_pole import EXTREME, CartPole, CartPoleState
from stemrl.tasks.causal_graphs import (
    CausalGraphs,
    conditioned,
    decode,
    held_out,
    intervened,
    propagate,
)
from stemrl.tasks.dark_room import DarkRoom
from stemrl.tasks.dependent_bandit import DependentBandit
from stemrl.tasks.maze import Maze, distances
from stemrl.tasks.pendulum import Pendulum, PendulumState
from stemrl.tasks.two_step import TwoStep

FAMILIES = (
    (DarkRoom(), ("train", "test")),
    (DarkRoom(size=10, start="corner", held_out=0.2), ("train", "test")),
    (Maze(), ("train", "test", "ood")),
    (TwoStep(), ("train", "test", "ood")),
    (CausalGraphs(nodes=4), ("train", "test")),
    (CausalGraphs(nodes=3, condition="associative", shuffle=False), ("train", "test")),
    (DependentBandit(), ("train", "test", "ood")),
    (DependentBandit(condition="easy"), ("train", "test", "ood")),
    (DependentBandit(condition="informative"), ("train", "test")),
    (CartPole(), ("train", "test", "ood")),
    (
        CartPole(spread="nominal", hide_velocities=True, continuous=True),
        ("train", "test", "ood"),
    ),
    (Pendulum(), ("train", "test", "ood")),
    (Pendulum(spread="nominal", hide_velocities=True), ("train", "test", "ood")),
)


def named(value):
    return value.identity if hasattr(value, "identity") else None


@pytest.mark.parametrize(("family", "splits"), FAMILIES, ids=named)
def test_contract(family, splits):
    """Shapes and dtypes as the spaces promise, the same state before and after a step, and a refusal
    in one line of a split that is not there."""
    key = jax.random.key(0)

    def one(split):
        params = family.sample(key, split)
        obs, state = family.env.reset(key, params)
        action = family.action_space.sample(key)
        out = family.env.step(key, state, action, params)
        return params, obs, state, out, family.context(params)

    for split in splits:
        params, obs, state, out, context = jax.eval_shape(lambda split=split: one(split))
        stacked = jax.eval_shape(lambda split=split: family.tasks(key, split, 7))
        assert jax.tree.map(lambda x: (7, *x.shape), params) == jax.tree.map(jnp.shape, stacked)
        for seen in (obs, out[0]):
            assert seen.shape == family.observation_space.shape
            assert seen.dtype == family.observation_space.dtype
        assert jax.tree.map(lambda x: (x.shape, x.dtype), out[1]) == jax.tree.map(
            lambda x: (x.shape, x.dtype), state
        )
        assert all(x.shape == () for x in out[2:5])
        assert context.ndim == 1 and context.dtype == jnp.float32
    if "ood" not in splits:
        with pytest.raises(UserError, match="ood"):
            family.sample(key, "ood")


@pytest.mark.parametrize("name", ("CartPole-v1", "Pendulum-v1"))
def test_steps_are_those_of_gymnasium(name):
    """From 300 states: the same next state, observation, reward and end as Gymnasium's own step."""
    theirs = gymnasium.make(name).unwrapped
    theirs.reset(seed=0)
    rng = np.random.default_rng(0)
    if name == "CartPole-v1":
        family = CartPole(spread="nominal")
        physics = rng.uniform(-1, 1, (300, 4)) * [2.4, 3, 0.21, 3]
        actions = rng.integers(0, 2, 300)
        states = CartPoleState(jnp.asarray(physics), jnp.zeros(300, jnp.int32))
    else:
        family = Pendulum(spread="nominal")
        physics = rng.uniform(-1, 1, (300, 2)) * [3 * math.pi, 8]
        actions = rng.uniform(-2, 2, (300, 1))
        states = PendulumState(jnp.asarray(physics))
    params = family.sample(jax.random.key(0), "train")
    step = jax.jit(jax.vmap(family.env.step, (None, 0, 0, None)))
    obs, after, reward, terminated, _, _ = step(
        jax.random.key(0), states, jnp.asarray(actions, jnp.float32), params
    )
    ended = 0
    for i in range(300):
        theirs.state = physics[i]
        if name == "CartPole-v1":
            theirs.steps_beyond_terminated = None
        next_obs, r, end, _, _ = theirs.step(actions[i])
        np.testing.assert_allclose(obs[i], next_obs, atol=2e-5)
        np.testing.assert_allclose(after.physics[i], theirs.state, atol=2e-5)
        np.testing.assert_allclose(reward[i], r, rtol=1e-4, atol=1e-4)
        assert bool(terminated[i]) == end
        ended += end
    assert (0 < ended < 300) == (name == "CartPole-v1")


def test_poles_and_pendulums_differ_as_said():
    tasks = CartPole().tasks(jax.random.key(0), "ood", 2000)
    for name, ((low, to), (again, high)) in EXTREME.items():
        values = np.asarray(tasks[name])
        assert low <= values.min() and values.max() <= high
        assert not np.any((values > to + 1e-6) & (values < again - 1e-6))
        share = (to - low) / (to - low + high - again)
        assert abs(np.mean(values <= to + 1e-6) - share) < 0.04
    context = jax.vmap(CartPole().context)(CartPole().tasks(jax.random.key(1), "train", 500))
    assert 0.97 < float(jnp.max(jnp.abs(context))) <= 1.0001
    hidden, seen = CartPole(hide_velocities=True), CartPole()
    params = seen.sample(jax.random.key(0), "train")
    part, whole = (f.env.reset(jax.random.key(0), params)[0] for f in (hidden, seen))
    assert np.array_equal(part, whole[::2])
    # A continuous push of −1 is the push to the left, of 0 none at all.
    smooth = CartPole(continuous=True)
    state = seen.env.reset(jax.random.key(0), params)[1]
    left = seen.env.step(jax.random.key(0), state, jnp.asarray(0), params)[1].physics
    pushed = [
        smooth.env.step(jax.random.key(0), state, jnp.asarray([a]), params)[1].physics
        for a in (-3.0, 0.0, 1.0)
    ]
    np.testing.assert_allclose(pushed[0], left, rtol=1e-6)
    np.testing.assert_allclose(pushed[0] + pushed[2], 2 * pushed[1], atol=1e-5)
    assert CartPole(spread="nominal").finite and not CartPole().finite
    heavy = {"length": jnp.asarray(0.5), "mass": jnp.asarray(2.0)}
    state = PendulumState(jnp.asarray([0.5, 0.0]))
    out = Pendulum().env.step(jax.random.key(0), state, jnp.asarray([1.0]), heavy)
    # 3·10/(2·½)·sin ½ + 3·1/(2·¼) for 0.05 s
    assert float(out[1].physics[1]) == pytest.approx((30 * math.sin(0.5) + 6.0) * 0.05, rel=1e-5)


def test_a_pole_that_stands_for_195_steps_is_a_success():
    env, params = (
        CartPole(spread="nominal").env,
        CartPole(spread="nominal").sample(jax.random.key(0), "train"),
    )

    def step(state, _):
        x, speed, angle, turning = state.physics
        push = (angle + 0.5 * turning + 0.05 * x + 0.1 * speed > 0).astype(jnp.int32)
        _, state, _, fallen, _, events = env.step(jax.random.key(0), state, push, params)
        return state, (fallen, events["success"])

    first = env.reset(jax.random.key(1), params)[1]
    fallen, success = jax.lax.scan(step, first, length=200)[1]
    assert not np.any(fallen)
    assert np.flatnonzero(success).tolist() == list(range(194, 200))


def test_dark_room_pays_on_the_goal_and_starts_in_the_middle():
    family = DarkRoom()
    assert len(family.goals("train")) == 81 and family.finite
    goal = {"goal": jnp.asarray([4, 6], jnp.int32)}
    _, state = family.env.reset(jax.random.key(0), goal)
    rewards = []
    for action in (1, 1, 0, 1, 3):
        _, state, reward, *_ = family.env.step(jax.random.key(0), state, jnp.int32(action), goal)
        rewards.append(float(reward))
    assert rewards == [0, 1, 1, 0, 1]
    held = DarkRoom(size=10, start="corner", held_out=0.2)
    train, test = ({tuple(g) for g in held.goals(s).tolist()} for s in ("train", "test"))
    assert (len(train), len(test), len(train & test)) == (80, 20, 0) and not held.finite
    assert held.env.start == (0, 0)


def test_mazes_are_trees_and_the_goal_is_far():
    family = Maze()

    def some(split):
        tasks = jax.jit(lambda key: family.tasks(key, split, 50))(jax.random.key(3))
        far = jax.jit(jax.vmap(distances))(tasks["walls"], tasks["start"])
        return jax.device_get(tasks), np.asarray(far)

    tasks, far = some("train")
    free = ~tasks["walls"]
    # A tree of 16 cells has 15 ways between them, and every block can be reached.
    assert np.all(free.sum((1, 2)) == 31) and np.all(free[:, 1::2, 1::2])
    assert np.all(far[free] < 31) and np.all(far[~free] > 81)
    assert len(np.unique(tasks["walls"].reshape(50, -1), axis=0)) == 50
    at_goal = far[(np.arange(50), *tasks["goal"].T)]
    furthest = np.where(free, far, 0).max((1, 2))
    assert np.all(2 * at_goal >= furthest) and np.all(at_goal > 0)
    loops = ~some("ood")[0]["walls"]
    assert loops.sum((1, 2)).mean() > 32


def test_a_maze_shows_what_is_next_to_one():
    rows = ["#####", "#.#.#", "#.#.#", "#...#", "#####"]
    walls = jnp.asarray([[block == "#" for block in row] for row in rows])
    params = {"walls": walls, "start": jnp.asarray([1, 1]), "goal": jnp.asarray([1, 3])}
    env = Maze(cells=2).env
    obs, state = env.reset(jax.random.key(0), params)
    # Around (1, 1): the row above is wall, then left and right, then the row below.
    assert obs.tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 1]
    assert int(distances(walls, params["goal"])[1, 1]) == 6
    seen = []
    for action in (0, 1, 3, 1, 1, 0, 0, 3, 3):  # "right" is the next row
        obs, state, reward, end, _, events = env.step(
            jax.random.key(0), state, jnp.int32(action), params
        )
        seen.append([bool(events[name]) for name in ("blocked", "dead_end", "success")])
    assert seen[0] == [True, False, False] and seen[2] == [False, True, False]
    assert seen[-1] == [False, False, True] and bool(end)
    assert float(reward) == pytest.approx(1 - 0.02)
    assert int(events["cell"]) == 8


def test_two_step_pays_and_leads_as_published():
    family = TwoStep(trials=4000)
    params = {"good": jnp.int32(0), "swapped": jnp.asarray(False)}

    def step(state, key):
        act_key, key = jax.random.split(key)
        place, good = state.place, state.good
        action = jax.random.randint(act_key, (), 0, 2)
        obs, state, reward, _, _, events = family.env.step(key, state, action, params)
        return state, (place, good, action, obs, reward, events)

    first = family.env.reset(jax.random.key(0), params)[1]
    keys = jax.random.split(jax.random.key(1), family.horizon)
    place, good, action, obs, reward, events = jax.device_get(jax.lax.scan(step, first, keys)[1])
    assert np.all(place[::2] == 0) and np.all(place[1::2] > 0) and np.all(reward[::2] == 0)
    assert np.all(obs[::2].argmax(1) == place[1::2]) and np.all(obs[1::2].argmax(1) == 0)
    assert np.array_equal(events["trial_end"], place > 0)
    assert np.array_equal(events["stage1_action"][1::2], action[::2])
    common = place[1::2] - 1 == action[::2]
    assert np.array_equal(events["common"][1::2], common)
    assert np.array_equal(events["rewarded"], reward > 0)
    assert abs(common.mean() - 0.8) < 0.02
    on_good = place[1::2] - 1 == good[1::2]
    assert abs(reward[1::2][on_good].mean() - 0.9) < 0.025
    assert abs(reward[1::2][~on_good].mean() - 0.1) < 0.025
    changed = good[3::2] != good[1:-1:2]
    assert abs(changed.mean() - 0.025) < 0.008
    assert np.array_equal(good[::2], good[1::2])  # they change between trials alone
    drawn = family.tasks(jax.random.key(2), "test", 6)["good"]
    assert int(drawn.sum()) == 3 and TwoStep().horizon == 200


def test_dependent_arms():
    tasks = DependentBandit(condition="uniform").tasks(jax.random.key(0), "train", 1000)[
        "probability"
    ]
    np.testing.assert_allclose(tasks.sum(1), 1.0, rtol=1e-6)
    # The better arm of p and 1 − p pays 3/4 on average, of two independent ones 2/3.
    assert abs(float(tasks.max(1).mean()) - 0.75) < 0.02
    free = DependentBandit(condition="independent").tasks(jax.random.key(0), "train", 1000)[
        "probability"
    ]
    assert abs(float(free.max(1).mean()) - 2 / 3) < 0.02
    for condition, low in (("easy", 0.1), ("medium", 0.25), ("hard", 0.4)):
        family = DependentBandit(condition=condition)
        both = family.tasks(jax.random.key(0), "test", 10)["probability"]
        np.testing.assert_allclose(np.sort(both, axis=0)[:5, 0], low)
        np.testing.assert_allclose(both.sum(1), 1.0)
        assert family.finite and family.trial_episodes == 100
    family = DependentBandit(condition="informative")
    assert (family.trial_episodes, family.arms) == (5, 11)
    params = {"target": jnp.int32(6)}
    state = family.env.reset(jax.random.key(0), params)[1]
    rewards = [
        float(family.env.step(jax.random.key(0), state, jnp.int32(arm), params)[2])
        for arm in (6, 2, 10)
    ]
    np.testing.assert_allclose(rewards, [5.0, 1.1, 0.7], rtol=1e-6)


def test_causal_networks_by_hand():
    """Hidden 0 → 1, 0 → 2 (−1), 1 → 2: values, what setting cuts, and what conditioning tells."""
    weights = jnp.zeros((3, 3)).at[1, 0].set(1.0).at[2, 0].set(-1.0).at[2, 1].set(1.0)
    noise = jnp.asarray([0.5, 0.25, 0.125])
    np.testing.assert_allclose(propagate(weights, noise), [0.5, 0.75, 0.375])
    np.testing.assert_allclose(intervened(weights, noise, jnp.int32(1), 5.0), [0.5, 5.0, 4.625])
    # x₂ = ε₁ + ε₂ and x₁ = ε₀ + ε₁: to see x₁ = 5 raises x₂ by half of that only.
    given = conditioned(weights, jnp.zeros(3), jnp.int32(1), 5.0)
    np.testing.assert_allclose(given, [2.5, 5.0, 2.5])
    assert float(conditioned(weights, noise, jnp.int32(1), 5.0)[1]) == pytest.approx(5.0)


def test_causal_test_graphs_are_of_kinds_never_trained_on():
    held = held_out(5)
    assert len(held) == 59_049 and 2900 < held.sum() <= 2952
    rng = np.random.default_rng(1)
    chosen = rng.choice(np.flatnonzero(held), 5)
    rows, columns = np.tril_indices(5, -1)
    for code in chosen:
        weights = np.asarray(decode(jnp.int32(code), 5))
        assert np.all(np.triu(weights) == 0) and set(np.unique(weights)) <= {-1, 0, 1}
        for order in ([0, 2, 1, 3, 4], [0, 4, 3, 2, 1], [0, 1, 3, 4, 2]):
            renamed = weights[order][:, order]
            if np.all(np.triu(renamed) == 0):
                assert held[int((renamed[rows, columns] + 1) @ 3 ** np.arange(10))]
    assert 1 <= held_out(3).sum() <= 3 and 30 <= held_out(4).sum() <= 36


def test_causal_episodes_show_and_ask():
    family = CausalGraphs(nodes=4, condition="counterfactual")
    params = family.sample(jax.random.key(0), "train")
    obs, state = family.env.reset(jax.random.key(1), params)
    assert not np.any(obs)
    for time in range(3):
        obs, state, reward, end, _, events = family.env.step(
            jax.random.key(time), state, jnp.int32(time), params
        )
        assert float(obs[time]) == 5.0 and obs[3 + time] == 1 and float(reward) == 0
        assert not end and not events["quiz"]
        assert float(obs[6:].sum()) == (time == 2)
    assert int(jnp.argmax(obs[6:])) == int(state.asked)
    answer = intervened(params["weights"], state.noise, state.asked + 1, -5.0)[1:]
    for action in range(3):
        *_, reward, end, _, events = family.env.step(
            jax.random.key(9), state, jnp.int32(action), params
        )
        assert end and float(reward) == float(answer[action])
        assert bool(events["success"]) == (float(reward) == float(answer.max()))


@pytest.mark.parametrize(
    ("family", "settings"),
    (
        (DarkRoom, {"size": 1}),
        (DarkRoom, {"start": "edge"}),
        (Maze, {"cells": 1}),
        (TwoStep, {"reversal": 2.0}),
        (CausalGraphs, {"nodes": 6}),
        (CausalGraphs, {"condition": "other"}),
        (DependentBandit, {"condition": "other"}),
        (CartPole, {"spread": "other"}),
        (Pendulum, {"spread": "other"}),
    ),
)
def test_bad_settings(family, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        family(**settings)
