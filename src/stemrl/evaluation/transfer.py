"""What transfer has brought, in numbers: an agent that learned before against one from scratch.

After Taylor & Stone (2009, JMLR 10, §2): two adaptation curves on the same tasks are compared at
their beginning, at their end, between the two, and by what it costs to get somewhere. Everything
has its 95% bootstrap interval over tasks, which are drawn in pairs.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ..errors import UserError
from .result import Evaluation
from .statistics import bootstrap_interval, mean, together_if_alone

RESAMPLES = 2000
LEVELS = 8
"""Thresholds of the budget's curve."""


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name, as JSON has them."""
        return self._asdict()


class Transfer(NamedTuple):
    """What an agent gains over one that learns from scratch. Returns are means over tasks and
    episodes."""

    zero_shot: Estimate
    """The agent's return before it has seen anything of the task."""
    jump_start: Estimate
    """Its lead over the agent from scratch at that point."""
    asymptote: Estimate
    """Its lead after the last adaptation."""
    area: Estimate
    """Its lead on average over all points of adaptation."""
    threshold: float
    """The return that is to be reached: by default what the agent from scratch has in the end."""
    budget: Estimate
    """Environment steps of the task until the agent's mean return is at the threshold; infinite if
    it never is."""
    scratch_budget: Estimate
    """The same number of the agent from scratch."""
    negative: Estimate
    """Negative transfer: the fraction of tasks on which the agent is worse than the one from
    scratch after the last adaptation."""
    thresholds: tuple[float, ...] = ()
    """Returns from the lowest mean of either curve to the highest, at even distances, for the
    budget as a curve."""
    budgets: tuple[Estimate, ...] = ()
    """Environment steps to each of them, as `budget`."""
    scratch_budgets: tuple[Estimate, ...] = ()
    """The same numbers of the agent from scratch."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""

        def plain(value: Any) -> Any:
            if isinstance(value, Estimate):
                return value.as_dict()
            return [plain(v) for v in value] if isinstance(value, tuple) else value

        return {k: plain(v) for k, v in self._asdict().items()}


def transfer(ours: Evaluation, scratch: Evaluation, *, threshold: float | None = None) -> Transfer:
    """Compare the adaptation curves of two agents on the same tasks.

    Raises `UserError` unless both were played on the same tasks with as many rounds of as many
    episodes.
    """
    _refuse_different(ours, scratch)
    us, them = ours.scores.mean(2), scratch.scores.mean(2)
    strata, lead = ours.strata, us - them
    threshold = float(them[:, -1].mean()) if threshold is None else threshold
    # As `_budget` takes them: by another way of adding up, the best is not reached by a rounding error.
    means = [_at(point, np.arange(len(us))) for scores in (us, them) for point in scores.T]
    levels = tuple(np.linspace(min(means), max(means), LEVELS).tolist())
    return Transfer(
        zero_shot=_mean(us[:, 0], strata),
        jump_start=_mean(lead[:, 0], strata),
        asymptote=_mean(lead[:, -1], strata),
        area=_mean(lead.mean(1), strata),
        threshold=threshold,
        budget=_budget(ours, threshold),
        scratch_budget=_budget(scratch, threshold),
        negative=_mean((lead[:, -1] < 0).astype(float), strata),
        thresholds=levels,
        budgets=tuple(_budget(ours, level) for level in levels),
        scratch_budgets=tuple(_budget(scratch, level) for level in levels),
    )


class Retention(NamedTuple):
    """How much of what was learned in the source is left after learning in the target."""

    before: Estimate
    """Mean return in the source before learning in the target."""
    after: Estimate
    """Mean return in the source afterwards."""
    change: Estimate
    """The latter minus the former, paired over tasks: below 0, something was forgotten."""

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return the fields by name, as JSON has them."""
        return {k: v.as_dict() for k, v in self._asdict().items()}


def retention(before: Evaluation, after: Evaluation) -> Retention:
    """Compare an agent's returns in the source before and after it learned in the target, both
    before it adapts to a task.

    Raises `UserError` unless both were played on the same tasks.
    """
    for what in ("identity", "split", "seed", "tasks"):
        mine, yours = getattr(before, what), getattr(after, what)
        if mine != yours:
            raise UserError(
                f"retention is measured on the same tasks: {what} {mine} is not {yours}"
            )
    was, now = (e.scores[:, 0].mean(1) for e in (before, after))
    strata = before.strata
    return Retention(_mean(was, strata), _mean(now, strata), _mean(now - was, strata))


