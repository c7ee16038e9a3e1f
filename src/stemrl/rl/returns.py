"""Returns and advantages as functions of one sequence; batch them with `vmap`."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def lowest_value(discount: float | Array) -> float | Array:
    """Return what −1 at every step for ever is worth, −1 / (1 − γ); where nothing is discounted, −∞."""
    if isinstance(discount, float | int):
        return -1.0 / (1.0 - discount) if discount < 1 else -math.inf
    return -1.0 / (1.0 - discount)


def discounted_returns(
    reward: Float[Array, " time"], discount: float | Array
) -> Float[Array, " time"]:
    """Return Gₜ = rₜ + γ Gₜ₊₁ to the sequence's end (padding has reward 0 and changes nothing)."""

    def step(g: Array, r: Array):
        g = r + discount * g
        return g, g

    return jax.lax.scan(step, jnp.zeros_like(reward[0]), reward, reverse=True)[1]


def generalized_advantages(
    reward: Float[Array, " time"],
    value: Float[Array, " time"],
    next_value: Float[Array, " time"],
    bootstrap: Bool[Array, " time"],
    carry_on: Bool[Array, " time"],
    discount: float | Array,
    gae_lambda: float | Array,
) -> Float[Array, " time"]:
    """Return generalized advantage estimates (Schulman 1506.02438, eq. 16).

    δₜ = rₜ + γ·bootstrapₜ·V(s′ₜ) − V(sₜ);  Aₜ = δₜ + γλ·carry_onₜ·Aₜ₊₁

    **Arguments:**

    - `next_value`: the value of the true next observation, also where an episode was cut.
    - `bootstrap`: False where what follows is worth nothing: at termination, not at truncation.
    - `carry_on`: False where the next row belongs to another episode, and on a padded row.
    - `discount`, `gae_lambda`: γ and λ.
    """
    delta = reward + discount * bootstrap * next_value - value

    def step(advantage: Array, row: tuple[Array, Array]):
        d, on = row
        advantage = d + discount * gae_lambda * on * advantage
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, carry_on), reverse=True)[1]
