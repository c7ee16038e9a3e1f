"""A point among walls: several ways to one goal, or one goal after the other.

`point-maze` is the smallest problem in which a policy that explored too little cannot be mended: from
start to goal lead three ways, of which the middle one is the shortest, and any of them can be shut.
Who knows one way alone stands before a wall when it is shut; who kept going all of them (maximum
entropy, as in Haarnoja et al. 2017, 1702.08165, §5.2) takes another. `point-maze-goals` is the same
kind of world with goals all over it, for what learns to reach them.
"""

import functools
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractFamily, AbstractGoalFamily, Box, Params, Split, UserError
from ..drawing import Scene, Shape

Layout = Literal["ways", "rooms", "spiral", "u"]
LAYOUTS: dict[str, tuple[str, ...]] = {
    "ways": (
        "###########",
        "#   ###   #",
        "#    u    #",
        "#   ###   #",
        "#S   m   G#",
        "#   ###   #",
        "#    l    #",
        "#   ###   #",
        "###########",
    ),
    "rooms": (
        "#############",
        "#     #     #",
        "#     #     #",
        "#           #",
        "#     #     #",
        "#     #     #",
        "## ####     #",
        "#     ### ###",
        "#     #     #",
        "#     #     #",
        "#           #",
        "#S    #     #",
        "#############",
    ),
    "spiral": (
        "###########",
        "#         #",
        "# ####### #",
        "# #     # #",
        "# # ### # #",
        "# # #S  # #",
        "# # ##### #",
        "# #       #",
        "# #########",
        "#        G#",
        "###########",
    ),
    "u": (
        "#####",
        "#G  #",
        "### #",
        "#S  #",
        "#####",
    ),
}
"""Mazes as text, the top row first: `#` walls, `S` start, `G` goal, `u`, `m` and `l` the places where
the upper, the middle and the lower way can be shut."""
WAYS = ("upper", "middle", "lower")
Closed = Literal["none", "upper", "middle", "lower"]
Reward = Literal["sparse", "dense"]

GIRTH = 0.1
"""Half the point's own width (cells), so that it fits through no crack."""


class World(NamedTuple):
    """A layout in the plane: its longer side is 2 long, its middle the origin."""

    cell: float
    """Side of a cell (length units)."""
    extent: tuple[float, float]
    """Half its width and height."""
    blocks: np.ndarray
    """Walls as the point's centre meets them, `[blocks, 4]`: left, bottom, right, top. The last
    ones are the gates, in the order of `WAYS`."""
    gates: int
    start: np.ndarray
    """`[2]`"""
    goal: np.ndarray
    """`[2]`; that of the layout where it has one, else its start."""
    free: np.ndarray
    """Middles of the cells that are not walls, `[cells, 2]`."""
    walls: np.ndarray
    """Middles of those that are, to be drawn, `[walls, 2]`."""
    gate: np.ndarray
    """Middles of the gates, `[gates, 2]`."""


@functools.cache
def world_of(layout: str) -> World:
    """Return the world of a layout."""
    rows = LAYOUTS[layout]
    height, width = len(rows), len(rows[0])
    cell = 2.0 / max(height, width)

    def middles(marks: str) -> np.ndarray:
        found = [
            (c, height - 1 - r)
            for r, row in enumerate(rows)
            for c in range(width)
            if row[c] in marks
        ]
        return (np.asarray(found, float).reshape(-1, 2) + 0.5 - [width / 2, height / 2]) * cell

    def blocks() -> list[np.ndarray]:
        # A run of walls along a row is one block.
        found = []
        for r, row in enumerate(rows):
            c = 0
            while c < width:
                length = len(row[c:]) - len(row[c:].lstrip("#"))
                if length:
                    low = np.asarray([c, height - 1 - r])
                    found.append(np.concatenate([low, low + np.asarray([length, 1])]))
                c += max(length, 1)
        return found

    gate = np.concatenate([middles(mark) for mark in "uml"])
    corners = (np.asarray(blocks(), float) - [width / 2, height / 2] * 2) * cell
    corners = np.concatenate([corners, np.concatenate([gate - cell / 2, gate + cell / 2], 1)])
    swollen = corners + GIRTH * cell * np.asarray([-1, -1, 1, 1])
    start = middles("S")[0]
    goal = middles("G")
    return World(
        cell=cell,
        extent=(width * cell / 2, height * cell / 2),
        blocks=swollen.astype(np.float32),
        gates=len(gate),
        start=start.astype(np.float32),
        goal=(goal[0] if len(goal) else start).astype(np.float32),
        free=middles(" SGuml").astype(np.float32),
        walls=middles("#"),
        gate=gate.astype(np.float32),
    )


class PointMazeState(eqx.Module):
    """Where the point is."""

    position: Float[Array, "2"]


