"""The exact Bayes-optimal agent of `gridnavi`.

Until the goal is found nothing is learned but where it is not, so the best agent follows one fixed
path of cells; when it steps on the goal it stays, and in later episodes it walks there straight.
What a path earns is a sum over goals of what finding each at its time is worth, so the best path
follows by dynamic programming over (goals not yet ruled out, cell), forward in time.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Context, Transition, UserError
from ..tasks.gridnavi import MOVES, GridNavi


class Knowledge(eqx.Module):
    """What the agent knows of the trial."""

    goal: Int[Array, "2"]
    """−1 until found."""
    time: Int[Array, ""]
    """Steps taken in the trial."""


class BayesOptimalSearcher(AbstractAgent):
    """An agent that follows the best path until it has found the goal, and then always walks
    straight to it. If its context reveals the goal, it does so from the start."""

    path: Int[Array, " trial_steps"]
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(cls, family: GridNavi, episodes: int = 4) -> "BayesOptimalSearcher":
        """Return the best agent of trials of `episodes` episodes."""
        search = best_search(family.size, family.horizon, episodes)
        return cls(path=jnp.asarray(search.path))

    def start(self, context: Context, key: PRNGKeyArray) -> Knowledge:
        goal = jnp.full(2, -1) if context is None else jnp.round(context)
        return Knowledge(goal.astype(jnp.int32), jnp.zeros((), jnp.int32))

    def begin(self, memory: Knowledge, key: PRNGKeyArray) -> Knowledge:
        return memory

    def act(self, memory: Knowledge, carry: Knowledge, obs: Array, key: PRNGKeyArray):
        straight = _towards(carry.goal, obs)
        searching = self.path[jnp.minimum(carry.time, self.path.shape[0] - 1)]
        return jnp.where(carry.goal[0] >= 0, straight, searching), carry, {}

    def observe(self, memory: Knowledge, carry: Knowledge, transition: Transition) -> Knowledge:
        found = transition.reward > 0
        goal = jnp.where(found, transition.next_obs.astype(jnp.int32), carry.goal)
        return Knowledge(goal, carry.time + 1)

    def adapt(
        self, memory: Knowledge, carries: Knowledge, episodes: Transition | None, key: PRNGKeyArray
    ):
        return Knowledge(carries.goal[-1], carries.time[-1])


class Belief(eqx.Module):
    """What is left to believe, and the goal that this episode is played for."""

    possible: Bool[Array, " goals"]
    target: Int[Array, "2"]


class GoalSampling(AbstractAgent):
    """Posterior sampling (PSRL): at the start of every episode the agent draws one of the goals
    that are not yet ruled out, believes in it, walks to it, and stays there until the episode ends.
    """

    goals: Int[Array, "goals 2"]
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Bool[Array, " goals"]:
        return jnp.ones(len(self.goals), bool)

    def begin(self, memory: Array, key: PRNGKeyArray) -> Belief:
        drawn = jax.random.categorical(key, jnp.where(memory, 0.0, -jnp.inf))
        return Belief(memory, self.goals[drawn])

    def act(self, memory: Array, carry: Belief, obs: Array, key: PRNGKeyArray):
        return _towards(carry.target, obs), carry, {}

    def observe(self, memory: Array, carry: Belief, transition: Transition) -> Belief:
        here = jnp.all(self.goals == transition.next_obs.astype(jnp.int32), axis=1)
        found = transition.reward > 0
        return Belief(carry.possible & (here == found), carry.target)

    def adapt(
        self, memory: Array, carries: Belief, episodes: Transition | None, key: PRNGKeyArray
    ) -> Array:
        return carries.possible[-1]


def _towards(goal: Int[Array, "2"], obs: Array) -> Int[Array, ""]:
    """The action that leads straight to `goal`; stays there."""
    reached = obs.astype(jnp.int32) + jnp.asarray(MOVES, jnp.int32)
    return jnp.argmin(jnp.sum(jnp.abs(reached - goal), axis=1)).astype(jnp.int32)


class Search(NamedTuple):
    """The best search of a trial."""

    value: float
    """Expected total return of the trial."""
    path: np.ndarray
    """Actions until the goal is found, `[episodes · horizon]` (int32)."""


def goal_known_return(size: int = 5, horizon: int = 15) -> float:
    """Return the mean return of an episode for an agent that knows the goal: −0.1 until it is
    reached."""
    return float(np.mean(_Grid(size, horizon, 1).known))


def goal_known_returns(
    goals: Int[np.ndarray, "tasks 2"],
    horizon: int = 15,
    start: tuple[int, int] = (0, 0),
    elsewhere: float = -0.1,
) -> Float[np.ndarray, " tasks"]:
    """Return, for each goal, the return of an episode of an agent that knows the goal. The goal
    pays 1 a step, every other cell `elsewhere`."""
    distance = np.abs(np.asarray(goals) - start).sum(axis=1)
    # The first step can already be on the goal: one away, or where it starts.
    first = np.maximum(distance, 1)
    before = elsewhere * (first - 1)
    return np.where(first <= horizon, (horizon + 1 - first) + before, elsewhere * horizon)


def search_returns(
    path: Int[np.ndarray, " trial_steps"],
    goals: Int[np.ndarray, "tasks 2"],
    size: int = 5,
    horizon: int = 15,
    start: tuple[int, int] = (0, 0),
    elsewhere: float = -0.1,
) -> Float[np.ndarray, "tasks episodes"]:
    """Return, for each goal, the return of each episode of an agent that follows `path` until it
    has found the goal, and then always walks straight to it."""
    goals = np.asarray(goals)
    known = goal_known_returns(goals, horizon, start, elsewhere)
    returns = np.zeros((len(goals), len(path) // horizon))
    found = np.zeros(len(goals), bool)
    for episode in range(returns.shape[1]):
        returns[found, episode] = known[found]
        searching, here = ~found, np.array(start)
        for action in path[episode * horizon : (episode + 1) * horizon]:
            here = np.clip(here + MOVES[action], 0, size - 1)
            found |= (goals == here).all(axis=1)
            returns[searching, episode] += np.where(found[searching], 1.0, elsewhere)
    return returns


@functools.lru_cache(maxsize=8)
def best_search(size: int = 5, horizon: int = 15, episodes: int = 4) -> Search:
    """Return the best search path of a trial of `episodes` episodes, and what it earns."""
    if size > 5:
        raise UserError(f"gridnavi is solved exactly up to size 5, not {size}")
    grid = _Grid(size, horizon, episodes)
    everything = (1 << len(grid.goals)) - 1
    total, actions = grid.solve(everything, 0)
    path = np.zeros(episodes * horizon, np.int32)
    path[: len(actions)] = actions
    return Search(total / len(grid.goals), path)


class _Grid:
    """The grid in numbers: cells, goals as bits, and what finding a goal when is worth."""

    def __init__(self, size: int, horizon: int, episodes: int):
        cells = [(x, y) for x in range(size) for y in range(size)]
        self.goals = [cell for cell in cells if max(cell) >= 2]
        number = {cell: i for i, cell in enumerate(cells)}
        top = size - 1
        self.moved = np.array(
            [
                [number[(min(max(x + dx, 0), top), min(max(y + dy, 0), top))] for dx, dy in MOVES]
                for x, y in cells
            ]
        )
        self.bit = np.zeros(len(cells), np.int64)
        for i, cell in enumerate(self.goals):
            self.bit[number[cell]] = 1 << i
        self.distance = np.array([x + y for x, y in self.goals])
        self.known = goal_known_returns(np.array(self.goals), horizon)
        self.horizon, self.episodes = horizon, episodes
        self.solved: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}

    def worth(self, goal: np.ndarray, episode: int, step: int) -> np.ndarray:
        """Return the trial's return if `goal` is first stepped on at `step` (from 1) of `episode`."""
        before = -0.1 * (self.horizon * episode + step - 1)
        later = (self.episodes - episode - 1) * self.known[goal]
        return before + (self.horizon + 1 - step) + later

    def best_case(self, mask: int, episode: int) -> float:
        """No search from `mask` at the start of `episode` earns more: every goal at once."""
        goals = np.array([i for i in range(len(self.goals)) if mask >> i & 1], int)
        found_at_once = -0.1 * self.horizon * episode + (self.episodes - episode) * self.known
        return float(np.sum(found_at_once[goals]))

    def solve(self, mask: int, episode: int) -> tuple[float, tuple[int, ...]]:
        """Σ over the goals in `mask` of what the best search from the start of `episode` earns
        when that is the goal, and the search's actions."""
        if mask == 0 or episode == self.episodes:
            return self.best_case(mask, episode), ()
        if (mask, episode) in self.solved:
            return self.solved[mask, episode]
        layers = self.walk(mask, episode)
        codes, earned, _, _ = layers[-1]
        left = codes >> 5
        # The most promising ends first; stop when none that is left can beat the best.
        masks, inverse = np.unique(left, return_inverse=True)
        bound = np.array([self.best_case(int(m), episode + 1) for m in masks])[inverse] + earned
        best, best_end, best_rest = -np.inf, 0, ()
        for end in np.argsort(-bound):
            if bound[end] <= best:
                break
            rest, actions = self.solve(int(left[end]), episode + 1)
            if earned[end] + rest > best:
                best, best_end, best_rest = float(earned[end] + rest), int(end), actions
        actions = []
        at = best_end
        for _, _, parent, action in reversed(layers):
            actions.append(int(action[at]))
            at = int(parent[at])
        result = best, (*reversed(actions), *best_rest)
        self.solved[mask, episode] = result
        return result

    def walk(self, mask: int, episode: int) -> list[tuple[np.ndarray, ...]]:
        """Return all that an episode's search can reach from `mask`, step by step: code (mask · 32
        + cell), most earned on the goals found, index of the code before, action."""
        codes, earned = np.array([mask << 5]), np.zeros(1)
        layers = []
        for step in range(1, self.horizon + 1):
            reached, gains, parents, actions = [], [], [], []
            for action in range(1, len(MOVES)):  # staying finds nothing
                cell = self.moved[codes & 31, action]
                new = (codes >> 5) & self.bit[cell]
                goal = np.where(new > 0, np.log2(np.maximum(new, 1)).astype(int), 0)
                gain = np.where(new > 0, self.worth(goal, episode, step), 0.0)
                reached.append(((codes >> 5) & ~new) * 32 + cell)
                gains.append(earned + gain)
                parents.append(np.arange(len(codes)))
                actions.append(np.full(len(codes), action))
            code, gain = np.concatenate(reached), np.concatenate(gains)
            order = np.lexsort((-gain, code))
            first = np.ones(len(order), bool)
            first[1:] = code[order][1:] != code[order][:-1]
            keep = order[first]
            codes, earned = code[keep], gain[keep]
            layers.append(
                (codes, earned, np.concatenate(parents)[keep], np.concatenate(actions)[keep])
            )
        return layers
