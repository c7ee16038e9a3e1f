"""Physics: Gymnasium's numbers, batches, models of one's own, divergence, families."""

import math
import os

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from stemrl import registry
from stemrl.core import AbstractGoalFamily, UserError
from stemrl.physics import (
    AntEnv,
    Engine,
    HalfCheetahEnv,
    HalfCheetahVel,
    HopperEnv,
    HumanoidEnv,
    MujocoEnv,
    Walker2dEnv,
)
from stemrl.physics.mujoco_env import asset

PENDULUM = """
<mujoco><option timestep="0.01"/>
  <worldbody><body name="arm" pos="0 0 1"><joint name="hinge" axis="0 1 0"/>
    <geom name="rod" type="capsule" fromto="0 0 0 0 0 -.5" size=".05" contype="0" conaffinity="0"/>
  </body></worldbody>
  <actuator><motor joint="hinge" ctrlrange="-2 2" ctrllimited="true"/></actuator>
</mujoco>"""

NO_FORCES = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}
ROBOTS = {
    "HalfCheetah-v5": (HalfCheetahEnv, {}),
    "Hopper-v5": (HopperEnv, {}),
    "Walker2d-v5": (Walker2dEnv, {}),
    "Ant-v5": (AntEnv, NO_FORCES),
    "Humanoid-v5": (
        HumanoidEnv,
        NO_FORCES
        | {f"include_{name}_in_observation": False for name in ("cinert", "cvel", "qfrc_actuator")},
    ),
}


def heavier(nominal, model, values):
    """An `apply`: gravity and the arm's mass as factors."""
    if values[0] < 0:
        raise RuntimeError("a negative gravity was asked for")
    model.opt.gravity[2] = nominal.opt.gravity[2] * values[0]
    model.body_mass[1] = nominal.body_mass[1] * values[1]


@pytest.fixture
def pendulum(tmp_path):
    path = tmp_path / "pendulum.xml"
    path.write_text(PENDULUM)
    return path


@eqx.filter_jit
def step_all(env: MujocoEnv, states, actions, params):
    """Every state with its action; `[n, …]`."""
    return jax.vmap(lambda s, a: env.step(jax.random.key(0), s, a, params))(states, actions)


