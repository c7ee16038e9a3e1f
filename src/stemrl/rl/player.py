"""One agent in one world that somebody else steps: a robot, a `gymnasium.Env`, a loop of one's own.

The rollouts need worlds that they can step, batch and reset; a `Player` needs nothing but the
observations. It calls the same five functions of the agent in the same order as they do, for one task and
one episode at a time, compiled, and keeps between two calls what an agent keeps: memory, carry and, for an
adaptation, the round of episodes so far.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    COLUMNS,
    AbstractAgent,
    AbstractFamily,
    Box,
    Carry,
    Context,
    Discrete,
    Memory,
    Problem,
    Space,
    Transition,
    UserError,
    as_seen,
    check_agent,
    unscale_action,
)
from ..core.spaces import see
from ..tasks.gymnasium import as_taken, known_space, seen_by_agents
from .experience import like, strong


class Player:
    """An agent on one task, played from outside: NumPy in, NumPy out, compiled inside.

    For every kind of agent. After each episode that fills a round (`episodes_per_round`) it adapts by
    itself, and what an agent remembers of the task lives on from episode to episode until `reset`. Observations
    are normalized and actions scaled to the action space's bounds as in training.

        player = stemrl.load("runs/x").player(env)
        observation, _ = env.reset()
        while not done:
            observation, reward, terminated, truncated, _ = env.step(player.act(observation))
            done = player.observe(observation, reward, terminated, truncated)

    `play` is that loop over whole episodes.
    """

    def __init__(
        self,
        agent: AbstractAgent,
        problem: Problem | AbstractFamily,
        env: Any = None,
        *,
        task: Mapping[str, Any] | None = None,
        context: Any = None,
        most_likely: bool = False,
        horizon: int | None = None,
        seed: int = 0,
        record: bool = False,
    ):
        """**Arguments:**

        - `agent`, `problem`: what was trained, on what; a family stands for its problem.
        - `env`: the `gymnasium.Env` that will be played, if it is one: its spaces are held against
          those of the problem's target, and dictionaries and whole numbers are read by them.
        - `task`, `context`: what the policy is told, where it was trained with `reveal="context"`:
          the task's parameters by name, or ω itself as the family's `context` gives it.
        - `most_likely`: the most likely action instead of a sampled one.
        - `horizon`: steps after which an episode counts as truncated; by default the family's.
        - `seed`: of everything random.
        - `record`: keep every step that is played, for `save`.

        Raises `UserError` where `env` has other spaces than the agent, and for a context that is
        missing or was not asked for.
        """
        if not isinstance(problem, Problem):
            problem = Problem.of(problem)
        check_agent(agent, problem)
        family = problem.target
        self.agent = dataclasses.replace(agent, greedy=True) if most_likely else agent
        self.problem = problem
        self.horizon = family.horizon if horizon is None else horizon
        if self.horizon < 1:
            raise UserError(f"horizon must be at least 1, not {self.horizon}")
        self.observation_space = family.observation_space
        self.action_space = family.action_space
        self._raw_space = family.env.observation_space()
        self.env: Any = None
        if env is not None:
            self._check(env)
        kind = type(agent)
        self._watches = kind.observe is not AbstractAgent.observe
        self._adapts = kind.adapt is not AbstractAgent.adapt
        self._leaves = jax.tree.leaves(self.agent)
        self._key = jax.random.key(seed)
        self._context: Context = None
        self._tasks = 0
        self._recorded: list[tuple[Any, ...]] | None = [] if record else None
        self.reset(task, context)

    # ---- the life of an agent ------------------------------------------------------------------

    def reset(self, task: Mapping[str, Any] | None = None, context: Any = None) -> None:
        """Begin a new task, of which nothing is known. `task`, `context`: as above; where the policy is told
        the task and neither is given, what it was told before."""
        self._context = self._told(task, context)
        self._tasks += 1
        self._calls = 0
        self._task_key = jax.random.fold_in(self._key, self._tasks)
        self.episodes = 0
        self.adaptations = 0
        self._new_round(_start(self.agent, self._context, self._next_key()))

    def act(self, observation: Any) -> Any:
        """Return the action for an observation, in the world's units: an array, or where the space is a
        `Discrete` an `int`. Raises `UserError` for an observation of another shape than the agent's."""
        if self._acted is not None and (self._watches or self._adapts):
            raise UserError(
                "this agent learns from what follows its actions: after each act, call"
                " observe(observation, reward, terminated, truncated)"
            )
        obs = self._seen(observation)
        self._calls += 1
        action, taken, carry, info = self._programs.act(
            self._leaves,
            self._memory_leaves,
            self._carry,
            obs,
            self._task_key,
            np.int32(self._calls),
        )
        self._acted = _Acted(obs, action, np.asarray(taken), carry, info)
        return self._outwards(np.asarray(taken))

    def observe(
        self, observation: Any, reward: Any, terminated: Any, truncated: Any = False
    ) -> bool:
        """Take in what followed the action, the first four values that `env.step` returns. Returns whether the
        episode is over, be it by the horizon; what is acted on next is then another episode's first
        observation. Whether the agent has adapted since, `adaptations` tells."""
        if self._acted is None:
            raise UserError("there is no action that this could have followed: call act first")
        seen = self._seen(observation)
        paid: Any = np.float32(reward)
        if not np.isfinite(paid):
            raise UserError(
                f"the reward is {paid}, not a finite number; nothing was remembered of it"
            )
        self._time += 1
        terminated = bool(terminated)
        truncated = not terminated and (bool(truncated) or self._time >= self.horizon)
        if self._recorded is not None:
            step = (self._acted.obs, self._acted.taken, paid, terminated, truncated, seen)
            self._recorded.append(step)
        ends: Any = np.array([terminated, truncated])
        valid: Any = np.bool_(True)
        transition = Transition(
            obs=self._acted.obs,
            action=self._acted.action,
            reward=paid,
            terminated=ends[0],
            truncated=ends[1],
            next_obs=seen,
            valid=valid,
            info=self._acted.info,
            events={},
        )
        if self._watches:
            self._carry = self._programs.observe(
                self._leaves, self._memory_leaves, self._acted.carry, transition
            )
        else:
            self._carry = self._acted.carry
        self._acted = None
        if self._adapts:
            self._steps.append(jax.tree.map(np.asarray, transition))
        if terminated or truncated:
            self._end_episode()
        return terminated or truncated

    def play(self, env: Any = None, episodes: int = 1) -> Float[np.ndarray, " episodes"]:
        """Play so many episodes, one after another, in a `gymnasium.Env`: by default the one that the
        player was made for. Returns their undiscounted returns. An episode that was left in its middle
        is forgotten."""
        if env is not None and env is not self.env:
            self._check(env)
        if self.env is None:
            raise UserError("a player plays in a gymnasium.Env; give one")
        if self._time or self._acted is not None:
            self._begin()
        returns = np.zeros(episodes)
        for episode in range(episodes):
            observation, _ = self.env.reset(seed=int(jax.random.bits(self._next_key()) >> 1))
            over = False
            while not over:
                step = self.env.step(self.act(observation))
                observation, reward, terminated, truncated, _ = step
                returns[episode] += float(reward)
                over = self.observe(observation, reward, terminated, truncated)
        return returns

    def save(self, path: str | Path) -> int:
        """Write the steps that were recorded so far to a `.npz`, one array a column (`stemrl.core.COLUMNS`), as
        `--target-data` takes it: observations as the agent sees them, actions in the world's units, and what truly
        followed. Returns how many steps there are. Raises `UserError` where none was recorded."""
        if not self._recorded:
            raise UserError(
                "nothing was recorded: make the player with record=True, and play"
                if self._recorded is None
                else "nothing was recorded yet: play first"
            )
        columns = (np.stack(column) for column in zip(*self._recorded, strict=True))
        names: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
        with open(path, "wb") as file:  # by its very name: NumPy would add .npz
            np.savez_compressed(file, **names)
        return len(self._recorded)

    # ---- within --------------------------------------------------------------------------------

    def _next_key(self) -> PRNGKeyArray:
        """No key twice: a task's keys are counted, whatever they are for."""
        self._calls += 1
        return jax.random.fold_in(self._task_key, self._calls)

    def _new_round(self, memory: Memory) -> None:
        self.memory = memory
        self._memory_leaves, shape = jax.tree.flatten(memory)
        self._carries: list[Carry] = []
        self._played: list[list[Transition]] = []
        self._begin()
        shapes = (jax.tree.structure(self.agent), shape, self._carry_shape)
        self._programs = _programs(*shapes, self.action_space)

    def _begin(self) -> None:
        """A new episode."""
        carry = _begin(self.agent, self.memory, self._next_key())
        self._carry, self._carry_shape = jax.tree.flatten(carry)
        self._steps: list[Transition] = []
        self._acted: _Acted | None = None
        self._time = 0

    def _end_episode(self) -> None:
        self.episodes += 1
        self._carries.append(jax.tree.unflatten(self._carry_shape, self._carry))
        self._played.append(self._steps)
        if len(self._carries) < self.agent.episodes_per_round:
            self._begin()
        elif self._adapts:
            # As long as in training, where they are shorter: what is drawn by shape stays the same.
            horizon = max(self.horizon, self.problem.target.horizon)
            episodes = jax.tree.map(
                lambda *episodes: np.stack(episodes),
                *(_padded(steps, horizon) for steps in self._played),
            )
            self.adaptations += 1
            key = self._next_key()
            self._new_round(_adapt(self.agent, self.memory, self._carries, episodes, key))
        else:
            self._new_round(self.memory)

    def _seen(self, observation: Any) -> np.ndarray:
        """The observation as the agent sees it."""
        space, family = self.observation_space, self.problem.target
        try:
            if self.env is not None:
                seen = seen_by_agents(family.name, self.env.observation_space, observation)
            elif self._raw_space != space:
                seen = see(self._raw_space, observation)
            else:
                seen = observation
            array = np.array(seen, space.dtype)  # a copy: a world may fill the same array again
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"this agent sees {_described(space)}, and the observation is none: {error}"
            ) from None
        if array.shape != space.shape:
            raise UserError(
                f"the observation has the shape {array.shape}; this agent was trained on"
                f" '{family.name}', where it has the shape {space.shape}"
            )
        if not np.isfinite(array).all():
            raise UserError(
                "the observation holds values that are not finite numbers; nothing was remembered of it,"
                " so that another may follow"
            )
        return array

    def _outwards(self, action: np.ndarray) -> Any:
        if isinstance(self.action_space, Discrete):
            return int(action)
        if self.env is None:
            return action
        return as_taken(self.env.action_space, action)

    def _check(self, env: Any) -> None:
        """Take `env` for the world to be played. Raises `UserError` if it is none for this agent."""
        family = self.problem.target
        if not all(hasattr(env, name) for name in ("reset", "step", "action_space")):
            raise UserError(f"a player plays in a gymnasium.Env, not in {env!r}")
        name = getattr(getattr(env, "spec", None), "id", type(env).__name__)
        observed = as_seen(known_space(name, "observation", env.observation_space))
        acted = known_space(name, "action", env.action_space)
        for what, ours, theirs in (
            ("observation", family.observation_space, observed),
            ("action", as_seen(family.action_space), as_seen(acted)),
        ):
            if _kind(ours) != _kind(theirs):
                raise UserError(
                    f"'{name}' has another {what} space than '{family.name}', on which this agent was"
                    f" trained: {_described(theirs)}, not {_described(ours)}"
                )
        self.env = env
        # What an agent's −1 and 1 are was learned; from where an environment counts is its own matter.
        self.action_space = family.action_space if isinstance(acted, Box) else acted

    def _told(self, task: Mapping[str, Any] | None, context: Any) -> Context:
        """What the policy is told."""
        family = self.problem.target
        if self.problem.reveal == "nothing":
            if task is not None or context is not None:
                raise UserError(
                    "this agent was trained without being told the task (reveal 'nothing'), so it"
                    " cannot be told: leave task and context out"
                )
            return None
        params = jax.eval_shape(lambda: family.sample(jax.random.key(0), "train"))
        shape = jax.eval_shape(family.context, params)
        if task is not None:
            if not isinstance(params, dict) or set(params) != set(task):
                names = ", ".join(params) if isinstance(params, dict) else "none by name"
                raise UserError(
                    f"a task of '{family.name}' has the parameters {names}, not {', '.join(task)}"
                )
            given = {name: jnp.asarray(task[name], leaf.dtype) for name, leaf in params.items()}
            context = family.context(given)
        if context is None:
            if self._context is None:
                raise UserError(
                    "this agent is told the task (reveal 'context'): give its parameters as task, or"
                    f" what '{family.name}' makes of them, shape {shape.shape}, as context"
                )
            return self._context
        told = jnp.asarray(context, shape.dtype)
        if told.shape != shape.shape:
            raise UserError(f"the context has the shape {told.shape}, not {shape.shape}")
        return told


