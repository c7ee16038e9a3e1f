"""Off-policy learning with a memory: what RDPG and RSVG(0) share.

A replay of whole trials (`stories.py`); an actor and a critic, each with a memory of its own that reads the
history of a trial from its start (`recurrent_networks.py`); gradients through all of its steps; slow copies
of both. A method says what a policy's outputs stand for, how an action is drawn from them and charged for
its randomness, and how much noise it explores with.
"""

import abc
import dataclasses
from typing import Any, ClassVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractLearner, Box, Problem, State, UserError
from ..networks import Cell
from ..rl import Normalizer, flatten, is_image, observation_size, outputs_for, perceive, play
from ..rl.experience import Trials, only_if
from ..rl.fitting import gradient_steps, require_positive
from ..rl.inheriting import inherit_parts
from ..rl.off_policy import moved
from ..rl.replay import Replay
from .history import HistoryAgent, history_agent
from .recurrent_networks import ControlNetworks, Remembering
from .stories import Story


class ControlState(eqx.Module):
    """Everything that a learner of this kind knows."""

    networks: ControlNetworks
    slow: ControlNetworks
    """Copies of the networks that follow them slowly."""
    optimizer: optax.OptState
    replay: Replay
    observations: Normalizer
    rewards: Normalizer
    collected: Int[Array, ""]
    """Environment steps taken so far."""
    key: PRNGKeyArray


