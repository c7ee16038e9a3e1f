"""Python environments as worlds: what they answer, and which lane is in which.

A world cannot be saved. `RolloutState.state` holds the number of the world that a lane is in and how often
it has been stepped; the worlds themselves are kept here, for the life of the process.
"""

import atexit
import contextlib
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int

from ..core import AbstractFamily, AbstractHostFamily, Discrete, Params
from ..core.contract import several
from ..errors import SimulatorError, said
from ..tasks.gymnasium import as_taken, seen_by_agents
from .experience import RolloutState


class WorldState(NamedTuple):
    """Which world a lane is in, every leaf `[lanes]`."""

    number: Int[Array, " lanes"]
    """0: none yet; one is to be made for the lane's task."""
    steps: Int[Array, " lanes"]
    """How often the world has been stepped in its life."""
    seed: Int[Array, " lanes"]
    """Of the reset that a new world begins with."""


class World:
    """One Python environment, and how often it has been stepped."""

    def __init__(self, family: AbstractFamily, params: Params):
        """**Arguments:** a host family, and the parameters of one task (NumPy leaves)."""
        if not isinstance(family, AbstractHostFamily):
            raise TypeError(f"'{family.name}' is stepped on the host but is no AbstractHostFamily")
        self.family: AbstractHostFamily = family
        self.params = params
        self.steps = 0
        self.space = family.observation_space
        self.discrete = isinstance(family.action_space, Discrete)
        self.env: Any = family.attempt("make", params, lambda: family.make(params))

    @property
    def changeable(self) -> bool:
        """Whether the family knows how to change what it makes."""
        order = type(self.family).__mro__
        changer, maker = (
            next(i for i, cls in enumerate(order) if name in vars(cls))
            for name in ("change", "make")
        )
        # What a subclass makes otherwise, its base does not know how to change.
        return changer <= maker

    def change(self, params: Params) -> bool:
        """Become the world of another task, if the family can; return whether it could."""
        if not self.changeable or not self._attempt(
            "change", lambda: self.family.change(self.env, params)
        ):
            return False
        self.params, self.steps = params, 0
        return True

    def reset(self, seed: int) -> np.ndarray:
        """Return the first observation of a new episode."""
        found = self._attempt("reset", lambda: self.env.reset(seed=seed))
        if not isinstance(found, tuple) or len(found) != 2:
            raise self._odd(f"reset gave {several(found)}, not (observation, info)")
        return self._observation(found[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, bool]]:
        """Return `(next_obs, reward, terminated, truncated, events)`; `action` in the world's
        units."""
        taken: Any = int(action) if self.discrete else as_taken(self.env.action_space, action)
        answer = self._attempt(f"step {self.steps + 1}", lambda: self.env.step(taken))
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise self._odd(
                f"step gave {several(answer)}, not (observation, reward, terminated, truncated, info)"
                " as Gymnasium's environments do"
            )
        obs, reward, terminated, truncated, info = answer
        for what, value in (
            ("reward", reward),
            ("terminated", terminated),
            ("truncated", truncated),
        ):
            if np.size(value) != 1:
                raise self._odd(f"step gave a {what} of shape {np.shape(value)}; it is one number")
        reward, terminated, truncated = (np.ravel(x)[0] for x in (reward, terminated, truncated))
        self.steps += 1
        key = self.family.success_key
        events = {"success": bool(info.get(key, False))} if key else {}
        return self._observation(obs), float(reward), bool(terminated), bool(truncated), events

    def _odd(self, said: str) -> SimulatorError:
        return SimulatorError(f"'{self.family.name}': {said}; its task was {self.params}")

    def close(self) -> None:
        """Free what the environment holds. Nothing more is wanted of it, and if its process is dead
        it cannot even close: errors are ignored, so that none hides what went wrong before."""
        with contextlib.suppress(Exception):
            self.env.close()

    def _observation(self, obs: Any) -> np.ndarray:
        try:
            seen = seen_by_agents(self.family.name, self.env.observation_space, obs)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SimulatorError(
                f"'{self.family.name}' gave an observation that is not of its space"
                f" {self.env.observation_space} ({said(error)}); its task was {self.params}"
            ) from error
        array = np.asarray(seen, self.space.dtype)
        if array.shape != self.space.shape:
            raise SimulatorError(
                f"'{self.family.name}' gave an observation of shape {array.shape},"
                f" not {self.space.shape} as its space says; its task was {self.params}"
            )
        return array

    def _attempt(self, what: str, call: Any) -> Any:
        return self.family.attempt(what, self.params, call)


