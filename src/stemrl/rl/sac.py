"""Soft actor-critic (Haarnoja et al. 2018, 1812.05905), for continuous and discrete actions.

The problem: learn from old experience, and keep exploring. The idea: maximize E[Σ γᵗ (rₜ + α H)],
reward plus entropy, off-policy. Two critics learn the soft Bellman target with the smaller of
their slow copies, the policy follows the smaller of the two, and the temperature α is moved so
that the entropy stays at a target:

    J_Q = Σᵢ ½ E[(Qᵢ(s, a) − r − γ (minⱼ Q̄ⱼ(s′, a′) − α log π(a′|s′)))²],   a′ ~ π(·|s′)     (5)
    J_π = E[α log π(a|s) − minᵢ Qᵢ(s, a)],                                  a ~ π(·|s)       (7)
    J_α = E[−log α (log π(a|s) + H̄)]                                                        (18)

With discrete actions the expectations over actions are sums (Christodoulou 2019, 1910.07207).
All three gradients are taken at the same parameters, so that one pass through the critics serves
both Q(s, a) of the replay and Q(s, a) of the policy, and one through Adam moves everything.

Where the context is itself learned (PEARL's latent), J_Q alone teaches it.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractLearner, Discrete, Problem, Space, State
from .agent import PolicyAgent
from .distributions import Categorical, TanhGaussian
from .fitting import gradient_steps
from .multi_task import surgery, tasks_of
from .normalize import Normalizer
from .off_policy import AbstractOffPolicy, OffPolicyState, ValueRange, moved
from .replay import Row
from .soft_networks import Critics, Networks, SoftPolicy
from .tuning import Tune, require_only_the_head_is_new, require_tune, tuned

SACState = OffPolicyState
"""Everything that SAC knows; its `learned` is a `SACLearned`."""


class SACLearned(eqx.Module):
    """The networks, and the state of the optimizer that moves them."""

    networks: Networks
    target: Critics
    """Slow copies of the critics, Q̄."""
    optimizer: optax.OptState


class SAC(AbstractOffPolicy):
    """SAC with packed lanes. It has one policy for all tasks, which sees the context if that is
    revealed."""

    name: ClassVar[str] = "sac"

    initial_temperature: float = 1.0
    """First weight of the entropy, α."""
    learn_temperature: bool = eqx.field(static=True, default=True)
    """Whether α moves so that the entropy stays at its target."""
    heads: bool = eqx.field(static=True, default=False)
    """Whether each task has a head of its own on layers that all share; for families of a few tasks,
    with the context revealed."""
    gradient_surgery: bool = eqx.field(static=True, default=False)
    """Whether each task's gradient is projected away from those that it conflicts with (PCGrad), the
    policy's and the critics' each for themselves; for families of a few tasks, with the context revealed."""
    target_entropy: float | None = None
    """In nats; if none, minus the number of action dimensions, or half of the logarithm of the
    number of discrete actions."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns: all, the head (each network's last layer, and the temperature) alone, or gradual, the
    head at first and one more layer below it every `updates_per_layer` updates; after --start."""
    updates_per_layer: int = eqx.field(static=True, default=20)
    """With gradual tuning: updates that learn until the next layer learns too."""

    def __check_init__(self):
        require_tune(self.tune, self.updates_per_layer)

    def inherit(
        self, problem: Problem, state: SACState, donor: AbstractLearner, found: State
    ) -> tuple[SACState, list[str]]:
        state, left = super().inherit(problem, state, donor, found)
        require_only_the_head_is_new(state.learned.networks, left, self.tune)
        return state, left

    def init(self, problem: Problem, key: PRNGKeyArray) -> OffPolicyState:
        for setting in ("heads", "gradient_surgery"):
            if getattr(self, setting):
                tasks_of(problem, setting)
        return super().init(problem, key)

    def begin(
        self, observations: Space, actions: Space, context_size: int, key: PRNGKeyArray
    ) -> SACLearned:
        policy_key, critic_key = jax.random.split(key)
        sizes = (observations, actions, context_size, self.hidden)
        tasks = context_size if self.heads else 0
        networks = Networks(
            SoftPolicy(*sizes, tasks=tasks, key=policy_key),
            Critics(*sizes, tasks=tasks, key=critic_key),
            jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)),
        )
        state = optax.scale_by_adam().init(networks)  # pyright: ignore[reportArgumentType]
        return SACLearned(networks, networks.critics, state)

    def fit(
        self,
        learned: SACLearned,
        batches: Row,
        key: PRNGKeyArray,
        value_range: ValueRange | None = None,
    ) -> tuple[SACLearned, dict[str, Array]]:
        noise = self.noise(learned.networks, batches.action, key)
        steps = optax.tree_utils.tree_get(learned.optimizer, "count")
        unfrozen = steps // (self._gradient_steps * self.updates_per_layer)

        descent = gradient_steps(
            lambda networks, slow, drawn: self.gradient(networks, slow, *drawn),
            learned.networks,
            learned.optimizer,
            (batches, noise),
            learning_rate=self.learning_rate,
            slow=learned.target,
            after=lambda networks, slow: moved(slow, networks.critics, self.target_rate),
            factors=tuned(learned.networks, self.tune, unfrozen),
        )
        learned = SACLearned(descent.parameters, descent.slow, descent.optimizer_state)
        return learned, jax.tree.map(jnp.mean, descent.metrics)

    def noise(self, networks: Networks, action: Array, key: PRNGKeyArray) -> Array | None:
        """Draw what `loss` needs for batches of actions `[…, batch, actions]`: standard normal
        noise `[…, 2, batch, actions]`; `None` for discrete actions."""
        if isinstance(networks.policy.actions, Discrete):
            return None
        *leading, batch, size = action.shape
        return jax.random.normal(key, (*leading, 2, batch, size))

    def gradient(
        self, networks: Networks, target: Critics, batch: Row, noise: Array | None
    ) -> tuple[Networks, dict[str, Array]]:
        """Return the gradient that is descended for one batch, and the metrics."""
        take = jax.grad(self.loss, has_aux=True)
        if not self.gradient_surgery:
            return take(networks, target, batch, noise)

        def of_task(task: Array) -> tuple[Networks, dict[str, Array], Array]:
            mine = batch.context @ task
            gradient, metrics = take(networks, target, batch, noise, mine)
            return gradient, metrics, jnp.sum(mine) > 0

        parts = SoftPolicy, Critics
        return surgery(of_task, batch.context.shape[-1], lambda part: isinstance(part, parts))

    def loss(
        self,
        networks: Networks,
        target: Critics,
        batch: Row,
        noise: Array | None,
        weight: Float[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return J_Q + J_π + J_α of one batch, and the metrics. Each term moves only its own part
        of `networks`, and only J_Q moves a context that is learned. `weight` says how much each row
        counts."""
        actions = networks.policy.actions
        discrete = isinstance(actions, Discrete)
        entropy = self.target_entropy
        if entropy is None:
            entropy = 0.5 * math.log(actions.n) if discrete else -float(actions.size)
        if not self.learn_temperature:
            networks = eqx.tree_at(
                lambda n: n.log_temperature, networks, replace_fn=lax.stop_gradient
            )
        losses = discrete_losses if discrete else continuous_losses
        return losses(networks, target, batch, noise, self.discount, entropy, weight)  # pyright: ignore

    def policy(
        self,
        learned: SACLearned,
        observations: Space,
        normalizer: Normalizer | None,
        exploring: bool = False,
    ) -> PolicyAgent:
        return PolicyAgent(
            policy=learned.networks.policy, normalizer=normalizer, space=observations
        )


