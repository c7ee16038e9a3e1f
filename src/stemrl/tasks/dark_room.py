"""The dark room of in-context reinforcement learning (algorithm distillation, 2210.14215, §4; the
decision-pretrained transformer, 2306.14892, §5): a goal that pays at every step spent on it and
that nothing shows, so that it can only be found by walking about.
"""

from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import AbstractFamily, Params, Split, UserError
from .gridnavi import GridEnv

Start = Literal["center", "corner"]


class DarkRoom(AbstractFamily):
    """A room in the dark (2210.14215, 2306.14892): the agent sees its own cell alone, a hidden goal
    pays 1 at every step on it. Every cell may be the goal; the test tasks are the training tasks
    unless some goals are held out."""

    name: ClassVar[str] = "dark-room"

    size: int = eqx.field(static=True, default=9)
    """Cells along a side (9 in algorithm distillation; 10 in DPT)."""
    start: Start = eqx.field(static=True, default="center")
    """Where episodes begin: center (algorithm distillation) or corner (DPT)."""
    held_out: float = eqx.field(static=True, default=0.0)
    """Share of the goals that the train split lacks and that the test split consists of (DPT: 0.2,
    chosen once); 0: both splits are all goals."""
    horizon: int = eqx.field(static=True, default=20)
    """Steps an episode (20 in algorithm distillation; 100 in DPT)."""

    def __check_init__(self):
        if self.size < 2:
            raise UserError(f"dark-room needs size at least 2, not {self.size}")
        if self.start not in get_args(Start):
            raise UserError(f"start must be center or corner, not {self.start!r}")
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"held_out is a share from 0 to below 1, not {self.held_out:g}")

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the test tasks are the training tasks: no goals are held out."""
        return self.held_out == 0.0

    @property
    def trial_episodes(self) -> int:
        """5."""
        return 5

    @property
    def first_cell(self) -> tuple[int, int]:
        """The cell in which episodes begin."""
        middle = (self.size // 2, self.size // 2)
        return middle if self.start == "center" else (0, 0)

    @property
    def env(self) -> GridEnv:
        return GridEnv(self.size, self.first_cell, elsewhere=0.0)

    def goals(self, split: Split) -> Int[Array, "goals 2"]:
        """Return every goal of a split. Raises `UserError` for `ood`: there is no goal outside the
        room."""
        if split == "ood":
            raise UserError("dark-room has no ood split; --held-out keeps goals for the test split")
        cells = [(x, y) for x in range(self.size) for y in range(self.size)]
        goals = jnp.asarray(cells, jnp.int32)
        if self.held_out == 0.0:
            return goals
        # Always the same ones, so that a result can be compared with another.
        goals = jax.random.permutation(jax.random.key(self.size), goals)
        kept = min(max(1, round(len(cells) * (1.0 - self.held_out))), len(cells) - 1)
        return goals[:kept] if split == "train" else goals[kept:]

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal of the split, each as likely."""
        goals = self.goals(split)
        return {"goal": goals[jax.random.randint(key, (), 0, len(goals))]}

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the goals in random order, over and over until there are `n`."""
        goals = self.goals(split)
        return {"goal": jax.random.permutation(key, goals)[jnp.arange(n) % len(goals)]}

    def context(self, params: Params) -> Array:
        """Return the goal's cell (x, y), `[2]`."""
        return params["goal"].astype(jnp.float32)
