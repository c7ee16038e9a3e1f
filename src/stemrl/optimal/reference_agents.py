"""The reference agents by name, and the exact optima of the families that have them.

Both are looked up by the family's class. For a family of one's own, register what it has:
`known_optima.register(MyFamily)` on a function of the same arguments.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    Action,
    Carry,
    Context,
    Memory,
    Obs,
    Params,
    Problem,
    Space,
    Split,
    UserError,
    nearest,
    scale_action,
)
from ..tasks.bandit import Bandit
from ..tasks.gridnavi import GridNavi
from ..tasks.random_mdp import RandomMDP
from .bandits import (
    BanditAgent,
    BayesOptimal,
    EpsilonGreedy,
    Gittins,
    Greedy,
    KnownArms,
    Thompson,
    UpperConfidence,
    bayes_optimal_returns,
)
from .gridnavi import (
    BayesOptimalSearcher,
    GoalSampling,
    best_search,
    goal_known_returns,
    search_returns,
)
from .tabular import Average, Drawn, KnownProcess, TabularAgent, optimal_action_values

KNOWN_TASK = "known-task"

Makers = dict[str, Callable[..., AbstractAgent]]


class RandomAgent(AbstractAgent):
    """Any action, each as likely, on any family."""

    space: Space = eqx.field(static=True)
    """The action space."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return ()

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray):
        action: Action = scale_action(self.space, self.space.sample(key))
        return action, carry, {}


def reference_agent_names(family: AbstractFamily) -> list[str]:
    """The names of the reference agents of `family`."""
    return list(_makers(family))


def reference_agent(
    name: str, family: AbstractFamily, *, episodes: int | None = None, **settings: Any
) -> AbstractAgent:
    """A agent by name, an agent like any other; play it on `problem_of(name, family)`.

    **Arguments:**

    - `name`: one of `reference_agent_names(family)`.
    - `episodes`: of a trial, for those that must know; by default the family's own number.
    - `settings`: of the agent's rule, such as `constant` and `prior` of `ucb1`, `epsilon` of
      `epsilon-greedy`, `discount` of `gittins` and `prior_mean` of `psrl`.

    Raises `UserError` for a agent that the family does not have or that is too large to solve.
    """
    makers = _makers(family)
    if name not in makers:
        raise UserError(f"{family.name} has no reference agent '{name}'{nearest(name, makers)}")
    episodes = family.trial_episodes if episodes is None else episodes
    try:
        return makers[name](episodes, **settings)
    except TypeError:
        if not settings:
            raise
        raise UserError(f"'{name}' has no setting {' or '.join(map(repr, settings))}") from None


def problem_of(name: str, family: AbstractFamily) -> Problem:
    """The problem that a agent is to be played on: only `known-task` is told the task."""
    return Problem.of(family, "context" if name == KNOWN_TASK else "nothing")


def _makers(family: AbstractFamily) -> Makers:
    anywhere: Makers = {"random": lambda episodes: RandomAgent(space=family.action_space)}
    return {**anywhere, **_own_makers(family)}


@functools.singledispatch
def _own_makers(family: AbstractFamily) -> Makers:
    return {}


@_own_makers.register
def _(family: Bandit) -> Makers:
    def of(rule: Any) -> Callable[..., AbstractAgent]:
        return lambda pulls, **settings: BanditAgent(rule=rule(pulls, **settings), arms=family.arms)

    return {
        "greedy": of(lambda pulls: Greedy()),
        "epsilon-greedy": of(lambda pulls, epsilon=0.1: EpsilonGreedy(epsilon)),
        "thompson": of(lambda pulls: Thompson()),
        "ucb1": of(lambda pulls, constant=2.0, prior=False: UpperConfidence(constant, prior)),
        "gittins": of(lambda pulls, discount=0.99: Gittins.of(pulls, discount)),
        "bayes-optimal": of(lambda pulls: BayesOptimal.of(family.arms, pulls)),
        KNOWN_TASK: lambda pulls: KnownArms(),
    }


@_own_makers.register
def _(family: GridNavi) -> Makers:
    return {
        "psrl": lambda episodes: GoalSampling(goals=family.goals("train")),
        "bayes-optimal": lambda episodes: BayesOptimalSearcher.of(family, episodes),
        KNOWN_TASK: lambda episodes: BayesOptimalSearcher(path=jnp.zeros(1, jnp.int32)),
    }


@_own_makers.register
def _(family: RandomMDP) -> Makers:
    sizes: dict[str, Any] = {
        "states": family.states,
        "actions": family.actions,
        "horizon": family.horizon,
    }

    def of(belief: Any, **fixed: float) -> Callable[..., AbstractAgent]:
        def make(episodes: int, **settings: float) -> AbstractAgent:
            chosen: dict[str, Any] = {**fixed, **settings}
            return TabularAgent(belief=belief, **sizes, **chosen)

        return make

    return {
        "greedy": of(Average()),
        "epsilon-greedy": of(Average(), epsilon=0.1),
        "psrl": of(Drawn()),
        KNOWN_TASK: lambda episodes: KnownProcess(**sizes),
    }


class Optima(NamedTuple):
    """The best that can be expected of each episode on some tasks."""

    known_task: Float[np.ndarray, "tasks episodes"]
    """Of a agent that knows the task."""
    bayes_optimal: Float[np.ndarray, "tasks episodes"] | None
    """Of the agent that knows only how tasks are drawn and earns most over all the episodes
    together; `None` where that is not solved."""


@functools.singledispatch
def known_optima(
    family: AbstractFamily, params: Params, split: Split, episodes: int
) -> Optima | None:
    """The exact optima of trials of `episodes` episodes on the tasks `params`, `[tasks, …]`, drawn
    from `split`; `None` for a family without. The Bayes-optimal agent is that of the training
    tasks, so there is none on others (`ood`)."""
    return None


@known_optima.register
def _(family: Bandit, params: Params, split: Split, episodes: int) -> Optima:
    probability = np.asarray(params["probability"], float)
    best = np.repeat(probability.max(axis=1)[:, None], episodes, axis=1)
    if split == "ood":
        return Optima(best, None)
    try:
        return Optima(best, bayes_optimal_returns(family.arms, episodes, probability))
    except UserError:  # too large to solve
        return Optima(best, None)


@known_optima.register
def _(family: GridNavi, params: Params, split: Split, episodes: int) -> Optima:
    goals, horizon = np.asarray(params["goal"]), family.horizon
    known = np.repeat(goal_known_returns(goals, horizon)[:, None], episodes, axis=1)
    if split == "ood":
        return Optima(known, None)
    try:
        path = best_search(family.size, horizon, episodes).path
    except UserError:  # too large to solve
        return Optima(known, None)
    return Optima(known, search_returns(path, goals, family.size, horizon))


@known_optima.register
def _(family: RandomMDP, params: Params, split: Split, episodes: int) -> Optima:
    @jax.jit
    @jax.vmap
    def values(params: Params):
        q = optimal_action_values(params["transition"], params["reward"], family.horizon)
        return jnp.max(q[0, 0])

    best = np.asarray(values(jax.tree.map(jnp.asarray, params)), float)
    return Optima(np.repeat(best[:, None], episodes, axis=1), None)
