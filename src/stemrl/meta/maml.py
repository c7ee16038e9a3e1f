"""Model-agnostic meta-learning for reinforcement learning (Finn et al. 1703.03400, Algorithm 3).

The problem: from a few episodes of an unknown task, become good at it. The idea: let adaptation be
ordinary policy gradient, and learn the parameters θ from which it works best. For tasks i, with
θᵢ' = θ + α ∇J(θ; episodes of θ) by one or more inner steps, maximize the return *after* adaptation,

    max_θ  mean_i  E_{τ ~ π(θᵢ')} [R_i(τ)],

by differentiating through the inner steps (exactly, second derivatives included; `first_order`
leaves those out). The inner step is the agent's own `adapt` (see `maml_agent`); the outer step is
TRPO on the importance-weighted advantages of the adapted policies, as in the paper, or clipped PPO
with Adam, as in ProMP (Rothfuss et al. 1810.06784), whose penalty keeps the policies that sample in
the inner steps near those that did: − η mean_k KL(π_old,k ‖ π_k), k over the inner steps. Inner rates may
be learned too, one for each tensor (in the spirit of Meta-SGD, Li et al. 1707.09835).

Tasks are visited one after another, with all episodes and steps of a task in one matrix product:
on few cores that is about twice as fast as a batched product over tasks, and memory does not grow
with the number of tasks.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractLearner, Context, Problem, State, UserError
from ..rl.devices import ALL, mean, share
from ..rl.distributions import PolicyDistribution
from ..rl.experience import Trials, strong
from ..rl.fitting import require_positive
from ..rl.inheriting import inherit_parts
from ..rl.normalize import Normalizer
from ..rl.play import play
from ..rl.policy import Policy, context_size, flatten, is_image, observation_size
from .maml_agent import Batch, FastWeights, Initialization, MAMLAgent, log_ratios
from .outer import OuterSettings, importance_weighted


class MAMLState(eqx.Module):
    """Everything that MAML knows."""

    initialization: Initialization
    optimizer: optax.OptState | None
    """Adam's state; `None` with TRPO."""
    normalizer: Normalizer | None
    key: PRNGKeyArray
    inner_kl: Float[Array, " steps"] | None = None
    """η of each inner step, where it adapts."""


class Tasks(NamedTuple):
    """An update's experience, prepared; every leaf `[tasks, …]`."""

    context: Context
    inner: Batch
    """The rounds that adaptation learns from, `[tasks, inner_steps, steps, …]`."""
    outer: Batch
    """The round after the last adaptation, `[tasks, steps, …]`."""


