"""MJX: the robots' simulator as JAX code, for accelerators.

The same face as the native engine, with a state of plain arrays, so that a whole episode is one
compiled program wherever JAX runs. Numbers are MJX's: MuJoCo's algorithms in JAX's precision
(float32 by default), close to native MuJoCo over a few steps and apart after many.

A task's own model is derived on the host from the nominal one, by the same function and so with
the same numbers as for the native engine, once an episode; what differs from the nominal model then
travels with the state.

A model that asks for MuJoCo's solver PGS, as Gymnasium's humanoid does, is stepped with Newton's.
"""

# MuJoCo's bindings carry no types; and a state is of another type than the native engine's.
# pyright: reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false

import contextlib
import copy
import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core import UserError
from .engine import CENTRE_OF_MASS, Apply, Block, Engine, Motion, quiet
from .parameters import ModelParameters

LIMIT = 1e10
"""Beyond this a simulation has diverged (MuJoCo's `mjMAXVAL`)."""


class MjxState(NamedTuple):
    """Everything that a step depends on."""

    qpos: Float[Array, " nq"]
    qvel: Float[Array, " nv"]
    act: Float[Array, " na"]
    """Activations of actuators that have any."""
    tracked: Float[Array, " 3 or 0"]
    """The tracked position as the last step left it; not a number at an episode's start."""
    model: dict[str, Array]
    """The task's own values of the model's fields."""


@dataclass(frozen=True)
class MjxEngine(Engine):
    """An `Engine` in JAX. `apply`, where there is one, must be `ModelParameters`."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        frame_skip: int,
        track: str = "",
        apply: Apply | None = None,
        blocks: tuple[Block, ...] = (),
        sensing: bool = False,
    ) -> "MjxEngine":
        """See `Engine.load`. Raises `UserError` too where MJX is not installed, or lacks something
        that the model needs."""
        if not isinstance(apply, ModelParameters | None):
            raise UserError("the engine mjx changes models by ModelParameters only")
        engine = super().load(path, frame_skip, track, apply, blocks, sensing)
        assert isinstance(engine, MjxEngine)
        _nominal(engine)
        return engine

    def start(
        self,
        qpos: Array | np.ndarray,
        qvel: Array | np.ndarray,
        values: Float[Array, " P"] | None = None,
    ) -> MjxState:
        """See `Engine.start`; with `values`, the state holds the model that they make."""
        assert (values is None) == (self.apply is None), "values and `apply` go together"
        changed = {}
        if values is not None:
            dtype = jnp.zeros(()).dtype
            shapes = {
                name: jax.ShapeDtypeStruct(x.shape, dtype) for name, x in _changing(self).items()
            }
            derived = functools.partial(self._derived, dtype)
            changed = jax.pure_callback(derived, shapes, values, vmap_method="broadcast_all")
        return MjxState(
            jnp.asarray(qpos, float),
            jnp.asarray(qvel, float),
            jnp.zeros(self.nominal.na),
            jnp.full(3 if self.track else 0, jnp.nan),
            changed,
        )

    def step(
        self,
        state: MjxState,
        control: Float[Array, " nu"],
        values: Float[Array, " P"] | None = None,
    ) -> tuple[MjxState, Motion]:
        """See `Engine.step`. The model is the one that the episode began with."""
        mjx = _package()
        model, data = jax.tree.map(jnp.asarray, _nominal(self))
        model = model.tree_replace(state.model)
        data = data.replace(qpos=state.qpos, qvel=state.qvel, act=state.act, ctrl=control)
        before = state.tracked
        if self.track:
            first = self._position(model, mjx.kinematics(model, data))
            before = jnp.where(jnp.isnan(before), first, before)
        with _lacking(self.path):  # of some things MJX says only now that it lacks them
            data = lax.fori_loop(0, self.frame_skip, lambda _, d: mjx.step(model, d), data)
        after = self._position(model, data) if self.track else before
        reached = jnp.concatenate([data.qpos, data.qvel, data.qacc, control])
        good = jnp.all(jnp.abs(reached) < LIMIT)  # False where anything is not a number
        new = MjxState(data.qpos, data.qvel, data.act, after, state.model)
        old = state._replace(tracked=before)
        new = jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)
        travelled = new.tracked - before if self.track else jnp.zeros(3)
        moved, seen = new.qpos - state.qpos, None
        if self.sensing:
            with _lacking(self.path):
                now = mjx.forward(model, data)
            seen = [now.sensordata, now.xpos.reshape(-1), now.subtree_com[0]]
            seen = jnp.where(good, jnp.concatenate(seen), 0.0)
        return new, Motion(new.qpos, new.qvel, moved, travelled, control, self.seconds, ~good, seen)

    def positions(self, states: MjxState) -> np.ndarray:
        return np.asarray(states.qpos, np.float64)

    def velocities(self, states: MjxState) -> np.ndarray:
        return np.asarray(states.qvel, np.float64)

    def _position(self, model: Any, data: Any) -> Float[Array, "3"]:
        """The tracked position, as `data` has it."""
        if self.track == CENTRE_OF_MASS:
            return model.body_mass @ data.xipos / jnp.sum(model.body_mass)
        return data.xpos[self.nominal.body(self.track).id]

    def _derived(self, dtype: Any, values: Any) -> dict[str, np.ndarray]:
        """The task's model, on the host: NumPy and MuJoCo only."""
        values = np.asarray(values, np.float64)
        assert self.apply is not None
        model, fields = copy.copy(self.nominal), _changing(self)
        rows = values.reshape(-1, values.shape[-1])
        made = {name: np.empty((len(rows), *x.shape), np.float64) for name, x in fields.items()}
        with quiet():
            for i, row in enumerate(rows):
                self.apply(self.nominal, model, row)
                for name in fields:
                    made[name][i] = _field(model, name)
        batch = values.shape[:-1]
        return {k: x.reshape(batch + x.shape[1:]).astype(dtype) for k, x in made.items()}


