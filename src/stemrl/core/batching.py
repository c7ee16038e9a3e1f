"""One answer for a whole batch, where a function is written for one and mapped over many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


@jax.custom_batching.custom_vmap
def any_anywhere(flags: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Return whether any of the flags is True; under `vmap` (over tasks, lanes or several seeds),
    any of all of them.

    With one answer for all, a `cond` remains a choice. With several answers JAX would compute both
    sides at every step. Use it for conditions whose branches do not touch what their own flag does
    not concern.
    """
    return jnp.any(flags)


@any_anywhere.def_vmap
def _(size: int, batched: list[bool], flags: Bool[Array, "..."]) -> tuple[Array, bool]:
    return any_anywhere(flags), False