class _Acted(NamedTuple):
    """An action, until it is known what followed."""

    obs: np.ndarray
    action: Array
    taken: np.ndarray
    """The action in the world's units."""
    carry: list[Array]
    info: dict[str, Any]


class _Programs(NamedTuple):
    """What is called at every step. Agent, memory and carry go in and out as flat lists: taking a module
    apart and putting it together again would take longer than a small network."""

    act: Callable[..., Any]
    observe: Callable[..., Any]


@functools.lru_cache(maxsize=64)
def _programs(agent_shape: Any, memory_shape: Any, carry_shape: Any, space: Space) -> _Programs:
    def together(agent: Any, memory: Any, carry: Any) -> tuple[AbstractAgent, Memory, Carry]:
        return (
            jax.tree.unflatten(agent_shape, agent),
            jax.tree.unflatten(memory_shape, memory),
            jax.tree.unflatten(carry_shape, carry),
        )

    def act(
        leaves: Any, memory_leaves: Any, carry_leaves: Any, obs: Any, key: Any, call: Any
    ) -> Any:
        agent, memory, carry = together(leaves, memory_leaves, carry_leaves)
        action, acted, info = agent.act(memory, carry, obs, jax.random.fold_in(key, call))
        taken = unscale_action(space, action)
        return action, taken, jax.tree.leaves(like(acted, carry)), info

    def observe(leaves: Any, memory_leaves: Any, carry_leaves: Any, transition: Transition) -> Any:
        agent, memory, carry = together(leaves, memory_leaves, carry_leaves)
        return jax.tree.leaves(like(agent.observe(memory, carry, transition), carry))

    return _Programs(jax.jit(act), jax.jit(observe))


