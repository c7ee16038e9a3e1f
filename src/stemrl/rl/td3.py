"""Twin delayed deep deterministic policy gradients, TD3 (Fujimoto et al. 2018, 1802.09477).

The problem: a deterministic policy μ(s) that climbs its critic's gradient finds the critic's
mistakes, and the critic learns from what it finds. The idea, three remedies: of two critics' slow
copies the smaller is believed; the target's action is blurred, so that a narrow peak of the critic
is worth little; policy and slow copies move only once in `policy_delay` steps, when the critics have
had time to settle (algorithm 1):

    ã   = clip(μ̄(s′) + clip(ε, −c, c), −1, 1),   ε ~ N(0, σ̃²)
    y   = r + γ minⱼ Q̄ⱼ(s′, ã)
    J_Q = Σᵢ ½ E[(Qᵢ(s, a) − y)²],   J_μ = −E[Q₁(s, μ(s))]

It explores with Gaussian noise on its action.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Box,
    Carry,
    Context,
    Info,
    Memory,
    Obs,
    Problem,
    Space,
    State,
    UserError,
)
from .distributions import outputs_for, refuse_several_choices
from .fitting import descend, require_positive
from .normalize import Normalizer
from .off_policy import AbstractOffPolicy, OffPolicyState, ValueRange, moved
from .policy import Network, perceive
from .replay import Row
from .soft_networks import Critics
from .tuning import Tune, require_only_the_head_is_new, require_tune, tuned


class DeterministicPolicy(eqx.Module):
    """A policy μ(s) = tanh(network(s)), whose actions are in (−1, 1)."""

    network: Network

    def __call__(self, inputs: Array, context: Context = None) -> Float[Array, "... actions"]:
        """Return the action."""
        return jnp.tanh(self.network(inputs, context))


class TD3Learned(eqx.Module):
    """The networks, their slow copies, and the states of the optimizers that move them."""

    policy: DeterministicPolicy
    critics: Critics
    slow_policy: DeterministicPolicy
    """μ̄."""
    slow_critics: Critics
    """Q̄."""
    policy_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    steps: Int[Array, ""]
    """Gradient steps so far."""


class TD3(AbstractOffPolicy):
    """TD3 with packed lanes and one policy for all tasks. It is for continuous actions only."""

    name: ClassVar[str] = "td3"

    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions while collecting; an action's range is [−1, 1]."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's actions, σ̃."""
    target_noise_clip: float = 0.5
    """What that noise is clipped to, c."""
    policy_delay: int = eqx.field(static=True, default=2)
    """Gradient steps of the critics for each of the policy."""
    action_penalty: float = 0.0
    """Weight of the mean square of its actions in the policy's loss, which keeps them from the ends of
    their range."""
    tune: Tune = eqx.field(static=True, default="all")
    """What learns: all, the head (each network's last layer) alone, or gradual, the
    head at first and one more layer below it every `updates_per_layer` updates; after --start."""
    updates_per_layer: int = eqx.field(static=True, default=20)
    """With gradual tuning: updates that learn until the next layer learns too."""

    def __check_init__(self):
        require_positive(self, "policy_delay")
        require_tune(self.tune, self.updates_per_layer)

    def inherit(
        self, problem: Problem, state: OffPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OffPolicyState, list[str]]:
        state, left = super().inherit(problem, state, donor, found)
        require_only_the_head_is_new(state.learned.policy, left, self.tune, "policy")
        require_only_the_head_is_new(state.learned.critics, left, self.tune, "critics")
        return state, left

    def begin(
        self, observations: Space, actions: Space, context_size: int, key: PRNGKeyArray
    ) -> TD3Learned:
        if not isinstance(actions, Box):
            refuse_several_choices(f"'{self.name}'", actions)
            raise UserError(
                f"'{self.name}' learns continuous actions, and these are discrete;"
                " 'sac' and 'dqn' learn them"
            )
        policy_key, critic_key = jax.random.split(key)
        policy = DeterministicPolicy(
            Network(
                observations,
                context_size,
                outputs_for(actions),
                self.hidden,
                "relu",
                final_scale=0.01,
                key=policy_key,
            )
        )
        critics = Critics(observations, actions, context_size, self.hidden, key=critic_key)
        return TD3Learned(
            policy=policy,
            critics=critics,
            slow_policy=policy,
            slow_critics=critics,
            policy_optimizer=optax.scale_by_adam().init(policy),  # pyright: ignore
            critic_optimizer=optax.scale_by_adam().init(critics),  # pyright: ignore
            steps=jnp.zeros((), jnp.int32),
        )

    def fit(
        self,
        learned: TD3Learned,
        batches: Row,
        key: PRNGKeyArray,
        value_range: ValueRange | None = None,
    ) -> tuple[TD3Learned, dict[str, Array]]:
        noise = jax.random.normal(key, batches.action.shape)

        def step(learned: TD3Learned, drawn: tuple[Row, Array]):
            batch, noise = drawn
            unfrozen = learned.steps // (self._gradient_steps * self.updates_per_layer)
            target = self.targets(learned, batch, noise, value_range)
            (loss, value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(
                learned.critics, batch, target
            )
            critics, critic_optimizer = descend(
                optax.scale_by_adam(),
                gradient,
                learned.critic_optimizer,
                learned.critics,
                self.learning_rate,
                tuned(learned.critics, self.tune, unfrozen),
            )
            steps = learned.steps + 1
            learned = eqx.tree_at(
                lambda x: (x.critics, x.critic_optimizer, x.steps),
                learned,
                (critics, critic_optimizer, steps),
            )

            def improve(learned: TD3Learned) -> TD3Learned:
                gradient = jax.grad(policy_loss)(
                    learned.policy, learned.critics, batch, self.action_penalty
                )
                policy, policy_optimizer = descend(
                    optax.scale_by_adam(),
                    gradient,
                    learned.policy_optimizer,
                    learned.policy,
                    self.learning_rate,
                    tuned(learned.policy, self.tune, unfrozen),
                )
                return TD3Learned(
                    policy=policy,
                    critics=learned.critics,
                    slow_policy=moved(learned.slow_policy, policy, self.target_rate),
                    slow_critics=moved(learned.slow_critics, learned.critics, self.target_rate),
                    policy_optimizer=policy_optimizer,
                    critic_optimizer=learned.critic_optimizer,
                    steps=learned.steps,
                )

            learned = lax.cond(steps % self.policy_delay == 0, improve, lambda x: x, learned)
            return learned, {"loss/value": loss, "value": value}

        learned, metrics = lax.scan(step, learned, (batches, noise))
        return learned, jax.tree.map(jnp.mean, metrics)

    def targets(
        self,
        learned: TD3Learned,
        batch: Row,
        noise: Float[Array, "batch actions"],
        value_range: ValueRange | None,
    ) -> Float[Array, " batch"]:
        """Return the target y of each row of a batch, with standard normal noise that was drawn
        before."""
        blur = jnp.clip(self.target_noise * noise, -self.target_noise_clip, self.target_noise_clip)
        action = jnp.clip(learned.slow_policy(batch.next_obs, batch.context) + blur, -1.0, 1.0)
        next_q = jnp.min(learned.slow_critics(batch.next_obs, batch.context, action)[..., 0], 0)
        target = batch.reward + self.discount * batch.carries_on * next_q
        return target if value_range is None else jnp.clip(target, *value_range)

    def policy(
        self,
        learned: TD3Learned,
        observations: Space,
        normalizer: Normalizer | None,
        exploring: bool = False,
    ) -> "DeterministicAgent":
        noise = jnp.asarray(self.exploration_noise if exploring else 0.0, jnp.float32)
        return DeterministicAgent(
            policy=learned.policy, noise=noise, normalizer=normalizer, space=observations
        )


def critic_loss(
    critics: Critics, batch: Row, target: Float[Array, " batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return J_Q, and the mean value. A context that is learned learns from this alone."""
    q = critics(batch.obs, batch.context, batch.action)[..., 0]
    error = q - lax.stop_gradient(target)
    return 0.5 * jnp.sum(jnp.mean(error**2, axis=1)), jnp.mean(q)


def policy_loss(
    policy: DeterministicPolicy, critics: Critics, batch: Row, action_penalty: float | Array = 0.0
) -> Float[Array, ""]:
    """Return J_μ, with the penalty on actions."""
    context = lax.stop_gradient(batch.context)
    action = policy(batch.obs, context)
    value = jnp.mean(critics(batch.obs, context, action)[0, :, 0])
    return action_penalty * jnp.mean(action**2) - value


class DeterministicAgent(AbstractAgent):
    """Takes μ(s), with Gaussian noise of deviation `noise` unless it is greedy.

    The memory is the context (or `None`), the carry `()`.
    """

    policy: DeterministicPolicy
    noise: Float[Array, ""]
    normalizer: Normalizer | None
    space: Space = eqx.field(static=True)
    """The observation space."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        action = self.policy(perceive(self.space, self.normalizer, obs), memory)
        if not self.greedy:
            noise = self.noise * jax.random.normal(key, action.shape)
            action = jnp.clip(action + noise, -1.0, 1.0)
        return action, carry, {}
