"""Pieces of domain-adversarial training (Ganin et al. 2016, 1505.07818), in RL and supervised.

A domain head D is shown features and says whether they are the target's. Features from which it cannot
tell are those that both domains share.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Form = Literal["shared", "separate"]
"""One encoder for both domains, or one of its own for the target."""


@jax.custom_vjp
def reverse_gradient(x: Array, weight: Float[Array, ""]) -> Array:
    """Return `x`, whose gradient is multiplied by −`weight` on the way back (the paper's eq. 16 and
    17): what comes after it descends its loss, what comes before it ascends."""
    return x


def _forward(x: Array, weight: Array) -> tuple[Array, Array]:
    return x, weight


def _backward(weight: Array, gradient: Array) -> tuple[Array, Array]:
    return -weight * gradient, jnp.zeros_like(weight)


reverse_gradient.defvjp(_forward, _backward)


def adaptation_weight(progress: Float[Array, ""] | float) -> Float[Array, ""]:
    """Return λ_p = 2 / (1 + e^(−10p)) − 1, from 0 to 1 as `progress` p does (§5.2.2): untrained
    features are not worth confusing anybody with."""
    return 2.0 / (1.0 + jnp.exp(-10.0 * jnp.asarray(progress))) - 1.0


def learning_rate_factor(progress: Float[Array, ""] | float, power: float | Array = 0.75) -> Array:
    """Return (1 + 10p)^−power: what a step size is multiplied by (§5.2.2 has a power of 0.75)."""
    return (1.0 + 10.0 * jnp.asarray(progress)) ** -power


def domain_loss(
    source: Float[Array, " n"], target: Float[Array, " m"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the cross-entropy of a domain head's log-odds of "target", and its accuracy; each
    domain counts half, however many examples there are of it."""
    halves = jnp.mean(jax.nn.softplus(source)), jnp.mean(jax.nn.softplus(-target))
    right = jnp.mean((source < 0) * 1.0), jnp.mean((target > 0) * 1.0)
    return 0.5 * (halves[0] + halves[1]), 0.5 * (right[0] + right[1])


def adversarial_loss(
    domain: Callable[[Array], Array],
    source: Float[Array, "n features"],
    target: Float[Array, "m features"],
    weight: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the loss of the head `domain` on features of both domains, and its accuracy. The head
    descends it; what made the features ascends it, `weight` times."""
    odds = (domain(reverse_gradient(f, weight))[..., 0] for f in (source, target))
    return domain_loss(*odds)


def fooling_loss(target: Float[Array, " m"]) -> Float[Array, ""]:
    """Return what a target encoder of its own descends: the cross-entropy of calling the target
    "source"."""
    return jnp.mean(jax.nn.softplus(target))
