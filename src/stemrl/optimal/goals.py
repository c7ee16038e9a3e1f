"""Exact values of reaching every state of a tabular process, and how good a policy is at it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def optimal_goal_values(
    transition: Float[Array, "states actions states"], discount: float, sweeps: int = 1000
) -> Float[Array, "goals states actions"]:
    """Return Q*(s, a, g) where every step costs 1 but the one that enters g, which ends the
    episode:

        Q(s, a, g) = Σ_{s′ ≠ g} P(s′|s, a) (−1 + γ max_{a′} Q(s′, a′, g))

    by `sweeps` of value iteration for all goals at once. With `discount` 1 it is minus the least
    expected number of steps before the last. Stops where nothing moves by more than 1e-5.
    """
    states = transition.shape[0]
    elsewhere = 1.0 - jnp.eye(states)

    def sweep(loop):
        _, value, n = loop
        new = jnp.max(backup(value), axis=-1)
        return jnp.max(jnp.abs(new - value)), new, n + 1

    def backup(value: Float[Array, "goals states"]) -> Float[Array, "goals states actions"]:
        worth = elsewhere * (discount * value - 1.0)
        return jnp.einsum("sat,gt->gsa", transition, worth)

    start = (jnp.asarray(jnp.inf), jnp.zeros((states, states)), jnp.asarray(0))
    _, value, _ = jax.lax.while_loop(lambda x: (x[0] > 1e-5) & (x[2] < sweeps), sweep, start)
    return backup(value)


def goal_policy_values(
    policy: Float[Array, "goals states actions"],
    transition: Float[Array, "states actions states"],
    discount: float,
) -> Float[Array, "goals states"]:
    """Return V^π(s, g) under the rewards of `optimal_goal_values`, exactly, by one linear system
    for each goal. `policy` holds probabilities. `discount` must be below 1, since a policy may
    never arrive."""
    states = transition.shape[0]

    def of_goal(policy: Array, goal: Array) -> Array:
        moved = jnp.einsum("sa,sat->st", policy, transition)
        on = moved * (jnp.arange(states) != goal)
        return jnp.linalg.solve(jnp.eye(states) - discount * on, -jnp.sum(on, axis=1))

    return jax.vmap(of_goal)(policy, jnp.arange(states))


def policy_quality(
    values: Float[Array, "goals states actions"],
    transition: Float[Array, "states actions states"],
    discount: float,
) -> Float[Array, " goals"]:
    """Return for each goal how good it is to act greedily by `values`: 1 is as good as the optimum,
    0 as good as chance, averaged over the states (Schaul et al. 2015, §4: policy quality)."""
    best = jax.nn.one_hot(jnp.argmax(values, axis=-1), values.shape[-1])
    chance = jnp.full(values.shape, 1.0 / values.shape[-1])
    optimum = jnp.max(optimal_goal_values(transition, discount), axis=-1)
    found = goal_policy_values(best, transition, discount)
    least = goal_policy_values(chance, transition, discount)
    gained, possible = (jnp.mean(x - least, axis=1) for x in (found, optimum))
    return gained / jnp.maximum(possible, 1e-8)
