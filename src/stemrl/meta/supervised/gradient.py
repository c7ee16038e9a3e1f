"""The plain alternatives: gradient descent on the few examples, from a pretrained network or a new one.

The problem: from a few examples of an unknown function, predict the rest of it. What one would try
first is to take gradient steps on them:

    θ ← θ − α ∇L(θ; training set),      from θ = argmin_θ mean over tasks of L(θ; task)   (pretrained)
                                         or from a random θ                               (from scratch).

The pretrained network is the best single answer for all tasks at once, learned without a thought of the
steps that will follow; it is the baseline of Finn et al. (1703.03400). By Adam or by plain steps. How
good either is depends on α and on the number of steps, which have to be tuned.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import AbstractSupervisedFamily, Examples, SupervisedProblem, UserError
from ...networks import MLP, Activation, activate
from ...rl.fitting import gradient_steps
from .learner import AbstractFewShotLearner

Optimizer = Literal["sgd", "adam"]


class GradientDescent(AbstractFewShotLearner):
    """Gradient steps on the training set of a task, from a network pretrained on all of them or from
    a new one."""

    name: ClassVar[str] = "pretrained-supervised"

    pretrain: bool = eqx.field(static=True, default=True)
    """Learn the first network on all training tasks; without, it stays as it was drawn."""
    adapt_steps: int = eqx.field(static=True, default=10)
    """Gradient steps on the training set of a new task."""
    adapt_learning_rate: float = 0.01
    """Their step size."""
    optimizer: Optimizer = eqx.field(static=True, default="sgd")
    """How they are taken: sgd or adam."""
    head_only: bool = eqx.field(static=True, default=False)
    """Take them on the last layer alone, on features that stay as they are."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(40, 40))
    """Hidden layers."""
    activation: Activation = eqx.field(static=True, default="relu")
    """Their activation: tanh, relu, elu, silu or gelu."""

    def __check_init__(self):
        if self.adapt_steps < 0:
            raise UserError(f"adapt_steps must be at least 0, not {self.adapt_steps}")

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> MLP:
        family = problem.source
        return MLP(family.inputs, family.outputs, self.hidden, self.activation, key=key)

    def objective(
        self,
        problem: SupervisedProblem,
        learned: MLP,
        train: Examples,
        test: Examples,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the loss of the network as it is, on all tasks."""
        loss = jnp.mean(jax.vmap(lambda x, y: problem.source.loss(learned(x), y))(*test))
        return (loss if self.pretrain else 0.0 * loss), {"loss": loss}

    def fit(
        self,
        problem: SupervisedProblem,
        learned: MLP,
        train: Examples,
        steps: int | None = None,
    ) -> MLP:
        steps = self.adapt_steps if steps is None else steps
        rate, family = self.adapt_learning_rate, problem.target
        if not self.head_only:
            return descended(family, learned, train, steps, rate, self.optimizer)
        # A network of one layer, on what the others make of x.
        head = eqx.tree_at(lambda n: n.layers, learned, learned.layers[-1:])
        features = features_of(learned, train.x)
        head = descended(family, head, Examples(features, train.y), steps, rate, self.optimizer)
        return eqx.tree_at(lambda n: n.layers[-1], learned, head.layers[0])


def features_of(network: MLP, x: Float[Array, "n inputs"]) -> Float[Array, "n features"]:
    """Return the features that the last layer is given."""
    for layer in network.layers[:-1]:
        x = activate(network.activation, layer(x))
    return x


def descended(
    family: AbstractSupervisedFamily,
    network: MLP,
    train: Examples,
    steps: int,
    learning_rate: float | Array,
    optimizer: Optimizer,
) -> MLP:
    """Return the network after gradient steps on a training set, all on all of it."""
    if len(train.x) == 0 or steps == 0:
        return network
    transform = optax.identity() if optimizer == "sgd" else optax.scale_by_adam()

    def gradient(network: MLP, slow: None, batch: None) -> tuple[MLP, dict[str, Array]]:
        return jax.grad(lambda n: family.loss(n(train.x), train.y))(network), {}

    return gradient_steps(
        gradient,
        network,
        transform.init(network),  # pyright: ignore[reportArgumentType]
        jnp.arange(steps),
        learning_rate=learning_rate,
        transform=transform,
    ).parameters
