"""A learned optimizer (Andrychowicz et al. 1606.04474): learning to learn by gradient descent by gradient
descent.

The problem: gradient descent on a few examples takes many steps, and its step size must be chosen. The
idea: let a recurrent network choose each step. A small LSTM is given the gradient with regard to one
parameter and says how that parameter moves; one and the same LSTM for all parameters, each with a hidden
state of its own, so that it fits a network of any size:

    (gₜ, hₜ₊₁) = LSTM(∇ₜ, hₜ; φ)   coordinate by coordinate,      θₜ₊₁ = θₜ + gₜ,
    min_φ  mean over tasks, first parameters θ₀ and steps t of  L(θₜ; test set).

In: initial parameters and a training set; out: better parameters. Gradients reach it as their logarithm
and sign (the paper's appendix A), because their sizes span many powers of ten; the meta-gradient does not
go through ∇ₜ itself, as in the paper. There the losses are those of the training set; here, where five
points are to stand for a whole function, they are of other examples.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ...core import AbstractSupervisedFamily, Examples, SupervisedProblem, UserError
from ...networks import LSTM, MLP, Activation, Linear
from .learner import AbstractFewShotLearner

OUTPUT_SCALE = 0.1
"""Of a step: a new LSTM, whose outputs are of the order of 1, must not run away."""
SMALLEST = 10.0
"""p: gradients below exp(−p) are told as they are (appendix A)."""


class CoordinatewiseOptimizer(eqx.Module):
    """φ of this method, and the network that optimization starts from at test."""

    cell: LSTM
    output: Linear
    initial: MLP
    """θ₀; drawn once and not learned: what is learned is the way from there."""

    def step(
        self, hidden: Float[Array, "parameters state"], gradient: Float[Array, " parameters"]
    ) -> tuple[Float[Array, "parameters state"], Float[Array, " parameters"]]:
        """The next hidden states, and how each parameter moves."""
        hidden, out = self.cell.step(hidden, told(gradient))
        return hidden, OUTPUT_SCALE * self.output(out)[..., 0]


class LearnedOptimizer(AbstractFewShotLearner):
    """A coordinatewise LSTM that turns gradients into steps."""

    name: ClassVar[str] = "learned-optimizer"

    meta_batch_size: int = eqx.field(static=True, default=4)
    """Tasks per update."""
    inner_steps: int = eqx.field(static=True, default=20)
    """Steps on the training set of a task, in training and, unless one asks for others, at test."""
    lstm_size: int = eqx.field(static=True, default=16)
    """Units of the LSTM, the same for every parameter."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(20, 20))
    """Hidden layers of the network that is optimized."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""
    max_gradient_norm: float = 1.0
    """Bound on the norm of a whole meta-gradient."""

    def __check_init__(self):
        if self.inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {self.inner_steps}")

    def network(self, family: AbstractSupervisedFamily, key: PRNGKeyArray) -> MLP:
        """First parameters θ₀."""
        return MLP(family.inputs, family.outputs, self.hidden, self.activation, key=key)

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> CoordinatewiseOptimizer:
        cell, output, initial = jax.random.split(key, 3)
        return CoordinatewiseOptimizer(
            LSTM(2, self.lstm_size, key=cell),
            Linear(self.lstm_size, 1, scale=0.1, key=output),
            self.network(problem.source, initial),
        )

    def optimize(
        self,
        family: AbstractSupervisedFamily,
        learned: CoordinatewiseOptimizer,
        network: MLP,
        train: Examples,
        steps: int,
    ) -> Float[Array, "steps parameters"]:
        """θ₁, …, θ_steps, each laid end to end."""
        flat, unravel = ravel_pytree(network)

        def loss(flat: Array) -> Float[Array, ""]:
            return family.loss(unravel(flat)(train.x), train.y)

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            flat, hidden = carry
            gradient = lax.stop_gradient(jax.grad(loss)(flat))
            hidden, move = learned.step(hidden, gradient)
            return (flat + move, hidden), flat + move

        hidden = jnp.broadcast_to(learned.cell.initial(), (flat.size, 2 * self.lstm_size))
        return lax.scan(step, (flat, hidden), None, steps)[1]

    def objective(
        self,
        problem: SupervisedProblem,
        learned: CoordinatewiseOptimizer,
        train: Examples,
        test: Examples,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The loss along the way, on average over its steps, from first parameters that are drawn
        anew for every task."""
        family = problem.source

        def one(key: PRNGKeyArray, train: Examples, test: Examples) -> Float[Array, " steps"]:
            network = self.network(family, key)
            unravel = ravel_pytree(network)[1]
            path = self.optimize(family, learned, network, train, self.inner_steps)
            return jax.vmap(lambda flat: family.loss(unravel(flat)(test.x), test.y))(path)

        losses = jax.vmap(one)(jax.random.split(key, self.meta_batch_size), train, test)
        along = jnp.mean(losses)
        return along, {"loss": jnp.mean(losses[:, -1]), "loss/along": along}

    def fit(
        self,
        problem: SupervisedProblem,
        learned: CoordinatewiseOptimizer,
        train: Examples,
        steps: int | None = None,
    ) -> MLP:
        steps = self.inner_steps if steps is None else steps
        if len(train.x) == 0 or steps == 0:
            return learned.initial
        path = self.optimize(problem.target, learned, learned.initial, train, steps)
        return ravel_pytree(learned.initial)[1](path[-1])


def told(gradient: Float[Array, " n"]) -> Float[Array, "n 2"]:
    """Gradients as the LSTM is given them: (log|∇|/p, sign ∇), or (−1, e^p ∇) where they are below
    e^−p (appendix A)."""
    size = jnp.abs(gradient)
    large = size >= math.exp(-SMALLEST)
    logarithm = jnp.log(jnp.where(large, size, 1.0)) / SMALLEST
    return jnp.stack(
        [
            jnp.where(large, logarithm, -1.0),
            jnp.where(large, jnp.sign(gradient), math.exp(SMALLEST) * gradient),
        ],
        axis=-1,
    )
