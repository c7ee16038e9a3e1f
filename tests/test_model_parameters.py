"""Named model parameters: what they change, what follows from it, and that nothing drifts."""

import copy

import gymnasium.envs.mujoco
import mujoco
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.physics.parameters import (
    KINDS,
    ModelParameters,
    Parameter,
    addresses,
    limbs,
    remark_wide,
)
from stemrl.tasks.ranges import Interval

ASSETS = gymnasium.envs.mujoco.__path__[0] + "/assets/"
MODELS = ("hopper", "walker2d_v5", "humanoid")


def load(name: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(f"{ASSETS}{name}.xml")


def arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Every array of a model, by name, copied."""
    found = {}
    for part, prefix in ((model, ""), (model.opt, "opt."), (model.stat, "stat.")):
        for name in dir(part):
            value = None if name.startswith("_") else getattr(part, name)
            if isinstance(value, (np.ndarray, int, float)):
                found[prefix + name] = np.array(value)
    return found


def differing(one: mujoco.MjModel, other: mujoco.MjModel) -> list[str]:
    others = arrays(other)
    return [
        name for name, value in arrays(one).items() if value.tobytes() != others[name].tobytes()
    ]


def everything(model: mujoco.MjModel) -> ModelParameters:
    """All the parameters that a model has."""
    names = []
    for kind in KINDS:
        if not kind.startswith("limb"):
            names += addresses(model, kind)
    names += limbs(model)
    return ModelParameters(tuple(names))


def masses(model: mujoco.MjModel) -> ModelParameters:
    return ModelParameters(addresses(model, "body_mass"))


@pytest.mark.parametrize("kinds", [masses, everything])
@pytest.mark.parametrize("name", MODELS)
def test_factors_of_one_are_the_nominal_model_bit_for_bit(name: str, kinds):
    nominal = load(name)
    untouched = copy.copy(nominal)
    model = copy.copy(nominal)
    parameters = kinds(nominal)
    assert len(parameters.addresses) > 3
    random = np.random.default_rng(0).uniform(0.8, 1.2, (3, len(parameters.addresses)))
    for values in (*random, np.ones(len(parameters.addresses))):
        parameters(nominal, model, values)
        assert bool(differing(model, untouched)) == bool(np.any(values != 1))
    assert not differing(nominal, untouched)


@pytest.mark.parametrize("name", MODELS)
def test_randomization_never_drifts(name: str):
    """A model after twenty tasks is the one a fresh copy becomes."""
    nominal = load(name)
    parameters = everything(nominal)
    assert len(parameters.addresses) > 20
    walked, fresh = copy.copy(nominal), copy.copy(nominal)
    random = np.random.default_rng(1)
    for _ in range(20):
        values = random.uniform(0.8, 1.2, len(parameters.addresses))
        parameters(nominal, walked, values)
    parameters(nominal, fresh, values)
    assert not differing(walked, fresh)


def test_each_kind_changes_its_own_fields():
    nominal = load("hopper")
    cases = {
        "body_mass:thigh": {"body_mass": (2, 2.0), "body_inertia": (2, 2.0)},
        "body_mass_alone:thigh": {"body_mass": (2, 2.0)},
        "body_inertia:thigh:1": {"body_inertia": ((2, 1), 2.0)},
        "joint_damping:leg_joint": {"dof_damping": (4, 2.0)},
        "joint_armature:leg_joint": {"dof_armature": (4, 2.0)},
        "geom_friction:foot_geom:0": {"geom_friction": ((4, 0), 2.0)},
        "actuator_gear:#1": {"actuator_gear": (1, 2.0)},
    }
    written = {"body_mass", "body_inertia", "dof_damping", "dof_armature", "geom_friction"}
    written |= {"actuator_gear", "body_pos", "geom_size", "jnt_stiffness"}
    for address, changes in cases.items():
        model = copy.copy(nominal)
        ModelParameters((address,))(nominal, model, np.array([2.0]))
        assert set(differing(model, nominal)) & written == set(changes), address
        for field, (index, factor) in changes.items():
            expected = getattr(nominal, field).copy()
            expected[index] *= factor
            np.testing.assert_array_equal(getattr(model, field), expected)
    model = copy.copy(nominal)
    ModelParameters(("gravity",))(nominal, model, np.array([0.5]))
    np.testing.assert_allclose(model.opt.gravity, [0, 0, -9.81 / 2])


def test_overlapping_parameters_multiply():
    nominal = load("hopper")
    model = copy.copy(nominal)
    parameters = ModelParameters(("body_mass:*", "body_mass:leg", "body_inertia:leg:2"))
    parameters(nominal, model, np.array([2.0, 3.0, 5.0]))
    np.testing.assert_allclose(model.body_mass, nominal.body_mass * [1, 2, 2, 6, 2])
    np.testing.assert_allclose(model.body_inertia[3], nominal.body_inertia[3] * [6, 6, 30])


ARM = """
<mujoco><compiler angle="radian" inertiafromgeom="true"/>
<worldbody>
  <geom name="floor" type="plane" size="5 5 .1" condim="3"/>
  <body name="base" pos="0 0 {height}"><joint name="slide" type="slide" axis="0 0 1"/>
    <geom name="base" type="sphere" size=".1" density="700"/>
    <body name="upper" pos="0 0 -.1" euler=".2 0 .1">
      <joint name="hip" axis="0 1 0" damping="1"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0 0 -{upper}" size="{girth}"/>
      <site name="end" pos="0 .01 -{upper}"/>
      <body name="lower" pos="0 0 {lower_pos}">
        <joint name="knee" axis="0 1 0" pos="0 0 {lower}" damping="1"/>
        <geom name="lower" type="capsule" fromto="0 0 {lower} 0 0 -{lower}" size=".04"/>
        <geom name="hand" type="sphere" pos="0.02 0 -{lower}" size=".06"/>
      </body>
    </body>
  </body>
</worldbody>
<actuator><motor joint="hip" name="hip"/><motor joint="knee" name="knee"/></actuator>
</mujoco>"""


def arm(upper: float = 0.4, girth: float = 0.05, lower: float = 0.25, height: float = 2.0):
    text = ARM.format(
        upper=upper, girth=girth, lower=lower, lower_pos=-upper - lower, height=height
    )
    return mujoco.MjModel.from_xml_string(text)


def test_limb_sizes_are_those_of_the_recompiled_file():
    """The oracle is MuJoCo's compiler on the file with the other lengths written in."""
    nominal = arm()
    model = copy.copy(nominal)
    parameters = ModelParameters(
        ("limb_length:upper", "limb_radius:upper", "limb_length:lower", "joint_damping:hip")
    )
    parameters(nominal, model, np.array([1.3, 0.8, 1.5, 2.0]))
    rise = model.body_pos[1, 2] - 2.0
    compiled = arm(0.4 * 1.3, 0.05 * 0.8, 0.25 * 1.5, 2.0 + rise)
    assert rise == pytest.approx(0.3 * 0.4 + 0.5 * 0.5, abs=0.03)
    fields = ("body_mass", "body_pos", "body_ipos", "geom_size", "geom_pos", "geom_rbound")
    fields += ("jnt_pos", "site_pos", "geom_aabb", "body_subtreemass", "dof_M0")
    fields += ("body_invweight0", "dof_invweight0", "actuator_acc0")
    for field in fields:
        ours, theirs = getattr(model, field), getattr(compiled, field)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=field)
    assert model.stat.meaninertia == pytest.approx(compiled.stat.meaninertia, rel=1e-9)
    # Moments may come in another order: compare what they do, by stepping both.
    compiled.dof_damping[1] *= 2
    trajectories = []
    for simulated in (model, compiled):
        data = mujoco.MjData(simulated)
        data.ctrl[:] = [0.5, -0.3]
        for _ in range(400):
            mujoco.mj_step(simulated, data)
        trajectories.append(data.qpos.copy())
    np.testing.assert_allclose(*trajectories, rtol=0, atol=1e-7)
    assert np.max(np.abs(trajectories[0])) > 0.5


