"""Proximal policy optimization (Schulman et al. 2017, 1707.06347), and its pieces.

The problem: a policy gradient is only true where its data was drawn, so a batch is good for one
small step. The idea: take many steps on the same batch, but stop paying for a probability ratio
that has already moved by ε. With ρ = π(a|s) / π_old(a|s) and advantages A by GAE, minimize

    −E[min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)] + c₁ ½ E[(V(s) − V̂)²] − c₂ E[H(π(·|s))]

over a few epochs of minibatches. The pieces (`clipped_policy_loss`, `value_loss` of `on_policy.py`,
and `fit` of `fitting.py`) serve every method that has a batch of rows: steps here and in fine-tuning,
whole trials in RL².
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, Problem, State
from .fitting import annealed, fit, weighted_mean
from .multi_task import surgical_gradient, tasks_of
from .on_policy import AbstractOnPolicy, ActorCritic, OnPolicyState, Rows, value_loss
from .tuning import Tune, require_only_the_head_is_new, require_tune, tuned


def clipped_policy_loss(
    log_prob: Float[Array, "..."],
    old_log_prob: Float[Array, "..."],
    advantage: Float[Array, "..."],
    weight: Float[Array, "..."],
    clip: float | Array,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return −E[min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)] (eq. 7), and how far the policy has moved, as
    metrics.

    `kl` is the estimate E[ρ − 1 − log ρ] of KL(old ‖ new), which is never negative and has a low
    variance.
    """
    # Padding may hold any action: its ratio must not overflow before it is weighted by 0.
    log_ratio = jnp.where(weight > 0, log_prob - old_log_prob, 0.0)
    ratio = jnp.exp(log_ratio)
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    moved = {
        "kl": weighted_mean(ratio - 1.0 - log_ratio, weight),
        "clip_fraction": weighted_mean((jnp.abs(ratio - 1.0) > clip).astype(ratio.dtype), weight),
    }
    return -weighted_mean(surrogate, weight), moved


def ppo_loss(
    networks: ActorCritic,
    rows: Rows,
    clip: float | Array,
    value_weight: float | Array,
    entropy_weight: float | Array,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return the whole objective (eq. 9, negated) on some rows, and its parts."""
    distribution = networks.policy(rows.inputs, rows.context)
    policy, moved = clipped_policy_loss(
        distribution.log_prob(rows.action), rows.log_prob, rows.advantage, rows.policy_weight, clip
    )
    value = value_loss(networks.values(rows.inputs, rows.context), rows.target, rows.weight)
    entropy = weighted_mean(distribution.entropy(), rows.policy_weight)
    loss = policy + value_weight * value - entropy_weight * entropy
    return loss, {"loss/policy": policy, "loss/value": value, "entropy": entropy, **moved}


PPOState = OnPolicyState
"""Everything that PPO knows."""


class PPO(AbstractOnPolicy):
    """PPO with packed lanes. It has one policy for all tasks, which sees the context if that is
    revealed."""

    name: ClassVar[str] = "ppo"

    clip: float = 0.2
    """How far a probability ratio may move before it stops counting, ε."""
    value_weight: float = 0.5
    """Weight of the value's loss, c₁."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus, c₂."""
    target_kl: float | None = None
    """Stop an update's epochs beyond 1.5 times this KL divergence (nats); never if none."""
    gradient_surgery: bool = eqx.field(static=True, default=False)
    """Whether each task's gradient is projected away from those that it conflicts with (PCGrad); for
    families of a few tasks, with the context revealed."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns: all, the head (each network's last layer, and the deviation) alone, or gradual, the
    head at first and one more layer below it every `updates_per_layer` updates; after --start."""
    updates_per_layer: int = eqx.field(static=True, default=20)
    """With gradual tuning: updates until the next layer learns too."""

    def __check_init__(self):
        require_tune(self.tune, self.updates_per_layer)

    def inherit(
        self, problem: Problem, state: PPOState, donor: AbstractLearner, found: State
    ) -> tuple[PPOState, list[str]]:
        state, left = super().inherit(problem, state, donor, found)
        require_only_the_head_is_new(state.networks, left, self.tune)
        return state, left

    def init(self, problem: Problem, key: PRNGKeyArray) -> OnPolicyState:
        if self.gradient_surgery:
            tasks_of(problem, "gradient_surgery")
        return super().init(problem, key)

    def loss(
        self, networks: ActorCritic, rows: Rows
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the whole objective on some rows, and its parts."""
        return ppo_loss(networks, rows, self.clip, self.value_weight, self.entropy_weight)

    def improve(
        self,
        loss: Callable[[Any, Any], tuple[Array, dict[str, Array]]],
        parameters: PyTree[Array],
        optimizer_state: optax.OptState,
        rows: PyTree[Array],
        updates: Int[Array, ""],
        key: PRNGKeyArray,
        *,
        factors: PyTree[Array] | None = None,
    ) -> tuple[Any, optax.OptState, dict[str, Array]]:
        """Return what `fit` makes of `loss` by these settings, after `updates` updates."""
        if factors is None and isinstance(parameters, ActorCritic):
            factors = tuned(parameters, self.tune, updates // self.updates_per_layer)
        return fit(
            loss,
            parameters,
            optimizer_state,
            rows,
            key,
            epochs=self.epochs,
            minibatches=self.minibatches,
            learning_rate=annealed(self.learning_rate, self.anneal_updates, updates),
            max_gradient_norm=self.max_gradient_norm,
            target_kl=self.target_kl,
            gradient=surgical_gradient
            if self.gradient_surgery and isinstance(rows, Rows)
            else None,
            factors=factors,
        )
