"""The networks of soft actor-critic: a policy with a deviation of its own, and two critics."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Context, Discrete, Space
from ..networks import MLP, ConvEncoder
from .distributions import Categorical, TanhGaussian, outputs_for, refuse_several_choices
from .multi_task import own_head
from .policy import Network, is_image, observation_size


class SoftPolicy(eqx.Module):
    """A policy that is a tanh Gaussian whose deviation depends on the state, or a categorical
    distribution."""

    network: Network
    actions: Space = eqx.field(static=True)
    """The action space."""

    def __init__(
        self,
        observations: Space,
        actions: Space,
        context_size: int,
        hidden: tuple[int, ...],
        *,
        tasks: int = 0,
        key: PRNGKeyArray,
    ):
        """Make a fresh policy for these spaces and a context of so many entries; with `tasks`, it
        has a head for each task."""
        refuse_several_choices("a soft actor-critic (SAC, PEARL)", actions)
        self.actions = actions
        self.network = Network(
            observations,
            context_size,
            outputs_for(actions) * (1 if isinstance(actions, Discrete) else 2),
            hidden,
            "relu",
            final_scale=0.01,
            tasks=tasks,
            key=key,
        )

    def __call__(self, inputs: Array, context: Context = None) -> TanhGaussian | Categorical:
        """Return the distribution over actions."""
        out = self.network(inputs, context)
        if isinstance(self.actions, Discrete):
            return Categorical(out)
        mean, log_std = jnp.split(out, 2, axis=-1)
        return TanhGaussian(mean, jnp.clip(log_std, -20.0, 2.0))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _twin_affine(
    x: Float[Array, "*twins rows inputs"],
    weight: Float[Array, "twins inputs outputs"],
    bias: Float[Array, "twins 1 outputs"],
    learning: int,
) -> Float[Array, "twins rows outputs"]:
    """x W + b for both critics, whose weights learn from the first `learning` rows only; `x` gets
    the gradient of all."""
    return x @ weight + bias


def _affine_forward(x: Array, weight: Array, bias: Array, learning: int):
    return x @ weight + bias, (x, weight)


def _affine_backward(learning: int, saved: tuple[Array, Array], g: Array):
    x, weight = saved
    taught, inputs = g[:, :learning], x[..., :learning, :]
    inputs = jnp.broadcast_to(inputs, (weight.shape[0], *inputs.shape[-2:]))
    dx = g @ jnp.swapaxes(weight, -1, -2)
    return (
        dx if x.ndim == 3 else jnp.sum(dx, axis=0),
        jnp.swapaxes(inputs, -1, -2) @ taught,
        jnp.sum(taught, axis=1, keepdims=True),
    )


_twin_affine.defvjp(_affine_forward, _affine_backward)
_affine: Callable[[Array, Array, Array, int], Array] = _twin_affine  # pyright: ignore


class Critics(eqx.Module):
    """Two action values, whose layers lie side by side in one stack of matrices.

    The first layer is split in two, one part for what is observed and one for the action. So two
    actions of one observation share the larger part, and no gradient with regard to the observation
    is computed where none is needed.
    """

    encoder: ConvEncoder | None
    """An encoder for images, which both critics share."""
    observed: Float[Array, "2 inputs hidden"]
    acted: Float[Array, "2 actions hidden"] | None
    """`None` where the critics give one value for each of a few discrete actions."""
    weights: tuple[Float[Array, "2 inputs outputs"], ...]
    """Weights of the layers behind the first."""
    biases: tuple[Float[Array, "2 1 outputs"], ...]
    """Biases of all layers."""
    tasks: int = eqx.field(static=True)
    """Number of heads, one for each task, of which the context chooses one; 0: one head for all
    tasks, which sees the context."""

    def __init__(
        self,
        observations: Space,
        actions: Space,
        context_size: int,
        hidden: tuple[int, ...],
        *,
        tasks: int = 0,
        key: PRNGKeyArray,
    ):
        """Make fresh critics for these spaces and a context of so many entries; with `tasks`, they
        have a head for each task."""
        self.tasks = tasks
        encoder_key, body_key = jax.random.split(key)
        inputs = observation_size(observations)
        self.encoder = None
        if is_image(observations):
            inputs = 128
            height, width, channels = observations.shape
            self.encoder = ConvEncoder((height, width, channels), inputs, key=encoder_key)
        inputs += 0 if tasks else context_size
        discrete = isinstance(actions, Discrete)
        acted, outputs = (0, actions.n) if discrete else (outputs_for(actions), 1)
        outputs *= tasks or 1
        twins = [
            MLP(inputs + acted, outputs, hidden, "relu", key=k) for k in jax.random.split(body_key)
        ]
        first, *rest = zip(*(twin.layers for twin in twins), strict=True)
        weight = jnp.stack([layer.weight for layer in first])
        self.observed = weight[:, :inputs]
        self.acted = None if discrete else weight[:, inputs:]
        self.weights = tuple(jnp.stack([layer.weight for layer in pair]) for pair in rest)
        self.biases = tuple(
            jnp.stack([layer.bias for layer in pair])[:, None] for pair in (first, *rest)
        )

    def __call__(
        self, inputs: Array, context: Context, *actions: Float[Array, "batch actions"]
    ) -> Float[Array, "2 rows outputs"]:
        """Return Q of each of `actions` in turn (`rows` is batch × how many there are, outputs 1);
        without any, Q of every discrete action (`rows` is batch).

        The critics' parameters, and what is behind `inputs` and `context`, learn from the first of
        the actions only.
        """
        features = inputs if self.encoder is None else self.encoder(inputs)
        if context is not None and not self.tasks:
            features = jnp.concatenate([features, context], axis=-1)
        batch = features.shape[0]
        x = _affine(features, self.observed, self.biases[0], batch)
        if self.acted is not None:
            # What the later actions share is not learned from.
            x = jnp.concatenate([x] + [lax.stop_gradient(x)] * (len(actions) - 1), axis=1)
            x = x + _affine(
                jnp.concatenate(actions), self.acted, jnp.zeros_like(self.biases[0]), batch
            )
        for weight, bias in zip(self.weights, self.biases[1:], strict=True):
            x = _affine(jax.nn.relu(x), weight, bias, batch)
        if self.tasks:
            assert context is not None
            x = own_head(x, jnp.tile(context, (max(len(actions), 1), 1)), self.tasks)
        return x


class Networks(eqx.Module):
    """All that gradients move."""

    policy: SoftPolicy
    critics: Critics
    log_temperature: Float[Array, ""]
