"""Families whose tasks change the model, randomization per episode, and ranges written as text."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl import registry
from stemrl.core import UserError, count
from stemrl.physics.mujoco_env import HopperEnv
from stemrl.physics.randomized import HopperParams, HumanoidParams, WalkerParams
from stemrl.tasks.cart_pole import CartPole
from stemrl.tasks.pendulum import Pendulum
from stemrl.tasks.point import Point2D
from stemrl.tasks.ranges import Interval, as_text, draw, draw_in, parse
from stemrl.tasks.transforms import Randomized

FAMILIES = {"hopper-params": 24, "walker-params": 42, "humanoid-params": 87}


def drawn(family, split, n):
    return jax.jit(lambda key: family.tasks(key, split, n))(jax.random.key(0))


def rollout(env, params, steps=12, reset_key=None):
    """Observations and rewards of one episode under fixed actions, `[steps, …]`."""
    reset_key = jax.random.key(7) if reset_key is None else reset_key
    key = jax.random.key(8)
    size = env.action_space().shape[0]
    actions = jax.random.uniform(key, (steps, size), minval=-1, maxval=1)

    def step(state, action):
        obs, state, reward, *_ = env.step(key, state, action, params)
        return state, (obs, reward)

    return jax.lax.scan(step, env.reset(reset_key, params)[1], actions)[1]


def play(env, params, **options):
    return jax.tree.map(np.asarray, jax.jit(lambda p: rollout(env, p, **options))(params))


@pytest.mark.parametrize("name", FAMILIES)
def test_multipliers_are_drawn_as_published(name):
    family = registry.make("families", name)
    tasks = drawn(family, "train", 200)
    assert count(tasks) == 200
    values = np.asarray(tasks["values"])
    assert values.shape[1] == len(family.parameters.addresses) == FAMILIES[name]
    damping = np.array([a.startswith("joint_damping") for a in family.parameters.addresses])
    base = np.where(damping, 1.3, 1.5)
    exponents = np.log(values) / np.log(base)
    assert np.all(np.abs(exponents) <= 3.0001)
    np.testing.assert_allclose(exponents.std(0), 3 / np.sqrt(3), rtol=0.15)
    far = np.asarray(drawn(family, "ood", 200)["values"])
    reach = np.max(np.abs(np.log(far) / np.log(base)), axis=1)
    assert np.all(reach > 2.999) and np.all(reach < 4.501) and np.max(reach) > 4
    context = jax.vmap(family.context)(tasks)
    np.testing.assert_allclose(context, np.log(values), rtol=1e-5, atol=1e-6)
    assert family.identity.startswith(f"{name}@1(") and "width=3.0" in family.identity


@pytest.mark.parametrize("limb_width", [0.0, 1e-30])
def test_zero_width_is_the_nominal_robot_bit_for_bit(limb_width):
    family = HopperParams(width=0.0, limb_width=limb_width)
    params = jax.tree.map(lambda x: x[0], drawn(family, "ood", 1))
    assert np.all(np.asarray(params["values"]) == 1)

    ours, theirs = play(family.env, params), play(HopperEnv(), {})
    for one, other in zip(ours, theirs, strict=True):
        assert one.tobytes() == other.tobytes()


def test_tasks_move_differently_and_again_the_same():
    family = WalkerParams(limb_width=0.3)
    one, two = (family.sample(jax.random.key(seed), "train") for seed in (0, 1))
    first, other, again = (play(family.env, params) for params in (one, two, one))
    assert not np.allclose(first[0], other[0], atol=1e-2)
    assert first[0].tobytes() == again[0].tobytes()
    assert np.all(np.isfinite(first[0])) and np.all(np.isfinite(other[0]))


def test_a_batch_of_models_moves_as_each_alone():
    family = HopperParams(limb_width=0.2)
    tasks = drawn(family, "train", 3)
    together = jax.jit(jax.vmap(lambda params: rollout(family.env, params)))(tasks)
    for i in range(3):
        alone = play(family.env, jax.tree.map(lambda x, i=i: x[i], tasks))
        np.testing.assert_allclose(together[0][i], alone[0], rtol=0, atol=1e-5)


def test_limbs_are_a_setting():
    without, with_limbs = HumanoidParams(), HumanoidParams(limb_width=0.1)
    added = set(with_limbs.parameters.addresses) - set(without.parameters.addresses)
    assert "limb_length:left_thigh" in added and "limb_radius:right_foot" in added
    values = with_limbs.sample(jax.random.key(0), "train")["values"]
    limbs = np.array([a.startswith("limb") for a in with_limbs.parameters.addresses])
    assert np.all(np.abs(np.log(np.asarray(values)[limbs])) <= 0.1 * np.log(1.5) + 1e-6)
    obs, _ = play(with_limbs.env, {"values": values})
    assert np.all(np.isfinite(obs))


def test_every_episode_of_a_randomized_family_is_another_task():
    inner = Point2D()
    family = Randomized(inner)
    assert family.horizon == inner.horizon and family.stepping == "jax"
    assert family.identity == f"randomized@1({inner.identity})"
    params = family.sample(jax.random.key(0), "train")
    keys = jax.random.split(jax.random.key(1), 300)
    resets = jax.jit(jax.vmap(family.env.reset, in_axes=(0, None)))
    _, state = resets(keys, params)
    goals = np.asarray(state.params["goal"])
    assert len(np.unique(goals, axis=0)) == 300 and np.all(np.abs(goals) <= 0.5)
    # The goal stays while the episode lasts, and its reward is that of the inner environment.
    one = jax.tree.map(lambda x: x[0], state)
    _, after, reward, *_ = family.env.step(keys[0], one, jnp.asarray([0.1, 0.0]), params)
    assert np.array_equal(after.params["goal"], goals[0])
    np.testing.assert_allclose(reward, -np.linalg.norm([0.1, 0.0] - goals[0]), rtol=1e-6)
    far = family.sample(jax.random.key(0), "ood")
    _, state = resets(keys, far)
    assert np.all(np.max(np.abs(state.params["goal"]), axis=1) >= 0.4999)
    assert registry.make("families", "randomized", family="point-2d").identity == family.identity
    with pytest.raises(UserError, match="did you mean 'point-2d'"):
        Randomized("point-d2")
    with pytest.raises(UserError, match="no context"):
        family.context(params)


def test_a_model_for_every_episode():
    """A zero width is the inner family's one task, exactly; a width is not."""
    key = jax.random.key(3)
    inner = HopperParams(width=0.0)
    family = Randomized(inner)
    params = family.sample(key, "train")
    ours = play(family.env, params, reset_key=key)
    _, reset_key = jax.random.split(key)
    theirs = play(inner.env, inner.sample(key, "train"), reset_key=reset_key)
    for one, other in zip(ours, theirs, strict=True):
        assert one.tobytes() == other.tobytes()
    wide = play(Randomized(HopperParams()).env, params, reset_key=key)
    assert not np.allclose(wide[0], ours[0], atol=1e-2)


