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
from .learner import AbstractReader, Features, pairs


class Process(eqx.Module):
    """φ of this method."""

    features: Features
    encoder: MLP
    decoder: MLP
    nothing: Float[Array, " size"]
    """r of the empty set."""


class Conditioned(eqx.Module):
    """A predictor that has read a training set."""

    features: Features
    decoder: MLP
    read: Float[Array, " size"]
    """r."""

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        r = jnp.broadcast_to(self.read, (*x.shape[:-1], self.read.size))
        return self.decoder(jnp.concatenate([self.features(x), r], axis=-1))


class CNP(AbstractReader):
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
    by_class: bool = eqx.field(static=True, default=False)
    """Average what is said of each class by itself, and let r be the averages side by side, as the paper
    does for classification (§4.3); y is one-hot then."""

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Process:
        family = problem.source
        features_key, encoder, decoder = jax.random.split(key, 3)
        features = Features(family.inputs, self.features, key=features_key)
        both = features.size + family.outputs
        read = self.size * (family.outputs if self.by_class else 1)
        hidden, last = self.encoder_hidden, self.decoder_hidden
        return Process(
            features,
            MLP(both, self.size, hidden, self.activation, key=encoder),
            MLP(features.size + read, family.outputs, last, self.activation, key=decoder),
            jnp.zeros(read),
        )

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Process,
        train: Examples,
        steps: int | None = None,
    ) -> Conditioned:
        if len(train.x) == 0:
            return Conditioned(learned.features, learned.decoder, learned.nothing)
        said = learned.encoder(pairs(learned.features, train))
        if self.by_class:
            weights = train.y / jnp.maximum(train.y.sum(axis=0), 1.0)
            read = (weights.T @ said).reshape(-1)
        else:
            read = said.mean(axis=0)
        return Conditioned(learned.features, learned.decoder, read)
