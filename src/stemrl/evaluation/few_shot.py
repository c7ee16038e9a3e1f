"""How a supervised learner fares on tasks that it has not met: its score after so many examples."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    SPLITS,
    AbstractSupervisedFamily,
    Examples,
    FewShotAgent,
    Params,
    Split,
    UserError,
    nearest,
)
from ..lazy import data_frame
from .playing import Progress, refuse_large
from .statistics import bootstrap_interval, mean, t_interval

POINTS = (0, 1, 2, 5, 10, 20, 50, 100)
"""Shots at which an adaptation curve is measured, below the last."""
AT_ONCE = 10_000
"""Tasks of one call of a compiled program, after which it is said how far it is."""
QUERIES = 100
"""Examples on which a predictor is judged."""
MOST_QUERIES = 200
"""As many as an evaluation or a picture asks for: up to here the training set is the same for all of them."""


@dataclass(frozen=True)
class FewShotEvaluation:
    """The scores of one supervised learner on the tasks of one split, after 0, 1, 2, … shots."""

    family: str
    """The family's name."""
    identity: str
    """Name, version and settings: only results of equal identity may be compared."""
    method: str
    split: str
    seed: int
    """The seed of the tasks and their examples, not of the training."""
    gradient_steps: int | None
    """Gradient steps that were taken on the training set; `None`: the learner's own number."""
    score_name: str
    """What the scores are: `mean squared error`."""
    lower_is_better: bool
    train_is_test: bool
    """Whether the family is finite, so that these were the training tasks too."""
    shots: tuple[int, ...]
    """Shots in the training set, at each point of the curve."""
    scores: Float[np.ndarray, "tasks points agents"]
    """Scores on examples that are not in the training set."""
    target: AbstractSupervisedFamily
    """The family."""
    params: Params
    """Its tasks that were met, `[tasks, …]`."""

    @property
    def tasks(self) -> int:
        """How many tasks were met."""
        return self.scores.shape[0]

    @property
    def agents(self) -> int:
        """How many agents met them, one of each training seed."""
        return self.scores.shape[2]

    @property
    def score(self) -> float:
        """The mean score after all shots, turned so that higher is better."""
        last = float(self.scores[:, -1].mean())
        return -last if self.lower_is_better else last

    @cached_property
    def points(self) -> list[dict[str, float]]:
        """For each number of `shots`: the `mean` score, and `low` and `high`, its 95% bootstrap
        interval over tasks, given these agents."""
        points = []
        for index, shots in enumerate(self.shots):
            scores = self.scores[:, index]
            low, high = bootstrap_interval(scores, statistic=mean)
            points.append(
                {
                    "shots": shots,
                    "mean": float(scores.mean()),
                    "low": float(low),
                    "high": float(high),
                }
            )
        return points

    @property
    def over_seeds(self) -> list[dict[str, Any]]:
        """For each point, the `means` of the agents, and with at least two of them the `low` and
        `high` of the 95% t interval of their mean: what another training would give."""
        points = []
        for means in self.scores.mean(0):
            low, high = t_interval(means)[1:] if self.agents > 1 else (None, None)
            points.append({"means": means.tolist(), "low": low, "high": high})
        return points

    def to_frame(self) -> Any:
        """Return every score as a row of a pandas DataFrame: `task`, `shots`, `agent` (of a
        training seed, from 0), `score`. Raises `UserError` where pandas is not installed."""
        task, point, agent = (index.ravel() for index in np.indices(self.scores.shape))
        shots = np.asarray(self.shots)[point]
        columns = {"task": task, "shots": shots, "agent": agent, "score": self.scores.ravel()}
        return data_frame(columns)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in the form that JSON has; `per_task` is the mean score
        `[tasks][points]`."""
        names = (
            *("family", "identity", "method", "split", "tasks", "seed", "gradient_steps"),
            *("score_name", "lower_is_better", "train_is_test", "points", "over_seeds"),
        )
        return {
            **{name: getattr(self, name) for name in names},
            "per_task": self.scores.mean(2).tolist(),
        }

    @classmethod
    def together(cls, parts: "list[FewShotEvaluation]") -> "FewShotEvaluation":
        """Return the evaluations of several agents on the same tasks as one."""
        scores = np.concatenate([part.scores for part in parts], axis=2)
        return dataclasses.replace(parts[0], scores=scores)


def evaluate_few_shot(
    agent: FewShotAgent,
    *,
    split: str = "test",
    tasks: int = 100,
    shots: int | None = None,
    gradient_steps: int | None = None,
    queries: int = QUERIES,
    seed: int = 0,
    method: str = "",
    params: Params | None = None,
    progress: Progress | None = None,
) -> FewShotEvaluation:
    """Let `agent` learn tasks of its problem's target from ever more of the same examples.

    **Arguments:**

    - `split`: `train`, `test` or `ood`.
    - `shots`: at most; by default as many as in training. The curve begins with none.
    - `gradient_steps`: on the examples, for a learner that takes any; by default its own number.
    - `queries`: other examples of the same task, on which it is judged.
    - `seed`: of tasks and examples, which are the same for every agent.
    - `params`: the tasks, where they are not to be drawn.
    - `progress`: called with the tasks that have been learned and with all, whenever some have.

    Raises `UserError` for an unknown split and for numbers that do not fit.
    """
    family = agent.problem.target
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'{nearest(split, SPLITS)}")
    shots = agent.learner.shots if shots is None else shots
    _refuse_numbers(shots, tasks, queries, gradient_steps)
    at = (*(n for n in POINTS if n < shots), shots)
    params, train, test = draw_few_shot(family, split, tasks, shots, queries, seed, params)
    parts, size = [], min(tasks, AT_ONCE)
    for start in range(0, tasks, size):
        # The last part is filled up, so that all have one shape.
        rows = np.arange(start, start + size) % tasks
        some = (
            (train, test) if size == tasks else jax.tree.map(lambda x, r=rows: x[r], (train, test))
        )
        parts.append(np.asarray(_scores(agent, at, gradient_steps, *some), float))
        if progress is not None:
            progress(min(start + size, tasks), tasks)
    scores = np.concatenate(parts)[:tasks]
    return FewShotEvaluation(
        family=family.name,
        identity=family.identity,
        method=method or agent.learner.name,
        split=split,
        seed=seed,
        gradient_steps=gradient_steps,
        score_name=family.score_name,
        lower_is_better=family.lower_is_better,
        train_is_test=family.finite,
        shots=at,
        scores=scores[:, :, None],
        target=family,
        params=jax.tree.map(np.asarray, params),
    )


def draw_few_shot(
    family: AbstractSupervisedFamily,
    split: str,
    tasks: int,
    shots: int,
    queries: int,
    seed: int,
    params: Params | None = None,
) -> tuple[Params, Examples, Examples]:
    """Return the tasks that `evaluate_few_shot` draws for this seed, `[tasks, …]`, and their
    training and test sets. Where a task has only so many examples, the test set has those that the
    training set leaves. Raises `UserError` where it leaves none."""
    key = jax.random.fold_in(jax.random.key(seed), _EVALUATION)
    most = family.most_examples(split)  # pyright: ignore[reportArgumentType]
    if most is not None:
        left = most - shots * family.examples_per_shot
        if left < 1:
            raise UserError(
                f"a task of '{family.name}' has {most} examples, and with {shots} shots of"
                f" {family.examples_per_shot} none is left to judge by"
            )
        queries = min(queries, left)
    sizes = eqx.filter_eval_shape(_draw, family, key, split, tasks, shots, queries, params)
    refuse_large(tasks, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(sizes)))
    return _draw(family, key, split, tasks, shots, queries, params)  # pyright: ignore[reportArgumentType]


def few_shot_losses(
    agent: FewShotAgent,
    *,
    shots: int,
    steps: Sequence[int | None] = (None,),
    split: Split = "test",
    tasks: int = 600,
    queries: int = QUERIES,
    seed: int = 0,
) -> Float[np.ndarray, "steps tasks"]:
    """Return the loss, on `queries` other examples of the task, of what `agent` makes of `shots`
    shots: `[steps, tasks]`.

    - `steps`: how many gradient steps to take on the examples, one row of the result each; `None`:
      the learner's own number.
    - `seed`: of tasks and examples. They are the same for every learner and every entry of `steps`,
      and training has drawn none of them.

    Raises `UserError` for fewer than one task, shot or query.
    """
    if shots < 1:
        raise UserError("shots must be at least 1")
    _refuse_numbers(shots, tasks, queries, None)
    _, train, test = draw_few_shot(agent.problem.target, split, tasks, shots, queries, seed)
    return np.asarray(_losses(agent, tuple(steps), train, test))


def _refuse_numbers(shots: int, tasks: int, queries: int, steps: int | None) -> None:
    if min(tasks, queries) < 1:
        raise UserError("tasks and queries must be at least 1")
    if shots < 0:
        raise UserError(f"shots must not be negative, not {shots}")
    if steps is not None and steps < 0:
        raise UserError(f"gradient steps must not be negative, not {steps}")


def refuse_acting(who: str, **options: Any) -> None:
    """Raise `UserError` if a supervised learner is asked for what only agents that act have."""
    for name, value in options.items():
        if value not in (None, False):
            raise UserError(
                f"{who} learned from labelled examples and does not act, so '{name}' means"
                " nothing to it; shots and gradient_steps do"
            )


def refuse_examples(who: str, **options: Any) -> None:
    """Raise `UserError` if an agent that acts is asked for what only supervised ones have."""
    for name, value in options.items():
        if value is not None:
            raise UserError(
                f"{who} learns by acting, not from labelled examples, so '{name}' means"
                " nothing to it; episodes do"
            )


_EVALUATION = 0xE7A2
"""Folded into the seed's key, so that it is shared with no training."""