def test_shells_surround_boxes():
    points = jax.vmap(lambda k: draw(k, "ood", 3, 2.0))(jax.random.split(jax.random.key(0), 500))
    reach = np.max(np.abs(points), axis=1)
    assert reach.min() >= 0.9999 and 1.9 < reach.max() <= 2.0001
    inside = jax.vmap(lambda k: draw(k, "test", 3, 2.0))(jax.random.split(jax.random.key(0), 500))
    assert np.max(np.abs(inside)) <= 1


def test_ranges_are_one_line_of_text():
    ranges = {"body_mass:torso": (0.5, 2), "g": (9.81, 9.81)}
    assert as_text(ranges) == "body_mass:torso=0.5:2.0,g=9.81:9.81"
    read = {"body_mass:torso": Interval(0.5, 2.0), "g": Interval(9.81, 9.81)}
    assert parse(as_text(ranges)) == read == parse(" body_mass:torso = 0.5:2, g=9.81")
    assert as_text({"mass": (6, 1.5, 3, 9)}) == "mass=6.0:1.5:3.0:9.0"
    assert parse("mass=6:1.5:3:9") == {"mass": Interval(3.0, 9.0, 6.0, 1.5)}
    for text, message in {
        "g": "write it as",
        "=1:2": "write it as",
        "g=1:2:3": "write it as",
        "g=2:1": "must be low:high",
        "g=nan:1": "must be low:high",
        "g=1:2,g=1:3": "twice",
        "g=4:1:2:3": "the mean inside",
        "g=2:0:1:3": "a std above 0",
    }.items():
        with pytest.raises(UserError, match=message):
            parse(text)