class PointMazeEnv(eqx.Module):
    """A point that moves by its action and slides along walls; params `{"goal": [2]}` and, where
    the layout has gates, `"closed"`, bool `[gates]`.

    Lengths are such that the longer side of the maze is 2. The reward is, if it is `dense`, minus the
    distance to the goal after the step; else −1, and 0 for the step that comes within `tolerance` of
    it. That ends the episode either way. The observation is the position.
    """

    layout: Layout = eqx.field(static=True)
    reward_type: Reward = eqx.field(static=True)
    stride: float = eqx.field(static=True)
    """The longest step (cells)."""
    tolerance: float = eqx.field(static=True)
    """How near to the goal is there (cells)."""
    anywhere: bool = eqx.field(static=True, default=False)
    """Whether episodes start anywhere; else within a fifth of a cell of the layout's start."""

    @property
    def world(self) -> World:
        """The layout in the plane."""
        return world_of(self.layout)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the first position, `[2]`."""
        world = self.world
        cell_key, place_key = jax.random.split(key)
        position = jnp.asarray(world.start)
        if self.anywhere:
            position = jax.random.choice(cell_key, jnp.asarray(world.free))
        spread = (0.4 if self.anywhere else 0.2) * world.cell
        position += jax.random.uniform(place_key, (2,), minval=-spread, maxval=spread)
        return position, PointMazeState(position)

    def step(self, key: PRNGKeyArray, state: PointMazeState, action: Array, params: Params):
        """Move by `action`, `[2]` (length units, shortened to one stride), as far as the walls let it,
        first across, then up or down; no randomness in it.

        Events: `success` (at the goal), `blocked` (a wall was in the way), `cell` (the number of the
        cell, row by row from the bottom, to be counted by), and where there are gates `way` (the one
        that the point is in, 0 to 2 for the upper, middle and lower; else −1).
        """
        world = self.world
        solid = jnp.ones(len(world.blocks), bool)
        if world.gates:
            solid = solid.at[-world.gates :].set(params["closed"])
        length = jnp.sqrt(jnp.sum(action**2))
        move = action * jnp.minimum(1.0, self.stride * world.cell / jnp.maximum(length, 1e-9))
        position = slide(state.position, move, jnp.asarray(world.blocks), solid)
        reward, found = self.judge(position, params["goal"])
        aimed = state.position + move
        width = round(2 * world.extent[0] / world.cell)
        column, row = jnp.floor((position + jnp.asarray(world.extent)) / world.cell)
        events = {
            "success": found,
            "blocked": jnp.any(position != aimed),
            "cell": (row * width + column).astype(jnp.int32),
        }
        if world.gates:
            inside = jnp.max(jnp.abs(position - world.gate), axis=1) < world.cell / 2
            events["way"] = jnp.where(jnp.any(inside), jnp.argmax(inside), -1).astype(jnp.int32)
        no = jnp.asarray(False)
        return position, PointMazeState(position), reward, found, no, events

    def judge(self, position: Array, goal: Array) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """Return the reward of a step that ended at `position`, and whether that is the goal."""
        distance = jnp.sqrt(jnp.sum((position - goal) ** 2))
        found = distance < self.tolerance * self.world.cell
        if self.reward_type == "dense":
            return -distance, found
        return jnp.where(found, 0.0, -1.0), found

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the position, `[2]`, within ±1."""
        return Box((2,), -1.0, 1.0)

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the move, `[2]`, entries within ± `stride` cells."""
        longest = self.stride * self.world.cell
        return Box((2,), -longest, longest)


class AbstractPointMaze(AbstractFamily):
    """What both families share."""

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the maze from above, shut gates among its walls, and the point's way through it."""
        env: Any = self.env
        world: World = env.world
        position = np.asarray(states.position, float)
        side = world.cell / 2
        gates = world.gate[np.asarray(params.get("closed", []), bool)]
        shapes = [
            *(Shape("square", at[None, None], side, "wall") for at in world.walls),
            *(Shape("square", at[None, None], 0.8 * side, "far") for at in gates),
            Shape("disc", world.start[None, None], 0.5 * side, "start"),
            Shape(
                "disc", np.asarray(params["goal"])[None, None], env.tolerance * world.cell, "goal"
            ),
            Shape("trail", position[:, None], 0.1 * side, "near"),
            Shape("disc", position[:, None], 0.4 * side, "body"),
        ]
        window = (2.1 * world.extent[0], 2.1 * world.extent[1])
        return Scene(shapes, np.zeros((1, 2)), window, 0.1, len(position))


