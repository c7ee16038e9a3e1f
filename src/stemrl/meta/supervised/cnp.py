"""Conditional neural processes (Garnelo et al. 1807.01613).

The problem: from a few examples of an unknown function, predict the rest of it. The idea: a set has no
order, so neither should what reads it. Each pair is embedded alone, the embeddings are averaged, and a
decoder predicts from the average:

    rᵢ = e(xᵢ, yᵢ),      r = mean_i rᵢ,      f(x) = d(x, r).

Both are multilayer perceptrons, learned through the loss on the test sets of training tasks. Nothing is
computed anew for another x: reading costs O(K) and predicting O(1). In the paper d gives a mean and a
variance, and the likelihood of a normal distribution is maximized; here it gives what the family's own
loss takes.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import Examples, SupervisedProblem
from ...networks import MLP, Activation
from .learner import AbstractFewShotLearner, pairs


class Process(eqx.Module):
    """φ of this method."""

    encoder: MLP
    decoder: MLP
    nothing: Float[Array, " size"]
    """r of the empty set."""


class Conditioned(eqx.Module):
    """A predictor that has read a training set."""

    decoder: MLP
    read: Float[Array, " size"]
    """r."""

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        r = jnp.broadcast_to(self.read, (*x.shape[:-1], self.read.size))
        return self.decoder(jnp.concatenate([x, r], axis=-1))


class CNP(AbstractFewShotLearner):
    """A conditional neural process: embed pairs, average, decode."""

    name: ClassVar[str] = "cnp"

    size: int = eqx.field(static=True, default=128)
    """Entries of the representation r."""
    encoder_hidden: tuple[int, ...] = eqx.field(static=True, default=(128, 128))
    """Hidden layers from a pair to its embedding."""
    decoder_hidden: tuple[int, ...] = eqx.field(static=True, default=(128, 128))
    """Hidden layers from x and r to a prediction."""
    activation: Activation = eqx.field(static=True, default="relu")
    """Their activation: tanh, relu, elu, silu or gelu."""

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Process:
        family = problem.source
        encoder, decoder = jax.random.split(key)
        both = family.inputs + family.outputs
        return Process(
            MLP(both, self.size, self.encoder_hidden, self.activation, key=encoder),
            MLP(
                family.inputs + self.size,
                family.outputs,
                self.decoder_hidden,
                self.activation,
                key=decoder,
            ),
            jnp.zeros(self.size),
        )

    def sizes(self) -> list[tuple[slice, int]]:
        return self.several_sizes()

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Process,
        train: Examples,
        steps: int | None = None,
    ) -> Conditioned:
        if len(train.x) == 0:
            return Conditioned(learned.decoder, learned.nothing)
        embedded = learned.encoder(pairs(problem.target, train))
        return Conditioned(learned.decoder, embedded.mean(axis=-2))
