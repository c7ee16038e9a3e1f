"""An arm of two links whose tip has to reach a place: Gymnasium's Reacher-v5 with the place as the goal.

Dynamics, starts and the dense reward are v5's, step by step. What v5 mixes into the observation, the
place and the way to it, is told apart here: the observation is the arm's alone, the place is the goal in
the task's parameters and is shown to a policy as its context. So every step is experience for every goal.
"""

import math
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Params, Split, UserError
from ..drawing import Scene, Shape
from .drawing import Skeleton, poses, skeleton
from .engine import Engine, State
from .mujoco_env import AbstractMujocoFamily, EngineName, Robot

REACHER = Robot("gymnasium:reacher.xml", 2, track="fingertip")
"""Gymnasium's reacher, version 5. Its reward is by the tip's place as MuJoCo leaves it after a step,
which is up to 5 mm from that of the new state, and so it is tracked."""
LINKS = (0.1, 0.11)
"""From the shoulder to the elbow, and from there to the tip (metres)."""
FURTHEST = 0.2
"""How far goals are from the shoulder at most (metres)."""

RewardType = Literal["dense", "sparse"]


class ReacherState(eqx.Module):
    """The simulator's state, and the tip's place as it left it."""

    physics: State
    tip: Float[Array, "2"]


class ReacherEnv(eqx.Module):
    """The arm; params `{"goal": [2]}`, a place in the plane (metres, the shoulder is the origin).

    The observation is [cosines of both joints' angles, their sines, their velocities, the tip's place].
    The reward is, if it is `dense`, v5's −‖tip − goal‖ − ‖a‖²; if `sparse`, −1, or 0 where the tip is
    within `tolerance` of the goal. Nothing but a simulation that diverges ends an episode.
    """

    reward_type: RewardType = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    engine_name: EngineName = eqx.field(static=True, default="native")

    apply: ClassVar[None] = None
    """All tasks share the one model."""

    @property
    def engine(self) -> Engine:
        """The simulator."""
        return REACHER.engine(name=self.engine_name)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Array, ReacherState]:
        """Draw angles uniformly from ±0.1 and velocities from ±0.005, as v5."""
        position_key, velocity_key = jax.random.split(key)
        angles = jax.random.uniform(position_key, (2,), minval=-0.1, maxval=0.1)
        velocity = jax.random.uniform(velocity_key, (2,), minval=-0.005, maxval=0.005)
        return self.start(angles, velocity, params["goal"])

    def start(self, angles: Array, velocity: Array, goal: Array) -> tuple[Array, ReacherState]:
        """Begin an episode at these angles and velocities `[2]` (rad, rad/s). The target, which
        nothing touches, lies still at `goal`."""
        qpos, qvel = jnp.concatenate([angles, goal]), jnp.concatenate([velocity, jnp.zeros(2)])
        state = ReacherState(self.engine.start(qpos, qvel), tip_of(angles))
        return self.observe(angles, velocity, state.tip), state

    def step(self, key: PRNGKeyArray, state: ReacherState, action: Array, params: Params):
        """Turn shoulder and elbow with `action`, `[2]` (of the motors' strength, within ±1), for 0.02
        s; no randomness in it. Events: `success` (within `tolerance`), `distance` (metres) and
        `diverged`."""
        physics, motion = self.engine.step(state.physics, action)
        tip = state.tip + motion.travelled[:2]
        obs = self.observe(motion.qpos[:2], motion.qvel[:2], tip)
        reward, within, distance = self.judge(tip, action, params["goal"])
        events = {"success": within, "distance": distance, "diverged": motion.diverged}
        after = ReacherState(physics, tip)
        return obs, after, reward, motion.diverged, jnp.asarray(False), events

    def observe(self, angles: Array, velocity: Array, tip: Array) -> Float[Array, "8"]:
        """Return the observation."""
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), velocity, tip])

    def judge(
        self, tip: Array, action: Array, goal: Array
    ) -> tuple[Float[Array, ""], Array, Float[Array, ""]]:
        """Return the reward of a step that left the tip there, whether the tip is within the
        tolerance of the goal, and the distance (metres)."""
        distance = jnp.sqrt(jnp.sum((tip - goal) ** 2))
        within = distance < self.tolerance
        if self.reward_type == "sparse":
            return jnp.where(within, 0.0, -1.0), within, distance
        return -distance - jnp.sum(action**2), within, distance

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of observations, `[8]`, without bounds."""
        return Box((8,))

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the motors' strengths, `[2]`, within ±1."""
        return Box((2,), -1.0, 1.0)

    def poses(self, params: Params, states: ReacherState) -> np.ndarray:
        """See `MujocoEnv.poses`."""
        return poses(self.engine.model(), self.engine.positions(states.physics))

    def skeleton(self, params: Params) -> Skeleton:
        """See `MujocoEnv.skeleton`."""
        return skeleton(self.engine.model())