def continuous_losses(
    networks: Networks,
    target: Critics,
    batch: Row,
    noise: Float[Array, "2 batch actions"],
    discount: float | Array,
    target_entropy: float | Array,
    weight: Float[Array, " batch"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return J_Q + J_π + J_α: each moves only its own part of `networks`, and only J_Q the context.
    Observations in `batch` are as the networks see them; its rows count by `weight`, if any."""
    temperature = jnp.exp(lax.stop_gradient(networks.log_temperature))
    context = lax.stop_gradient(batch.context)
    after = lax.stop_gradient(networks.policy)(batch.next_obs, context)
    now = networks.policy(batch.obs, context)
    assert isinstance(after, TanhGaussian) and isinstance(now, TanhGaussian)
    next_action, next_log_prob = after.from_noise(noise[0])
    next_q = jnp.min(target(batch.next_obs, context, next_action)[..., 0], axis=0)
    goal = batch.reward + discount * batch.carries_on * (next_q - temperature * next_log_prob)

    action, log_prob = now.from_noise(noise[1])
    # Q of the second action teaches the context as little as it teaches the critics.
    q = networks.critics(batch.obs, batch.context, batch.action, action)[..., 0]
    q_taken, q_policy = jnp.split(q, 2, axis=1)
    critic = 0.5 * jnp.sum(_mean((q_taken - goal) ** 2, weight))
    policy = _mean(temperature * log_prob - jnp.minimum(q_policy[0], q_policy[1]), weight)
    entropy = -lax.stop_gradient(_mean(log_prob, weight))
    return _total(networks, critic, policy, entropy, target_entropy, _mean(q_taken, weight))


def discrete_losses(
    networks: Networks,
    target: Critics,
    batch: Row,
    noise: None,
    discount: float | Array,
    target_entropy: float | Array,
    weight: Float[Array, " batch"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return `continuous_losses` with sums over the actions in place of samples (1910.07207, eq. 10
    to 12)."""
    temperature = jnp.exp(lax.stop_gradient(networks.log_temperature))
    context = lax.stop_gradient(batch.context)
    after = lax.stop_gradient(networks.policy)(batch.next_obs, context)
    now = networks.policy(batch.obs, context)
    assert isinstance(after, Categorical) and isinstance(now, Categorical)
    next_log_p = jax.nn.log_softmax(after.logits)
    next_q = jnp.min(target(batch.next_obs, context), axis=0)
    next_value = jnp.sum(jnp.exp(next_log_p) * (next_q - temperature * next_log_p), axis=-1)
    goal = batch.reward + discount * batch.carries_on * next_value

    q = networks.critics(batch.obs, batch.context)
    chosen = jax.nn.one_hot(batch.action, q.shape[-1])
    q_taken = jnp.sum(q * chosen, axis=-1)
    critic = 0.5 * jnp.sum(_mean((q_taken - goal) ** 2, weight))
    log_p = jax.nn.log_softmax(now.logits)
    worth = lax.stop_gradient(jnp.min(q, axis=0))
    policy = _mean(jnp.sum(jnp.exp(log_p) * (temperature * log_p - worth), axis=-1), weight)
    entropy = -lax.stop_gradient(_mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1), weight))
    return _total(networks, critic, policy, entropy, target_entropy, _mean(q_taken, weight))


def _mean(x: Float[Array, "... batch"], weight: Float[Array, " batch"] | None) -> Array:
    """Over the rows of a batch, by their weights if there are any."""
    if weight is None:
        return jnp.mean(x, axis=-1)
    return jnp.sum(x * weight, axis=-1) / jnp.maximum(jnp.sum(weight), 1.0)


def _total(
    networks: Networks,
    critic: Array,
    policy: Array,
    entropy: Array,
    target_entropy: float | Array,
    value: Array,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """J_Q + J_π + J_α, with J_α = log α (H − H̄), and what to report."""
    total = critic + policy + networks.log_temperature * (entropy - target_entropy)
    return total, {
        "loss/value": critic,
        "loss/policy": policy,
        "entropy": entropy,
        "temperature": jnp.exp(networks.log_temperature),
        "value": jnp.mean(value),
    }
