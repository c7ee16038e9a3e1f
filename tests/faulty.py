"""What the faults' tests break things with: worlds that go wrong, and a command line that does.

`python faulty.py '{"die_at": 17}' train …` is `stemrl train …` in a process of its own that is
killed (`kill -9`, by itself) in the 17th step in which it changes the file system.
"""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from stemrl.core import AbstractFamily, AbstractGoalFamily, Box, Discrete, Params, Split
from stemrl.core.family import Stepping
from stemrl.tasks.bit_flip import BitFlip, BitFlipEnv
from stemrl.tasks.gymnasium import AbstractGymnasiumFamily
from stemrl.tasks.point import Point2D, PointEnv, PointState

# ---- the file system, step by step -------------------------------------------------------------


class Steps:
    """The steps in which this process changes what is below a folder, in their order: a file or
    folder is made, a file is half written, whole but not yet synced, renamed, removed. `strike` is
    called just before step number `at` (from 0) and, if it returns, before every later one."""

    _heard: ClassVar["list[Steps] | None"] = None
    """Who is told of what the process does; `None` until the first is."""

    def __init__(self, folder: Path, strike: Callable[[], None] | None = None, at: int = -1):
        self.folder, self.strike, self.at = os.path.realpath(folder), strike, at
        self.done: list[str] = []
        self._fsync = os.fsync

    def __enter__(self) -> "Steps":
        if Steps._heard is None:
            sys.addaudithook(_audit)  # there is no taking it back
        Steps._heard = [self]
        os.fsync = self._synced
        return self

    def __exit__(self, *_: object) -> None:
        Steps._heard = []
        os.fsync = self._fsync

    def take(self, what: str, before: Callable[[], None] | None = None) -> None:
        self.done.append(what)
        if self.strike is not None and 0 <= self.at < len(self.done):
            if before is not None and len(self.done) == self.at + 1:
                before()
            self.strike()

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & (os.O_WRONLY | os.O_RDWR):
                self._if_below("open", path)
        elif event in ("os.mkdir", "os.rename"):
            self._if_below(event, arguments[0])
        elif event in ("os.remove", "os.rmdir"):
            # `shutil.rmtree` names what it removes by its folder's descriptor.
            path, folder = arguments
            base = self.folder if folder in (-1, None) else os.readlink(f"/proc/self/fd/{folder}")
            self._if_below(event, os.path.join(base, os.fsdecode(path)))

    def _if_below(self, what: str, path: Any) -> None:
        full = os.path.abspath(os.fsdecode(path))
        full = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
        if full == self.folder or full.startswith(f"{self.folder}{os.sep}"):
            self.take(f"{what} {os.path.relpath(full, self.folder)}")

    def _synced(self, descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.startswith(self.folder):
            name = os.path.relpath(name, self.folder)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                size = os.fstat(descriptor).st_size
                # Of a file that grows line by line, only the last line can be half there.
                half = size - 9 if name.endswith(".jsonl") else size // 2
                self.take(f"half {name}", lambda: os.ftruncate(descriptor, max(half, 0)))
            self.take(f"sync {name}")
        self._fsync(descriptor)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        for steps in Steps._heard or ():
            steps.heard(event, arguments)


# ---- worlds that go wrong ----------------------------------------------------------------------


class PoisonedPointEnv(eqx.Module):
    """A point whose reward is, once in a while, not a number."""

    chance: float = eqx.field(static=True)
    inner: PointEnv = eqx.field(static=True, default=PointEnv(step_size=0.1))

    def reset(self, key: PRNGKeyArray, params: Params):
        return self.inner.reset(key, params)

    def step(self, key: PRNGKeyArray, state: PointState, action: Array, params: Params):
        obs, state, reward, terminated, truncated, events = self.inner.step(
            key, state, action, params
        )
        poisoned = jax.random.uniform(key) < self.chance
        return obs, state, jnp.where(poisoned, jnp.nan, reward), terminated, truncated, events

    def observation_space(self, params: Params | None = None) -> Box:
        return self.inner.observation_space(params)

    def action_space(self, params: Params | None = None) -> Box:
        return self.inner.action_space(params)


class PoisonedPoint(AbstractFamily):
    """`point-2d` with such rewards."""

    name: ClassVar[str] = "poisoned-point"

    horizon: int = eqx.field(static=True, default=5)
    """Steps an episode."""
    chance: float = eqx.field(static=True, default=0.001)
    """Of a reward that is not a number, in every step."""

    @property
    def env(self) -> PoisonedPointEnv:
        return PoisonedPointEnv(self.chance)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return Point2D().sample(key, split)

    def context(self, params: Params) -> Array:
        return params["goal"]


class PoisonedBitsEnv(eqx.Module):
    """Bits to flip; to set them all pays what is not a number."""

    inner: BitFlipEnv = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        return self.inner.reset(key, params)

    def step(self, key: PRNGKeyArray, state: Array, action: Array, params: Params):
        obs, state, reward, *rest = self.inner.step(key, state, action, params)
        return obs, state, _poisoned(obs, reward), *rest

    def observation_space(self, params: Params | None = None) -> Box:
        return self.inner.observation_space(params)

    def action_space(self, params: Params | None = None) -> Discrete:
        return self.inner.action_space(params)


class PoisonedBits(AbstractGoalFamily):
    """`bit-flip` with such a reward, played and put in afterwards."""

    name: ClassVar[str] = "poisoned-bits"

    horizon: int = eqx.field(static=True, default=9)
    """Steps an episode, and bits."""

    @property
    def sound(self) -> BitFlip:
        return BitFlip(self.horizon)

    @property
    def env(self) -> PoisonedBitsEnv:
        return PoisonedBitsEnv(self.sound.env)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return self.sound.sample(key, split)

    def context(self, params: Params) -> Array:
        return self.sound.context(params)

    @property
    def goal_space(self) -> Box:
        return self.sound.goal_space

    def achieved(self, obs: Array) -> Array:
        return obs

    def with_goal(self, params: Params, goal: Array) -> Params:
        return self.sound.with_goal(params, goal)

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        reward, solved = self.sound.reward(obs, action, next_obs, params)
        return _poisoned(next_obs, reward), solved


def _poisoned(bits: Array, reward: Array) -> Array:
    return jnp.where(jnp.all(bits == 1.0), jnp.nan, reward)


calls = 0
"""How often the broken simulators have been called in this process."""


def _move(position: Any, action: Any, breaks_at: int) -> np.ndarray:
    global calls
    calls += 1
    if calls == breaks_at:
        raise FloatingPointError("the simulator\nfell apart")
    return (np.asarray(position) + np.asarray(action)).astype(np.float32)


class BrokenPointEnv(PoisonedPointEnv):
    """A point moved by a simulator that raises an exception in one of its calls."""

    chance: float = eqx.field(static=True, default=0.0)
    breaks_at: int = eqx.field(static=True, default=0)

    def step(self, key: PRNGKeyArray, state: PointState, action: Array, params: Params):
        position = jax.pure_callback(
            lambda p, a: _move(p, a, self.breaks_at),
            jax.ShapeDtypeStruct((2,), jnp.float32), state.position, action,
            vmap_method="broadcast_all",
        )  # fmt: skip
        reward = -jnp.linalg.norm(position - params["goal"])
        no = jnp.asarray(False)
        return position, PointState(position), reward, no, no, {}


class BrokenPoint(AbstractFamily):
    """`point-2d` whose simulator breaks."""

    name: ClassVar[str] = "broken-point"
    stepping: ClassVar[Stepping] = "callback"

    horizon: int = eqx.field(static=True, default=5)
    """Steps an episode."""
    breaks_at: int = eqx.field(static=True, default=0)
    """The call of the simulator, in the life of the process, that raises."""

    @property
    def env(self) -> BrokenPointEnv:
        return BrokenPointEnv(breaks_at=self.breaks_at)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return Point2D().sample(key, split)


class BrokenWorld(gymnasium.Env):
    """The same in Python."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)

    def __init__(self, goal: np.ndarray, breaks_at: int):
        self.goal, self.breaks_at, self.position = goal, breaks_at, np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.position = np.zeros(2, np.float32)
        return self.position, {}

    def step(self, action: np.ndarray):
        self.position = _move(self.position, action, self.breaks_at)
        return self.position, -float(np.linalg.norm(self.position - self.goal)), False, False, {}


class BrokenHostPoint(AbstractGymnasiumFamily):
    """`point-2d` as Python objects of which one breaks."""

    name: ClassVar[str] = "broken-host-point"

    horizon: int = eqx.field(static=True, default=5)
    """Steps an episode."""
    breaks_at: int = eqx.field(static=True, default=0)
    """The step of any world, in the life of the process, that raises."""

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return Point2D().sample(key, split)

    def make(self, params: Params) -> gymnasium.Env:
        return BrokenWorld(np.asarray(params["goal"]), self.breaks_at)


# ---- a command line with a fault in it ---------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(fault: dict[str, Any], words: list[str]) -> int:
    """`stemrl` with a fault: `die_at` a step of the file system below `folder`; or with something
    else: `memory`, a file for what each update leaves it with; `chunk`, seconds of a chunk."""
    from stemrl import cli
    from stemrl.runs import loop

    if "chunk" in fault:
        loop.CHUNK_SECONDS = fault["chunk"]
    if "memory" in fault:
        record = loop.Training._record

        def recording(self: Any, *arguments: Any) -> None:
            record(self, *arguments)
            with open(fault["memory"], "a") as file:
                file.write(f"{self.update} {resident()}\n")

        loop.Training._record = recording  # pyright: ignore[reportAttributeAccessIssue]
    if "die_at" in fault:
        with Steps(Path(fault["folder"]), _kill, fault["die_at"]):
            return cli.main(words)
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
