"""Pictures: source and target differ in looks alone, and show what there is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.tasks.pixels import (
    AGENT,
    CAR,
    GOAL,
    GRASS,
    GROUND,
    ROAD,
    DriveState,
    PixelDrive,
    PixelReach,
    ReachState,
)

KEY = jax.random.key(0)
FAMILIES = (PixelReach, PixelDrive)


def play(family, policy=None, episodes=64):
    """Every observation, state, reward and event of some episodes, `[episodes, horizon, …]`; the
    policy sees the numbers."""
    keys = jax.random.split(KEY, (episodes, family.horizon + 1))
    return jax.tree.map(np.asarray, _play(family.env, policy, family.sample(KEY, "train"), keys))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(env, policy, params, keys):
    low, high = env.action_space().bounds()

    def episode(keys):
        def step(state, key):
            action = jax.random.uniform(key, low.shape, minval=low, maxval=high)
            if policy is not None:
                action = jnp.clip(policy(env.numbers(state)), low, high)
            obs, state, reward, terminated, truncated, events = env.step(key, state, action, params)
            return state, (obs, state, reward, terminated | truncated, events)

        return jax.lax.scan(step, env.reset(keys[0], params)[1], keys[1:])[1]

    return jax.vmap(episode)(keys)


@pytest.mark.parametrize("make", FAMILIES)
def test_looks_change_the_picture_and_nothing_else(make):
    source, target, blind, same = (
        play(make(**settings), episodes=8)
        for settings in (
            {},
            {"looks": "target"},
            {"looks": "target", "render": False},
            {"looks": "target", "strength": 0.0},
        )
    )
    for other in (target, blind, same):
        for ours, theirs in zip(
            jax.tree.leaves(source[1:]), jax.tree.leaves(other[1:]), strict=True
        ):
            assert ours.tobytes() == theirs.tobytes()
    assert source[0].tobytes() == same[0].tobytes()
    assert source[0].dtype == np.uint8 and source[0].shape[2:] == (32, 32, 3)
    assert np.mean(source[0] == target[0]) < 0.05
    assert blind[0].shape[2:] == (4,)
    family = make(looks="target")
    np.testing.assert_array_equal(
        target[0][0, 0],
        family.env.picture(jax.tree.map(lambda x: x[0, 0], target[1]), family.sample(KEY, "test")),
    )
    assert family.observation_space.shape == (32, 32, 3)
    assert make(render=False).observation_space.shape == (4,)


def colours(pair, looks):
    return np.round(255 * np.asarray(getattr(pair, looks))).astype(int)


@pytest.mark.parametrize("looks", ("source", "target"))
def test_the_picture_shows_what_there_is(looks):
    """A few pixels by hand, up to the noise of the target."""
    near = 8 if looks == "source" else 40  # an edge covers most of a pixel
    ground = near if looks == "source" else 65  # its texture besides
    family = PixelReach(looks=looks)
    params = family.sample(KEY, "train")
    state = ReachState(jnp.asarray([0.5, 0.5]), jnp.asarray([-0.5, -0.25]), jnp.uint32(7))
    seen = np.asarray(family.env.picture(state, params)).astype(int)
    for (row, column), pair, within in (
        ((8, 24), AGENT, near),  # 0.5 to the right, 0.5 up
        ((20, 11), GOAL, near),  # the ring, 0.2 to the right of its middle
        ((20, 8), GROUND, ground),  # its middle is empty
        ((2, 2), GROUND, ground),
    ):
        assert np.all(np.abs(seen[row, column] - colours(pair, looks)) <= within), (row, column)
    family = PixelDrive(looks=looks)
    params = family.sample(KEY, "train")
    straight = DriveState(jnp.zeros(()), jnp.zeros(()), jnp.zeros(2), jnp.uint32(7))
    seen = np.asarray(family.env.picture(straight, params)).astype(int)
    for (row, column), pair, within in (
        ((27, 16), CAR, near),  # 0.7 below the middle
        ((27, 12), ROAD, near),
        ((27, 2), GRASS, ground),
    ):
        assert np.all(np.abs(seen[row, column] - colours(pair, looks)) <= within), (row, column)


def test_known_values():
    """exp(−3 d) at distance d; the road's reward by hand; what the best, and chance, come to."""
    reach = PixelReach(render=False)
    params = reach.sample(KEY, "train")
    state = ReachState(jnp.asarray([0.0, 0.0]), jnp.asarray([0.3, 0.4]), jnp.uint32(0))
    out = reach.env.step(KEY, state, jnp.zeros(2), params)
    assert float(out[2]) == pytest.approx(np.exp(-1.5), rel=1e-6)
    assert float(out[5]["distance"]) == pytest.approx(0.5) and not out[5]["success"]
    best, chance = (
        play(reach, policy)[2].sum(1).mean() for policy in (lambda x: x[2:] - x[:2], None)
    )
    assert best > 15 and chance < 4
    drive = PixelDrive(render=False)
    state = DriveState(*(jnp.zeros(()),) * 2, jnp.zeros(2), jnp.uint32(0))
    middle = 0.35 * np.sin(0.25) + 0.15 * np.sin(0.47)
    out = drive.env.step(KEY, state, jnp.asarray([0.25]), params)
    assert float(out[5]["offset"]) == pytest.approx(0.25 - middle, rel=1e-5)
    assert float(out[2]) == pytest.approx(1 - abs(0.25 - middle) / 0.35, rel=1e-5)
    assert not out[5]["off_road"]
    # Steering for where the road is going to be.
    good, chance = play(drive, lambda x: (x[:1] + x[1:2]) / 2), play(drive)
    assert good[2].sum(1).mean() > 45 and not good[4]["off_road"][:, 5:].any()
    assert chance[2].sum(1).mean() < 15 and chance[4]["off_road"].mean() > 0.5


@pytest.mark.parametrize("make", FAMILIES)
def test_contract_and_scene(make):
    family = make(horizon=4)
    with pytest.raises(UserError, match="no split 'ood'"):
        family.sample(KEY, "ood")
    with pytest.raises(UserError, match="looks"):
        make(looks="night")
    params = family.tasks(KEY, "train", 3)
    assert params["looks"].shape == (3,)
    assert family.context({"looks": jnp.asarray(1.0)}).tolist() == [1.0]
    assert family.identity != dataclasses.replace(family, looks="target").identity
    _, states, _, ended, _ = play(family, episodes=1)
    assert not ended.any()
    scene = family.draw({"looks": np.zeros(())}, jax.tree.map(lambda x: x[0], states))
    assert scene.frames == 4 and all(len(s.points) in (1, 4) for s in scene.shapes)
