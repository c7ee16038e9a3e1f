"""MAESN: model-agnostic exploration with structured noise (Gupta et al. 2018, 1802.07245).

The problem: MAML's policy explores by noise of each action alone, and where rewards are sparse that
reaches nothing, so there is no gradient to adapt by. The idea: noise that lasts an episode. A latent
z ~ N(μ, σ²) is drawn when an episode begins and given to the policy, π_θ(a | s, z), so that one
episode goes one way and the next another. Every training task i has its own μᵢ, σᵢ (variational
parameters, learned with θ), and adaptation moves latent and policy by a gradient step with learned
step sizes α (eq. 3 and 4),

    μᵢ' = μᵢ + α_μ ∘ ∇_μᵢ J,   log σᵢ' = log σᵢ + α_σ ∘ ∇J,   θᵢ' = θ + α_θ ∘ ∇_θ J,

where z = μ + σ ε carries the gradient (*path*), or, as in the authors' code, that of the likelihood of z does,
∇ log N(z; μ, σ²) times the return of its episode (*score*). Both have the same mean; where rewards are sparse, the
first sees only what actions differ by within an episode, the second which episodes went the right way.
Meta-training ascends the return after adaptation, while the latents before it are kept near the prior (eq. 5),

    max over θ, α, μ₁, σ₁, …, μ_N, σ_N:  mean_i  E[R_i(θᵢ', μᵢ', σᵢ')] − w KL(N(μᵢ, σᵢ²) ‖ N(0, I)),

so that at test, where a new task starts from the prior N(0, I), z explores among what training tasks
wanted. Meta-train on dense rewards (they are needed here), adapt on sparse ones.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Context,
    Info,
    Obs,
    Params,
    Problem,
    Space,
    State,
    Transition,
    UserError,
)
from ..rl.baseline import episode_advantages
from ..rl.devices import ALL, share
from ..rl.distributions import DiagonalGaussian, PolicyDistribution
from ..rl.experience import Trials, strong
from ..rl.fitting import require_positive, standardize
from ..rl.inheriting import inherit_parts
from ..rl.play import play
from ..rl.policy import Policy, context_size, flatten, is_image
from .maml_agent import Batch, Surrogate, surrogate_of
from .outer import OuterSettings, importance_weighted

LatentGradient = Literal["path", "score"]
"""How the inner step moves a latent's distribution: through the actions that z leads to, or by the likelihood
of z."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian of a latent, every leaf `[…, latent]`."""

    mean: Float[Array, "... latent"]
    log_std: Float[Array, "... latent"]

    @classmethod
    def standard(cls, *shape: int) -> "Gaussian":
        """Return N(0, I)."""
        return cls(jnp.zeros(shape), jnp.zeros(shape))

    def at(self, noise: Float[Array, "... latent"]) -> Float[Array, "... latent"]:
        """Return μ + σ ε."""
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, z: Float[Array, "... latent"]) -> Float[Array, "..."]:
        """Return the log density of z."""
        return DiagonalGaussian(*self).log_prob(z)

    def kl_to_standard(self) -> Float[Array, "..."]:
        """Return KL(N(μ, σ²) ‖ N(0, I)) in nats."""
        variance = jnp.exp(2.0 * self.log_std)
        return 0.5 * jnp.sum(variance + self.mean**2 - 1.0 - 2.0 * self.log_std, axis=-1)


class Adaptable(NamedTuple):
    """What an inner step moves; or, in the same structure, the step sizes."""

    policy: Policy
    latent: Gaussian


class MetaParameters(eqx.Module):
    """All that is meta-learned."""

    policy: Policy
    latents: Gaussian
    """μᵢ and log σᵢ of the training tasks, `[tasks, latent]`."""
    rates: Adaptable
    """α: a scalar for each tensor of the policy, `[latent]` for μ and for log σ."""


class Memory(NamedTuple):
    """What an agent has become on a task."""

    adapted: Adaptable
    context: Context
    steps: Int[Array, ""]
    """Gradient steps that were taken in this task so far."""


