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
"""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Carry,
    Context,
    Discrete,
    Info,
    Memory,
    Obs,
    Problem,
    Space,
    UserError,
)
from .agent import PolicyAgent
from .distributions import Categorical, TanhGaussian
from .fitting import descend, require_positive
from .normalize import Normalizer
from .policy import flatten, is_image, observation_size, perceive
from .replay import Replay, Row
from .rollout import Rollout, RolloutState, begin_rollout, rollout
from .soft_networks import Critics, Networks, SoftPolicy


class SACState(eqx.Module):
    """Everything that SAC knows."""

    networks: Networks
    target: Critics
    """Slow copies of the critics, Q̄."""
    optimizer: optax.OptState
    replay: Replay
    normalizer: Normalizer
    rollout_state: RolloutState
    collected: Int[Array, ""]
    """Environment steps so far."""
    key: PRNGKeyArray


class Explorer(AbstractAgent):
    """The policy at work for the replay: uniformly random while `warming`."""

    policy: PolicyAgent
    warming: Bool[Array, ""]
    actions: Space = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return self.policy.start(context, key)

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return self.policy.begin(memory, key)

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        uniform_key, policy_key = jax.random.split(key)
        if isinstance(self.actions, Discrete):
            uniform = self.actions.sample(uniform_key)
        else:
            uniform = jax.random.uniform(uniform_key, self.actions.shape, minval=-1.0)
        chosen, carry, info = self.policy.act(memory, carry, obs, policy_key)
        return jnp.where(self.warming, uniform, chosen), carry, {"context": info["context"]}


class SAC(AbstractLearner):
    """SAC with packed lanes, one policy for all tasks; contextual where the context is revealed."""

    name: ClassVar[str] = "sac"

    num_envs: int = eqx.field(static=True, default=4)
    """Worlds played side by side; a few cost a simulator hardly more than one."""
    rollout_length: int = eqx.field(static=True, default=16)
    """Steps in each lane between two bouts of learning."""
    update_to_data: float = eqx.field(static=True, default=1.0)
    """Gradient steps for each environment step."""
    batch_size: int = eqx.field(static=True, default=256)
    """Stored steps in a gradient step."""
    capacity: int = eqx.field(static=True, default=300_000)
    """Steps in the replay, rounded up to whole updates; a checkpoint holds them all."""
    warm_up_steps: int = eqx.field(static=True, default=1_000)
    """Environment steps taken at random before learning begins."""
    learning_rate: float = 3e-4
    """Adam's step size, for policy, critics and temperature."""
    discount: float = 0.99
    """Discount factor γ."""
    target_rate: float = 0.005
    """How far the target critics move towards the critics at each gradient step."""
    initial_temperature: float = 1.0
    """First weight of the entropy, α."""
    learn_temperature: bool = eqx.field(static=True, default=True)
    """Whether α moves so that the entropy stays at its target."""
    target_entropy: float | None = None
    """In nats; if none, minus the number of action dimensions, or half of the logarithm of the
    number of discrete actions."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256, 256))
    """Hidden layers of policy and critics (ReLU)."""
    normalize_observations: bool = eqx.field(static=True, default=False)
    """Whether networks see observations by their running mean and deviation."""

    def __check_init__(self):
        require_positive(self, "num_envs", "rollout_length", "batch_size", "capacity")
        if not self.hidden:
            raise UserError("hidden must name at least one layer, such as (256, 256)")
        if self._gradient_steps < 1:
            raise UserError(
                "update_to_data × num_envs × rollout_length must make at least one gradient step,"
                f" not {self.update_to_data * self.num_envs * self.rollout_length:g}"
            )

    @property
    def _gradient_steps(self) -> int:
        return round(self.update_to_data * self.num_envs * self.rollout_length)

    def init(self, problem: Problem, key: PRNGKeyArray) -> SACState:
        policy_key, critic_key, live_key, key = jax.random.split(key, 4)
        networks = Networks(
            SoftPolicy(problem, self.hidden, key=policy_key),
            Critics(problem, self.hidden, key=critic_key),
            jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)),
        )
        normalizer = Normalizer.of(observation_size(problem.source.observation_space))
        agent = self._agent(problem, networks, normalizer)
        rollout_state = begin_rollout(agent, problem, problem.source, live_key, self.num_envs)
        chunk = self.num_envs * self.rollout_length
        return SACState(
            networks=networks,
            target=networks.critics,
            optimizer=optax.scale_by_adam().init(networks),  # pyright: ignore[reportArgumentType]
            replay=Replay.of(
                _empty_row(problem, rollout_state), -(-self.capacity // chunk) * chunk
            ),
            normalizer=normalizer,
            rollout_state=rollout_state,
            collected=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: SACState) -> tuple[SACState, Rollout]:
        key, stream_key = jax.random.split(state.key)
        agent = self.explorer(problem, state)
        rollout_state, experience = rollout(
            agent, problem, problem.source, state.rollout_state, stream_key, self.rollout_length
        )
        return eqx.tree_at(
            lambda s: (s.rollout_state, s.key), state, (rollout_state, key)
        ), experience

    def learn(
        self,
        problem: Problem,
        state: SACState,
        experience: Rollout,
        reward: Callable[[Row], Array] | None = None,
    ) -> tuple[SACState, dict[str, Array]]:
        """`reward`, if any, says what rows drawn from the replay earn, in place of what they did:
        for rewards that are themselves being learned, and would be out of date if stored."""
        key, sample_key, noise_key = jax.random.split(state.key, 3)
        space, actions = problem.source.observation_space, problem.source.action_space
        steps = experience.transitions
        chunk = Row(
            steps.obs,
            steps.info["context"],
            steps.action,
            steps.reward,
            1.0 - steps.terminated.astype(jnp.float32),
            steps.next_obs,
        )
        replay = state.replay.add(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), chunk))
        normalizer = state.normalizer
        if self.normalize_observations and not is_image(space):
            normalizer = normalizer.update(flatten(space, steps.obs))
        collected = state.collected + self.steps_per_update(problem)

        # All that the loop needs is drawn at once.
        shape = (self._gradient_steps, self.batch_size)
        batches = replay.sample(sample_key, shape)
        if reward is not None:
            batches = batches._replace(reward=reward(batches))
        batches = batches._replace(
            obs=perceive(space, normalizer, batches.obs),
            next_obs=perceive(space, normalizer, batches.next_obs),
        )
        noise = None
        if not isinstance(actions, Discrete):
            noise = jax.random.normal(noise_key, (shape[0], 2, shape[1], *actions.shape))

        def train(carry: tuple) -> tuple[tuple, dict[str, Array]]:
            carry, metrics = lax.scan(self._step(actions), carry, (batches, noise))
            return carry, jax.tree.map(jnp.mean, metrics)

        def wait(carry: tuple) -> tuple[tuple, dict[str, Array]]:
            shapes = jax.eval_shape(train, carry)[1]
            return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        (networks, target, optimizer_state), metrics = lax.cond(
            collected >= self.warm_up_steps,
            train,
            wait,
            (state.networks, state.target, state.optimizer),
        )
        state = SACState(
            networks=networks,
            target=target,
            optimizer=optimizer_state,
            replay=replay,
            normalizer=normalizer,
            rollout_state=state.rollout_state,
            collected=collected,
            key=key,
        )
        return state, {"return": experience.mean_return(), **metrics}

    def _step(self, actions: Space):
        """One gradient step, as a function to scan."""
        target_entropy = self.target_entropy
        if target_entropy is None:
            discrete = isinstance(actions, Discrete)
            target_entropy = 0.5 * math.log(actions.n) if discrete else -float(actions.size)
        losses = discrete_losses if isinstance(actions, Discrete) else continuous_losses

        def step(carry: tuple, drawn: tuple):
            networks, target, optimizer_state = carry
            batch, noise = drawn
            gradient, metrics = jax.grad(losses, has_aux=True)(
                networks, target, batch, noise, self.discount, target_entropy
            )
            if not self.learn_temperature:
                gradient = eqx.tree_at(lambda g: g.log_temperature, gradient, jnp.zeros(()))
            networks, optimizer_state = descend(
                optax.scale_by_adam(), gradient, optimizer_state, networks, self.learning_rate
            )
            target = jax.tree.map(
                lambda slow, now: slow + self.target_rate * (now - slow), target, networks.critics
            )
            return (networks, target, optimizer_state), metrics

        return step

    def agent(self, problem: Problem, state: SACState) -> PolicyAgent:
        return self._agent(problem, state.networks, state.normalizer)

    def explorer(self, problem: Problem, state: SACState) -> Explorer:
        """The policy, or any action, each as likely, while warming up."""
        return Explorer(
            policy=self.agent(problem, state),
            warming=state.collected < self.warm_up_steps,
            actions=problem.source.action_space,
        )

    def _agent(self, problem: Problem, networks: Networks, normalizer: Normalizer) -> PolicyAgent:
        return PolicyAgent(
            policy=networks.policy,
            normalizer=normalizer,
            space=problem.source.observation_space,
        )

    def steps_per_update(self, problem: Problem) -> int:
        return self.num_envs * self.rollout_length


def continuous_losses(
    networks: Networks,
    target: Critics,
    batch: Row,
    noise: Float[Array, "2 batch actions"],
    discount: float | Array,
    target_entropy: float | Array,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """J_Q + J_π + J_α: each moves only its own part of `networks`. Observations in `batch` are as
    the networks see them."""
    temperature = jnp.exp(lax.stop_gradient(networks.log_temperature))
    after = lax.stop_gradient(networks.policy)(batch.next_obs, batch.context)
    now = networks.policy(batch.obs, batch.context)
    assert isinstance(after, TanhGaussian) and isinstance(now, TanhGaussian)
    next_action, next_log_prob = after.from_noise(noise[0])
    next_q = jnp.min(target(batch.next_obs, batch.context, next_action)[..., 0], axis=0)
    goal = batch.reward + discount * batch.carries_on * (next_q - temperature * next_log_prob)

    action, log_prob = now.from_noise(noise[1])
    q = networks.critics(batch.obs, batch.context, batch.action, action)[..., 0]
    q_taken, q_policy = jnp.split(q, 2, axis=1)
    critic = 0.5 * jnp.sum(jnp.mean((q_taken - goal) ** 2, axis=1))
    policy = jnp.mean(temperature * log_prob - jnp.minimum(q_policy[0], q_policy[1]))
    entropy = -lax.stop_gradient(jnp.mean(log_prob))
    return _total(networks, critic, policy, entropy, target_entropy, q_taken)


def discrete_losses(
    networks: Networks,
    target: Critics,
    batch: Row,
    noise: None,
    discount: float | Array,
    target_entropy: float | Array,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The same with sums over the actions in place of samples (1910.07207, eq. 10 to 12)."""
    temperature = jnp.exp(lax.stop_gradient(networks.log_temperature))
    after = lax.stop_gradient(networks.policy)(batch.next_obs, batch.context)
    now = networks.policy(batch.obs, batch.context)
    assert isinstance(after, Categorical) and isinstance(now, Categorical)
    next_log_p = jax.nn.log_softmax(after.logits)
    next_q = jnp.min(target(batch.next_obs, batch.context), axis=0)
    next_value = jnp.sum(jnp.exp(next_log_p) * (next_q - temperature * next_log_p), axis=-1)
    goal = batch.reward + discount * batch.carries_on * next_value

    q = networks.critics(batch.obs, batch.context)
    chosen = jax.nn.one_hot(batch.action, q.shape[-1])
    q_taken = jnp.sum(q * chosen, axis=-1)
    critic = 0.5 * jnp.sum(jnp.mean((q_taken - goal) ** 2, axis=1))
    log_p = jax.nn.log_softmax(now.logits)
    worth = lax.stop_gradient(jnp.min(q, axis=0))
    policy = jnp.mean(jnp.sum(jnp.exp(log_p) * (temperature * log_p - worth), axis=-1))
    entropy = -lax.stop_gradient(jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1)))
    return _total(networks, critic, policy, entropy, target_entropy, q_taken)


def _total(
    networks: Networks,
    critic: Array,
    policy: Array,
    entropy: Array,
    target_entropy: float | Array,
    q: Array,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """J_Q + J_π + J_α, with J_α = log α (H − H̄), and what to report."""
    total = critic + policy + networks.log_temperature * (entropy - target_entropy)
    return total, {
        "loss/value": critic,
        "loss/policy": policy,
        "entropy": entropy,
        "temperature": jnp.exp(networks.log_temperature),
        "value": jnp.mean(q),
    }


def _empty_row(problem: Problem, rollout_state: RolloutState) -> Row:
    """One row of zeros."""
    obs, context = jax.tree.map(
        lambda x: jnp.zeros(x.shape[1:], x.dtype), (rollout_state.obs, rollout_state.context)
    )
    space = problem.source.action_space
    action = jnp.zeros(space.shape, jnp.int32 if isinstance(space, Discrete) else jnp.float32)
    return Row(obs, context, action, jnp.zeros(()), jnp.zeros(()), obs)