class PointMaze(AbstractPointMaze):
    """Three ways to one goal, the middle one the shortest: what becomes of a policy when its way is
    shut.

    As a problem of transfer, the source is the family as it is and the target is
    `PointMaze(closed="middle")`. The other two are an eighth longer.
    """

    name: ClassVar[str] = "point-maze"
    finite: ClassVar[bool] = True

    closed: Closed = eqx.field(static=True, default="none")
    """Which way is shut: none, upper, middle (the best) or lower."""
    reward_type: Reward = eqx.field(static=True, default="sparse")
    """sparse: −1 a step until the goal is reached; dense: minus the distance to it, through walls."""
    stride: float = eqx.field(static=True, default=1.0)
    """The longest step (cells)."""
    horizon: int = eqx.field(static=True, default=60)
    """Steps an episode (the shortest way takes 8; random steps get there in 6% of episodes)."""

    def __check_init__(self):
        _one_of(self.name, "closed", self.closed, get_args(Closed))
        _one_of(self.name, "reward_type", self.reward_type, get_args(Reward))
        if not self.stride > 0:
            raise UserError(f"{self.name}: stride must be above 0, not {self.stride}")

    @property
    def env(self) -> PointMazeEnv:
        return PointMazeEnv("ways", self.reward_type, self.stride, tolerance=0.75)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the one task, the same in training and test."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it is one maze")
        closed = jnp.asarray([way == self.closed for way in WAYS])
        return {"goal": jnp.asarray(self.env.world.goal), "closed": closed}

    def context(self, params: Params) -> Float[Array, "3"]:
        """Return which ways are shut, 0 or 1: upper, middle, lower."""
        return params["closed"].astype(jnp.float32)


class PointMazeGoals(AbstractPointMaze, AbstractGoalFamily):
    """Goals anywhere in a maze, each as likely by area; whoever is told the goal sees it as the
    context."""

    name: ClassVar[str] = "point-maze-goals"

    layout: Layout = eqx.field(static=True, default="rooms")
    """The maze: rooms (four), spiral (one long corridor), u, or ways (those of point-maze)."""
    reward_type: Reward = eqx.field(static=True, default="sparse")
    """sparse: −1 a step until the goal is reached; dense: minus the distance to it, through walls."""
    anywhere: bool = eqx.field(static=True, default=False)
    """Whether episodes start anywhere, not always in the same place."""
    stride: float = eqx.field(static=True, default=1.0)
    """The longest step (cells)."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode (to the furthest goal it takes about 18 in the rooms, 48 in the spiral)."""

    def __check_init__(self):
        _one_of(self.name, "layout", self.layout, tuple(LAYOUTS))
        _one_of(self.name, "reward_type", self.reward_type, get_args(Reward))
        if not self.stride > 0:
            raise UserError(f"{self.name}: stride must be above 0, not {self.stride}")

    @property
    def env(self) -> PointMazeEnv:
        return PointMazeEnv(
            self.layout, self.reward_type, self.stride, tolerance=0.5, anywhere=self.anywhere
        )

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal, anywhere that is not wall; the same in training and test. No way is shut."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it trains on all goals")
        cell_key, place_key = jax.random.split(key)
        world = self.env.world
        spread = 0.4 * world.cell
        goal = jax.random.choice(cell_key, jnp.asarray(world.free))
        goal += jax.random.uniform(place_key, (2,), minval=-spread, maxval=spread)
        open_all = {"closed": jnp.zeros(world.gates, bool)} if world.gates else {}
        return {"goal": goal, **open_all}

    def context(self, params: Params) -> Float[Array, "2"]:
        """Return the goal."""
        return params["goal"]

    @property
    def goal_space(self) -> Box:
        """The box around the maze, walls and all: `[2]`, within ±1."""
        return Box((2,), -1.0, 1.0)

    def achieved(self, obs: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the position: every place is a goal."""
        return obs

    def with_goal(self, params: Params, goal: Float[Array, "2"]) -> Params:
        """Return the same maze with this goal."""
        return {**params, "goal": goal}

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        """Return the reward and the end by where the step ended."""
        return self.env.judge(next_obs, params["goal"])


def slide(
    position: Float[Array, "2"],
    move: Float[Array, "2"],
    blocks: Float[Array, "blocks 4"],
    solid: Bool[Array, " blocks"],
) -> Float[Array, "2"]:
    """Return `position + move`, stopped by the first face of a solid block in either direction,
    first along x, then along y. However long the step, nothing is jumped over."""
    low, high = blocks[:, :2], blocks[:, 2:]
    for axis in (0, 1):
        other = 1 - axis
        beside = solid & (low[:, other] < position[other]) & (position[other] < high[:, other])
        here = position[axis]
        nearest = jnp.where(beside & (here <= low[:, axis]), low[:, axis], jnp.inf)
        furthest = jnp.where(beside & (here >= high[:, axis]), high[:, axis], -jnp.inf)
        there = jnp.clip(here + move[axis], jnp.max(furthest), jnp.min(nearest))
        position = position.at[axis].set(there)
    return position


def _one_of(family: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{family}: {name} must be one of {', '.join(known)}, not {value!r}")
