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
from ..tasks.causal_graphs import CausalGraphs
from ..tasks.dark_room import DarkRoom
from ..tasks.dependent_bandit import DependentBandit
from ..tasks.gridnavi import GridNavi
from ..tasks.maze import Maze
from ..tasks.random_mdp import RandomMDP
from ..tasks.two_step import TwoStep
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
from .causal_graphs import CausalAgent, cause_effect_values
from .dark_room import walk
from .dependent_bandits import Informed, PairedArms, informed_returns, paired_returns
from .gridnavi import (
    BayesOptimalSearcher,
    GoalSampling,
    best_search,
    goal_known_returns,
    search_returns,
)
from .maze import ShortestWay, shortest_way_returns
from .tabular import Average, Drawn, KnownProcess, TabularAgent, optimal_action_values
from .two_step import ModelBased, ModelFree, RewardBelief, TwoStepAgent

KNOWN_TASK = "known-task"

Makers = dict[str, Callable[..., AbstractAgent]]


class RandomAgent(AbstractAgent):
    """An agent that takes any action, each as likely as the others, on any family."""

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
    """Return the names of the reference agents of `family`."""
    return list(_makers(family))


def reference_agent(
    name: str, family: AbstractFamily, *, episodes: int | None = None, **settings: Any
) -> AbstractAgent:
    """Return a reference agent by its name. It is an agent like any other; play it on
    `problem_of(name, family)`.

    - `name`: one of `reference_agent_names(family)`.
    - `episodes`: how many episodes a trial has, for agents that must know it; by default the
      family's own number.
    - `settings`: settings of the agent's rule, such as `constant` and `prior` of `ucb1`, `epsilon`
      of `epsilon-greedy`, `discount` of `gittins` and `prior_mean` of `psrl`.

    Raises `UserError` for an agent that the family does not have, or that is too large to solve.
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
    """Return the problem on which a reference agent is to be played. Only `known-task` is told the
    task."""
    return Problem.of(family, "context" if name == KNOWN_TASK else "nothing")


def _makers(family: AbstractFamily) -> Makers:
    anywhere: Makers = {"random": lambda episodes: RandomAgent(space=family.action_space)}
    return {**anywhere, **_own_makers(family)}


@functools.singledispatch
def _own_makers(family: AbstractFamily) -> Makers:
    return {}


@_own_makers.register
def _(family: Bandit) -> Makers:
    return _independent_arms(family.arms)


def _independent_arms(arms: int) -> Makers:
    """Of agents that take the arms for independent, with p ~ U(0, 1)."""

    def of(rule: Any) -> Callable[..., AbstractAgent]:
        return lambda pulls, **settings: BanditAgent(rule=rule(pulls, **settings), arms=arms)

    return {
        "greedy": of(lambda pulls: Greedy()),
        "epsilon-greedy": of(lambda pulls, epsilon=0.1: EpsilonGreedy(epsilon)),
        "thompson": of(lambda pulls: Thompson()),
        "ucb1": of(lambda pulls, constant=2.0, prior=False: UpperConfidence(constant, prior)),
        "gittins": of(lambda pulls, discount=0.99: Gittins.of(pulls, discount)),
        "bayes-optimal": of(lambda pulls: BayesOptimal.of(arms, pulls)),
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


@_own_makers.register
def _(family: DependentBandit) -> Makers:
    if family.condition == "informative":
        return {
            "bayes-optimal": lambda pulls: Informed(),
            KNOWN_TASK: lambda pulls: KnownArms(),
        }
    agents = _independent_arms(2)
    if family.condition != "independent":
        agents["bayes-optimal"] = lambda pulls: PairedArms()
    return agents


@_own_makers.register
def _(family: DarkRoom) -> Makers:
    def search(episodes: int) -> AbstractAgent:
        if not family.finite:
            raise UserError("dark-room is solved exactly with no goal held out; set held_out to 0")
        if episodes != 1:
            raise UserError(
                "dark-room is solved exactly for trials of one episode; ask for a trial of 1 episode, or"
                " take psrl"
            )
        return BayesOptimalSearcher(path=jnp.asarray(walk(family)))

    return {
        "psrl": lambda episodes: GoalSampling(goals=family.goals("train")),
        "bayes-optimal": search,
        KNOWN_TASK: lambda episodes: BayesOptimalSearcher(path=jnp.zeros(1, jnp.int32)),
    }


@_own_makers.register
def _(family: Maze) -> Makers:
    return {KNOWN_TASK: lambda episodes: ShortestWay.of(family)}


@_own_makers.register
def _(family: TwoStep) -> Makers:
    def of(rule: Any) -> Callable[..., AbstractAgent]:
        return lambda episodes, **settings: TwoStepAgent(rule=rule(**settings))

    return {
        "model-free": of(ModelFree),
        "model-based": of(ModelBased),
        "bayes-optimal": of(lambda: RewardBelief(family.reversal)),
    }


@_own_makers.register
def _(family: CausalGraphs) -> Makers:
    return {
        "cause-effect": lambda episodes: CausalAgent.of(family),
        "associative": lambda episodes: CausalAgent.of(family, associative=True),
        KNOWN_TASK: lambda episodes: CausalAgent.of(family, known=True),
    }


class Optima(NamedTuple):
    """The best that can be expected of each episode on some tasks."""

    known_task: Float[np.ndarray, "tasks episodes"]
    """What an agent expects that knows the task."""
    bayes_optimal: Float[np.ndarray, "tasks episodes"] | None
    """What the agent expects that knows only how tasks are drawn, and earns most over all episodes
    together; `None` if that is not solved."""


@functools.singledispatch
def known_optima(
    family: AbstractFamily, params: Params, split: Split, episodes: int
) -> Optima | None:
    """Return the exact optima of trials of `episodes` episodes on the tasks `params`, `[tasks, …]`,
    which were drawn from `split`; `None` for a family without any. The Bayes-optimal agent is that
    of the training tasks, so there is none on others (`ood`)."""
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


@known_optima.register
def _(family: DependentBandit, params: Params, split: Split, episodes: int) -> Optima:
    if family.condition == "informative":
        targets = np.asarray(params["target"])
        known = np.full((len(targets), episodes), 5.0)
        # With one pull alone, knowing the target afterwards is worth nothing.
        return Optima(known, informed_returns(targets, episodes) if episodes > 1 else None)
    probability = np.asarray(params["probability"], float)
    known = np.repeat(probability.max(axis=1)[:, None], episodes, axis=1)
    if split == "ood":
        return Optima(known, None)
    if family.condition != "independent":
        return Optima(known, paired_returns(probability, episodes))
    try:
        return Optima(known, bayes_optimal_returns(2, episodes, probability))
    except UserError:  # too large to solve
        return Optima(known, None)


@known_optima.register
def _(family: DarkRoom, params: Params, split: Split, episodes: int) -> Optima:
    goals, room = np.asarray(params["goal"]), family.env
    known = goal_known_returns(goals, family.horizon, room.start, room.elsewhere)
    searched = None
    if episodes == 1 and family.finite:
        searched = search_returns(
            walk(family), goals, family.size, family.horizon, room.start, room.elsewhere
        )
    return Optima(np.repeat(known[:, None], episodes, axis=1), searched)


@known_optima.register
def _(family: Maze, params: Params, split: Split, episodes: int) -> Optima:
    known = shortest_way_returns(family, params)
    return Optima(np.repeat(known[:, None], episodes, axis=1), None)


@known_optima.register
def _(family: CausalGraphs, params: Params, split: Split, episodes: int) -> Optima | None:
    if family.condition == "counterfactual" or np.any(params["associative"]):
        return None  # what the noise is worth has no closed form; the other quiz is not solved
    known = cause_effect_values(np.asarray(params["weights"]))
    return Optima(np.repeat(known[:, None], episodes, axis=1), None)
