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

import contextlib
import math
import warnings
from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractHostFamily,
    Box,
    Dict,
    Discrete,
    MultiDiscrete,
    Params,
    Space,
    Tuple,
    UserError,
    as_seen,
)
from ..own_code import may_import
from . import ranges as boxes
from .varied import AbstractVariedFamily


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
            if not all(hasattr(world, name) for name in ("reset", "step", "action_space")):
                raise UserError(
                    f"family '{self.name}': make gives a {type(world).__name__}, not a gymnasium.Env"
                )
            if isinstance(world, gymnasium.vector.VectorEnv):
                raise UserError(
                    f"family '{self.name}': make gives a VectorEnv, several worlds at once; give one of"
                    " them: as many as are needed are made"
                )
            try:
                observed = known_space(self.name, "observation", world.observation_space)
                _envs[self] = HostEnv(
                    as_seen(observed), known_space(self.name, "action", world.action_space)
                )
            finally:
                world.close()
        return _envs[self]


class GymnasiumFamily(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractVariedFamily, AbstractGymnasiumFamily
):
    """A registered Gymnasium environment with some of its attributes uniform in ranges; `ood`:
    outside them.

    An attribute is set on the unwrapped environment after it is made; it is for the environment to
    use it (classic control does; for MuJoCo take stemrl's own families). What the environment
    computes from an attribute only once, in `__init__`, is not computed again.
    """

    name: ClassVar[str] = "gymnasium"

    environment: str = eqx.field(static=True, default="CartPole-v1")
    """Gymnasium's name of the environment."""
    ranges: str = eqx.field(
        static=True, default="gravity=5.0:15.0,force_mag=5.0:15.0", converter=boxes.as_text
    )
    """The attributes that differ from task to task, and between which bounds: `name=low:high,…`, or
    `name=mean:std:low:high` for a normal distribution cut off there; in Python also
    `{name: (low, high)}`. If empty, there is one task, the environment as it is."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far from the middle of the ranges."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode, at most."""

    def __check_init__(self):
        if self.beyond < 1.0:
            raise UserError(f"beyond must be at least 1, not {self.beyond:g}")
        if self.horizon < 1:
            raise UserError(f"horizon must be at least 1, not {self.horizon}")
        if ":" in self.environment:  # `module:Name-v0`, which Gymnasium imports
            may_import(self.environment)

    @property
    def env(self) -> HostEnv:
        """As of every such family; the first time, it warns of attributes that change nothing."""
        if self not in _envs and self.varied:
            for name in self._idle():
                warnings.warn(
                    f"'{name}' changes nothing in {TRIED} random steps of {self.environment}: if it does not act"
                    " later, what follows from it is computed once, when the environment is made",
                    stacklevel=2,
                )
        return super().env

    def _idle(self) -> list[str]:
        """The attributes whose lowest and highest values give the same steps to the digit."""
        middle = {name: 0.5 * (one.low + one.high) for name, one in self.varied.items()}
        idle = []
        # What is wrong with the environment is said where it is played, of the task that it is played in.
        random = np.random.get_state()  # noqa: NPY002  (some environments draw by it)
        with contextlib.suppress(Exception), contextlib.closing(self.make(middle)) as world:
            for name, one in self.varied.items():
                ends = [_tried(self, world, {**middle, name: v}) for v in (one.low, one.high)]
                if one.low < one.high and ends[0] == ends[1]:
                    idle.append(name)
        np.random.set_state(random)  # noqa: NPY002
        return idle

    def make(self, params: Params) -> gymnasium.Env:
        """Return the environment with the task's attributes."""
        try:
            env = gymnasium.make(self.environment, disable_env_checker=True)
        except gymnasium.error.UnregisteredEnv as error:
            raise UserError(f"Gymnasium cannot make '{self.environment}': {error}") from None
        self.change(env, params)
        return env

    def change(self, env: gymnasium.Env, params: Params) -> bool:
        """Return the same environment with another task's attributes."""
        for name in self.varied:
            if not hasattr(env.unwrapped, name):
                raise UserError(f"the environment '{self.environment}' has no attribute '{name}'")
            setattr(env.unwrapped, name, float(params[name]))
        return True


TRIED = 50
"""Random steps in which an attribute must change something."""


def _tried(family: GymnasiumFamily, world: gymnasium.Env, params: Params) -> list[bytes]:
    """All that a task answers to the same random actions."""
    family.change(world, params)
    world.action_space.seed(0)
    answers = [world.reset(seed=0)[0]]
    for step in range(TRIED):
        obs, reward, terminated, truncated, _ = world.step(world.action_space.sample())
        answers.append((obs, float(reward), terminated))
        if terminated or truncated:
            answers.append(world.reset(seed=step)[0])
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(answers)]


