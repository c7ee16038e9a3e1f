"""Minibatch optimization of a batch that was collected once: what PPO-like methods share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, UserError
from .devices import spread


def weighted_mean(x: Float[Array, "..."], weight: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean of `x` where `weight` is 1; 0 if it is nowhere."""
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def standardize(x: Float[Array, "..."], weight: Float[Array, "..."]) -> Float[Array, "..."]:
    """(x − mean) / std over the rows that count; 0 on the others."""
    centred = (x - weighted_mean(x, weight)) * weight
    return centred / (jnp.sqrt(weighted_mean(centred**2, weight)) + 1e-8)


def explained_variance(
    value: Float[Array, "..."], target: Float[Array, "..."], weight: Float[Array, "..."]
) -> Float[Array, ""]:
    """1 − Var[V̂ − V] / Var[V̂]: 1 for a perfect value function, 0 for a constant."""

    def variance(x: Array) -> Array:
        return weighted_mean((x - weighted_mean(x, weight)) ** 2, weight)

    return 1.0 - variance(target - value) / jnp.maximum(variance(target), 1e-8)


def optimizer(max_gradient_norm: float | Array) -> optax.GradientTransformation:
    """Adam behind a bound on the gradient's *global* norm, without a step size (see `descend`).

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
) -> tuple[Any, optax.OptState]:
    """One step of size `learning_rate` against the transformed gradient."""
    direction, optimizer_state = transform.update(gradient, optimizer_state)  # pyright: ignore
    stepped = jax.tree.map(lambda p, d: p - learning_rate * d, parameters, direction)
    return stepped, optimizer_state


def shuffled(
    key: PRNGKeyArray, rows: int, epochs: int, minibatches: int
) -> Int[Array, "batches size"]:
    """Row numbers of every minibatch of every epoch, each epoch a permutation. If `minibatches`
    does not divide `rows`, each epoch leaves out a few rows, others each time."""
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
) -> tuple[Any, optax.OptState, dict[str, Array]]:
    """Epochs of shuffled minibatches.

    **Arguments:**

    - `loss(parameters, minibatch)`: a scalar, and metrics of which one is `kl` if `target_kl` is.
    - `rows`: every leaf `[rows, …]`: steps, or whole sequences.
    - `target_kl`: stop for this update once a minibatch finds the policy further than 1.5 times
      this from where it began (nats).

    Returns the mean metrics of the steps that were taken, and with `target_kl` the `steps` taken,
    as a fraction.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    minibatches = min(minibatches, count)
    transform = optimizer(max_gradient_norm)

    def step(carry: tuple, index: Array):
        parameters, optimizer_state, going = carry
        minibatch = spread(jax.tree.map(lambda x: x[index], rows))
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, minibatch)
        stepped = descend(transform, gradient, optimizer_state, parameters, learning_rate)
        if target_kl is None:
            return (*stepped, going), (metrics, going)
        # The minibatch that finds out is measured but not learned from.
        going = going & (metrics["kl"] <= 1.5 * target_kl)
        kept = jax.tree.map(
            lambda new, old: jnp.where(going, new, old), stepped, (parameters, optimizer_state)
        )
        return (*kept, going), (metrics, going)

    (parameters, optimizer_state, _), (metrics, going) = lax.scan(
        step,
        (parameters, optimizer_state, jnp.asarray(True)),
        shuffled(key, count, epochs, minibatches),
    )
    taken = going.astype(jnp.float32)
    # The first minibatch is always measured on the policy that acted.
    means = jax.tree.map(lambda x: weighted_mean(x, taken.at[0].set(1.0)), metrics)
    return (
        parameters,
        optimizer_state,
        means | ({} if target_kl is None else {"steps": taken.mean()}),
    )


def annealed(value: float | Array, updates: int | None, done: Int[Array, ""]) -> float | Array:
    """A step size or weight after `done` of the `updates` in which it falls linearly to zero."""
    if updates is None:
        return value
    return value * jnp.maximum(1.0 - done / updates, 0.0)


def require_positive(learner: AbstractLearner, *names: str) -> None:
    """Raises `UserError` unless each of these settings is at least 1."""
    for name in names:
        if getattr(learner, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(learner, name)}")
