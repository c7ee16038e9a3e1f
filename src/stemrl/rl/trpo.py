"""Trust region policy optimization (Schulman et al. 1502.05477), on any surrogate and divergence.

Maximize a surrogate S(θ) subject to D(θ_old, θ) ≤ δ, where D is the mean KL divergence between the
old and the new distributions over actions. To second order D is ½ Δᵀ F Δ with the Fisher matrix F,
so the step is

    Δ = √(2δ / xᵀ F x) · x,    F x = ∇S(θ_old),

with x by conjugate gradient, which needs F only as products F v, and then a line search on the true
S and D.

A product is taken through the distributions over actions, z(θ): F v = Jᵀ M J v, where J = ∂z/∂θ
and M is the Fisher matrix of the distribution with respect to its own parameters, which is cheap
and the same as ∂²D/∂z² at the old ones. J is linearized once, and both J and Jᵀ are then reused by
every product: what θ goes through before it becomes z, an inner gradient step say, is paid for once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

Vector = Float[Array, " parameters"]


class TrustRegionStep(NamedTuple):
    """What a step of TRPO did. All fields are scalars."""

    improvement: Float[Array, ""]
    """S(θ_new) − S(θ_old)."""
    kl: Float[Array, ""]
    """D(θ_old, θ_new), in nats."""
    backtracks: Int[Array, ""]
    """How often the line search shortened the step."""
    accepted: Bool[Array, ""]
    """Whether a step was good enough; if not, the parameters stayed as they were."""


class FisherMatrix(eqx.Module):
    """The Fisher matrix F of a policy on some samples, in a form that can be multiplied with. It is
    a pytree, so that those of several tasks can be made in one loop and used in another."""

    old: Any
    """The distributions over actions at θ_old."""
    tangent: Callable[[Vector], Any]
    """v ↦ J v."""
    weight: Float[Array, " samples"]

    @classmethod
    def of(
        cls,
        distributions: Callable[[Vector], Any],
        parameters: Vector,
        weight: Float[Array, " samples"],
    ) -> "FisherMatrix":
        """**Arguments:**

        - `distributions`: z(θ), a distribution with a method `kl`, over samples. A part of the
          batch is enough (Schulman et al., appendix C).
        - `parameters`: θ_old.
        - `weight`: of each sample in the mean; 0 on padding.
        """
        return cls(*jax.linearize(distributions, parameters), weight)

    def __matmul__(self, v: Vector) -> Vector:
        """F v."""

        def metric(direction: PyTree[Array]) -> PyTree[Array]:
            # M u, the Hessian of D in its second argument: elementwise or nearly so.
            pull = jax.grad(lambda new: mean_kl(self.old, new, self.weight))
            return jax.jvp(pull, (self.old,), (direction,))[1]

        return jax.linear_transpose(self.tangent, v)(metric(self.tangent(v)))[0]


def mean_kl(old: Any, new: Any, weight: Float[Array, " samples"]) -> Float[Array, ""]:
    """Return Σ weight · KL(old ‖ new)."""
    return jnp.sum(weight * old.kl(new))


def trust_region_update(
    parameters: Vector,
    gradient: Vector,
    product: Callable[[Vector], Vector],
    evaluate: Callable[[Vector], tuple[Float[Array, ""], Float[Array, ""]]],
    *,
    surrogate: Float[Array, ""],
    max_kl: float | Array = 0.01,
    damping: float | Array = 1e-5,
    iterations: int = 10,
    backtracks: int = 10,
) -> tuple[Vector, TrustRegionStep]:
    """Return one step of TRPO: natural gradient, then line search.

    **Arguments:**

    - `parameters`: θ_old, flat. `gradient`: ∇S(θ_old).
    - `product`: v ↦ F v.
    - `evaluate`: `(S(θ), D(θ_old, θ))` on all samples, for the line search.
    - `surrogate`: S(θ_old).
    - `max_kl`: δ, in nats.
    - `damping`: F + damping · I is inverted instead of F.
    - `iterations`: of conjugate gradient. `backtracks`: at most, before giving up.
    """
    # Directions must stay conjugate: in all digits of float32, also on a GPU.
    with jax.default_matmul_precision("highest"):
        direction, curved = conjugate_gradient(
            lambda v: product(v) + damping * v, gradient, iterations
        )
    scale = jnp.sqrt(2 * max_kl / jnp.maximum(direction @ curved, 1e-12))
    return line_search(
        evaluate,
        parameters,
        scale * direction,
        surrogate=surrogate,
        max_kl=max_kl,
        backtracks=backtracks,
    )


def conjugate_gradient(
    product: Callable[[Vector], Vector], b: Vector, iterations: int, tolerance: float = 1e-10
) -> tuple[Vector, Vector]:
    """Return x ≈ A⁻¹ b for a positive definite A given by its products, and A x.

    Stops early, by no longer moving, once ‖b − A x‖² is below `tolerance` ‖b‖². A x comes free
    as b minus the residual.
    """
    enough = tolerance * (b @ b)

    def step(loop, _):
        def go(loop):
            x, residual, search, error = loop
            curved = product(search)
            rate = error / jnp.maximum(search @ curved, 1e-30)
            x, residual = x + rate * search, residual - rate * curved
            new_error = residual @ residual
            return x, residual, residual + new_error / error * search, new_error

        return lax.cond(loop[3] > enough, go, lambda loop: loop, loop), None

    (x, residual, _, _), _ = lax.scan(step, (jnp.zeros_like(b), b, b, b @ b), length=iterations)
    return x, b - residual


def line_search(
    evaluate: Callable[[Vector], tuple[Float[Array, ""], Float[Array, ""]]],
    start: Vector,
    step: Vector,
    *,
    surrogate: Float[Array, ""],
    max_kl: float | Array,
    backtracks: int,
    shrink: float = 0.8,
) -> tuple[Vector, TrustRegionStep]:
    """Return the longest of ever shorter steps that improves the surrogate inside the trust region.

    A step that leaves the region is shortened to where its KL, quadratic in the length, would be
    just inside (or by `shrink`, if that is shorter); one that only fails to improve, by `shrink`.
    A surrogate or KL that is not finite counts as both.
    """

    def searching(loop):
        tries, _, _, _, _, accepted = loop
        return ~accepted & (tries <= backtracks)

    def attempt(loop):
        tries, _, scale, _, _, _ = loop
        value, kl = evaluate(start + scale * step)
        accepted = (value > surrogate) & (kl <= max_kl)
        fits = 0.95 * jnp.sqrt(max_kl / jnp.maximum(kl, 1e-12))
        shorter = scale * jnp.where(jnp.isfinite(kl), jnp.minimum(shrink, fits), 0.5)
        return tries + 1, scale, shorter, value, kl, accepted

    one = jnp.ones((), start.dtype)
    begin = (jnp.zeros((), jnp.int32), one, one, one, one, jnp.zeros((), bool))
    tries, scale, _, value, kl, accepted = lax.while_loop(searching, attempt, begin)
    new = jnp.where(accepted, start + scale * step, start)
    report = TrustRegionStep(
        improvement=jnp.where(accepted, value - surrogate, 0.0),
        kl=jnp.where(accepted, kl, 0.0),
        backtracks=tries - 1,
        accepted=accepted,
    )
    return new, report
