"""MuJoCo robots as environments: reset, observation and reward in JAX, dynamics in the engine.

A robot says how its model is stepped, reset, observed and when it has fallen; an objective turns
one control step into a reward. `HalfCheetahEnv`, `HopperEnv`, `Walker2dEnv`, `AntEnv` and
`HumanoidEnv` are Gymnasium's v5 robots with the objective of v5, step by step the same numbers
(without contact forces, neither in the observation nor in the reward).
"""

import dataclasses
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractFamily, Box, Params
from .drawing import Skeleton, poses, skeleton
from .engine import CENTRE_OF_MASS, Apply, Block, Engine, Motion, State

EngineName = Literal["native", "mjx"]


def asset(name: str) -> Path:
    """Return a model file that Gymnasium ships. (Looked up without importing Gymnasium.)"""
    package = importlib.util.find_spec("gymnasium")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "envs" / "mujoco" / "assets" / name


@dataclass(frozen=True)
class Robot:
    """A robot: its model, and how that is stepped, reset, observed and judged."""

    model: str
    """The MJCF file: a path, or `gymnasium:NAME` for one that Gymnasium ships."""
    frame_skip: int = 5
    """Simulator steps in a control step."""
    reset_noise: float = 0.0
    """Episodes start uniformly within ± this of the model's own positions."""
    velocity_noise: Literal["uniform", "normal"] = "uniform"
    """First velocities are uniform in ± `reset_noise`, or normal with that deviation."""
    hidden: int = 0
    """Leading positions that are not observed: where in the world the robot is."""
    velocity_limit: float = math.inf
    """Velocities are observed clipped to ± this."""
    healthy: tuple[tuple[int, float, float], ...] = ()
    """(index, low, high): positions that a standing robot keeps strictly inside a range."""
    state_limit: float = math.inf
    """Positions and velocities from the third on that a standing robot keeps inside ± this."""
    track: str = ""
    """The point that is tracked; see `Engine`."""
    blocks: tuple[Block, ...] = ()
    """Boxes that stand in its way."""
    sensing: bool = False
    """Whether a step returns sensors, positions of bodies and the centre of mass; see `Engine`."""

    def engine(self, apply: Apply | None = None, name: EngineName = "native") -> Engine:
        """Return its simulator; with `apply`, one in which every task has a model of its own."""
        file = self.model.removeprefix("gymnasium:")
        path = Path(file) if file == self.model else asset(file)
        if name == "mjx":
            from .mjx import MjxEngine

            return MjxEngine.load(
                path, self.frame_skip, self.track, apply, self.blocks, self.sensing
            )
        return Engine.load(path, self.frame_skip, self.track, apply, self.blocks, self.sensing)

    def stands(self, motion: Motion) -> Bool[Array, ""]:
        """Return whether the robot stands ("healthy", in Gymnasium's word)."""
        standing = jnp.asarray(True)
        for index, low, high in self.healthy:
            standing &= (low < motion.qpos[index]) & (motion.qpos[index] < high)
        if math.isfinite(self.state_limit):
            state = jnp.concatenate([motion.qpos, motion.qvel])[2:]
            standing &= jnp.all(jnp.abs(state) < self.state_limit)
        return standing


# Gymnasium's v5 settings.
HALF_CHEETAH = Robot("gymnasium:half_cheetah.xml", 5, 0.1, "normal", hidden=1)
"""Gymnasium's half-cheetah, version 5."""
HOPPER = Robot(
    "gymnasium:hopper.xml",
    4,
    5e-3,
    hidden=1,
    velocity_limit=10.0,
    healthy=((1, 0.7, math.inf), (2, -0.2, 0.2)),
    state_limit=100.0,
)
"""Gymnasium's hopper, version 5."""
WALKER_2D = Robot(
    "gymnasium:walker2d_v5.xml",
    4,
    5e-3,
    hidden=1,
    velocity_limit=10.0,
    healthy=((1, 0.8, 2.0), (2, -1.0, 1.0)),
)
"""Gymnasium's planar walker, version 5."""
ANT = Robot("gymnasium:ant.xml", 5, 0.1, "normal", hidden=2, healthy=((2, 0.2, 1.0),))
"""Gymnasium's ant, version 5."""
HUMANOID = Robot(
    "gymnasium:humanoid.xml", 5, 1e-2, hidden=2, healthy=((2, 1.0, 2.0),), track=CENTRE_OF_MASS
)
"""Gymnasium's humanoid, version 5."""


