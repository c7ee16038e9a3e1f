"""Agents of the two-step task that show the two patterns of stay probabilities (Daw et al. 2011), and
the exact Bayes-optimal one.

A model-free agent comes back to what was rewarded, however it got there; a model-based one asks which
action leads to the state that pays. So reward raises the first one's stay probability after common
and rare transitions alike, the second one's after common ones, and lowers it after rare ones.
"""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Context, Transition
from ..tasks.two_step import COMMON, PAYS


class AbstractTwoStepRule(eqx.Module):
    """A rule that values the two actions of stage one, and learns from what a trial paid."""

    @property
    @abc.abstractmethod
    def first(self) -> Float[Array, "2"]:
        """What is known before the first trial."""

    @abc.abstractmethod
    def logits(self, known: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return unnormalized log-probabilities of the two actions."""

    @abc.abstractmethod
    def learn(
        self, known: Float[Array, "2"], action: Array, second: Array, reward: Array
    ) -> Float[Array, "2"]:
        """Return what is known after a trial, from its action, its stage-two state (0 or 1) and its
        reward."""


class ModelFree(AbstractTwoStepRule):
    """A rule that learns values of actions by Q(a) ← Q(a) + α (r − Q(a)): SARSA(1) of Daw et al."""

    rate: float = 0.8
    """The step size α."""
    inverse_temperature: float = 3.0
    """The inverse temperature of the softmax over values."""

    @property
    def first(self) -> Float[Array, "2"]:
        return jnp.full(2, 0.5)

    def logits(self, known: Float[Array, "2"]) -> Float[Array, "2"]:
        return self.inverse_temperature * known

    def learn(self, known, action, second, reward):
        return known.at[action].add(self.rate * (reward - known[action]))


class ModelBased(AbstractTwoStepRule):
    """A rule that learns values of stage-two states by V(s) ← V(s) + α (r − V(s)), and knows the
    transitions: Q(a) = Σₛ P(s ∣ a) V(s)."""

    rate: float = 0.8
    """The step size α."""
    inverse_temperature: float = 5.0
    """The inverse temperature of the softmax over values."""

    @property
    def first(self) -> Float[Array, "2"]:
        return jnp.full(2, 0.5)

    def logits(self, known: Float[Array, "2"]) -> Float[Array, "2"]:
        return self.inverse_temperature * (COMMON * known + (1.0 - COMMON) * known[::-1])

    def learn(self, known, action, second, reward):
        return known.at[second].add(self.rate * (reward - known[second]))


class RewardBelief(AbstractTwoStepRule):
    """A rule that keeps the exact posterior of which stage-two state pays, and takes the action
    that leads there commonly.

    Both states say as much about where the rewards are. So no action is worth taking for its
    information, and the greedy choice is the Bayes-optimal one.
    """

    reversal: float
    """Probability that the rewards change places before a trial."""

    @property
    def first(self) -> Float[Array, "2"]:
        return jnp.full(2, 0.5)

    def logits(self, known: Float[Array, "2"]) -> Float[Array, "2"]:
        best = known >= jnp.max(known) - 1e-6
        return jnp.where(best, 0.0, -jnp.inf)

    def learn(self, known, action, second, reward):
        here = jnp.arange(2) == second
        likelihood = jnp.where(here == (reward > 0.5), PAYS, 1.0 - PAYS)
        posterior = known * likelihood / jnp.sum(known * likelihood)
        return (1.0 - self.reversal) * posterior + self.reversal * posterior[::-1]


class TwoStepMemory(eqx.Module):
    """What the agent knows, and the action of this trial."""

    known: Float[Array, "2"]
    action: Int[Array, ""]


class TwoStepAgent(AbstractAgent):
    """An agent that plays `two-step` by a rule. It believes in the transitions of training."""

    rule: AbstractTwoStepRule
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> TwoStepMemory:
        return TwoStepMemory(self.rule.first, jnp.zeros((), jnp.int32))

    def begin(self, memory: TwoStepMemory, key: PRNGKeyArray) -> TwoStepMemory:
        return memory

    def act(self, memory: TwoStepMemory, carry: TwoStepMemory, obs: Array, key: PRNGKeyArray):
        logits = self.rule.logits(carry.known)
        chosen = jnp.argmax(logits) if self.greedy else jax.random.categorical(key, logits)
        action = jnp.where(obs[0] > 0.5, chosen, 0).astype(jnp.int32)
        return action, carry, {}

    def observe(
        self, memory: TwoStepMemory, carry: TwoStepMemory, transition: Transition
    ) -> TwoStepMemory:
        choosing = transition.obs[0] > 0.5
        second = (transition.obs[2] > 0.5).astype(jnp.int32)
        learned = self.rule.learn(carry.known, carry.action, second, transition.reward)
        action = jnp.where(choosing, transition.action, carry.action)
        return TwoStepMemory(jnp.where(choosing, carry.known, learned), action)


class StayProbabilities(NamedTuple):
    """How often the action of a trial is chosen again in the next, each an array with the leading
    dimensions of what it was counted from."""

    common_rewarded: Array
    common_unrewarded: Array
    rare_rewarded: Array
    rare_unrewarded: Array

    @property
    def reward_effect(self) -> Array:
        """How much a reward raises the probability of staying, whatever the transition: large in
        model-free agents."""
        rewarded = self.common_rewarded + self.rare_rewarded
        return 0.5 * (rewarded - self.common_unrewarded - self.rare_unrewarded)

    @property
    def interaction(self) -> Array:
        """How much more a reward raises it after a common transition than after a rare one: large
        in model-based agents, 0 in model-free ones."""
        common = self.common_rewarded - self.common_unrewarded
        return common - (self.rare_rewarded - self.rare_unrewarded)


def stay_probabilities(events: Mapping[str, Any]) -> StayProbabilities:
    """Return the stay probabilities of whole episodes, from the events of their steps, `[…, time]`;
    not a number where a kind of trial never happened."""
    ended = [
        np.asarray(events[name])[..., 1::2] for name in ("stage1_action", "common", "rewarded")
    ]
    action, common, rewarded = ended
    stayed = action[..., 1:] == action[..., :-1]
    common, rewarded = common[..., :-1].astype(bool), rewarded[..., :-1].astype(bool)

    def share(kind: np.ndarray) -> Any:
        with np.errstate(invalid="ignore"):
            return (stayed & kind).sum(-1) / kind.sum(-1)

    return StayProbabilities(
        share(common & rewarded),
        share(common & ~rewarded),
        share(~common & rewarded),
        share(~common & ~rewarded),
    )


class ChoiceRegression(NamedTuple):
    """How much past trials of each kind pull towards what was chosen in them (log-odds, summed over
    lags)."""

    common_rewarded: float
    common_unrewarded: float
    rare_rewarded: float
    rare_unrewarded: float

    @property
    def reward(self) -> float:
        """The pull of a reward, whatever the transition; a model-free agent has it."""
        rewarded = self.common_rewarded + self.rare_rewarded
        return rewarded - self.common_unrewarded - self.rare_unrewarded

    @property
    def reward_by_transition(self) -> float:
        """The pull of a reward after a common transition minus that after a rare one; a model-based
        agent has it, and of a model-free one it is 0 on average."""
        common = self.common_rewarded - self.common_unrewarded
        return common - (self.rare_rewarded - self.rare_unrewarded)


def choice_regression(events: Mapping[str, Any], lags: int = 5) -> ChoiceRegression:
    """Fit a logistic regression of the action at stage one on the trials before it (Miller,
    Botvinick and Brody 2017), from the events of the steps of whole episodes, `[…, time]`.

    Stay probabilities alone mislead where rewards last: an agent that already chooses well sees
    more common rewarded trials than others, and stays after them anyway. With several `lags`, the
    regression takes out what earlier trials explain.
    """
    action, common, rewarded = (
        np.asarray(events[name])[..., 1::2].reshape(-1, np.asarray(events[name]).shape[-1] // 2)
        for name in ("stage1_action", "common", "rewarded")
    )
    side = 2.0 * action - 1.0
    common, rewarded = common.astype(bool), rewarded.astype(bool)
    kinds = (common & rewarded, common & ~rewarded, ~common & rewarded, ~common & ~rewarded)
    trials = action.shape[1]
    x = np.stack(
        [
            (side * kind)[:, lags - lag : trials - lag].ravel()
            for kind in kinds
            for lag in range(1, lags + 1)
        ],
        axis=1,
    )
    y = action[:, lags:].ravel()
    weights = np.zeros(x.shape[1])
    for _ in range(30):  # Newton's method, with a prior that keeps separable data finite
        p = 1.0 / (1.0 + np.exp(-x @ weights))
        gradient = x.T @ (y - p) - 0.1 * weights
        curvature = (x.T * (p * (1.0 - p))) @ x + 0.1 * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, gradient)
    return ChoiceRegression(*weights.reshape(4, lags).sum(1).tolist())
