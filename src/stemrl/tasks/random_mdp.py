"""Random tabular decision processes as RL² plays them (1611.02779, §3.2 and appendix): 10 states,
5 actions, 10 steps, everything about them unknown.

Knowing the process, the best policy earns 21.77 an episode on average (value iteration).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import AbstractFamily, Discrete, Params, Split, UserError


class RandomMDPState(eqx.Module):
    """Which state the process is in."""

    position: Int[Array, ""]


class RandomMDPEnv(eqx.Module):
    """A tabular process; params `{"transition": [states, actions, states], "reward": [states,
    actions]}`. Every episode starts in state 0; the state is the observation; the reward is the
    mean of (state, action) plus standard normal noise."""

    states: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Begin in state 0 (int32 scalar); nothing is random."""
        start = jnp.zeros((), jnp.int32)
        return start, RandomMDPState(start)

    def step(self, key: PRNGKeyArray, state: RandomMDPState, action: Array, params: Params):
        """Draw the reward of `action` (int32 scalar) in this state, and the next state. Never
        terminal; there are no events."""
        move_key, reward_key = jax.random.split(key)
        # By inversion of the distribution function: one uniform number instead of one a state.
        below = jnp.cumsum(params["transition"][state.position, action])
        drawn = jnp.sum(jax.random.uniform(move_key) >= below).astype(jnp.int32)
        position = jnp.minimum(drawn, self.states - 1)
        reward = params["reward"][state.position, action] + jax.random.normal(reward_key)
        no = jnp.asarray(False)
        return position, RandomMDPState(position), reward, no, no, {}

    def observation_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the states, 0 to `states` − 1."""
        return Discrete(self.states)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the actions, 0 to `actions` − 1."""
        return Discrete(self.actions)


class RandomMDP(AbstractFamily):
    """Random tabular decision processes (RL², 1611.02779, §3.2 and appendix): transitions from
    Dirichlet(1), mean rewards from N(1, 1)."""

    name: ClassVar[str] = "random-mdp"

    states: int = eqx.field(static=True, default=10)
    """States of the process."""
    actions: int = eqx.field(static=True, default=5)
    """Actions in every state."""
    horizon: int = eqx.field(static=True, default=10)
    """Steps an episode."""

    def __check_init__(self):
        if min(self.states, self.actions, self.horizon) < 1:
            raise UserError(
                f"random-mdp needs at least 1 state, action and step, not states={self.states},"
                f" actions={self.actions}, horizon={self.horizon}"
            )

    @property
    def trial_episodes(self) -> int:
        """10, the smallest setting of the paper's table 2."""
        return 10

    @property
    def env(self) -> RandomMDPEnv:
        return RandomMDPEnv(self.states, self.actions)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a process as in the paper; `ood`: with transitions from Dirichlet(0.1), so that they
        are almost deterministic."""
        transition_key, reward_key = jax.random.split(key)
        concentration = jnp.full(self.states, 0.1 if split == "ood" else 1.0)
        shape = (self.states, self.actions)
        return {
            "transition": jax.random.dirichlet(transition_key, concentration, shape),
            "reward": 1.0 + jax.random.normal(reward_key, shape),
        }

    def context(self, params: Params) -> Array:
        """Return the whole process: transitions, then mean rewards, row by row,
        `[states · actions · (states + 1)]`."""
        return jnp.concatenate([params["transition"].ravel(), params["reward"].ravel()])