class Objective(Protocol):
    """A function that judges one control step. Make it a frozen dataclass, so that it can be
    compared."""

    def __call__(
        self, robot: Robot, motion: Motion, params: Params
    ) -> tuple[Float[Array, ""], Bool[Array, ""], dict[str, Array]]:
        """Return `(reward, terminated, events)`."""
        ...


@dataclass(frozen=True)
class Forward:
    """Gymnasium's v5 reward: w·vₓ + b·standing − c·‖a‖². A fall terminates the episode.

    vₓ is the velocity of the tracked position if there is one, otherwise of the first coordinate.
    """

    forward_weight: float = 1.0
    healthy_reward: float = 0.0
    control_cost: float = 0.0

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        standing = robot.stands(motion)
        moved = motion.travelled if robot.track else motion.moved
        reward = (
            self.forward_weight * moved[0] / motion.seconds
            + self.healthy_reward * standing
            - self.control_cost * jnp.sum(motion.action**2)
        )
        return reward, ~standing, {}


class MujocoEnv(eqx.Module):
    """A robot with an objective. Its params are the objective's and, with `apply`, `values` `[P]`,
    which make the task's own model.

    The observation is [positions after the hidden ones, velocities]; the state is the engine's. A
    simulation that diverges terminates the episode with the last good observation and the event
    `diverged`.
    """

    robot: Robot = eqx.field(static=True)
    objective: Objective = eqx.field(static=True)
    apply: Apply | None = eqx.field(static=True, default=None)
    """How `params["values"]` change the model; see `Engine`."""
    engine_name: EngineName = eqx.field(static=True, default="native")
    """The name of the simulator."""

    @property
    def engine(self) -> Engine:
        """The simulator."""
        return self.robot.engine(self.apply, self.engine_name)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Array, State]:
        """Begin an episode near the model's own position and at rest, but for noise."""
        model = self.engine.nominal
        noise, position_key, velocity_key = self.robot.reset_noise, *jax.random.split(key)
        shift = jax.random.uniform(position_key, (model.nq,), minval=-noise, maxval=noise)
        if self.robot.velocity_noise == "normal":
            qvel = noise * jax.random.normal(velocity_key, (model.nv,))
        else:
            qvel = jax.random.uniform(velocity_key, (model.nv,), minval=-noise, maxval=noise)
        qpos = jnp.asarray(model.qpos0, jnp.float32) + shift
        return self.observe(qpos, qvel), self.engine.start(qpos, qvel, self._values(params))

    def step(self, key: PRNGKeyArray, state: State, action: Array, params: Params):
        """Take one control step; nothing is random."""
        state, motion = self.engine.step(state, action, self._values(params))
        reward, terminated, events = self.objective(self.robot, motion, params)
        obs = self.observe(motion.qpos, motion.qvel)
        events = {**events, "diverged": motion.diverged}
        return obs, state, reward, terminated | motion.diverged, jnp.asarray(False), events

    def state_of(self, obs: Float[Array, " observation"], params: Params) -> State:
        """Return a state that is seen as `obs`. What is not seen, the hidden positions, is put at
        the origin; no dynamics depend on it. Velocities are taken as they are observed, also where
        they were clipped."""
        model, hidden = self.engine.nominal, self.robot.hidden
        seen = model.nq - hidden
        qpos = jnp.concatenate([jnp.asarray(model.qpos0[:hidden], obs.dtype), obs[:seen]])
        return self.engine.start(qpos, obs[seen:], self._values(params))

    def observe(self, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> Array:
        """Return the observation of these positions and velocities."""
        limit = self.robot.velocity_limit
        qvel = jnp.clip(qvel, -limit, limit) if math.isfinite(limit) else qvel
        return jnp.concatenate([qpos[self.robot.hidden :], qvel])

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of observations, `[nq − hidden + nv]`, without bounds."""
        model = self.engine.nominal
        return Box((model.nq - self.robot.hidden + model.nv,))

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the actuators' control ranges, `[nu]`."""
        model = self.engine.nominal
        limited = np.asarray(model.actuator_ctrllimited, bool)[:, None]
        low, high = np.where(limited, model.actuator_ctrlrange, (-np.inf, np.inf)).T.tolist()
        if len({*low}) == len({*high}) == 1:
            return Box((model.nu,), low[0], high[0])
        return Box((model.nu,), tuple(low), tuple(high))

    def poses(self, params: Params, states: Array | np.ndarray) -> np.ndarray:
        """Return where every drawn part is, on the host and without OpenGL: the two ends of its
        axis in the world, `[time, parts, 2, 3]` (metres), for `states` `[time, …]` of one episode
        of the task `params`. What the parts are, `skeleton` says."""
        return poses(self._model(params), self.engine.positions(states))

    def skeleton(self, params: Params) -> Skeleton:
        """Return the drawn parts of the robot of the task `params`."""
        return skeleton(self._model(params))

    def _model(self, params: Params) -> Any:
        values = self._values(params)
        return self.engine.model(None if values is None else np.asarray(values))

    def _values(self, params: Params) -> Any:
        return None if self.apply is None else params["values"]


class AbstractMujocoFamily(AbstractFamily):
    """A family of robots, with a choice of the simulator."""

    engine: EngineName = eqx.field(static=True, default="native", kw_only=True)
    """What steps the robot: native, MuJoCo on this machine's cores; mjx, compiled along with
    everything else, for accelerators (extra: mjx)."""

    @property
    def stepping(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How it is stepped. MJX calls the host only where tasks have models of their own, when an
        episode begins."""
        env: Any = self.env
        return "callback" if self.engine == "native" or env.apply is not None else "jax"

    def settings(self) -> dict[str, Any]:
        """Return the fields by name. `engine` is left out where it is native, so that identities
        that were written before there was another stay as they were."""
        settings = super().settings()
        if self.engine == "native":
            del settings["engine"]
        return settings


def HalfCheetahEnv(objective: Objective | None = None, apply: Apply | None = None) -> MujocoEnv:
    """Return Gymnasium's HalfCheetah-v5, or the robot with another objective."""
    return MujocoEnv(HALF_CHEETAH, objective or Forward(1.0, 0.0, 0.1), apply)


def HopperEnv(objective: Objective | None = None, apply: Apply | None = None) -> MujocoEnv:
    """Return Gymnasium's Hopper-v5, or the robot with another objective."""
    return MujocoEnv(HOPPER, objective or Forward(1.0, 1.0, 1e-3), apply)


def Walker2dEnv(objective: Objective | None = None, apply: Apply | None = None) -> MujocoEnv:
    """Return Gymnasium's Walker2d-v5, or the robot with another objective."""
    return MujocoEnv(WALKER_2D, objective or Forward(1.0, 1.0, 1e-3), apply)


def AntEnv(objective: Objective | None = None, apply: Apply | None = None) -> MujocoEnv:
    """Return Gymnasium's Ant-v5 without contact forces (`include_cfrc_ext_in_observation=False`,
    `contact_cost_weight=0`), or the robot with another objective.

    The reward of v5 is that of the torso's position as MuJoCo leaves it after a step, which is not
    quite that of the new state. It is tracked only without an objective of your own.
    """
    if objective is not None:
        return MujocoEnv(ANT, objective, apply)
    return MujocoEnv(dataclasses.replace(ANT, track="torso"), Forward(1.0, 1.0, 0.5), apply)


def HumanoidEnv(objective: Objective | None = None, apply: Apply | None = None) -> MujocoEnv:
    """Return Gymnasium's Humanoid-v5 without contact forces, or the robot with another objective.

    The observation is [positions from the third on, velocities], 45 numbers: v5's first 45, with
    all `include_…_in_observation=False`. The velocity is that of the centre of mass, as in v5.
    """
    return MujocoEnv(HUMANOID, objective or Forward(1.25, 5.0, 0.1), apply)
