"""Contract two: the task family, an environment plus distributions over its parameters."""

import abc
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..errors import SimulatorError, UserError, said
from ..reading import at_home
from .environment import Environment, FlatEnv, Obs, Params
from .spaces import Space, as_seen

Split = Literal["train", "test", "ood"]
"""`train` to learn from, `test` to be judged by, `ood`: outside the range of training."""
SPLITS: tuple[str, ...] = get_args(Split)
"""Their names."""
Stepping = Literal["jax", "callback", "host"]
"""How a step is taken; see `AbstractFamily.stepping`."""
Context = PyTree[Array]
"""ω, what a policy is told of a task: `[size]`, or with leading dimensions many."""
Goal = PyTree[Array]
"""A goal, in whatever form the family's `with_goal` takes it."""
Answer = TypeVar("Answer")


class AbstractTasks(eqx.Module):
    """From where the parameters of tasks are drawn, whatever a task is.

    A frozen dataclass: its fields are its settings (a range of speeds, say), Python scalars,
    strings and tuples, all static, and all of them are part of its `identity`.
    """

    name: ClassVar[str]
    """As on the command line: `half-cheetah-vel`."""
    version: ClassVar[int] = 1
    """To be raised whenever dynamics, reward or distribution change, so that an old result can
    never pass for a new one."""
    finite: ClassVar[bool] = False
    """A finite family's test tasks ARE its training tasks; results repeat that."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Settings that name a file or folder. A run stores where that is, so that it is found from any
    other working folder; the identity has its last name alone, for files may be moved."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """The parameters of one task, with at least one leaf. Raises `UserError` for a split the
        family does not have."""

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """`n` tasks, every leaf `[n, …]`. A finite family overrides this to enumerate."""
        return jax.vmap(lambda k: self.sample(k, split))(jax.random.split(key, n))

    @property
    def identity(self) -> str:
        """Name, version and settings, `half-cheetah-vel@1(high=3.0,horizon=200,low=0.0)`: stored
        with every result and compared before two results are."""
        named = {name: Path(value).name for name, value in self._named_paths().items()}
        settings = ",".join(f"{k}={v!r}" for k, v in sorted((self.settings() | named).items()))
        return f"{self.name}@{self.version}({settings})"

    def settings(self) -> dict[str, Any]:
        """The fields, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def parameter_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the entries of parameters that are vectors, by the parameter: `{"values":
        ("body_mass:torso", "gravity")}`; none, unless a family says so."""
        return {}

    def files(self) -> list[Path]:
        """The files and folders that it is made of, but for code."""
        return [self.place(value) for value in self._named_paths().values()]

    @classmethod
    def place(cls, path: str) -> Path:
        """The whole path of a file or folder that a setting names: from the working folder, by
        default."""
        return Path(at_home(path)).resolve()

    def _named_paths(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in self.paths}
        return {name: value for name, value in values.items() if isinstance(value, str) and value}


class AbstractFamily(AbstractTasks):
    """An environment, and from where the parameters that make its tasks are drawn."""

    stepping: ClassVar[Stepping] = "jax"
    """How a step is taken: `jax`, compiled whole; `callback`, by a simulator called from compiled
    code; `host`, by Python objects, outside compiled code."""

    horizon: eqx.AbstractVar[int]
    """Steps after which the rollout truncates an episode."""

    @property
    @abc.abstractmethod
    def env(self) -> Environment:
        """The environment; pure and cheap to build."""

    def context(self, params: Params) -> Context:
        """ω: what a contextual policy is told of the task, one float vector."""
        raise UserError(
            f"the family '{self.name}' has no context to reveal; train with reveal 'nothing'"
        )

    @property
    def worlds(self) -> int:
        """How many tasks there are where `context` is one-hot over them, so that a network can have a
        head for each; else 0."""
        return 0

    @property
    def trial_episodes(self) -> int:
        """Episodes of one trial, for learners whose unit is the trial and that are not told."""
        return 2

    @property
    def seen_env(self) -> Environment:
        """The environment with observations as agents see them: one array, whole numbers from 0."""
        env = self.env
        space = env.observation_space()
        return env if as_seen(space) == space else FlatEnv(env)

    @property
    def observation_space(self) -> Space:
        """The environment's as agents see it (`as_seen`), the same for every task."""
        return as_seen(self.env.observation_space())

    @property
    def action_space(self) -> Space:
        """The environment's, the same for every task."""
        return self.env.action_space()


class AbstractGoalFamily(AbstractFamily):
    """A family whose parameters hold a goal: what relabelling needs, as pure functions of stored
    values."""

    @property
    @abc.abstractmethod
    def goal_space(self) -> Space:
        """The space of goals."""

    @abc.abstractmethod
    def achieved(self, obs: Obs) -> Goal:
        """The goal that `obs` has reached."""

    @abc.abstractmethod
    def with_goal(self, params: Params, goal: Goal) -> Params:
        """The same task with another goal."""

    @abc.abstractmethod
    def reward(self, obs: Obs, action: Array, next_obs: Obs, params: Params) -> tuple[Array, Array]:
        """`(reward, terminated)` of a stored step under the goal in `params`: what `env.step` says
        of it. `action` is in the environment's units, as `step` is given it."""


class AbstractHostFamily(AbstractFamily):
    """A family whose worlds are Python objects, stepped on the host."""

    stepping: ClassVar[Stepping] = "host"
    success_key: ClassVar[str] = ""
    """Entry of `info` that says whether the task is solved; none if empty."""

    @abc.abstractmethod
    def make(self, params: Params) -> Any:
        """A `gymnasium.Env` for the task `params` (NumPy leaves, no batch dimension)."""

    def change(self, env: Any, params: Params) -> bool:
        """Make `env`, which `make` made for another task and which is reset before it is stepped again,
        the world of the task `params`; whether that was done. By default it is not, and a new world is
        made for every trial: worth writing where making one is slow."""
        return False

    def attempt(self, what: str, params: Params, call: Callable[[], Answer]) -> Answer:
        """What `call` returns. Whatever it raises, a world that went down with its process
        included, is a `SimulatorError` with the cause, so that a run stops at once and says why."""
        try:
            return call()
        except UserError:
            raise
        except Exception as error:
            dead = isinstance(error, EOFError | BrokenPipeError | ConnectionResetError)
            why = ", so the process that it lives in is dead" if dead else ""
            raise SimulatorError(
                f"'{self.name}' failed in {what}: {said(error)}{why}; its task was {params}"
            ) from error


def count(params: Params) -> int:
    """How many tasks are stacked in `params`, the size of every leaf's first dimension."""
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise UserError("task parameters hold no array; give the family at least one parameter")
    return np.shape(leaves[0])[0]
