"""Gradient descent, as all methods share it: one step, a loop of steps, epochs of minibatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, UserError
from .devices import spread


def weighted_mean(x: Float[Array, "..."], weight: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the mean of `x` where `weight` is 1; 0 if it is nowhere."""
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def standardize(x: Float[Array, "..."], weight: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return (x − mean) / std over the rows that count; 0 on the others."""
    centred = (x - weighted_mean(x, weight)) * weight
    return centred / (jnp.sqrt(weighted_mean(centred**2, weight)) + 1e-8)


def explained_variance(
    value: Float[Array, "..."], target: Float[Array, "..."], weight: Float[Array, "..."]
) -> Float[Array, ""]:
    """Return 1 − Var[V̂ − V] / Var[V̂]: 1 for a perfect value function, 0 for a constant."""

    def variance(x: Array) -> Array:
        return weighted_mean((x - weighted_mean(x, weight)) ** 2, weight)

    return 1.0 - variance(target - value) / jnp.maximum(variance(target), 1e-8)


def optimizer(max_gradient_norm: float | Array) -> optax.GradientTransformation:
    """Return Adam behind a bound on the gradient's *global* norm, without a step size (see
    `descend`).

    Build it where it is used: as a field, every new object would be compiled anew.
    """
    # ε = 1e-5 as in the authors' PPO.
    return optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),  # pyright: ignore[reportArgumentType]
        optax.scale_by_adam(eps=1e-5),
    )


def descend(
    transform: optax.GradientTransformation,
    gradient: PyTree[Array],
    optimizer_state: optax.OptState,
    parameters: PyTree[Array],
    learning_rate: float | Array,
    factors: PyTree[Array] | None = None,
) -> tuple[Any, optax.OptState]:
    """Return one step of size `learning_rate` against the transformed gradient.

    `factors`, a number for each leaf of `parameters`, multiply the step size there. Where one is 0,
    the leaf stands still and its gradient is taken for 0 *before* the transform: what does not move
    counts neither in a bound on the global norm nor in Adam's moments.
    """
    if factors is not None:
        gradient = jax.tree.map(lambda g, f: jnp.where(f > 0, g, 0.0), gradient, factors)
    direction, optimizer_state = transform.update(gradient, optimizer_state)  # pyright: ignore
    if factors is None:
        stepped = jax.tree.map(lambda p, d: p - learning_rate * d, parameters, direction)
    else:
        stepped = jax.tree.map(
            lambda p, d, f: p - learning_rate * f * d, parameters, direction, factors
        )
    return stepped, optimizer_state


class Descent(NamedTuple):
    """What a loop of gradient steps leaves behind."""

    parameters: Any
    optimizer_state: optax.OptState
    slow: Any
    """What `after` made of `slow`."""
    metrics: dict[str, Float[Array, " steps"]]
    """Of every step, measured before it."""
    taken: Float[Array, " steps"]
    """1 for the steps that were taken, 0 for those after a stop."""


def gradient_steps(
    gradient: Callable[[Any, Any, Any], tuple[Any, dict[str, Array]]],
    parameters: PyTree[Array],
    optimizer_state: optax.OptState,
    batches: PyTree[Array],
    *,
    learning_rate: float | Array,
    transform: optax.GradientTransformation | None = None,
    factors: PyTree[Array] | None = None,
    slow: Any = None,
    after: Callable[[Any, Any], Any] | None = None,
    go_on: Callable[[dict[str, Array]], Bool[Array, ""]] | None = None,
) -> Descent:
    """Return one gradient step for each batch: the loop that every method with gradients runs.

    **Arguments:**

    - `gradient(parameters, slow, batch)`: the gradient to descend and the metrics of the step, such
      as `jax.grad(loss, has_aux=True)` gives them. Methods that do something to gradients (a
      projection, a sum over tasks) do it here.
    - `batches`: every leaf `[steps, …]`.
    - `transform`: from gradients to directions, Adam if none. Build it where it is used.
    - `factors`: on the step size, for each leaf of `parameters` (see `descend`).
    - `slow`, `after(parameters, slow)`: what follows the parameters slowly, such as target
      networks, and how it does after each step.
    - `go_on(metrics)`: whether the step may be taken; from the first False on, none is.
    """
    transform = optax.scale_by_adam() if transform is None else transform

    def step(carry: tuple, batch: Any):
        parameters, optimizer_state, slow, going = carry
        direction, metrics = gradient(parameters, slow, batch)
        stepped = descend(transform, direction, optimizer_state, parameters, learning_rate, factors)
        stepped = (*stepped, slow if after is None else after(stepped[0], slow))
        if go_on is not None:
            # The batch that finds out is measured but not learned from.
            going = going & go_on(metrics)
            stepped = jax.tree.map(
                lambda new, old: jnp.where(going, new, old),
                stepped,
                (parameters, optimizer_state, slow),
            )
        return (*stepped, going), (metrics, going)

    start = (parameters, optimizer_state, slow, jnp.asarray(True))
    (parameters, optimizer_state, slow, _), (metrics, going) = lax.scan(step, start, batches)
    return Descent(parameters, optimizer_state, slow, metrics, going.astype(jnp.float32))


def shuffled(
    key: PRNGKeyArray, rows: int, epochs: int, minibatches: int
) -> Int[Array, "batches size"]:
    """Return the row numbers of every minibatch of every epoch, each epoch a permutation. If
    `minibatches` does not divide `rows`, each epoch leaves out a few rows, others each time."""
    size = rows // minibatches
    orders = jax.vmap(lambda k: jax.random.permutation(k, rows))(jax.random.split(key, epochs))
    return orders[:, : size * minibatches].reshape(epochs * minibatches, size)


def fit(
    loss: Callable[[Any, Any], tuple[Array, dict[str, Array]]],
    parameters: PyTree[Array],
    optimizer_state: optax.OptState,
    rows: PyTree[Array],
    key: PRNGKeyArray,
    *,
    epochs: int,
    minibatches: int,
    learning_rate: float | Array,
    max_gradient_norm: float | Array,
    target_kl: float | Array | None = None,
    gradient: Callable[[Any, Any, Any], tuple[Any, dict[str, Array]]] | None = None,
    factors: PyTree[Array] | None = None,
) -> tuple[Any, optax.OptState, dict[str, Array]]:
    """Take epochs of gradient steps on shuffled minibatches. Return parameters, the optimizer's
    state, and the mean metrics of the steps that were taken.

    - `loss(parameters, minibatch)`: returns a scalar, and metrics. With `target_kl` one of them is
      `kl`.
    - `rows`: every leaf `[rows, …]`; a row is a step, or a whole sequence.
    - `target_kl`: the update ends once a minibatch finds the policy further than 1.5 times this
      from where it began (nats). `epochs_taken`, the passes over the rows before that, is then
      among the metrics.
    - `gradient(loss, parameters, minibatch)`: returns the gradient and metrics of a step, in place
      of those of `loss`.
    - `factors`: multiply the step size, for each leaf of `parameters` (see `descend`).
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    minibatches = min(minibatches, count)

    def gradient_of(parameters: Any, slow: None, index: Array):
        minibatch = spread(jax.tree.map(lambda x: x[index], rows))
        if gradient is not None:
            return gradient(loss, parameters, minibatch)
        (_, metrics), direction = jax.value_and_grad(loss, has_aux=True)(parameters, minibatch)
        return direction, metrics

    descent = gradient_steps(
        gradient_of,
        parameters,
        optimizer_state,
        shuffled(key, count, epochs, minibatches),
        learning_rate=learning_rate,
        transform=optimizer(max_gradient_norm),
        factors=factors,
        go_on=None if target_kl is None else lambda metrics: metrics["kl"] <= 1.5 * target_kl,
    )
    # The first minibatch is always measured on the policy that acted.
    measured = descent.taken.at[0].set(1.0)
    metrics = jax.tree.map(lambda x: weighted_mean(x, measured), descent.metrics)
    if target_kl is not None:
        metrics["epochs_taken"] = jnp.sum(descent.taken) / minibatches
    return descent.parameters, descent.optimizer_state, metrics


def annealed(value: float | Array, updates: int | None, done: Int[Array, ""]) -> float | Array:
    """Return a step size or weight after `done` of the `updates` in which it falls linearly to
    zero."""
    if updates is None:
        return value
    return value * jnp.maximum(1.0 - done / updates, 0.0)


def require_positive(learner: AbstractLearner, *names: str) -> None:
    """Raises `UserError` unless each of these settings is at least 1."""
    for name in names:
        if getattr(learner, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(learner, name)}")
