"""A learned optimizer (Andrychowicz et al. 1606.04474): learning to learn by gradient descent by gradient
descent.

The problem: gradient descent on a few examples takes many steps, and its step size must be chosen. The
idea: let a recurrent network choose each step. A small LSTM is given the gradient with regard to one
parameter and says how that parameter moves; one and the same LSTM for all parameters, each with a hidden
state of its own, so that it fits a network of any size:

    (aₜ, bₜ, hₜ₊₁) = LSTM(∇ₜ, hₜ; φ)   coordinate by coordinate,
    θₜ₊₁ = θₜ − α exp(aₜ) Adamₜ + bₜ,
    min_φ  mean over tasks and first parameters θ₀ of  L(θₜ; test set), at the last step and along the way.

In: initial parameters and a training set; out: better parameters. Gradients reach it as their logarithm
and sign (the paper's appendix A), because their sizes span many powers of ten; the meta-gradient does not
go through ∇ₜ itself, as in the paper. Beside them stand the parameter and the direction that Adam would
take, and h₀ is learned for each tensor, as in later work (Wichrowska et al. 1703.04813). There the losses are those of the training set; here, where
five points are to stand for a whole function, they are of other examples.

A new LSTM is Adam. One that has to find descent by itself, θₜ₊₁ = θₜ + bₜ, first learns to predict the
mean of all tasks, and with few examples does not come away from there.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import AbstractSupervisedFamily, Examples, SupervisedProblem, UserError
from ...networks import LSTM, MLP, Activation, Linear
from .learner import AbstractFewShotLearner, Features, OnFeatures

OUTPUT_SCALE = 0.1
"""Of b: an LSTM, whose outputs are of the order of 1, must not run away."""
DECAYS = (0.9, 0.99)
"""Of Adam's two means. The second is shorter than usual: there are few steps."""
SMALLEST = 10.0
"""p: gradients below exp(−p) are told as they are (appendix A)."""


class CoordinatewiseOptimizer(eqx.Module):
    """φ of this method, and the network from which optimization starts at test."""

    cell: LSTM
    output: Linear
    first: Float[Array, "tensors state"]
    """h₀ of the numbers of each tensor: what a bias needs is not what a weight needs."""
    adam_rate: Float[Array, ""]
    """log α."""
    features: Features
    initial: MLP
    """θ₀."""

    def step(
        self,
        hidden: Float[Array, "parameters state"],
        told: Float[Array, "parameters inputs"],
        adam: Float[Array, " parameters"],
    ) -> tuple[Float[Array, "parameters state"], Float[Array, " parameters"]]:
        """Return the next hidden states, and by how much each parameter moves."""
        hidden, out = self.cell.step(hidden, told)
        factor, further = jnp.moveaxis(self.output(out), -1, 0)
        return hidden, OUTPUT_SCALE * further - jnp.exp(self.adam_rate + factor) * adam


