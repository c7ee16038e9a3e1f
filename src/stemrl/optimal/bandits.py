"""Bandit reference agents that know the prior: the classical rules, and the Bayes-optimal one.

Every one is an agent like any other, so the evaluator plays it. All keep the counts of successes
and failures of each arm, the sufficient statistic of Bernoulli arms with p ~ U(0, 1); they differ
in the rule that chooses from the counts.
"""

import abc
import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import betaln

from ..core import AbstractAgent, Context, Transition, UserError
from .revealed import task_in

Counts = Int[Array, "arms 2"]
"""Successes and failures of each arm."""


class KnownArms(AbstractAgent):
    """An agent that always pulls the arm that is best by the probabilities that its context
    reveals."""

    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=True)

    def start(self, context: Context, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.argmax(task_in(context)).astype(jnp.int32)

    def begin(self, memory: Array, key: PRNGKeyArray):
        return ()

    def act(self, memory: Array, carry: tuple, obs: Array, key: PRNGKeyArray):
        return memory, carry, {}


class AbstractRule(eqx.Module):
    """A rule that chooses an arm from the counts of successes and failures."""

    @abc.abstractmethod
    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        """Return a score for each arm. The arm with the highest score is pulled; ties are broken at
        random."""


class BanditAgent(AbstractAgent):
    """An agent that plays a `bandit` by a rule over the counts of this trial."""

    rule: AbstractRule
    arms: int = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Counts:
        return jnp.zeros((self.arms, 2), jnp.int32)

    def begin(self, memory: Counts, key: PRNGKeyArray) -> Counts:
        return memory

    def act(self, memory: Counts, carry: Counts, obs: Array, key: PRNGKeyArray):
        score_key, tie_key = jax.random.split(key)
        scores = self.rule.scores(carry, score_key)
        best = scores >= jnp.max(scores) - 1e-6
        chosen = jax.random.categorical(tie_key, jnp.where(best, 0.0, -jnp.inf))
        return chosen.astype(jnp.int32), carry, {}

    def observe(self, memory: Counts, carry: Counts, transition: Transition) -> Counts:
        won = (transition.reward > 0.5).astype(jnp.int32)
        return carry.at[transition.action, 1 - won].add(1)

    def adapt(
        self, memory: Counts, carries: Counts, episodes: Transition | None, key: PRNGKeyArray
    ):
        return carries[-1]


class Greedy(AbstractRule):
    """Pull the arm with the highest posterior mean, (s + 1) / (s + f + 2)."""

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return posterior_mean(counts)


class EpsilonGreedy(AbstractRule):
    """Do as `Greedy`, but pull any arm with probability `epsilon`."""

    epsilon: float

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        explore = jax.random.bernoulli(key, self.epsilon)
        return jnp.where(explore, 0.0, posterior_mean(counts))


class Thompson(AbstractRule):
    """Pull the arm that is best in one sample of the posterior (Thompson 1933)."""

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return jax.random.beta(key, counts[:, 0] + 1.0, counts[:, 1] + 1.0)


class UpperConfidence(AbstractRule):
    """UCB1 (Auer 2002): pull the arm with the highest mean + √(c · ln t / n), every arm once first;
    c is 2 in the paper.

    With `prior`, the success and the failure that the prior is worth count as pulls of each arm.
    Then the mean is the posterior's, and no arm must be tried, which helps much if pulls are few.
    """

    constant: float = 2.0
    prior: bool = eqx.field(static=True, default=False)

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        counts = counts + 1 if self.prior else counts
        pulls = jnp.sum(counts, axis=1)
        total = jnp.maximum(jnp.sum(pulls), 1)
        bonus = jnp.sqrt(self.constant * jnp.log(total) / jnp.maximum(pulls, 1))
        return jnp.where(pulls == 0, jnp.inf, counts[:, 0] / jnp.maximum(pulls, 1) + bonus)


class Gittins(AbstractRule):
    """Pull the arm with the highest Gittins index. This is optimal for an endless discounted
    bandit."""

    index: Float[Array, "successes failures"]

    @classmethod
    def of(cls, pulls: int, discount: float = 0.99) -> "Gittins":
        """Make the rule with the indices of every count that `pulls` pulls can reach."""
        return cls(jnp.asarray(gittins_indices(pulls, discount), jnp.float32))

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return self.index[counts[:, 0], counts[:, 1]]


class BayesOptimal(AbstractRule):
    """Maximize the expected total reward of a trial, exactly. The rule is read from a table of the
    best arms for every count; each entry is a mask of bits, so that ties stay ties."""

    best: Int[Array, " counts"]
    offsets: Int[Array, " pulls"]
    binomials: Int[Array, "n k"]

    @classmethod
    def of(cls, arms: int, pulls: int) -> "BayesOptimal":
        """Make it by dynamic programming over the posterior. Raise `UserError` for more than 5
        million counts."""
        best, offsets = _solve(arms, pulls)[1:]
        table = _binomials(arms, pulls)
        return cls(jnp.asarray(best), jnp.asarray(offsets), jnp.asarray(table, jnp.int32))

    def scores(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        pulled = jnp.minimum(jnp.sum(counts), self.offsets.shape[0] - 1)
        rank = _rank(counts.reshape(-1), self.binomials)
        mask = self.best[self.offsets[pulled] + rank]
        return ((mask >> jnp.arange(counts.shape[0])) & 1).astype(jnp.float32)


def posterior_mean(counts: Counts) -> Float[Array, " arms"]:
    """Return the posterior mean of each arm, (s + 1) / (s + f + 2)."""
    return (counts[:, 0] + 1.0) / (jnp.sum(counts, axis=1) + 2.0)


def bayes_optimal_value(arms: int, pulls: int) -> float:
    """Return the expected total reward of the best possible agent in `pulls` pulls of `arms`
    independent arms with p ~ U(0, 1)."""
    return _solve(arms, pulls)[0]


def bayes_optimal_returns(
    arms: int, pulls: int, probabilities: Float[np.ndarray, "tasks arms"] | None = None
) -> Float[np.ndarray, "tasks pulls"]:
    """Return the expected reward of each pull of the Bayes-optimal agent, on arms of these
    `probabilities`: `[tasks, pulls]`. If they are not given, return one row, the average over p ~
    U(0, 1). It is exact, with ties broken at random.

    A count n of successes sᵢ and failures fᵢ is reached with probability W(n) Π pᵢ^sᵢ (1 − pᵢ)^fᵢ.
    Its W is a sum over the orders in which the agent may get there, and is the same for every task.
    """
    _, best, offsets = _solve(arms, pulls)
    binomials = _binomials(arms, pulls)
    ends = [*offsets[1:], len(best)]
    if probabilities is None:
        p = log_odds = None
        returns = np.zeros((1, pulls))
    else:
        p = np.clip(np.asarray(probabilities, float), 1e-300, 1 - 1e-16)
        log_odds = np.stack([np.log(p), np.log1p(-p)], axis=2).reshape(len(p), 2 * arms)
        returns = np.zeros((len(p), pulls))
    weight = np.ones(1)
    for pulled in range(pulls):
        counts = _compositions(2 * arms, pulled)
        bits = (best[offsets[pulled] : ends[pulled], None] >> np.arange(arms)) & 1
        chosen = weight[:, None] * bits / bits.sum(axis=1, keepdims=True)
        reached = weight > 0
        counts, chosen = counts[reached], chosen[reached]
        if p is None or log_odds is None:
            won, lost = counts[:, ::2] + 1.0, counts[:, 1::2] + 1.0
            likelihood = np.exp(betaln(won, lost).sum(axis=1))
            returns[0, pulled] = likelihood @ (chosen * won / (won + lost)).sum(axis=1)
        else:
            block = max(1, 10_000_000 // len(counts))  # bounds the memory it takes
            for start in range(0, len(log_odds), block):
                some = slice(start, start + block)
                likelihood = np.exp(log_odds[some] @ counts.T)
                returns[some, pulled] = ((likelihood @ chosen) * p[some]).sum(axis=1)
        after = np.zeros(math.comb(pulled + 2 * arms, 2 * arms - 1))
        for part in range(2 * arms):
            more = counts.copy()
            more[:, part] += 1
            # No two counts become the same one by the same outcome.
            after[_rank(more.T, binomials)] += chosen[:, part // 2]
        weight = after
    return returns


@functools.lru_cache(maxsize=4)
def _solve(arms: int, pulls: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, mask of best arms of every count with fewer than `pulls` pulls, and where the counts
    of each total begin.

    V(n) = max_a p̂ₐ (1 + V(n + success of a)) + (1 − p̂ₐ) V(n + failure of a), p̂ₐ = (s+1)/(s+f+2)
    """
    total = math.comb(pulls - 1 + 2 * arms, 2 * arms)
    if total > 5_000_000:
        raise UserError(
            f"a bandit with {arms} arms and {pulls} pulls has {total:,} counts, too many to solve"
            " exactly; compare with Gittins indices instead"
        )
    binomials = _binomials(arms, pulls)
    value = np.zeros(math.comb(pulls + 2 * arms - 1, 2 * arms - 1))
    layers: list[np.ndarray] = []
    for pulled in reversed(range(pulls)):
        counts = _compositions(2 * arms, pulled)
        q = np.empty((len(counts), arms))
        for arm in range(arms):
            after = []
            for outcome in (0, 1):
                more = counts.copy()
                more[:, 2 * arm + outcome] += 1
                after.append(value[_rank(more.T, binomials)])
            s, f = counts[:, 2 * arm], counts[:, 2 * arm + 1]
            p = (s + 1) / (s + f + 2)
            q[:, arm] = p * (1 + after[0]) + (1 - p) * after[1]
        value = q.max(axis=1)
        layers.append(((q >= value[:, None] - 1e-9) << np.arange(arms)).sum(axis=1))
    best = np.concatenate(layers[::-1]).astype(np.int32)
    sizes = [len(layer) for layer in layers[::-1]]
    return float(value[0]), best, np.cumsum([0, *sizes[:-1]]).astype(np.int32)


def _compositions(parts: int, total: int) -> np.ndarray:
    """Every way to write `total` as `parts` ordered numbers ≥ 0, `[ways, parts]`, in the order in
    which `_rank` counts them: lexicographic."""
    if parts == 1:
        return np.array([[total]], np.int32)
    blocks = []
    for first in range(total + 1):
        rest = _compositions(parts - 1, total - first)
        blocks.append(np.concatenate([np.full((len(rest), 1), first, np.int32), rest], axis=1))
    return np.concatenate(blocks)


def _binomials(arms: int, pulls: int) -> np.ndarray:
    """C(n, k) for the ranks of counts, `[n, k]`."""
    parts = 2 * arms
    size = pulls + parts + 1
    table = np.zeros((size, parts + 1), np.int64)
    for n in range(size):
        for k in range(min(n, parts) + 1):
            table[n, k] = math.comb(n, k)
    return table


def _rank(counts, binomials):
    """The place of counts (parts first) among all of the same total, lexicographically: the number
    of compositions that begin smaller at some part. Works on NumPy and JAX arrays."""
    parts = counts.shape[0]
    rest = counts.sum(axis=0)
    rank = 0 * rest
    for part in range(parts - 1):
        after = parts - 1 - part
        left = rest - counts[part]
        # Compositions of r into m parts, summed over r ≤ R, number C(R + m, m).
        rank = rank + binomials[rest + after, after] - binomials[left + after, after]
        rest = left
    return rank


@functools.lru_cache(maxsize=4)
def gittins_indices(pulls: int, discount: float = 0.99) -> np.ndarray:
    """Return the Gittins indices of Bernoulli arms after s successes and f failures, `[s, f]`, s +
    f ≤ pulls.

    By calibration: the index is the sure reward λ at which going on with the arm and retiring to
    λ for ever are equally good (Gittins 1979). The arm's posterior is followed for 300 further
    pulls, after which it is taken as known.
    """
    deep = pulls + 300
    sures = np.linspace(0.0, 1.0, 501)
    index = np.zeros((pulls + 1, pulls + 1))
    retire = sures / (1 - discount)
    s = np.arange(deep + 1)
    mean = (s + 1) / (deep + 2)
    value = np.maximum(mean[:, None] / (1 - discount), retire)
    for total in reversed(range(deep)):
        s = np.arange(total + 1)
        p = ((s + 1) / (total + 2))[:, None]
        going = p * (1 + discount * value[1:]) + (1 - p) * discount * value[:-1]
        if total <= pulls:
            gain = going - retire
            for successes in range(total + 1):
                crossing = np.nonzero(gain[successes] <= 0)[0]
                at = crossing[0] if len(crossing) else len(sures) - 1
                low, high = gain[successes, max(at - 1, 0)], gain[successes, at]
                share = low / (low - high) if low > high else 0.0
                step = sures[1] if at else 0.0
                index[successes, total - successes] = sures[max(at - 1, 0)] + share * step
        value = np.maximum(going, retire)
    return index
