"""Randomization per episode, as a transform of any family.

In domain randomization (Tobin et al., 1703.06907; Peng et al., 1710.06537) the environment's
parameters are drawn afresh for every episode, and the policy is told nothing of them. Here that is
an environment whose own parameters name a *distribution*: its `reset` draws the parameters of the
inner environment, and the state carries them until the episode ends. To transfer from randomized
tasks to one that stays, give a problem the transformed family as its source and the plain one as
its target.
"""

import functools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from .. import registry
from ..core import (
    SPLITS,
    AbstractFamily,
    EnvState,
    Info,
    Obs,
    Params,
    Space,
    Split,
    UserError,
)


class RandomisedState(eqx.Module):
    """What this episode drew, and how it stands."""

    params: Params
    inner: EnvState


class RandomisedEnv(eqx.Module):
    """The family's environment with parameters of `reset`'s own drawing.

    Params: `{"split": int32}`, the split of the family to draw from, in the order of `SPLITS`.
    """

    family: AbstractFamily = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, RandomisedState]:
        """Draw the episode's parameters, which stay in its state, and start the family's
        environment with them."""
        draw_key, reset_key = jax.random.split(key)
        drawn = self._draw(draw_key, params["split"])
        obs, inner = self.family.env.reset(reset_key, drawn)
        return obs, RandomisedState(drawn, inner)

    def step(
        self, key: PRNGKeyArray, state: RandomisedState, action: Array, params: Params
    ) -> tuple[Obs, RandomisedState, Array, Array, Array, Info]:
        """The family's own step with the parameters of this episode; `params` are not looked at."""
        obs, inner, reward, terminated, truncated, events = self.family.env.step(
            key, state.inner, action, state.params
        )
        return obs, RandomisedState(state.params, inner), reward, terminated, truncated, events

    def observation_space(self, params: Params | None = None) -> Space:
        """The family's own."""
        return self.family.observation_space

    def action_space(self, params: Params | None = None) -> Space:
        """The family's own."""
        return self.family.action_space

    def _draw(self, key: PRNGKeyArray, split: Int[Array, ""]) -> Params:
        def draw(name: Any) -> Any:
            # A split that the family lacks is never asked for: `Randomized.sample` refuses it.
            chosen = name if _has(self.family, name) else "train"
            return lambda key: jax.tree.map(_strong, self.family.sample(key, chosen))

        return jax.lax.switch(split, [draw(name) for name in SPLITS], key)


class Randomized(AbstractFamily):
    """Domain randomization (1703.06907, 1710.06537) of any family: every episode is another task of
    `family`, drawn anew. There is nothing that lasts from one episode to the next, and nothing to
    reveal."""

    name: ClassVar[str] = "randomized"

    family: str | AbstractFamily = eqx.field(static=True, default="hopper-params")
    """What is randomized: a family's name or, in Python, a family. Not one stepped on the host."""

    def __check_init__(self):
        if self.inner.stepping == "host":
            raise UserError(
                f"'{self.inner.name}' is stepped on the host and cannot be randomized per episode"
            )

    @property
    def inner(self) -> AbstractFamily:
        """What is randomized."""
        return _made(self.family) if isinstance(self.family, str) else self.family

    @property
    def stepping(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own."""
        return self.inner.stepping

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own."""
        return self.inner.finite

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own."""
        return self.inner.horizon

    @property
    def identity(self) -> str:
        """This transform's name and version around the family's own identity."""
        return f"{self.name}@{self.version}({self.inner.identity})"

    @property
    def env(self) -> RandomisedEnv:
        return RandomisedEnv(self.inner)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """The one task that a split is: the distribution that its episodes draw from."""
        jax.eval_shape(lambda k: self.inner.sample(k, split), key)
        return {"split": jnp.asarray(SPLITS.index(split), jnp.int32)}


@functools.cache
def _made(name: str) -> AbstractFamily:
    family = registry.make("families", name)
    if not isinstance(family, AbstractFamily):
        raise UserError(f"'{name}' is a {type(family).__name__}, not a family")
    return family


def _has(family: AbstractFamily, split: Any) -> bool:
    try:
        jax.eval_shape(lambda: family.sample(jax.random.key(0), split))
    except UserError:
        return False
    return True


def _strong(x: Array) -> Array:
    """Without a weak type, which the branches of a switch might not share."""
    return jnp.asarray(x, jnp.asarray(x).dtype)
