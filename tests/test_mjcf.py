"""Families of one's own MJCF: keyframes, and rewards that see more than positions and velocities."""

from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from stemrl.core import Problem, UserError, check_family
from stemrl.physics import AbstractMjcfFamily, ControlStep
from stemrl.transfer.source_distribution import (
    log_likelihoods,
    parameter_names,
    require_replayable,
)

MODEL = """<mujoco><option timestep="0.01"/><worldbody>
<body name="cart"><joint name="x" type="slide" axis="1 0 0" damping="0.1"/><geom size="0.1" mass="2"/>
<body name="pole" pos="0 0 0.5"><joint name="hinge" type="hinge" axis="0 1 0"/>
<geom type="capsule" size="0.05 0.3"/><site name="tip" pos="0 0 0.3"/></body></body></worldbody>
<actuator><motor name="push" joint="x" gear="10" ctrllimited="true" ctrlrange="-1 1"/></actuator>
<sensor><framelinvel name="tip" objtype="site" objname="tip"/><jointvel name="speed" joint="hinge"/>
</sensor><keyframe><key name="tilted" qpos="0.5 0.3" qvel="0 -0.1"/></keyframe></mujoco>"""


class Cart(AbstractMjcfFamily):
    """A cart with a pole; what is seen of a step is its reward, number by number."""

    name: ClassVar[str] = "cart"

    file: str = eqx.field(static=True, default="cart.xml")
    ranges: str = eqx.field(static=True, default="body_mass:pole=0.5:2")
    frame_skip: int = eqx.field(static=True, default=3)
    horizon: int = eqx.field(static=True, default=5)

    def start(self, key: Any, qpos: Any, qvel: Any):
        return qpos, qvel

    def step_reward(self, step: ControlStep):
        parts = (*step.sensors["tip"], *step.sensors["speed"], *step.bodies["pole"])
        parts += (*step.center_of_mass, step.params["values"][0])
        return jnp.stack(parts)  # a vector, to be looked at: no run is made of it


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "cart.xml").write_text(MODEL)
    return str(tmp_path / "cart.xml")


def test_a_mistake_in_a_robot_of_one_s_own_is_named(file: str):
    with pytest.raises(
        UserError, match=r"step returns a reward of shape \(11,\); it is one number"
    ):
        check_family(Cart(file))

    class Misspelt(Cart):
        def step_reward(self, step: ControlStep):
            return step.sensors["tipp"][0]

    with pytest.raises(UserError, match=r"'cart': step failed: KeyError: 'tipp'"):
        check_family(Misspelt(file))


@pytest.mark.parametrize("engine", ["native", pytest.param("mjx", marks=pytest.mark.long)])
def test_a_reward_sees_what_mujoco_says_of_the_new_state(file: str, engine: Any):
    if engine == "mjx":
        pytest.importorskip("mujoco.mjx")
    family = Cart(file, keyframe="tilted", engine=engine)
    values = jnp.asarray([[0.5], [1.5]])
    reset, step = jax.vmap(family.env.reset), jax.vmap(family.env.step)
    keys = jax.random.split(jax.random.key(0), 2)
    obs, state = reset(keys, {"values": values})
    np.testing.assert_allclose(obs[0], [0.5, 0.3, 0.0, -0.1], rtol=1e-6)
    action = jnp.asarray([[0.7], [-0.4]])
    for _ in range(2):
        obs, state, seen, *_ = step(keys, state, action, {"values": values})
    for i, factor in enumerate((0.5, 1.5)):
        model: Any = mujoco.MjModel.from_xml_path(file)  # pyright: ignore[reportAttributeAccessIssue]
        model.body_mass[2] *= factor
        model.body_inertia[2] *= factor
        mujoco.mj_setConst(model, mujoco.MjData(model))  # pyright: ignore[reportAttributeAccessIssue]
        data: Any = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
        data.qpos[:], data.qvel[:] = model.key_qpos[0], model.key_qvel[0]
        for _ in range(6):
            data.ctrl[:] = action[i]
            data.qacc_warmstart[:] = 0.0
            mujoco.mj_step(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        mujoco.mj_forward(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        wanted = [*data.sensordata, *data.body("pole").xpos, *data.subtree_com[0], factor]
        np.testing.assert_allclose(seen[i], wanted, atol=2e-5)
        np.testing.assert_allclose(obs[i], [*data.qpos, *data.qvel], atol=2e-5)


def test_keyframes_and_rewards_that_are_not_there(file: str):
    assert (
        "keyframe" not in Cart(file).identity
        and "keyframe='0'" in Cart(file, keyframe="0").identity
    )
    assert Cart(file).env.family.robot.engine.sensing
    with pytest.raises(UserError, match="no keyframe 'tilt'; did you mean 'tilted'"):
        Cart(file, keyframe="tilt")

    class Rewardless(AbstractMjcfFamily):
        name: ClassVar[str] = "rewardless"
        file: str
        ranges: str = ""
        frame_skip: int = 1
        horizon: int = 5

    with pytest.raises(UserError, match="'rewardless' lacks reward"):
        Rewardless(file)


def test_without_ranges_there_is_one_task(file: str):
    assert not Cart(file).finite and Cart(file, ranges="").finite


class Paid(Cart):
    """Pays for standing, so that it can be trained on."""

    name: ClassVar[str] = "paid"
    step_reward = AbstractMjcfFamily.step_reward

    def reward(self, qpos, qvel, action, next_qpos, next_qvel):
        return -(next_qpos[1] ** 2)


class Seen(Paid):
    """Sees half of what it is."""

    name: ClassVar[str] = "seen"

    def observe(self, qpos, qvel):
        return 2.0 * jnp.concatenate([qpos, qvel])


class SeenAgain(Seen):
    """And says which half."""

    name: ClassVar[str] = "seen-again"

    def observed_state(self, obs):
        return 0.5 * obs[:2], 0.5 * obs[2:]


@pytest.mark.parametrize("kind", [Paid, SeenAgain])
def test_recorded_steps_tell_which_robot_it_is(file: str, kind: Any):
    """Any step can be played again from its observation; so the pole's own mass explains its steps best."""
    family = kind(file)
    require_replayable(family, "epopt")
    assert parameter_names(family) == ["body_mass:pole"]
    masses = {"values": jnp.asarray([[0.6], [1.0], [1.6]])}
    true = {"values": jnp.asarray([1.6])}
    keys = jax.random.split(jax.random.key(0), 12)
    obs, state = jax.vmap(lambda k: family.env.reset(k, true))(keys)
    action = jax.random.uniform(jax.random.key(1), (12, 1), minval=-1.0)
    after = jax.vmap(lambda k, s, a: family.env.step(k, s, a, true)[0])(keys, state, action)
    again = jax.vmap(lambda k, o, a: family.env.step(k, family.env.state_of(o, true), a, true)[0])(
        keys, obs, action
    )
    np.testing.assert_allclose(after, again, atol=1e-5)
    likely = log_likelihoods(
        Problem.of(family), masses, obs, action, after, jnp.ones(12), 0.1, jax.random.key(2)
    )
    assert int(jnp.argmax(likely)) == 2 and likely[2] > likely[1] + 10


def test_who_observes_in_another_way_says_how_it_is_undone(file: str):
    with pytest.raises(UserError, match=r"'seen' observes in its own way: give it observed_state"):
        require_replayable(Seen(file), "epopt")
