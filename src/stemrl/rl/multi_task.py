"""One network for several tasks: a head for each, and gradients that pull against each other.

Heads: the layers below are shared, and the last one has a row of outputs for each task, of which the
task's context, one-hot, takes its own.

Gradient surgery (PCGrad; Yu et al. 2020, 2001.06782): with gᵢ the gradient of task i, each gᵢ is
projected onto the normal plane of every gⱼ that it conflicts with, and the mean is descended:

    gᵢ ← gᵢ − (gᵢ·gⱼ / ‖gⱼ‖²) gⱼ     where gᵢ·gⱼ < 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core import Context, Problem, UserError


def tasks_of(problem: Problem, setting: str) -> int:
    """Return how many tasks there are, each of which a head or a gradient is for. Raises
    `UserError` where the family has not a few tasks whose context says which, or the context is not
    revealed."""
    family = problem.source
    if not family.worlds:
        raise UserError(
            f"{setting} needs a few tasks with a context that says which, and '{family.name}' has no"
            " such; hopper-tasks, point-conflict and world-choice with chooser=chance do"
        )
    if problem.reveal != "context":
        raise UserError(f"{setting} needs to know the task: train with --reveal context")
    return family.worlds


def own_head(
    out: Float[Array, "... all"], context: Float[Array, "... tasks"], tasks: int
) -> Float[Array, "... outputs"]:
    """Return those of the outputs of all heads, `[…, tasks × outputs]`, that belong to the task in
    `context`, one-hot."""
    heads = out.reshape(*out.shape[:-1], tasks, -1)
    return jnp.sum(heads * context[..., None], axis=-2)


def project_conflicts(gradients: Float[Array, "tasks entries"]) -> Float[Array, " entries"]:
    """Return the mean of the tasks' gradients after each was projected away from those that it
    conflicts with, beginning with the next one (in the paper, in random order)."""
    tasks = len(gradients)
    sizes = jnp.sum(gradients**2, axis=1)

    def one(i: Array) -> Array:
        def away(step: Array, v: Array) -> Array:
            j = (i + step) % tasks
            conflict = jnp.minimum(v @ gradients[j], 0.0)
            return v - conflict / jnp.maximum(sizes[j], 1e-12) * gradients[j]

        return jax.lax.fori_loop(1, tasks, away, gradients[i])

    return jnp.mean(jax.vmap(one)(jnp.arange(tasks)), axis=0)


def surgery(
    of_task: Callable[[Float[Array, " tasks"]], tuple[Any, dict[str, Array], Array]],
    tasks: int,
    is_part: Callable[[Any], bool] | None = None,
) -> tuple[Any, dict[str, Array]]:
    """Return the gradient to descend, and the metrics, from the gradient of each task alone.

    **Arguments:**

    - `of_task(task)`: of a task, one-hot, the gradient, the metrics, and whether there are rows of it.
    - `is_part`: what of the gradient is projected by itself, as what follows a loss of its own should be
      (of the rest the mean is taken); all of it at once, if none.
    """
    gradients, metrics, present = jax.vmap(of_task)(jnp.eye(tasks))

    def projected(part: PyTree[Array]) -> PyTree[Array]:
        if is_part is not None and not is_part(part):
            # One number, such as a temperature, would stand still wherever two tasks disagree.
            return jnp.mean(jnp.where(present.reshape(-1, *(1,) * (part.ndim - 1)), part, 0.0), 0)
        unravel = ravel_pytree(jax.tree.map(lambda x: x[0], part))[1]
        flat = jax.vmap(lambda g: ravel_pytree(g)[0])(part)
        return unravel(project_conflicts(jnp.where(present[:, None], flat, 0.0)))

    whole = is_part or (lambda _: True)
    there = present / jnp.maximum(jnp.sum(present), 1)
    told = jax.tree.map(lambda x: jnp.sum(jnp.where(present, x, 0.0) * there), metrics)
    return jax.tree.map(projected, gradients, is_leaf=whole), told


def surgical_gradient(
    loss: Callable[[Any, Any], tuple[Array, dict[str, Array]]],
    parameters: PyTree[Array],
    rows: Any,
) -> tuple[Any, dict[str, Array]]:
    """Return `surgery` on the gradient of `loss` for `rows` of several tasks: it is taken on each
    task's rows alone, by their weights. `rows` have `context`, `weight` and `policy_weight`."""
    context: Context = rows.context

    def of_task(task: Float[Array, " tasks"]) -> tuple[Any, dict[str, Array], Array]:
        mine = context @ task
        own = rows._replace(weight=rows.weight * mine, policy_weight=rows.policy_weight * mine)
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, own)
        return gradient, metrics, jnp.sum(own.weight) > 0

    return surgery(of_task, context.shape[-1])