@pytest.mark.parametrize("name", MODELS)
def test_changed_models_stand_and_stay_finite(name: str):
    """Longer and shorter limbs start as high above the ground as the nominal robot."""
    nominal = load(name)
    parameters = everything(nominal)
    random = np.random.default_rng(2)
    model = copy.copy(nominal)
    data = mujoco.MjData(model)
    for _ in range(3):
        values = random.uniform(0.9, 1.1, len(parameters.addresses))
        parameters(nominal, model, values)
        mujoco.mj_resetData(model, data)
        mujoco.mj_forward(model, data)
        assert data.ncon == 0
        for _ in range(50):
            mujoco.mj_step(model, data)
        assert np.all(np.isfinite(data.qpos)) and np.max(np.abs(data.qvel)) < 50


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("body_mas:torso", "did you mean 'body_mass'"),
        ("body_mass", "names no body"),
        ("body_mass:torsoo", "did you mean 'torso'"),
        ("body_mass:torso:1", "ends in ':1'"),
        ("geom_friction:floor:3", "ends in ':3'"),
        ("limb_length:foot:0", "ends in ':0'"),
        ("limb_length:#0", "no body '#0'"),
    ],
)
def test_mistakes_get_one_clear_line(address: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        ModelParameters((address,)).check(load("hopper"))
    assert "\n" not in str(caught.value)


def test_a_body_whose_inertia_is_not_its_geoms_has_no_limb_size():
    text = ARM.format(upper=0.4, girth=0.05, lower=0.25, lower_pos=-0.65, height=2.0)
    heavy = text.replace('name="hand" type="sphere"', 'name="hand" density="9" type="sphere"')
    with pytest.raises(UserError, match="one density"):
        ModelParameters(("limb_length:lower",)).check(mujoco.MjModel.from_xml_string(heavy))


SERVOS = """<mujoco><worldbody><body name="b"><joint name="x" type="slide" axis="1 0 0" damping="0"/>
<geom size="0.1" mass="1"/></body></worldbody><actuator>
<motor name="motor" joint="x" gear="3"/>
<position name="position" joint="x" kp="40" kv="2" forcerange="-7 5"/>
<velocity name="velocity" joint="x" kv="6"/></actuator></mujoco>"""


def test_gains_of_actuators_are_those_of_the_recompiled_file():
    nominal = mujoco.MjModel.from_xml_string(SERVOS)
    for address, old, new in (
        ("actuator_kp:position", 'kp="40"', 'kp="60"'),
        ("actuator_kv:position", 'kv="2"', 'kv="3"'),
        ("actuator_kv:velocity", 'kv="6"', 'kv="9"'),
        ("actuator_force:position", '"-7 5"', '"-10.5 7.5"'),
        ("actuator_gear:motor", 'gear="3"', 'gear="4.5"'),
    ):
        model, parameters = copy.copy(nominal), ModelParameters((address,))
        parameters(nominal, model, np.ones(1))
        assert not differing(model, nominal), address  # 1:1 changes nothing
        parameters(nominal, model, np.full(1, 1.5))
        wanted = mujoco.MjModel.from_xml_string(SERVOS.replace(old, new))
        for name in ("gainprm", "biasprm", "forcerange", "gear"):
            ours, theirs = (getattr(m, f"actuator_{name}") for m in (model, wanted))
            np.testing.assert_allclose(ours, theirs, err_msg=f"{address} {name}")
        assert set(differing(model, nominal)) <= parameters.fields
    for address, message in (
        ("actuator_kp:motor", "'motor' is no position actuator; a motor's strength"),
        ("actuator_kv:motor", "no position or velocity actuator"),
        ("actuator_force:velocity", "no actuator with a forcerange"),
    ):
        with pytest.raises(UserError, match=message):
            ModelParameters((address,)).check(nominal)
    assert "actuator_kp:position" in everything(nominal).addresses


def test_factors_that_change_nothing_and_ranges_without_measure_are_remarked_upon():
    nominal = mujoco.MjModel.from_xml_string(SERVOS)
    with pytest.warns(UserWarning, match="'joint_damping:x' is 0 in the model"):
        ModelParameters(("joint_damping:x", "body_mass:b")).check(nominal)
    with pytest.warns(UserWarning, match=r"'body_mass:b', 1e-09 to 1e\+09, spans"):
        remark_wide({"gravity": Interval(0.5, 2.0), "body_mass:b": Interval(1e-9, 1e9)})


def test_addresses_skip_what_a_factor_cannot_change():
    nominal = load("hopper")
    assert addresses(nominal, "joint_damping") == tuple(
        f"joint_damping:{name}_joint" for name in ("thigh", "leg", "foot")
    )
    assert len(addresses(nominal, "body_inertia", by_axis=True)) == 12
    assert addresses(nominal, "gravity", by_axis=True) == ("gravity:2",)
    for address in addresses(nominal, "body_inertia", by_axis=True):
        assert str(Parameter.parse(address)) == address
