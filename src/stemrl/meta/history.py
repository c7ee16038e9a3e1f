"""The agent whose memory is the history of a whole trial, and its networks.

It reads at each step the observation and what came of its previous action (that action, its reward,
whether the episode ended), and its hidden state lives on from episode to episode. RL² trains it with
PPO (`rl2.py`).
"""

from typing import Any, NamedTuple

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
    Info,
    Obs,
    Problem,
    Space,
    Transition,
    UserError,
    clip_action,
)
from ..networks import AbstractMemoryCell, Cell, ConvEncoder, Linear, MemoryState, memory_cell
from ..rl import (
    Normalizer,
    context_size,
    flatten,
    is_image,
    observation_size,
    outputs_for,
    perceive,
)
from ..rl.distributions import DiagonalGaussian, PolicyDistribution, policy_distribution

IMAGE_FEATURES = 64
_HEAD_HIDDEN = 0xB37
"""Folded into the key, so that the other weights are those without a layer in between."""


class History(NamedTuple):
    """What has happened in a trial, as the next step will read it."""

    hidden: MemoryState
    """The recurrent state."""
    previous: Float[Array, " previous"]
    """The last step: its action (one-hot if discrete), reward, end and, if the networks read that,
    observation. Zero before the first."""
    belief: DiagonalGaussian | None = None
    """Of agents that infer a latent task: its posterior so far."""


class HistoryMemory(NamedTuple):
    """What lasts from episode to episode: everything."""

    context: Context
    history: History


class HistoryReader(eqx.Module):
    """A memory that reads a trial step by step."""

    encoder: ConvEncoder | None
    """Of image observations."""
    cell: AbstractMemoryCell
    previous_observation: bool = eqx.field(static=True)
    """Whether the memory reads the observation of the step before, too."""

    @staticmethod
    def parts(
        problem: Problem,
        cell: Cell,
        size: int,
        *,
        length: int = 1,
        layers: int = 0,
        chrono_span: int = 0,
        previous_observation: bool = False,
        encoder_key: PRNGKeyArray,
        cell_key: PRNGKeyArray,
    ) -> tuple[dict[str, Any], int]:
        """Return the fields above, fresh for the spaces of `problem`, and how many entries the
        memory reads. `length`, `layers`, `chrono_span`: see `memory_cell`. Raises `UserError` for
        images whose previous one is to be read."""
        observations = problem.source.observation_space
        features, encoder = observation_size(observations), None
        if isinstance(observations, Box) and is_image(observations):
            if previous_observation:
                raise UserError("previous_observation is for vectors, not images; set it to false")
            height, width, channels = observations.shape
            features = IMAGE_FEATURES
            encoder = ConvEncoder((height, width, channels), features, key=encoder_key)
        outputs = outputs_for(problem.source.action_space)
        inputs = (1 + previous_observation) * features + outputs + 2 + context_size(problem)
        memory = memory_cell(
            cell,
            inputs,
            size,
            length=length,
            layers=layers,
            chrono_span=chrono_span,
            key=cell_key,
        )
        fields = {"encoder": encoder, "cell": memory, "previous_observation": previous_observation}
        return fields, inputs

    def read(self, inputs: Array, previous: Array, context: Context) -> Float[Array, "... inputs"]:
        """Return what the memory is given: `inputs` is what `perceive` gave."""
        parts = [inputs if self.encoder is None else self.encoder(inputs), previous]
        return jnp.concatenate(parts if context is None else [*parts, context], axis=-1)


