"""How an agent fares on tasks that it has not met: one evaluator for every agent and family.

An agent meets each task anew and plays rounds of `agent.episodes_per_round` episodes, adapting after each. The
score of a *point* of the adaptation curve is that of the round played after so many real target
episodes; the first point is before any, the last round is played only to measure what the last
adaptation achieved.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from ..core import (
    SPLITS,
    AbstractAgent,
    AbstractFamily,
    Params,
    Problem,
    UserError,
    check_agent,
    check_family,
    count,
    nearest,
)
from ..machine import refuse_no_device
from .playing import Progress, play_tasks, refuse_large
from .result import Evaluation

_SCORED = 32
"""Bytes that an episode's score, length and divergence take while parts are put together."""


def evaluate(
    agent: AbstractAgent,
    problem: Problem,
    *,
    split: str = "test",
    tasks: int = 100,
    episodes: int | None = None,
    seed: int = 0,
    most_likely: bool = False,
    method: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Let `agent` adapt to tasks of the problem's target.

    **Arguments:**

    - `split`: `train`, `test` or `ood`.
    - `tasks`: how many tasks.
    - `episodes`: real target episodes on which the agent may adapt, for any agent a multiple of
      its `episodes_per_round`. By default two rounds for an agent that adapts on several episodes; else so
      many that the last episode measured is the last of the family's trial.
    - `seed`: of the tasks and the playing; the same seed gives every agent the same tasks.
    - `most_likely`: take the most likely actions instead of sampled ones.
    - `method`: the method's name, for the result.
    - `progress`: called with the tasks that have been played and with all, whenever some have.

    Raises `UserError` for a split that the family does not have and for numbers that do not fit.
    """
    refuse_no_device()
    family = problem.target
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'{nearest(split, SPLITS)}")
    check_family(family)
    check_agent(agent, problem)
    rounds = (
        episodes_to_adapt(agent.episodes_per_round, family, episodes) // agent.episodes_per_round
        + 1
    )
    refuse_large(tasks, tasks * rounds * agent.episodes_per_round * _SCORED)
    if most_likely:
        agent = dataclasses.replace(agent, greedy=True)
    params, play_key = draw_tasks(family, split, tasks, seed)
    played = play_tasks(agent, problem, params, play_key, rounds, progress)
    return Evaluation(
        family=family.name,
        identity=family.identity,
        method=method,
        split=split,
        seed=seed,
        actions="most likely" if most_likely else "sampled",
        reveal=problem.reveal,
        train_is_test=family.finite,
        scores=played.scores,
        lengths=played.lengths,
        diverged=played.diverged,
        strata=_strata(family, params),
        target=family,
        params=jax.tree.map(np.asarray, params),
        adapts=adapts(agent),
    )


def adapts(agent: AbstractAgent) -> bool:
    """Return whether an agent carries anything over from one round to the next."""
    return type(agent).adapt is not AbstractAgent.adapt


def draw_tasks(
    family: AbstractFamily, split: str, tasks: int, seed: int
) -> tuple[Params, PRNGKeyArray]:
    """Return the tasks that `evaluate` plays for this seed, `[tasks, …]`, and the key of the
    playing."""
    if tasks < 1:
        raise UserError(f"tasks must be at least 1, not {tasks}")
    tasks_key, play_key = jax.random.split(jax.random.key(seed))
    params = family.tasks(tasks_key, split, tasks)  # pyright: ignore[reportArgumentType]
    return jax.tree.map(jax.numpy.asarray, params), play_key


def episodes_to_adapt(episodes_per_round: int, family: AbstractFamily, episodes: int | None) -> int:
    """Return `episodes`, checked against an agent's `episodes_per_round`; or the default (see
    `evaluate`)."""
    if episodes is None:
        return 2 * episodes_per_round if episodes_per_round > 1 else family.trial_episodes - 1
    if episodes < 0:
        raise UserError(f"episodes must not be negative, not {episodes}")
    if episodes % episodes_per_round:
        below = episodes // episodes_per_round * episodes_per_round
        raise UserError(
            f"this agent adapts after every {episodes_per_round} episodes, so --episodes cannot be {episodes};"
            f" take {below} or {below + episodes_per_round}"
        )
    return episodes


def _strata(family: AbstractFamily, params: Params) -> Int[np.ndarray, " tasks"]:
    if not family.finite:
        return np.zeros(count(params), int)
    rows = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(params)]
    return np.unique(np.concatenate(rows, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
