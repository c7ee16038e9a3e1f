"""Flipping bits until they spell the goal (Andrychowicz et al. 2017, 1707.01495, §3.1 and §4).

The smallest problem that a sparse reward makes hopeless: of 2ⁿ states one is the goal, every flip
costs the same until it is reached, and so chance alone practically never shows a learner anything
but −1. With a goal that is put in afterwards every episode teaches something.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Discrete, Params, Split, UserError
from ..drawing import Scene, Shape


class BitFlipEnv(eqx.Module):
    """`bits` bits, of which action i flips the i-th; params `{"goal": [bits]}`, entries 0 or 1.

    An episode starts anywhere. A flip costs 1, but for the one that reaches the goal, which costs
    nothing and ends the episode. (Where the start happens to be the goal, it must be left and
    reached again.) The observation is the bits.
    """

    bits: int = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Draw the bits, each 0 or 1 with equal probability (float32 `[bits]`). They are both the
        observation and the state."""
        state = jax.random.bernoulli(key, 0.5, (self.bits,)).astype(jnp.float32)
        return state, state

    def step(self, key: PRNGKeyArray, state: Float[Array, " bits"], action: Array, params: Params):
        """Flip the bit `action` (int32 scalar). The event `success` says whether that reached the
        goal."""
        flip = jnp.arange(self.bits) == action
        state = jnp.where(flip, 1.0 - state, state)
        reward, solved = _verdict(state, params["goal"])
        return state, state, reward, solved, jnp.asarray(False), {"success": solved}

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the bits, `[bits]`, entries 0 or 1."""
        return Box((self.bits,), 0.0, 1.0)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of actions: which bit to flip, 0 to `bits` − 1."""
        return Discrete(self.bits)


class BitFlip(AbstractGoalFamily):
    """Bits to be flipped until they spell a goal, with a sparse reward (HER, 1707.01495, §3.1): all
    goals of `bits` bits, each as likely, in as many steps as there are bits."""

    name: ClassVar[str] = "bit-flip"

    bits: int = eqx.field(static=True, default=15)
    """Bits of a state, and steps an episode."""

    def __check_init__(self):
        if self.bits < 2:
            raise UserError(f"bit-flip needs at least 2 bits, not {self.bits}")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One step for each bit."""
        return self.bits

    @property
    def env(self) -> BitFlipEnv:
        return BitFlipEnv(self.bits)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a goal; each is as likely as the others, in training and test alike."""
        if split == "ood":
            raise UserError("the family 'bit-flip' has no split 'ood': it trains on all goals")
        return {"goal": jax.random.bernoulli(key, 0.5, (self.bits,)).astype(jnp.float32)}

    def context(self, params: Params) -> Float[Array, " bits"]:
        """Return the goal, `[bits]`."""
        return params["goal"]

    @property
    def goal_space(self) -> Box:
        """The bits, `[bits]`, entries 0 or 1."""
        return self.env.observation_space()

    def achieved(self, obs: Float[Array, " bits"]) -> Float[Array, " bits"]:
        """Return the bits as they stand: every state is a goal."""
        return obs

    def with_goal(self, params: Params, goal: Float[Array, " bits"]) -> Params:
        """Return a task with this goal; the parameters are the goal and nothing else."""
        return {"goal": goal}

    def reward(
        self, obs: Array, action: Array, next_obs: Float[Array, " bits"], params: Params
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """Return a reward of 0, and the end, if the bits became the goal; −1 otherwise."""
        return _verdict(next_obs, params["goal"])

    def draw(self, params: Params, states: Any) -> Scene:
        """Draw an abacus: a bead for each bit, up where it is 1, and where the goal has it."""
        bits, goal = np.asarray(states, float), np.asarray(params["goal"], float)
        columns = np.arange(self.bits, dtype=float)
        shapes = [
            *(
                Shape("square", np.asarray([[[x, y]]]), 0.46, "cell")
                for x in columns
                for y in (0.0, 1.0)
            ),
            *(
                Shape("square", np.asarray([[[x, y]]]), 0.46, "goal")
                for x, y in zip(columns, goal, strict=True)
            ),
            *(
                Shape("disc", np.stack([np.full(len(bits), x), bits[:, i]], 1)[:, None], 0.3)
                for i, x in enumerate(columns)
            ),
        ]
        middle = np.asarray([[(self.bits - 1) / 2, 0.5]])
        return Scene(shapes, middle, (self.bits + 0.4, 2.4), 0.5, len(bits))


def _verdict(
    state: Float[Array, " bits"], goal: Float[Array, " bits"]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The reward −[s′ ≠ g], and whether s′ = g."""
    solved = jnp.all(state == goal)
    return jnp.where(solved, 0.0, -1.0), solved
