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
from typing import ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .environment import Params
from .family import AbstractTasks
from .learner import State

Predictor = Callable[[Float[Array, "n inputs"]], Float[Array, "n outputs"]]
"""What a learner makes of a training set: a tree of arrays that can be called."""


class Examples(NamedTuple):
    """A set of examples of one task."""

    x: Float[Array, "... n inputs"]
    y: Float[Array, "... n outputs"]


class AbstractSupervisedFamily(AbstractTasks):
    """Functions to be learned from a few examples, and from where they are drawn."""

    inputs: ClassVar[int]
    """Numbers in an x."""
    outputs: ClassVar[int]
    """Numbers in a prediction."""

    @abc.abstractmethod
    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """`n` independent examples of the task `params`."""

    @abc.abstractmethod
    def loss(
        self, prediction: Float[Array, "n outputs"], y: Float[Array, "n outputs"]
    ) -> Float[Array, ""]:
        """What predictions cost, on average over the examples; differentiable."""


class AbstractSupervisedLearner(eqx.Module):
    """A method: its hyper-parameters, frozen. Ints, bools, strings and tuples are static fields;
    floats may be arrays, and so batched over values as seeds are."""

    name: ClassVar[str]
    """As in results: `maml-supervised`."""

    @abc.abstractmethod
    def init(self, family: AbstractSupervisedFamily, key: PRNGKeyArray) -> State:
        """The whole state of learning, random key included, every leaf an array."""

    @abc.abstractmethod
    def update(
        self, family: AbstractSupervisedFamily, state: State
    ) -> tuple[State, dict[str, Array]]:
        """Learn from training tasks that it draws. The metrics are float scalars."""

    @abc.abstractmethod
    def fit(
        self,
        family: AbstractSupervisedFamily,
        state: State,
        train: Examples,
        steps: int | None = None,
    ) -> Predictor:
        """g_φ: what is learned from the training set of one new task. `steps` are gradient steps,
        by default as many as in training; a learner that takes none has no use for it."""
