"""How an agent fares on tasks that it has not met: one evaluator for every agent and family.

An agent meets each task anew and plays rounds of `agent.episodes_per_round` episodes, adapting after each. The
score of a *point* of the adaptation curve is that of the round played after so many real target
episodes; the first point is before any, the last round is played only to measure what the last
adaptation achieved.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import (
    SPLITS,
    AbstractAgent,
    AbstractFamily,
    Box,
    Context,
    Params,
    Problem,
    UserError,
    check_agent,
    check_family,
    count,
    nearest,
)
from ..lazy import data_frame
from ..machine import refuse_beyond_memory, refuse_no_device
from ..optimal import Optima, known_optima
from ..rl import play
from .statistics import bootstrap_interval, iqm, mean, t_interval

# Experience of the tasks that are played at once is kept below about this many bytes.
MEMORY = 512 * 2**20
AT_ONCE = 50_000
"""Tasks at most that are played at once, so that it can be said how far it is."""
_SCORED = 32
"""Bytes that an episode's score, length and divergence take while parts are put together."""

Progress = Callable[[int, int], None]
"""Called with what is done and with all that there is to do."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of one agent on the tasks of one split."""

    family: str
    """The family's name."""
    identity: str
    """Name, version and settings of the family. Only results of equal identity may be compared."""
    method: str
    split: str
    seed: int
    """The seed of the tasks and of everything random in playing them, not of the training."""
    actions: str
    """Whether actions were `sampled` or the `most likely`."""
    reveal: str
    train_is_test: bool
    """Whether the family is finite, so that these were the training tasks too."""
    scores: Float[np.ndarray, "tasks rounds episodes"]
    """Undiscounted return of every episode; with several agents `[tasks, rounds, agents × width]`."""
    lengths: Int[np.ndarray, "tasks rounds episodes"]
    """Steps of every episode."""
    diverged: Bool[np.ndarray, "tasks rounds episodes"]
    """Where the simulation broke down. The episode ended there, with the score that it had."""
    strata: Int[np.ndarray, " tasks"]
    """The stratum of each task, for the interval. Each task of a finite family is a stratum of its
    own, since the same tasks would be played if all were done again. Tasks that are drawn from a
    distribution are one stratum, since others would be drawn."""
    target: AbstractFamily
    """The family."""
    params: Params
    """Its tasks that were played, `[tasks, …]`."""
    agents: int = 1
    """How many agents played the same tasks, one of each training seed."""
    oracle: "Evaluation | None" = None
    """The evaluation, on the same tasks, of an agent that is told the task."""
    adapts: bool = True
    """Whether the agent carries anything over from one round to the next."""

    @property
    def tasks(self) -> int:
        """How many tasks were played."""
        return self.scores.shape[0]

    @property
    def episodes_per_round(self) -> int:
        """Episodes between two adaptations."""
        return self.scores.shape[2] // self.agents

    @cached_property
    def points(self) -> list[dict[str, float]]:
        """For each state of adaptation: `episodes_used`, `steps_used` (environment steps taken up
        to there, the mean over tasks), `mean` with `mean_low` and `mean_high`, and `iqm` with `low`
        and `high`. Each interval is a 95% stratified bootstrap interval over tasks."""
        steps = self.lengths.sum(2).cumsum(1).mean(0) / self.agents
        return [
            {
                "episodes_used": index * self.episodes_per_round,
                "steps_used": float(steps[index - 1]) if index else 0.0,
                **_statistics(self.scores[:, index], self.strata),
            }
            for index in range(self.scores.shape[1])
        ]

    @cached_property
    def overall(self) -> dict[str, float]:
        """The same statistics of all episodes at once. Use it for an agent that never adapts, whose
        rounds differ by chance alone."""
        used = (self.scores.shape[1] - 1) * self.episodes_per_round
        scores = self.scores.reshape(self.tasks, -1)
        return {"episodes_used": used, **_statistics(scores, self.strata)}

    @property
    def over_seeds(self) -> list[dict[str, Any]]:
        """For each point, the `means` of the agents, one each; and, if there are at least two,
        `low` and `high` of the 95% t interval of their mean, which says what another training would
        give."""
        by_agent = self.scores.reshape(self.tasks, -1, self.agents, self.episodes_per_round).mean(
            (0, 3)
        )
        points = []
        for means in by_agent:
            low, high = t_interval(means)[1:] if self.agents > 1 else (None, None)
            points.append({"means": means.tolist(), "low": low, "high": high})
        return points

    @cached_property
    def optima(self) -> Optima | None:
        """The exact optima on these tasks, `[tasks, rounds]`; `None` for a family without any. For
        an agent that plays several episodes between two adaptations there is no Bayes-optimal one,
        as each of these episodes knows less than those of an agent that learns from every episode.
        """
        rounds = self.scores.shape[1]
        episodes = rounds * self.episodes_per_round
        found = known_optima(self.target, self.params, self.split, episodes)  # pyright: ignore[reportArgumentType]
        if found is None or self.episodes_per_round == 1:
            return found
        return Optima(found.known_task[:, :: self.episodes_per_round], None)

    def against(self, reference: Float[np.ndarray, "tasks rounds"]) -> dict[str, Any]:
        """Return how far the agent stays below a reference on the same tasks.

        For each of the `points`, and for the whole `trial` (all episodes summed), there are:

        - `value`: the reference's mean.
        - `gap`: the mean difference to it, with `low` and `high`, its 95% stratified bootstrap
          interval over tasks. It is paired, so that what all agents find hard does not widen it.
        - `fraction`: the share of the value that was reached; `None` where the value is not
          positive.
        """
        scores = self.scores.mean(2)
        points = [_gap(scores[:, i], reference[:, i], self.strata) for i in range(scores.shape[1])]
        ours, theirs = (x.sum(1) * self.episodes_per_round for x in (scores, reference))
        return {"points": points, "trial": _gap(ours, theirs, self.strata)}

    @cached_property
    def gaps(self) -> dict[str, dict[str, Any]]:
        """The result of `against` for every reference that there is: `bayes_optimal`, `known_task`,
        `oracle`."""
        references: dict[str, np.ndarray] = {}
        if self.optima is not None:
            if self.optima.bayes_optimal is not None:
                references["bayes_optimal"] = self.optima.bayes_optimal
            references["known_task"] = self.optima.known_task
        if self.oracle is not None:
            theirs = self.oracle.scores
            rounds = self.scores.shape[1]
            if (
                self.oracle.episodes_per_round == self.episodes_per_round
                and theirs.shape[1] == rounds
            ):
                references["oracle"] = theirs.mean(2)
            else:
                # Told the task it has nothing to learn: all its episodes are as good.
                references["oracle"] = np.repeat(theirs.mean((1, 2))[:, None], rounds, axis=1)
        return {name: self.against(reference) for name, reference in references.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything in the form that JSON has. `per_task` is the mean return
        `[tasks][points]`, `gaps` is empty where there is nothing to compare with, and `diverged`
        counts episodes."""
        return {
            "family": self.family,
            "identity": self.identity,
            "method": self.method,
            "split": self.split,
            "tasks": self.tasks,
            "seed": self.seed,
            "actions": self.actions,
            "reveal": self.reveal,
            "train_is_test": self.train_is_test,
            "adapts": self.adapts,
            "overall": self.overall,
            "diverged": int(self.diverged.sum()),
            "episodes": self.points,
            "over_seeds": self.over_seeds,
            "gaps": self.gaps,
            "per_task": self.scores.mean(2).tolist(),
        }

    def to_frame(self) -> Any:
        """Return every episode as a row of a pandas DataFrame: `task`, `round` (of adaptations
        before it), `episodes_used`, `agent` (of a training seed, from 0), `episode` (of the round),
        `return`, `length`, `diverged`. Raises `UserError` where pandas is not installed."""
        tasks, rounds, _ = self.scores.shape
        shape = (tasks, rounds, self.agents, self.episodes_per_round)
        task, round_, agent, episode = (index.ravel() for index in np.indices(shape))
        return data_frame(
            {
                "task": task,
                "round": round_,
                "episodes_used": round_ * self.episodes_per_round,
                "agent": agent,
                "episode": episode,
                "return": self.scores.ravel(),
                "length": self.lengths.ravel(),
                "diverged": self.diverged.ravel(),
            }
        )

    @classmethod
    def together(cls, parts: "list[Evaluation]") -> "Evaluation":
        """Return the evaluations of several agents on the same tasks as one. The interval is then
        over tasks, given these agents; `over_seeds` is over agents."""

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts], axis=2)

        each = {name: joined(name) for name in ("scores", "lengths", "diverged")}
        return dataclasses.replace(parts[0], agents=sum(part.agents for part in parts), **each)


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


def _statistics(
    scores: Float[np.ndarray, "tasks repeats"], strata: Int[np.ndarray, " tasks"]
) -> dict[str, float]:
    """Mean and interquartile mean of all scores, each with its 95% interval."""
    low, high = bootstrap_interval(scores, strata)
    mean_low, mean_high = bootstrap_interval(scores, strata, statistic=mean)
    return {
        "mean": float(scores.mean()),
        "mean_low": float(mean_low),
        "mean_high": float(mean_high),
        "iqm": float(iqm(scores.reshape(-1))),
        "low": float(low),
        "high": float(high),
    }


def _gap(
    ours: Float[np.ndarray, " tasks"],
    reference: Float[np.ndarray, " tasks"],
    strata: Int[np.ndarray, " tasks"],
) -> dict[str, float | None]:
    gap, value = reference - ours, float(reference.mean())
    low, high = bootstrap_interval(gap[:, None], strata, statistic=mean)
    return {
        "value": value,
        "gap": float(gap.mean()),
        "low": float(low),
        "high": float(high),
        "fraction": float(ours.mean()) / value if value > 0 else None,
    }


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