@eqx.filter_jit
def _draw(
    family: AbstractSupervisedFamily,
    key: PRNGKeyArray,
    split: Split,
    tasks: int,
    shots: int,
    queries: int,
    params: Params | None,
) -> tuple[Params, Examples, Examples]:
    """Tasks with training and test sets. The tasks are the same whatever the sets' sizes."""
    task_key, train_key, test_key = jax.random.split(key, 3)
    params = family.tasks(task_key, split, tasks) if params is None else params

    def examples(key: PRNGKeyArray, n: int) -> Examples:
        keys = jax.random.split(key, tasks)
        return jax.vmap(lambda k, p: family.data(k, p, n))(keys, params)

    first = shots * family.examples_per_shot
    if (most := family.most_examples(split)) is None:
        return params, examples(train_key, first), examples(test_key, queries)
    # As many at once whatever the test set's size, so that the training set does not depend on it.
    both = examples(train_key, min(most, first + max(queries, MOST_QUERIES)))
    train = jax.tree.map(lambda x: x[:, :first], both)
    return params, train, jax.tree.map(lambda x: x[:, first : first + queries], both)


@eqx.filter_jit
def _losses(
    agent: FewShotAgent, steps: tuple[int | None, ...], train: Examples, test: Examples
) -> Float[Array, "steps tasks"]:
    def one(task: tuple[Examples, Examples]) -> Float[Array, " steps"]:
        train, test = task
        predictors = [agent.fit(train, n) for n in steps]
        loss = agent.problem.target.loss
        return jnp.stack([loss(predict(test.x), test.y) for predict in predictors])

    return jax.lax.map(one, (train, test), batch_size=_BATCH).T


@eqx.filter_jit
def _scores(
    agent: FewShotAgent,
    at: tuple[int, ...],
    steps: int | None,
    train: Examples,
    test: Examples,
) -> Float[Array, "tasks points"]:
    family = agent.problem.target

    def one(task: tuple[Examples, Examples]) -> Float[Array, " points"]:
        train, test = task
        scores = []
        for shots in at:
            first = jax.tree.map(lambda x, n=shots: x[: n * family.examples_per_shot], train)
            scores.append(family.score(agent.fit(first, steps)(test.x), test.y))
        return jnp.stack(scores)

    return jax.lax.map(one, (train, test), batch_size=_BATCH)


_BATCH = 100
"""Tasks that are fitted at once."""
