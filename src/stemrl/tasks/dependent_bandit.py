"""Bandits whose arms tell of each other (Wang et al. 2016, 1611.05763, §3.1): what one arm pays says
what the other is worth, and a meta-learner should come to use it.

Two arms in five conditions:

- `independent`: both probabilities from U(0, 1), each by itself;
- `uniform`: p from U(0, 1) for one arm, 1 − p for the other;
- `easy`, `medium`, `hard`: the same with p = 0.1, 0.25 or 0.4, on either arm.

And eleven arms, `informative`: one of the first ten is the target and pays 5, the other nine pay 1.1,
and the eleventh pays a tenth of the target's number (1 to 10): less than any other, and it tells all.
"""

from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractFamily, Discrete, Params, Split, UserError
from .bandit import BanditEnv, BanditState

Condition = Literal["independent", "uniform", "easy", "medium", "hard", "informative"]
LOWER = {"easy": 0.1, "medium": 0.25, "hard": 0.4}
"""Probability of the worse arm."""
TARGETS = 10
"""Arms that may be the target of `informative`; one more tells which."""


class InformativeEnv(eqx.Module):
    """Eleven arms that always pay the same; params `{"target": int}`, 0 to 9. The observation is
    always 0."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Return the observation, 0 (int32 scalar), and a state in which no arm has been pulled.
        Nothing is random."""
        zero = jnp.zeros((), jnp.int32)
        return zero, BanditState(zero)

    def step(self, key: PRNGKeyArray, state: BanditState, action: Array, params: Params):
        """Pull the arm `action` (int32 scalar), without randomness: 5 for the target, a tenth of its
        number for the last arm, 1.1 for the others."""
        told = 0.1 * (params["target"] + 1)
        reward = jnp.where(action == TARGETS, told, 1.1)
        reward = jnp.where(action == params["target"], 5.0, reward)
        no = jnp.asarray(False)
        return jnp.zeros((), jnp.int32), BanditState(state.pulled + 1), reward, no, no, {}

    def observation_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the one value 0."""
        return Discrete(1)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the eleven arms."""
        return Discrete(TARGETS + 1)


class DependentBandit(AbstractFamily):
    """Two arms of which one tells of the other, or eleven of which one tells of all (Wang et al.
    2016, 1611.05763). A pull is an episode of one step."""

    name: ClassVar[str] = "dependent-bandit"
    horizon: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    condition: Condition = eqx.field(static=True, default="uniform")
    """How the arms depend on each other: independent (not at all), uniform (p and 1 − p), easy, medium,
    hard (p = 0.1, 0.25, 0.4) or informative (eleven arms)."""
    pulls: int = eqx.field(static=True, default=0)
    """Pulls (episodes of one step) a trial; 0: as in the paper, 100, and 5 with the informative arm."""

    def __check_init__(self):
        if self.condition not in get_args(Condition):
            known = ", ".join(get_args(Condition))
            raise UserError(f"condition must be one of {known}, not {self.condition!r}")
        if self.pulls < 0:
            raise UserError(f"pulls must be 0 (as in the paper) or more, not {self.pulls}")

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether there are but a few tasks, those of training: two, or ten."""
        return self.condition in LOWER or self.condition == "informative"

    @property
    def trial_episodes(self) -> int:
        """`pulls`."""
        return self.pulls or (5 if self.condition == "informative" else 100)

    @property
    def arms(self) -> int:
        """Arms to choose from: two or eleven."""
        return TARGETS + 1 if self.condition == "informative" else 2

    @property
    def env(self) -> BanditEnv | InformativeEnv:
        return InformativeEnv() if self.condition == "informative" else BanditEnv(2)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw arms as the condition says; `ood`: two independent arms (both poor, U(0, ½), where those of
        training are independent). Raises `UserError` for `ood` with the informative arm."""
        which_key, p_key = jax.random.split(key)
        if self.condition == "informative":
            if split == "ood":
                raise UserError("dependent-bandit has no ood split with condition informative")
            return {"target": jax.random.randint(which_key, (), 0, TARGETS)}
        if self.condition == "independent" or split == "ood":
            both_poor = self.condition == "independent" and split == "ood"
            drawn = jax.random.uniform(p_key, (2,), maxval=0.5 if both_poor else 1.0)
            return {"probability": drawn}
        if self.condition == "uniform":
            p = jax.random.uniform(p_key)
        else:
            low = LOWER[self.condition]
            p = jnp.where(jax.random.bernoulli(which_key), low, 1.0 - low)
        return {"probability": jnp.stack([p, 1.0 - p])}

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return `n` tasks; of the ten with the informative arm, and of two, each equally often."""
        if not self.finite or split == "ood":
            return super().tasks(key, split, n)
        if self.condition == "informative":
            return {"target": jax.random.permutation(key, TARGETS)[jnp.arange(n) % TARGETS]}
        low = LOWER[self.condition]
        pairs = jnp.asarray([[low, 1.0 - low], [1.0 - low, low]])
        return {"probability": jax.random.permutation(key, pairs)[jnp.arange(n) % 2]}

    def context(self, params: Params) -> Array:
        """Return the arms' probabilities, `[2]`, or which arm is the target, one-hot, `[10]`."""
        if self.condition == "informative":
            return jax.nn.one_hot(params["target"], TARGETS)
        return params["probability"]
