"""PEARL: probabilistic embeddings for actor-critic RL (Rakelly et al. 2019, 1903.08254).

The problem: meta-learn from old experience, and explore an unknown task in a structured way. The
idea: keep a posterior q_φ(z|c) over a latent task variable z, given the transitions c of the task in
whatever order they came, and let an off-policy learner see z as if it had been told the task. What the
posterior is, and how an agent acts on samples of it, is in `pearl_agent.py`. In training, SAC learns on
batches of each task with z from the task's own context; the encoder learns from the critics' loss and the
KL alone (§5.1, algorithm 1):

    L_critic = Σᵢ E_{z ~ q_φ(z|c)} [½ (Qᵢ(s, a, z) − y)²],    L_KL = β KL(q_φ(z|c) ‖ N(0, I))

The context is drawn from recent experience, the batch for SAC from all of it (§5.2). Where a family
reports a dense reward beside its sparse one, SAC learns from the dense one in meta-training, while the
context, all that there is at test, holds the sparse one (§6.3).
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractLearner, Params, Problem, State, UserError
from ..rl.experience import Trials, only_if
from ..rl.fitting import gradient_steps, require_positive
from ..rl.inheriting import inherit_parts
from ..rl.off_policy import moved
from ..rl.play import play
from ..rl.policy import is_image, perceive
from ..rl.replay import Episode, Replay, Row
from ..rl.sac import SAC
from ..rl.soft_networks import Critics, Networks
from .pearl_agent import Encoder, PEARLAgent, prior_kl

DENSE = "dense_reward"
"""The event in which a family with a sparse reward reports a dense one."""


class Learning(eqx.Module):
    """All that gradients move."""

    networks: Networks
    encoder: Encoder


class Played(NamedTuple):
    """Whole episodes of a few training tasks."""

    tasks: Int[Array, " tasks"]
    """Which ones."""
    trials: Trials
    """`[tasks, episodes, 1, time, …]`."""


class PEARLState(eqx.Module):
    """Everything that PEARL knows."""

    learning: Learning
    target: Critics
    """Slow copies of the critics, Q̄."""
    optimizer: optax.OptState
    params: Params
    """The training tasks, `[tasks, …]`."""
    replay: Replay
    """Whole episodes, by task."""
    updates: Int[Array, ""]
    key: PRNGKeyArray


class PEARL(AbstractLearner):
    """PEARL: SAC that sees a latent task variable, inferred from the transitions of the task."""

    name: ClassVar[str] = "pearl"

    latent_size: int = eqx.field(static=True, default=5)
    """Entries of z."""
    tasks: int = eqx.field(static=True, default=80)
    """Training tasks, drawn once."""
    collect_tasks: int = eqx.field(static=True, default=5)
    """Tasks played in an update, each in its turn."""
    prior_episodes: int = eqx.field(static=True, default=2)
    """Episodes of each of them with z from the prior, before anything is inferred."""
    posterior_episodes: int = eqx.field(static=True, default=3)
    """Episodes of each with z from the posterior, inferred again after each."""
    gradient_steps: int = eqx.field(static=True, default=500)
    """Gradient steps an update, once every task has been played."""
    meta_batch_size: int = eqx.field(static=True, default=16)
    """Tasks in a gradient step."""
    batch_size: int = eqx.field(static=True, default=256)
    """Stored steps of each task that SAC learns from in a gradient step."""
    context_batch_size: int = eqx.field(static=True, default=128)
    """Transitions of each task that z is inferred from in a gradient step."""
    recent_episodes: int = eqx.field(static=True, default=10)
    """Latest episodes of a task that those transitions are drawn from."""
    posterior_context: bool = eqx.field(static=True, default=True)
    """Whether episodes with z from the posterior are among those; without, the context of training is
    one of exploration alone, as that of a new task is (so the authors have it, but for the sparse point)."""
    exploration_episodes: int | None = eqx.field(static=True, default=None)
    """Episodes of a new task that the trained agent plays with z from the prior, before anything is
    inferred; `prior_episodes` if none."""
    until_paid: bool = eqx.field(static=True, default=False)
    """Whether the trained agent, beyond those, goes on with z from the prior until it has met a reward:
    where rewards are sparse, a context without one names no task."""
    capacity: int = eqx.field(static=True, default=200)
    """Episodes of each task in the replay, rounded up to whole updates."""
    dense_reward: bool = eqx.field(static=True, default=True)
    """Whether SAC learns from the event `dense_reward` where the family reports it (families in JAX; those
    stepped on the host have their reward alone); the context always holds the reward itself."""
    reward_scale: float = 1.0
    """What rewards are multiplied by for SAC, against the entropy (the authors': 5, on the sparse
    point 100); the encoder reads them as they are."""
    kl_weight: float = 0.1
    """Weight of the KL to the prior, β (the authors': 0.1, on the sparse point 1)."""
    encode: float = 1.0
    """0 cuts the critics' gradient off from the encoder, so that the KL alone teaches it: an
    ablation."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    discount: float = 0.99
    """Discount factor γ."""
    target_rate: float = 0.005
    """How far the target critics move towards the critics at each gradient step."""
    initial_temperature: float = 1.0
    """First weight of the entropy, α."""
    learn_temperature: bool = eqx.field(static=True, default=True)
    """Whether α moves so that the entropy stays at its target; the authors keep it at 1 and scale
    rewards."""
    target_entropy: float | None = None
    """In nats; see `sac`."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(300, 300, 300))
    """Hidden layers of policy and critics (ReLU)."""
    encoder_hidden: tuple[int, ...] = eqx.field(static=True, default=(200, 200, 200))
    """Hidden layers of the encoder (ReLU)."""

    def __check_init__(self):
        require_positive(self, "latent_size", "tasks", "collect_tasks", "posterior_episodes")
        require_positive(self, "gradient_steps", "meta_batch_size", "batch_size")
        require_positive(self, "context_batch_size", "recent_episodes", "capacity")
        for name in ("prior_episodes", "exploration_episodes"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} must not be negative, as {getattr(self, name)} is")
        if not (self.posterior_context or self.prior_episodes):
            raise UserError("without posterior_context, prior_episodes must be at least 1")
        if not self.posterior_context and self.recent_episodes <= self.posterior_episodes:
            raise UserError(
                "without posterior_context, recent_episodes must be above posterior_episodes"
                f" ({self.posterior_episodes}), not {self.recent_episodes}: the latest episodes of a task"
                " are those, and none would be left to infer from"
            )
        if self.tasks % self.collect_tasks:
            raise UserError(
                f"collect_tasks must divide tasks, and {self.collect_tasks} does not divide"
                f" {self.tasks}"
            )

    @property
    def sac(self) -> SAC:
        """The SAC that learns from observations with z beside them."""
        shared = ("learning_rate", "discount", "target_rate", "initial_temperature")
        shared += ("learn_temperature", "target_entropy", "hidden")
        return SAC(**{name: getattr(self, name) for name in shared})

    @property
    def _episodes(self) -> int:
        """Of each task played in an update."""
        return self.prior_episodes + self.posterior_episodes

    def init(self, problem: Problem, key: PRNGKeyArray) -> PEARLState:
        family = problem.source
        observations, actions = family.observation_space, family.action_space
        if is_image(observations):
            raise UserError(f"'pearl' cannot look at images, and '{family.name}' shows them")
        if problem.reveal != "nothing":
            raise UserError("'pearl' infers the task itself: train with reveal 'nothing'")
        sac_key, encoder_key, task_key, key = jax.random.split(key, 4)
        learned = self.sac.begin(observations, actions, self.latent_size, sac_key)
        learning = Learning(
            learned.networks,
            Encoder(observations, actions, self.latent_size, self.encoder_hidden, key=encoder_key),
        )
        row = Episode.empty(family, params=False, events=self._kept(problem))
        return PEARLState(
            learning=learning,
            target=learned.target,
            optimizer=optax.scale_by_adam().init(learning),  # pyright: ignore
            params=family.tasks(task_key, "train", self.tasks),
            replay=Replay.of(row, self.capacity, self.tasks, chunk=self._episodes),
            updates=jnp.zeros((), jnp.int32),
            key=key,
        )

    def _kept(self, problem: Problem) -> dict[str, Any]:
        """The dense reward among a step's events, if SAC is to learn from one that there is."""
        family = problem.source
        if not self.dense_reward or family.stepping == "host":
            return {}

        def events():
            params = family.sample(jax.random.key(0), "train")
            _, state = family.env.reset(jax.random.key(0), params)
            space = family.action_space
            action = jnp.zeros(space.shape, space.dtype)
            return family.env.step(jax.random.key(0), state, action, params)[5]

        shapes = jax.eval_shape(events)
        return {DENSE: jnp.zeros(())} if DENSE in shapes else {}

    def inherit(
        self, problem: Problem, state: PEARLState, donor: AbstractLearner, found: State
    ) -> tuple[PEARLState, list[str]]:
        """Take over encoder, policy and critics; tasks, replay and optimizer are its own."""
        parts, left = inherit_parts(state, found, "learning", "target")
        return dataclasses.replace(state, **parts), left

    def collect(self, problem: Problem, state: PEARLState) -> tuple[PEARLState, Played]:
        key, play_key = jax.random.split(state.key)
        turn = state.updates % (self.tasks // self.collect_tasks)
        tasks = turn * self.collect_tasks + jnp.arange(self.collect_tasks)
        params = jax.tree.map(lambda x: x[tasks], state.params)
        agent = self._agent(problem, state, self.prior_episodes, until_paid=False)
        trials = play(agent, problem.source, params, None, play_key, self._episodes)
        return eqx.tree_at(lambda s: s.key, state, key), Played(tasks, trials)

    def learn(
        self, problem: Problem, state: PEARLState, experience: Played
    ) -> tuple[PEARLState, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        trials = experience.trials
        steps = jax.tree.map(lambda x: x[:, :, 0], trials.transitions)
        kept = tuple(state.replay.rows.events)
        replay = state.replay.add(Episode.of((), steps, kept), experience.tasks)
        updates = state.updates + 1
        (learning, target, optimizer_state), metrics = only_if(
            updates >= self.tasks // self.collect_tasks,
            lambda learned: self._fit(learned, replay, problem, fit_key),
            (state.learning, state.target, state.optimizer),
        )
        state = PEARLState(
            learning=learning,
            target=target,
            optimizer=optimizer_state,
            params=state.params,
            replay=replay,
            updates=updates,
            key=key,
        )
        returns = jnp.mean(trials.returns, axis=(0, 2))  # [episodes]
        metrics = {
            "return": returns.mean(),
            "return/first": returns[0],
            "return/last": returns[-1],
            **metrics,
        }
        return state, metrics

    def _fit(
        self, learned: tuple, replay: Replay, problem: Problem, key: PRNGKeyArray
    ) -> tuple[tuple, dict[str, Array]]:
        """The gradient steps of an update, each on tasks and batches of its own; `learned` are the
        networks, the slow critics and the optimizer's state."""
        learning, target, optimizer_state = learned

        def gradient(learning: Learning, target: Critics, key: PRNGKeyArray):
            draw_key, loss_key = jax.random.split(key)
            context, batch = self._draw(replay, problem, draw_key)
            return jax.grad(self.loss, has_aux=True)(learning, target, context, batch, loss_key)

        descent = gradient_steps(
            gradient,
            learning,
            optimizer_state,
            jax.random.split(key, self.gradient_steps),
            learning_rate=self.learning_rate,
            slow=target,
            after=lambda learning, slow: moved(slow, learning.networks.critics, self.target_rate),
        )
        learned = (descent.parameters, descent.slow, descent.optimizer_state)
        return learned, jax.tree.map(jnp.mean, descent.metrics)

    def _context_rows(self, replay: Replay) -> Bool[Array, " capacity"]:
        """Which places of a task's ring hold episodes that a context may be drawn from: an update
        writes `prior_episodes` of the one kind, then `posterior_episodes` of the other."""
        place = jnp.arange(replay.capacity) % self._episodes
        return self.posterior_context | (place < self.prior_episodes)

    def _draw(self, replay: Replay, problem: Problem, key: PRNGKeyArray) -> tuple[Episode, Row]:
        """Some tasks' contexts `[tasks, context batch, …]`, from recent episodes, and their batches
        `[tasks, batch, …]`, from all."""
        task_key, context_key, batch_key = jax.random.split(key, 3)
        of = jax.random.randint(task_key, (self.meta_batch_size, 1), 0, self.tasks)
        shape = (self.meta_batch_size, self.context_batch_size)
        among = self._context_rows(replay)
        context = replay.steps(context_key, shape, of, self.recent_episodes, among)
        drawn = replay.steps(batch_key, (self.meta_batch_size, self.batch_size), of)
        space = problem.source.observation_space
        batch = Row(
            perceive(space, None, drawn.obs),
            None,
            drawn.action,
            self.reward_scale * drawn.events.get(DENSE, drawn.reward),
            drawn.carries_on,
            perceive(space, None, drawn.next_obs),
        )
        return context, batch

    def loss(
        self,
        learning: Learning,
        target: Critics,
        context: Episode,
        batch: Row,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return SAC's losses with z of each task, drawn from its posterior, plus the KL; `context`
        is `[tasks, transitions, …]`, `batch` `[tasks, batch, …]`."""
        z_key, noise_key = jax.random.split(key)
        factors = learning.encoder(context.obs, context.action, context.reward)
        mean, variance = factors.posterior()
        z = mean + jnp.sqrt(variance) * jax.random.normal(z_key, mean.shape)
        z = self.encode * z + (1.0 - self.encode) * lax.stop_gradient(z)
        tasks, size = batch.reward.shape
        rows = jax.tree.map(lambda x: x.reshape(tasks * size, *x.shape[2:]), batch)
        rows = rows._replace(context=jnp.repeat(z, size, axis=0))
        sac = self.sac
        noise = sac.noise(learning.networks, rows.action, noise_key)
        loss, metrics = sac.loss(learning.networks, target, rows, noise)
        kl = jnp.mean(prior_kl(mean, variance))
        return loss + self.kl_weight * kl, {
            **metrics,
            "kl": kl,
            "posterior/std": jnp.mean(jnp.sqrt(variance)),
        }

    def agent(self, problem: Problem, state: PEARLState) -> PEARLAgent:
        explores = self.exploration_episodes
        explores = self.prior_episodes if explores is None else explores
        return self._agent(problem, state, explores, self.until_paid)

    def _agent(
        self, problem: Problem, state: PEARLState, prior_episodes: int, until_paid: bool
    ) -> PEARLAgent:
        return PEARLAgent(
            policy=state.learning.networks.policy,
            encoder=state.learning.encoder,
            prior_episodes=jnp.asarray(prior_episodes, jnp.int32),
            space=problem.source.observation_space,
            until_paid=until_paid,
        )

    def steps_per_update(self, problem: Problem) -> int:
        return self.collect_tasks * self._episodes * problem.source.horizon
