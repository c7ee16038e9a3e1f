"""What the methods of this folder share: an update on a batch of tasks, each a training and a test set.

A method says what its parameters are (`parameters`) and how they, given a training set, make a
predictor (`fit`). What is learned by descending

    mean over tasks of  L( g_φ(training set); test set ),

the gradient through everything that `fit` does, is then the same for all of them.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ...core import (
    AbstractSupervisedLearner,
    Examples,
    Predictor,
    SupervisedProblem,
    UserError,
    draw_sets,
)
from ...networks import MLP, Linear
from ...networks.mlp import standardized
from ...rl.fitting import annealed, descend


class FewShotState(eqx.Module):
    """Everything that a learner of this kind knows."""

    learned: Any
    """φ."""
    optimizer: optax.OptState
    updates: Int[Array, ""]
    key: PRNGKeyArray


class AbstractFewShotLearner(AbstractSupervisedLearner):
    """A learner of φ by gradient descent on a batch of tasks."""

    meta_batch_size: int = eqx.field(static=True, default=25)
    """Tasks per update."""
    shots: int = eqx.field(static=True, default=10)
    """Shots in the training set of a task: examples, or examples of each class."""
    queries: int = eqx.field(static=True, default=10)
    """Examples in its test set, while learning."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    decay_updates: int | None = eqx.field(static=True, default=None)
    """Updates in which Adam's step size falls linearly to zero; none: it is constant."""
    max_gradient_norm: float = 10.0
    """Bound on the norm of a whole gradient."""

    def __check_init__(self):
        for name in ("meta_batch_size", "shots", "queries"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")

    @abc.abstractmethod
    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Any:
        """Return φ before anything is learned."""

    def init(self, problem: SupervisedProblem, key: PRNGKeyArray) -> FewShotState:
        first, key = jax.random.split(key)
        learned = self.parameters(problem, first)
        state = self._transform().init(learned)
        return FewShotState(learned, state, jnp.zeros((), jnp.int32), key)

    def update(
        self, problem: SupervisedProblem, state: FewShotState
    ) -> tuple[FewShotState, dict[str, Array]]:
        key, draw_key = jax.random.split(state.key)
        train, test = draw_sets(
            problem.source, draw_key, self.meta_batch_size, self.shots, self.queries
        )
        # Its own key: what a method draws must not be what its tasks were drawn with.
        noise = jax.random.fold_in(draw_key, _NOISE)
        (_, metrics), gradient = jax.value_and_grad(self.objective, argnums=1, has_aux=True)(
            problem, state.learned, train, test, noise
        )
        learned, optimizer = descend(
            self._transform(),
            gradient,
            state.optimizer,
            state.learned,
            annealed(self.learning_rate, self.decay_updates, state.updates),
        )
        return FewShotState(learned, optimizer, state.updates + 1, key), metrics

    def objective(
        self,
        problem: SupervisedProblem,
        learned: Any,
        train: Examples,
        test: Examples,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the loss that an update descends, and the metrics, of which `loss` is one. The
        sets are `[tasks, n, …]`."""
        source = SupervisedProblem.of(problem.source)

        def one(train: Examples, test: Examples) -> Float[Array, ""]:
            predict: Predictor = self.fit(source, learned, train)
            return problem.source.loss(predict(test.x), test.y)

        losses = []
        for tasks, shots in self.sizes():
            n = shots * problem.source.examples_per_shot
            part = jax.tree.map(lambda x, n=n, tasks=tasks: x[tasks, :n], train)
            queries = jax.tree.map(lambda x, tasks=tasks: x[tasks], test)
            losses.append(jax.vmap(one)(part, queries))
        return jnp.mean(jnp.concatenate(losses)), {"loss": jnp.mean(losses[-1])}

    def sizes(self) -> list[tuple[slice, int]]:
        """Return which tasks of a batch have training sets of how many shots. The last entry must
        have all of them. By default that is every task."""
        return [(slice(None), self.shots)]

    def steps_per_update(self, problem: SupervisedProblem) -> int:
        shots = self.shots * problem.source.examples_per_shot
        return self.meta_batch_size * (shots + self.queries)

    def learned(self, state: FewShotState) -> Any:
        return state.learned

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm),  # pyright: ignore[reportArgumentType]
            optax.scale_by_adam(),
        )


class Features(eqx.Module):
    """What is read of an x: the numbers themselves, or what a learned network makes of them. Call
    it with `[…, inputs]`; it returns `[…, size]`."""

    layers: tuple[Linear, ...]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, layers: tuple[int, ...], *, key: PRNGKeyArray):
        """**Arguments:** entries of an x, units of each layer."""
        widths = (inputs, *layers)
        keys = jax.random.split(key, max(len(layers), 1))
        self.layers = tuple(
            Linear(a, b, scale=2**0.5, key=k)
            for a, b, k in zip(widths[:-1], widths[1:], keys, strict=False)
        )
        self.size = widths[-1]

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... size"]:
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        # Of one size: what compares features has something to compare from the beginning.
        return standardized(x) if self.layers else x


class OnFeatures(eqx.Module):
    """A predictor: a network on top of features."""

    features: Features
    network: MLP

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        return self.network(self.features(x))


class AbstractReader(AbstractFewShotLearner):
    """A learner that reads training sets with a network. Such a network knows nothing of sizes that
    it never met, so half of a batch's training sets have fewer shots than the others."""

    features: tuple[int, ...] = eqx.field(static=True, default=())
    """Units, in [1, inf], of the ReLU layers of a learned network that every x goes through first, as
    suits images; none: x is read as it is."""

    def sizes(self) -> list[tuple[slice, int]]:
        """Return half of the tasks with all shots, and the others shared among 0, 1, 2, 5, … of
        them."""
        fewer = [n for n in SIZES if n < self.shots]
        rest = self.meta_batch_size // 2
        edges = [rest * i // len(fewer) for i in range(len(fewer) + 1)]
        found = [
            (slice(begin, end), n)
            for n, begin, end in zip(fewer, edges[:-1], edges[1:], strict=True)
            if end > begin
        ]
        return [*found, (slice(rest, None), self.shots)]


_NOISE = 0x5E7
SIZES = (0, 1, 2, 5, 10, 20, 50)
"""Shots of training sets in training, below the most."""


def pairs(features: Features, examples: Examples) -> Float[Array, "... n both"]:
    """Return what is read of every x, with its y behind it."""
    return jnp.concatenate([features(examples.x), examples.y], axis=-1)
