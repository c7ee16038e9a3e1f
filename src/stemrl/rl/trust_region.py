"""Trust region policy optimization as a learner of its own (Schulman et al. 2015, 1502.05477).

The problem: a policy gradient says which way to go and not how far, and a step too far on a policy is
not undone by more data, since the data come from it. The idea: bound the step by how far the *policy*
moves. With ρ = π(a|s) / π_old(a|s) and advantages A by GAE (1506.02438),

    max_θ  E[ρ A]     subject to  E[KL(π_old(·|s) ‖ π(·|s))] ≤ δ,

by one natural gradient step of the length that δ allows, and a line search on the true surrogate and
divergence (`trpo.py`). The value is fitted to the same rows by Adam, as in PPO.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, Problem, State, UserError
from .fitting import annealed, fit, require_positive, weighted_mean
from .on_policy import AbstractOnPolicy, ActorCritic, OnPolicyState, Rows, value_loss
from .trpo import FisherMatrix, mean_kl, trust_region_update
from .tuning import Tune, require_only_the_head_is_new, require_tune, tuned


class TRPO(AbstractOnPolicy):
    """TRPO with packed lanes. It has one policy for all tasks, which sees the context if that is
    revealed."""

    name: ClassVar[str] = "trpo"

    max_kl: float = 0.01
    """Bound δ on how far the policy moves in an update (nats)."""
    damping: float = 0.01
    """Added to the diagonal of the Fisher matrix before it is inverted."""
    cg_iterations: int = eqx.field(static=True, default=10)
    """Iterations of conjugate gradient."""
    backtracks: int = eqx.field(static=True, default=10)
    """Times that the line search may shorten a step before the policy stays as it is."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns: all, the head (each network's last layer, and the deviation) alone, or gradual, the
    head at first and one more layer below it every `updates_per_layer` updates; after --start."""
    updates_per_layer: int = eqx.field(static=True, default=20)
    """With gradual tuning: updates until the next layer learns too."""

    def __check_init__(self):
        require_positive(self, "cg_iterations")
        require_tune(self.tune, self.updates_per_layer)
        if self.backtracks < 0:
            raise UserError(f"backtracks must be at least 0, not {self.backtracks}")

    @property
    def learns_until(self) -> int | None:
        """`None`: only the value's step size falls to zero, the policy goes on moving by δ."""
        return None

    def inherit(
        self, problem: Problem, state: OnPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OnPolicyState, list[str]]:
        state, left = super().inherit(problem, state, donor, found)
        require_only_the_head_is_new(state.networks, left, self.tune)
        return state, left

    def loss(
        self, networks: ActorCritic, rows: Rows
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the value's loss; the policy is not moved by gradient steps."""
        value = value_loss(networks.values(rows.inputs, rows.context), rows.target, rows.weight)
        return value, {"loss/value": value}

    def improve(
        self,
        loss: Callable[[Any, Any], tuple[Array, dict[str, Array]]],
        parameters: Any,
        optimizer_state: optax.OptState,
        rows: Any,
        updates: Int[Array, ""],
        key: PRNGKeyArray,
        *,
        factors: PyTree[Array] | None = None,
    ) -> tuple[Any, optax.OptState, dict[str, Array]]:
        """Take one trust region step of the policy on all rows, then epochs of gradient steps on
        `loss`. Return parameters, optimizer and metrics."""
        if factors is None and isinstance(parameters, ActorCritic):
            factors = tuned(parameters, self.tune, updates // self.updates_per_layer)
        free = None if factors is None else factors.policy
        policy, told = self.policy_step(parameters, rows, free)
        parameters, optimizer_state, metrics = fit(
            loss,
            eqx.tree_at(lambda networks: networks.policy, parameters, policy),
            optimizer_state,
            rows,
            key,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=annealed(self.learning_rate, self.anneal_updates, updates),
            max_gradient_norm=self.max_gradient_norm,
            factors=factors,
        )
        return parameters, optimizer_state, {**metrics, **told}

    def policy_step(
        self, networks: ActorCritic, rows: Rows, free: PyTree[Array] | None = None
    ) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """Return the policy after a natural gradient step within the trust region, and what the
        step did. `free` is 1 for each leaf of the policy that may move and 0 for the others; by
        default all may."""
        flat, unravel = ravel_pytree(networks.policy)
        moves: Any = 1.0
        if free is not None:
            moves = jax.tree.map(lambda x, f: jnp.broadcast_to(f, x.shape), networks.policy, free)
            moves = ravel_pytree(moves)[0]
        weight = rows.policy_weight / jnp.maximum(jnp.sum(rows.policy_weight), 1e-8)

        def distribution(flat: Array) -> Any:
            return unravel(flat)(rows.inputs, rows.context)

        old = distribution(flat)

        def surrogate(distribution: Any) -> Float[Array, ""]:
            # Padding may hold any action: its ratio must not overflow before it is weighted by 0.
            log_ratio = distribution.log_prob(rows.action) - rows.log_prob
            ratio = jnp.exp(jnp.where(weight > 0, log_ratio, 0.0))
            return jnp.sum(weight * ratio * rows.advantage)

        def evaluate(flat: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
            new = distribution(flat)
            return surrogate(new), mean_kl(old, new, weight)

        value, gradient = jax.value_and_grad(lambda flat: surrogate(distribution(flat)))(flat)
        fisher = FisherMatrix.of(distribution, flat, weight)
        flat, step = trust_region_update(
            flat,
            moves * gradient,
            # Of what may move alone: the natural gradient of that part.
            lambda v: moves * (fisher @ (moves * v)),
            evaluate,
            surrogate=value,
            max_kl=self.max_kl,
            damping=self.damping,
            iterations=self.cg_iterations,
            backtracks=self.backtracks,
        )
        return unravel(flat), {
            "improvement": step.improvement,
            "kl": step.kl,
            "backtracks": step.backtracks,
            "accepted": step.accepted,
            "entropy": weighted_mean(old.entropy(), rows.policy_weight),
        }
