"""Which parameters learn, where a training begins from another one: all, the head alone, or ever more of
them from the head down (gradual unfreezing: Howard and Ruder, 1801.06146, §3.3)."""

import re
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from ..core import UserError

Tune = Literal["all", "head", "gradual"]
_LAYER = re.compile(r"^(.*?)\b(layers|weights|biases)/(\d+)(/.*)?$")


def require_tune(tune: str, updates_per_layer: int) -> None:
    """Raise `UserError` for another word, or for no updates a layer."""
    if tune not in get_args(Tune):
        raise UserError(f"tune must be one of {', '.join(get_args(Tune))}, not {tune!r}")
    if updates_per_layer < 1:
        raise UserError(f"updates_per_layer must be at least 1, not {updates_per_layer}")


def layer_depths(networks: PyTree[Array]) -> PyTree[int]:
    """Return, for each leaf, how many layers lie between it and what its network says: 0 for the
    last layer, and for what is in no layer (a deviation, a temperature); the encoder of images is
    the deepest."""
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(networks)[0]
    ]
    last: dict[str, int] = {}
    for path in paths:
        if (found := _LAYER.match(path)) and "encoder" not in path:
            key = found[1] + found[2]
            last[key] = max(last.get(key, 0), int(found[3]))

    def depth(path: str) -> int:
        if "encoder" in path:
            return max(last.values(), default=0) + 2
        if found := _LAYER.match(path):
            return last[found[1] + found[2]] - int(found[3])
        # The critics' first layer, which stands apart from those behind it.
        prefix, _, name = path.rpartition("/")
        below = f"{prefix}/weights" if prefix else "weights"
        return last.get(below, 0) + 1 if name in ("observed", "acted") else 0

    return jax.tree.unflatten(jax.tree.structure(networks), [depth(path) for path in paths])


def tuned(
    networks: PyTree[Array], tune: Tune, unfrozen: Int[Array, ""] | int = 0
) -> PyTree[Array] | None:
    """Return factors on the step size of each leaf, 1 where it learns and 0 where it is frozen;
    `None` where all learns. `unfrozen`: layers below the head that learn by now, where they do so
    gradually."""
    if tune == "all":
        return None
    reach = unfrozen if tune == "gradual" else 0
    return jax.tree.map(lambda depth: jnp.where(depth <= reach, 1.0, 0.0), layer_depths(networks))


def require_only_the_head_is_new(
    networks: Any, left: list[str], tune: Tune, at: str = "networks"
) -> None:
    """Raise `UserError` where the head alone is to learn, and something below it was not taken over
    (`left`, paths that begin with `at`) and would stay as random as it is."""
    if tune != "head":
        return
    depths = jax.tree_util.tree_flatten_with_path(layer_depths(networks))[0]
    for path, depth in depths:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if depth > 0 and f"{at}/{name}" in left:
            raise UserError(
                f"tune is 'head', and {name} does not fit the run to begin from (another size of"
                " observations or layers): it would stay random; set tune to all or gradual"
            )
