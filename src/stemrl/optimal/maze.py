"""The shortest way through a `maze` that is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Context, Params, Transition
from ..tasks.maze import MOVES, Maze, distances
from .revealed import task_in


class MazeKnowledge(eqx.Module):
    """How far every block is from the goal, and where the agent stands."""

    steps: Int[Array, "side side"]
    start: Int[Array, "2"]
    position: Int[Array, "2"]


class ShortestWay(AbstractAgent):
    """An agent that walks straight to the goal of the maze that its context reveals. The
    observation does not say where the agent is, so it counts its own steps."""

    side: int = eqx.field(static=True)
    """Blocks along a side, the border included."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    @classmethod
    def of(cls, family: Maze) -> "ShortestWay":
        """Return the agent for mazes of this size."""
        return cls(side=2 * family.cells + 1)

    def start(self, context: Context, key: PRNGKeyArray) -> MazeKnowledge:
        context = task_in(context)
        walls = context[: self.side**2].reshape(self.side, self.side) > 0.5
        start, goal = jnp.round(context[self.side**2 :]).astype(jnp.int32).reshape(2, 2)
        return MazeKnowledge(distances(walls, goal), start, start)

    def begin(self, memory: MazeKnowledge, key: PRNGKeyArray) -> MazeKnowledge:
        return memory

    def act(self, memory: MazeKnowledge, carry: MazeKnowledge, obs: Array, key: PRNGKeyArray):
        reached = carry.position + jnp.asarray(MOVES, jnp.int32)
        return jnp.argmin(carry.steps[tuple(reached.T)]).astype(jnp.int32), carry, {}

    def observe(
        self, memory: MazeKnowledge, carry: MazeKnowledge, transition: Transition
    ) -> MazeKnowledge:
        position = carry.position + jnp.asarray(MOVES, jnp.int32)[transition.action]
        return MazeKnowledge(carry.steps, carry.start, position)


def shortest_way_returns(family: Maze, params: Params) -> Float[np.ndarray, " tasks"]:
    """Return, for each of the tasks `params`, the return of an episode that walks straight to the
    goal."""
    steps = jax.jit(jax.vmap(lambda p: distances(p["walls"], p["start"])[tuple(p["goal"])]))
    needed = np.asarray(steps(jax.tree.map(jnp.asarray, params)))
    costs = family.step_cost * np.minimum(needed, family.horizon)
    return np.where(needed <= family.horizon, 1.0, 0.0) - costs
