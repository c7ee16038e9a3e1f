"""Native MuJoCo inside compiled JAX programs.

`mujoco.rollout` is a pure function of (model, state, control), so it may be called from `jit`,
`vmap` and `scan`, by name (see `foreign`): one call steps the whole batch on all cores, and nearly all of
the time is spent inside MuJoCo.

Two things keep it exact. A state is the simulator's whole float64 state, carried through float32
programs as its raw bits, so nothing is rounded between two steps and trajectories are those of
MuJoCo's own loop. And a batch of different models is a pool of copies, one a batch slot, each set
from the *nominal* model whenever its parameters change, so randomization never drifts.

A simulation that diverges (a non-finite or huge state, a full contact buffer, a control that is not
a number) ends that slot's step alone: its state stays what it was, and `Motion.diverged` says so.
"""

# MuJoCo's bindings carry no types.
# pyright: reportAttributeAccessIssue=false

import contextlib
import copy
import functools
import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, UInt32

from ..core import UserError
from ..machine import cores
from . import foreign
from .model_files import digest_of_model

State = UInt32[Array, " words"]
"""The bits of a physics state, and of the tracked position where there is one."""

Apply = Callable[[mujoco.MjModel, mujoco.MjModel, np.ndarray], None]
"""`apply(nominal, model, values)`: write the parameters `values [P]` into `model`, deriving
everything it touches from `nominal`, which it leaves alone. A module-level function or a frozen
dataclass, so that it can be compared and hashed."""

CENTRE_OF_MASS = "centre of mass"
"""The point to track that is not a body but the whole robot's."""
FULL = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)

# One for all engines: the warning handler is MuJoCo's, one a process.
_LOCK = threading.RLock()


class Motion(NamedTuple):
    """One control step as a reward sees it. Values are in float32, but differences are taken in
    float64."""

    qpos: Float[Array, " nq"]
    """Generalized positions after the step."""
    qvel: Float[Array, " nv"]
    """Generalized velocities after the step."""
    moved: Float[Array, " nq"]
    """Generalized positions after the step minus before."""
    travelled: Float[Array, "3"]
    """How far the tracked position moved (metres); zeros if nothing is tracked."""
    action: Float[Array, " nu"]
    """The control that was held."""
    seconds: float
    """Duration of the step, a Python number."""
    diverged: Bool[Array, ""]
    """Whether the simulation broke down; everything else is then as before the step."""
    seen: Float[Array, " seen"] | None = None
    """With `Engine.sensing`, of the state after the step: the model's sensor data, each body's position
    in the world (metres), and the centre of mass of everything (metres)."""


@dataclass(frozen=True)
class Block:
    """A box that stands in the world beside what the file describes. Everything that touches the
    floor runs into it."""

    name: str
    middle: tuple[float, float, float]
    """Metres."""
    half: tuple[float, float, float]
    """Half its sizes (metres)."""


