"""One hopper, three things to do: run forward, run backward, jump in place.

Tasks that share all of their states and actions and differ in what is asked for, so that it pays to
learn them together: one process of (state, ω), where ω says which. What they share is the body and how
to stay upright; forward and backward pull against each other.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Params, Split, UserError
from ..tasks.ranges import in_turn
from .engine import Motion
from .mujoco_env import HOPPER, AbstractMujocoFamily, MujocoEnv, Robot

Only = Literal["all", "forward", "backward", "jump"]
TASKS = ("forward", "backward", "jump")


@dataclass(frozen=True)
class Skill:
    """The reward of a skill: the speed that is asked for, + 1 − 10⁻³·‖a‖², ended by a fall. For
    params `{"task": [3]}`, one-hot, that speed is vₓ, −vₓ, or |v_z| − |vₓ| (metres a second). The
    event `speed` is vₓ."""

    def __call__(self, robot: Robot, motion: Motion, params: Params):
        along, up = motion.moved[0] / motion.seconds, motion.moved[1] / motion.seconds
        asked = jnp.stack([along, -along, jnp.abs(up) - jnp.abs(along)])
        standing = robot.stands(motion)
        reward = params["task"] @ asked + standing - 1e-3 * jnp.sum(motion.action**2)
        return reward, ~standing, {"speed": along}


class HopperTasks(AbstractMujocoFamily):
    """A hopper that must run forward, run backward or jump in place; the context, one-hot, says which."""

    name: ClassVar[str] = "hopper-tasks"
    finite: ClassVar[bool] = True

    only: Only = eqx.field(static=True, default="all")
    """The one task that is drawn: forward, backward or jump; all of them, in turn, if all."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (0.008 s each)."""

    def __check_init__(self):
        if self.only not in get_args(Only):
            known = ", ".join(get_args(Only))
            raise UserError(f"{self.name}: only must be one of {known}, not {self.only!r}")

    @property
    def env(self) -> MujocoEnv:
        return MujocoEnv(HOPPER, Skill(), engine_name=self.engine)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw one of the tasks, each as likely as the others."""
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return the tasks in turn, the first of them at random."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it trains on all tasks")
        every = jnp.eye(len(TASKS))
        if self.only != "all":
            every = every[TASKS.index(self.only)][None]
        return {"task": in_turn(key, every, n)}

    def context(self, params: Params) -> Float[Array, "3"]:
        """Return which task it is, one-hot, `[3]`: forward, backward, jump."""
        return params["task"]

    @property
    def worlds(self) -> int:
        """Three, one for each task."""
        return len(TASKS)
