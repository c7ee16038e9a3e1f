"""The feed-forward policy and value networks that methods share, and what they see."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractFamily,
    Box,
    Context,
    Problem,
    Space,
    flatten,
    is_image,
    observation_size,
)
from ..networks import MLP, Activation, ConvEncoder
from ..networks.mlp import activate
from .distributions import PolicyDistribution, outputs_for, policy_distribution
from .multi_task import own_head
from .normalize import Normalizer


def perceive(space: Space, normalizer: Normalizer | None, obs: Array) -> Array:
    """Return what a network is given: the observation as a flat vector, normalized where that makes
    sense. Images keep their shape."""
    x = flatten(space, obs)
    if normalizer is None or not isinstance(space, Box) or is_image(space):
        return x
    return normalizer(x)


def context_size(problem: Problem) -> int:
    """Return the number of entries of the revealed context; 0 where nothing is revealed."""
    if problem.reveal == "nothing":
        return 0
    return int(jax.eval_shape(lambda: _one_context(problem.source)).size)


def _one_context(family: AbstractFamily) -> Any:
    return family.context(family.sample(jax.random.key(0), "train"))


class Network(eqx.Module):
    """A network from an observation and a context to a vector: a convolutional encoder for images,
    then an MLP."""

    encoder: ConvEncoder | None
    body: MLP
    tasks: int = eqx.field(static=True)
    """Number of heads, one for each task, of which the context chooses one; 0: one head for all
    tasks, which sees the context."""

    def __init__(
        self,
        space: Space,
        context: int,
        outputs: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        *,
        final_scale: float = 1.0,
        tasks: int = 0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** the observation space, the context's size, the output's size, hidden
        layers; `tasks`: heads, if each task has its own; see `MLP` for the rest."""
        encoder_key, body_key = jax.random.split(key)
        self.tasks = tasks
        if tasks:
            context, outputs = 0, tasks * outputs
        inputs = observation_size(space)
        self.encoder = None
        if is_image(space):
            inputs = 128
            height, width, channels = space.shape
            self.encoder = ConvEncoder((height, width, channels), inputs, key=encoder_key)
        self.body = MLP(
            inputs + context, outputs, hidden, activation, final_scale=final_scale, key=body_key
        )

    def __call__(self, inputs: Array, context: Context = None) -> Float[Array, "... outputs"]:
        """Return the outputs. `inputs` is what `perceive` gave; `context` has the same leading
        dimensions, or none."""
        return self.head(self.features(inputs, context), context)

    def features(self, inputs: Array, context: Context = None) -> Float[Array, "... features"]:
        """Return what the network makes of its inputs before it decides: the encoder's output for
        images, otherwise the last hidden layer's."""
        if self.encoder is not None:
            return self.encoder(inputs)
        x = inputs if self.tasks else _with_context(inputs, context)
        for layer in self.body.layers[:-1]:
            x = activate(self.body.activation, layer(x))
        return x

    def head(
        self, features: Float[Array, "... features"], context: Context = None
    ) -> Float[Array, "... outputs"]:
        """Return the outputs that belong to `features`."""
        if self.encoder is not None:
            out = self.body(features if self.tasks else _with_context(features, context))
        else:
            out = self.body.layers[-1](features)
        if not self.tasks:
            return out
        assert context is not None
        return own_head(out, context, self.tasks)


def _with_context(x: Array, context: Context) -> Array:
    if context is None:
        return x
    return jnp.concatenate([x, jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1]))], -1)


class Policy(eqx.Module):
    """A stochastic policy: categorical (over each of several choices), or Gaussian with a deviation
    that does not depend on the state."""

    network: Network
    log_std: Float[Array, " actions"] | None
    min_log_std: float = eqx.field(static=True)
    actions: Space = eqx.field(static=True)
    """The action space."""

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        context: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        *,
        initial_std: float = 1.0,
        min_std: float = 1e-6,
        final_scale: float = 0.01,
        tasks: int = 0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** `initial_std`, `min_std`: of continuous actions, whose range is [−1, 1];
        `tasks`: heads, see `Network`."""
        outputs = outputs_for(action_space)
        self.network = Network(
            observation_space,
            context,
            outputs,
            hidden,
            activation,
            final_scale=final_scale,
            tasks=tasks,
            key=key,
        )
        continuous = isinstance(action_space, Box)
        # With a type of its own, as after the first update, for which all would else be compiled anew.
        self.log_std = jnp.full(outputs, jnp.log(initial_std), float) if continuous else None
        self.min_log_std = math.log(min_std)
        self.actions = action_space

    def __call__(self, inputs: Array, context: Context = None) -> PolicyDistribution:
        """Return the distribution over actions."""
        log_std = self.log_std
        if log_std is not None:
            log_std = jnp.maximum(log_std, self.min_log_std)
        return policy_distribution(self.actions, self.network(inputs, context), log_std)
