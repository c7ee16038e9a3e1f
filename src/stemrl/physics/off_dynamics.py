"""Robots whose world is another one in the target: the problems of off-dynamics transfer.

DARC's (Eysenbach et al. 2021, 2006.13916, §6, in the setting of the authors' code): a half-cheetah and an
ant with a dead motor, a half-cheetah with a wall behind it, a hopper that may not fall; and the ant on a
disk. Each family is its own source with its defaults, and its own target with one setting changed
(`broken=True`, `wall=True`, …). Robots are Gymnasium's v5 here, theirs were v2.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Box, Params, Split, UserError
from ..drawing import Gauge, Scene, Shape
from .drawing import Skeleton
from .engine import Block, Engine, Motion, State
from .mujoco_env import (
    ANT,
    HALF_CHEETAH,
    HOPPER,
    AbstractMujocoFamily,
    Forward,
    MujocoEnv,
    Robot,
)

WALL = Block("wall", (-3.0, 0.0, 1.0), (1.0, 10.0, 10.0))
"""The authors' obstacle: its face is 2 m behind the start."""


class MotorsEnv(eqx.Module):
    """A robot some of whose motors are weak or dead; params `{"motors": [nu]}`, factors on the action,
    1 for a sound motor and 0 for a dead one. What a dead motor is told costs nothing."""

    robot: MujocoEnv

    @property
    def engine(self) -> Engine:
        """The simulator."""
        return self.robot.engine

    @property
    def apply(self) -> None:
        """All tasks share the one model."""
        return None

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Array, State]:
        """Return what the robot's own reset returns."""
        return self.robot.reset(key, params)

    def step(self, key: PRNGKeyArray, state: State, action: Array, params: Params):
        """Take the robot's own step with `motors` times the action."""
        return self.robot.step(key, state, action * params["motors"], params)

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the robot's own space."""
        return self.robot.observation_space()

    def action_space(self, params: Params | None = None) -> Box:
        """Return the robot's own space."""
        return self.robot.action_space()

    def poses(self, params: Params, states: Any) -> np.ndarray:
        """See `MujocoEnv.poses`."""
        return self.robot.poses(params, states)

    def skeleton(self, params: Params) -> Skeleton:
        """See `MujocoEnv.skeleton`."""
        return self.robot.skeleton(params)


class AbstractOneTask(AbstractMujocoFamily):
    """One task, the same in training and test."""

    finite: ClassVar[bool] = True

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the one task."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it is one task")
        return self.task

    @property
    def task(self) -> Params:
        """Its parameters."""
        return {"target": jnp.zeros(())}

    def context(self, params: Params) -> Float[Array, " size"]:
        """Return the parameters, as one vector: which of the two worlds it is."""
        return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])


class HalfCheetahBroken(AbstractOneTask):
    """A half-cheetah that must run, one of whose motors, at the back of the hip, is dead in the target
    (DARC, 2006.13916). Reward vₓ − 0.1·‖a‖², as HalfCheetah-v5."""

    name: ClassVar[str] = "half-cheetah-broken"

    broken: bool = eqx.field(static=True, default=False)
    """Whether the motor of action 0 is dead: the target."""
    horizon: int = eqx.field(static=True, default=1000)
    """Steps an episode (0.05 s each)."""

    @property
    def env(self) -> MotorsEnv:
        objective = Forward(1.0, 0.0, 0.1)
        return MotorsEnv(MujocoEnv(HALF_CHEETAH, objective, engine_name=self.engine))

    @property
    def task(self) -> Params:
        return {"motors": jnp.ones(6).at[0].set(1.0 - self.broken)}


class AntBroken(AbstractOneTask):
    """An ant that must run, one of whose motors is dead in the target (DARC, 2006.13916). Reward vₓ + 1 −
    0.5·‖a‖², ended by a fall, as Ant-v5 without contact forces."""

    name: ClassVar[str] = "ant-broken"

    broken: bool = eqx.field(static=True, default=False)
    """Whether the motor of action 3 is dead: the target."""
    horizon: int = eqx.field(static=True, default=1000)
    """Steps an episode (0.05 s each)."""

    @property
    def env(self) -> MotorsEnv:
        objective = Forward(1.0, 1.0, 0.5)
        return MotorsEnv(MujocoEnv(ANT, objective, engine_name=self.engine))

    @property
    def task(self) -> Params:
        return {"motors": jnp.ones(8).at[3].set(1.0 - self.broken)}


@dataclass(frozen=True)
class Standing:
    """The same for every step; the event `standing` says whether the robot does."""

    step_reward: float
    falls: bool
    """Whether a fall terminates."""

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        standing = robot.stands(motion)
        ended = ~standing if self.falls else jnp.asarray(False)
        return jnp.asarray(self.step_reward), ended, {"standing": standing}


