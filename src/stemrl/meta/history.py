"""The agent whose memory is the history of a whole trial, and its networks.

It reads at each step the observation and what came of its previous action (that action, its reward,
whether the episode ended), and its hidden state lives on from episode to episode. RL² trains it with
PPO (`rl2.py`).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    Action,
    Box,
    Context,
    Discrete,
    Info,
    Obs,
    Problem,
    Space,
    Transition,
)
from ..networks import AbstractMemoryCell, Cell, ConvEncoder, Linear, MemoryState, memory_cell
from ..rl import (
    Categorical,
    DiagonalGaussian,
    Normaliser,
    context_size,
    flatten,
    is_image,
    observation_size,
    outputs_for,
    perceive,
)

IMAGE_FEATURES = 64


class History(NamedTuple):
    """What has happened in a trial, as the next step will read it."""

    hidden: MemoryState
    """The recurrent state."""
    previous: Float[Array, " actions+2"]
    """The last step: its action (one-hot if discrete), reward and end. Zero before the first."""


class HistoryMemory(NamedTuple):
    """What lasts from episode to episode: everything."""

    context: Context
    history: History


class RecurrentActorCritic(eqx.Module):
    """A memory under two linear heads, policy and value."""

    encoder: ConvEncoder | None
    """Of image observations."""
    cell: AbstractMemoryCell
    policy: Linear
    value: Linear
    log_std: Float[Array, " actions"] | None
    """Of continuous actions."""

    @classmethod
    def of(
        cls, problem: Problem, cell: Cell, size: int, *, initial_std: float, key: PRNGKeyArray
    ) -> "RecurrentActorCritic":
        """Fresh networks for the spaces of `problem`."""
        encoder_key, cell_key, policy_key, value_key = jax.random.split(key, 4)
        observations, actions = problem.source.observation_space, problem.source.action_space
        seen, encoder = observation_size(observations), None
        if isinstance(observations, Box) and is_image(observations):
            height, width, channels = observations.shape
            seen = IMAGE_FEATURES
            encoder = ConvEncoder((height, width, channels), seen, key=encoder_key)
        outputs = outputs_for(actions)
        inputs = seen + outputs + 2 + context_size(problem)
        return cls(
            encoder=encoder,
            cell=memory_cell(cell, inputs, size, key=cell_key),
            policy=Linear(size, outputs, scale=0.01, key=policy_key),
            value=Linear(size, 1, key=value_key),
            log_std=None
            if isinstance(actions, Discrete)
            else jnp.full(outputs, jnp.log(initial_std)),
        )

    def read(self, seen: Array, previous: Array, context: Context) -> Float[Array, "... inputs"]:
        """What the memory is given: `seen` is what `perceive` gave."""
        parts = [seen if self.encoder is None else self.encoder(seen), previous]
        return jnp.concatenate(parts if context is None else [*parts, context], axis=-1)

    def heads(
        self, output: Float[Array, "... size"]
    ) -> tuple[Categorical | DiagonalGaussian, Float[Array, "..."]]:
        """The distribution over actions, and the value of the rest of the trial."""
        out, value = self.policy(output), self.value(output)[..., 0]
        if self.log_std is None:
            return Categorical(out), value
        return DiagonalGaussian(out, jnp.broadcast_to(self.log_std, out.shape)), value


class HistoryAgent(AbstractAgent):
    """Acts on everything it has seen of a task; adapting is nothing but remembering.

    `info` holds the action's `log_prob`, the `value` of the rest of the trial (in scaled rewards)
    and the `previous` step and `context` that the network read.
    """

    networks: RecurrentActorCritic
    observations: Normaliser
    rewards: Normaliser
    """Of the previous reward, as an input."""
    observation_space: Space = eqx.field(static=True)
    action_space: Space = eqx.field(static=True)
    width: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> HistoryMemory:
        previous = jnp.zeros(outputs_for(self.action_space) + 2)
        return HistoryMemory(context, History(self.networks.cell.initial(), previous))

    def begin(self, memory: HistoryMemory, key: PRNGKeyArray) -> History:
        return memory.history

    def act(
        self, memory: HistoryMemory, carry: History, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, History, Info]:
        seen = perceive(self.observation_space, self.observations, obs)
        previous = with_reward(self.rewards, carry.previous)
        x = self.networks.read(seen, previous, memory.context)
        hidden, output = self.networks.cell.step(carry.hidden, x)
        distribution, value = self.networks.heads(output)
        action = distribution.mode() if self.greedy else distribution.sample(key)
        info = {
            "log_prob": distribution.log_prob(action),
            "value": value,
            "previous": carry.previous,
            "context": memory.context,
        }
        return action, carry._replace(hidden=hidden), info

    def observe(self, memory: HistoryMemory, carry: History, transition: Transition) -> History:
        action = flatten(self.action_space, transition.action)
        if isinstance(self.action_space, Box) and self.action_space.bounded:
            # As the world took it.
            action = jnp.clip(action, -1.0, 1.0)
        what_followed = jnp.stack([transition.reward, transition.ended.astype(jnp.float32)])
        return carry._replace(previous=jnp.concatenate([action, what_followed]))

    def adapt(
        self,
        memory: HistoryMemory,
        carries: History,
        episodes: Transition | None,
        key: PRNGKeyArray,
    ) -> HistoryMemory:
        return memory._replace(history=jax.tree.map(lambda x: x[0], carries))


def with_reward(
    rewards: Normaliser, previous: Float[Array, "... actions+2"]
) -> Float[Array, "... actions+2"]:
    """The previous step as an input: its reward by the running mean and deviation."""
    action, reward, end = previous[..., :-2], previous[..., -2:-1], previous[..., -1:]
    return jnp.concatenate([action, rewards(reward), end], axis=-1)


def history_agent(
    family: AbstractFamily,
    networks: RecurrentActorCritic,
    observations: Normaliser,
    rewards: Normaliser,
) -> HistoryAgent:
    """The agent of these networks for the spaces of `family`."""
    return HistoryAgent(
        networks=networks,
        observations=observations,
        rewards=rewards,
        observation_space=family.observation_space,
        action_space=family.action_space,
    )