class ReacherGoal(AbstractMujocoFamily, AbstractGoalFamily):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Gymnasium's Reacher-v5 with the target as the goal: an arm of two links whose tip must get to a
    place in the plane, which a policy is told as the context."""

    name: ClassVar[str] = "reacher-goal"

    reward_type: RewardType = eqx.field(static=True, default="sparse")
    """sparse: −1 a step, 0 within the tolerance of the goal; dense: v5's, minus the distance and the
    action's square."""
    tolerance: float = eqx.field(static=True, default=0.02)
    """How near to the goal is there (metres; the arm is 0.21 long)."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode (0.02 s each)."""

    def __check_init__(self):
        if self.reward_type not in get_args(RewardType):
            raise UserError(
                f"{self.name}: reward_type must be dense or sparse, not {self.reward_type!r}"
            )
        if not 0.0 < self.tolerance < math.inf:
            raise UserError(f"{self.name} needs a positive tolerance, not {self.tolerance}")

    @property
    def env(self) -> ReacherEnv:
        return ReacherEnv(self.reward_type, self.tolerance, self.engine)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal uniformly from the disc of radius 0.2, as v5, in training and test alike."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it trains on all goals")
        angle_key, radius_key = jax.random.split(key)
        angle = jax.random.uniform(angle_key, (), maxval=2 * math.pi)
        radius = FURTHEST * jnp.sqrt(jax.random.uniform(radius_key))
        return {"goal": radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])}

    def context(self, params: Params) -> Float[Array, "2"]:
        """Return the goal (metres)."""
        return params["goal"]

    @property
    def goal_space(self) -> Box:
        """The space of places in the plane, `[2]`: the square around what the arm reaches."""
        return Box((2,), -sum(LINKS), sum(LINKS))

    def achieved(self, obs: Float[Array, "... 8"]) -> Float[Array, "... 2"]:
        """Return the tip's place."""
        return obs[..., 6:]

    def with_goal(self, params: Params, goal: Float[Array, "2"]) -> Params:
        """Return a task with this goal; the parameters are the goal and nothing else."""
        return {**params, "goal": goal}

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        """Return the reward by where the step left the tip. (Where the simulation diverged, nothing
        moved.)"""
        reward, _, _ = self.env.judge(self.achieved(next_obs), action, params["goal"])
        return reward, jnp.asarray(False)

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the arm from above, and the goal as large as the tolerance."""
        angles = self.env.engine.positions(states.physics)[:, :2]
        turn = np.cumsum(angles, axis=1)
        ways = np.stack([np.cos(turn), np.sin(turn)], -1) * np.asarray(LINKS)[:, None]
        joints = np.concatenate([np.zeros((len(turn), 1, 2)), np.cumsum(ways, axis=1)], axis=1)
        goal = np.asarray(params["goal"], float)[None, None]
        shapes = [
            Shape("disc", goal, self.tolerance, "goal"),
            Shape("trail", joints[:, 2:], 0.002, "near"),
            Shape("capsule", joints[:, :2], 0.01, "near"),
            Shape("capsule", joints[:, 1:], 0.01, "body"),
            Shape("disc", joints[:1, :1], 0.012, "start"),
        ]
        return Scene(shapes, np.zeros((1, 2)), (0.5, 0.5), self.env.engine.seconds, len(turn))


def tip_of(angles: Float[Array, "2"]) -> Float[Array, "2"]:
    """Return where the tip is at these angles of shoulder and elbow (metres)."""
    turn = jnp.cumsum(angles)
    return jnp.stack([jnp.cos(turn), jnp.sin(turn)]) @ jnp.asarray(LINKS)
