"""Exact optima and classical players of the small families: agents like any other, so that the
evaluator that judges a method can itself be judged."""

from .bandits import (
    AbstractRule,
    AtRandom,
    BanditAgent,
    BayesOptimal,
    EpsilonGreedy,
    Gittins,
    Greedy,
    Thompson,
    UpperConfidence,
    bayes_optimal_value,
    gittins_indices,
    posterior_mean,
)
from .gridnavi import BayesOptimalSearcher, Search, best_search, goal_known_return
from .tabular import KnownProcess, PosteriorSampling, optimal_action_values

__all__ = [
    "AbstractRule",
    "AtRandom",
    "BanditAgent",
    "BayesOptimal",
    "BayesOptimalSearcher",
    "EpsilonGreedy",
    "Gittins",
    "Greedy",
    "KnownProcess",
    "PosteriorSampling",
    "Search",
    "Thompson",
    "UpperConfidence",
    "bayes_optimal_value",
    "best_search",
    "gittins_indices",
    "goal_known_return",
    "optimal_action_values",
    "posterior_mean",
]
