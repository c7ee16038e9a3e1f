"""The distribution of worlds that a policy trains on, and what the target teaches about it
(Rajeswaran et al. 2016, 1610.01283, §3.3).

The problem: a simulator can be set to many worlds, and the target is one of them, but which? A wide
distribution over them is safe and makes a timid policy. The idea: whatever was done in the target can
be done again in the simulator, from the states that were seen there, in any world p. With T(s, a; p)
the next observation that the simulator then gives, and the target's observations Gaussian around it,

    L(p) = ∏ₜ N(sₜ₊₁ | T(sₜ, aₜ; p), Σ)

is how well a world explains the target. Worlds pᵢ drawn from a sampling distribution q are weighted by
L(pᵢ) P(pᵢ) / q(pᵢ) (eqs. 4 and 5), P what was believed before, and the weighted mean and deviation
make the next source distribution: a normal one for each parameter, cut off at the ends of the first.

A simulator without noise explains its own world infinitely better than any other, and a single particle
would take all the weight. So the likelihood is raised to the largest power β ≤ 1 that still leaves a
share of the particles effective, of those that P(p) / q(p) alone leaves: less is learned from a round,
and never more than the particles can say.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractFamily, Params, Problem, UserError, unscale_action
from ..core.environment import Action, Obs
from ..rl.policy import flatten

FIRST = 2_000
"""Worlds of the family from which the moments of the first distribution are taken."""
UNEXPLAINED = 1e3
"""Error, in standard deviations, of a world in which the simulation broke down."""


class Beliefs(eqx.Module):
    """Which worlds the target may be: a normal distribution for each parameter, cut off at both
    ends. Every field but `rounds` is `[parameters]`, in the order of `parameter_names`."""

    mean: Float[Array, " parameters"]
    std: Float[Array, " parameters"]
    low: Float[Array, " parameters"]
    high: Float[Array, " parameters"]
    first_mean: Float[Array, " parameters"]
    first_std: Float[Array, " parameters"]
    """The deviations before anything was seen of the target: the family's own."""
    rounds: Int[Array, ""]
    """How often the target has taught something. Before that, worlds are the family's own."""

    @classmethod
    def of(cls, family: AbstractFamily, key: PRNGKeyArray) -> "Beliefs":
        """Return what the family's train split says. Raise `UserError` if its tasks are not made of
        real numbers, or are all the same."""
        parameter_names(family)
        drawn = as_vectors(family.tasks(key, "train", FIRST))
        mean, std = drawn.mean(axis=0), drawn.std(axis=0)
        return cls(
            mean, std, drawn.min(axis=0), drawn.max(axis=0), mean, std, jnp.zeros((), jnp.int32)
        )

    def draw(self, key: PRNGKeyArray, n: int, widen: float | Array = 1.0) -> Float[Array, "n P"]:
        """Draw `n` worlds, from a distribution that is `widen` times as wide."""
        std = jnp.maximum(self.std * widen, 1e-12)
        low, high = (self.low - self.mean) / std, (self.high - self.mean) / std
        normal = jax.random.truncated_normal(key, low, high, (n, *self.mean.shape))
        drawn = jnp.clip(self.mean + std * normal, self.low, self.high)
        return jnp.where(self.first_std > 0, drawn, self.mean)

    def log_odds(self, vectors: Float[Array, "n P"], widen: float | Array) -> Float[Array, " n"]:
        """Return log P(p) − log q(p) of worlds p, up to a constant, where q is `widen` times as
        wide as P."""
        z = jnp.where(self.first_std > 0, (vectors - self.mean) / jnp.maximum(self.std, 1e-12), 0.0)
        return -0.5 * jnp.sum(z**2 * (1.0 - 1.0 / widen**2), axis=-1)


class Round(NamedTuple):
    """What a round in the target taught; scalars."""

    effective: Float[Array, ""]
    """Effective share of the particles, 1 / (n Σ w²)."""
    power: Float[Array, ""]
    """β, to which the likelihood was raised."""


def worlds(
    beliefs: Beliefs, family: AbstractFamily, key: PRNGKeyArray, n: int, widen: float = 1.0
) -> Params:
    """Return `n` tasks to train on, every leaf `[n, …]`: the family's own until the target has
    taught something, then what is believed."""
    own_key, key = jax.random.split(key)
    own = family.tasks(own_key, "train", n)
    ours = as_params(beliefs.draw(key, n, widen), own)
    return jax.tree.map(lambda a, b: jnp.where(beliefs.rounds > 0, a, b), ours, own)


