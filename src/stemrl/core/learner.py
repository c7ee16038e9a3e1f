"""Contract four: the problem, and the learner that turns it into an agent."""

import abc
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..errors import UserError
from .agent import AbstractAgent
from .environment import Params
from .family import AbstractFamily, Context
from .logged import Logged

State = PyTree[Array]
"""Everything that a learner knows."""
Reveal = Literal["nothing", "context"]
"""What an agent is told of a task: `nothing`, or the family's `context`."""
BudgetUnit = Literal["steps", "observations", "labels"]
"""What a target's budget counts: steps taken there, observations without a reward, or labels."""
Unit = Literal["steps", "updates", "examples"]
"""What the length of a training is given in."""


class Problem(eqx.Module):
    """Where to learn, where it will count, and who may see the task's parameters."""

    source: AbstractFamily
    """Training tasks are drawn from its `train` split."""
    target: AbstractFamily
    """Where the agent is evaluated, and where a learner may take at most `budget` steps."""
    budget: int = eqx.field(static=True, default=0)
    """What training may take from the target, in `budget_unit`; counted, and never exceeded."""
    reveal: Reveal = eqx.field(static=True, default="nothing")
    """The one place where parameters leak: `context` hands ω(parameters) to the agent."""
    budget_unit: BudgetUnit = eqx.field(static=True, default="steps")
    """What the budget counts: environment steps, unlabelled observations, or labels."""
    logged: Logged | None = None
    """What was recorded in the target, for learners that shall not go there, or cannot."""

    def __check_init__(self):
        for what in ("observation_space", "action_space"):
            ours, theirs = getattr(self.source, what), getattr(self.target, what)
            if (ours.shape, type(ours)) != (theirs.shape, type(theirs)):
                raise UserError(
                    f"source '{self.source.name}' and target '{self.target.name}' differ in their"
                    f" {what.replace('_', ' ')}: {ours} and {theirs}"
                )
        if self.reveal not in ("nothing", "context"):
            raise UserError(f"reveal must be 'nothing' or 'context', not {self.reveal!r}")
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
        """The problem of one family: its train split to learn on, the others to be judged by."""
        return cls(family, family, 0, reveal)

    def context(self, family: AbstractFamily, params: Params) -> Context:
        """What the agent is told of the task `params` (no batch dimension), or `None`."""
        return family.context(params) if self.reveal == "context" else None


class AbstractLearner(eqx.Module):
    """A method: its hyper-parameters, frozen. Ints, bools, strings and tuples are static fields;
    floats may be arrays, and so batched over values as seeds are.

    An update is two steps, so that only the first knows how worlds are stepped, and so that each
    can be compiled on its own: a program that calls an accelerator's host is never written to the
    compilation cache, one that only learns is.
    """

    name: ClassVar[str]
    """As on the command line: `maml`."""
    unit: ClassVar[Unit] = "steps"
    """What a run of it counts: environment steps, or, for a learner that takes none, updates."""
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ("steps",)
    """What budgets of a target it can count in."""
    updates_per_row: ClassVar[int] = 1
    """Updates of which the mean is one row of the metrics."""

    @abc.abstractmethod
    def init(self, problem: Problem, key: PRNGKeyArray) -> State:
        """The whole state of learning: networks, optimizers, normalizers, replay, live worlds,
        random key, every leaf an array. What a checkpoint holds is exactly this."""

    @abc.abstractmethod
    def collect(self, problem: Problem, state: State) -> tuple[State, Any]:
        """Experience for one update, gathered by `play` or `rollout` on the learner's own agent.
        Compiled unless the family is stepped on the host."""

    @abc.abstractmethod
    def learn(
        self, problem: Problem, state: State, experience: Any
    ) -> tuple[State, dict[str, Array]]:
        """Learn from it. Always compiled; touches no environment. The metrics are float scalars;
        `return` (the mean over this update's episodes) is always among them."""

    @abc.abstractmethod
    def agent(self, problem: Problem, state: State) -> AbstractAgent:
        """What has been learned, ready for a new task. It shares arrays with `state`: copy it if
        it must outlive the next, donating, update."""

    @abc.abstractmethod
    def steps_per_update(self, problem: Problem) -> int:
        """Environment steps that one update takes in the source (static). A learner that takes none
        (`unit` is `updates`) returns 0."""

    @property
    def learns_until(self) -> int | None:
        """After how many updates all step sizes have fallen to zero, so that no further update
        teaches anything; `None`: never."""
        return getattr(self, "anneal_updates", None)

    def explorer(self, problem: Problem, state: State) -> AbstractAgent:
        """The agent that gathers experience: `agent`, where a method explores no other way than it
        acts. With an `episodes_per_round` of 1, others can send it anywhere: into the target
        (`rl.visits`), or out to record."""
        return self.agent(problem, state)

    def inherit(
        self, problem: Problem, state: State, donor: "AbstractLearner", found: State
    ) -> tuple[State, list[str]]:
        """The first state of a training that begins from another one's: `state`, as `init` made it,
        with what fits of `found`, a state of the learner `donor`; and the names of what did not
        fit. See `rl.inheriting`. Raises `UserError` where nothing can be taken over."""
        raise UserError(f"'{self.name}' cannot begin from another run")

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        """How much of the problem's budget so many updates take at most (static)."""
        return 0

    def update(self, problem: Problem, state: State) -> tuple[State, dict[str, Array]]:
        """`learn` from what `collect` gathered."""
        state, experience = self.collect(problem, state)
        return self.learn(problem, state, experience)
