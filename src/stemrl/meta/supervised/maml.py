"""Model-agnostic meta-learning for supervised tasks (Finn et al. 1703.03400, Algorithm 2).

The problem: from a few examples of an unknown function, predict the rest of it. The idea: let
adaptation be ordinary gradient descent on these examples, and learn the parameters θ from which it
works best. For tasks i, each with a training and a test set,

    θᵢ' = θ − α ∇L(θ; trainᵢ)    by one or more inner steps,
    min_θ  mean_i  L(θᵢ'; testᵢ),

by differentiating through the inner steps (exactly, second derivatives included; `first_order`
leaves those out), with Adam. Inner rates may be learned too: one for each number in θ is Meta-SGD
(Li et al. 1707.09835).

With no inner step what is left is the plain alternative, pretraining: min_θ mean_i L(θ; testᵢ),
one regression on the examples of all tasks pooled, fine-tuned by the same gradient steps when a new
task is met.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ...core import AbstractSupervisedFamily, Examples, SupervisedProblem, UserError
from ...networks import MLP, Activation
from .learner import AbstractFewShotLearner

Rates = Literal["fixed", "tensor", "element"]


class Initialization(eqx.Module):
    """What is learned: θ, and the inner rates if they are learned."""

    network: MLP
    rates: PyTree[Array] | None
    """In the structure of `network`, a scalar for each tensor or its whole shape."""


class SupervisedMAML(AbstractFewShotLearner):
    """MAML for supervised tasks; with `inner_steps` 0, pretraining on all tasks pooled."""

    name: ClassVar[str] = "maml-supervised"

    inner_steps: int = eqx.field(static=True, default=1)
    """Gradient steps of adaptation in training; 0: pretraining."""
    inner_learning_rate: float = 0.01
    """Step size α of the inner gradient step; where it is learned, its first value."""
    inner_rates: Rates = eqx.field(static=True, default="fixed")
    """The inner rate: fixed, or learned, one for each tensor or for each element of the network."""
    first_order: bool = eqx.field(static=True, default=False)
    """Leave the second derivatives out of the meta-gradient."""
    max_gradient_norm: float = 1e9
    """Bound on the norm of a whole meta-gradient; the paper has none."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(40, 40))
    """Hidden layers."""
    activation: Activation = eqx.field(static=True, default="relu")
    """Their activation: tanh, relu, elu, silu or gelu."""

    def __check_init__(self):
        if self.inner_steps < 0:
            raise UserError(f"inner_steps must be at least 0, not {self.inner_steps}")
        if self.inner_rates not in ("fixed", "tensor", "element"):
            raise UserError(
                f"inner_rates must be fixed, tensor or element, not {self.inner_rates!r}"
            )

    def parameters(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Initialization:
        family = problem.source
        network = MLP(family.inputs, family.outputs, self.hidden, self.activation, key=key)
        rates = None
        if self.inner_rates != "fixed":
            rates = jax.tree.map(
                lambda x: jnp.full(
                    x.shape if self.inner_rates == "element" else (), self.inner_learning_rate
                ),
                network,
            )
        return Initialization(network, rates)

    def objective(
        self,
        problem: SupervisedProblem,
        learned: Initialization,
        train: Examples,
        test: Examples,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return mean_i L(θᵢ'; testᵢ), and with it the loss before adaptation, on the training
        sets."""
        family = problem.source

        def one(train: Examples, test: Examples):
            before = family.loss(learned.network(train.x), train.y)
            network = self.adapt(family, learned, train, self.inner_steps)
            return before, family.loss(network(test.x), test.y)

        before, after = (jnp.mean(losses) for losses in jax.vmap(one)(train, test))
        metrics = {"loss": after, "loss/before": before}
        if learned.rates is not None:
            rates = [jnp.mean(rate) for rate in jax.tree.leaves(learned.rates)]
            metrics["inner_rate"] = jnp.mean(jnp.stack(rates))
        return after, metrics

    def adapt(
        self,
        family: AbstractSupervisedFamily,
        initialization: Initialization,
        train: Examples,
        steps: int,
    ) -> MLP:
        """Return θ' after `steps` gradient steps on the training set of one task, all on all of it.
        The outer loss differentiates through this very method."""
        rates = initialization.rates
        if rates is None:
            rates = jax.tree.map(lambda _: self.inner_learning_rate, initialization.network)

        def loss(network: MLP) -> Float[Array, ""]:
            return family.loss(network(train.x), train.y)

        def step(network: MLP, _: None) -> tuple[MLP, None]:
            gradient = jax.grad(loss)(network)
            if self.first_order:
                gradient = lax.stop_gradient(gradient)
            return jax.tree.map(lambda p, rate, g: p - rate * g, network, rates, gradient), None

        # A loop of few steps is cheaper written out.
        unroll = steps if steps <= 5 else 1
        return lax.scan(step, initialization.network, None, steps, unroll=max(unroll, 1))[0]

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Initialization,
        train: Examples,
        steps: int | None = None,
    ) -> MLP:
        if len(train.x) == 0:
            steps = 0  # the mean over no example has no gradient
        return self.adapt(
            problem.target, learned, train, self.inner_steps if steps is None else steps
        )
