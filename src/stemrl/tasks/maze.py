"""Random mazes with a hidden goal, for what a whole trial's memory is good for (as in RL², 1611.02779,
§3.3, and SNAIL, 1707.03141, §5.2.4, whose mazes were seen in pictures; here the view is a few
numbers).

The agent sees only the walls next to it, and each trial is another maze. In the first episode it has
to search; in the later ones it starts again at the same place, and whoever remembers the way walks
there directly.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ..core import AbstractFamily, Box, Discrete, Params, Split, UserError
from ..drawing import Scene, Shape

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Up, right, down, left."""
LOOPS = 0.3
"""Share of the inner walls that are broken through in mazes of the ood split."""


class MazeState(eqx.Module):
    """Where the agent is and how it came there."""

    position: Int[Array, "2"]
    move: Int[Array, ""]
    """The last action, 0 to 3; 4 at the start of an episode."""


class MazeEnv(eqx.Module):
    """A maze of blocks; params `{"walls": bool [side, side], "start": [2], "goal": [2]}`. Four actions
    move by one block, walls stop. The reward is −`step_cost`, and 1 more at the goal, which ends the
    episode. The observation says which of the 8 blocks around the agent are walls, and what the last
    action was."""

    cells: int = eqx.field(static=True)
    step_cost: float = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Begin at the start; nothing is random."""
        state = MazeState(params["start"], jnp.full((), len(MOVES), jnp.int32))
        return _view(state, params), state

    def step(self, key: PRNGKeyArray, state: MazeState, action: Array, params: Params):
        """Move up, right, down or left (`action` 0 to 3); no randomness in it.

        Events: `success` (at the goal), `blocked` (a wall was there), `cell` (the block's number, its
        row by column, to be counted by) and `dead_end` (the agent has just entered a block with one
        way out, not the goal).
        """
        moved = state.position + jnp.asarray(MOVES, jnp.int32)[action]
        blocked = params["walls"][tuple(moved)]
        position = jnp.where(blocked, state.position, moved)
        found = jnp.all(position == params["goal"])
        ways = jnp.sum(~params["walls"][tuple((position + jnp.asarray(MOVES, jnp.int32)).T)])
        events = {
            "success": found,
            "blocked": blocked,
            "cell": position[0] * params["walls"].shape[0] + position[1],
            "dead_end": ~blocked & (ways == 1) & ~found,
        }
        reward = found.astype(jnp.float32) - self.step_cost
        after = MazeState(position, action.astype(jnp.int32))
        return _view(after, params), after, reward, found, jnp.asarray(False), events

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of 8 walls (1) or ways (0) around the agent, row by row, then the last
        action one-hot with none as the fifth: `[13]`."""
        return Box((8 + len(MOVES) + 1,), 0.0, 1.0)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the four moves."""
        return Discrete(len(MOVES))


class Maze(AbstractFamily):
    """A maze of its own for every task: a tree of corridors, a start, and a hidden goal at least half
    as far away as the furthest place."""

    name: ClassVar[str] = "maze"

    cells: int = eqx.field(static=True, default=4)
    """Cells along a side; with the blocks between them the maze is 2 · cells − 1 blocks wide."""
    step_cost: float = eqx.field(static=True, default=0.02)
    """What each step costs; the goal pays 1."""
    horizon: int = eqx.field(static=True, default=60)
    """Steps an episode (60 suffice to walk through all of a maze of 4×4 cells)."""

    def __check_init__(self):
        if self.cells < 2:
            raise UserError(f"a maze needs at least 2 cells along a side, not cells={self.cells}")

    @property
    def trial_episodes(self) -> int:
        """2: one to search, one to show what is remembered."""
        return 2

    @property
    def env(self) -> MazeEnv:
        return MazeEnv(self.cells, self.step_cost)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a random spanning tree of the cells; `ood`: with loops, as some walls are broken
        through."""
        tree_key, loop_key, start_key, goal_key = jax.random.split(key, 4)
        walls = random_walls(tree_key, loop_key, self.cells, LOOPS if split == "ood" else 0.0)
        start = 1 + 2 * jax.random.randint(start_key, (2,), 0, self.cells)
        far = distances(walls, start)
        cell = 1 + 2 * jnp.arange(self.cells)
        places = jnp.stack(jnp.meshgrid(cell, cell, indexing="ij"), -1).reshape(-1, 2)
        away = far[tuple(places.T)]
        allowed = jnp.where(2 * away >= jnp.max(away), 0.0, -jnp.inf)
        goal = places[jax.random.categorical(goal_key, allowed)]
        return {
            "walls": walls,
            "start": start.astype(jnp.int32),
            "goal": goal.astype(jnp.int32),
        }

    def context(self, params: Params) -> Array:
        """Return the whole maze (1 where there is a wall), row by row, then start and goal."""
        walls = params["walls"].astype(jnp.float32).ravel()
        places = jnp.concatenate([params["start"], params["goal"]]).astype(jnp.float32)
        return jnp.concatenate([walls, places])

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the maze and the agent's way through it."""
        position = np.asarray(states.position, float)
        blocks = np.argwhere(np.asarray(params["walls"])).astype(float)
        start, goal = (np.asarray(params[name], float)[None, None] for name in ("start", "goal"))
        shapes = [
            *(Shape("square", block[None, None], 0.5, "wall") for block in blocks),
            Shape("square", start, 0.4, "start"),
            Shape("square", goal, 0.4, "goal"),
            Shape("trail", position[:, None], 0.06, "near"),
            Shape("disc", position[:, None], 0.3, "body"),
        ]
        side = params["walls"].shape[0]
        middle = np.full((1, 2), (side - 1) / 2)
        return Scene(shapes, middle, (side * 1.05, side * 1.05), 0.2, len(position))


