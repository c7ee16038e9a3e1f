"""Families made of other families, and randomization per episode as the first of them.

In domain randomization (Tobin et al., 1703.06907; Peng et al., 1710.06537) the environment's
parameters are drawn afresh for every episode, and the policy is told nothing of them. Here that is
an environment whose own parameters name a *distribution*: its `reset` draws the parameters of the
inner environment, and the state carries them until the episode ends. To transfer from randomized
tasks to one that stays, give a problem the transformed family as its source and the plain one as
its target.
"""

import abc
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

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
from ..naming import make_named


class AbstractTransform(AbstractFamily):
    """A family made of another one."""

    family: eqx.AbstractVar[str | AbstractFamily]

    @property
    def inner(self) -> AbstractFamily:
        """The family that it is made of."""
        return named_family(self.family) if isinstance(self.family, str) else self.family

    @abc.abstractmethod
    def inside(self, params: Params, states: Any) -> tuple[AbstractFamily, Params, Any]:
        """Return an episode as one of the inner family, by which reports draw it: that family, its
        task and its states `[frames, …]` (NumPy leaves)."""

    def files(self) -> list[Path]:
        """Return the files of the inner family."""
        return self.inner.files()

    @property
    def stepping(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the inner family's."""
        return self.inner.stepping

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the inner family's."""
        return self.inner.finite

    @property
    def identity(self) -> str:
        """This transform's name, version and settings around the inner family's identity."""
        others = [f"{k}={v!r}" for k, v in sorted(self.settings().items()) if k != "family"]
        return f"{self.name}@{self.version}({','.join([self.inner.identity, *others])})"


class AbstractHiddenTask(AbstractTransform):
    """A family made of another one, whose environment draws the inner family's task by itself.

    A task of it is a distribution, `{"split": int32}`: the split of the inner family to draw from, in
    the order of `SPLITS`. The state of its environment holds what was drawn as `params` and the inner
    state as `inner`.
    """

    def inside(self, params: Params, states: Any) -> tuple[AbstractFamily, Params, Any]:
        """Return the task that the episode drew, which its states hold."""
        return self.inner, jax.tree.map(lambda x: x[0], states.params), states.inner

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the one task that a split is: the distribution that its episodes draw from."""
        jax.eval_shape(lambda k: self.inner.sample(k, split), key)
        return {"split": jnp.asarray(SPLITS.index(split), jnp.int32)}


def refuse_host(transform: AbstractTransform, what: str) -> None:
    """Raise `UserError` if the inner family is stepped on the host, so that it cannot be `what`."""
    if transform.inner.stepping == "host":
        raise UserError(f"'{transform.inner.name}' is stepped on the host and cannot be {what}")


def draw_hidden(family: AbstractFamily, key: PRNGKeyArray, split: Int[Array, ""]) -> Params:
    """Return a task of `family`, drawn from the split with this number in `SPLITS`."""

    def draw(name: Any) -> Any:
        # A split that the family lacks is never asked for: `AbstractHiddenTask.sample` refuses it.
        chosen = name if has_split(family, name) else "train"
        return lambda key: jax.tree.map(_strong, family.sample(key, chosen))

    return jax.lax.switch(split, [draw(name) for name in SPLITS], key)


class RandomizedState(eqx.Module):
    """What this episode drew, and how it stands."""

    params: Params
    inner: EnvState


class RandomizedEnv(eqx.Module):
    """The family's environment with parameters of `reset`'s own drawing.

    Params: `{"split": int32}`, the split of the family to draw from, in the order of `SPLITS`.
    """

    family: AbstractFamily = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, RandomizedState]:
        """Draw the episode's parameters, which stay in its state, and start the family's
        environment with them."""
        draw_key, reset_key = jax.random.split(key)
        drawn = draw_hidden(self.family, draw_key, params["split"])
        obs, inner = self.family.seen_env.reset(reset_key, drawn)
        return obs, RandomizedState(drawn, inner)

    def step(
        self, key: PRNGKeyArray, state: RandomizedState, action: Array, params: Params
    ) -> tuple[Obs, RandomizedState, Array, Array, Array, Info]:
        """Take the family's own step with the parameters of this episode; `params` are ignored."""
        obs, inner, reward, terminated, truncated, events = self.family.seen_env.step(
            key, state.inner, action, state.params
        )
        return obs, RandomizedState(state.params, inner), reward, terminated, truncated, events

    def observation_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.observation_space

    def action_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.action_space


class Randomized(AbstractHiddenTask):
    """Domain randomization (1703.06907, 1710.06537) of any family: every episode is another task of
    `family`, drawn anew. There is nothing that lasts from one episode to the next, and nothing to
    reveal."""

    name: ClassVar[str] = "randomized"

    family: str | AbstractFamily = eqx.field(static=True, default="hopper-params")
    """The family that is randomized: its name, with settings after it (`hopper-params width=1`), or, in
    Python, the family. It must not be stepped on the host."""

    def __check_init__(self):
        refuse_host(self, "randomized per episode")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own."""
        return self.inner.horizon

    @property
    def env(self) -> RandomizedEnv:
        return RandomizedEnv(self.inner)


def named_family(text: str) -> AbstractFamily:
    """Return the family of this name; settings may follow it: `point-2d size=1 horizon=50`. Raises
    `UserError` for what is no family or no setting of it."""
    family = make_named("families", text)
    if not isinstance(family, AbstractFamily):
        raise UserError(f"'{text}' is a {type(family).__name__}, not a family")
    return family


def has_split(family: AbstractFamily, split: Any) -> bool:
    """Return whether the family has this split."""
    try:
        jax.eval_shape(lambda: family.sample(jax.random.key(0), split))
    except UserError:
        return False
    return True


def _strong(x: Array) -> Array:
    """Without a weak type, which the branches of a switch might not share."""
    return jnp.asarray(x, jnp.asarray(x).dtype)