def believe(
    beliefs: Beliefs,
    vectors: Float[Array, "n P"],
    log_likelihood: Float[Array, " n"],
    *,
    widen: float | Array,
    effective: float | Array,
    narrowest: float | Array,
) -> tuple[Beliefs, Round]:
    """Return the next distribution, and a summary of the round.

    - `vectors`: worlds that were drawn from the present distribution, `widen` times as wide (in the
      first round, from the family's own).
    - `log_likelihood`: how well each of them explains the target.
    - `effective`: the share of the particles that must stay effective, of those that are so without
      any likelihood: of worlds of many parameters, drawn from a wider distribution, few are.
    - `narrowest`: the least standard deviation, as a share of the first one.
    """
    n = log_likelihood.shape[0]
    odds = jnp.where(beliefs.rounds > 0, beliefs.log_odds(vectors, widen), 0.0)
    centred = log_likelihood - jnp.max(log_likelihood)

    def weights(power: Array) -> Float[Array, " n"]:
        return jax.nn.softmax(power * centred + odds)

    def share(power: Array) -> Array:
        return 1.0 / (n * jnp.sum(weights(power) ** 2))

    least_share = effective * share(jnp.zeros(()))

    def halve(bracket: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bracket
        middle = 0.5 * (low + high)
        enough = share(jnp.exp(middle)) >= least_share
        return (jnp.where(enough, middle, low), jnp.where(enough, high, middle)), None

    bracket = (jnp.asarray(-40.0), jnp.asarray(0.0))
    (found, _), _ = lax.scan(halve, bracket, length=30)
    power = jnp.where(share(jnp.asarray(1.0)) >= least_share, 1.0, jnp.exp(found))
    # By how much the likelihood moves the moments of these very particles, so that what they are by
    # chance, and by the cut at both ends, is not taken for news: without any, nothing changes.
    (mean, variance), (was, spread) = (
        _moments(weights(p), vectors) for p in (power, jnp.zeros_like(power))
    )
    mean = jnp.clip(beliefs.mean + mean - was, beliefs.low, beliefs.high)
    narrower = jnp.sqrt(variance / jnp.maximum(spread, 1e-30))
    least = narrowest * beliefs.first_std
    std = jnp.clip(beliefs.std * narrower, least, beliefs.first_std)
    after = eqx.tree_at(
        lambda b: (b.mean, b.std, b.rounds), beliefs, (mean, std, beliefs.rounds + 1)
    )
    return after, Round(share(power), power)


def _moments(
    weight: Float[Array, " n"], vectors: Float[Array, "n P"]
) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
    """Weighted mean and (unbiased) variance."""
    mean = weight @ vectors
    degrees = jnp.maximum(1.0 - jnp.sum(weight**2), 1e-6)
    return mean, weight @ (vectors - mean) ** 2 / degrees


def log_likelihoods(
    problem: Problem,
    params: Params,
    obs: Obs,
    action: Action,
    next_obs: Obs,
    weight: Float[Array, " steps"],
    error: float | Array,
    key: PRNGKeyArray,
) -> Float[Array, " worlds"]:
    """Return log L of worlds of the source, by steps that were seen in the target.

    - `params`: the worlds, every leaf `[worlds, …]`.
    - `obs`, `action`, `next_obs`: the steps, `[steps, …]`, with actions in an agent's units.
    - `weight`: 1 for each step, 0 for what is no step.
    - `error`: the standard deviation of the target's observations around the simulator's, as a
      share of how much each feature changes in a step (the deviation over the steps).
    """
    family = problem.source
    env: Any = family.env
    space, actions = family.observation_space, family.action_space
    change = flatten(space, next_obs) - flatten(space, obs)
    total = jnp.maximum(jnp.sum(weight), 1.0)
    mean = weight @ change / total
    scale = jnp.sqrt(weight @ (change - mean) ** 2 / total)
    scale = error * jnp.maximum(scale, 1e-6 + 1e-3 * jnp.max(scale))

    # Step by step, all worlds at once: a simulator then makes each world's model once.
    def step(total: Array, seen: tuple[Obs, Action, Obs, Array, PRNGKeyArray]):
        obs, action, after, weight, key = seen

        def predict(world: Params) -> Array:
            state = env.state_of(obs, world)
            return env.step(key, state, unscale_action(actions, action), world)[0]

        off = (flatten(space, jax.vmap(predict)(params)) - flatten(space, after)) / scale
        off = jnp.clip(jnp.nan_to_num(off, nan=UNEXPLAINED), -UNEXPLAINED, UNEXPLAINED)
        return total - 0.5 * weight * jnp.sum(off**2, axis=-1), None

    n = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(key, weight.shape[0])
    return lax.scan(step, jnp.zeros(n), (obs, action, next_obs, weight, keys))[0]


def require_replayable(family: AbstractFamily, by: str) -> None:
    """Raise `UserError` unless the family's simulator can be put into an observed state."""
    if family.finite:
        raise UserError(
            f"'{by}' narrows a distribution of worlds, and '{family.name}' has only so many tasks;"
            " give it ranges, or neither --budget nor --target-data"
        )
    if not hasattr(family.env, "state_of"):
        raise UserError(
            f"'{by}' compares worlds by playing the target's steps again, and '{family.name}' cannot"
            " be put into an observed state (its environment has no `state_of`); 'cart-pole',"
            " 'pendulum', 'hopper-params' and its like, and robots of your own (MJCF) can. With neither --budget nor --target-data it"
            " trains on all worlds"
        )
    shape = jax.eval_shape(lambda k: family.sample(k, "train"), jax.random.key(0))
    obs = jax.eval_shape(lambda p: family.env.reset(jax.random.key(0), p)[0], shape)
    place: Callable[..., Any] = family.env.state_of  # pyright: ignore
    jax.eval_shape(place, obs, shape)


def parameter_names(family: AbstractFamily) -> list[str]:
    """Return a name for each number that makes a task, in the order of `as_vectors`: `mass`,
    `values/0`. Raises `UserError` where they are no real numbers."""
    shapes = jax.eval_shape(lambda k: family.sample(k, "train"), jax.random.key(0))
    names: list[str] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UserError(
                f"the worlds of '{family.name}' are no real numbers ('{name}' is {leaf.dtype}), so"
                " there is no distribution of them to narrow"
            )
        given = family.parameter_names().get(name, ())
        if len(given) == leaf.size:
            names += given
        else:
            names += [name] if leaf.size == 1 else [f"{name}/{i}" for i in range(leaf.size)]
    addresses = getattr(getattr(family, "parameters", None), "addresses", ())
    return list(addresses) if len(addresses) == len(names) else names


def as_vectors(params: Params) -> Float[Array, "n P"]:
    """Return tasks, every leaf `[n, …]`, as rows of numbers."""
    leaves = jax.tree.leaves(params)
    return jnp.concatenate([x.reshape(x.shape[0], -1) for x in leaves], axis=1)


def as_params(vectors: Float[Array, "n P"], template: Params) -> Params:
    """Return rows of numbers as tasks like those in `template`, every leaf `[n, …]`."""
    leaves, structure = jax.tree.flatten(template)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    parts = jnp.split(vectors, np.cumsum(sizes)[:-1].tolist(), axis=1)
    return jax.tree.unflatten(
        structure,
        [
            part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype)
            for part, leaf in zip(parts, leaves, strict=True)
        ],
    )


def seen_steps(
    transitions: Any, n: int, key: PRNGKeyArray
) -> tuple[Obs, Action, Obs, Float[Array, " n"]]:
    """Return `n` of the valid steps of episodes `[tasks, 1, 1, time, …]`, drawn without regard to
    order; and their weights, 0 where there was not even one."""
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[4:]),
        (transitions.obs, transitions.action, transitions.next_obs, transitions.valid),
    )
    valid: Bool[Array, " rows"] = flat[3]
    odds = jnp.where(valid, 0.0, -jnp.inf)
    odds = jnp.where(jnp.any(valid), odds, 0.0)
    index = jax.random.categorical(key, odds, shape=(n,))
    obs, action, after = (jax.tree.map(lambda x: x[index], part) for part in flat[:3])
    return obs, action, after, valid[index].astype(jnp.float32)