class RecurrentActorCritic(HistoryReader):
    """A memory under two linear heads, policy and value; between them, if wished, a ReLU layer that
    sees the memory's input too."""

    head_hidden: Linear | None
    policy: Linear
    value: Linear
    log_std: Float[Array, " actions"] | None
    """Of continuous actions."""
    actions: Space = eqx.field(static=True)
    """The action space."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        cell: Cell,
        size: int,
        *,
        initial_std: float,
        head_hidden_size: int = 0,
        key: PRNGKeyArray,
        **memory: Any,
    ) -> "RecurrentActorCritic":
        """Return fresh networks for the spaces of `problem`. `head_hidden_size`: entries of the
        layer between memory and heads, none if 0; `memory`: see `HistoryReader.parts`."""
        encoder_key, cell_key, policy_key, value_key = jax.random.split(key, 4)
        hidden_key = jax.random.fold_in(key, _HEAD_HIDDEN)
        actions = problem.source.action_space
        outputs = outputs_for(actions)
        reader, inputs = cls.parts(
            problem, cell, size, **memory, encoder_key=encoder_key, cell_key=cell_key
        )
        top = head_hidden_size or size
        return cls(
            **reader,
            head_hidden=Linear(size + inputs, head_hidden_size, scale=2**0.5, key=hidden_key)
            if head_hidden_size
            else None,
            policy=Linear(top, outputs, scale=0.01, key=policy_key),
            value=Linear(top, 1, key=value_key),
            actions=actions,
            log_std=None
            if not isinstance(actions, Box)
            else jnp.full(outputs, jnp.log(initial_std), float),
        )

    def heads(
        self, output: Float[Array, "... size"], x: Float[Array, "... inputs"]
    ) -> tuple[PolicyDistribution, Float[Array, "..."]]:
        """Return the distribution over actions, and the value of the rest of the trial, from what
        the memory says after reading `x`."""
        if self.head_hidden is not None:
            output = jax.nn.relu(self.head_hidden(jnp.concatenate([output, x], axis=-1)))
        out, value = self.policy(output), self.value(output)[..., 0]
        log_std = self.log_std
        if log_std is not None:
            log_std = jnp.broadcast_to(log_std, out.shape)
        return policy_distribution(self.actions, out, log_std), value


def action_taken(space: Space, action: Action) -> Float[Array, "... actions"]:
    """Return an action as a vector, as the world took it: one-hot, or clipped to its bounds."""
    return flatten(space, clip_action(space, action))


class HistoryAgent(AbstractAgent):
    """Acts on everything it has seen of a task; adapting is nothing but remembering.

    `info` holds the action's `log_prob`, the `value` of the rest of the trial (in scaled rewards)
    and the `previous` step and `context` that the network read.
    """

    networks: Any
    """A `RecurrentActorCritic`; of agents that act otherwise, a `HistoryReader`."""
    observations: Normalizer
    rewards: Normalizer
    """Of the previous reward, as an input."""
    observation_space: Space = eqx.field(static=True)
    action_space: Space = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)
    across_episodes: bool = eqx.field(static=True, default=True)
    """Whether it remembers a trial's earlier episodes; without, each one begins with an empty memory."""

    def start(self, context: Context, key: PRNGKeyArray) -> HistoryMemory:
        size = outputs_for(self.action_space) + 2
        if self.networks.previous_observation:
            size += observation_size(self.observation_space)
        return HistoryMemory(context, History(self.networks.cell.initial(), jnp.zeros(size)))

    def begin(self, memory: HistoryMemory, key: PRNGKeyArray) -> History:
        return memory.history

    def act(
        self, memory: HistoryMemory, carry: History, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, History, Info]:
        inputs = perceive(self.observation_space, self.observations, obs)
        previous = self.perceive_previous(carry.previous)
        x = self.networks.read(inputs, previous, memory.context)
        hidden, output = self.networks.cell.step(carry.hidden, x)
        distribution, value = self.networks.heads(output, x)
        action = distribution.mode() if self.greedy else distribution.sample(key)
        info = {
            "log_prob": distribution.log_prob(action),
            "value": value,
            "previous": carry.previous,
            "context": memory.context,
        }
        return action, carry._replace(hidden=hidden), info

    def observe(self, memory: HistoryMemory, carry: History, transition: Transition) -> History:
        action = action_taken(self.action_space, transition.action)
        what_followed = jnp.stack([transition.reward, transition.ended.astype(jnp.float32)])
        parts = [action, what_followed]
        if self.networks.previous_observation:
            parts.append(flatten(self.observation_space, transition.obs))
        return carry._replace(previous=jnp.concatenate(parts))

    def perceive_previous(
        self, previous: Float[Array, "... previous"]
    ) -> Float[Array, "... previous"]:
        """Return the previous step as an input: its reward and observation by running mean and
        deviation."""
        actions = outputs_for(self.action_space)
        action, reward, end, obs = jnp.split(previous, [actions, actions + 1, actions + 2], axis=-1)
        if obs.size and isinstance(self.observation_space, Box):
            obs = self.observations(obs)
        return jnp.concatenate([action, self.rewards(reward), end, obs], axis=-1)

    def adapt(
        self,
        memory: HistoryMemory,
        carries: History,
        episodes: Transition | None,
        key: PRNGKeyArray,
    ) -> HistoryMemory:
        if not self.across_episodes:
            return memory
        return memory._replace(history=jax.tree.map(lambda x: x[0], carries))


def history_agent(
    family: AbstractFamily,
    networks: HistoryReader,
    observations: Normalizer,
    rewards: Normalizer,
) -> HistoryAgent:
    """Return the agent of these networks for the spaces of `family`."""
    return HistoryAgent(
        networks=networks,
        observations=observations,
        rewards=rewards,
        observation_space=family.observation_space,
        action_space=family.action_space,
    )
