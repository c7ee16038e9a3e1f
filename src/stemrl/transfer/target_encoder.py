"""The separate form of domain-adversarial training: an encoder of its own for the target.

The encoder and the domain head D are trained against each other on observations of both domains, while the
source's network f stands still: D learns to tell f(source) from e(target), e descends what D makes of its
features when they are called the source's. The head that decides on f is then used on e as it is.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from ..core import AbstractAgent, Context
from ..networks import MLP
from ..rl.fitting import Descent, gradient_steps
from ..rl.policy import Network
from .domain import domain_loss, fooling_loss


def align(
    network: Network,
    encoder: Network,
    domain: MLP,
    optimizer_state: optax.OptState,
    batches: tuple[Array, Context, Array],
    *,
    weight: float | Array,
    learning_rate: float | Array,
) -> Descent:
    """Take a gradient step on each batch, of the domain head and of the target's encoder, both at once.

    **Arguments:**

    - `network`: the source's, f.
    - `encoder`: the target's, e: a whole policy network, of which only the features are used.
    - `batches`: observations of the source, contexts for both, observations of the target; every leaf
      `[steps, batch, …]`, as the networks see them.
    - `weight`: factor on the encoder's step size; 0 leaves it as it is.

    **Returns:** the descent, whose `parameters` are encoder and domain head.
    """

    def gradient(both: tuple[Network, MLP], slow: None, batch: tuple):
        encoder, domain = both
        inputs, context, frames = batch
        ours = network.features(inputs, context)

        def telling(domain: MLP) -> tuple[Array, Array]:
            theirs = lax.stop_gradient(encoder).features(frames, context)
            return domain_loss(domain(ours)[..., 0], domain(theirs)[..., 0])

        def fooling(encoder: Network) -> Array:
            return fooling_loss(domain(encoder.features(frames, context))[..., 0])

        (loss, accuracy), for_domain = jax.value_and_grad(telling, has_aux=True)(domain)
        told = {"loss/domain": loss, "domain_accuracy": accuracy}
        return (jax.grad(fooling)(encoder), for_domain), told

    weights = jax.tree.map(lambda _: jnp.asarray(weight, jnp.float32), encoder)
    ones = jax.tree.map(lambda _: jnp.ones(()), domain)
    return gradient_steps(
        gradient,
        (encoder, domain),
        optimizer_state,
        batches,
        learning_rate=learning_rate,
        factors=(weights, ones),
    )


def with_encoder(agent: AbstractAgent, encoder: Network) -> AbstractAgent:
    """Return the source's agent with its policy's head on the features of the target's encoder."""

    def features(network: Network) -> object:
        return network.body.layers[:-1] if network.encoder is None else network.encoder

    return eqx.tree_at(lambda a: features(a.policy.network), agent, features(encoder))
