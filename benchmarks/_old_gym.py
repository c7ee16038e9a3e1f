"""What research code of 2019 and 2020 expects to import and no longer can, as far as its training
loops need it: the few pieces of Gym that they use, and empty stand-ins for what they import but never
call here (plots, logs, MuJoCo).

`install()` puts them where imports look.
"""

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np

IDLE = (
    "click", "dateutil", "dateutil.tz", "gtimer", "joblib", "matplotlib", "matplotlib.patches",
    "matplotlib.pyplot", "mujoco_py", "seaborn", "torch.utils.tensorboard",
)  # fmt: skip
"""Imported by the peers, never called in their training."""


class Env:
    """An environment with the old calls: `reset()`, and `step(action)` with four results."""

    def seed(self, seed: int | None = None) -> list:
        """Nothing here has a generator of its own."""
        return []

    def close(self) -> None:
        """Nothing is open."""

    @property
    def unwrapped(self) -> "Env":
        """The innermost environment."""
        return self


class Wrapper(Env):
    """Around another environment."""

    def __init__(self, env: Env):
        self.env = env
        self.action_space, self.observation_space = env.action_space, env.observation_space  # type: ignore

    @property
    def unwrapped(self) -> Env:
        """The innermost environment."""
        return self.env.unwrapped


class Box:
    """A box of numbers."""

    def __init__(self, low: Any, high: Any, shape: Any = None, dtype: Any = np.float32):
        self.shape = np.shape(low) if shape is None else tuple(shape)
        self.low, self.high = (np.broadcast_to(x, self.shape).astype(dtype) for x in (low, high))
        self.dtype = np.dtype(dtype)


class Discrete:
    """The numbers 0 to n − 1."""

    shape, dtype = (), np.dtype(np.int64)

    def __init__(self, n: int):
        self.n = n

    def contains(self, x: Any) -> bool:
        """Return whether it is one of them."""
        return 0 <= int(x) < self.n


class Unused:
    """Stands for the spaces that do not occur."""


_REGISTERED: dict[str, tuple[Any, dict[str, Any]]] = {}


def register(id: str, entry_point: Any, kwargs: dict | None = None, **_: Any) -> None:
    """Note where an environment is."""
    _REGISTERED[id] = (entry_point, kwargs or {})


def load(entry_point: Any) -> Any:
    """Return what `module:name` names."""
    if not isinstance(entry_point, str):
        return entry_point
    module, name = entry_point.split(":")
    return getattr(importlib.import_module(module), name)


def make(id: str, **kwargs: Any) -> Env:
    """Return a fresh environment."""
    entry_point, given = _REGISTERED[id]
    return load(entry_point)(**{**given, **kwargs})


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def install() -> None:
    """Make `import gym` and the other imports work."""
    for name in IDLE:
        sys.modules[name] = MagicMock()
    spaces = _module("gym.spaces", Box=Box, Discrete=Discrete, Dict=Unused, Tuple=Unused)
    for name in ("box", "discrete"):
        setattr(spaces, name, _module(f"gym.spaces.{name}", Box=Box, Discrete=Discrete))
    registration = _module("gym.envs.registration", register=register, load=load)
    envs = _module("gym.envs", registration=registration)
    _module(
        "gym", Env=Env, Wrapper=Wrapper, make=make, spaces=spaces, envs=envs, logger=MagicMock()
    )
    # NumPy took this name for its own type away, and gave it back later.
    if "bool" not in vars(np):
        np.bool = np.bool_
