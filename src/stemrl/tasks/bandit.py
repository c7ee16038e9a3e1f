"""Bernoulli bandits as RL² plays them (1611.02779, §3.1): a pull is an episode of one step, and a
trial is `pulls` of them on the same arms.

Small cells have an exact Bayes-optimal value, by dynamic programming over the posterior: 6.660 for
5 arms and 10 pulls; pulling at random earns 5.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import AbstractFamily, Discrete, Params, Split, UserError


class BanditState(eqx.Module):
    """Pulls taken; the arms themselves never change."""

    pulled: Int[Array, ""]


class BanditEnv(eqx.Module):
    """One pull, one reward; params `{"probability": [arms]}`. The observation is always 0."""

    arms: int = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the observation, 0 (int32 scalar), and a state in which no arm has been pulled.
        Nothing is random."""
        zero = jnp.zeros((), jnp.int32)
        return zero, BanditState(zero)

    def step(self, key: PRNGKeyArray, state: BanditState, action: Array, params: Params):
        """Pull the arm `action` (int32 scalar): reward 1 with the arm's probability, else 0. Never
        terminal; there are no events."""
        reward = jax.random.bernoulli(key, params["probability"][action]).astype(jnp.float32)
        # Not terminal: the next pull follows, and only the rollout's horizon of one step ends it.
        no = jnp.asarray(False)
        return jnp.zeros((), jnp.int32), BanditState(state.pulled + 1), reward, no, no, {}

    def observation_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the one value 0."""
        return Discrete(1)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the arms, 0 to `arms` − 1."""
        return Discrete(self.arms)


class Bandit(AbstractFamily):
    """Bernoulli bandits (RL², 1611.02779, §3.1): independent arms that pay 1, each with a probability
    of its own that is drawn from U(0, 1). A pull is an episode of one step."""

    name: ClassVar[str] = "bandit"
    horizon: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    arms: int = eqx.field(static=True, default=5)
    """Arms to choose from."""
    pulls: int = eqx.field(static=True, default=10)
    """Pulls (episodes of one step) a trial."""

    def __check_init__(self):
        if self.arms < 2 or self.pulls < 1:
            raise UserError(
                f"a bandit needs at least 2 arms and 1 pull, not arms={self.arms},"
                f" pulls={self.pulls}"
            )

    @property
    def trial_episodes(self) -> int:
        """The number of pulls, `pulls`."""
        return self.pulls

    @property
    def env(self) -> BanditEnv:
        return BanditEnv(self.arms)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw probabilities uniformly from [0, 1]; `ood`: of poor arms, uniformly from [0, ½]."""
        highest = 0.5 if split == "ood" else 1.0
        return {"probability": jax.random.uniform(key, (self.arms,), maxval=highest)}

    def context(self, params: Params) -> Array:
        """Return the arms' probabilities, `[arms]`."""
        return params["probability"]
