"""Playing an agent on many tasks, in as many parts as the memory asks for."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, AbstractFamily, Box, Context, Params, Problem, count
from ..machine import refuse_beyond_memory
from ..rl import play

# Experience of the tasks that are played at once is kept below about this many bytes.
MEMORY = 512 * 2**20
AT_ONCE = 50_000
"""Tasks at most that are played at once, so that it can be said how far it is."""

Progress = Callable[[int, int], None]
"""Called with what is done and with all that there is to do."""


class Played(NamedTuple):
    """Every episode's undiscounted return, length, and whether its simulation broke down."""

    scores: Float[np.ndarray, "tasks rounds episodes"]
    lengths: Int[np.ndarray, "tasks rounds episodes"]
    diverged: Bool[np.ndarray, "tasks rounds episodes"]


def refuse_large(tasks: int, size: int) -> None:
    """Raise `UserError` where the scores or examples of so many tasks, `size` bytes, are more than this
    machine can hold."""
    refuse_beyond_memory(f"{tasks:,} tasks", size, "take fewer of them")


def play_tasks(
    agent: AbstractAgent,
    problem: Problem,
    params: Params,
    key: PRNGKeyArray,
    rounds: int,
    progress: Progress | None = None,
) -> Played:
    """Return the episodes in which `agent` adapts to the tasks `params`, of the problem's target.

    Many tasks are played in chunks. The size of a chunk depends on nothing but shapes, so that the
    same call means the same on any machine.
    """
    family = problem.target
    context = jax.vmap(lambda p: problem.context(family, p))(params)
    run = _play_and_sum if family.stepping == "host" else _compiled
    # A gradient step over tasks one after another takes about 0.6 of the time of all at once on a
    # CPU, and far less memory.
    one_by_one = agent.episodes_per_round > 1 and jax.default_backend() == "cpu"
    tasks = count(params)
    # Compiled, only one round's experience is alive at a time: nothing of it leaves the program.
    episodes = agent.episodes_per_round * (rounds if family.stepping == "host" else 1)
    chunks = -(-tasks // max(1, min(MEMORY // _bytes(family, episodes), AT_ONCE)))
    size = -(-tasks // chunks)
    parts = []
    for index, chunk_key in enumerate(jax.random.split(key, chunks)):
        # The last chunk is filled up with tasks played before, whose results are dropped: all
        # chunks then have one shape, and are compiled once.
        rows = np.arange(index * size, (index + 1) * size) % tasks
        some, told = params, context
        if chunks > 1:
            some, told = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (params, context))
        result = run(agent, family, some, told, chunk_key, rounds, 1 if one_by_one else None)
        parts.append(jax.tree.map(np.asarray, result))
        if progress is not None:
            progress(min((index + 1) * size, tasks), tasks)
    scores, lengths, diverged = (np.concatenate(part)[:tasks] for part in zip(*parts, strict=True))
    return Played(scores.astype(float), lengths, diverged)


def _play_and_sum(
    agent: AbstractAgent,
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    rounds: int,
    task_batch: int | None,
) -> tuple[Array, Array, Array]:
    trials = play(agent, family, params, context, key, rounds, task_batch=task_batch)
    steps = trials.transitions
    broken = steps.events.get("diverged", jax.numpy.zeros_like(steps.valid))
    return trials.returns, trials.lengths, (broken & steps.valid).any(-1)


_compiled = eqx.filter_jit(_play_and_sum)


def _bytes(family: AbstractFamily, episodes: int) -> int:
    """About how much the experience of one task takes."""
    sizes = (
        space.size * np.dtype(space.dtype).itemsize if isinstance(space, Box) else 4
        for space in (family.observation_space, family.action_space)
    )
    # Twice the observation; actions, rewards and flags; as much again for what agents note.
    return episodes * family.horizon * (3 * sum(sizes) + 32)
