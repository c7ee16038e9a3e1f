"""A slippery grid whose every cell can be the goal: goal-conditioned learning where all is known.

After Kaelbling 1993 ("Learning to achieve goals": a grid, four uncertain moves, any cell to be
reached from any other) and the rooms of Schaul et al. 2015 (UVFA). A cell is at once a state and a
goal, so a table of distances between all pairs is small and its exact entries are known
(`transition_probabilities`). Some goals are never assigned in training: they are the split `ood`.

    rooms:   ·  ·  ·  ·  ·  │  ·  ·  ·  ·
             ·  ·  ·  ·  ·     ·  ·  ·  ·      doors in the four arms of the cross
             ─  ─     ─  ─  ┼  ─     ─  ─
"""

from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Discrete, Params, Split, UserError
from ..drawing import Scene, Shape
from .grid_wall import ACTIONS, MOVES

Layout = Literal["open", "rooms"]
"""No walls, or four rooms with a door between neighbors."""
Observed = Literal["number", "position"]
"""A cell's number, or its coordinates."""
Withheld = Literal["none", "scattered", "room"]
"""Which goals training never assigns."""


class GoalGridEnv(eqx.Module):
    """A square grid; params `{"goal": cell number}`.

    Four actions move by one cell; with probability `slip` chance chooses the move, each of the four
    as likely. Edges and walls stop. Every step costs 1 but for the one that enters the goal, which
    costs nothing and ends the episode. An episode starts in any cell; where that is the goal, it
    must be left and entered again.
    """

    family: "GoalGrid"

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return a free cell, each as likely; the state is its number (int32 scalar)."""
        free = jnp.asarray(self.family.free)
        state = free[jax.random.randint(key, (), 0, free.shape[0])]
        return self.family.observation_of(state), state

    def step(self, key: PRNGKeyArray, state: Int[Array, ""], action: Array, params: Params):
        """Move up, right, down or left (`action` 0 to 3). The event `success` says whether that
        entered the goal."""
        slip_key, move_key = jax.random.split(key)
        slipped = jax.random.bernoulli(slip_key, self.family.slip)
        move = jnp.where(slipped, jax.random.randint(move_key, (), 0, ACTIONS), action)
        state = jnp.asarray(self.family.after)[state, move]
        found = state == params["goal"]
        no = jnp.asarray(False)
        reward = jnp.where(found, 0.0, -1.0)
        return self.family.observation_of(state), state, reward, found, no, {"success": found}

    def observation_space(self, params: Params | None = None) -> Discrete | Box:
        """Return the space of the cell's number, or its coordinates, each in [−1, 1]."""
        if self.family.observed == "number":
            return Discrete(self.family.states)
        return Box((2,), -1.0, 1.0)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the four moves."""
        return Discrete(ACTIONS)


class GoalGrid(AbstractGoalFamily):
    """A slippery grid in which any cell can be the goal, sparse reward; some goals may be withheld
    from training (split `ood`)."""

    name: ClassVar[str] = "goal-grid"

    size: int = eqx.field(static=True, default=10)
    """Cells along a side."""
    layout: Layout = eqx.field(static=True, default="open")
    """open, or rooms: four of them, with a door between neighbors."""
    slip: float = eqx.field(static=True, default=0.2)
    """Probability that chance chooses the move."""
    withheld: Withheld = eqx.field(static=True, default="scattered")
    """Goals that training never assigns: none, scattered (every third cell), or room (the upper right
    quarter)."""
    observed: Observed = eqx.field(static=True, default="number")
    """What is observed of a cell: its number, or its position."""
    horizon: int = eqx.field(static=True, default=60)
    """Steps an episode."""

    def __check_init__(self):
        if self.size < 4:
            raise UserError(f"goal-grid needs size at least 4, not {self.size}")
        if not 0 <= self.slip < 1:
            raise UserError(f"goal-grid: slip is a probability below 1, not {self.slip}")
        for what, kind in (("layout", Layout), ("withheld", Withheld), ("observed", Observed)):
            if getattr(self, what) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise UserError(
                    f"goal-grid: {what} must be one of {known}, not {getattr(self, what)!r}"
                )

    @property
    def env(self) -> GoalGridEnv:
        return GoalGridEnv(self)

    @property
    def states(self) -> int:
        """Cells, walls included; a cell's number is y · size + x."""
        return self.size**2

    @property
    def walls(self) -> Bool[np.ndarray, " cells"]:
        """Which cells are wall."""
        wall = np.zeros((self.size, self.size), bool)
        if self.layout == "rooms":
            middle = self.size // 2
            wall[middle, :] = wall[:, middle] = True
            near, far = middle // 2, middle + 1 + (self.size - middle - 1) // 2
            for door in (near, far):
                wall[middle, door] = wall[door, middle] = False
        return wall.reshape(-1)

    @property
    def free(self) -> Int[np.ndarray, " free"]:
        """The numbers of the cells that are no wall."""
        return np.flatnonzero(~self.walls).astype(np.int32)

    @property
    def after(self) -> Int[np.ndarray, "cells actions"]:
        """The cell that each move leads to when chance does not interfere."""
        cells = np.stack([np.arange(self.states) % self.size, np.arange(self.states) // self.size])
        moves = np.asarray(MOVES[:ACTIONS]).T
        x, y = np.clip(cells[:, :, None] + moves[:, None, :], 0, self.size - 1)
        reached = y * self.size + x
        return np.where(self.walls[reached], np.arange(self.states)[:, None], reached).astype(
            np.int32
        )

    @property
    def assigned(self) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " withheld"]]:
        """The goals that training assigns, and those that it does not."""
        free = self.free
        x, y = free % self.size, free // self.size
        out = {
            "none": np.zeros(len(free), bool),
            "scattered": (x + 2 * y) % 3 == 0,
            "room": (x > self.size // 2) & (y > self.size // 2),
        }[self.withheld]
        return free[~out], free[out]

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal, each as likely: one of those assigned in training for `train` and `test`,
        one of those withheld for `ood`."""
        goals = self.assigned[split == "ood"]
        if not len(goals):
            raise UserError("goal-grid with withheld 'none' has no split 'ood': it trains on all")
        return {"goal": jnp.asarray(goals)[jax.random.randint(key, (), 0, len(goals))]}

    def context(self, params: Params) -> Float[Array, " size"]:
        """Return the goal as it would be observed: one-hot `[cells]`, or its position `[2]`."""
        if self.observed == "number":
            return jax.nn.one_hot(params["goal"], self.states)
        return self.observation_of(params["goal"])

    @property
    def goal_space(self) -> Discrete:
        """The number of a cell."""
        return Discrete(self.states)

    def observation_of(self, cell: Int[Array, "..."]) -> Array:
        """Return what is observed in a cell: its number, or its position `[…, 2]`."""
        if self.observed == "number":
            return jnp.asarray(cell, jnp.int32)
        position = jnp.stack([cell % self.size, cell // self.size], -1)
        return 2.0 * position / (self.size - 1) - 1.0

    def achieved(self, obs: Array) -> Int[Array, ""]:
        """Return the number of the cell that was observed: every free cell is a goal."""
        if self.observed == "number":
            return obs
        x, y = jnp.round((obs + 1.0) / 2.0 * (self.size - 1)).astype(jnp.int32)
        return y * self.size + x

    def with_goal(self, params: Params, goal: Int[Array, ""]) -> Params:
        """Return a task with this goal; the parameters are the goal and nothing else."""
        return {"goal": goal}

    def reward(
        self, obs: Array, action: Array, next_obs: Array, params: Params
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """Return 0 and the end where the goal was entered, else −1."""
        found = self.achieved(next_obs) == params["goal"]
        return jnp.where(found, 0.0, -1.0), found

    def transition_probabilities(self) -> Float[Array, "cells actions cells"]:
        """Return p(s′ | s, a), exactly, as if no goal ended the episode."""
        reached = jax.nn.one_hot(jnp.asarray(self.after), self.states)
        chance = jnp.mean(reached, axis=1, keepdims=True)
        return (1.0 - self.slip) * reached + self.slip * chance

    def draw(self, params: Params, states: Any) -> Scene:
        """Draw the grid, its walls, the goal and the way that was taken."""
        size, cells = self.size, np.asarray(states)
        position = np.stack([cells % size, cells // size], 1).astype(float)
        goal = int(params["goal"])
        shapes = [
            Shape(
                "square",
                np.asarray([[[n % size, n // size]]], float),
                0.46,
                "goal" if n == goal else "cell",
            )
            for n in self.free.tolist()
        ]
        shapes += [
            Shape("trail", position[:, None], 0.05, "near"),
            Shape("disc", position[:, None], 0.28, "body"),
        ]
        middle = np.full((1, 2), (size - 1) / 2)
        return Scene(shapes, middle, (size * 1.15, size * 1.15), 0.2, len(position))
