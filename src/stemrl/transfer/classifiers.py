"""The two classifiers of DARC (Eysenbach et al. 2021, 2006.13916), was this a step of the target?, and
what is made of their answers.

By Bayes' rule, what they make of a step gives how much likelier its outcome is in the target,

    Δr = log q(target|s, a, s′) − log q(source|s, a, s′)
         − log q(target|s, a) + log q(source|s, a)

whatever the shares of the two domains, and however often (s, a) is met in each.

The outcome of a step is more than s′: where the task itself ends, what follows is the absorbing state of
Sutton & Barto (2018, §3.4), whatever was observed last. So wherever s′ stands here, whether the step
terminated stands beside it, and a world that ends where the other goes on is another one. A time limit
is no part of the dynamics and is not shown.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import Problem, Space, Transition, clip_action
from ..networks import MLP
from ..rl.fitting import gradient_steps
from ..rl.normalize import Normalizer
from ..rl.policy import flatten, observation_size, perceive
from ..rl.replay import Replay

SATURATED = 10.0
"""Nats beyond which Δr says that a classifier is certain, and no longer how much likelier a step is: by
then one domain has been seen to do a thing 20,000 times as often as the other."""


class Step(NamedTuple):
    """A step as a classifier is shown it. All values are raw; the action is in an agent's units."""

    obs: Array
    action: Array
    next_obs: Array
    """What truly followed, also where the episode ended; never the first of another one."""
    terminated: Bool[Array, "..."]
    """Whether the task itself ended with it; a time limit does not count."""

    @classmethod
    def empty(cls, problem: Problem) -> "Step":
        """Return a step of zeros, as a template for those of `problem`."""
        space, actions = problem.source.observation_space, problem.source.action_space
        obs, action = (jnp.zeros(s.shape, s.dtype) for s in (space, actions))
        return cls(obs, action, obs, jnp.zeros((), bool))

    @classmethod
    def of(cls, transitions: Transition) -> "Step":
        """Return the steps of packed lanes `[time, lanes, …]` in one row, `[time · lanes, …]`."""
        steps = cls(
            transitions.obs, transitions.action, transitions.next_obs, transitions.terminated
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)


