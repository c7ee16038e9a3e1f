"""Robots whose target is another world: what differs, and that nothing else does."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.physics import AntEnv, HalfCheetahEnv, HopperEnv
from stemrl.physics.mujoco_env import ANT, Forward, MujocoEnv, asset
from stemrl.physics.off_dynamics import (
    AntBroken,
    AntDisk,
    HalfCheetahBroken,
    HalfCheetahWall,
    HopperFalling,
)
from stemrl.report.bodies import bodies

KEY = jax.random.key(0)


def play(env, params, actions, qpos=None, seed=0):
    """`(observations, states, rewards, terminations, events)` of one episode under `actions`, from a
    reset or from `qpos` at rest."""
    model = env.engine.nominal

    def step(state, action):
        obs, state, reward, ended, _, events = env.step(KEY, state, action, params)
        return state, (obs, state, reward, ended, events)

    @jax.jit
    def whole(params, actions):
        state = env.reset(jax.random.key(seed), params)[1]
        if qpos is not None:
            state = env.engine.start(jnp.asarray(qpos), jnp.zeros(model.nv))
        return jax.lax.scan(step, state, actions)[1]

    return jax.tree.map(np.asarray, whole(params, jnp.asarray(actions, jnp.float32)))


def actions(size, steps=40, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, size)).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "world", "dead"), ((HalfCheetahBroken, HalfCheetahEnv, 0), (AntBroken, None, 3))
)
def test_a_dead_motor_is_an_action_of_zero(make, world, dead):
    """With all motors the robot is Gymnasium's; with one dead, the same with that action zero."""
    plain = world() if world else MujocoEnv(ANT, Forward(1.0, 1.0, 0.5))
    moves = actions(plain.action_space().size)
    zeroed = moves.copy()
    zeroed[:, dead] = 0.0
    for broken, told in ((False, moves), (True, zeroed)):
        family = make(broken=broken)
        params = family.sample(KEY, "train")
        assert family.context(params).tolist() == [
            float(not (broken and i == dead)) for i in range(plain.action_space().size)
        ]
        ours, theirs = play(family.env, params, moves), play(plain, {}, told)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.tobytes() == b.tobytes()
    assert AntEnv().observation_space() == AntBroken().observation_space
    assert make().identity != make(broken=True).identity
    assert make().action_space.bounds()[1].tolist() == [1.0] * len(moves[0])


def test_the_hopper_falls_in_the_target_alone():
    lying = np.add(HopperEnv().engine.nominal.qpos0, [0, 0, 0.6, 0, 0, 0])
    still = np.zeros((3, 3))
    for falls, pay in ((False, 0.0), (True, 1.0)):
        family = HopperFalling(falls=falls, step_reward=pay)
        assert family.horizon == 300
        _, _, reward, ended, events = play(family.env, family.sample(KEY, "test"), still, lying)
        np.testing.assert_array_equal(reward, [pay] * 3)
        np.testing.assert_array_equal(ended, [falls] * 3)
        np.testing.assert_array_equal(events["standing"], [False] * 3)
        _, _, _, ended, events = play(family.env, family.sample(KEY, "test"), still)
        assert not ended.any() and events["standing"].all()