@eqx.filter_jit
def _start(agent: AbstractAgent, context: Context, key: PRNGKeyArray) -> Memory:
    return strong(agent.start(context, key))


@eqx.filter_jit
def _begin(agent: AbstractAgent, memory: Memory, key: PRNGKeyArray) -> Carry:
    return strong(agent.begin(memory, key))


@eqx.filter_jit
def _adapt(
    agent: AbstractAgent,
    memory: Memory,
    carries: list[Carry],
    episodes: Transition,
    key: PRNGKeyArray,
) -> Memory:
    carries = jax.tree.map(lambda *each: jnp.stack(each), *carries)
    return like(agent.adapt(memory, carries, episodes, key), memory)


def _padded(steps: list[Transition], horizon: int) -> Transition:
    """An episode `[time, …]`, zero after its end."""

    def leaf(*rows: np.ndarray) -> np.ndarray:
        missing = [(0, horizon - len(rows))] + [(0, 0)] * rows[0].ndim
        return np.pad(np.stack(rows), missing)

    return jax.tree.map(leaf, *steps)


def _kind(space: Space) -> tuple[Any, ...]:
    """What of a space decides whether a network fits it."""
    whole = getattr(space, "n", None), getattr(space, "sizes", None)
    return type(space).__name__, *whole, space.shape if isinstance(space, Box) else ()


def _described(space: Space) -> str:
    if isinstance(space, Box):
        return f"numbers of shape {space.shape}"
    if isinstance(space, Discrete):
        return f"one of {space.n} whole numbers"
    return f"whole numbers, one of each of {space.sizes}"
