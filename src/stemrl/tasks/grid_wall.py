"""A grid where transfer goes wrong: a wall that only the target has.

The smallest problem of off-dynamics transfer (after Eysenbach et al. 2021, 2006.13916, §4): source
and target are two settings of one family, without and with a wall across the short way to the goal.
What is learned in the source walks into the wall for ever; there is a way round, three times as
long. Moves are uncertain, so that most of what happens could have happened in either, and how much
more often in one of them is known exactly (`log_ratio`).

    ·  ·   ·  ·  ·      the way round
    ·  · ┃ ·  ·  ·
    ·  · ┃ ·  ·  ·
    ·  · ┃ ·  ·  ·
    S  · ┃ ·  ·  G
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractFamily, Discrete, Params, Split, UserError
from ..drawing import Scene, Shape

# Up, right, down, left; the last, to stay, only happens.
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0), (0, 0))
ACTIONS = 4


class WalkerState(eqx.Module):
    """The cell, (x, y)."""

    position: Int[Array, "2"]


class GridWallEnv(eqx.Module):
    """A square grid, with the goal in its lower right corner; params `{"wall": bool, "anywhere":
    bool}`: whether the wall stands, and whether episodes start in any cell but the goal or always
    in the lower left corner, (0, 0).

    Four actions move by one cell, but with probability `slip` what happens is any of the four moves
    or none, each as likely. Edges stop, and so does the wall, which stands left of the middle
    column, up to the top row. Reaching the goal pays 1 and ends the episode, every other step costs
    0.02. The observation is the cell's number, y · size + x.
    """

    size: int = eqx.field(static=True)
    slip: float = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the first cell, observed by its number (int32 scalar): any but the goal, each as
        likely, or the corner, as the params say."""
        # Any number but the goal's, which is size − 1.
        drawn = _one_of(self.size**2 - 1, jax.random.uniform(key))
        drawn = jnp.where(drawn >= self.size - 1, drawn + 1, drawn)
        start = jnp.stack([drawn % self.size, drawn // self.size])
        start = jnp.where(params["anywhere"], start, 0)
        return self.number(start), WalkerState(start)

    def step(self, key: PRNGKeyArray, state: WalkerState, action: Array, params: Params):
        """Move up, right, down or left (`action` 0 to 3, in this order), if chance does not choose.
        The event `success` says whether the goal is reached."""
        # One uniform number says both whether to slip and where to: below `slip`, it is uniform too.
        chance = jax.random.uniform(key)
        slipped = _one_of(len(MOVES), chance / max(self.slip, 1e-6))
        move = jnp.where(chance < self.slip, slipped, action)
        position = self.moved(state.position, move, params["wall"])
        found = jnp.all(position == jnp.asarray([self.size - 1, 0]))
        reward = jnp.where(found, 1.0, -0.02)
        no = jnp.asarray(False)
        return self.number(position), WalkerState(position), reward, found, no, {"success": found}

    def moved(
        self, cell: Int[Array, "2"], move: Int[Array, ""], wall: Bool[Array, ""]
    ) -> Int[Array, "2"]:
        """Return the cell after one of `MOVES`."""
        after = jnp.clip(cell + jnp.asarray(MOVES, jnp.int32)[move], 0, self.size - 1)
        middle = self.size // 2
        across = (cell[0] < middle) != (after[0] < middle)
        return jnp.where(wall & across & (cell[1] < self.size - 1), cell, after)

    def number(self, cell: Int[Array, "2"]) -> Int[Array, ""]:
        """Return the cell's number."""
        return cell[1] * self.size + cell[0]

    def observation_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the cell's number, 0 to `size`² − 1."""
        return Discrete(self.size**2)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the four moves."""
        return Discrete(ACTIONS)


class GridWall(AbstractFamily):
    """One grid, with a wall across the short way to the goal or without: off-dynamics transfer at its
    smallest, after DARC (2006.13916, §4).

    As a problem of transfer, the source has no wall and the target is `GridWall(wall=True)`. Training
    episodes start anywhere, so that there is data of every cell; tests start in the corner, from
    where the short way leads through the wall. What DARC's classifiers estimate is known exactly
    (`log_ratio`).
    """

    name: ClassVar[str] = "grid-wall"
    finite: ClassVar[bool] = True

    wall: bool = eqx.field(static=True, default=False)
    """Whether the wall stands."""
    size: int = eqx.field(static=True, default=5)
    """Cells along a side."""
    slip: float = eqx.field(static=True, default=0.25)
    """Probability that chance chooses what happens."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode."""

    def __check_init__(self):
        if self.size < 3:
            raise UserError(f"grid-wall needs size at least 3, not {self.size}")
        if not 0 <= self.slip <= 1:
            raise UserError(f"grid-wall: slip is a probability, not {self.slip}")

    @property
    def env(self) -> GridWallEnv:
        return GridWallEnv(self.size, self.slip)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the one task of each split."""
        if split == "ood":
            raise UserError("the family 'grid-wall' has no split 'ood': it is one grid")
        return {"wall": jnp.asarray(self.wall), "anywhere": jnp.asarray(split == "train")}

    def context(self, params: Params) -> Float[Array, "1"]:
        """Return whether the wall stands, 0 or 1, `[1]`."""
        return params["wall"].astype(jnp.float32)[None]

    def terminal(self) -> Bool[Array, " cells"]:
        """Return whether a step into the cell ends the episode, of each cell: the goal's does."""
        return jnp.arange(self.size**2) == self.size - 1

    def transition_probabilities(self) -> Float[Array, "cells actions cells"]:
        """Return p(s′ | s, a), exactly. (What follows the goal, which ends the episode, is as if it
        went on.)"""
        env, size = self.env, self.size
        cells = jnp.stack([jnp.arange(size**2) % size, jnp.arange(size**2) // size], 1)
        moves, wall = jnp.arange(len(MOVES)), jnp.asarray(self.wall)

        def after(cell: Array) -> Float[Array, "moves cells"]:
            reached = jax.vmap(lambda move: env.number(env.moved(cell, move, wall)))(moves)
            return jax.nn.one_hot(reached, size**2)

        reached = jax.vmap(after)(cells)
        chance = jnp.mean(reached, axis=1, keepdims=True)
        return (1.0 - self.slip) * reached[:, :ACTIONS] + self.slip * chance

    def draw(self, params: Params, states: Any) -> Scene:
        """Draw the grid, the wall where there is one, and the walker."""
        size, position = self.size, np.asarray(states.position, float)
        goal = np.asarray([[[size - 1.0, 0.0]]])
        shapes = [
            *(
                Shape("square", np.asarray([[[x, y]]], float), 0.46, "cell")
                for x in range(size)
                for y in range(size)
            ),
            Shape("square", goal, 0.46, "goal"),
        ]
        if params["wall"]:
            x, top = size // 2 - 0.5, size - 1.5
            shapes.append(Shape("band", np.asarray([[[x, -0.5], [x, top]]]), 0.06, "wall"))
        shapes += [
            Shape("trail", position[:, None], 0.05, "near"),
            Shape("disc", position[:, None], 0.28, "body"),
        ]
        middle = np.full((1, 2), (size - 1) / 2)
        return Scene(shapes, middle, (size * 1.15, size * 1.15), 0.25, len(position))


def _one_of(n: int, uniform: Float[Array, ""]) -> Int[Array, ""]:
    """0 to n − 1, each as likely, by a number that is uniform in [0, 1)."""
    return jnp.minimum((uniform * n).astype(jnp.int32), n - 1)


def log_ratio(source: GridWall, target: GridWall) -> Float[Array, "cells actions cells"]:
    """Return log p_target(s′|s, a) − log p_source(s′|s, a): what DARC's Δr estimates. −∞ where only
    the source can go, ∞ where only the target can, NaN where neither can."""
    return jnp.log(target.transition_probabilities()) - jnp.log(source.transition_probabilities())
