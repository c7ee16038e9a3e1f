"""How a supervised learner fares on tasks that it has not met: loss after so many examples."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    Examples,
    Split,
    State,
    UserError,
)


def few_shot_losses(
    learner: AbstractSupervisedLearner,
    family: AbstractSupervisedFamily,
    state: State,
    *,
    shots: int,
    steps: Sequence[int | None] = (None,),
    split: Split = "test",
    tasks: int = 600,
    queries: int = 100,
    seed: int = 0,
) -> Float[np.ndarray, "steps tasks"]:
    """The loss of what `learner` makes of `shots` examples, on `queries` others of the same task.

    **Arguments:**

    - `state`: of one training seed.
    - `steps`: gradient steps on the examples, one row of the result each; `None`: the learner's
      own.
    - `seed`: of tasks and examples, which are the same for every learner and every entry of `steps`,
      and none that training has drawn.

    Raises `UserError` for fewer than one task, shot or query.
    """
    if min(shots, tasks, queries) < 1:
        raise UserError("tasks, shots and queries must be at least 1")
    key = jax.random.fold_in(jax.random.key(seed), _EVALUATION)
    train, test = _draw(family, key, split, tasks, shots, queries)
    return np.asarray(_losses(learner, family, state, tuple(steps), train, test))


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
) -> tuple[Examples, Examples]:
    """Training and test sets of `tasks` tasks. The tasks are the same whatever their sizes."""
    task_key, train_key, test_key = jax.random.split(key, 3)
    params = family.tasks(task_key, split, tasks)

    def examples(key: PRNGKeyArray, n: int) -> Examples:
        keys = jax.random.split(key, tasks)
        return jax.vmap(lambda k, p: family.data(k, p, n))(keys, params)

    return examples(train_key, shots), examples(test_key, queries)


@eqx.filter_jit
def _losses(
    learner: AbstractSupervisedLearner,
    family: AbstractSupervisedFamily,
    state: State,
    steps: tuple[int | None, ...],
    train: Examples,
    test: Examples,
) -> Float[Array, "steps tasks"]:
    def one(task: tuple[Examples, Examples]) -> Float[Array, " steps"]:
        train, test = task
        predictors = [learner.fit(family, state, train, n) for n in steps]
        return jnp.stack([family.loss(predict(test.x), test.y) for predict in predictors])

    return jax.lax.map(one, (train, test), batch_size=_BATCH).T


_BATCH = 100
"""Tasks that are fitted at once."""
