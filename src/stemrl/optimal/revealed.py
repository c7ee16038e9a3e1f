"""What agents of a known task are told."""

from jaxtyping import Array

from ..core import Context, UserError


def task_in(context: Context) -> Array:
    """Return the context. Raises `UserError` where the problem reveals none."""
    if context is None:
        raise UserError("this agent must be told its task: give it Problem.of(family, 'context')")
    return context
