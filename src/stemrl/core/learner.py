"""Contract four: the problem, and the learner that turns it into an agent."""

import abc
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..errors import UserError
from .agent import AbstractAgent
from .environment import Params
from .family import AbstractFamily, Context
from .logged import Logged
from .spaces import as_seen

State = PyTree[Array]
"""Everything that a learner knows."""
Reveal = Literal["nothing", "context"]
"""What an agent is told of a task: `nothing`, or the family's `context`."""
BudgetUnit = Literal["steps", "observations", "labels"]
"""What a target's budget counts: steps taken there, observations without a reward, or labels."""
Unit = Literal["steps", "updates", "examples"]
"""What the length of a training is counted in."""


class Problem(eqx.Module):
    """Where to learn, where it will count, and who may see the task's parameters.

    Raises `UserError` if the spaces of source and target differ, or if a value is not one of those
    that are allowed.
    """

    source: AbstractFamily
    """The family whose `train` split the training tasks are drawn from."""
    target: AbstractFamily
    """The family in which the agent is evaluated, and from which training may take at most
    `budget`."""
    budget: int = eqx.field(static=True, default=0)
    """How much training may take from the target, in `budget_unit`. It is counted, and never
    exceeded."""
    reveal: Reveal = eqx.field(static=True, default="nothing")
    """Whether agents are told the task's context (`context`) or not (`nothing`). An agent sees
    parameters nowhere else."""
    budget_unit: BudgetUnit = eqx.field(static=True, default="steps")
    """What the budget counts: environment steps, unlabelled observations, or labels."""
    logged: Logged | None = None
    """Steps that were recorded in the target, for learners that shall not or cannot go there."""

    def __check_init__(self):
        for what in ("observation_space", "action_space"):
            ours, theirs = getattr(self.source, what), getattr(self.target, what)
            if _form(ours) != _form(theirs):
                raise UserError(
                    f"source '{self.source.name}' and target '{self.target.name}' differ in their"
                    f" {what.replace('_', ' ')}: {ours} and {theirs}"
                )
        if self.reveal not in ("nothing", "context"):
            raise UserError(f"reveal must be 'nothing' or 'context', not {self.reveal!r}")
        # One family and itself are not compared: its numbers may be traced.
        if self.reveal == "context" and self.source is not self.target:
            ours, theirs = (_context_shapes(family) for family in (self.source, self.target))
            if ours != theirs:
                raise UserError(
                    f"source '{self.source.name}' and target '{self.target.name}' tell contexts of other"
                    f" shapes: {ours} and {theirs}"
                )
        if self.budget_unit not in get_args(BudgetUnit):
            known = ", ".join(get_args(BudgetUnit))
            raise UserError(f"budget_unit must be one of {known}, not {self.budget_unit!r}")
        if self.logged is not None and 0 < self.budget < self.logged.rows:
            raise UserError(
                f"{self.logged.where} has {self.logged.rows} rows, and the budget is {self.budget};"
                " take the first of them (Logged.first)"
            )

    @classmethod
    def of(cls, family: AbstractFamily, reveal: Reveal = "nothing") -> "Problem":
        """Return the problem of one family: to learn on its `train` split, and to be judged by the
        others."""
        return cls(family, family, 0, reveal)

    def context(self, family: AbstractFamily, params: Params) -> Context:
        """Return what the agent is told of the task `params` (without a batch dimension), or
        `None`."""
        return family.context(params) if self.reveal == "context" else None


def _context_shapes(family: AbstractFamily) -> Any:
    """The shapes of what an agent is told of a task."""

    def told(key: Array) -> Any:
        return family.context(family.sample(key, "train"))

    found = jax.eval_shape(told, jax.random.key(0))
    return [leaf.shape for leaf in jax.tree.leaves(found)]


def _form(space: Any) -> tuple[Any, ...]:
    """What networks are made for: two spaces of one form differ in bounds or first numbers alone."""
    seen = as_seen(space)
    return type(seen), seen.shape, getattr(seen, "n", None), getattr(seen, "sizes", None)


class AbstractLearner(eqx.Module):
    """A method, made of its hyper-parameters, which are frozen. Ints, bools, strings and tuples are
    static fields. Floats may be arrays, and so can be batched over values as seeds are.

    An update is two steps, `collect` and `learn`. So only the first depends on how worlds are
    stepped, and each can be compiled by itself: a program that calls the host of an accelerator is
    never written to the compilation cache, a program that only learns is.
    """

    name: ClassVar[str]
    """The name on the command line, such as `maml`."""
    unit: ClassVar[Unit] = "steps"
    """What a run of it counts: environment steps, or updates for a learner that takes no steps."""
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ()
    """The units in which it can count what it takes from a target, `("steps",)` for example; none,
    as is the default, for a method that takes nothing, to which no budget and no recorded data can
    be given."""
    updates_per_row: ClassVar[int] = 1
    """How many updates one row of the metrics is the mean of."""

    @abc.abstractmethod
    def init(self, problem: Problem, key: PRNGKeyArray) -> State:
        """Return the whole first state of learning: networks, optimizers, normalizers, replay,
        worlds being played, random key. Every leaf is an array. A checkpoint holds exactly this."""

    @abc.abstractmethod
    def collect(self, problem: Problem, state: State) -> tuple[State, Any]:
        """Gather experience for one update, by `play` or `rollout` with the learner's own agent.
        Return the next state and the experience. It is compiled unless the family is stepped on the
        host."""

    @abc.abstractmethod
    def learn(
        self, problem: Problem, state: State, experience: Any
    ) -> tuple[State, dict[str, Array]]:
        """Learn from the experience, and return the next state and the metrics. It is always
        compiled, and touches no environment. The metrics are float scalars by name; `return`, the
        mean over this update's episodes, is always among them."""

    @abc.abstractmethod
    def agent(self, problem: Problem, state: State) -> AbstractAgent:
        """Return what has been learned as an agent, ready for a new task. It shares arrays with
        `state`, which the next update donates: copy the agent if it must live longer."""

    @abc.abstractmethod
    def steps_per_update(self, problem: Problem) -> int:
        """Return how many environment steps one update takes in the source (static). A learner that
        takes none (`unit` is `updates`) returns 0."""

    @property
    def learns_until(self) -> int | None:
        """The number of updates after which all step sizes have fallen to zero, so that further
        updates teach nothing; `None` if they never do."""
        return getattr(self, "anneal_updates", None)

    def explorer(self, problem: Problem, state: State) -> AbstractAgent:
        """Return the agent that gathers experience. By default it is `agent`; a method that
        explores in another way than it acts overrides it. If its `episodes_per_round` is 1, other
        parts can send it anywhere: into the target (`rl.visits`), or out to record."""
        return self.agent(problem, state)

    def inherit(
        self, problem: Problem, state: State, donor: "AbstractLearner", found: State
    ) -> tuple[State, list[str]]:
        """Return the first state of a training that begins from another one, and the names of what
        could not be taken over. See `rl.inheriting`. Raise `UserError` if nothing can be taken
        over, as is the default.

        - `state`: the state that `init` made.
        - `donor`, `found`: the other learner, and its state.
        """
        raise UserError(f"'{self.name}' cannot begin from another run")

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        """Return how much of the problem's budget so many updates take at most (static)."""
        return 0

    def update(self, problem: Problem, state: State) -> tuple[State, dict[str, Array]]:
        """Collect experience and learn from it. Return the next state and the metrics."""
        state, experience = self.collect(problem, state)
        return self.learn(problem, state, experience)
