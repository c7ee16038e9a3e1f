"""Orthogonal weights, drawn so that a batch of networks can begin at once."""

import jax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, PRNGKeyArray


def orthogonal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Weights of this shape whose columns are orthogonal, or whose rows are where there are fewer.

    Under `vmap` they are drawn one after another. XLA's CPU backend lets each batched QR decomposition
    wait on a thread of its pool for the others of its batch; two of them in one program, as in a batch of
    networks of two layers, can wait so for each other for ever (jaxlib 0.10.2, two cores).
    """

    @sequential_vmap
    def draw(key: PRNGKeyArray) -> Array:
        return jax.nn.initializers.orthogonal()(key, shape)

    return draw(key)