def test_a_normal_range_is_cut_off_and_its_shell_is_beyond():
    ranges = parse("a=6:1.5:3:9,b=0:2")
    keys = jax.random.split(jax.random.key(0), 4000)
    inside = jax.vmap(lambda k: draw_in(k, "train", ranges))(keys)
    a = np.asarray(inside["a"])
    assert a.min() >= 3 and a.max() <= 9
    # ± two deviations: the variance of a standard normal cut off there is 0.7737.
    assert abs(a.mean() - 6) < 0.08 and abs(a.std() - 1.5 * 0.7737**0.5) < 0.04
    np.testing.assert_allclose(inside["b"].std(), 2 / 12**0.5, rtol=0.03)
    outside = jax.vmap(lambda k: draw_in(k, "ood", ranges))(keys[:500])
    assert np.all((np.abs(outside["a"] - 6) > 3) | (np.abs(outside["b"] - 1) > 1))


def test_a_family_with_ranges_of_ones_own():
    hopper = HopperParams(ranges="body_mass:torso=1.5:0.4:0.8:2.5,joint_damping:*=0.5:2")
    values = np.asarray(drawn(hopper, "train", 300)["values"])
    assert values.shape == (300, 2)
    assert np.all(values >= (0.8, 0.5)) and np.all(values <= (2.5, 2.0))
    assert "ranges" in hopper.identity and "ranges" not in HopperParams().identity
    pole = CartPole(spread="nominal", ranges="mass=0.4")
    assert pole.finite and not CartPole(ranges="mass=0.4").finite
    task = pole.sample(jax.random.key(0), "test")
    assert (float(task["mass"]), float(task["force"])) == (pytest.approx(0.4), 10.0)


def test_a_state_is_made_of_what_is_seen():
    """Any step can be played again from its observation."""
    families: list[Any] = [CartPole(), Pendulum(), HopperParams()]
    for family in families:
        env, params = family.env, family.sample(jax.random.key(0), "train")

        def seen_and_again(key, env=env, params=params):
            obs, state = env.reset(key, params)
            action = 0.3 * jnp.ones(env.action_space().shape)
            after = env.step(key, state, action, params)[0]
            return after, env.step(key, env.state_of(obs, params), action, params)[0]

        after, again = jax.jit(seen_and_again)(jax.random.key(1))
        np.testing.assert_allclose(after, again, atol=1e-4, err_msg=family.name)


def test_mistakes_get_one_clear_line():
    with pytest.raises(UserError, match="width must be from 0 to 6"):
        HopperParams(width=-1.0)
    with pytest.raises(UserError, match="beyond must be at least 1"):
        WalkerParams(beyond=0.5)
    for family, ranges, message in (
        (CartPole, "mas=1", "has no parameter 'mas'; did you mean 'mass'"),
        (CartPole, "mass=-0.1:0.4", "'mass' must be above 0"),
        (HopperParams, "body_mass:torso=0.2:1:-1:3", "must be above 0, and its range begins at -1"),
        (HopperParams, "body_mass:tors=1:2", "tors"),
    ):
        with pytest.raises(UserError, match=message):
            family(ranges=ranges)