def random_walls(
    tree_key: PRNGKeyArray, loop_key: PRNGKeyArray, cells: int, loops: float
) -> Bool[Array, "side side"]:
    """Return the walls of a maze of `cells` × `cells` cells with a border, `side` = 2 · `cells` + 1: a minimum
    spanning tree under random weights (Prim's algorithm), and each wall between two cells that is
    left broken through with probability `loops`."""
    number = np.arange(cells * cells).reshape(cells, cells)
    ends = np.concatenate(
        [
            np.stack([number[:-1], number[1:]], -1).reshape(-1, 2),
            np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2),
        ]
    )
    one, other = jnp.asarray(ends.T)
    weights = jax.random.uniform(tree_key, (len(ends),))

    def join(_, reached_and_open):
        reached, is_open = reached_and_open
        crosses = reached[one] != reached[other]
        chosen = jnp.argmin(jnp.where(crosses, weights, jnp.inf))
        reached = reached.at[one[chosen]].set(True).at[other[chosen]].set(True)
        return reached, is_open.at[chosen].set(True)

    reached = jnp.zeros(cells * cells, bool).at[0].set(True)
    is_open = jnp.zeros(len(ends), bool)
    _, is_open = jax.lax.fori_loop(0, cells * cells - 1, join, (reached, is_open))
    is_open |= jax.random.bernoulli(loop_key, loops, (len(ends),))
    places = 1 + 2 * np.stack(np.unravel_index(np.arange(cells * cells), (cells, cells)), -1)
    between = places[ends].sum(1) // 2
    walls = jnp.ones((2 * cells + 1, 2 * cells + 1), bool)
    walls = walls.at[tuple(places.T)].set(False)
    return walls.at[tuple(between.T)].set(~is_open)


def distances(walls: Bool[Array, "side side"], place: Int[Array, "2"]) -> Int[Array, "side side"]:
    """Return the number of steps from every block to `place`. A block without a way to it gets more
    than there are blocks."""
    never = walls.size + 1
    first = jnp.full(walls.shape, never).at[tuple(place)].set(0)

    def relax(_, steps):
        near = [jnp.roll(steps, move, (0, 1)) for move in MOVES]  # the border is all wall
        closer = jnp.minimum(steps, jnp.min(jnp.stack(near), axis=0) + 1)
        return jnp.where(walls, never, closer)

    return jax.lax.fori_loop(0, walls.size // 2, relax, first)


def _view(state: MazeState, params: Params) -> Array:
    corner = state.position - 1
    patch = jax.lax.dynamic_slice(params["walls"], tuple(corner), (3, 3)).reshape(-1)
    around = jnp.concatenate([patch[:4], patch[5:]]).astype(jnp.float32)
    return jnp.concatenate([around, jax.nn.one_hot(state.move, len(MOVES) + 1)])
