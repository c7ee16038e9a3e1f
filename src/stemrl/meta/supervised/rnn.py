"""A recurrent network whose last hidden state is the predictor (Hochreiter, Younger and Conwell 2001;
as a hypernetwork, Ha et al. 1609.09106).

The problem: from a few examples of an unknown function, predict the rest of it. The idea: let the
learning algorithm be a recurrent network. It reads the training set pair by pair, and what it holds in
the end *is* what was learned: the entries of its hidden state are the weights of a small predictor,

    hᵢ = GRU(hᵢ₋₁, (xᵢ, yᵢ)),      f(x) = MLP(x; θ = scale · h_K),
    min over the GRU and h₀ of  mean over tasks of  L(f; test set).

No gradient step is taken at test: the update rule is whatever the GRU came to do. The hidden state lies
in (−1, 1); `scale` says how large the predictor's weights may be.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import Examples, SupervisedProblem
from ...networks import GRU, MLP, Activation, Linear
from .learner import AbstractReader, Features, OnFeatures


class Reader(eqx.Module):
    """φ of this method."""

    features: Features
    embed: Linear
    """Of a pair, before it is read."""
    cell: GRU
    start: Float[Array, " parameters"]
    """h₀: what is predicted before any example."""


class RNNSupervised(AbstractReader):
    """A GRU over the training set whose last hidden state holds the predictor's parameters."""

    name: ClassVar[str] = "rnn-supervised"

    hidden: tuple[int, ...] = eqx.field(static=True, default=(40,))
    """Hidden layers of the predictor: with them the size of the hidden state grows."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""
    embedding: int = eqx.field(static=True, default=64)
    """Units between a pair (x, y) and the GRU."""
    scale: float = 2.0
    """Bound on the predictor's weights: they are this times the hidden state."""

    def predictor(self, inputs: int, outputs: int, key: PRNGKeyArray) -> MLP:
        """Return a predictor with weights of its own: what those of a hidden state are put in place
        of."""
        return MLP(inputs, outputs, self.hidden, self.activation, key=key)

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Reader:
        family = problem.source
        features_key, embed_key, cell_key, start_key = jax.random.split(key, 4)
        features = Features(family.inputs, self.features, key=features_key)
        start = ravel_pytree(self.predictor(features.size, family.outputs, start_key))[0]
        return Reader(
            features,
            Linear(
                features.size + family.outputs + features.size * family.outputs,
                self.embedding,
                key=embed_key,
            ),
            # Some entries forget at once, others not before the end of the set.
            GRU(
                self.embedding,
                start.size,
                chrono_span=self.shots * family.examples_per_shot + 1,
                key=cell_key,
            ),
            jnp.clip(start / self.scale, -0.9, 0.9),
        )

    def read(self, learned: Reader, train: Examples) -> Float[Array, " parameters"]:
        """Return the last hidden state."""
        if len(train.x) == 0:
            return learned.start
        x = jnp.tanh(learned.embed(with_products(learned.features(train.x), train.y)))
        return learned.cell.unroll(learned.start, x)[0]

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Reader,
        train: Examples,
        steps: int | None = None,
    ) -> OnFeatures:
        inputs, outputs = learned.features.size, problem.target.outputs
        template = jax.eval_shape(lambda: self.predictor(inputs, outputs, jax.random.key(0)))
        network = unraveled(self.scale * self.read(learned, train), template)
        return OnFeatures(learned.features, network)


def with_products(
    z: Float[Array, "n features"], y: Float[Array, "n outputs"]
) -> Float[Array, "n both"]:
    """Return z, y and all z · y: the gradient of a prediction's loss is made of such products, and
    to find that out takes a recurrent network longer than all the rest."""
    products = (z[..., :, None] * y[..., None, :]).reshape(len(z), -1)
    return jnp.concatenate([z, y, products], axis=-1)


def unraveled(flat: Float[Array, " parameters"], template: MLP) -> MLP:
    """Return the predictor whose parameters, laid end to end, are `flat`."""
    leaves, structure = jax.tree.flatten(template)
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + leaf.size)
    parts = [
        flat[begin:end].reshape(leaf.shape)
        for leaf, begin, end in zip(leaves, ends[:-1], ends[1:], strict=True)
    ]
    return jax.tree.unflatten(structure, parts)