class Generalization(NamedTuple):
    """How an adapted agent does on tasks that are further and further from those that it learned
    on."""

    training: Estimate
    """Mean return on training tasks after the last adaptation."""
    interpolation: Estimate
    """What changes (mostly a loss) on new tasks of the same distribution, `test`."""
    extrapolation: Estimate | None
    """What changes on tasks outside of it, `ood`; `None` if they were not played."""

    def as_dict(self) -> dict[str, dict[str, float] | None]:
        """Return the fields by name, as JSON has them."""
        return {k: None if v is None else v.as_dict() for k, v in self._asdict().items()}


def generalization(
    train: Evaluation, test: Evaluation, ood: Evaluation | None = None
) -> Generalization:
    """Compare one agent's evaluations on the splits. Their tasks differ, so nothing is paired.

    Raises `UserError` unless they are of one family with the same settings.
    """
    for other in (test, *([] if ood is None else [ood])):
        if other.identity != train.identity:
            raise UserError(f"{train.identity} and {other.identity} cannot be compared")
    last = [None if e is None else e.scores[:, -1].mean(1) for e in (train, test, ood)]
    assert last[0] is not None and last[1] is not None
    return Generalization(
        training=_mean(last[0], train.strata),
        interpolation=_apart(last[0], train.strata, last[1], test.strata),
        extrapolation=None
        if last[2] is None or ood is None
        else _apart(last[0], train.strata, last[2], ood.strata),
    )


def _mean(values: Float[np.ndarray, " tasks"], strata: Int[np.ndarray, " tasks"]) -> Estimate:
    low, high = bootstrap_interval(values[:, None], strata, statistic=mean, resamples=RESAMPLES)
    return Estimate(float(values.mean()), float(low), float(high))


def _apart(
    one: Float[np.ndarray, " tasks"],
    one_strata: Int[np.ndarray, " tasks"],
    other: Float[np.ndarray, " tasks"],
    other_strata: Int[np.ndarray, " tasks"],
) -> Estimate:
    """Mean of the other less mean of the one, both drawn anew: strata that both keep."""
    one_strata, other_strata = together_if_alone(one_strata), together_if_alone(other_strata)
    strata = np.concatenate([one_strata, one_strata.max() + 1 + other_strata])
    # The share of either in a draw is fixed, so that the mean of all is the difference of means.
    n, m = len(one), len(other)
    weighted = np.concatenate([-one * (n + m) / n, other * (n + m) / m])
    return _mean(weighted, strata)


def _at(
    point: Float[np.ndarray, " tasks"], tasks: Int[np.ndarray, "... n"]
) -> Float[np.ndarray, "..."]:
    """Mean over tasks at a point of the curve."""
    return point[tasks].mean(-1)


def _budget(evaluation: Evaluation, threshold: float) -> Estimate:
    """Steps until the mean over tasks first reaches the threshold."""
    scores = evaluation.scores.mean(2)
    steps = np.array([*(point["steps_used"] for point in evaluation.points), np.inf])

    def first(tasks: Int[np.ndarray, "... n"]) -> Int[np.ndarray, "..."]:
        """The first point at which these tasks' mean is at the threshold; one past the last if
        none is."""
        reached = [_at(point, tasks) >= threshold for point in scores.T]
        return np.argmax([*reached, np.ones_like(reached[0])], axis=0)

    # Points, whose percentiles are finite, rather than steps; and whole tasks, by their number.
    numbers = np.arange(len(scores))
    low, high = bootstrap_interval(
        numbers[:, None],
        evaluation.strata,
        statistic=lambda drawn: first(drawn.astype(int)),
        resamples=RESAMPLES,
    )
    points = int(first(numbers)), int(np.floor(low)), int(np.ceil(high))
    return Estimate(*(float(steps[point]) for point in points))


def _refuse_different(ours: Evaluation, scratch: Evaluation) -> None:
    for one in (ours, scratch):
        if not isinstance(one, Evaluation):
            raise UserError(
                f"transfer compares evaluations, and this is a {type(one).__name__}; stemrl.evaluate(run)"
                " makes one"
            )
    for what in ("identity", "split", "seed", "tasks", "episodes_per_round"):
        mine, yours = getattr(ours, what), getattr(scratch, what)
        if mine != yours:
            raise UserError(
                f"transfer is measured on the same tasks, played alike: {what} {mine} is not {yours}"
            )
    rounds = [e.scores.shape[1] for e in (ours, scratch)]
    if rounds[0] != rounds[1]:
        raise UserError(f"transfer is measured on as many rounds: {rounds[0]} is not {rounds[1]}")