def close(ours, theirs) -> bool:
    """To 1e-5, relative for large values."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs)
    return bool(np.all(np.abs(ours - theirs) <= 1e-5 * np.maximum(1.0, np.abs(theirs))))


@pytest.mark.parametrize("name", ROBOTS)
def test_every_step_is_gymnasiums(name, monkeypatch, tmp_path):
    # Gymnasium's own loading writes a log where we stand.
    monkeypatch.chdir(tmp_path)
    make, settings = ROBOTS[name]
    env, world = make(), gymnasium.make(name, **settings).unwrapped
    rng, rows = np.random.default_rng(0), []
    world.reset(seed=0)
    for t in range(1000):
        qpos, qvel = world.data.qpos.copy(), world.data.qvel.copy()
        action = rng.uniform(world.action_space.low, world.action_space.high).astype(np.float32)
        world.set_state(qpos, qvel)
        obs, reward, terminated, _, _ = world.step(action)
        rows.append((env.engine.start(qpos, qvel), action, obs, reward, terminated))
        if terminated:
            world.reset(seed=t + 1)
    states, actions, obs, reward, terminated = (np.stack(x) for x in zip(*rows, strict=True))
    ours = step_all(env, states, actions, {})
    assert close(ours[0], obs)
    assert close(ours[2], reward)
    np.testing.assert_array_equal(ours[3], terminated)
    if name != "HalfCheetah-v5":
        assert terminated.any()
    space = env.action_space()
    low, high = space.bounds()
    np.testing.assert_array_equal(low, world.action_space.low)
    np.testing.assert_array_equal(high, world.action_space.high)
    assert env.observation_space().shape == obs.shape[1:]


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5"])
def test_a_trajectory_is_gymnasiums(name, monkeypatch, tmp_path):
    """Nothing is lost between steps: 60 of them end where Gymnasium's own loop does. (Rewards of
    the ant too, which hang on where the simulator left the torso a step before.)"""
    monkeypatch.chdir(tmp_path)
    make, settings = ROBOTS[name]
    env, world = make(), gymnasium.make(name, **settings).unwrapped
    world.reset(seed=3)
    state = env.engine.start(world.data.qpos.copy(), world.data.qvel.copy())
    actions = np.random.default_rng(1).uniform(-1, 1, (60, env.action_space().size))
    actions = actions.astype(np.float32)

    def step(state, action):
        obs, state, reward, *_ = env.step(jax.random.key(0), state, action, {})
        return state, (obs, reward)

    _, (obs, reward) = jax.jit(lambda s, a: jax.lax.scan(step, s, a))(state, actions)
    theirs = [world.step(action)[:2] for action in actions]
    assert close(obs, np.stack([o for o, _ in theirs]))
    assert close(reward, [r for _, r in theirs])


@pytest.mark.parametrize("name", ROBOTS)
def test_episodes_start_as_gymnasiums_do(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make, settings = ROBOTS[name]
    env, world = make(), gymnasium.make(name, **settings).unwrapped
    reset = jax.jit(jax.vmap(lambda k: env.reset(k, {})))
    obs, states = reset(jax.random.split(jax.random.key(0), 400))
    theirs = np.stack([world.reset(seed=i)[0] for i in range(400)])
    np.testing.assert_allclose(np.mean(obs, 0), theirs.mean(0), atol=0.03)
    np.testing.assert_allclose(np.std(obs, 0), theirs.std(0), rtol=0.2, atol=1e-6)
    # What is observed is what is simulated.
    qpos, qvel = env.engine.positions(states), env.engine.velocities(states)
    inputs = np.concatenate([qpos[:, env.robot.hidden :], qvel], 1)
    # (But for the last bit: the tests' compiler may compute the same sum twice, in two ways.)
    np.testing.assert_allclose(inputs.astype(np.float32), obs, rtol=1e-6, atol=1e-8)


def test_numbers_pass_into_float64_exactly(pendulum):
    engine = Engine.load(pendulum, 1)
    for value in (0.0, -0.0, 1.0, -1.7, 3e-20, 1e30, 0.1):
        x = jnp.asarray([value], jnp.float32)
        state = jax.jit(engine.start)(x, -x)
        assert engine.positions(state)[0] == np.float32(value)
        assert engine.velocities(state)[0] == -np.float32(value)
    exact = np.asarray([0.1])
    assert engine.positions(engine.start(exact, exact))[0] == 0.1


def test_however_deep_the_batch_it_is_the_same(pendulum):
    engine = Engine.load(pendulum, 3)
    qpos = jax.random.normal(jax.random.key(0), (2, 3, 4, 1))
    states = jax.vmap(jax.vmap(jax.vmap(engine.start)))(qpos, 0 * qpos)
    control = jnp.ones((2, 3, 4, 1))
    once = jax.jit(jax.vmap(jax.vmap(jax.vmap(engine.step))))
    after, motion = once(states, control)
    one, alone = jax.jit(engine.step)(states[1, 2, 3], control[1, 2, 3])
    np.testing.assert_array_equal(after[1, 2, 3], one)
    np.testing.assert_array_equal(motion.qpos[1, 2, 3], alone.qpos)
    again, _ = once(states, control)
    np.testing.assert_array_equal(after, again)
    # One state, many controls.
    shared, _ = jax.vmap(engine.step, in_axes=(None, 0))(states[0, 0, 0], control[0, 0])
    assert shared.shape == (4, states.shape[-1])


def test_every_slot_has_its_model_derived_from_the_nominal_one(pendulum):
    engine = Engine.load(pendulum, 5, apply=heavier)
    state = engine.start(np.asarray([1.0]), np.zeros(1))
    step = jax.jit(jax.vmap(engine.step, in_axes=(None, None, 0)))
    control = jnp.ones(1)
    values = jnp.asarray([[1.0, 1.0], [0.5, 1.0], [1.0, 3.0]])
    first, _ = step(state, control, values)
    assert len({tuple(row) for row in np.asarray(first).tolist()}) == 3
    step(state, control, values[::-1] * 2.0)
    again, _ = step(state, control, values)
    np.testing.assert_array_equal(first, again)
    nominal, _ = Engine.load(pendulum, 5).step(state, control)
    np.testing.assert_array_equal(first[0], nominal)
    # A bigger batch, and each slot against MuJoCo itself.
    many = jax.random.uniform(jax.random.key(0), (7, 2), minval=0.5, maxval=2.0)
    after, _ = step(state, control, many)
    for values, slot in zip(np.asarray(many), np.asarray(after), strict=True):
        model = engine.model(values)
        data = mujoco.MjData(model)
        data.qpos[:], data.ctrl[:] = 1.0, 1.0
        mujoco.mj_step(model, data, 5)
        assert engine.positions(slot) == data.qpos


@pytest.mark.parametrize("frame_skip", [1, 4])
@pytest.mark.parametrize("track", ["", "arm"])
def test_what_diverges_ends_alone_and_litters_nothing(
    pendulum, frame_skip, track, monkeypatch, tmp_path, capfd
):
    monkeypatch.chdir(tmp_path / "..")
    before = set(os.listdir())
    engine = Engine.load(pendulum, frame_skip, track)
    qpos, qvel = np.full((4, 1), 0.5), np.zeros((4, 1))
    qvel[1] = 1e12
    states = np.stack([engine.start(q, v) for q, v in zip(qpos, qvel, strict=True)])
    control = jnp.ones((4, 1)).at[2].set(jnp.nan)
    after, motion = jax.jit(jax.vmap(engine.step))(states, control)
    np.testing.assert_array_equal(motion.diverged, [False, True, True, False])
    words = 2 * (1 + 1 + 1)
    np.testing.assert_array_equal(after[1, :words], states[1, :words])
    np.testing.assert_array_equal(motion.qpos[2], [0.5])
    np.testing.assert_array_equal(motion.moved[1:3], np.zeros((2, 1)))
    np.testing.assert_array_equal(after[0], after[3])
    assert not np.array_equal(after[0], states[0])
    assert set(os.listdir()) == before
    assert capfd.readouterr() == ("", "")


def test_a_diverged_episode_terminates_with_the_last_good_observation():
    env = HalfCheetahEnv()
    obs, state = env.reset(jax.random.key(0), {})
    actions = jnp.stack([jnp.zeros(6), jnp.full(6, jnp.nan)])
    after = step_all(env, jnp.stack([state, state]), actions, {})
    np.testing.assert_array_equal(after[3], [False, True])
    np.testing.assert_array_equal(after[5]["diverged"], [False, True])
    np.testing.assert_array_equal(after[0][1], obs)


def test_what_fails_inside_the_callback_is_raised_with_its_cause(pendulum):
    engine = Engine.load(pendulum, 5, apply=heavier)
    state = engine.start(np.asarray([1.0]), np.zeros(1))
    step = jax.jit(engine.step)
    with pytest.raises(Exception, match="negative gravity"):
        jax.block_until_ready(step(state, jnp.ones(1), jnp.asarray([-1.0, 1.0])))
    after, _ = step(state, jnp.ones(1), jnp.asarray([1.0, 1.0]))
    nominal, _ = Engine.load(pendulum, 5).step(state, jnp.ones(1))
    np.testing.assert_array_equal(after, nominal)


def test_bad_models_are_the_users_error(tmp_path, pendulum):
    with pytest.raises(UserError, match="cannot read the model file"):
        Engine.load(tmp_path / "missing.xml", 1)
    (tmp_path / "broken.xml").write_text("<mujoco><worldbody><geom type='potato'/></worldbody>")
    with pytest.raises(UserError, match="not a valid MuJoCo model") as error:
        Engine.load(tmp_path / "broken.xml", 1)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no body 'leg'"):
        Engine.load(pendulum, 1, track="leg")
    with pytest.raises(UserError, match="frame_skip"):
        Engine.load(pendulum, 0)


def test_a_changed_file_is_another_engine(pendulum):
    first = Engine.load(pendulum, 1)
    pendulum.write_text(PENDULUM.replace('size=".05"', 'size=".08"'))
    second = Engine.load(pendulum, 1)
    assert first != second
    assert first.nominal.body_mass[1] < second.nominal.body_mass[1]


def test_poses_are_where_the_robot_is():
    env = HopperEnv()
    _, state = env.reset(jax.random.key(0), {})
    skeleton = env.skeleton({})
    ends = env.poses({}, np.stack([state, state]))
    assert ends.shape == (2, 4, 2, 3)
    assert skeleton.names == ("torso_geom", "thigh_geom", "leg_geom", "foot_geom")
    assert skeleton.kinds == ("capsule",) * 4
    assert skeleton.ground == 0.0
    np.testing.assert_allclose(skeleton.radii, [0.05, 0.05, 0.04, 0.06])
    lengths = np.linalg.norm(ends[0, :, 0] - ends[0, :, 1], axis=-1)
    np.testing.assert_allclose(lengths, [0.4, 0.45, 0.5, 0.39], atol=1e-6)
    # The thigh hangs from the torso's lower end.
    np.testing.assert_allclose(ends[0, 0].min(0)[2], ends[0, 1].max(0)[2], atol=1e-3)


LOCOMOTION = [name for name, entry in registry.FAMILIES.items() if "locomotion" in entry.path]


@pytest.mark.parametrize("name", LOCOMOTION)
def test_every_family_plays_in_every_split(name):
    family = registry.make("families", name, horizon=7)
    assert family.name == name
    assert family.identity.startswith(f"{name}@1(") and "horizon=7" in family.identity
    assert family.stepping == "callback"
    env = family.env
    tasks = [family.tasks(jax.random.key(0), split, 3) for split in ("train", "test", "ood")]
    params = jax.tree.map(lambda *x: jnp.concatenate(x), *tasks)
    contexts = jax.vmap(family.context)(params)
    assert contexts.ndim == 2 and contexts.dtype == jnp.float32
    keys = jax.random.split(jax.random.key(1), 9)
    obs, states = jax.vmap(env.reset)(keys, params)
    assert obs.shape == (9, *family.observation_space.shape)
    action = jnp.zeros(family.action_space.shape)
    step = jax.jit(jax.vmap(lambda k, s, p: env.step(k, s, action, p)))
    obs, _, reward, terminated, truncated, events = step(keys, states, params)
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
    assert not terminated.any() and not truncated.any() and not events["diverged"].any()
    with pytest.raises(UserError, match="horizon"):
        registry.make("families", name, horizon=0)


def test_identities_differ_where_the_tasks_do():
    names = ["half-cheetah-vel", "half-cheetah-vel-maml", "half-cheetah-vel-pearl"]
    families = [registry.make("families", name) for name in names]
    families += [HalfCheetahVel(low=-1.0), HalfCheetahVel(high=2.0), HalfCheetahVel(horizon=100)]
    assert len({family.identity for family in families}) == len(families)
    assert [family.speeds for family in families[:3]] == [(0, 3), (0, 2), (0, 3)]


def test_speeds_come_from_their_splits_ranges():
    family = HalfCheetahVel(low=-2.0, high=2.0)
    for split in ("train", "test"):
        speeds = family.tasks(jax.random.key(0), split, 300)["speed"]
        assert -2.0 <= speeds.min() < -1.8 and 1.8 < speeds.max() <= 2.0
    beyond = family.tasks(jax.random.key(0), "ood", 300)["speed"]
    assert ((np.abs(beyond) >= 2.0) & (np.abs(beyond) <= 3.0)).all()
    assert (beyond < 0).any() and (beyond > 0).any()


def test_headings_and_goals_come_from_their_splits():
    heading = registry.make("families", "ant-dir", arc=180.0)
    inside = heading.tasks(jax.random.key(0), "test", 200)["direction"]
    outside = heading.tasks(jax.random.key(0), "ood", 200)["direction"]
    assert (inside[:, 0] >= -1e-6).all() and (outside[:, 0] <= 1e-6).all()
    np.testing.assert_allclose(np.linalg.norm(inside, axis=1), 1.0, rtol=1e-5)
    with pytest.raises(UserError, match="no ood split"):
        registry.make("families", "humanoid-dir", arc=360.0).sample(jax.random.key(0), "ood")
    goal = registry.make("families", "ant-goal", radius=2.0)
    near = np.linalg.norm(goal.tasks(jax.random.key(0), "train", 300)["goal"], axis=1)
    far = np.linalg.norm(goal.tasks(jax.random.key(0), "ood", 300)["goal"], axis=1)
    assert near.max() <= 2.0 and abs(near.mean() - 4 / 3) < 0.1
    assert far.min() >= 2.0 - 1e-5 and far.max() <= 3.0 + 1e-5


@pytest.mark.parametrize("name", ["half-cheetah-dir", "ant-forward-backward"])
def test_finite_families_enumerate(name):
    family = registry.make("families", name)
    assert family.finite
    for split in ("train", "test"):
        directions = family.tasks(jax.random.key(0), split, 10)["direction"]
        forward = np.asarray(directions)[:, 0]
        assert sorted(forward.tolist()) == [-1.0] * 5 + [1.0] * 5
    drawn = {float(family.sample(jax.random.key(i), "train")["direction"][0]) for i in range(9)}
    assert drawn == {-1.0, 1.0}


def test_rewards_are_the_papers():
    """From one state and action, by hand from the motion."""
    key = jax.random.key(0)
    action = jnp.full(6, 0.5)
    speed = HalfCheetahVel()
    _, state = speed.env.reset(key, {})
    _, motion = speed.env.engine.step(state, action)
    velocity = motion.moved[0] / 0.05
    reward = speed.env.step(key, state, action, {"speed": jnp.asarray(-1.5)})[2]
    assert reward == pytest.approx(float(-abs(velocity + 1.5) - 0.05 * 1.5), abs=1e-5)
    direction = registry.make("families", "half-cheetah-dir")
    reward = direction.env.step(key, state, action, {"direction": -jnp.ones(1)})[2]
    assert reward == pytest.approx(float(-velocity - 0.05 * 1.5), abs=1e-5)

    ant = registry.make("families", "ant-dir")
    _, state = ant.env.reset(key, {})
    action = jnp.full(8, 0.5)
    _, motion = ant.env.engine.step(state, action)
    vx, vy = motion.moved[:2] / 0.05
    params = {"direction": jnp.asarray([0.6, -0.8])}
    reward = ant.env.step(key, state, action, params)[2]
    assert reward == pytest.approx(float(0.6 * vx - 0.8 * vy - 0.5 * 2.0 + 1.0), abs=1e-5)
    speed = registry.make("families", "ant-vel")
    reward = speed.env.step(key, state, action, {"speed": jnp.asarray(2.0)})[2]
    assert reward == pytest.approx(float(1.05 - abs(vx - 2.0) - 0.005 * 2.0), abs=1e-5)

    humanoid = registry.make("families", "humanoid-dir")
    _, state = humanoid.env.reset(key, {})
    action = jnp.full(17, 0.2)
    _, motion = humanoid.env.engine.step(state, action)
    vx, vy, _ = motion.travelled / 0.015
    reward = humanoid.env.step(key, state, action, params)[2]
    expected = 1.25 * (0.6 * vx - 0.8 * vy) - 0.1 * 17 * 0.04 + 5.0
    assert reward == pytest.approx(float(expected), abs=1e-4)


def test_ant_goal_relabels_to_the_reward_of_the_world():
    family = registry.make("families", "ant-goal")
    assert isinstance(family, AbstractGoalFamily)
    params = family.sample(jax.random.key(0), "train")
    obs, state = family.env.reset(jax.random.key(1), params)
    action = jnp.linspace(-1, 1, 8)
    next_obs, _, reward, *_ = family.env.step(jax.random.key(2), state, action, params)
    stored, terminated = family.reward(obs, action, next_obs, params)
    assert stored == pytest.approx(float(reward), abs=1e-6) and not terminated
    relabelled = family.with_goal(params, family.achieved(next_obs))
    here, _ = family.reward(obs, action, next_obs, relabelled)
    assert here == pytest.approx(-0.1 * float(jnp.sum(action**2)), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("half-cheetah-vel", {"low": 2.0, "high": 1.0}, "low < high"),
        ("half-cheetah-vel", {"high": math.nan}, "low < high"),
        ("ant-vel", {"low": 3.0}, "low < high"),
        ("ant-dir", {"arc": 0.0}, "arc"),
        ("humanoid-dir", {"arc": 400.0}, "arc"),
        ("ant-goal", {"radius": -1.0}, "radius"),
    ],
)
def test_bad_settings_are_the_users_error(name, settings, message):
    with pytest.raises(UserError, match=message):
        registry.make("families", name, **settings)


def test_models_load_without_a_log(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = asset("half_cheetah.xml").read_text()
    (tmp_path / "cheetah.xml").write_text(text)
    engine = Engine.load(tmp_path / "cheetah.xml", 5)
    assert engine.nominal.body_mass.sum() == pytest.approx(14.0)
    assert os.listdir(tmp_path) == ["cheetah.xml"]
