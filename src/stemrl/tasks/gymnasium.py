"""Any Gymnasium environment as a family, given a function that makes it for a task.

    class Pendulums(AbstractGymnasiumFamily):
        name: ClassVar[str] = "pendulums"
        horizon: int = eqx.field(static=True, default=200)

        def sample(self, key, split):
            return {"length": jax.random.uniform(key, (), minval=0.5, maxval=1.5)}

        def make(self, params):
            env = gymnasium.make("Pendulum-v1")
            env.unwrapped.l = float(params["length"])
            return env

Its worlds are Python objects and stepped one by one, outside compiled code: slower than everything
else here, but without conditions. Where the tasks differ in numbers that the environment keeps as
attributes, `GymnasiumFamily` needs no class.
"""

from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractHostFamily, Box, Discrete, Params, Space, Split, UserError
from ..own_code import may_import
from . import ranges as boxes


class HostEnv(eqx.Module):
    """The spaces of an environment that only Python can step."""

    observations: Space = eqx.field(static=True)
    actions: Space = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> Any:
        raise TypeError("this environment is stepped on the host; use `play` or `rollout`")

    def step(self, key: PRNGKeyArray, state: Any, action: Array, params: Params) -> Any:
        raise TypeError("this environment is stepped on the host; use `play` or `rollout`")

    def observation_space(self, params: Params | None = None) -> Space:
        return self.observations

    def action_space(self, params: Params | None = None) -> Space:
        return self.actions


class AbstractGymnasiumFamily(AbstractHostFamily):
    """Any Gymnasium environment as a family, stepped on the host: `sample` (pure JAX), `make` (any
    Python) and a horizon are all that a subclass gives. One world is made early, and closed, to
    learn the spaces."""

    @property
    def env(self) -> HostEnv:
        if self not in _envs:
            # It may be a compiled function that asks: these few operations are not to be part of it.
            with jax.ensure_compile_time_eval():
                params = jax.device_get(self.sample(jax.random.key(0), "train"))
            world: Any = self.attempt("make", params, lambda: self.make(params))
            try:
                _envs[self] = HostEnv(
                    _space(self.name, "observation", world.observation_space),
                    _space(self.name, "action", world.action_space),
                )
            finally:
                world.close()
        return _envs[self]


class GymnasiumFamily(AbstractGymnasiumFamily):
    """A registered Gymnasium environment with some of its attributes uniform in ranges; `ood`:
    outside them.

    An attribute is set on the unwrapped environment after it is made; it is for the environment to
    use it (classic control does; MuJoCo's are better served by stemrl's own families). What
    follows from an attribute once, in `__init__`, does not follow here.
    """

    name: ClassVar[str] = "gymnasium"

    environment: str = eqx.field(static=True, default="CartPole-v1")
    """Gymnasium's name of the environment."""
    ranges: str = eqx.field(
        static=True, default="gravity=5.0:15.0,force_mag=5.0:15.0", converter=boxes.as_text
    )
    """The attributes that differ from task to task, and between which bounds: `name=low:high,…`, or
    `name=mean:std:low:high` for a normal distribution cut off there; in Python also
    `{name: (low, high)}`."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far from the middle of the ranges."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode, at most."""

    def __check_init__(self):
        if not boxes.parse(self.ranges):
            raise UserError("name at least one attribute to vary, as name=low:high")
        if self.beyond < 1.0:
            raise UserError(f"beyond must be at least 1, not {self.beyond:g}")
        if self.horizon < 1:
            raise UserError(f"horizon must be at least 1, not {self.horizon}")
        if ":" in self.environment:  # `module:Name-v0`, which Gymnasium imports
            may_import(self.environment)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Each attribute as its range says; `ood`: at least one of them outside."""
        return boxes.draw_in(key, split, boxes.parse(self.ranges), self.beyond)

    def context(self, params: Params) -> Float[Array, " varied"]:
        """The varied attributes, each as its place in its range: −1 at the low end, 1 at the high
        one."""
        varied = boxes.parse(self.ranges)
        return jnp.stack(
            [
                boxes.place_in(params[name], interval.low, interval.high)
                for name, interval in varied.items()
            ]
        )

    def make(self, params: Params) -> gymnasium.Env:
        """The environment with the task's attributes."""
        try:
            env = gymnasium.make(self.environment, disable_env_checker=True)
        except gymnasium.error.UnregisteredEnv as error:
            raise UserError(f"Gymnasium cannot make '{self.environment}': {error}") from None
        for name, value in params.items():
            if not hasattr(env.unwrapped, name):
                raise UserError(f"the environment '{self.environment}' has no attribute '{name}'")
            setattr(env.unwrapped, name, float(value))
        return env


_envs: dict[AbstractGymnasiumFamily, HostEnv] = {}


def _space(name: str, which: str, space: Any) -> Space:
    """A Gymnasium space as one of the project's two."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return Discrete(int(space.n))
    if not isinstance(space, gymnasium.spaces.Box):
        raise UserError(
            f"'{name}' has the {which} space {space}; only Box and Discrete from 0 are known: wrap"
            " the environment, for example in gymnasium.wrappers.FlattenObservation"
        )
    low, high = (_bound(bound) for bound in (space.low, space.high))
    dtype = "uint8" if space.dtype == np.uint8 else "float32"
    return Box(tuple(map(int, space.shape)), low, high, dtype)


def _bound(bound: np.ndarray) -> float | tuple[float, ...]:
    flat = tuple(bound.astype(float).reshape(-1).tolist())
    return flat[0] if len(set(flat)) == 1 else flat