class MAESNAgent(AbstractAgent):
    """An agent that draws a latent for each episode. Each adaptation is one gradient step on the
    latent's distribution and on the policy.

    A new task starts from the prior. If `latents` is given, as it is in meta-training, the context
    is `(index, context)`, and the task starts from the latent of that training task.
    """

    policy: Policy
    rates: Adaptable
    latents: Gaussian | None
    discount: Float[Array, ""]
    gae_lambda: Float[Array, ""]
    space: Space = eqx.field(static=True)
    """The observation space."""
    later_step_factor: Float[Array, ""]
    """What step sizes are multiplied by at steps beyond the `inner_steps` that training took."""
    inner_steps: int = eqx.field(static=True)
    latent_size: int = eqx.field(static=True)
    surrogate: Surrogate = eqx.field(static=True)
    latent_gradient: LatentGradient = eqx.field(static=True)
    adapt_policy: bool = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Any, key: PRNGKeyArray | None = None) -> Memory:
        latent = Gaussian.standard(self.latent_size)
        if self.latents is not None:
            index, context = context
            latent = jax.tree.map(lambda x: x[index], self.latents)
        return Memory(Adaptable(self.policy, latent), context, jnp.zeros((), jnp.int32))

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Float[Array, " latent"]:
        """Draw the noise ε of this episode's z. A greedy agent draws it too: it is how the agent
        explores, and no noise on its actions."""
        return jax.random.normal(key, (self.latent_size,))

    def act(
        self, memory: Memory, carry: Array, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Array, Info]:
        latent = memory.adapted.latent
        z = latent.at(carry)
        distribution = distribution_at(
            memory.adapted.policy, memory.context, flatten(self.space, obs), z
        )
        action = distribution.mode() if self.greedy else distribution.sample(key)
        info = {
            "log_prob": distribution.log_prob(action),
            "noise": carry,
            "latent": z,
            "latent_log_prob": latent.log_prob(z),
        }
        return action, carry, info

    def adapt(
        self,
        memory: Memory,
        carries: Array,
        episodes: Transition | None,
        key: PRNGKeyArray | None = None,
    ) -> Memory:
        if episodes is None:
            return memory
        return self.step(memory, self.prepare(episodes))

    def prepare(self, episodes: Transition) -> "Round":
        """Return a round `[episodes, time, …]` of one task with its advantages, over a baseline
        that is fitted to this round alone."""
        inputs = flatten(self.space, episodes.obs)
        valid = episodes.valid
        advantage = episode_advantages(
            None if is_image(self.space) else inputs,
            episodes.reward,
            valid,
            self.discount,
            self.gae_lambda,
        )
        weight = valid / jnp.maximum(jnp.sum(valid), 1)
        returns = jnp.sum(jnp.where(valid, episodes.reward, 0.0), -1)
        score = standardize(returns, jnp.ones_like(returns))[:, None] * jnp.ones_like(weight)
        batch = Batch(inputs, episodes.action, episodes.info["log_prob"], advantage, weight)
        drawn = (episodes.info[name] for name in ("noise", "latent", "latent_log_prob"))
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (batch, *drawn, score))
        return Round(*flat[0], *flat[1:])

    def step(self, memory: Memory, batch: "Round") -> Memory:
        """Take one inner step, and return the next memory. The outer loop differentiates through
        this very function."""

        by_score = self.latent_gradient == "score"

        def gain(adapted: Adaptable) -> Float[Array, ""]:
            z = batch.latent if by_score else adapted.latent.at(batch.noise)
            distribution = distribution_at(adapted.policy, memory.context, batch.inputs, z)
            log_ratio = jnp.where(
                batch.weight > 0, distribution.log_prob(batch.action) - batch.log_prob, 0.0
            )
            gained = surrogate_of(
                log_ratio, batch.weight * batch.advantage, self.surrogate, self.episodes_per_round
            )
            if not by_score:
                return gained
            # One draw an episode: nothing to sum up over its steps.
            moved = jnp.where(
                batch.weight > 0, adapted.latent.log_prob(z) - batch.latent_log_prob, 0.0
            )
            moved = moved if self.surrogate == "log_likelihood" else jnp.exp(moved)
            return gained + jnp.sum(moved * batch.weight * batch.score)

        gradient = jax.grad(gain)(memory.adapted)
        if not self.adapt_policy:
            gradient = gradient._replace(policy=jax.tree.map(jnp.zeros_like, gradient.policy))
        later = jnp.where(memory.steps < self.inner_steps, 1.0, self.later_step_factor)
        adapted = jax.tree.map(
            lambda p, rate, g: p + later * rate * g, memory.adapted, self.rates, gradient
        )
        return Memory(adapted, memory.context, memory.steps + 1)


class Round(NamedTuple):
    """A round of one task, prepared for learning; as `Batch`, with the noise of each step's episode."""

    inputs: Array
    action: Array
    log_prob: Float[Array, " steps"]
    advantage: Float[Array, " steps"]
    weight: Float[Array, " steps"]
    noise: Float[Array, "steps latent"]
    latent: Float[Array, "steps latent"]
    """z, as it was drawn."""
    latent_log_prob: Float[Array, " steps"]
    """Of z, when it was drawn."""
    score: Float[Array, " steps"]
    """The return of the step's episode, standardized over the round."""