class HopperFalling(AbstractOneTask):
    """A hopper whose fall ends the episode in the target alone (DARC, 2006.13916). There is nothing
    to earn; a policy that keeps to the target's dynamics does not fall."""

    name: ClassVar[str] = "hopper-falling"

    falls: bool = eqx.field(static=True, default=False)
    """Whether a fall ends the episode: the target."""
    step_reward: float = eqx.field(static=True, default=0.0)
    """What every step pays: 0 as published; with 1 the target's return counts the steps till a
    fall."""
    horizon: int = eqx.field(static=True, default=300)
    """Steps an episode (0.008 s each)."""

    @property
    def env(self) -> MujocoEnv:
        return MujocoEnv(HOPPER, Standing(self.step_reward, self.falls), engine_name=self.engine)

    @property
    def task(self) -> Params:
        return {"target": jnp.asarray(float(self.falls))}


@dataclass(frozen=True)
class Pace:
    """‖v‖ − c·‖a‖² + b, whatever the direction: v of the first `axes` coordinates. On a disk of a
    `radius`, leaving it terminates if it `ends` there."""

    control_cost: float
    axes: int = 1
    bonus: float = 0.0
    falls: bool = False
    """Whether a fall terminates."""
    radius: float | None = None
    """Of the disk (metres), where there is one."""
    ends: bool = False

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        pace = jnp.sqrt(jnp.sum(motion.moved[: self.axes] ** 2)) / motion.seconds
        reward = self.bonus + pace - self.control_cost * jnp.sum(motion.action**2)
        ended = ~robot.stands(motion) if self.falls else jnp.asarray(False)
        if self.radius is None:
            return reward, ended, {"speed": pace}
        distance = jnp.sqrt(jnp.sum(motion.qpos[:2] ** 2))
        on_disk = distance <= self.radius
        ended |= ~on_disk if self.ends else False
        return reward, ended, {"speed": pace, "distance": distance, "on_disk": on_disk}


class HalfCheetahWall(AbstractOneTask):
    """A half-cheetah that is paid for speed in either direction, with a wall behind it in the target
    (DARC, 2006.13916): reward |vₓ| − 0.1·‖a‖²."""

    name: ClassVar[str] = "half-cheetah-wall"

    wall: bool = eqx.field(static=True, default=False)
    """Whether the wall stands, 2 m behind the start: the target."""
    horizon: int = eqx.field(static=True, default=1000)
    """Steps an episode (0.05 s each)."""

    @property
    def env(self) -> MujocoEnv:
        robot = dataclasses.replace(HALF_CHEETAH, blocks=(WALL,) if self.wall else ())
        return MujocoEnv(robot, Pace(control_cost=0.1), engine_name=self.engine)

    @property
    def task(self) -> Params:
        return {"target": jnp.asarray(float(self.wall))}


class AntDisk(AbstractOneTask):
    """An ant that is paid for speed in any direction, on an endless plane in the source and on a
    disk in the target. The edge of the disk ends the episode. The reward is ‖v‖ + 1 − 0.5·‖a‖²,
    ended by a fall too. The ant sees where it is: that is the first two numbers of its observation.

    The event `on_disk` says in both domains whether it is where the disk would be, `distance` how
    far from its middle (metres), and `speed` how fast (metres a second).
    """

    name: ClassVar[str] = "ant-disk"

    disk: bool = eqx.field(static=True, default=False)
    """Whether the world ends at the disk's edge: the target."""
    radius: float = eqx.field(static=True, default=3.0)
    """Of the disk (metres); the ant starts in its middle."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        if not 0.0 < self.radius < math.inf:
            raise UserError(f"{self.name} needs a positive radius, not {self.radius}")

    @property
    def env(self) -> MujocoEnv:
        robot = dataclasses.replace(ANT, hidden=0)
        objective = Pace(0.5, 2, bonus=1.0, falls=True, radius=self.radius, ends=self.disk)
        return MujocoEnv(robot, objective, engine_name=self.engine)

    @property
    def task(self) -> Params:
        return {"target": jnp.asarray(float(self.disk))}

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw from above the edge (faint where there is none), the ant, and its path."""
        ends = self.env.poses(params, states)
        radii = self.env.skeleton(params).radii
        centre = self.env.engine.positions(states)[:, :2]
        corners = np.linspace(0.0, 2 * math.pi, 49)
        circle = self.radius * np.stack([np.cos(corners), np.sin(corners)], 1)
        edge = np.stack([circle[:-1], circle[1:]], 1)
        flat = ends[..., :2]
        shapes = [
            *(Shape("band", part[None], 0.04, "wall" if self.disk else "cell") for part in edge),
            Shape("disc", np.zeros((1, 1, 2)), 0.08, "start"),
            Shape("trail", centre[:, None], 0.03, "near"),
            *(Shape("capsule", flat[:, i], float(radii[i]), "body") for i in range(len(radii))),
        ]
        side = 2.2 * self.radius
        middle = np.zeros((1, 2))
        seconds = self.env.engine.seconds
        distance = np.linalg.norm(centre, axis=1)
        gauge = Gauge("distance from the middle", distance, self.radius, " m")
        return Scene(shapes, middle, (side, side), seconds, len(centre), gauge=gauge)
