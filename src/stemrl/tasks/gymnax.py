"""Any gymnax environment (≥ 1.0) as a family, by naming a distribution over its parameters.

    GymnaxFamily("CartPole-v1", {"length": (0.25, 0.75), "force_mag": (5.0, 15.0)})

gymnax's `step` resets by itself at an episode's end and hides the last observation, so what is
adapted is its `step_env`, and its time limit apart from that. Its parameters are Python scalars,
some of which follow from others (a pole's mass times its length): those follow here too.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AnySpace,
    Box,
    Dict,
    Discrete,
    EnvState,
    Info,
    Obs,
    Params,
    Space,
    Tuple,
    UserError,
    nearest,
)
from . import ranges as boxes
from .varied import NONE, AbstractVariedFamily

DERIVED: dict[str, dict[str, Callable[[Any], Any]]] = {
    "CartPole-v1": {
        "total_mass": lambda params: params.masscart + params.masspole,
        "polemass_length": lambda params: params.masspole * params.length,
    },
}
"""Parameters that gymnax stores though they follow from others, by environment. Add yours."""

USUAL = {"CartPole-v1": "length=0.25:0.75,force_mag=5.0:15.0"}
"""What varies where nobody says what, by environment."""


class GymnaxEnv(eqx.Module):
    """A gymnax environment that never resets by itself; params hold the varied ones, by name."""

    environment: str = eqx.field(static=True)
    """gymnax's name for it."""

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, EnvState]:
        """Call gymnax's `reset_env` with the task's parameters."""
        env, _ = _make(self.environment)
        obs, state = env.reset_env(key, self.full(params))
        return jax.tree.map(_strong, (obs, state))

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Array, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        """Call gymnax's `step_env`, which never resets, with the task's parameters. `truncated` is
        the environment's own time limit. There are no events."""
        env, _ = _make(self.environment)
        full = self.full(params)
        obs, after, reward, terminated, _ = env.step_env(key, state, action, full)
        truncated = env.is_truncated(after, full)
        obs, after = jax.tree.map(_strong, (obs, after))
        return obs, after, jnp.asarray(reward), jnp.asarray(terminated), truncated, {}

    def full(self, params: Params) -> Any:
        """Return gymnax's own parameters: the defaults, the varied ones, and what follows from
        them."""
        _, defaults = _make(self.environment)
        full = defaults.replace(**{k: v for k, v in params.items() if k != NONE})
        for name, derive in DERIVED.get(self.environment, {}).items():
            if name not in params:
                full = full.replace(**{name: derive(full)})
        return full

    def observation_space(self, params: Params | None = None) -> AnySpace:
        """Return gymnax's own space, for the default parameters. Raise `UserError` if it has no
        counterpart in `stemrl.core`."""
        return _spaces(self.environment)[0]

    def action_space(self, params: Params | None = None) -> Space:
        """Return gymnax's own space, for the default parameters. Raise `UserError` if it has no
        counterpart in `stemrl.core`."""
        return _spaces(self.environment)[1]