def test_the_wall_stops_a_half_cheetah_in_the_target():
    source, target = HalfCheetahWall(), HalfCheetahWall(wall=True)
    nominal = source.env.engine.nominal
    model = target.env.engine.nominal
    assert model.ngeom == nominal.ngeom + 1 and model.nq == nominal.nq
    np.testing.assert_array_equal(model.body_mass, nominal.body_mass)
    np.testing.assert_array_equal(model.dof_damping, nominal.dof_damping)
    # Out of reach of the wall the worlds are the same.
    moves = actions(6)
    ours, theirs = (play(f.env, f.sample(KEY, "train"), moves) for f in (source, target))
    assert ours[0].tobytes() == theirs[0].tobytes() and ours[2].tobytes() == theirs[2].tobytes()
    # Thrown at it, the robot stops before it; without the wall it flies through.
    furthest = []
    for family in (source, target):
        engine = family.env.engine
        qvel = jnp.zeros(engine.nominal.nv).at[0].set(-6.0)
        start = engine.start(jnp.asarray(engine.nominal.qpos0), qvel)
        step = jax.jit(lambda s, f=family: f.env.step(KEY, s, jnp.zeros(6), f.task)[1:3])
        places, rewards, state = [], [], start
        for _ in range(20):
            before = engine.positions(state)[0]
            state, reward = step(state)
            places.append(engine.positions(state)[0])
            rewards.append(float(reward))
            assert rewards[-1] == pytest.approx(abs(places[-1] - before) / 0.05, rel=1e-4)
        furthest.append(min(places))
    assert furthest[0] < -4.0 and furthest[1] > -2.1
    states = jax.tree.map(lambda x: np.stack([x] * 2), np.asarray(state))
    scene = bodies(target, target.task, states)
    walls = [shape for shape in scene.shapes if shape.role == "wall"]
    assert walls and all(w.points[0, 0, 0] == -3.0 and w.size == 1.0 for w in walls)
    assert not [s for s in bodies(source, source.task, states).shapes if s.role == "wall"]


def test_the_disk_ends_in_the_target_alone():
    inside, outside = ([x, 0.5, 0.75, 1, 0, 0, 0] for x in (0.5, 1.9))
    qpos0 = np.asarray(AntDisk().env.engine.nominal.qpos0)
    moves = actions(8, steps=1)
    for disk in (False, True):
        family = AntDisk(disk=disk, radius=1.9)
        for place, there in ((inside, True), (outside, False)):
            start = np.concatenate([place, qpos0[7:]])
            obs, _, reward, ended, events = play(family.env, family.task, moves, start)
            distance = np.hypot(*obs[0, :2])
            assert events["distance"][0] == pytest.approx(distance, rel=1e-6)
            assert bool(events["on_disk"][0]) == (distance <= 1.9) == there
            assert ended[0] == (disk and not there)
            speed = np.hypot(*(obs[0, :2] - start[:2])) / 0.05
            assert events["speed"][0] == pytest.approx(speed, rel=1e-3)
            cost = 0.5 * np.sum(moves[0] ** 2)
            assert reward[0] == pytest.approx(speed + 1 - cost, rel=1e-3)
    assert family.observation_space.shape == (29,)
    _, states, *_ = play(family.env, family.task, actions(8, steps=5))
    scene = family.draw(family.task, states)
    assert scene.frames == 5 and len([s for s in scene.shapes if s.role == "wall"]) == 48
    assert next(s for s in scene.shapes if s.kind == "capsule").points.shape == (5, 2, 2)


def test_the_wall_is_what_mujoco_compiles_from_the_changed_file(tmp_path):
    text = tmp_path / "wall.xml"
    box = '<geom name="wall" type="box" pos="-3 0 1" size="1 10 10" conaffinity="1"/></worldbody>'
    text.write_text(asset("half_cheetah.xml").read_text().replace("</worldbody>", box))
    theirs = mujoco.MjModel.from_xml_path(str(text))
    ours = HalfCheetahWall(wall=True).env.engine.nominal
    for field in (
        "geom_contype",
        "geom_conaffinity",
        "geom_condim",
        "geom_friction",
        "geom_solref",
    ):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), field)
    np.testing.assert_array_equal(ours.geom_solimp, theirs.geom_solimp)


@pytest.mark.parametrize(
    "make", (HalfCheetahBroken, AntBroken, HopperFalling, HalfCheetahWall, AntDisk)
)
def test_contract(make):
    family = make(horizon=7)
    params = family.tasks(KEY, "train", 3)
    assert all(len(leaf) == 3 for leaf in jax.tree.leaves(params))
    obs, _ = family.env.reset(KEY, family.task)
    assert obs.shape == family.observation_space.shape
    assert family.context(family.task).ndim == 1 and family.finite
    assert family.stepping == "callback"
    with pytest.raises(UserError, match="no split 'ood'"):
        family.sample(KEY, "ood")
