"""Points in the plane that must find a place they are not told.

`point-2d` is MAML's navigation task (1703.03400, §5.3.1, in the setting of the authors' code), and
`point-half-plane` the same with half of its goals left out of training;
`point-sparse` is PEARL's half-circle (1903.08254, §6.3, likewise, but that it starts within 0.1 of the
origin, not at it). In `point-conflict` they are told,
and one goal is the opposite of the other. In `point-dir` there is no place, only a way to go.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractFamily, Box, Params, Split, UserError
from .ranges import check_arc, heading, in_turn


class PointState(eqx.Module):
    """Where the point is."""

    position: Float[Array, "2"]


class PointEnv(eqx.Module):
    """A point that moves by its action; params `{"goal": [2]}`.

    The reward is minus the distance to the goal after the step, or, with a `radius`, 1 minus that
    distance inside the radius and 0 outside. The observation is the position.
    """

    step_size: float = eqx.field(static=True)
    """The longest step in each coordinate (length units)."""
    start_spread: float = eqx.field(static=True, default=0.0)
    """The first position is uniform within ± this in each coordinate."""
    radius: float | None = eqx.field(static=True, default=None)
    """With one, the reward is sparse: nothing further than this from the goal (length units)."""
    stop_within: float | None = eqx.field(static=True, default=None)
    """Terminates within this distance of the goal in each coordinate."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the first position, `[2]`: the origin, or within `start_spread` of it."""
        noise = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        position = self.start_spread * noise
        return position, PointState(position)

    def step(self, key: PRNGKeyArray, state: PointState, action: Array, params: Params):
        """Move by `action`, `[2]` (length units); no randomness in it. With a `radius` the event
        `success` says whether the point is within it, and `dense_reward` is minus the distance,
        which no agent is shown but a method may learn from in meta-training."""
        position = state.position + action
        offset = position - params["goal"]
        distance = jnp.sqrt(jnp.sum(offset**2))
        reward = -distance
        inside = jnp.asarray(False)
        if self.radius is not None:
            inside = distance <= self.radius
            reward = jnp.where(inside, 1.0 - distance, 0.0)
        terminated: Bool[Array, ""] = jnp.asarray(False)
        if self.stop_within is not None:
            terminated = jnp.all(jnp.abs(offset) < self.stop_within)
        events = {}
        if self.radius is not None:
            events = {"success": inside, "dense_reward": -distance}
        return position, PointState(position), reward, terminated, jnp.asarray(False), events

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the position, `[2]`, without bounds."""
        return Box((2,))

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the move, `[2]`, entries within ± `step_size`."""
        return Box((2,), -self.step_size, self.step_size)


class Point2D(AbstractFamily):
    """MAML's point (1703.03400, §5.3.1): a goal in the square [−size, size]² that the point is not
    told, reward −distance, steps of ±0.1, ended within 0.01 of the goal in each coordinate."""

    name: ClassVar[str] = "point-2d"

    size: float = eqx.field(static=True, default=0.5)
    """Half the side of the square that goals are drawn from (length units)."""
    horizon: int = eqx.field(static=True, default=100)
    """Steps an episode."""

    @property
    def env(self) -> PointEnv:
        return PointEnv(step_size=0.1, stop_within=0.01)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal uniformly from the square; `ood`: from the frame between it and one twice as
        wide."""
        if split != "ood":
            goal = jax.random.uniform(key, (2,), minval=-self.size, maxval=self.size)
            return {"goal": goal}
        side, along, corner = jax.random.split(key, 3)
        far = jax.random.uniform(side, (), minval=self.size, maxval=2 * self.size)
        near = jax.random.uniform(along, (), minval=-1.0, maxval=1.0) * far
        turn = jax.random.randint(corner, (), 0, 4) * (math.pi / 2)
        c, s = jnp.cos(turn), jnp.sin(turn)
        return {"goal": jnp.stack([c * far - s * near, s * far + c * near])}

    def context(self, params: Params) -> Array:
        """Return the goal, `[2]`."""
        return params["goal"]


class PointHalfPlane(Point2D):
    """`point-2d` with half of the plane left out of training: goals to the right of the start, and
    `ood` those to its left."""

    name: ClassVar[str] = "point-half-plane"

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal uniformly from the right half of the square; `ood`: from the left half."""
        x, y = super().sample(key, "train")["goal"]
        return {"goal": jnp.stack([-jnp.abs(x) if split == "ood" else jnp.abs(x), y])}


