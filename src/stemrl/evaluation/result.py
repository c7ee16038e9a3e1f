"""What an agent scored on the tasks of a split: the points of its adaptation curve, and its distance to what
is known to be best."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..core import AbstractFamily, Params
from ..lazy import data_frame
from ..optimal import Optima, known_optima
from .statistics import bootstrap_interval, iqm, mean, t_interval


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
