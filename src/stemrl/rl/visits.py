"""Visits of the target: the few steps that a learner may take where it will count.

The source is stepped at every update, the target now and then: every `source_to_target` steps of
the source pay for one of the target, and none is taken beyond the problem's budget. A visit is a
chunk of packed lanes like any other (`rollout`), by whichever agent explores for the learner.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractAgent, Problem, Space, Transition, UserError
from .experience import RolloutState, only_if
from .replay import Replay
from .rollout import begin_rollout, rollout


class Schedule(NamedTuple):
    """How often the target is visited, and for how long. All fields are static."""

    source_steps: int
    """Steps that an update takes in the source."""
    source_to_target: int
    """How many steps are taken in the source for each one in the target."""
    num_envs: int
    """How many worlds of the target are played side by side."""
    length: int
    """How many steps a visit takes in each of them."""

    @classmethod
    def of(
        cls, source_steps: int, source_to_target: int, num_envs: int, rollout_length: int
    ) -> "Schedule":
        """Return the schedule for a learner that takes `rollout_length` steps in each of `num_envs`
        worlds of the source. As many worlds of the target are visited at every update or, where the
        steps do not divide, at nearly every one, so that the ratio holds in the long run."""
        length = max(1, math.ceil(rollout_length / source_to_target))
        return cls(source_steps, source_to_target, num_envs, length)

    @property
    def steps(self) -> int:
        """The number of steps that one visit takes."""
        return self.num_envs * self.length

    def total(self, updates: int) -> int:
        """Return how many steps in the target so many updates take, exactly, if the budget allows
        for them."""
        if updates < 1:
            return 0
        # Visit k falls into the first update i with k · steps · ratio ≤ i · source_steps.
        paid = (updates - 1) * self.source_steps
        return self.steps * min(updates, paid // (self.steps * self.source_to_target) + 1)


class Visits(eqx.Module):
    """The target's worlds in the middle of being played, and how much of the budget was spent
    there."""

    rollout_state: RolloutState
    spent: Int[Array, ""]
    """Steps of the problem's budget that were taken in the target so far."""


class Visit(NamedTuple):
    """The steps that one update took in the target."""

    transitions: Transition
    """`[time, lanes, …]`, without `info`; zeros, not valid, where nothing was played."""
    taken: Bool[Array, ""]
    """Whether anything was played: it was due, and within the budget."""
    mean_return: Float[Array, ""]
    """The mean return of the episodes that ended in it (see `Rollout.mean_return`); 0 where nothing
    was played."""


def begin_visits(
    agent: AbstractAgent, problem: Problem, schedule: Schedule, key: PRNGKeyArray
) -> Visits:
    """Return worlds of the target at the start of their first episodes. Raises `UserError` if the
    budget does not even allow for one visit."""
    if problem.budget < schedule.steps:
        named = problem.source.identity != problem.target.identity
        raise UserError(
            f"a visit of the target takes {schedule.steps} steps and the budget is"
            f" {problem.budget}; {'' if named else 'name a target and '}give --budget"
            f" (about steps / {schedule.source_to_target})"
        )
    lanes = begin_rollout(agent, problem, problem.target, key, schedule.num_envs)
    return Visits(lanes, jnp.zeros((), jnp.int32))


def visit(
    agent: AbstractAgent,
    problem: Problem,
    visits: Visits,
    schedule: Schedule,
    collected: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Visits, Visit]:
    """Play a chunk in the target, if one is due after `collected` steps in the source and fits into
    the budget. Return the worlds as they are then, and the steps."""
    due = visits.spent * schedule.source_to_target <= collected
    taken = due & (visits.spent + schedule.steps <= problem.budget)

    def play(lanes: RolloutState) -> tuple[RolloutState, Transition, Array]:
        lanes, experience = rollout(agent, problem, problem.target, lanes, key, schedule.length)
        steps = experience.transitions
        told = {k: v for k, v in steps.events.items() if k == "diverged"}
        return lanes, steps._replace(info={}, events=told), experience.mean_return()

    if problem.target.stepping == "host":
        if bool(taken):
            lanes, steps, mean_return = play(visits.rollout_state)
        else:
            lanes, steps, mean_return = visits.rollout_state, _nothing(problem, schedule), 0.0
    else:
        lanes, steps, mean_return = only_if(taken, play, visits.rollout_state)
    spent = visits.spent + jnp.where(taken, schedule.steps, 0)
    return Visits(lanes, spent), Visit(steps, taken, jnp.asarray(mean_return, jnp.float32))


def kept(replay: Replay, visit: Visit, rows: PyTree[Array]) -> Replay:
    """Return the replay with the rows that were made of a visit, if it took place; as many rows as the
    visit has steps, `Schedule.steps`."""
    return lax.cond(visit.taken, lambda held: held.add(rows), lambda held: held, replay)


def known_steps(problem: Problem, visits: Visits | None) -> Int[Array, ""]:
    """Return how many steps of the target are known: those of the visits so far or, where a file
    takes their place, its rows."""
    if visits is not None:
        return visits.spent
    assert problem.logged is not None
    return jnp.asarray(problem.logged.rows)


def _nothing(problem: Problem, schedule: Schedule) -> Transition:
    """Steps that were not taken, for worlds on the host."""
    shape = (schedule.length, schedule.num_envs)

    def zeros(space: Space, dtype: str | None = None) -> Array:
        return jnp.zeros((*shape, *space.shape), dtype or space.dtype)

    obs, actions, no = (
        problem.target.observation_space,
        problem.target.action_space,
        jnp.zeros(shape, bool),
    )
    action = zeros(actions, "int32" if actions.shape == () else "float32")
    return Transition(zeros(obs), action, jnp.zeros(shape), no, no, zeros(obs), no, {}, {})
