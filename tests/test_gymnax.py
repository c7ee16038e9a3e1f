"""gymnax's environments as families. Skipped where the extra is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Box, Discrete, UserError
from stemrl.tasks.gymnax import GymnaxFamily

try:
    import gymnax
except ImportError as error:
    gymnax = None
    reason = str(error)
else:
    reason = ""
needs_gymnax = pytest.mark.skipif(gymnax is None, reason=f"needs the extra 'gymnax': {reason}")


@pytest.mark.skipif(gymnax is not None, reason="gymnax is installed")
def test_without_gymnax_it_says_what_to_install():
    with pytest.raises(UserError, match=r"pip install 'stemrl\[gymnax\]'"):
        GymnaxFamily()


@needs_gymnax
@pytest.mark.parametrize(
    ("environment", "ranges"),
    [
        ("CartPole-v1", {"length": (0.25, 0.75), "masspole": (0.05, 0.2)}),
        ("Pendulum-v1", {"m": (0.5, 2.0), "g": (8.0, 12.0)}),
        ("Acrobot-v1", {"link_mass_1": (0.5, 2.0)}),
        ("MountainCarContinuous-v0", {"power": (0.001, 0.002)}),
        ("PointRobot-misc", {"goal_radius": (0.1, 0.3)}),
        ("FourRooms-misc", {"fail_prob": (0.0, 0.5)}),
    ],
)
def test_steps_agree_with_gymnax_up_to_its_resets(environment, ranges):
    """Same keys, same actions, same transitions; where gymnax resets, ours shows the true last
    observation, which gymnax hides in `final_observation`."""
    family = GymnaxFamily(environment, ranges)
    env, _ = gymnax.make(environment)
    params = jax.tree.map(jnp.asarray, family.sample(jax.random.key(0), "train"))
    theirs = family.env.full(params)
    steps = 60
    keys = jax.random.split(jax.random.key(1), steps)
    spaces = family.action_space
    actions = jax.vmap(spaces.sample)(jax.random.split(jax.random.key(2), steps))

    @jax.jit
    def run(params, theirs):
        first = family.env.reset(keys[0], params)
        expected = env.reset(keys[0], theirs)
        np.testing.assert_equal(jax.tree.structure(first[1]), jax.tree.structure(expected[1]))

        def step(state, key_action):
            key, action = key_action
            # gymnax splits the key between its step and its reset.
            ours = family.env.step(jax.random.split(key)[0], state, action, params)
            _, _, reward, terminated, truncated, info = env.step(key, state, action, theirs)
            return ours[1], (
                (ours[0], ours[2], ours[3], ours[4]),
                (info["final_observation"], reward, terminated, truncated),
            )

        return (first[0], expected[0]), jax.lax.scan(step, first[1], (keys, actions))[1]

    (first, expected_first), (ours, expected) = run(params, theirs)
    np.testing.assert_array_equal(first, expected_first)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=1e-5, atol=1e-5
        )


@needs_gymnax
def test_what_follows_from_a_parameter_follows():
    family = GymnaxFamily("CartPole-v1", {"length": (0.25, 0.75), "masspole": (0.05, 0.2)})
    params = family.sample(jax.random.key(0), "train")
    full = family.env.full(params)
    assert float(full.length) != 0.5
    np.testing.assert_allclose(full.polemass_length, full.masspole * full.length, rtol=1e-6)
    np.testing.assert_allclose(full.total_mass, full.masspole + 1.0, rtol=1e-6)
    # Named by the user, a derived parameter is the user's.
    family = GymnaxFamily("CartPole-v1", {"total_mass": (2.0, 2.0)})
    full = family.env.full(family.sample(jax.random.key(0), "train"))
    assert float(full.total_mass) == 2.0


@needs_gymnax
def test_splits_spaces_and_identity():
    family = GymnaxFamily("CartPole-v1", {"length": (0.25, 0.75), "force_mag": (5, 15)}, steps=100)
    assert family == GymnaxFamily(steps=100) and hash(family) == hash(GymnaxFamily(steps=100))
    assert family.horizon == 100 and GymnaxFamily().horizon == 500
    assert "ranges='length=0.25:0.75,force_mag=5.0:15.0'" in family.identity
    assert family.action_space == Discrete(2)
    space = jax.jit(lambda: (family.observation_space, jnp.zeros(()))[1])  # inside a trace too
    assert space() == 0 and isinstance(family.observation_space, Box)
    assert not family.observation_space.bounded and family.observation_space.shape == (4,)
    pendulum = GymnaxFamily("Pendulum-v1", "m=0.5:2")
    assert pendulum.action_space == Box((1,), -2.0, 2.0)

    def lengths(split):
        return np.asarray(
            jax.jit(lambda k: family.tasks(k, split, 100))(jax.random.key(0))["length"]
        )

    assert lengths("train").min() > 0.25 and lengths("train").max() < 0.75
    context = jax.vmap(family.context)(family.tasks(jax.random.key(0), "ood", 100))
    reach = np.max(np.abs(context), axis=1)
    assert reach.min() >= 0.999 and 1.4 < reach.max() <= 1.5001


@needs_gymnax
def test_with_nothing_varied_there_is_one_task():
    family = GymnaxFamily("MountainCar-v0")
    assert family.ranges == "" and family.finite and not GymnaxFamily().finite
    params = family.tasks(jax.random.key(0), "test", 3)
    assert jax.tree.map(jnp.shape, params) == {"none": (3, 0)}
    _, state = family.env.reset(jax.random.key(0), family.sample(jax.random.key(0), "train"))
    assert (
        len(family.env.step(jax.random.key(0), state, jnp.asarray(1), {"none": jnp.zeros(0)})) == 6
    )
    for asked in (lambda: family.sample(jax.random.key(0), "ood"), lambda: family.context(params)):
        with pytest.raises(UserError, match="nothing varied is one task"):
            asked()


@needs_gymnax
def test_a_time_limit_truncates_and_does_not_reset():
    family = GymnaxFamily("Pendulum-v1", "m=1:1")
    params = family.sample(jax.random.key(0), "train")
    _, state = family.env.reset(jax.random.key(0), params)
    state = state.replace(time=jnp.asarray(199, state.time.dtype))
    _, after, _, terminated, truncated, _ = jax.jit(family.env.step)(
        jax.random.key(0), state, jnp.zeros(1), params
    )
    assert truncated and not terminated and int(after.time) == 200
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(after))


@needs_gymnax
@pytest.mark.parametrize(
    ("environment", "ranges", "message"),
    [
        ("CartPole-v2", "length=1:2", "did you mean 'CartPole-v1'"),
        ("CartPole-v1", "lenght=1:2", "did you mean 'length'"),
        ("CartPole-v1", "max_steps_in_episode=1:2", "not a real number"),
        ("CartPole-v1", "length:1:2", "write it as name=low:high"),
    ],
)
def test_mistakes_get_one_clear_line(environment, ranges, message):
    with pytest.raises(UserError, match=message) as caught:
        GymnaxFamily(environment, ranges)
    assert "\n" not in str(caught.value)


@needs_gymnax
def test_every_gymnax_environment_has_spaces_or_says_why_not():
    for environment in gymnax.registered_envs:
        if "MNIST" in environment:
            continue  # downloads its digits
        _, defaults = gymnax.make(environment)
        numbers = [name for name, value in vars(defaults).items() if type(value) is float]
        if not numbers:
            continue
        value = getattr(defaults, numbers[0])
        try:
            family = GymnaxFamily(environment, {numbers[0]: (value, value)})
            assert family.observation_space.shape is not None
        except UserError as error:
            assert "known are Box" in str(error)