class Classifiers(eqx.Module):
    """The two classifiers q(target | s, a) and q(target | s, a, s′). They give log-odds of target
    over source.

    As in the authors' code, the second one only adds an advantage to the first. So Δr does not have
    to be the small difference of two networks that have each learned how often (s, a) occurs.
    """

    state_action: MLP
    advantage: MLP

    @classmethod
    def of(cls, problem: Problem, hidden: tuple[int, ...], *, key: PRNGKeyArray) -> "Classifiers":
        """Return fresh classifiers (ReLU), which cannot tell the domains apart yet."""
        first_key, second_key = jax.random.split(key)
        inputs = observation_size(problem.source.observation_space)
        pair, outcome = inputs + observation_size(problem.source.action_space), inputs + 1
        return cls(
            MLP(pair, 1, hidden, "relu", final_scale=0.01, key=first_key),
            MLP(pair + outcome, 1, hidden, "relu", final_scale=0.01, key=second_key),
        )

    def __call__(
        self,
        pair: Float[Array, "... pair"],
        outcome: Float[Array, "... outcome"],
        noise: tuple[Array, Array] | None = None,
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Return log q(target|·) − log q(source|·) of (s, a) and of (s, a, s′).

        - `pair`: (s, a) in one vector.
        - `outcome`: s′, and whether the step terminated, in one vector.
        - `noise`: in training, what is added to the input of each network.
        """
        whole = jnp.concatenate([pair, outcome], axis=-1)
        if noise is not None:
            pair, whole = pair + noise[0], whole + noise[1]
        state_action = self.state_action(pair)[..., 0]
        return state_action, state_action + self.advantage(whole)[..., 0]


def classifier_inputs(
    space: Space, actions: Space, normalizer: Normalizer, step: Step
) -> tuple[Float[Array, "... pair"], Float[Array, "... outcome"]]:
    """Return (s, a) as the classifiers see it, and its outcome: s′, and 1 where the step terminated,
    else 0."""
    inputs, next_inputs = (perceive(space, normalizer, x) for x in (step.obs, step.next_obs))
    # What the world was given: beyond the bounds there is no difference to learn.
    taken = flatten(actions, clip_action(actions, step.action))
    ended = step.terminated[..., None].astype(next_inputs.dtype)
    return (
        jnp.concatenate([inputs, taken], axis=-1),
        jnp.concatenate([next_inputs, ended], axis=-1),
    )


def classifier_loss(
    classifiers: Classifiers,
    pair: Float[Array, "batch pair"],
    outcome: Float[Array, "batch outcome"],
    is_target: Bool[Array, " batch"],
    noise: float | Array,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return the cross-entropies of both, −E_target[log q(target|·)] − E_source[log q(source|·)]
    (eq. 4, 5), and how they do."""
    # To draw noise takes most of a gradient step, so that none is drawn where there is to be none.
    without = isinstance(noise, (int, float)) and noise == 0
    noises = None if without else _noises(pair, outcome, noise, key)
    state_action, whole = classifiers(pair, outcome, noises)
    sign = jnp.where(is_target, 1.0, -1.0)
    loss = -jnp.mean(jax.nn.log_sigmoid(sign * state_action) + jax.nn.log_sigmoid(sign * whole))
    return loss, {"loss/classifiers": loss, "accuracy": jnp.mean(((whole > 0) == is_target) * 1.0)}


def _noises(
    pair: Float[Array, "batch pair"],
    outcome: Float[Array, "batch outcome"],
    noise: float | Array,
    key: PRNGKeyArray,
) -> tuple[Array, Array]:
    """What is added to the input of each network, with this standard deviation."""
    first, second = jax.random.split(key)
    whole = (*pair.shape[:-1], pair.shape[-1] + outcome.shape[-1])
    # Noise is for continuous states, which never coincide. Whether a step terminated, the last number, is
    # one of two in both domains, and noise of 1 would leave nothing of it.
    return (
        noise * jax.random.normal(first, pair.shape),
        (noise * jax.random.normal(second, whole)).at[..., -1].set(0.0),
    )


def fit_classifiers(
    classifiers: Classifiers,
    optimizer_state: optax.OptState,
    pair: Float[Array, "steps batch pair"],
    outcome: Float[Array, "steps batch outcome"],
    is_target: Bool[Array, " batch"],
    *,
    noise: float | Array,
    learning_rate: float | Array,
    key: PRNGKeyArray,
) -> tuple[Classifiers, optax.OptState, dict[str, Array]]:
    """Take a gradient step on each batch. Return the classifiers, the optimizer's state and how they
    do: the means of the steps' metrics, and `miscalibration` on the last batch, without noise."""

    def gradient(classifiers: Classifiers, slow: None, batch: tuple):
        pair, outcome, key = batch
        return jax.grad(classifier_loss, has_aux=True)(
            classifiers, pair, outcome, is_target, noise, key
        )

    descent = gradient_steps(
        gradient,
        classifiers,
        optimizer_state,
        (pair, outcome, jax.random.split(key, pair.shape[0])),
        learning_rate=learning_rate,
    )
    classified = jax.tree.map(jnp.mean, descent.metrics)
    last = descent.parameters(pair[-1], outcome[-1])
    for name, log_odds in zip(("state_action", "transition"), last, strict=True):
        classified[f"miscalibration/{name}"] = miscalibration(log_odds, is_target)
    return descent.parameters, descent.optimizer_state, classified


def miscalibration(
    log_odds: Float[Array, " n"], is_target: Bool[Array, " n"], bins: int = 10
) -> Float[Array, ""]:
    """Return how far a classifier's probabilities are from the frequencies, on average over steps
    (expected calibration error, Naeini et al. 2015): 0 if of the steps that it calls the target's
    with 70%, 70% are."""
    probability = jax.nn.sigmoid(log_odds)
    bin_of = jnp.minimum((probability * bins).astype(jnp.int32), bins - 1)
    gap = jnp.zeros(bins).at[bin_of].add(probability - is_target)
    return jnp.sum(jnp.abs(gap)) / log_odds.shape[0]


def importance_weights(
    log_ratio: Float[Array, "..."], valid: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """Return the ratios p_target/p_source of some steps over their mean, and 0 where a step is not
    `valid`: self-normalized, so that a constant in the log-ratio changes nothing and none
    overflows."""
    share = jax.nn.softmax(log_ratio, axis=None, where=valid)
    return jnp.sum(valid) * share


def diagnosed(correction: Float[Array, "..."]) -> dict[str, Float[Array, ""]]:
    """Summarize Δr of some steps in a few numbers: quantiles, and how much of it lies beyond 1, 3
    and 10 nats; when to trust it is on DARC's page."""
    size = jnp.abs(correction)
    low, middle, high = jnp.quantile(correction, jnp.asarray([0.05, 0.5, 0.95]))
    return {
        "correction": jnp.mean(correction),
        "correction/lowest": jnp.min(correction),
        "correction/5%": low,
        "correction/50%": middle,
        "correction/95%": high,
        "correction/beyond_1": jnp.mean(size > 1.0),
        "correction/beyond_3": jnp.mean(size > 3.0),
        "correction/saturated": jnp.mean(size > SATURATED),
    }


def visits(replay: Replay, states: int, actions: int) -> Int[Array, "states actions states"]:
    """Count how often each (s, a, s′) is among the steps that are held."""
    steps: Any = replay.rows
    held = (jnp.arange(replay.capacity) < replay.size).astype(jnp.int32)
    empty = jnp.zeros((states, actions, states), jnp.int32)
    return empty.at[steps.obs, steps.action, steps.next_obs].add(held)
