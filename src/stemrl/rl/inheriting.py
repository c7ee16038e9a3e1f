"""Taking over what another training learned, as far as it fits by name and shape."""

from typing import Any, TypeVar

import jax

from ..core import State, UserError
from ..networks import MLP

Part = TypeVar("Part")


def inherited(ours: Part, found: Any) -> tuple[Part, list[str]]:
    """Return `ours` with each leaf replaced by the leaf of `found` that has the same path, shape
    and type; and the paths of those for which there is none."""
    theirs = {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(found)[0]}
    left = []

    def take(path: Any, leaf: Any) -> Any:
        other = theirs.get(_name(path))
        if other is None or (other.shape, other.dtype) != (leaf.shape, leaf.dtype):
            left.append(_name(path))
            return leaf
        return other

    return jax.tree_util.tree_map_with_path(take, ours), left


def holder_of(found: State, name: str) -> State:
    """Return the state of the learner that has a part of this name, by itself or in its core (`learned`):
    `found`, or that of a learner which it holds (`learner`). Raises `UserError` where none has."""
    state = found
    while not any(hasattr(part, name) for part in (state, getattr(state, "learned", None))):
        if not hasattr(state, "learner"):
            raise UserError(
                "the run to begin from has no networks that this method could take over"
            )
        state = state.learner
    return state


def learned_parts(found: State, *names: str) -> dict[str, Any]:
    """Return the parts of a learner's state that have these names, all of the one learner that has the
    first: what another around it scales its own inputs by is not what these networks saw. Raises
    `UserError` where there is not even the first."""
    state = holder_of(found, names[0])
    places = (state, getattr(state, "learned", None))
    return {
        name: next(getattr(place, name) for place in places if hasattr(place, name))
        for name in names
        if any(hasattr(place, name) for place in places)
    }


def inherit_parts(state: State, found: State, *names: str) -> tuple[dict[str, Any], list[str]]:
    """Return parts of `state`, by name, with what fits of the parts of `found`; and what did not
    fit. Raises `UserError` where nothing of the first part fits."""
    theirs = learned_parts(found, *names)
    parts, left = {}, []
    for index, name in enumerate(names):
        ours = getattr(state, name)
        parts[name], missing = inherited(ours, theirs.get(name))
        # A bias or two of the same length by chance is nothing.
        weights = [p for p, x in jax.tree_util.tree_flatten_with_path(ours)[0] if x.ndim > 1]
        if index == 0 and weights and {_name(path) for path in weights} <= set(missing):
            raise UserError(
                "nothing of the run to begin from fits: no part of its networks has a name and shape"
                " that this method's have"
            )
        require_one_activation(ours, theirs.get(name))
        left += [f"{name}/{path}" for path in missing]
    return parts, left


def require_one_activation(ours: Any, found: Any) -> None:
    """Raise `UserError` where networks were learned with another activation: the same weights would say
    something else."""
    mine, theirs = (_activations(part) for part in (ours, found))
    if mine and theirs and not mine & theirs:
        raise UserError(
            f"the run to begin from has networks with {' and '.join(sorted(theirs))}, these have"
            f" {' and '.join(sorted(mine))}; set activation"
        )


def _activations(part: Any) -> set[str]:
    leaves = jax.tree.leaves(part, is_leaf=lambda x: isinstance(x, MLP))
    return {leaf.activation for leaf in leaves if isinstance(leaf, MLP)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
