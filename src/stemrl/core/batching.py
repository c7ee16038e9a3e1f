"""One answer for a whole batch, where a function is written for one and mapped over many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


@jax.custom_batching.custom_vmap
def any_anywhere(flags: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Whether any is True; under `vmap` (tasks, lanes, several seeds) any of all of them.

    One answer for all keeps a `cond` a choice: on several it would compute both sides at every step.
    It is for conditions whose branches leave alone what their own flag does not concern.
    """
    return jnp.any(flags)


@any_anywhere.def_vmap
def _(size: int, batched: list[bool], flags: Bool[Array, "..."]) -> tuple[Array, bool]:
    return any_anywhere(flags), False
