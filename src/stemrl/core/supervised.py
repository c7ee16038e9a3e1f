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
"""What a learner makes of a training set: a pytree of arrays that can be called with many x at
once."""

Learned = PyTree[Any]
"""φ: the part of a learner's state that is needed to meet a new task."""


class Examples(NamedTuple):
    """Examples of one task; with leading dimensions, of many."""

    x: Float[Array, "... n inputs"]
    y: Float[Array, "... n outputs"]


class AbstractSupervisedFamily(AbstractTasks):
    """Functions that are to be learned from a few examples, and where they are drawn from."""

    stepping: ClassVar[Stepping] = "jax"
    """Nothing is stepped; everything is compiled."""
    inputs: eqx.AbstractVar[int]
    """How many numbers an x has."""
    outputs: eqx.AbstractVar[int]
    """How many numbers a y and a prediction have."""
    score_name: ClassVar[str] = "loss"
    """What `score` measures, in words, such as `mean squared error`."""
    lower_is_better: ClassVar[bool] = True
    """Whether a lower `score` is better."""

    @property
    def examples_per_shot(self) -> int:
        """How many examples one "shot" is: 1, or one of each class."""
        return 1

    def most_examples(self, split: Split) -> int | None:
        """Return how many different examples of a task of this split there are; by default `None`, as
        each is drawn anew. Whoever draws more meets some again."""
        return None

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width of an x that is an image and shall be drawn as one; otherwise `None`."""
        return None

    @property
    def pixels(self) -> tuple[int, int, int] | None:
        """Height, width and channels of an x that is an image as a row of numbers from 0 to 1; otherwise
        `None`. By default it is one of `image_shape`, without color."""
        return None if self.image_shape is None else (*self.image_shape, 1)

    @abc.abstractmethod
    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw `n` examples of the task `params`. They are independent; of classes, every
        `examples_per_shot` that follow one another hold each class once."""

    @abc.abstractmethod
    def loss(
        self, prediction: Float[Array, "n outputs"], y: Float[Array, "n outputs"]
    ) -> Float[Array, ""]:
        """Return what the predictions cost, on average over the examples. It must be
        differentiable."""

    def score(
        self, prediction: Float[Array, "n outputs"], y: Float[Array, "n outputs"]
    ) -> Float[Array, ""]:
        """Return the number that predictions are judged by. By default it is the loss."""
        return self.loss(prediction, y)


class SupervisedProblem(eqx.Module):
    """Where to learn, and where it will count. Raises `UserError` if source and target differ in
    `inputs` or `outputs`."""

    source: AbstractSupervisedFamily
    """The family whose `train` split the training tasks are drawn from."""
    target: AbstractSupervisedFamily
    """The family whose tasks are met in the end."""
    budget: ClassVar[int] = 0
    """Training takes nothing from the target."""
    budget_unit: ClassVar[BudgetUnit] = "labels"
    """The unit in which a budget would be counted."""
    logged: ClassVar[None] = None
    """Nothing was recorded there."""
    reveal: ClassVar[Reveal] = "nothing"
    """A task's parameters are never revealed."""

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
        """Return the problem of one family: to learn on its `train` split, and to be judged by the
        others."""
        return cls(family, family)


class AbstractSupervisedLearner(eqx.Module):
    """A method, made of its hyper-parameters, which are frozen. Ints, bools, strings and tuples are
    static fields. Floats may be arrays, and so can be batched over values as seeds are."""

    name: ClassVar[str]
    """The name on the command line, such as `maml-supervised`."""
    unit: ClassVar[Literal["examples"]] = "examples"
    """What a run of it counts."""
    updates_per_row: ClassVar[int] = 50
    """How many updates one row of the metrics is the mean of; updates are short and many."""
    learns_until: ClassVar[int | None] = None
    """Its step sizes never fall to zero."""
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ()
    """The units in which it can count a target's budget."""

    shots: eqx.AbstractVar[int]
    """Shots in a training set, in training; and at test, unless others are asked for. A shot is one
    example, or one of each class."""

    @abc.abstractmethod
    def init(self, problem: SupervisedProblem, key: PRNGKeyArray) -> State:
        """Return the whole first state of learning, random key included. Every leaf is an array."""

    @abc.abstractmethod
    def update(self, problem: SupervisedProblem, state: State) -> tuple[State, dict[str, Array]]:
        """Draw training tasks (`draw_sets`) and learn from them. Return the next state and the
        metrics, which are float scalars. `loss`, on the test sets of this update's tasks, is always
        among them."""

    @abc.abstractmethod
    def steps_per_update(self, problem: SupervisedProblem) -> int:
        """Return how many examples one update draws (static)."""

    @abc.abstractmethod
    def learned(self, state: State) -> Learned:
        """Return the part of `state` that `fit` needs."""

    @abc.abstractmethod
    def fit(
        self,
        problem: SupervisedProblem,
        learned: Learned,
        train: Examples,
        steps: int | None = None,
    ) -> Predictor:
        """g_φ: make a predictor of the training set of one new task.

        - `train`: its examples. An empty set, `[0, inputs]`, is allowed; the predictor then knows
          no more than what all tasks have in common.
        - `steps`: how many gradient steps to take, by default as many as in training. A learner
          that takes none ignores it.
        """

    def agent(self, problem: SupervisedProblem, state: State) -> "FewShotAgent":
        """Return what has been learned, ready for a new task."""
        return FewShotAgent(self, problem, self.learned(state))

    def inherit(
        self,
        problem: SupervisedProblem,
        state: State,
        donor: "AbstractSupervisedLearner",
        found: State,
    ) -> tuple[State, list[str]]:
        """Do the same as an `AbstractLearner`'s `inherit`. By default it raises `UserError`."""
        raise UserError(f"'{self.name}' cannot begin from another run")

    def target_steps(self, problem: SupervisedProblem, updates: int = 1) -> int:
        """Return how much of the problem's budget so many updates take. By default it is nothing."""
        return 0


class FewShotAgent(eqx.Module):
    """What has been learned. It meets one new task at a time."""

    learner: AbstractSupervisedLearner
    problem: SupervisedProblem
    learned: Learned

    def fit(self, train: Examples, steps: int | None = None) -> Predictor:
        """Return a predictor for the task of these examples; see `AbstractSupervisedLearner.fit`."""
        return self.learner.fit(self.problem, self.learned, train, steps)


def draw_sets(
    family: AbstractSupervisedFamily,
    key: PRNGKeyArray,
    tasks: int,
    shots: int,
    queries: int,
    split: Split = "train",
) -> tuple[Examples, Examples]:
    """Draw `tasks` new tasks, and return their training sets of `shots` and their test sets of
    `queries` examples: `[tasks, shots * examples_per_shot, …]` and `[tasks, queries, …]`."""
    task_key, data_key = jax.random.split(key)
    params = family.tasks(task_key, split, tasks)
    keys = jax.random.split(data_key, tasks)
    first = shots * family.examples_per_shot
    examples = jax.vmap(lambda k, p: family.data(k, p, first + queries))(keys, params)
    return (
        jax.tree.map(lambda x: x[:, :first], examples),
        jax.tree.map(lambda x: x[:, first:], examples),
    )