def distribution_at(
    policy: Policy, context: Context, inputs: Array, z: Float[Array, "... latent"]
) -> PolicyDistribution:
    """Return π_θ(· | s, z), which also sees ω if that is revealed."""
    if context is not None:
        z = jnp.concatenate([z, jnp.broadcast_to(context, (*z.shape[:-1], context.shape[-1]))], -1)
    return policy(inputs, z)


class MAESNState(eqx.Module):
    """Everything that MAESN knows."""

    parameters: MetaParameters
    tasks: Params
    """The training tasks, every leaf `[tasks, …]`. They are drawn once, since each has a latent of
    its own."""
    optimizer: optax.OptState | None
    """Adam's state; `None` with TRPO."""
    key: PRNGKeyArray


class Tasks(NamedTuple):
    """An update's experience, prepared; every leaf `[tasks, …]`."""

    number: Int[Array, " tasks"]
    context: Context
    inner: Any
    """`Round`, `[tasks, inner_steps, steps, …]`."""
    outer: Any
    """`Round`, `[tasks, steps, …]`: after the last adaptation."""


class MAESN(OuterSettings):
    """MAML with a latent of each task, drawn once an episode: exploration that is itself learned."""

    name: ClassVar[str] = "maesn"

    train_tasks: int = eqx.field(static=True, default=20)
    """Training tasks, drawn once; all of them are visited in each update."""
    latent_size: int = eqx.field(static=True, default=2)
    """Entries of the latent z."""
    initial_mean_std: float = 0.0
    """Deviation of the means that the training tasks' latents begin with, in [0, inf); at 0 all begin at the
    prior's. Apart from the first update on, tasks can be told by their latents."""
    kl_weight: float = 0.1
    """w, of the divergence of the training tasks' latents from the prior (the authors: 0.1 to 0.5)."""
    inner_episodes: int = eqx.field(static=True, default=20)
    """Episodes between two adaptations."""
    inner_steps: int = eqx.field(static=True, default=1)
    """Gradient steps of adaptation in training, each on a round of its own."""
    inner_learning_rate: float = 0.1
    """First step size of the inner step on the policy; learned from there."""
    latent_learning_rate: float = 0.5
    """First step size of the inner step on the latent; learned from there."""
    later_step_factor: float = 0.5
    """Factor on all step sizes at adaptations beyond `inner_steps`, as MAML's authors have it."""
    adapt_policy: bool = eqx.field(static=True, default=True)
    """Whether the inner step moves the policy too, or the latent alone, which then has to say what the
    task is."""
    latent_gradient: LatentGradient = eqx.field(static=True, default="path")
    """How the inner step moves the latent: through the actions that it leads to (path), or by the likelihood of the
    latents of good episodes (score, the authors')."""
    learning_rate: float = 1e-2
    """PPO: Adam's step size."""

    def __check_init__(self):
        require_positive(self, "train_tasks", "latent_size", "inner_episodes", "inner_steps")
        if self.latent_gradient not in get_args(LatentGradient):
            raise UserError(f"latent_gradient must be path or score, not {self.latent_gradient!r}")

    def init(self, problem: Problem, key: PRNGKeyArray) -> MAESNState:
        policy_key, task_key, key = jax.random.split(key, 3)
        family = problem.source
        policy = Policy(
            family.observation_space,
            family.action_space,
            context_size(problem) + self.latent_size,
            self.hidden,
            self.activation,
            initial_std=self.initial_std,
            min_std=self.min_std,
            key=policy_key,
        )
        latent_rate = jnp.full(self.latent_size, self.latent_learning_rate)
        rates = Adaptable(
            jax.tree.map(lambda _: jnp.full((), self.inner_learning_rate), policy),
            Gaussian(latent_rate, latent_rate),
        )
        latents = Gaussian.standard(self.train_tasks, self.latent_size)
        apart = jax.random.normal(jax.random.fold_in(key, 1), latents.mean.shape)
        latents = latents._replace(mean=self.initial_mean_std * apart)
        parameters = MetaParameters(policy, latents, rates)
        adam = self.fresh_optimizer(parameters)
        tasks = family.tasks(task_key, "train", self.train_tasks)
        return strong(MAESNState(parameters, tasks, adam, key))

    def agent(self, problem: Problem, state: MAESNState) -> MAESNAgent:
        return self._agent(problem, state.parameters, None)

    def _agent(
        self, problem: Problem, parameters: MetaParameters, latents: Gaussian | None
    ) -> MAESNAgent:
        return MAESNAgent(
            policy=parameters.policy,
            rates=parameters.rates,
            latents=latents,
            discount=jnp.asarray(self.discount, jnp.float32),
            gae_lambda=jnp.asarray(self.gae_lambda, jnp.float32),
            space=problem.source.observation_space,
            later_step_factor=jnp.asarray(self.later_step_factor, jnp.float32),
            inner_steps=self.inner_steps,
            latent_size=self.latent_size,
            surrogate=self.surrogate,
            latent_gradient=self.latent_gradient,
            adapt_policy=self.adapt_policy,
            episodes_per_round=self.inner_episodes,
        )

    def steps_per_update(self, problem: Problem) -> int:
        rounds = self.inner_steps + 1
        return self.train_tasks * rounds * self.inner_episodes * problem.source.horizon

    def inherit(
        self, problem: Problem, state: MAESNState, donor: AbstractLearner, found: State
    ) -> tuple[MAESNState, list[str]]:
        """Take over policy and step sizes. The latents are of training tasks, which are its own: they begin
        anew."""
        bare = dataclasses.replace(state.parameters, latents=None)
        parts, left = inherit_parts(
            dataclasses.replace(state, parameters=bare), found, "parameters"
        )
        latents = state.parameters.latents
        return dataclasses.replace(
            state, parameters=dataclasses.replace(parts["parameters"], latents=latents)
        ), left

    def collect(self, problem: Problem, state: MAESNState) -> tuple[MAESNState, Trials]:
        key, play_key = jax.random.split(state.key)
        family = problem.source
        context = jax.vmap(lambda p: problem.context(family, p))(state.tasks)
        trials = play(
            self._agent(problem, state.parameters, state.parameters.latents),
            family,
            state.tasks,
            (jnp.arange(self.train_tasks), context),
            play_key,
            self.inner_steps + 1,
            task_batch=1,
        )
        return eqx.tree_at(lambda s: s.key, state, key), trials

    def learn(
        self, problem: Problem, state: MAESNState, experience: Trials
    ) -> tuple[MAESNState, dict[str, Array]]:
        agent = self._agent(problem, state.parameters, state.parameters.latents)

        def mine(everyone, shared):
            (agent, state), (number, experience) = everyone, shared
            batches = jax.vmap(jax.vmap(agent.prepare))(experience.transitions)
            tasks = Tasks(
                number=number,
                context=experience.memory.context,
                inner=jax.tree.map(lambda x: x[:, :-1], batches),
                outer=jax.tree.map(lambda x: x[:, -1], batches),
            )
            adapted = functools.partial(self.distributions, agent)
            return self.outer_step(adapted, state.parameters, state.optimizer, tasks)

        number = jnp.arange(self.train_tasks)
        parameters, adam, metrics = share(mine, (agent, state), (number, experience), out=ALL)
        returns = jnp.mean(experience.returns, axis=(0, 2))
        metrics = {
            "return": jnp.mean(returns),
            "return/before": returns[0],
            "return/after": returns[-1],
            "latent_kl": jnp.mean(parameters.latents.kl_to_standard()),
            "latent_rate": jnp.mean(parameters.rates.latent.mean),
            **metrics,
        }
        return MAESNState(parameters, state.tasks, adam, state.key), metrics

    def distributions(
        self, agent: MAESNAgent, parameters: MetaParameters, task: Any
    ) -> tuple[PolicyDistribution, Float[Array, ""]]:
        """Return the distributions over actions to which a task's own latent and θ adapt, at the
        steps of its outer round; and the penalty on that latent before adaptation."""
        agent = eqx.tree_at(
            lambda a: (a.policy, a.rates, a.latents),
            agent,
            (parameters.policy, parameters.rates, parameters.latents),
        )
        memory = agent.start((task.number, task.context))
        penalty = self.kl_weight * memory.adapted.latent.kl_to_standard()
        for i in range(self.inner_steps):
            memory = agent.step(memory, jax.tree.map(operator.itemgetter(i), task.inner))
        outer, (policy, latent) = task.outer, memory.adapted
        z = latent.at(outer.noise)
        return distribution_at(policy, task.context, outer.inputs, z), penalty

    def objective(
        self, agent: MAESNAgent, parameters: MetaParameters, task: Any
    ) -> Float[Array, ""]:
        """Return mean(ρ A) of one task's outer round minus the penalty (eq. 5)."""
        distribution, penalty = self.distributions(agent, parameters, task)
        return importance_weighted(distribution, task.outer) - penalty