_envs: dict[AbstractGymnasiumFamily, HostEnv] = {}


def known_space(name: str, which: str, space: Any) -> Any:
    """A Gymnasium space as one of the project's; actions and several whole numbers as one vector."""
    known = gymnasium.spaces
    if isinstance(space, known.Discrete):
        return Discrete(int(space.n), int(space.start))
    if isinstance(space, known.MultiDiscrete):
        starts = tuple(np.ravel(space.start).tolist())
        return MultiDiscrete(tuple(np.ravel(space.nvec).tolist()), starts if any(starts) else ())
    if isinstance(space, known.MultiBinary):
        return MultiDiscrete((2,) * math.prod(space.shape))
    if isinstance(space, known.Box):
        low, high = (_bound(bound) for bound in (space.low, space.high))
        dtype = "uint8" if space.dtype == np.uint8 else "float32"
        shape = tuple(map(int, space.shape)) if which == "observation" else (space.low.size,)
        return Box(shape, low, high, dtype if which == "observation" else "float32")
    if which == "observation" and isinstance(space, known.Dict):
        return Dict({k: known_space(name, which, part) for k, part in space.spaces.items()})
    if which == "observation" and isinstance(space, known.Tuple):
        return Tuple(tuple(known_space(name, which, part) for part in space.spaces))
    if which == "observation":
        advice = (
            "wrap the environment so that it is observed in one of them, or a Dict or Tuple of them"
        )
    else:
        advice = "wrap the environment so that it takes one of them (gymnasium.ActionWrapper)"
    raise UserError(
        f"'{name}' has the {which} space {space}; known are Box, Discrete, MultiDiscrete and"
        f" MultiBinary: {advice}"
    )


def seen_by_agents(name: str, space: Any, obs: Any) -> np.ndarray:
    """Return what a Gymnasium environment is observed in, as one array: see
    `stemrl.core.spaces.see`, here without JAX, since it is done at every step."""
    known = gymnasium.spaces
    if isinstance(space, known.Dict | known.Tuple):
        keyed = isinstance(space, known.Dict)
        # By name, as `stemrl.core.Dict` has them.
        parts = sorted(space.spaces.items()) if keyed else list(enumerate(space.spaces))
        return np.concatenate([_flat(name, part, obs[key]) for key, part in parts])
    if isinstance(space, known.Discrete):
        return np.asarray(obs) - int(space.start)
    if isinstance(space, known.MultiDiscrete):
        return np.ravel(obs) - np.ravel(space.start)
    return np.ravel(obs) if isinstance(space, known.MultiBinary) else np.asarray(obs)


def as_taken(space: Any, action: np.ndarray) -> np.ndarray:
    """Return an action in an environment's units in the shape and type of its space. The whole numbers of
    a `Box` share its range evenly, so that the last is taken as often as the others."""
    if isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.integer):
        low, high = (np.ravel(bound).astype(float) for bound in (space.low, space.high))
        flat = np.ravel(action).astype(float)
        share = (flat - low) / np.maximum(high - low, 1.0)
        # A range of all that an int64 can be is no range.
        even = np.floor(low + share * (high - low + 1.0))
        action = np.clip(np.where(high - low < 2**31, even, np.rint(flat)), low, high)
    return action.astype(space.dtype).reshape(space.shape)


def _flat(name: str, space: Any, obs: Any) -> np.ndarray:
    """One part of an observation of several, as a vector: whole numbers one-hot."""
    seen = as_seen(known_space(name, "observation", space))
    value = seen_by_agents(name, space, obs)
    if isinstance(seen, Box):
        return np.asarray(value, np.float32).reshape(-1)
    sizes = (seen.n,) if isinstance(seen, Discrete) else seen.sizes
    return np.concatenate(
        [np.arange(n) == one for n, one in zip(sizes, np.ravel(value), strict=True)]
    ).astype(np.float32)


def _bound(bound: np.ndarray) -> float | tuple[float, ...]:
    """A bound of every entry; the largest float32 stands for none."""
    limit = float(np.finfo(np.float32).max)
    values = bound.astype(float).reshape(-1)
    flat = tuple(np.where(abs(values) >= limit, np.copysign(np.inf, values), values).tolist())
    return flat[0] if len(set(flat)) == 1 else flat
