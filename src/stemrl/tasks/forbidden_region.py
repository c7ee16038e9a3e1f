"""Reach a place and never enter a region on the way: what goals cannot say.

A goal is a place to be in the end, g, and a reward 1[s = g] can be put in afterwards for any of them.
"Never to have entered" is about the way there, and no goal says it. So there are two objectives on the
same world: `goal`, which a goal-conditioned policy is trained on and which leads it straight through, and
`goal-and-region`, whose context holds the region too.
"""

import math
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Params, Split, UserError
from ..drawing import Scene, Shape

Objective = Literal["goal", "goal-and-region"]
Reward = Literal["sparse", "dense"]
STEP = 0.1
"""The longest step in each coordinate (length units)."""
TOLERANCE = 0.1
"""How near to the goal is there."""
LOST = 2.0
"""The distance to the goal that counts once it can no longer be reached in the way asked for: further
than any that is met on the way to one."""


class RegionState(eqx.Module):
    """Where the point is, and whether it has been where it must not."""

    position: Float[Array, "2"]
    entered: Bool[Array, ""]


class RegionEnv(eqx.Module):
    """A point that moves by its action; params `{"goal": [2], "region": [3]}`, the region's middle and
    its radius.

    The reward is, if it is `dense`, minus the distance to the goal after the step; else −1, and 0 for
    the step that gets within 0.1 of it. Getting there ends the episode. Where the region counts, it
    cannot be reached any more once it was entered: every later step costs 2, or 1 if sparse, to the
    end. The observation is the position and whether the region was entered.
    """

    objective: Objective = eqx.field(static=True)
    reward_type: Reward = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Begin within 0.05 of the origin in each coordinate."""
        position = jax.random.uniform(key, (2,), minval=-0.05, maxval=0.05)
        state = RegionState(position, jnp.asarray(False))
        return _observe(state), state

    def step(self, key: PRNGKeyArray, state: RegionState, action: Array, params: Params):
        """Move by `action`, `[2]` (length units); no randomness in it. Events: `success` (at the
        goal, whatever the way) and `entered` (the region, now or before, if only in passing)."""
        position = state.position + action
        middle, radius = params["region"][:2], params["region"][2]
        entered = state.entered | (_nearest(state.position, position, middle) < radius)
        after = RegionState(position, entered)
        obs = _observe(after)
        reward, ended = self.judge(obs, params["goal"])
        found = jnp.sqrt(jnp.sum((position - params["goal"]) ** 2)) < TOLERANCE
        events = {"success": found, "entered": entered}
        return obs, after, reward, ended, jnp.asarray(False), events

    def judge(
        self, obs: Float[Array, "3"], goal: Array
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """Return the reward of a step after which this was observed, and whether it ended the
        episode."""
        distance = jnp.sqrt(jnp.sum((obs[:2] - goal) ** 2))
        if self.objective == "goal-and-region":
            distance = jnp.where(obs[2] > 0.5, LOST, distance)
        found = distance < TOLERANCE
        if self.reward_type == "dense":
            return -distance, found
        return jnp.where(found, 0.0, -1.0), found

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the position, without bounds, and 0 or 1: `[3]`."""
        return Box((3,))

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the move, `[2]`, entries within ±0.1."""
        return Box((2,), -STEP, STEP)


class ForbiddenRegion(AbstractGoalFamily):
    """A goal, and a region in the straight way to it that must never be entered: a task that is about the
    way and not only about its end, and so no goal."""

    name: ClassVar[str] = "forbidden-region"

    objective: Objective = eqx.field(static=True, default="goal-and-region")
    """What is paid for, and what the context holds: goal, the goal alone; goal-and-region, to get
    there without ever having entered the region."""
    reward_type: Reward = eqx.field(static=True, default="dense")
    """sparse: −1 a step until the goal is reached; dense: minus the distance to it."""
    horizon: int = eqx.field(static=True, default=30)
    """Steps an episode (the straight way takes at most 10)."""

    def __check_init__(self):
        for name, kind in (("objective", Objective), ("reward_type", Reward)):
            if getattr(self, name) not in get_args(kind):
                known = " or ".join(get_args(kind))
                raise UserError(f"{self.name}: {name} must be {known}, not {getattr(self, name)!r}")

    @property
    def env(self) -> RegionEnv:
        return RegionEnv(self.objective, self.reward_type)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal 0.7 to 1 from the origin, in any direction, and a disc of radius 0.15 to 0.22
        whose middle is about half way, at most 0.1 beside the straight way; `ood`: goals 1 to 1.3
        away, and radii from 0.22 to 0.3."""
        angle_key, far_key, half_key, side_key, size_key = jax.random.split(key, 5)
        nearest, furthest = (1.0, 1.3) if split == "ood" else (0.7, 1.0)
        smallest, largest = (0.22, 0.3) if split == "ood" else (0.15, 0.22)
        angle = jax.random.uniform(angle_key, (), maxval=2 * math.pi)
        ahead = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        beside = jnp.stack([-ahead[1], ahead[0]])
        far = jax.random.uniform(far_key, (), minval=nearest, maxval=furthest)
        half = jax.random.uniform(half_key, (), minval=0.4, maxval=0.55)
        side = jax.random.uniform(side_key, (), minval=-0.1, maxval=0.1)
        radius = jax.random.uniform(size_key, (), minval=smallest, maxval=largest)
        middle = half * far * ahead + side * beside
        return {"goal": far * ahead, "region": jnp.append(middle, radius)}

    def context(self, params: Params) -> Float[Array, " size"]:
        """Return the goal, `[2]`, and where it counts the region: its middle and its radius, `[5]`."""
        if self.objective == "goal":
            return params["goal"]
        return jnp.concatenate([params["goal"], params["region"]])

    @property
    def goal_space(self) -> Box:
        """The square around all goals, `[2]`."""
        return Box((2,), -1.3, 1.3)

    def achieved(self, obs: Float[Array, "3"]) -> Float[Array, "2"]:
        """Return the position: every place is a goal."""
        return obs[:2]

    def with_goal(self, params: Params, goal: Float[Array, "2"]) -> Params:
        """Return the same region with another goal."""
        return {**params, "goal": goal}

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        """Return the reward and the end by what was observed after the step, which says whether the
        region was ever entered."""
        return self.env.judge(next_obs, params["goal"])

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the region, the goal, and the point's path."""
        position = np.asarray(states.position, float)
        region, goal = np.asarray(params["region"], float), np.asarray(params["goal"], float)
        shapes = [
            Shape("disc", np.zeros((1, 1, 2)), 0.03, "start"),
            Shape("disc", region[None, None, :2], float(region[2]), "wall"),
            Shape("disc", goal[None, None], TOLERANCE, "goal"),
            Shape("trail", position[:, None], 0.015, "near"),
            Shape("disc", position[:, None], 0.05, "body"),
        ]
        return Scene(shapes, np.zeros((1, 2)), (2.8, 2.8), 0.1, len(position))


def _observe(state: RegionState) -> Float[Array, "3"]:
    return jnp.append(state.position, state.entered.astype(jnp.float32))


def _nearest(
    start: Float[Array, "2"], end: Float[Array, "2"], place: Float[Array, "2"]
) -> Float[Array, ""]:
    """How near the straight way from start to end comes to a place."""
    way = end - start
    share = jnp.sum((place - start) * way) / jnp.maximum(jnp.sum(way**2), 1e-12)
    closest = start + jnp.clip(share, 0.0, 1.0) * way
    return jnp.sqrt(jnp.sum((closest - place) ** 2))
