"""Running robots whose goal changes: the reward families of meta-reinforcement learning.

Half-cheetah, ant and humanoid with a speed, a heading or a place that they are not told. Robots,
observations and falls are Gymnasium's v5 (`mujoco_env`); rewards are those of the papers' code,
MAML's (1703.03400, §5.3.2) or PEARL's (1903.08254, §6.1), named at each family. Contact forces are
neither observed nor paid for, and the world position is not observed except where the goal is a
place; numbers published on other models of the same robots compare in shape only.
"""

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Params, Split, UserError
from ..tasks.ranges import check_arc, heading, in_turn
from .engine import Motion
from .mujoco_env import (
    ANT,
    HALF_CHEETAH,
    HUMANOID,
    AbstractMujocoFamily,
    MujocoEnv,
    Objective,
    Robot,
)


@dataclass(frozen=True)
class Speed:
    """b − |vₓ − v| − c·‖a‖² for params `{"speed": []}`: v, in metres a second."""

    control_cost: float
    bonus: float = 0.0
    falls: bool = False
    """Whether a fall terminates."""

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        velocity = motion.moved[0] / motion.seconds
        reward = self.bonus - jnp.abs(velocity - params["speed"])
        reward -= self.control_cost * jnp.sum(motion.action**2)
        return reward, _fallen(self.falls, robot, motion), {}


@dataclass(frozen=True)
class Direction:
    """w·(v · d) − c·‖a‖² + b for params `{"direction": [1 or 2]}`: d, in the line or the plane."""

    control_cost: float
    forward_weight: float = 1.0
    bonus: float = 0.0
    falls: bool = False
    """Whether a fall terminates."""

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        direction = params["direction"]
        moved = motion.travelled if robot.track else motion.moved
        along = jnp.sum(direction * moved[: direction.shape[0]]) / motion.seconds
        cost = self.control_cost * jnp.sum(motion.action**2)
        reward = self.forward_weight * along - cost + self.bonus
        return reward, _fallen(self.falls, robot, motion), {}


@dataclass(frozen=True)
class Place:
    """−‖p − g‖₁ − c·‖a‖² for params `{"goal": [2]}`: g, in metres; p is the root's position."""

    control_cost: float

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        reward = self.reward(motion.qpos[:2], motion.action, params["goal"])
        return reward, jnp.asarray(False), {}

    def reward(self, position: Array, action: Array, goal: Array) -> Array:
        """Return the reward of a step that ended at `position`."""
        return -jnp.sum(jnp.abs(position - goal)) - self.control_cost * jnp.sum(action**2)


def _fallen(matters: bool, robot: Robot, motion: Motion) -> Array:
    return ~robot.stands(motion) if matters else jnp.asarray(False)


class AbstractLocomotion(AbstractMujocoFamily):
    """What the families below share."""

    def robot_env(self, robot: Robot, objective: Objective) -> MujocoEnv:
        """Return the environment of a robot with an objective."""
        return MujocoEnv(robot, objective, engine_name=self.engine)


class AbstractHalfCheetahVel(AbstractLocomotion):
    """A half-cheetah that must run at a speed it is not told: reward −|vₓ − v| − 0.05·‖a‖²."""

    @property
    @abc.abstractmethod
    def speeds(self) -> tuple[float, float]:
        """The range of v."""

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(HALF_CHEETAH, Speed(control_cost=0.05))

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a speed uniformly from the range; `ood`: just outside it, within a quarter of its
        width on either side."""
        return {"speed": _within(key, split, *self.speeds)}

    def context(self, params: Params) -> Array:
        return params["speed"][None]


class HalfCheetahVel(AbstractHalfCheetahVel):
    """A half-cheetah that must run at a speed from a range that you choose; negative speeds run
    backward."""

    name: ClassVar[str] = "half-cheetah-vel"

    low: float = eqx.field(static=True, default=0.0)
    """Lowest speed (metres a second)."""
    high: float = eqx.field(static=True, default=3.0)
    """Highest speed (metres a second)."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        _check_range(self.name, self.low, self.high)
        _check_horizon(self.name, self.horizon)

    @property
    def speeds(self) -> tuple[float, float]:
        return self.low, self.high