class GymnaxFamily(AbstractVariedFamily):
    """A gymnax environment with some of its parameters uniform in ranges; `ood`: outside them.

    For example `GymnaxFamily("CartPole-v1", {"length": (0.25, 0.75), "force_mag": (5.0, 15.0)})`.
    Raises `UserError` where gymnax is not installed (extra: gymnax), or has no such environment or
    parameter.
    """

    name: ClassVar[str] = "gymnax"

    environment: str = eqx.field(static=True, default="CartPole-v1")
    """gymnax's name of the environment."""
    ranges: str = eqx.field(
        static=True, default="usual", converter=lambda x: x if x == "usual" else boxes.as_text(x)
    )
    """The parameters that differ from task to task, and between which bounds: `name=low:high,…`, or
    `name=mean:std:low:high` for a normal distribution cut off there; in Python also
    `{name: (low, high)}`. Nothing: one task, the environment as it is. The usual ones are
    `length=0.25:0.75,force_mag=5.0:15.0` for CartPole-v1, and nothing for any other environment."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far from the middle of the ranges."""
    steps: int = eqx.field(static=True, default=0)
    """Steps an episode; 0 for the environment's own limit."""

    def __post_init__(self):
        if self.ranges == "usual":
            self.ranges = boxes.as_text(USUAL.get(self.environment, ""))

    def __check_init__(self):
        _, defaults = _make(self.environment)
        known = {name: value for name, value in vars(defaults).items()}
        numbers = [name for name, value in known.items() if type(value) is float]
        for name in self.varied:
            if name not in known:
                raise UserError(
                    f"{self.environment} has no parameter '{name}'{nearest(name, known)}"
                )
            if name not in numbers:
                raise UserError(
                    f"the parameter '{name}' of {self.environment} is not a real number and cannot"
                    f" be drawn from a range; those that can: {', '.join(numbers) or 'none'}"
                )
        if self.beyond < 1.0:
            raise UserError(f"beyond must be at least 1, not {self.beyond:g}")
        if self.steps < 0:
            raise UserError(f"steps must be 0 (the environment's own limit) or more: {self.steps}")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps after which the rollout truncates an episode."""
        _, defaults = _make(self.environment)
        return self.steps or int(defaults.max_steps_in_episode)

    @property
    def env(self) -> GymnaxEnv:
        return GymnaxEnv(self.environment)


@functools.cache
def _make(environment: str) -> tuple[Any, Any]:
    """The environment and its default parameters, made once: a program closes over them."""
    try:
        import gymnax  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"the family 'gymnax' needs gymnax ({error}): pip install 'stemrl[gymnax]'"
        ) from None
    if environment not in gymnax.registered_envs:
        raise UserError(
            f"gymnax has no environment '{environment}'"
            + nearest(environment, gymnax.registered_envs)
        )
    with jax.ensure_compile_time_eval():
        return gymnax.make(environment)


@functools.cache
def _spaces(environment: str) -> tuple[AnySpace, Space]:
    """Observation and action space."""
    env, defaults = _make(environment)
    with jax.ensure_compile_time_eval():
        spaces = env.observation_space(defaults), env.action_space(defaults)
    acted = _space(environment, spaces[1])
    if isinstance(acted, Dict | Tuple):
        raise UserError(f"{environment} takes actions in several parts, which agents do not know")
    return _space(environment, spaces[0]), acted


def _space(environment: str, space: Any) -> Any:
    """A space of gymnax's as one of the project's."""
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    parts = getattr(space, "spaces", None)
    if isinstance(parts, dict):
        return Dict({name: _space(environment, part) for name, part in parts.items()})
    if isinstance(parts, tuple | list):
        return Tuple(tuple(_space(environment, part) for part in parts))
    if not hasattr(space, "low"):
        raise UserError(
            f"{environment} has a {type(space).__name__} space; known are Box, Discrete, and of"
            " observations Dict and Tuple"
        )
    shape = tuple(map(int, space.shape))
    low, high = (_bound(bound, shape) for bound in (space.low, space.high))
    return Box(shape, low, high, str(np.dtype(space.dtype)))


def _bound(bound: Any, shape: tuple[int, ...]) -> float | tuple[float, ...]:
    """A bound as the project's spaces have it; the largest float32 is gymnax's infinity."""
    flat = np.broadcast_to(np.asarray(bound, np.float64), shape).reshape(-1).tolist()
    limit = float(np.finfo(np.float32).max)
    flat = tuple(math.copysign(math.inf, x) if abs(x) >= limit else x for x in flat)
    return flat[0] if len(set(flat)) == 1 else flat


def _strong(x: Any) -> Array:
    """Without the weak type that a Python number brings."""
    x = jnp.asarray(x)
    return jnp.asarray(x, x.dtype)