class AbstractRecurrentControl(AbstractLearner):
    """Recurrent actor and critic with a replay of whole trials; continuous actions."""

    cell: Cell = eqx.field(static=True, default="gru")
    """The memory: gru, lstm, delta (fast weights), snail, transformer or ttt."""
    hidden_size: int = eqx.field(static=True, default=64)
    """Entries of each memory's output."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(64,))
    """Hidden layers of the heads over it (ReLU)."""
    episodes: int = eqx.field(static=True, default=1)
    """Episodes a trial, over which the memory lives on; 0: as many as the family says."""
    num_envs: int = eqx.field(static=True, default=4)
    """Trials played side by side between two bouts of learning."""
    gradient_steps: int = eqx.field(static=True, default=64)
    """Gradient steps of a bout."""
    batch_size: int = eqx.field(static=True, default=16)
    """Trials in a gradient step."""
    capacity: int = eqx.field(static=True, default=1_000)
    """Trials in the replay, rounded up to whole updates."""
    warm_up_steps: int = eqx.field(static=True, default=1_000)
    """Environment steps taken nearly at random before learning begins."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    discount: float = 0.99
    """Discount factor γ."""
    target_rate: float = 0.005
    """How far the slow copies move towards the networks at each step."""
    reward_scale: float = 1.0
    """Factor on the rewards that are learned from."""
    memory: float = 1.0
    """Factor on what is remembered: 0 is the same method without memory, which sees the present
    observation alone."""
    max_gradient_norm: float = 10.0
    """Bound on the norm of a whole gradient."""

    def __check_init__(self):
        require_positive(
            self, "hidden_size", "num_envs", "gradient_steps", "batch_size", "capacity"
        )
        if self.episodes < 0:
            raise UserError(f"episodes must be 0 (as the family says) or more, not {self.episodes}")
        if self.cell not in get_args(Cell):
            raise UserError(f"cell must be one of {', '.join(get_args(Cell))}, not {self.cell!r}")

    # ---- what a method says ---------------------------------------------------------------------

    kind: ClassVar[type]
    """The distribution that a policy's outputs stand for."""

    @abc.abstractmethod
    def outputs(self, actions: int) -> int:
        """Return how many outputs a policy over so many action dimensions has."""

    @abc.abstractmethod
    def decide(
        self, distribution: Any, noise: Float[Array, "... actions"]
    ) -> tuple[Float[Array, "... actions"], Float[Array, "..."]]:
        """Return an action, as a differentiable function of the distribution and of standard normal
        noise; and what is charged for its randomness."""

    @abc.abstractmethod
    def exploration(self) -> float | Array:
        """Return the deviation that it explores with once it has warmed up."""

    # ---- the method around it -------------------------------------------------------------------

    def trial_episodes(self, problem: Problem) -> int:
        """Return how many episodes a trial has."""
        return self.episodes or problem.source.trial_episodes

    def init(self, problem: Problem, key: PRNGKeyArray) -> ControlState:
        family = problem.source
        if not isinstance(family.action_space, Box):
            raise UserError(
                f"'{self.name}' needs continuous actions, and '{family.name}' has discrete ones; use rl2"
            )
        if is_image(family.observation_space):
            raise UserError(f"'{self.name}' cannot look at images; use rl2")
        *keys, key = jax.random.split(key, 6)
        episodes = self.trial_episodes(problem)
        networks = ControlNetworks.of(
            problem,
            self.cell,
            self.hidden_size,
            self.hidden,
            kind=self.kind,
            outputs=self.outputs(outputs_for(family.action_space)),
            length=episodes * family.horizon + 1,
            remembers=self.memory,
            keys=keys,
        )
        return ControlState(
            networks=networks,
            slow=networks,
            optimizer=self._transform().init(networks),  # pyright: ignore[reportArgumentType]
            replay=Replay.of(Story.empty(problem, episodes), self.capacity, chunk=self.num_envs),
            observations=Normalizer.of(observation_size(family.observation_space)),
            rewards=Normalizer.of(1),
            collected=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: ControlState) -> tuple[ControlState, Any]:
        key, play_key = jax.random.split(state.key)
        task_key, play_key = jax.random.split(play_key)
        family, agent = problem.source, self.explorer(problem, state)
        params = family.tasks(task_key, "train", self.num_envs)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        played = play(agent, family, params, context, play_key, self.trial_episodes(problem))
        stories = jax.vmap(lambda steps, told: Story.of(agent, steps, told))
        experience = played, stories(played.transitions, context)
        return eqx.tree_at(lambda s: s.key, state, key), experience

    def learn(
        self, problem: Problem, state: ControlState, experience: tuple[Trials, Story]
    ) -> tuple[ControlState, dict[str, Array]]:
        played, stories = experience
        key, draw_key, noise_key = jax.random.split(state.key, 3)
        steps, space = played.transitions, problem.source.observation_space
        state = dataclasses.replace(
            state,
            replay=state.replay.add(stories),
            observations=state.observations.update(flatten(space, steps.obs), steps.valid),
            rewards=state.rewards.update(steps.reward[..., None], steps.valid),
            collected=state.collected + self.steps_per_update(problem),
            key=key,
        )
        (networks, slow, optimizer_state), metrics = only_if(
            state.collected >= self.warm_up_steps,
            lambda learned: self._fit(problem, state, learned, draw_key, noise_key),
            (state.networks, state.slow, state.optimizer),
        )
        state = dataclasses.replace(state, networks=networks, slow=slow, optimizer=optimizer_state)
        returns = played.returns[:, :, 0]
        rounds = returns.shape[1]
        by_episode = {f"return/episode_{i + 1}": jnp.mean(returns[:, i]) for i in range(rounds)}
        told = {"return": jnp.mean(returns)} | (by_episode if rounds > 1 else {})
        return state, told | metrics

    def _fit(
        self,
        problem: Problem,
        state: ControlState,
        learned: tuple,
        draw_key: PRNGKeyArray,
        noise_key: PRNGKeyArray,
    ) -> tuple[tuple, dict[str, Array]]:
        """The gradient steps of an update; `learned` are the networks, their slow copies and the
        optimizer's state."""
        networks, slow, optimizer_state = learned
        agent = self.agent(problem, state)

        def gradient(networks: ControlNetworks, slow: ControlNetworks, keys: tuple):
            draw_key, noise_key = keys
            batch = state.replay.episodes(draw_key, (self.batch_size,))
            size, time, actions = batch.action.shape
            noise = jax.random.normal(noise_key, (2, time + 1, size, actions))
            return jax.grad(self.loss, has_aux=True)(networks, slow, agent, batch, noise)

        descent = gradient_steps(
            gradient,
            networks,
            optimizer_state,
            tuple(jax.random.split(k, self.gradient_steps) for k in (draw_key, noise_key)),
            learning_rate=self.learning_rate,
            transform=self._transform(),
            slow=slow,
            after=lambda now, slow: moved(slow, now, self.target_rate),
        )
        learned = (descent.parameters, descent.slow, descent.optimizer_state)
        return learned, jax.tree.map(jnp.mean, descent.metrics)

    def loss(
        self,
        networks: ControlNetworks,
        slow: ControlNetworks,
        agent: HistoryAgent,
        batch: Story,
        noise: Float[Array, "two time1 batch actions"],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return J_Q + J_π of some trials, and the metrics. Each term moves only its own part of
        `networks`. `noise` is standard normal noise for both; `agent` says how what was stored is
        read."""
        context, batch = batch.context, batch._replace(context=None)
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)
        inputs = perceive(agent.observation_space, agent.observations, batch.obs)
        previous = agent.perceive_previous(batch.previous)

        def heard(reader: Remembering) -> tuple[Array, Array]:
            return reader.hear(inputs, previous, context, batch.valid)

        # What follows: y = r + γ min Q̄(h′, a′), at whatever is read next.
        output, x = heard(slow.actor)
        action, cost = self.decide(slow.actor.distribution(output, x), noise[0])
        output, x = heard(slow.critic)
        after = jnp.min(slow.critic.value(output, x, action), axis=0) - cost
        after = jnp.take_along_axis(after, batch.following, axis=0)
        target = self.reward_scale * batch.reward + self.discount * batch.carries_on * after
        counts = batch.valid[:-1].astype(jnp.float32)
        steps = jnp.maximum(jnp.sum(counts), 1.0)

        output, x = heard(networks.critic)
        output, x = output[:-1], x[:-1]
        q = networks.critic.value(output, x, batch.action)
        critic = 0.5 * jnp.sum((q - lax.stop_gradient(target)) ** 2 * counts) / steps

        # The policy climbs the critic's value of the history that was played.
        own_output, own_x = heard(networks.actor)
        distribution = networks.actor.distribution(own_output, own_x)
        action, cost = self.decide(distribution, noise[1])
        judge = lax.stop_gradient(networks.critic)
        worth = judge.value(lax.stop_gradient(output), lax.stop_gradient(x), action[:-1])
        policy = jnp.sum((cost[:-1] - worth[0]) * counts) / steps
        metrics = {
            "loss/value": critic,
            "loss/policy": policy,
            "value": jnp.sum(q[0] * counts) / steps,
        }
        return critic + policy, metrics

    def agent(self, problem: Problem, state: ControlState) -> HistoryAgent:
        agent = history_agent(
            problem.source, state.networks.actor, state.observations, state.rewards
        )
        # What was trained on single episodes has never begun one with a memory of another.
        return dataclasses.replace(agent, across_episodes=self.trial_episodes(problem) > 1)

    def explorer(self, problem: Problem, state: ControlState) -> HistoryAgent:
        """Return the agent that collects. It acts with noise, which at first is so large that it
        acts nearly at random."""
        warming = state.collected < self.warm_up_steps
        noise = jnp.where(warming, 1.0, self.exploration()).astype(jnp.float32)
        return eqx.tree_at(lambda a: a.networks.noise, self.agent(problem, state), noise)

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm),  # pyright: ignore[reportArgumentType]
            optax.scale_by_adam(),
        )

    def inherit(
        self, problem: Problem, state: ControlState, donor: AbstractLearner, found: State
    ) -> tuple[ControlState, list[str]]:
        """Take over networks, their slow copies and what observations are scaled by."""
        names = ("networks", "slow", "observations", "rewards")
        parts, left = inherit_parts(state, found, *names)
        return dataclasses.replace(state, **parts), left

    def steps_per_update(self, problem: Problem) -> int:
        return self.num_envs * self.trial_episodes(problem) * problem.source.horizon