class HalfCheetahVelMaml(AbstractHalfCheetahVel):
    """A half-cheetah that must run at a speed from MAML's range, U(0, 2)."""

    name: ClassVar[str] = "half-cheetah-vel-maml"

    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        _check_horizon(self.name, self.horizon)

    @property
    def speeds(self) -> tuple[float, float]:
        return 0.0, 2.0


class HalfCheetahVelPearl(AbstractHalfCheetahVel):
    """A half-cheetah that must run at a speed from PEARL's range, U(0, 3)."""

    name: ClassVar[str] = "half-cheetah-vel-pearl"

    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        _check_horizon(self.name, self.horizon)

    @property
    def speeds(self) -> tuple[float, float]:
        return 0.0, 3.0


Way = Literal["both", "forward", "backward"]
WAYS = {"both": [[1.0], [-1.0]], "forward": [[1.0]], "backward": [[-1.0]]}
"""Directions of `half-cheetah-dir`."""


class HalfCheetahDir(AbstractLocomotion):
    """A half-cheetah that must run forward or backward: reward d·vₓ − 0.05·‖a‖² (MAML, PEARL).

    Two directions, so the test tasks are the training tasks; `ood` is neither: to stand still.
    """

    name: ClassVar[str] = "half-cheetah-dir"
    finite: ClassVar[bool] = True

    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""
    way: Way = eqx.field(static=True, default="both")
    """Which direction tasks are of: both, forward or backward."""

    def __check_init__(self):
        _check_horizon(self.name, self.horizon)
        if self.way not in WAYS:
            raise UserError(f"way must be one of {', '.join(WAYS)}, not {self.way!r}")

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(HALF_CHEETAH, Direction(control_cost=0.05))

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw one of both directions, each as likely as the other."""
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the directions in turn, the first of them at random."""
        directions = [[0.0]] if split == "ood" else WAYS[self.way]
        return {"direction": in_turn(key, jnp.asarray(directions), n)}

    def settings(self) -> dict[str, Any]:
        """Return the fields by name. `way` is left out where it is both, so that identities that
        were written before it existed stay as they were."""
        settings = super().settings()
        if self.way == "both":
            del settings["way"]
        return settings

    def context(self, params: Params) -> Array:
        return params["direction"]


class AntForwardBackward(AbstractLocomotion):
    """An ant that must run forward or backward: reward d·v − 0.5·‖a‖² + 1, ended by a fall (PEARL).

    Two directions, so the test tasks are the training tasks; `ood` is left and right.
    """

    name: ClassVar[str] = "ant-forward-backward"
    finite: ClassVar[bool] = True

    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        _check_horizon(self.name, self.horizon)

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(ANT, Direction(control_cost=0.5, bonus=1.0, falls=True))

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw one of both directions, each as likely as the other."""
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the directions in turn, the first of them at random."""
        x, y = (0.0, 1.0) if split == "ood" else (1.0, 0.0)
        return {"direction": in_turn(key, jnp.asarray([[x, y], [-x, -y]]), n)}

    def context(self, params: Params) -> Array:
        return params["direction"]


class AntDir(AbstractLocomotion):
    """An ant that must run in a heading: reward d·v − 0.5·‖a‖² + 1, ended by a fall (PEARL, whose
    headings are all around: `--arc 360`)."""

    name: ClassVar[str] = "ant-dir"

    arc: float = eqx.field(static=True, default=270.0)
    """Headings lie within half of this on either side of straight ahead (degrees, at most 360);
    the rest of the circle is `ood`."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        check_arc(self.name, self.arc)
        _check_horizon(self.name, self.horizon)

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(ANT, Direction(control_cost=0.5, bonus=1.0, falls=True))

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a heading uniformly from the arc; `ood`: from outside of it."""
        return {"direction": heading(key, split, self.name, self.arc)}

    def context(self, params: Params) -> Array:
        return params["direction"]


