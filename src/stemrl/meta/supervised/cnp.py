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

from ...core import Examples, SupervisedProblem, UserError
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
    read: Float[Array, " size"] | Float[Array, "classes size"]
    """r, or one of each class."""

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        def decoded(r: Float[Array, " size"]) -> Float[Array, "n found"]:
            return self.decoder(jnp.concatenate([z, jnp.broadcast_to(r, (len(z), r.size))], -1))

        z = self.features(x)
        if self.read.ndim == 1:
            return decoded(self.read)
        return jax.vmap(decoded, out_axes=1)(self.read)[..., 0]


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
    """Read each class by itself, as the paper does for classification (§4.3), and let one decoder judge x
    beside every class's r, for the classes' numbers mean nothing; y is one-hot then."""

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Process:
        family = problem.source
        if self.by_class and family.examples_per_shot == 1:
            raise UserError(f"by_class is for classes, and '{family.name}' has none: leave it out")
        features_key, encoder, decoder = jax.random.split(key, 3)
        features = Features(family.inputs, self.features, key=features_key)
        # The number of a class is but a name: with it neither encoder nor decoder would know it again.
        said, found = (0, 1) if self.by_class else (family.outputs, family.outputs)
        hidden, last = self.encoder_hidden, self.decoder_hidden
        return Process(
            features,
            MLP(features.size + said, self.size, hidden, self.activation, key=encoder),
            MLP(features.size + self.size, found, last, self.activation, key=decoder),
            jnp.zeros(self.size),
        )

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Process,
        train: Examples,
        steps: int | None = None,
    ) -> Conditioned:
        if len(train.x) == 0:
            read = learned.nothing
            if self.by_class:
                read = jnp.broadcast_to(read, (problem.target.outputs, self.size))
        elif self.by_class:
            shares = train.y / jnp.maximum(train.y.sum(axis=0), 1.0)
            read = shares.T @ learned.encoder(learned.features(train.x))
        else:
            read = learned.encoder(pairs(learned.features, train)).mean(axis=0)
        return Conditioned(learned.features, learned.decoder, read)