SPARE = 32
"""Worlds at most that wait, all families together, for somebody to play in them again."""

_spare: list[World] = []


def borrow(family: AbstractFamily, params: Params) -> World:
    """Return a world of a task: one that was returned, if the family can change it, or a new one. To
    make one can take as long as an episode in it."""
    index = next((i for i, world in enumerate(_spare) if world.family == family), None)
    if index is not None:
        world = _spare.pop(index)
        if world.change(params):
            return world
        world.close()
    return World(family, params)


def give_back(worlds: list[World]) -> None:
    """Keep worlds, all of one family, for `borrow`, if it can change them and as far as there is
    place; close the others."""
    keep = [world for world in worlds if world.changeable]
    if keep and not _spare:
        atexit.register(_close_spare)
    # A family that is played in no more makes place for one that is.
    for world in [w for w in _spare if w.family != keep[0].family] if keep else []:
        _spare.remove(world)
        world.close()
    place = SPARE - len(_spare)
    _spare.extend(keep[:place])
    for world in [*keep[place:], *(w for w in worlds if not w.changeable)]:
        world.close()


def _close_spare() -> None:
    while _spare:
        _spare.pop().close()


# The live worlds of this process's lanes, by number. Numbers are random, so that one out of a
# checkpoint does not name another run's world.
_worlds: dict[int, World] = {}


def keep(world: World) -> int:
    """Keep a world, and return the number that it is known by."""
    if not _worlds:
        # Registered after whatever the environment imported, so it runs before: `multiprocessing`
        # waits at exit for processes that nobody has told to end.
        atexit.register(_drop_all)
    number = 1 + secrets.randbelow(2**31 - 1)
    while number in _worlds:
        number = 1 + secrets.randbelow(2**31 - 1)
    _worlds[number] = world
    return number


def drop(number: int) -> None:
    """Close a world and forget it."""
    if number in _worlds:
        _worlds.pop(number).close()


def free(number: int) -> World | None:
    """Forget a world without closing it, for another task (see `open_worlds`)."""
    return _worlds.pop(number, None)


def _drop_all() -> None:
    for number in list(_worlds):
        drop(number)


def lost(rollout_state: RolloutState) -> np.ndarray:
    """Return which lanes are in a world that this process does not have, at that very step:
    `[lanes]`."""
    numbers, steps = np.asarray(rollout_state.state.number), np.asarray(rollout_state.state.steps)
    found = [_worlds.get(int(number)) for number in numbers]
    here = [w is not None and w.steps == at for w, at in zip(found, steps, strict=True)]
    return (numbers > 0) & ~np.array(here)


def open_worlds(
    family: AbstractFamily, rollout_state: RolloutState, left: Iterable[World | None] = ()
) -> tuple[list[World], RolloutState]:
    """Return every lane's world; those yet to be made are made, or made of one that is `left` from
    a trial that has ended, and reset. What is left over is closed."""
    pool = [world for world in left if world is not None]
    state = jax.tree.map(np.array, rollout_state.state)
    obs = np.array(rollout_state.obs)
    new = np.flatnonzero(state.number == 0)
    params = jax.device_get(rollout_state.params) if len(new) else None
    for lane in new:
        one = jax.tree.map(lambda x, lane=lane: x[lane], params)
        world = pool.pop() if pool else None
        if world is not None and not world.change(one):
            world.close()
            world = None
        world = world or World(family, one)
        obs[lane] = world.reset(int(state.seed[lane]))
        state.number[lane], state.steps[lane] = keep(world), 0
    for world in pool:
        world.close()
    worlds = [_worlds[int(number)] for number in state.number]
    return worlds, rollout_state._replace(obs=obs, state=state)
