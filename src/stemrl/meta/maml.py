"""Model-agnostic meta-learning for reinforcement learning (Finn et al. 1703.03400, Algorithm 3).

The problem: from a few episodes of an unknown task, become good at it. The idea: let adaptation be
ordinary policy gradient, and learn the parameters θ from which it works best. For tasks i, with
θᵢ' = θ + α ∇J(θ; episodes of θ) by one or more inner steps, maximize the return *after* adaptation,

    max_θ  mean_i  E_{τ ~ π(θᵢ')} [R_i(τ)],

by differentiating through the inner steps (exactly, second derivatives included; `first_order`
leaves those out). The inner step is the agent's own `adapt` (see `maml_agent`); the outer step is
TRPO on the importance-weighted advantages of the adapted policies, as in the paper, or clipped PPO
with Adam, as in ProMP (Rothfuss et al. 1810.06784). Inner rates may be learned too, one for each
tensor (in the spirit of Meta-SGD, Li et al. 1707.09835).

Tasks are visited one after another, with all episodes and steps of a task in one matrix product:
on few cores that is about twice as fast as a batched product over tasks, and memory does not grow
with the number of tasks.
"""

import functools
import operator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Context, Problem
from ..rl.devices import ALL, share
from ..rl.fitting import require_positive
from ..rl.normalize import Normalizer
from ..rl.play import Trials, play, strong
from ..rl.policy import Policy, context_size, flatten, is_image, observation_size
from .maml_agent import Batch, Initialization, MAMLAgent
from .outer import Distribution, OuterSettings, importance_weighted


class MAMLState(eqx.Module):
    """Everything that MAML knows."""

    initialization: Initialization
    optimizer: optax.OptState | None
    """Adam's; `None` with TRPO."""
    normalizer: Normalizer | None
    key: PRNGKeyArray


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
    normalize_observations: bool = eqx.field(static=True, default=False)
    """Whether the policy sees observations by their running mean and deviation. Off: an inner
    step's effect depends on the scale of its inputs, which had better not drift."""
    task_batch: int = eqx.field(static=True, default=1)
    """Tasks that adapt at once while playing; matters for speed alone."""

    def __check_init__(self):
        require_positive(self, "meta_batch_size", "inner_episodes", "inner_steps", "task_batch")

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
        return strong(MAMLState(initialization, adam, normalizer, key))

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
            adapted = functools.partial(self.distributions, agent)
            tasks = self.prepare(agent, experience)
            return self.outer_step(adapted, state.initialization, state.optimizer, tasks)

        initialization, adam, metrics = share(mine, (agent, state), experience, out=ALL)
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
        return MAMLState(initialization, adam, normalizer, state.key), metrics

    # --- The outer step -----------------------------------------------------------------------

    def prepare(self, agent: MAMLAgent, experience: Trials) -> Tasks:
        """Everything of the experience that does not depend on θ, once per update."""
        batches = jax.vmap(jax.vmap(agent.prepare))(experience.transitions)
        return Tasks(
            context=experience.memory.context,
            inner=jax.tree.map(lambda x: x[:, :-1], batches),
            outer=jax.tree.map(lambda x: x[:, -1], batches),
        )

    def _adapted(self, agent: MAMLAgent, initialization: Initialization, task: Any) -> Policy:
        """θᵢ' as a function of θ (and α): the agent's own steps on the recorded rounds."""
        agent = eqx.tree_at(lambda a: a.initialization, agent, initialization)
        memory = agent.start(task.context)
        for i in range(self.inner_steps):
            memory = agent.step(memory, jax.tree.map(operator.itemgetter(i), task.inner))
        return memory.policy

    def distributions(
        self, agent: MAMLAgent, initialization: Initialization, task: Tasks
    ) -> tuple[Distribution, Float[Array, ""]]:
        """What θ now adapts to, at the steps of one task's outer round; and no penalty."""
        policy = self._adapted(agent, initialization, task)
        return policy(task.outer.inputs, task.context), jnp.zeros(())

    def objective(
        self, agent: MAMLAgent, initialization: Initialization, task: Tasks
    ) -> tuple[Float[Array, ""], Distribution]:
        """mean(ρ A) of one task's outer round, importance-weighted from the adapted policy that
        acted to the one that θ now adapts to; and that one's distributions over actions."""
        distribution, _ = self.distributions(agent, initialization, task)
        return importance_weighted(distribution, task.outer), distribution
