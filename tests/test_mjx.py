"""MJX as the engine: the native one's numbers over short horizons, its face, and its tasks."""

import importlib.util
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from stemrl import registry
from stemrl.core import UserError, count
from stemrl.physics import Engine, HalfCheetahVel, HopperParams, mjx

needs_mjx = pytest.mark.skipif(
    importlib.util.find_spec("mujoco.mjx") is None,
    reason="the extra mjx is not installed",
)

ROBOTS = [n for n, entry in registry.FAMILIES.items() if entry.path.startswith("stemrl.physics.")]


def episodes(family, params, actions):
    """Observations, rewards and terminations `[tasks, steps, …]` of the family's own episodes."""
    env = family.env

    def one(key, params, actions):
        def step(state, action):
            obs, state, reward, terminated, _, events = env.step(key, state, action, params)
            return state, (obs, reward, terminated, events["diverged"])

        return jax.lax.scan(step, env.reset(key, params)[1], actions)[1]

    keys = jax.random.split(jax.random.key(5), count(params))
    run = jax.jit(lambda p: jax.vmap(one)(keys, p, actions))
    return jax.tree.map(np.asarray, run(params))


@needs_mjx
@pytest.mark.parametrize("name", ROBOTS)
def test_mjx_takes_every_robot(name):
    """Its model is on the device, with the solver of its file or, for PGS, Newton's; its bodies
    begin episodes."""
    native, family = (registry.make("families", name, engine=e) for e in ("native", "mjx"))
    model, _ = mjx._nominal(family.env.engine)
    asked = native.env.engine.nominal.opt
    assert model.opt.integrator == asked.integrator
    PGS, NEWTON = mujoco.mjtSolver.mjSOL_PGS, mujoco.mjtSolver.mjSOL_NEWTON
    assert model.opt.solver == (NEWTON if asked.solver == PGS else asked.solver)
    assert (asked.solver == PGS) == name.startswith("humanoid")  # the shared model is as it was
    assert family.identity != native.identity and "engine='mjx'" in family.identity
    params = family.sample(jax.random.key(0), "train")
    obs, state = family.env.reset(jax.random.key(1), params)
    assert family.observation_space.shape == obs.shape and bool(jnp.isfinite(obs).all())
    model = getattr(state, "physics", state).model  # some hold it beside other things
    assert ("body_mass" in model) == name.endswith("-params")


@needs_mjx
@pytest.mark.parametrize(
    ("name", "steps"),
    (
        ("half-cheetah-vel", 4),
        pytest.param("hopper-params", 4, marks=pytest.mark.long),
        pytest.param("humanoid-dir", 14, marks=pytest.mark.long),
    ),
)
def test_mjx_is_native_over_a_few_steps(name, steps):
    """Half-cheetahs in contact with the ground, hoppers each with a body of its own, and humanoids,
    by Newton's method what native MuJoCo steps by PGS, until the first foot has touched the ground:
    over so many control steps (20, 16 and 70 of the simulator) observations to 1e-3 of their size,
    rewards too."""
    native = registry.make("families", name)
    family = registry.make("families", name, engine="mjx")
    params = native.tasks(jax.random.key(0), "train", 3)
    size = native.action_space.size
    actions = jax.random.uniform(jax.random.key(1), (3, steps, size), minval=-1.0, maxval=1.0)
    theirs, ours = (episodes(f, params, actions) for f in (native, family))
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        scale = np.maximum(1.0, np.abs(other))
        assert np.max(np.abs(mine - other) / scale) < 1e-3
    np.testing.assert_array_equal(ours[2], theirs[2])
    assert not ours[3].any()
    # Each task moved in its own way, or the bodies would not have been tested.
    assert np.min(np.ptp(theirs[0][:, -1], axis=0).max()) > 0.05


def test_the_engine_is_in_the_identity_but_for_native():
    native, compiled = HalfCheetahVel(), HalfCheetahVel(engine="mjx")
    assert native.identity == "half-cheetah-vel@1(high=3.0,horizon=200,low=0.0)"
    assert compiled.identity == "half-cheetah-vel@1(engine='mjx',high=3.0,horizon=200,low=0.0)"
    assert native.stepping == "callback"
    assert compiled.stepping == "jax" and HopperParams(engine="mjx").stepping == "callback"


def test_without_the_extra_it_is_one_line(monkeypatch):
    mjx._nominal.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    with pytest.raises(UserError, match=r"engine mjx needs .* pip install 'stemrl\[mjx\]'"):
        _ = HalfCheetahVel(engine="mjx", horizon=7).env.engine


MODEL = """<mujoco><option{option}/><worldbody><body><joint name="hinge"/>
<geom type="box" size=".1 .1 .1"/></body><body pos="0 0 1"><joint/>
<geom type="{geom}" size=".1 .1 .1"/></body></worldbody><actuator>{actuator}</actuator></mujoco>"""
"""Two bodies that may meet, and a motor."""


@needs_mjx
@pytest.mark.parametrize(
    ("lacks", "why"),
    (
        ({"option": ' integrator="implicit"'}, "it has no integrator implicit"),
        ({"geom": "cylinder"}, "geom cylinder, geom box"),
        (
            {"actuator": '<general joint="hinge" dyntype="user" actdim="1"/>'},
            "dyn user",
        ),
    ),
)
def test_what_mjx_lacks_is_one_line(tmp_path, lacks, why):
    path = tmp_path / "model.xml"
    parts = {"option": "", "geom": "box", "actuator": '<motor joint="hinge"/>'}
    path.write_text(MODEL.format(**parts | lacks))
    assert Engine.load(path, 1).nominal.nu == 1
    with pytest.raises(UserError) as refused:
        mjx.MjxEngine.load(path, 1)
    said = str(refused.value)
    assert said.startswith(f"{path} cannot be stepped by MJX (") and why in said
    assert said.endswith("); use --family.engine native")
    assert "mjt" not in said and "\n" not in said


@needs_mjx
def test_a_simulation_that_diverges_keeps_its_state(tmp_path):
    """And what is tracked is where the step left it, not where it was derived."""
    path = tmp_path / "pendulum.xml"
    path.write_text(
        """<mujoco><worldbody><body name="arm" pos="0 0 1"><joint name="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.5" size=".05" contype="0" conaffinity="0"/>
        <body name="hand" pos="0 0 -.5"><geom size=".05" contype="0" conaffinity="0"/></body>
        </body></worldbody><actuator><motor joint="hinge" gear="5"/></actuator></mujoco>"""
    )
    engines = [kind.load(path, 3, "hand") for kind in (Engine, mjx.MjxEngine)]
    moves = []
    for engine in engines:
        state = engine.start(np.array([0.3]), np.array([1.0]))
        step = eqx.filter_jit(engine.step)
        after, motion = step(state, jnp.ones(1))
        moves.append(step(after, jnp.ones(1))[1])
        broken, motion = step(after, jnp.full(1, jnp.nan))
        assert bool(motion.diverged)
        np.testing.assert_array_equal(engine.positions(broken), engine.positions(after))
    np.testing.assert_allclose(moves[1].travelled, moves[0].travelled, atol=1e-6)
    assert abs(float(moves[0].travelled[0])) > 1e-3