@dataclass(frozen=True)
class Engine:
    """A model, and how it is stepped. Make it with `Engine.load`. Two engines with equal fields
    share one simulator and its pool of models."""

    path: str
    """The MJCF file."""
    digest: str
    """A digest of the contents of the file, of all that it includes and of its meshes."""
    frame_skip: int
    """Simulator steps in a control step."""
    track: str = ""
    """A body's name or `CENTRE_OF_MASS`: return how far that moved, *as the simulator leaves it*.
    After a step MuJoCo's derived positions are those of its last evaluation, not of the new
    state, and Gymnasium's ant and humanoid are rewarded by them. Steps slot by slot (about 3%
    slower than `mujoco.rollout` on an ant). Empty: nothing is tracked."""
    apply: Apply | None = None
    """How a task's `values` change the model; `None` if all tasks share the nominal one."""
    blocks: tuple[Block, ...] = ()
    """Boxes that are added to the file's world."""
    sensing: bool = False
    """Whether `Motion.seen` is returned. It costs another evaluation of the model in every control
    step."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        frame_skip: int,
        track: str = "",
        apply: Apply | None = None,
        blocks: tuple[Block, ...] = (),
        sensing: bool = False,
    ) -> "Engine":
        """Return the engine of the MJCF file at `path`. Raises `UserError` if it cannot be read or
        is not a valid model, or if it has no body called `track`."""
        path = Path(path).expanduser().resolve()
        try:
            digest = digest_of_model(path)
        except OSError as error:
            raise UserError(f"cannot read the model file {path}: {error.strerror}") from None
        if frame_skip < 1:
            raise UserError(f"frame_skip must be at least 1, not {frame_skip}")
        engine = cls(str(path), digest, frame_skip, track, apply, blocks, sensing)
        nominal = engine.nominal  # now: the file may change
        if track not in ("", CENTRE_OF_MASS):
            try:
                nominal.body(track)
            except KeyError:
                raise UserError(f"the model {path} has no body '{track}' to track") from None
        return engine

    @property
    def nominal(self) -> mujoco.MjModel:
        """The model as it is in the file. It is shared: do not change it."""
        return _nominal(self.path, self.digest, self.blocks)

    @property
    def seeing(self) -> int:
        """How many numbers `Motion.seen` has; 0 if there is none."""
        model = self.nominal
        return model.nsensordata + 3 * model.nbody + 3 if self.sensing else 0

    @property
    def seconds(self) -> float:
        """Duration of a control step."""
        return float(self.nominal.opt.timestep) * self.frame_skip

    def model(self, values: np.ndarray | None = None) -> mujoco.MjModel:
        """Return a new copy of the model: the nominal one, or a task's with `values` `[P]` applied."""
        own = copy.copy(self.nominal)
        if values is not None:
            assert self.apply is not None, "values need an engine with `apply`"
            self.apply(self.nominal, own, np.asarray(values, np.float64))
        return own

    def start(
        self,
        qpos: Array | np.ndarray,
        qvel: Array | np.ndarray,
        values: Float[Array, " P"] | None = None,
    ) -> State:
        """Return the state with these positions `[nq]` and velocities `[nv]` in which everything
        else is at rest. MuJoCo is not called for it. NumPy float64 arrays are kept exactly.
        `values`, the task's, matter only to engines whose state holds the model."""
        fresh, nq, nv = _fresh(self), self.nominal.nq, self.nominal.nv
        return jnp.concatenate(
            [
                jnp.asarray(fresh[:2]),
                _bits(qpos),
                _bits(qvel),
                jnp.asarray(fresh[2 * (1 + nq + nv) :]),
            ]
        )

    def step(
        self, state: State, control: Float[Array, " nu"], values: Float[Array, " P"] | None = None
    ) -> tuple[State, Motion]:
        """Hold `control` for a control step, in the model that `values` make. Return the next state
        and the motion. Under `vmap`, however deep, it is one call of the simulator."""
        assert (values is None) == (self.apply is None), "values and `apply` go together"
        nq, nv = self.nominal.nq, self.nominal.nv
        shapes = (
            jax.ShapeDtypeStruct(state.shape, jnp.uint32),
            jax.ShapeDtypeStruct((2 * nq + nv + 4 + self.seeing,), jnp.float32),
        )
        arguments = (state, control) if values is None else (state, control, values)
        if jax.default_backend() == "cpu":
            # By name, so that the compilation cache keeps the program.
            state, numbers = foreign.call(_target(self), shapes, *arguments)
        else:
            state, numbers = jax.pure_callback(
                self._call, shapes, *arguments, vmap_method="broadcast_all"
            )
        qpos, qvel, moved, travelled, diverged, seen = jnp.split(
            numbers, np.cumsum([nq, nv, nq, 3, 1]).tolist()
        )
        return state, Motion(
            *(qpos, qvel, moved, travelled, control, self.seconds, diverged[0] > 0.0),
            seen if self.sensing else None,
        )

    def positions(self, states: Array | np.ndarray) -> np.ndarray:
        """Return the generalized positions `[…, nq]` in float64 of states `[…, words]`, on the
        host."""
        numbers = np.array(states, np.uint32).view(np.float64)
        return numbers[..., 1 : 1 + self.nominal.nq]

    def velocities(self, states: Array | np.ndarray) -> np.ndarray:
        """Return the generalized velocities `[…, nv]` in float64 of states `[…, words]`, on the
        host."""
        numbers = np.array(states, np.uint32).view(np.float64)
        first = 1 + self.nominal.nq
        return numbers[..., first : first + self.nominal.nv]

    # From here on NumPy and MuJoCo only: JAX code inside a callback can deadlock.
    def _call(self, *arguments: Any) -> list[np.ndarray]:
        """For accelerators, whose programs cannot read the host's memory."""
        arrays = [np.asarray(x) for x in arguments]
        batch, model = arrays[0].shape[:-1], self.nominal
        numbers = np.empty((*batch, 2 * model.nq + model.nv + 4 + self.seeing), np.float32)
        results = [np.empty_like(arrays[0]), numbers]
        self._step(arrays, results)
        return results

    def _step(self, arguments: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> None:
        """State, control and perhaps values `[…, n]`, to words and the numbers of `Motion`."""
        state, control, *values = (x.reshape(-1, x.shape[-1]) for x in arguments)
        words, numbers = _simulator(self).step(state, control, values[0] if values else None)
        results[0].reshape(words.shape)[...] = words
        results[1].reshape(numbers.shape)[...] = numbers


@functools.cache
def _target(engine: Engine) -> str:
    """The name by which programs call the engine: the same in every process."""
    about = (engine.path, engine.digest, engine.frame_skip, engine.track, _named(engine.apply))
    about += (engine.blocks,) if engine.blocks else ()
    about += ("sensing",) if engine.sensing else ()
    digest = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    return foreign.bind(f"stemrl_mujoco_{digest}", engine._step)


def _named(apply: Apply | None) -> str:
    """A function by where it is, a dataclass by its fields."""
    name = getattr(apply, "__qualname__", None)
    return repr(apply) if name is None else f"{getattr(apply, '__module__', '')}.{name}"


class _Simulator:
    """What an engine needs while it runs: threads, their data, and the pool of models."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.nominal = engine.nominal
        self.threads = cores()
        # With one thread the calling one does the work.
        self.pool = mujoco.rollout.Rollout(nthread=self.threads if self.threads > 1 else 0)
        one_by_one = engine.track or engine.sensing
        self.workers = ThreadPoolExecutor(self.threads) if one_by_one else None
        self.data = [mujoco.MjData(self.nominal) for _ in range(self.threads)]
        self.size = mujoco.mj_stateSize(self.nominal, FULL)
        self.models: list[mujoco.MjModel] = []
        self.applied = np.empty((0, 0))
        self.control = self.states = self.sensors = np.empty((0, 0, 0))

    def step(
        self, words: np.ndarray, control: np.ndarray, values: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `[n, words]`, `[n, nu]`, `[n, P]` to the new words and the float32 numbers of
        `Motion`."""
        n, size, model = len(words), self.size, self.nominal
        before = np.array(words).view(np.float64)
        with _LOCK, quiet():
            models = self.models_for(n, values)
            controllable = _finite(control)
            self.reserve(n)
            if not controllable.all():
                control = np.where(controllable.reshape(n, 1), control, 0.0)
            self.control[:n] = control.reshape(n, 1, -1)
            after, seen = np.empty_like(before), np.zeros((n, self.engine.seeing), np.float32)
            if self.workers is None:
                self.rollout(models, before, after)
            else:
                self.each(models, before, after, seen)
        # A reset by MuJoCo, or a rollout that it stopped, shows in the clock.
        late = before[:, 0] + self.engine.seconds - after[:, 0]
        good: np.ndarray = controllable & (np.abs(late) < 0.5 * model.opt.timestep)
        good = good & _finite(after[:, :size])
        if not good.all():
            after[~good], seen[~good] = before[~good], 0.0
        first, last = 1, 1 + model.nq
        every = np.zeros((n, 2 * model.nq + model.nv + 4 + self.engine.seeing), np.float32)
        numbers, every[:, every.shape[1] - seen.shape[1] :] = (
            every[:, : every.shape[1] - seen.shape[1]],
            seen,
        )
        numbers[:, : model.nq + model.nv] = after[:, first : last + model.nv]
        numbers[:, model.nq + model.nv : -4] = after[:, first:last] - before[:, first:last]
        if self.engine.track:
            travelled = after[:, size:] - before[:, size:]
            numbers[:, -4:-1] = np.where(good[:, None], travelled, 0.0)
        numbers[:, -1] = ~good
        return after.view(np.uint32), every

    def rollout(self, models: list[mujoco.MjModel], before: np.ndarray, after: np.ndarray) -> None:
        """The batch at once."""
        n = len(before)
        self.pool.rollout(
            models,
            self.data,
            before,
            self.control[:n],
            skip_checks=True,
            nstep=self.engine.frame_skip,
            state=self.states[:n],
            sensordata=self.sensors[:n],
        )
        after[:] = self.states[:n, -1]

    def each(
        self,
        models: list[mujoco.MjModel],
        before: np.ndarray,
        after: np.ndarray,
        seen: np.ndarray,
    ) -> None:
        """Slot by slot (`mj_step` releases the interpreter lock), reading the tracked position and what
        is seen of the new state."""
        size, track, sensing = self.size, self.engine.track, self.engine.sensing
        body = -1 if track in ("", CENTRE_OF_MASS) else self.nominal.body(track).id

        def position(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
            if body >= 0:
                return data.xpos[body]
            return model.body_mass @ data.xipos / model.body_mass.sum()

        def work(thread: int) -> None:
            data = self.data[thread]
            for i in range(thread, len(before), self.threads):
                model = models[i]
                mujoco.mj_setState(model, data, before[i, :size], FULL)
                if track and np.isnan(before[i, size]):  # an episode's first step
                    mujoco.mj_kinematics(model, data)
                    before[i, size:] = position(model, data)
                data.ctrl[:] = self.control[i, 0]
                data.qacc_warmstart[:] = 0.0  # as in a rollout: the state alone decides
                mujoco.mj_step(model, data, self.engine.frame_skip)
                mujoco.mj_getState(model, data, after[i, :size], FULL)
                if track:
                    after[i, size:] = position(model, data)
                if sensing:
                    mujoco.mj_forward(model, data)
                    middle = data.subtree_com[0]
                    seen[i] = np.concatenate([data.sensordata, data.xpos.reshape(-1), middle])

        assert self.workers is not None
        list(self.workers.map(work, range(self.threads)))

    def models_for(self, n: int, values: np.ndarray | None) -> list[mujoco.MjModel]:
        """Return one model a slot; set anew only where its values are not the ones it has."""
        if values is None:
            if len(self.models) < n:
                self.models = [self.nominal] * n
            return self.models[:n]
        values = values.astype(np.float64)
        if self.applied.shape[-1] != values.shape[-1]:
            self.models, self.applied = [], np.empty((0, values.shape[-1]))
        new = n - len(self.models)
        if new > 0:
            self.models += [copy.copy(self.nominal) for _ in range(new)]
            self.applied = np.concatenate([self.applied, np.full((new, values.shape[-1]), np.nan)])
        assert self.engine.apply is not None
        for i in np.flatnonzero((self.applied[:n] != values).any(axis=1)):
            self.applied[i] = np.nan
            self.engine.apply(self.nominal, self.models[i], values[i])
            self.applied[i] = values[i]
        return self.models[:n]

    def reserve(self, n: int) -> None:
        """Room for a batch of `n`."""
        if len(self.control) < n:
            skip, model = self.engine.frame_skip, self.nominal
            self.control = np.empty((n, skip, model.nu))
            self.states = np.empty((n, skip, self.size))
            self.sensors = np.empty((n, skip, model.nsensordata))


def _finite(rows: np.ndarray) -> np.ndarray:
    """Whether each row is finite all along; quick if all are, as they nearly always are."""
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(rows.sum()):
            return np.ones(len(rows), bool)
    return np.asarray(np.isfinite(rows).all(axis=1))


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Collect MuJoCo's warnings, instead of letting it write `MUJOCO_LOG.TXT` where we stand."""
    said: list[str] = []
    with _LOCK:
        handler = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(said.append)
        try:
            yield said
        finally:
            mujoco.set_mju_user_warning(handler)


@functools.cache
def _simulator(engine: Engine) -> _Simulator:
    return _Simulator(engine)


@functools.cache
def _nominal(path: str, digest: str, blocks: tuple[Block, ...]) -> mujoco.MjModel:
    try:
        with quiet(), warnings.catch_warnings(action="ignore"):
            spec = mujoco.MjSpec.from_file(path)
            # Nobody looks at them, and they are 97% of what each copy of a model takes.
            for texture in spec.textures:
                if texture.builtin != mujoco.mjtBuiltin.mjBUILTIN_NONE:
                    texture.width = texture.height = 1
            for block in blocks:
                spec.worldbody.add_geom(
                    name=block.name,
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=block.middle,
                    size=block.half,
                    conaffinity=1,
                )
            return spec.compile()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a valid MuJoCo model: {reason}") from None


@functools.cache
def _fresh(engine: Engine) -> np.ndarray:
    """Bits of the state that a reset leaves, and of a tracked position not known yet."""
    data = mujoco.MjData(engine.nominal)
    # One step in: a later reset by MuJoCo, which sets the clock to zero, can then not be missed.
    data.time = engine.seconds
    state = np.empty(mujoco.mj_stateSize(engine.nominal, FULL))
    mujoco.mj_getState(engine.nominal, data, state, FULL)
    unknown = np.full(3 if engine.track else 0, np.nan)
    return np.concatenate([state, unknown]).view(np.uint32)


def _bits(x: Array | np.ndarray) -> UInt32[Array, " words"]:
    """The bits of `x` `[n]` as float64, low word first: `[2 n]`."""
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return jnp.asarray(np.ascontiguousarray(x).view(np.uint32))
    x = jnp.asarray(x)
    if x.dtype == jnp.float64:
        return lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    word = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    sign, exponent, mantissa = word >> 31, (word >> 23) & 0xFF, word & 0x7FFFFF
    # Exponents are biased by 127 in float32, by 1023 in float64; denormals become zero.
    high = (sign << 31) | jnp.where(exponent == 0, 0, ((exponent + 896) << 20) | (mantissa >> 3))
    low = jnp.where(exponent == 0, 0, mantissa << 29)
    return jnp.stack([low, high], axis=-1).astype(jnp.uint32).reshape(-1)