def _field(model: mujoco.MjModel, name: str) -> Any:
    """`opt.gravity` of a model."""
    return functools.reduce(getattr, name.split("."), model)


def _package() -> Any:
    """MJX. It prints what it is not installed with; whoever reads our output has not asked."""
    with contextlib.redirect_stdout(io.StringIO()):
        import mujoco.mjx as mjx
    return mjx


@functools.cache
def _nominal(engine: MjxEngine) -> Any:
    """MJX's model and data, with NumPy leaves: a compiled program may be what asks for them."""
    try:
        mjx = _package()
    except ImportError as error:
        raise UserError(
            f"the engine mjx needs a package that fits MuJoCo {mujoco.__version__} ({error}):"
            " pip install 'stemrl[mjx]'"
        ) from None
    nominal = _for_mjx(engine.nominal)
    with _lacking(engine.path), jax.ensure_compile_time_eval():
        made = mjx.put_model(nominal, impl="jax"), mjx.make_data(nominal, impl="jax")
        return jax.tree.map(np.asarray, made)


def _for_mjx(nominal: mujoco.MjModel) -> mujoco.MjModel:
    """The model itself, or a copy in which another solver is asked for."""
    if nominal.opt.solver != mujoco.mjtSolver.mjSOL_PGS:
        return nominal
    # MJX has CG and Newton alone. All of MuJoCo's solvers seek the one optimum of the same convex
    # problem, and Newton, MuJoCo's default, comes closest to it in as many iterations. It is not
    # done to native models: they are what their files say, and the engine is in the identity.
    model = copy.copy(nominal)
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model


@contextlib.contextmanager
def _lacking(path: str) -> Iterator[None]:
    """Turn what MJX says that it has not got into one line, and what to do about it."""
    try:
        yield
    except NotImplementedError as error:
        # It names things as MuJoCo's bindings do, `mjtGeom.mjGEOM_BOX` or `<mjtDyn.mjDYN_USER: 5>`.
        enum = r"<?mjt(\w+)\.mj[A-Z]+_(\w+)(?:: \d+>)?"
        why = re.sub(enum, lambda m: f"{m[1]} {m[2]}".lower(), str(error)).rstrip(".")
        if re.fullmatch(enum, str(error)):
            why = f"it has no {why}"
        raise UserError(
            f"{path} cannot be stepped by MJX ({why}); use --family.engine native"
        ) from None


@functools.cache
def _changing(engine: MjxEngine) -> dict[str, np.ndarray]:
    """The leaves of MJX's model that may differ from task to task, as they are in the nominal one."""
    assert isinstance(engine.apply, ModelParameters)
    # Cameras and lights follow bodies too, but nothing follows them.
    wanted = {name for name in engine.apply.fields if not name.startswith(("cam_", "light_"))}
    leaves = jax.tree_util.tree_flatten_with_path(_nominal(engine)[0])[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}
    return {name: x for name, x in named.items() if name in wanted}
