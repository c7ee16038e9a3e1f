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
"""Where a task is drawn from: `train` to learn from, `test` to be judged by, `ood` from outside of
the range of training."""
SPLITS: tuple[str, ...] = get_args(Split)
"""The names of the splits."""
Stepping = Literal["jax", "callback", "host"]
"""How a step is taken; see `AbstractFamily.stepping`."""
Context = PyTree[Array]
"""ω, what a policy is told of a task: `[size]`, or with leading dimensions many."""
Goal = PyTree[Array]
"""A goal, in whatever form the family's `with_goal` takes it."""
Answer = TypeVar("Answer")


class AbstractTasks(eqx.Module):
    """Tasks, whatever they are, and where their parameters are drawn from.

    It is a frozen dataclass. Its fields are its settings (such as a range of speeds): Python
    scalars, strings and tuples, all static. All of them are part of its `identity`.
    """

    name: ClassVar[str]
    """The name on the command line, such as `half-cheetah-vel`."""
    version: ClassVar[int] = 1
    """The version of the tasks. Raise it whenever dynamics, reward or distribution change, so that
    an old result can never pass for a new one."""
    finite: ClassVar[bool] = False
    """Whether there are finitely many tasks, so that the test tasks ARE the training tasks. Every
    result then says so."""
    paths: ClassVar[tuple[str, ...]] = ()
    """The names of the settings that are a file or folder. A run stores its whole path, so that it
    is found from any other working folder. The identity holds its last name alone, since files may
    be moved."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Return the parameters of one task, with at least one leaf. Raise `UserError` for a split
        that the family does not have."""

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return `n` tasks, every leaf `[n, …]`. A finite family overrides this, to enumerate its
        tasks."""
        return jax.vmap(lambda k: self.sample(k, split))(jax.random.split(key, n))

    @property
    def identity(self) -> str:
        """Name, version and settings in one string, such as
        `half-cheetah-vel@1(high=3.0,horizon=200,low=0.0)`. It is stored with every result, and
        compared before two results are."""
        named = {name: Path(value).name for name, value in self._named_paths().items()}
        settings = ",".join(f"{k}={v!r}" for k, v in sorted((self.settings() | named).items()))
        return f"{self.name}@{self.version}({settings})"

    def settings(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def parameter_names(self) -> dict[str, tuple[str, ...]]:
        """Return names for the entries of those parameters that are vectors, such as `{"values":
        ("body_mass:torso", "gravity")}`. By default there are none."""
        return {}

    def refuse_tasks(self, params: Params) -> None:
        """Raise `UserError` for tasks, every leaf `[n, …]`, that somebody described and that cannot
        be, such as a negative mass. By default all can."""

    def files(self) -> list[Path]:
        """Return the files and folders that the tasks are made of, without code."""
        return [self.place(value) for value in self._named_paths().values()]

    @classmethod
    def place(cls, path: str) -> Path:
        """Return the whole path of a file or folder that a setting names. By default it is relative
        to the working folder."""
        return Path(at_home(path)).resolve()

    def _named_paths(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in self.paths}
        return {name: value for name, value in values.items() if isinstance(value, str) and value}


class AbstractFamily(AbstractTasks):
    """An environment, and where the parameters that make its tasks are drawn from."""

    stepping: ClassVar[Stepping] = "jax"
    """How a step is taken: `jax`, all of it compiled; `callback`, by a simulator that compiled code
    calls; `host`, by Python objects outside of compiled code."""

    horizon: eqx.AbstractVar[int]
    """Number of steps after which the rollout truncates an episode."""

    @property
    @abc.abstractmethod
    def env(self) -> Environment:
        """The environment. It must be pure and cheap to build, since it is built at every access."""

    def context(self, params: Params) -> Context:
        """Return ω, what a contextual policy is told of the task: one float vector. Raise
        `UserError` if the family has none, as is the default."""
        raise UserError(
            f"the family '{self.name}' has no context to reveal; train with reveal 'nothing'"
        )

    @property
    def worlds(self) -> int:
        """How many tasks there are, if `context` is one-hot over them, so that a network can have a
        head for each; 0 otherwise."""
        return 0

    @property
    def trial_episodes(self) -> int:
        """How many episodes one trial has, for learners whose unit is the trial and that were not
        told otherwise."""
        return 2

    @property
    def seen_env(self) -> Environment:
        """The environment with its observations as agents see them (see `as_seen`): one array, in
        which whole numbers count from 0."""
        env = self.env
        space = env.observation_space()
        return env if as_seen(space) == space else FlatEnv(env)

    @property
    def observation_space(self) -> Space:
        """The space of observations as agents see them (see `as_seen`); it is the same for every
        task."""
        return as_seen(self.env.observation_space())

    @property
    def action_space(self) -> Space:
        """The environment's space of actions; it is the same for every task."""
        return self.env.action_space()


class AbstractGoalFamily(AbstractFamily):
    """A family whose parameters hold a goal. It says what relabelling needs, as pure functions of
    stored values."""

    @property
    @abc.abstractmethod
    def goal_space(self) -> Space:
        """The space of goals."""

    @abc.abstractmethod
    def achieved(self, obs: Obs) -> Goal:
        """Return the goal that the observation `obs` has reached."""

    @abc.abstractmethod
    def with_goal(self, params: Params, goal: Goal) -> Params:
        """Return the parameters of the same task with another goal."""

    @abc.abstractmethod
    def reward(self, obs: Obs, action: Array, next_obs: Obs, params: Params) -> tuple[Array, Array]:
        """Return `(reward, terminated)` of a stored step under the goal in `params`: the same as
        `env.step` says of it. `action` is in the environment's units, as `step` takes it."""


class AbstractHostFamily(AbstractFamily):
    """A family whose worlds are Python objects, such as Gymnasium's environments. They are stepped
    on the host, outside of compiled code."""

    stepping: ClassVar[Stepping] = "host"
    success_key: ClassVar[str] = ""
    """Name of the entry of a step's `info` that says whether the task is solved; empty if there is
    none."""

    @abc.abstractmethod
    def make(self, params: Params) -> Any:
        """Return a `gymnasium.Env` for the task `params`, whose leaves are NumPy arrays without a
        batch dimension."""

    def change(self, env: Any, params: Params) -> bool:
        """Turn `env`, which `make` made for another task, into the world of the task `params`, and
        return whether that was done. `env` is reset before it is stepped again. By default nothing
        is done and False returned, so that a new world is made for every trial. Overriding it pays
        where making a world is slow."""
        return False

    def attempt(self, what: str, params: Params, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns. Whatever it raises, also because the world's process has
        died, becomes a `SimulatorError` with the cause; so a run stops at once and says why. `what`
        names the call in the message."""
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
    """Return how many tasks are stacked in `params`: the size of every leaf's first dimension.
    Raise `UserError` if there is no leaf."""
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise UserError("task parameters hold no array; give the family at least one parameter")
    return np.shape(leaves[0])[0]