class LearnedOptimizer(AbstractFewShotLearner):
    """A coordinatewise LSTM that turns gradients into steps."""

    name: ClassVar[str] = "learned-optimizer"

    meta_batch_size: int = eqx.field(static=True, default=4)
    """Tasks per update."""
    inner_steps: int = eqx.field(static=True, default=20)
    """Steps on the training set of a task, in training and, unless one asks for others, at test."""
    lstm_size: int = eqx.field(static=True, default=16)
    """Units of the LSTM, the same for every parameter."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(20,))
    """Hidden layers of the network that is optimized."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""
    learn_initial: bool = eqx.field(static=True, default=False)
    """Learn where optimization starts, too; without, every task begins from new parameters."""
    features: tuple[int, ...] = eqx.field(static=True, default=())
    """Units, in [1, inf], of the ReLU layers of a learned network that every x goes through first, as
    suits images, and that no step changes; none: x is read as it is."""
    adam_learning_rate: float = 0.03
    """First value of α, in (0, inf): of the Adam that a new optimizer is."""
    final_weight: float = 0.5
    """Share of the objective that the loss after the last step has, in [0, 1]; the rest is the mean along
    the way."""
    max_gradient_norm: float = 1.0
    """Bound on the norm of a whole meta-gradient."""

    def __check_init__(self):
        if self.inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {self.inner_steps}")

    def network(self, inputs: int, outputs: int, key: PRNGKeyArray) -> MLP:
        """Return first parameters θ₀."""
        return MLP(inputs, outputs, self.hidden, self.activation, key=key)

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> CoordinatewiseOptimizer:
        family = problem.source
        cell, output, features_key, initial = jax.random.split(key, 4)
        features = Features(family.inputs, self.features, key=features_key)
        network = self.network(features.size, family.outputs, initial)
        return CoordinatewiseOptimizer(
            LSTM(INPUTS, self.lstm_size, key=cell),
            Linear(self.lstm_size, 2, scale=0.01, key=output),
            jnp.zeros((len(jax.tree.leaves(network)), 2 * self.lstm_size)),
            jnp.log(self.adam_learning_rate),
            features,
            network,
        )

    def optimize(
        self,
        family: AbstractSupervisedFamily,
        learned: CoordinatewiseOptimizer,
        network: MLP,
        train: Examples,
        steps: int,
    ) -> Float[Array, "steps parameters"]:
        """Take `steps` steps from `network`, and return θ₁, …, θ_steps, each as one vector. The x
        of `train` are features."""
        flat, unravel = ravel_pytree(network)

        def loss(flat: Array) -> Float[Array, ""]:
            return family.loss(unravel(flat)(train.x), train.y)

        def step(carry: tuple[Array, ...], t: Array) -> tuple[tuple[Array, ...], Array]:
            flat, hidden, first, second = carry
            gradient = jax.grad(loss)(flat)
            first = DECAYS[0] * first + (1 - DECAYS[0]) * gradient
            second = DECAYS[1] * second + (1 - DECAYS[1]) * gradient**2
            mean, square = first / (1 - DECAYS[0] ** (t + 1)), second / (1 - DECAYS[1] ** (t + 1))
            adam = mean / (jnp.sqrt(square) + 1e-8)
            known = lax.stop_gradient(told(gradient, adam, flat, t / self.inner_steps))
            hidden, move = learned.step(hidden, known, lax.stop_gradient(adam))
            return (flat + move, hidden, *lax.stop_gradient((first, second))), flat + move

        sizes = np.array([leaf.size for leaf in jax.tree.leaves(network)])
        hidden = jnp.repeat(learned.first, sizes, axis=0, total_repeat_length=flat.size)
        carry = (flat, hidden, jnp.zeros_like(flat), jnp.zeros_like(flat))
        return lax.scan(step, carry, jnp.arange(steps))[1]

    def objective(
        self,
        problem: SupervisedProblem,
        learned: CoordinatewiseOptimizer,
        train: Examples,
        test: Examples,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the loss after the last step and along the way, and the metrics. Each task begins
        from new first parameters, unless these are learned."""
        family = problem.source

        def one(key: PRNGKeyArray, train: Examples, test: Examples) -> Float[Array, " steps"]:
            train, test = (Examples(learned.features(e.x), e.y) for e in (train, test))
            network = learned.initial
            if not self.learn_initial:
                network = self.network(learned.features.size, family.outputs, key)
            unravel = ravel_pytree(network)[1]
            path = self.optimize(family, learned, network, train, self.inner_steps)
            return jax.vmap(lambda flat: family.loss(unravel(flat)(test.x), test.y))(path)

        losses = jax.vmap(one)(jax.random.split(key, self.meta_batch_size), train, test)
        along, last = jnp.mean(losses), jnp.mean(losses[:, -1])
        total = self.final_weight * last + (1.0 - self.final_weight) * along
        return total, {"loss": last, "loss/along": along, "adam_rate": jnp.exp(learned.adam_rate)}

    def fit(
        self,
        problem: SupervisedProblem,
        learned: CoordinatewiseOptimizer,
        train: Examples,
        steps: int | None = None,
    ) -> OnFeatures:
        steps = self.inner_steps if steps is None else steps
        if len(train.x) == 0 or steps == 0:
            return OnFeatures(learned.features, learned.initial)
        train = Examples(learned.features(train.x), train.y)
        path = self.optimize(problem.target, learned, learned.initial, train, steps)
        return OnFeatures(learned.features, ravel_pytree(learned.initial)[1](path[-1]))


INPUTS = 5
"""Of the LSTM, for each parameter: what `told` gives it."""


def told(
    gradient: Float[Array, " n"],
    adam: Float[Array, " n"],
    parameter: Float[Array, " n"],
    time: float | Array,
) -> Float[Array, "n 5"]:
    """Return what the LSTM is given: (log|∇|/p, sign ∇), or (−1, e^p ∇) where it is below e^−p
    (appendix A); Adam's direction; the parameter itself; and the share of all steps that are taken.
    """
    size = jnp.abs(gradient)
    large = size >= math.exp(-SMALLEST)
    logarithm = jnp.log(jnp.where(large, size, 1.0)) / SMALLEST
    return jnp.stack(
        [
            jnp.where(large, logarithm, -1.0),
            jnp.where(large, jnp.sign(gradient), math.exp(SMALLEST) * gradient),
            adam,
            parameter,
            jnp.full_like(gradient, time),
        ],
        axis=-1,
    )
