"""The outer step of meta-learning by gradients: any objective after adaptation, task by task.

What MAML and MAESN share: an objective of one task, J_i(φ), that itself takes the inner gradient
steps; here its mean over tasks is ascended, by a trust region (TRPO, as in MAML's paper) or by a few
steps of Adam on a clipped ratio (as in ProMP, Rothfuss et al. 1810.06784). Tasks are visited one
after another, so that memory does not grow with their number.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core import AbstractLearner, UserError
from ..networks import Activation
from ..rl.devices import mean
from ..rl.distributions import PolicyDistribution
from ..rl.experience import select
from ..rl.fitting import descend, optimizer, require_positive
from ..rl.ppo import clipped_policy_loss
from ..rl.trpo import FisherMatrix, Vector, mean_kl, trust_region_update
from .maml_agent import Batch, Surrogate

Outer = Literal["trpo", "ppo"]
"""The kinds of outer step."""
Adapted = Callable[[Any, Any], tuple[PolicyDistribution, Float[Array, ""]]]
"""By φ and a task (with `outer: Batch`): the adapted policy's distributions over actions at the steps
of the outer round, and a penalty on φ."""


class OuterSettings(AbstractLearner):
    """The settings of learners that differentiate through inner steps, and their outer step."""

    surrogate: Surrogate = eqx.field(static=True, default="log_likelihood")
    """What the inner step ascends: log_likelihood (MAML), likelihood_ratio (ProMP's LVC) or dice."""
    outer: Outer = eqx.field(static=True, default="trpo")
    """The meta-step: trpo, or ppo with Adam."""
    discount: float = 0.99
    """Discount factor γ."""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation; 1, as the authors': returns minus baseline."""
    max_kl: float = 0.01
    """TRPO: bound on the mean KL divergence between adapted policies (nats)."""
    damping: float = 1e-5
    """TRPO: added to the Fisher matrix's diagonal."""
    cg_iterations: int = eqx.field(static=True, default=10)
    """TRPO: iterations of conjugate gradient."""
    backtracks: int = eqx.field(static=True, default=10)
    """TRPO: times that the line search shortens the step before it gives up."""
    fisher_stride: int = eqx.field(static=True, default=9)
    """TRPO: the Fisher matrix takes every n-th step, but at least 200 of each task and round; the
    gradient and the line search take all."""
    epochs: int = eqx.field(static=True, default=5)
    """PPO: gradient steps per update, each on all tasks."""
    learning_rate: float = 1e-3
    """PPO: Adam's step size."""
    clip: float = 0.2
    """PPO: how far a probability ratio may move before it stops counting, ε."""
    max_gradient_norm: float = 1.0
    """PPO: bound on the gradient's global norm."""
    target_kl: float = 0.03
    """PPO: an update's epochs end once the adapted policies have moved 1.5 times this (nats): Adam
    alone steps far over the clipping when the inner step amplifies what it does."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(100, 100))
    """Hidden layers of the policy."""
    activation: Activation = eqx.field(static=True, default="relu")
    """Their activation: tanh, relu, elu, silu or gelu."""
    initial_std: float = eqx.field(static=True, default=1.0)
    """First standard deviation of continuous actions, whose range is [−1, 1]."""
    min_std: float = eqx.field(static=True, default=1e-6)
    """Lower bound on it."""

    def __check_init__(self):
        require_positive(self, "cg_iterations", "fisher_stride", "epochs")
        if self.backtracks < 0:
            raise UserError(f"backtracks must be at least 0, not {self.backtracks}")
        for field, kind in (("surrogate", Surrogate), ("outer", Outer)):
            if getattr(self, field) not in get_args(kind):
                raise UserError(
                    f"{field} must be one of {', '.join(get_args(kind))},"
                    f" not {getattr(self, field)!r}"
                )
        if min(self.initial_std, self.min_std) <= 0:
            raise UserError("initial_std and min_std must be positive")

    def fresh_optimizer(self, parameters: PyTree[Array]) -> optax.OptState | None:
        """Return Adam's state before its first step; `None` with TRPO, which has none."""
        if self.outer == "trpo":
            return None
        return optimizer(self.max_gradient_norm).init(parameters)  # pyright: ignore

    def outer_step(
        self,
        adapted: "Adapted",
        parameters: PyTree[Array],
        adam: optax.OptState | None,
        tasks: Any,
    ) -> tuple[Any, optax.OptState | None, dict[str, Array]]:
        """Return one outer step, of either kind, on prepared tasks (every leaf `[tasks, …]`):
        parameters, Adam's state and metrics."""
        if self.outer == "trpo":
            parameters, metrics = trust_region_step(
                adapted,
                parameters,
                tasks,
                thin(tasks, self.fisher_stride, inner=self.surrogate != "dice"),
                max_kl=self.max_kl,
                damping=self.damping,
                iterations=self.cg_iterations,
                backtracks=self.backtracks,
            )
            return parameters, adam, metrics
        return clipped_steps(
            adapted,
            parameters,
            adam,  # pyright: ignore[reportArgumentType]
            tasks,
            clip=self.clip,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            max_gradient_norm=self.max_gradient_norm,
            target_kl=self.target_kl,
        )


def importance_weighted(distribution: PolicyDistribution, outer: Batch) -> Float[Array, ""]:
    """Return mean(ρ A) of the outer round: from the adapted policy that acted to the one in
    question."""
    log_prob = distribution.log_prob(outer.action)
    log_ratio = jnp.where(outer.weight > 0, log_prob - outer.log_prob, 0.0)
    return jnp.sum(outer.weight * jnp.exp(log_ratio) * outer.advantage)


def trust_region_step(
    adapted: Adapted,
    parameters: PyTree[Array],
    tasks: Any,
    thinned: Any,
    *,
    max_kl: float | Array,
    damping: float | Array,
    iterations: int,
    backtracks: int,
) -> tuple[PyTree[Array], dict[str, Array]]:
    """Ascend mean_i(J_i − penalty_i) within `max_kl` of the adapted policies that acted.

    **Arguments:**

    - `adapted`: see `Adapted`. `parameters`: φ.
    - `tasks`: every leaf `[tasks, …]`, among them `outer`, a `Batch`.
    - `thinned`: the part of `tasks` that the Fisher matrix is made of.
    - `max_kl`, `damping`, `iterations`, `backtracks`: see `trust_region_update`.

    Returns the new φ and metrics.
    """
    start, unflatten = ravel_pytree(parameters)
    number = tasks.outer.weight.shape[0]

    def surrogate(phi: Vector, task: Any):
        distribution, penalty = adapted(unflatten(phi), task)
        return importance_weighted(distribution, task.outer) - penalty, distribution

    def accumulate(total, task: Any):
        (value, old), gradient = jax.value_and_grad(surrogate, has_aux=True)(start, task)
        return jax.tree.map(lambda t, x: t + x / number, total, (value, gradient)), old

    zero = (jnp.zeros((), start.dtype), jnp.zeros_like(start))
    sums, old = lax.scan(accumulate, zero, tasks)
    value, gradient = mean(sums)

    def evaluate(phi: Vector):
        def one(row):
            task, old = row
            value, new = surrogate(phi, task)
            return value, mean_kl(old, new, task.outer.weight)

        values, kls = lax.map(one, (tasks, old))
        return mean((jnp.mean(values), jnp.mean(kls)))

    def fisher(task: Any) -> FisherMatrix:
        return FisherMatrix.of(lambda v: surrogate(v, task)[1], start, task.outer.weight)

    matrices = lax.map(fisher, thinned)

    def product(v: Vector) -> Vector:
        def add(total: Vector, matrix: FisherMatrix):
            return total + (matrix @ v) / number, None

        return mean(lax.scan(add, jnp.zeros_like(v), matrices)[0])

    phi, report = trust_region_update(
        start,
        gradient,
        product,
        evaluate,
        surrogate=value,
        max_kl=max_kl,
        damping=damping,
        iterations=iterations,
        backtracks=backtracks,
    )
    entropy = jax.vmap(lambda d, w: jnp.sum(w * d.entropy()))(old, tasks.outer.weight)
    metrics = {
        "loss/policy": -value,
        "improvement": report.improvement,
        "kl": report.kl,
        "backtracks": report.backtracks.astype(jnp.float32),
        "accepted": report.accepted.astype(jnp.float32),
        "entropy": mean(jnp.mean(entropy)),
        "gradient_norm": jnp.linalg.norm(gradient),
    }
    return unflatten(phi), metrics


def thin(tasks: Any, most: int, *, inner: bool) -> Any:
    """Return what a Fisher matrix is made of: every n-th step of all rounds and tasks, n at most
    `most` and so that at least 200 steps of each are left.

    Fewer steps of each task, inner and outer alike, lose much less of the natural gradient than
    fewer tasks or a metric that ignores the inner step. `inner` is false where the inner round must
    stay whole (DiCE).
    """
    stride = min(most, max(1, tasks.outer.weight.shape[1] // 200))

    def every(batch: Batch, axis: int) -> Batch:
        batch = jax.tree.map(lambda x: x[(slice(None),) * axis + (slice(0, None, stride),)], batch)
        total = jnp.sum(batch.weight, axis=axis, keepdims=True)
        return batch._replace(weight=batch.weight / jnp.maximum(total, 1e-8))

    kept = every(tasks.inner, 2) if inner else tasks.inner
    return tasks._replace(inner=kept, outer=every(tasks.outer, 1))


def clipped_steps(
    adapted: Adapted,
    parameters: PyTree[Array],
    adam: optax.OptState,
    tasks: Any,
    *,
    clip: float | Array,
    epochs: int,
    learning_rate: float | Array,
    max_gradient_norm: float | Array,
    target_kl: float | Array,
) -> tuple[PyTree[Array], optax.OptState, dict[str, Array]]:
    """Take steps of Adam on ProMP's clipped surrogate after adaptation, `epochs` steps on the same
    rounds, fewer once the adapted policies have moved by 1.5 `target_kl` (nats). Returns φ, Adam's
    state, metrics."""
    transform = optimizer(max_gradient_norm)
    number = tasks.outer.weight.shape[0]

    def loss(parameters: Any, task: Any):
        distribution, penalty = adapted(parameters, task)
        outer = task.outer
        value, moved = clipped_policy_loss(
            distribution.log_prob(outer.action), outer.log_prob, outer.advantage, outer.weight, clip
        )
        entropy = jnp.sum(outer.weight * distribution.entropy())
        return value + penalty, {"loss/policy": value, "entropy": entropy, **moved}

    def epoch(carry, _):
        parameters, adam, going = carry

        def accumulate(total, task: Any):
            (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, task)
            return jax.tree.map(lambda t, x: t + x / number, total, (metrics, gradient)), None

        first = jax.tree.map(lambda x: x[0], tasks)
        shapes = jax.eval_shape(loss, parameters, first)[1]
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes, parameters))
        metrics, gradient = mean(lax.scan(accumulate, zero, tasks)[0])
        metrics["gradient_norm"] = jnp.linalg.norm(ravel_pytree(gradient)[0])
        stepped = descend(transform, gradient, adam, parameters, learning_rate)
        going = going & (metrics["kl"] <= 1.5 * target_kl)
        kept = select(going, stepped, (parameters, adam))
        return (*kept, going), {**metrics, "epochs": going.astype(jnp.float32)}

    begin = (parameters, adam, jnp.ones((), bool))
    (parameters, adam, _), metrics = lax.scan(epoch, begin, length=epochs)
    taken = jnp.sum(metrics.pop("epochs"))
    return parameters, adam, {**jax.tree.map(jnp.mean, metrics), "epochs": taken}
