"""Contracts two and four without an environment: supervised tasks, and what learns to learn them.

A supervised task is a function, known by a few of its values. Its parameters say which function it
is; nobody is told them. A training set of (x, y) takes the place of episodes, and a learner g_φ
turns it into a predictor for the rest of the function: in the words of the meta-learning problem,
from pairs (training set, test set) to φ.

Why these are contracts of their own: an `AbstractFamily`'s agent acts, and learns from rewards of
what it did, a round of new episodes before each adaptation. A regressor is told the labels, takes
all its gradient steps on the same few of them, and its predictions change nothing. Squeezed into an
environment, labels would travel as observations, every prediction would be a step of the rollout,
and the score after n steps on K examples could not be asked for.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..errors import UserError
from .environment import Params
from .family import AbstractTasks, Split, Stepping
from .learner import BudgetUnit, Reveal, State

Predictor = Callable[[Float[Array, "n inputs"]], Float[Array, "n outputs"]]
"""What a learner makes of a training set: a tree of arrays that can be called."""

Learned = PyTree[Any]
"""φ: what of a learner's state is needed to meet a new task."""


class Examples(NamedTuple):
    """A set of examples of one task."""

    x: Float[Array, "... n inputs"]
    y: Float[Array, "... n outputs"]


class AbstractSupervisedFamily(AbstractTasks):
    """Functions to be learned from a few examples, and from where they are drawn."""

    stepping: ClassVar[Stepping] = "jax"
    """Nothing is stepped: everything is compiled."""
    inputs: eqx.AbstractVar[int]
    """Numbers in an x."""
    outputs: eqx.AbstractVar[int]
    """Numbers in a y, and in a prediction."""
    score_name: ClassVar[str] = "loss"
    """What `score` measures, in words: `mean squared error`."""
    lower_is_better: ClassVar[bool] = True
    """Whether a lower `score` is the better one."""

    @property
    def examples_per_shot(self) -> int:
        """Examples that make one "shot": 1, or one of each class."""
        return 1

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width of an x that is an image, to be drawn as such."""
        return None

    @abc.abstractmethod
    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """`n` examples of the task `params`, independent, or balanced in every `examples_per_shot`
        that follow one another."""

    @abc.abstractmethod
    def loss(
        self, prediction: Float[Array, "n outputs"], y: Float[Array, "n outputs"]
    ) -> Float[Array, ""]:
        """What predictions cost, on average over the examples; differentiable."""

    def score(
        self, prediction: Float[Array, "n outputs"], y: Float[Array, "n outputs"]
    ) -> Float[Array, ""]:
        """What predictions are judged by; the loss, if the family has nothing better."""
        return self.loss(prediction, y)


class SupervisedProblem(eqx.Module):
    """Where to learn, and where it will count."""

    source: AbstractSupervisedFamily
    """Training tasks are drawn from its `train` split."""
    target: AbstractSupervisedFamily
    """Whose tasks are met in the end."""
    budget: ClassVar[int] = 0
    """Nothing of the target is learned from."""
    budget_unit: ClassVar[BudgetUnit] = "labels"
    """What that would be counted in."""
    logged: ClassVar[None] = None
    """Nothing was recorded there."""
    reveal: ClassVar[Reveal] = "nothing"
    """Of a task's parameters."""

    def __check_init__(self):
        for what in ("inputs", "outputs"):
            ours, theirs = getattr(self.source, what), getattr(self.target, what)
            if ours != theirs:
                raise UserError(
                    f"source '{self.source.name}' and target '{self.target.name}' differ in their"
                    f" {what}: {ours} and {theirs}"
                )

    @classmethod
    def of(cls, family: AbstractSupervisedFamily) -> "SupervisedProblem":
        """The problem of one family: its train split to learn on, the others to be judged by."""
        return cls(family, family)


class AbstractSupervisedLearner(eqx.Module):
    """A method: its hyper-parameters, frozen. Ints, bools, strings and tuples are static fields;
    floats may be arrays, and so batched over values as seeds are."""

    name: ClassVar[str]
    """As on the command line: `maml-supervised`."""
    unit: ClassVar[Literal["examples"]] = "examples"
    """What a run of it counts."""
    updates_per_row: ClassVar[int] = 50
    """Updates of which the mean is one row of the metrics: they are short and many."""
    learns_until: ClassVar[int | None] = None
    """Its step sizes never fall to zero."""
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ()
    """What budgets of a target it can count in."""

    shots: eqx.AbstractVar[int]
    """Shots in a training set, in training; as many as it is given at test, unless one asks for
    others. A shot is one example, or one of each class."""

    @abc.abstractmethod
    def init(self, problem: SupervisedProblem, key: PRNGKeyArray) -> State:
        """The whole state of learning, random key included, every leaf an array."""

    @abc.abstractmethod
    def update(self, problem: SupervisedProblem, state: State) -> tuple[State, dict[str, Array]]:
        """Learn from training tasks that it draws (`draw_sets`). The metrics are float scalars; `loss`
        (on the test sets of this update's tasks, after adaptation) is always among them."""

    @abc.abstractmethod
    def steps_per_update(self, problem: SupervisedProblem) -> int:
        """Examples that one update draws (static)."""

    @abc.abstractmethod
    def learned(self, state: State) -> Learned:
        """The part of `state` that `fit` needs."""

    @abc.abstractmethod
    def fit(
        self,
        problem: SupervisedProblem,
        learned: Learned,
        train: Examples,
        steps: int | None = None,
    ) -> Predictor:
        """g_φ: what is learned from the training set of one new task. An empty set, `[0, inputs]`, is
        one too: then the predictor knows no more than what all tasks have in common. `steps` are
        gradient steps, by default as many as in training; a learner that takes none ignores it."""

    def agent(self, problem: SupervisedProblem, state: State) -> "FewShotAgent":
        """What has been learned, ready for a new task."""
        return FewShotAgent(self, problem, self.learned(state))

    def inherit(
        self,
        problem: SupervisedProblem,
        state: State,
        donor: "AbstractSupervisedLearner",
        found: State,
    ) -> tuple[State, list[str]]:
        """As of an `AbstractLearner`: refused, unless a method knows better."""
        raise UserError(f"'{self.name}' cannot begin from another run")

    def target_steps(self, problem: SupervisedProblem, updates: int = 1) -> int:
        """How much of the problem's budget so many updates take: nothing."""
        return 0


class FewShotAgent(eqx.Module):
    """What has been learned: it meets one new task at a time."""

    learner: AbstractSupervisedLearner
    problem: SupervisedProblem
    learned: Learned

    def fit(self, train: Examples, steps: int | None = None) -> Predictor:
        """A predictor for the task of these examples; see `AbstractSupervisedLearner.fit`."""
        return self.learner.fit(self.problem, self.learned, train, steps)


def draw_sets(
    family: AbstractSupervisedFamily,
    key: PRNGKeyArray,
    tasks: int,
    shots: int,
    queries: int,
    split: Split = "train",
) -> tuple[Examples, Examples]:
    """Training sets of `shots` and test sets of `queries` examples of so many new tasks:
    `[tasks, shots * examples_per_shot, …]` and `[tasks, queries, …]`."""
    task_key, data_key = jax.random.split(key)
    params = family.tasks(task_key, split, tasks)
    keys = jax.random.split(data_key, tasks)
    first = shots * family.examples_per_shot
    examples = jax.vmap(lambda k, p: family.data(k, p, first + queries))(keys, params)
    return (
        jax.tree.map(lambda x: x[:, :first], examples),
        jax.tree.map(lambda x: x[:, first:], examples),
    )