class MAML(OuterSettings):
    """MAML with an exact second-order gradient and a TRPO or PPO outer step."""

    name: ClassVar[str] = "maml"

    meta_batch_size: int = eqx.field(static=True, default=20)
    """Tasks per update."""
    inner_episodes: int = eqx.field(static=True, default=20)
    """Episodes between two adaptations."""
    inner_steps: int = eqx.field(static=True, default=1)
    """Gradient steps of adaptation in training, each on a round of its own."""
    inner_learning_rate: float = 0.1
    """Step size of the inner gradient step; where it is learned, its first value."""
    learned_inner_rate: bool = eqx.field(static=True, default=False)
    """Learn the inner rate, one for each tensor of the network."""
    later_step_factor: float = 0.5
    """Factor on the inner rate at adaptations beyond `inner_steps` (the authors halve it)."""
    first_order: bool = eqx.field(static=True, default=False)
    """Leave the second derivatives out of the meta-gradient."""
    inner_kl: float | None = None
    """ProMP's penalty η on the KL divergence of the policies before each inner step from those that
    sampled there, in [0, inf); where it adapts, its first value (the authors': 0.0005). No penalty if none."""
    target_inner_kl: float | None = None
    """Adapt η for each inner step to this divergence (nats, in (0, inf)): twice as much beyond 1.5 times
    it, half as much below two thirds. η is fixed if none."""
    remat: bool = eqx.field(static=True, default=False)
    """Compute inner steps again when their gradient is taken, instead of keeping what they went through:
    memory then hardly grows with `inner_steps`, for about a third more computing."""
    normalize_observations: bool = eqx.field(static=True, default=False)
    """Whether the policy sees observations by their running mean and deviation. Off: an inner
    step's effect depends on the scale of its inputs, which had better not drift."""
    task_batch: int = eqx.field(static=True, default=1)
    """Tasks that adapt at once while playing; matters for speed alone."""

    def __check_init__(self):
        require_positive(self, "meta_batch_size", "inner_episodes", "inner_steps", "task_batch")
        if self.target_inner_kl is not None and self.inner_kl is None:
            raise UserError(
                "target_inner_kl adapts a penalty: set inner_kl, its first value (0.0005)"
            )

    def init(self, problem: Problem, key: PRNGKeyArray) -> MAMLState:
        policy_key, key = jax.random.split(key)
        space = problem.source.observation_space
        policy = Policy(
            space,
            problem.source.action_space,
            context_size(problem),
            self.hidden,
            self.activation,
            initial_std=self.initial_std,
            min_std=self.min_std,
            key=policy_key,
        )
        rates = None
        if self.learned_inner_rate:
            rates = jax.tree.map(lambda _: jnp.full((), self.inner_learning_rate), policy)
        initialization = Initialization(policy, rates)
        adam = self.fresh_optimizer(initialization)
        normalize = self.normalize_observations and not is_image(space)
        normalizer = Normalizer.of(observation_size(space)) if normalize else None
        weights = None if self.target_inner_kl is None else self._fixed_weights()
        return strong(MAMLState(initialization, adam, normalizer, key, weights))

    def agent(self, problem: Problem, state: MAMLState) -> MAMLAgent:
        return MAMLAgent(
            initialization=state.initialization,
            normalizer=state.normalizer,
            inner_learning_rate=jnp.asarray(self.inner_learning_rate, jnp.float32),
            later_step_factor=jnp.asarray(self.later_step_factor, jnp.float32),
            discount=jnp.asarray(self.discount, jnp.float32),
            gae_lambda=jnp.asarray(self.gae_lambda, jnp.float32),
            space=problem.source.observation_space,
            inner_steps=self.inner_steps,
            surrogate=self.surrogate,
            first_order=self.first_order,
            episodes_per_round=self.inner_episodes,
        )

    def steps_per_update(self, problem: Problem) -> int:
        rounds = self.inner_steps + 1
        return self.meta_batch_size * rounds * self.inner_episodes * problem.source.horizon

    def inherit(
        self, problem: Problem, state: MAMLState, donor: AbstractLearner, found: State
    ) -> tuple[MAMLState, list[str]]:
        """Take over the initialization, with the step sizes that were learned, and what observations are scaled
        by; a fresh optimizer."""
        parts, left = inherit_parts(state, found, "initialization", "normalizer")
        return dataclasses.replace(state, **parts), left

    def collect(self, problem: Problem, state: MAMLState) -> tuple[MAMLState, Trials]:
        key, task_key, play_key = jax.random.split(state.key, 3)
        family = problem.source
        params = family.tasks(task_key, "train", self.meta_batch_size)
        trials = play(
            self.agent(problem, state),
            family,
            params,
            jax.vmap(lambda p: problem.context(family, p))(params),
            play_key,
            self.inner_steps + 1,
            task_batch=self.task_batch,
        )
        return eqx.tree_at(lambda s: s.key, state, key), trials

    def learn(
        self, problem: Problem, state: MAMLState, experience: Trials
    ) -> tuple[MAMLState, dict[str, Array]]:
        agent = self.agent(problem, state)

        def mine(everyone, experience: Trials):
            agent, state = everyone
            adapted = functools.partial(self.distributions, agent, weights=state.inner_kl)
            tasks = self.prepare(agent, experience)
            initialization, adam, metrics = self.outer_step(
                adapted, state.initialization, state.optimizer, tasks
            )
            moved = None
            if self.inner_kl is not None:
                each = lax.map(lambda t: self._adapted(agent, initialization, t)[1], tasks)
                moved = mean(jnp.mean(each, axis=0))
            return initialization, adam, metrics, moved

        initialization, adam, metrics, moved = share(mine, (agent, state), experience, out=ALL)
        weights = state.inner_kl
        if moved is not None:
            metrics["inner_kl"] = jnp.mean(moved)
        if weights is not None and moved is not None and self.target_inner_kl is not None:
            weights = adapted_weights(weights, moved, self.target_inner_kl)
            metrics["inner_kl_weight"] = jnp.mean(weights)
        normalizer = state.normalizer
        if normalizer is not None:
            rows = experience.transitions
            inputs = flatten(problem.source.observation_space, rows.obs)
            normalizer = normalizer.update(inputs, rows.valid)
        returns = jnp.mean(experience.returns, axis=(0, 2))
        between = {f"return/step_{i}": returns[i] for i in range(1, self.inner_steps)}
        metrics = {
            "return": jnp.mean(returns),
            "return/before": returns[0],
            **between,
            "return/after": returns[-1],
            **metrics,
        }
        if initialization.rates is not None:
            metrics["inner_rate"] = jnp.mean(jnp.stack(jax.tree.leaves(initialization.rates)))
        return MAMLState(initialization, adam, normalizer, state.key, weights), metrics

    # --- The outer step -----------------------------------------------------------------------

    def prepare(self, agent: MAMLAgent, experience: Trials) -> Tasks:
        """Compute, once per update, everything of the experience that does not depend on θ."""
        batches = jax.vmap(jax.vmap(agent.prepare))(experience.transitions)
        return Tasks(
            context=experience.memory.context,
            inner=jax.tree.map(lambda x: x[:, :-1], batches),
            outer=jax.tree.map(lambda x: x[:, -1], batches),
        )

    def _adapted(
        self, agent: MAMLAgent, initialization: Initialization, task: Any
    ) -> tuple[Policy, Float[Array, " steps"]]:
        """θᵢ' as a function of θ (and α): the agent's own steps on the recorded rounds; and how far the
        policies before each of them are from those that sampled the rounds (KL, nats)."""
        agent = eqx.tree_at(lambda a: a.initialization, agent, initialization)

        def step(memory: FastWeights, batch: Batch) -> tuple[FastWeights, Array]:
            if self.inner_kl is None:
                return agent.step(memory, batch), jnp.zeros(())
            log_ratio = log_ratios(memory.policy, memory.context, batch)
            # As in PPO: never negative, zero with its gradient where nothing has moved.
            kl = jnp.sum(batch.weight * (jnp.exp(log_ratio) - 1.0 - log_ratio))
            return agent.step(memory, batch), kl

        memory = agent.start(task.context)
        if self.remat:
            memory, kls = lax.scan(jax.checkpoint(step), memory, task.inner)
            return memory.policy, kls
        kls = []
        for i in range(self.inner_steps):
            memory, kl = step(memory, jax.tree.map(operator.itemgetter(i), task.inner))
            kls.append(kl)
        return memory.policy, jnp.stack(kls)

    def _fixed_weights(self) -> Float[Array, " steps"]:
        assert self.inner_kl is not None
        return jnp.full((self.inner_steps,), self.inner_kl, jnp.float32)

    def distributions(
        self,
        agent: MAMLAgent,
        initialization: Initialization,
        task: Tasks,
        weights: Float[Array, " steps"] | None = None,
    ) -> tuple[PolicyDistribution, Float[Array, ""]]:
        """Return the distributions over actions to which θ now adapts, at the steps of one task's
        outer round; and ProMP's penalty, 0 where there is none. `weights` are η of each inner step,
        by default the setting."""
        policy, kls = self._adapted(agent, initialization, task)
        penalty = jnp.zeros(())
        if self.inner_kl is not None:
            penalty = jnp.mean((self._fixed_weights() if weights is None else weights) * kls)
        return policy(task.outer.inputs, task.context), penalty

    def objective(
        self, agent: MAMLAgent, initialization: Initialization, task: Tasks
    ) -> tuple[Float[Array, ""], PolicyDistribution]:
        """Return mean(ρ A) of one task's outer round, where ρ is the ratio of the policy to which θ
        now adapts to the adapted policy that acted; and the former's distributions over actions."""
        distribution, _ = self.distributions(agent, initialization, task)
        return importance_weighted(distribution, task.outer), distribution


def adapted_weights(
    weights: Float[Array, " steps"], kl: Float[Array, " steps"], target: float | Array
) -> Float[Array, " steps"]:
    """Return η of each inner step for the next update: twice as much where the divergence is beyond
    1.5 times `target`, half as much where it is below two thirds of it."""
    factor = jnp.where(kl > 1.5 * target, 2.0, jnp.where(kl < target / 1.5, 0.5, 1.0))
    return weights * factor
