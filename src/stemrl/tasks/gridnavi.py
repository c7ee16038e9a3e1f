"""VariBAD's grid (1910.08348, §5.1, in the setting of the authors' code): a goal that must be
searched for in the first episode and can be walked to in the later ones.

Knowing the goal earns 11.071 an episode on average; the Bayes-optimal searcher 4.000 in its first
episode and 11.071 in each later one.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import AbstractFamily, Box, Discrete, Params, Split, UserError

# Stay, up, right, down, left.
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


class GridState(eqx.Module):
    """The cell, (x, y)."""

    position: Int[Array, "2"]


class GridEnv(eqx.Module):
    """A square grid; params `{"goal": [2]}` (an integer cell). Episodes begin at `start`, five
    actions stay or move by one cell, walls stop; the reward is 1 on the goal after the step and
    `elsewhere` on other cells, and the goal does not end the episode. The observation is the cell."""

    size: int = eqx.field(static=True)
    start: tuple[int, int] = eqx.field(static=True, default=(0, 0))
    """The first cell of an episode."""
    elsewhere: float = eqx.field(static=True, default=-0.1)
    """The reward where the goal is not."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the first cell, observed as float32 `[2]`; nothing is random."""
        position = jnp.asarray(self.start, jnp.int32)
        return position.astype(jnp.float32), GridState(position)

    def step(self, key: PRNGKeyArray, state: GridState, action: Array, params: Params):
        """Stay, or move up, right, down or left (`action` 0 to 4, in this order); no randomness in
        it. The event `success` says whether the new cell is the goal."""
        moved = state.position + jnp.asarray(MOVES, jnp.int32)[action]
        position = jnp.clip(moved, 0, self.size - 1)
        found = jnp.all(position == params["goal"])
        reward = jnp.where(found, 1.0, self.elsewhere)
        no = jnp.asarray(False)
        events = {"success": found}
        return position.astype(jnp.float32), GridState(position), reward, no, no, events

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the cell (x, y), `[2]`, entries 0 to `size` − 1."""
        return Box((2,), 0.0, float(self.size - 1))

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the five moves."""
        return Discrete(len(MOVES))


class GridNavi(AbstractFamily):
    """A hidden goal on a grid (VariBAD, 1910.08348, §5.1), anywhere but the four cells nearest the
    start: 21 goals on 5×5, so the test tasks are the training tasks."""

    name: ClassVar[str] = "gridnavi"
    finite: ClassVar[bool] = True

    size: int = eqx.field(static=True, default=5)
    """Cells along a side."""
    horizon: int = eqx.field(static=True, default=15)
    """Steps an episode."""

    def __check_init__(self):
        if self.size < 3:
            raise UserError(f"gridnavi needs size at least 3, not {self.size}")

    @property
    def trial_episodes(self) -> int:
        """4, as in the paper."""
        return 4

    @property
    def env(self) -> GridEnv:
        return GridEnv(self.size)

    def goals(self, split: Split) -> Int[Array, "goals 2"]:
        """Return every goal of a split, row by row; `ood`: the three cells beside the start."""
        cells = [(x, y) for x in range(self.size) for y in range(self.size) if (x, y) != (0, 0)]
        near = split == "ood"
        return jnp.asarray([cell for cell in cells if (max(cell) < 2) == near], jnp.int32)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal of the split, each as likely."""
        goals = self.goals(split)
        return {"goal": goals[jax.random.randint(key, (), 0, len(goals))]}

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the goals in random order, over and over until there are `n`: fewer than all are a
        random subset, and no goal comes more than once oftener than another."""
        goals = self.goals(split)
        return {"goal": jax.random.permutation(key, goals)[jnp.arange(n) % len(goals)]}

    def context(self, params: Params) -> Array:
        """Return the goal's cell (x, y), `[2]`."""
        return params["goal"].astype(jnp.float32)