class HumanoidDir(AbstractLocomotion):
    """A humanoid that must run in a heading: reward 1.25·(d·v) − 0.1·‖a‖² + 5, v that of the centre
    of mass, ended by a fall (PEARL, whose headings are all around: `--arc 360`)."""

    name: ClassVar[str] = "humanoid-dir"

    arc: float = eqx.field(static=True, default=270.0)
    """Headings lie within half of this on either side of straight ahead (degrees, at most 360);
    the rest of the circle is `ood`."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.015 s each)."""

    def __check_init__(self):
        check_arc(self.name, self.arc)
        _check_horizon(self.name, self.horizon)

    @property
    def env(self) -> MujocoEnv:
        objective = Direction(control_cost=0.1, forward_weight=1.25, bonus=5.0, falls=True)
        return self.robot_env(HUMANOID, objective)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a heading uniformly from the arc; `ood`: from outside of it."""
        return {"direction": heading(key, split, self.name, self.arc)}

    def context(self, params: Params) -> Array:
        return params["direction"]


class AntVel(AbstractLocomotion):
    """An ant that must run at a speed it is not told: reward 1.05 − |vₓ − v| − 0.005·‖a‖², ended by
    a fall (MAML)."""

    name: ClassVar[str] = "ant-vel"

    low: float = eqx.field(static=True, default=0.0)
    """Lowest speed (metres a second)."""
    high: float = eqx.field(static=True, default=3.0)
    """Highest speed (metres a second)."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        _check_range(self.name, self.low, self.high)
        _check_horizon(self.name, self.horizon)

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(ANT, Speed(control_cost=0.005, bonus=1.05, falls=True))

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a speed uniformly from the range; `ood`: just outside it, within a quarter of its
        width on either side."""
        return {"speed": _within(key, split, self.low, self.high)}

    def context(self, params: Params) -> Array:
        return params["speed"][None]


class AntGoal(AbstractLocomotion, AbstractGoalFamily):  # pyright: ignore[reportIncompatibleVariableOverride]
    """An ant that must go to a place it is not told: reward −‖p − g‖₁ − 0.1·‖a‖², never ended
    (PEARL). The position is observed: the first two numbers."""

    name: ClassVar[str] = "ant-goal"

    radius: float = eqx.field(static=True, default=3.0)
    """Goals lie within this of the start (metres)."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.05 s each)."""

    def __check_init__(self):
        if not 0.0 < self.radius < math.inf:
            raise UserError(f"{self.name} needs a positive radius, not {self.radius}")
        _check_horizon(self.name, self.horizon)

    @property
    def objective(self) -> Place:
        """The reward."""
        return Place(control_cost=0.1)

    @property
    def env(self) -> MujocoEnv:
        return self.robot_env(dataclasses.replace(ANT, hidden=0), self.objective)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal uniformly from the disc; `ood`: in the ring around it, half as wide as its
        radius."""
        angle_key, radius_key = jax.random.split(key)
        angle = jax.random.uniform(angle_key, (), minval=0.0, maxval=2 * math.pi)
        first, last = (1.0, 1.5) if split == "ood" else (0.0, 1.0)
        area = jax.random.uniform(radius_key, (), minval=first**2, maxval=last**2)
        heading = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return {"goal": self.radius * jnp.sqrt(area) * heading}

    def context(self, params: Params) -> Array:
        return params["goal"]

    @property
    def goal_space(self) -> Box:
        return Box((2,))

    def achieved(self, obs: Array) -> Array:
        return obs[..., :2]

    def with_goal(self, params: Params, goal: Array) -> Params:
        return {**params, "goal": goal}

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        control = jnp.clip(action, -1.0, 1.0)
        reward = self.objective.reward(self.achieved(next_obs), control, params["goal"])
        return reward, jnp.asarray(False)


def _within(key: PRNGKeyArray, split: Split, low: float, high: float) -> Float[Array, ""]:
    """Uniform in [low, high]; `ood`: in the quarter of a width that follows on either side."""
    if split != "ood":
        return jax.random.uniform(key, (), minval=low, maxval=high)
    beyond = jax.random.uniform(key, (), minval=-1.0, maxval=1.0) * (high - low) / 4
    return jnp.where(beyond < 0, low, high) + beyond


def _check_range(name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name} needs low < high, not low {low:g} and high {high:g}")


def _check_horizon(name: str, horizon: int) -> None:
    if horizon < 1:
        raise UserError(f"{name} needs a horizon of at least 1, not {horizon}")
