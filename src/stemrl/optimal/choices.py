"""Which actions are optimal in a known task, as a distribution over all of them: labels to learn from."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import AbstractFamily, Obs, Params, UserError
from ..tasks.bandit import Bandit
from ..tasks.dark_room import DarkRoom
from ..tasks.gridnavi import MOVES, GridNavi

FAMILIES = (Bandit, DarkRoom, GridNavi)


def optimal_choice(family: AbstractFamily, params: Params, obs: Obs) -> Float[Array, " actions"]:
    """Return the probability of each action if one of the optimal ones is taken, each of them as
    likely as the others, in the task `params` (without leading dimensions) where `obs` is observed.
    It is for `bandit`, `dark-room` and `gridnavi`; raise `UserError` for other families."""
    if isinstance(family, Bandit):
        best = _best(params["probability"])
    elif isinstance(family, DarkRoom | GridNavi):
        cells = jnp.clip(obs.astype(jnp.int32) + jnp.asarray(MOVES), 0, family.size - 1)
        best = _best(-jnp.sum(jnp.abs(cells - params["goal"]), axis=-1))
    else:
        known = ", ".join(cls.name for cls in FAMILIES)
        raise UserError(
            f"the optimal actions of '{family.name}' have not been worked out; known: {known}"
        )
    return best / jnp.sum(best)


def _best(values: Any) -> Float[Array, " actions"]:
    return jnp.asarray(values == jax.lax.stop_gradient(jnp.max(values)), jnp.float32)