class PointSparse(AbstractFamily):
    """PEARL's point (1903.08254, §6.3): a goal on the half-circle of radius 1 that the point is not
    told, reward only within `radius` of it, steps of ±0.1."""

    name: ClassVar[str] = "point-sparse"

    radius: float = eqx.field(static=True, default=0.2)
    """The reward is 1 − distance within this of the goal, 0 elsewhere (length units)."""
    horizon: int = eqx.field(static=True, default=20)
    """Steps an episode."""

    @property
    def env(self) -> PointEnv:
        return PointEnv(step_size=0.1, start_spread=0.1, radius=self.radius)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw an angle uniformly from [0, π]; `ood`: from the other half of the circle."""
        angle = jax.random.uniform(key, (), minval=0.0, maxval=math.pi)
        if split == "ood":
            angle = -angle
        return {"goal": jnp.stack([jnp.cos(angle), jnp.sin(angle)])}

    def context(self, params: Params) -> Array:
        """Return the goal, `[2]`."""
        return params["goal"]


class PointSemicircle(AbstractFamily):
    """MAESN's point (1802.07245, §5.1): a goal on the half-circle of radius 2 that the point is not
    told. In training the reward is dense, −distance; at test nothing is paid further than `radius`
    from the goal (set `dense` to choose)."""

    name: ClassVar[str] = "point-semicircle"

    dense: bool = eqx.field(static=True, default=False)
    """Whether the reward is −distance, or 1 − distance within `radius` and 0 elsewhere."""
    distance: float = eqx.field(static=True, default=2.0)
    """From the start to every goal (length units)."""
    radius: float = eqx.field(static=True, default=0.8)
    """Of the goal, where the reward is sparse (length units)."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode."""

    def __check_init__(self):
        if not 0 < self.radius < self.distance:
            raise UserError(
                f"point-semicircle: radius must be between 0 and distance {self.distance:g},"
                f" not {self.radius:g}, or every start would be a goal"
            )

    @property
    def env(self) -> PointEnv:
        return PointEnv(step_size=0.1, radius=None if self.dense else self.radius)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw an angle uniformly from [0, π]; `ood`: from the other half of the circle."""
        angle = jax.random.uniform(key, (), minval=0.0, maxval=math.pi)
        if split == "ood":
            angle = -angle
        return {"goal": self.distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])}

    def context(self, params: Params) -> Array:
        """Return the goal, `[2]`."""
        return params["goal"]


class HeadingEnv(PointEnv):
    """A point that is paid for how far it moves along a heading; params `{"direction": [2]}`, a unit
    vector. No step is longer than `step_size` in any direction: in a square of actions the best one
    would be a corner, whatever the heading."""

    def step(self, key: PRNGKeyArray, state: PointState, action: Array, params: Params):
        """Move by `action`, `[2]` (length units), shortened to `step_size`; the reward is the part of the
        move along the heading, in units of `step_size`."""
        length = jnp.sqrt(jnp.maximum(jnp.sum(action**2), self.step_size**2))
        move = action * self.step_size / length
        position = state.position + move
        reward = jnp.dot(move, params["direction"]) / self.step_size
        no = jnp.asarray(False)
        return position, PointState(position), reward, no, no, {}


class PointDir(AbstractFamily):
    """A point that must go in a heading it is not told, what `ant-dir` is to an ant: the reward is the
    displacement along it, in units of the longest step, 0.1."""

    name: ClassVar[str] = "point-dir"

    arc: float = eqx.field(static=True, default=360.0)
    """Headings lie within half of this on either side of (1, 0) (degrees, at most 360); the rest of the
    circle is `ood`."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode."""

    def __check_init__(self):
        check_arc(self.name, self.arc)

    @property
    def env(self) -> HeadingEnv:
        return HeadingEnv(step_size=0.1)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a heading uniformly from the arc; `ood`: from outside of it."""
        return {"direction": heading(key, split, self.name, self.arc)}

    def context(self, params: Params) -> Array:
        """Return the heading, a unit vector `[2]`."""
        return params["direction"]


class PointConflict(AbstractFamily):
    """Tasks that pull in opposite directions: goals evenly on the circle of radius 1, seen from the same
    places, reward −distance, steps of ±0.1. Only the context, one-hot, says which goal it is."""

    name: ClassVar[str] = "point-conflict"
    finite: ClassVar[bool] = True

    goals: int = eqx.field(static=True, default=2)
    """Goals; two lie opposite each other."""
    only: int | None = eqx.field(static=True, default=None)
    """The number of the one goal that is drawn, from 0; all of them, in turn, if none."""
    horizon: int = eqx.field(static=True, default=20)
    """Steps an episode."""

    def __check_init__(self):
        if self.goals < 1:
            raise UserError(f"{self.name} needs at least one goal, not {self.goals}")
        if self.only is not None and not 0 <= self.only < self.goals:
            raise UserError(
                f"{self.name}: only must be from 0 to {self.goals - 1}, not {self.only}"
            )

    @property
    def env(self) -> PointEnv:
        return PointEnv(step_size=0.1, start_spread=0.1)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw one of the goals, each as likely as the others."""
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the goals in turn, the first of them at random."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it trains on all goals")
        task = jnp.arange(self.goals) if self.only is None else jnp.asarray([self.only])
        task = in_turn(key, task, n)
        angle = task * (2 * math.pi / self.goals)
        goal = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        return {"goal": goal, "task": jax.nn.one_hot(task, self.goals)}

    def context(self, params: Params) -> Array:
        """Return which goal it is, one-hot, `[goals]`."""
        return params["task"]

    @property
    def worlds(self) -> int:
        """The number of goals."""
        return self.goals
