"""Off-policy learning with a memory: what RDPG and RSVG(0) share.

A replay of whole trials; an actor and a critic, each with a memory of its own that reads the history of
a trial from its start; gradients through all of its steps; slow copies of both. A method says what a
policy's outputs mean, and which loss they descend.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import (
    AbstractLearner,
    Box,
    Context,
    Params,
    Problem,
    State,
    Transition,
    UserError,
)
from ..networks import MLP, Cell
from ..rl import Normalizer, flatten, is_image, observation_size, outputs_for, perceive, play
from ..rl.distributions import AbstractDistribution
from ..rl.experience import Trials
from ..rl.fitting import gradient_steps, require_positive
from ..rl.inheriting import inherit_parts
from ..rl.off_policy import moved
from ..rl.replay import Replay
from .history import History, HistoryAgent, HistoryReader, action_taken


class Story(NamedTuple):
    """A trial in the replay: its episodes one after another with their padding, `[time, …]`. What
    is read also after the last step is `[time + 1, …]`. With leading dimensions, many. All values
    are raw."""

    obs: Array
    """`[time + 1, …]`; the last one followed the last step."""
    previous: Float[Array, "... time1 previous"]
    """What came of the step before, in the form of `History.previous`."""
    valid: Bool[Array, "... time1"]
    """False on padding."""
    action: Float[Array, "... time actions"]
    """The action in the form in which the world took it."""
    reward: Float[Array, "... time"]
    carries_on: Float[Array, "... time"]
    """0 where what follows the step is worth nothing, otherwise 1."""
    following: Int[Array, "... time"]
    """The time at which the next input is read: that of the next step that is no padding, or the
    end."""
    context: Context


class Remembering(HistoryReader):
    """A reader that can be made to forget all but what it sees."""

    remembers: Float[Array, ""]
    """Factor on what the memory says, and on what came of the step before: 0 leaves the present
    observation alone. Not learned."""

    def read(self, inputs: Array, previous: Array, context: Context) -> Float[Array, "... inputs"]:
        return super().read(inputs, lax.stop_gradient(self.remembers) * previous, context)

    def top(self, output: Array, *others: Array) -> Float[Array, "... entries"]:
        """Return what the heads are given."""
        return jnp.concatenate([lax.stop_gradient(self.remembers) * output, *others], axis=-1)


class Actor(Remembering):
    """A memory under a head that sees its output and its input: the policy μ(h) or π(·|h)."""

    head: MLP
    noise: Float[Array, ""]
    """Deviation that a policy explores with."""
    kind: type = eqx.field(static=True)
    """What its outputs are: `kind.of(outputs, noise)` is a distribution over actions."""

    def distribution(self, output: Array, x: Array) -> AbstractDistribution:
        """Return the distribution over actions, from what the memory says after reading `x`."""
        return self.kind.of(self.head(self.top(output, x)), self.noise)

    def heads(self, output: Array, x: Array) -> tuple[AbstractDistribution, Float[Array, "..."]]:
        """Return the distribution, and no value: the critic has those."""
        return self.distribution(output, x), jnp.zeros(x.shape[:-1])


class Critic(Remembering):
    """A memory of its own under two heads: Q₁ and Q₂ of a history and an action."""

    heads: tuple[MLP, MLP]

    def value(self, output: Array, x: Array, action: Array) -> Float[Array, "two ..."]:
        """Return both values."""
        inputs = self.top(output, x, action)
        return jnp.stack([head(inputs)[..., 0] for head in self.heads])


class ControlNetworks(NamedTuple):
    """All networks that gradients move."""

    actor: Actor
    critic: Critic


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
        keys = jax.random.split(key, 6)
        length = self.trial_episodes(problem) * family.horizon + 1

        def reader(key: PRNGKeyArray) -> tuple[dict[str, Any], int]:
            encoder_key, cell_key = jax.random.split(key)
            return HistoryReader.parts(
                problem,
                self.cell,
                self.hidden_size,
                length=length,
                encoder_key=encoder_key,
                cell_key=cell_key,
            )

        actions = outputs_for(family.action_space)
        memory = jnp.asarray(self.memory, jnp.float32)
        fields, inputs = reader(keys[0])
        seen = self.hidden_size + inputs
        outputs = self.outputs(actions)
        actor = Actor(
            **fields,
            head=MLP(seen, outputs, self.hidden, "relu", final_scale=0.01, key=keys[1]),
            noise=jnp.zeros(()),
            remembers=memory,
            kind=self.kind,
        )
        critic = Critic(
            **reader(keys[2])[0],
            heads=(
                MLP(seen + actions, 1, self.hidden, "relu", key=keys[3]),
                MLP(seen + actions, 1, self.hidden, "relu", key=keys[4]),
            ),
            remembers=memory,
        )
        networks = ControlNetworks(actor, critic)
        return ControlState(
            networks=networks,
            slow=networks,
            optimizer=self._transform().init(networks),  # pyright: ignore[reportArgumentType]
            replay=Replay.of(
                self._empty(problem), -(-self.capacity // self.num_envs) * self.num_envs
            ),
            observations=Normalizer.of(observation_size(family.observation_space)),
            rewards=Normalizer.of(1),
            collected=jnp.zeros((), jnp.int32),
            key=keys[5],
        )

    def _empty(self, problem: Problem) -> Story:
        """A trial of zeros."""
        family = problem.source
        time, space = self.trial_episodes(problem) * family.horizon, family.observation_space
        actions = outputs_for(family.action_space)

        def told() -> Context:
            return problem.context(family, family.sample(jax.random.key(0), "train"))

        shapes = jax.eval_shape(told)
        return Story(
            obs=jnp.zeros((time + 1, *space.shape), space.dtype),
            previous=jnp.zeros((time + 1, actions + 2)),
            valid=jnp.zeros(time + 1, bool),
            action=jnp.zeros((time, actions)),
            reward=jnp.zeros(time),
            carries_on=jnp.zeros(time),
            following=jnp.zeros(time, jnp.int32),
            context=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes),
        )

    def _play(
        self, problem: Problem, agent: HistoryAgent, key: PRNGKeyArray, trials: int
    ) -> tuple[Trials, Story]:
        """New trials on tasks of the source."""
        task_key, play_key = jax.random.split(key)
        family, rounds = problem.source, self.trial_episodes(problem)
        params: Params = family.tasks(task_key, "train", trials)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        played = play(agent, family, params, context, play_key, rounds)
        return played, jax.vmap(lambda steps, c: story(agent, steps, c))(
            played.transitions, context
        )

    def collect(self, problem: Problem, state: ControlState) -> tuple[ControlState, Any]:
        key, play_key = jax.random.split(state.key)
        played, stories = self._play(
            problem, self.explorer(problem, state), play_key, self.num_envs
        )
        return eqx.tree_at(lambda s: s.key, state, key), (played, stories)

    def learn(
        self, problem: Problem, state: ControlState, experience: tuple[Trials, Story]
    ) -> tuple[ControlState, dict[str, Array]]:
        played, stories = experience
        key, draw_key, noise_key = jax.random.split(state.key, 3)
        steps, space = played.transitions, problem.source.observation_space
        replay = state.replay.add(stories)
        observations = state.observations.update(flatten(space, steps.obs), steps.valid)
        rewards = state.rewards.update(steps.reward[..., None], steps.valid)
        collected = state.collected + self.steps_per_update(problem)
        agent = self._agent(problem, state.networks, observations, rewards)
        shape = (self.gradient_steps, self.batch_size)

        def gradient(networks: ControlNetworks, slow: ControlNetworks, drawn: Any):
            keys, noise_key = drawn
            batch = replay.episodes(keys, (self.batch_size,))
            size, time, actions = batch.action.shape
            noise = jax.random.normal(noise_key, (2, time + 1, size, actions))
            return jax.grad(self.loss, has_aux=True)(networks, slow, agent, batch, noise)

        def train(state: ControlState) -> tuple[ControlState, dict[str, Array]]:
            descent = gradient_steps(
                gradient,
                state.networks,
                state.optimizer,
                (jax.random.split(draw_key, shape[0]), jax.random.split(noise_key, shape[0])),
                learning_rate=self.learning_rate,
                transform=self._transform(),
                slow=state.slow,
                after=lambda now, slow: moved(slow, now, self.target_rate),
            )
            state = dataclasses.replace(
                state,
                networks=descent.parameters,
                slow=descent.slow,
                optimizer=descent.optimizer_state,
            )
            return state, jax.tree.map(jnp.mean, descent.metrics)

        def wait(state: ControlState) -> tuple[ControlState, dict[str, Array]]:
            shapes = jax.eval_shape(train, state)[1]
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        state, metrics = lax.cond(collected >= self.warm_up_steps, train, wait, state)
        state = dataclasses.replace(
            state,
            replay=replay,
            observations=observations,
            rewards=rewards,
            collected=collected,
            key=key,
        )
        returns = played.returns[:, :, 0]
        rounds = returns.shape[1]
        by_episode = {f"return/episode_{i + 1}": jnp.mean(returns[:, i]) for i in range(rounds)}
        told = {"return": jnp.mean(returns)} | (by_episode if rounds > 1 else {})
        return state, told | metrics

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

        def heard(reader: HistoryReader) -> tuple[Array, Array]:
            along = (
                None
                if context is None
                else jnp.broadcast_to(context, (inputs.shape[0], *context.shape))
            )
            x = reader.read(inputs, previous, along)
            start = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (x.shape[1], *leaf.shape)),
                reader.cell.initial(),
            )
            return reader.cell.unroll(start, x, valid=batch.valid)[1], x

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
        return self._agent(problem, state.networks, state.observations, state.rewards)

    def explorer(self, problem: Problem, state: ControlState) -> HistoryAgent:
        """Return the agent that collects. It acts with noise, which at first is so large that it
        acts nearly at random."""
        warming = state.collected < self.warm_up_steps
        noise = jnp.where(warming, 1.0, self.exploration()).astype(jnp.float32)
        return eqx.tree_at(lambda a: a.networks.noise, self.agent(problem, state), noise)

    def _agent(
        self,
        problem: Problem,
        networks: ControlNetworks,
        observations: Normalizer,
        rewards: Normalizer,
    ) -> HistoryAgent:
        family = problem.source
        return HistoryAgent(
            networks=networks.actor,  # pyright: ignore[reportArgumentType]
            observations=observations,
            rewards=rewards,
            observation_space=family.observation_space,
            action_space=family.action_space,
        )

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


def story(agent: HistoryAgent, steps: Transition, context: Context) -> Story:
    """Return a trial as the replay holds it; `steps` are `[rounds, 1, time, …]`.

    With one episode a trial, its own end is the trial's, and a time limit cuts without ending. With
    several, nothing ends before the last one does, and that is the end of all."""
    rounds = steps.reward.shape[0]
    steps = jax.tree.map(lambda x: x[:, 0].reshape(-1, *x.shape[3:]), steps)
    time = jnp.arange(steps.reward.shape[0])
    later = lax.cummin(jnp.where(steps.valid, time, time.size), reverse=True)
    following = jnp.append(later[1:], time.size)
    last = jnp.max(jnp.where(steps.valid, time, 0))
    end = jax.tree.map(lambda x: x[last], steps)
    told = agent.observe(None, History(None, end.info["previous"]), end)  # pyright: ignore
    over = steps.terminated if rounds == 1 else time == last
    return Story(
        obs=jnp.concatenate([steps.obs, end.next_obs[None]]),
        previous=jnp.concatenate([steps.info["previous"], told.previous[None]]),
        valid=jnp.append(steps.valid, True),
        action=action_taken(agent.action_space, steps.action),
        reward=steps.reward,
        carries_on=1.0 - over.astype(jnp.float32),
        following=following,
        context=context,
    )
