"""Distributions over named numbers: a box to train and test in, a shell around it to be surprised.

Ranges are written as one line of text, so that they can be given on a command line and be part of
a family's identity: `length=0.25:0.75,force_mag=5:15`. In Python a dictionary may stand for it.
"""

import itertools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Split, UserError

Ranges = Mapping[str, tuple[float, float]]


def as_text(ranges: Ranges | str) -> str:
    """Ranges as one line of text, always the same for the same ranges. Raises `UserError` where
    they cannot be read, are not finite or the wrong way round."""
    return ",".join(f"{name}={low}:{high}" for name, (low, high) in parse(ranges).items())


def parse(ranges: Ranges | str) -> dict[str, tuple[float, float]]:
    """Ranges by name. A name may hold colons; what follows the last `=` is `low:high`, or one
    number for both."""
    found: dict[str, tuple[float, float]] = {}
    if not isinstance(ranges, str):
        items = [(name, *bounds) for name, bounds in ranges.items()]
    else:
        items = [_split(part) for part in ranges.split(",") if part.strip()]
    for name, low, high in items:
        if name in found:
            raise UserError(f"the range of '{name}' is given twice")
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise UserError(f"the range of '{name}' must be low:high, not {low:g}:{high:g}")
        found[name] = (float(low), float(high))
    return found


def _split(part: str) -> tuple[str, float, float]:
    name, _, bounds = part.rpartition("=")
    low, _, high = bounds.partition(":")
    try:
        if name.strip():
            return name.strip(), float(low), float(high or low)
    except ValueError:
        pass
    raise UserError(f"cannot read the range '{part.strip()}'; write it as name=low:high")


def draw(key: PRNGKeyArray, split: Split, size: int, beyond: float) -> Float[Array, " size"]:
    """A point of the box [−1, 1]ⁿ, uniform; `ood`: of the shell between it and the box `beyond`
    times as wide, so that at least one coordinate is outside the training range."""
    where, how_far = jax.random.split(key)
    point = jax.random.uniform(where, (size,), minval=-1.0, maxval=1.0)
    if split != "ood":
        return point
    radius = jax.random.uniform(how_far, (), minval=1.0, maxval=beyond)
    return point * radius / jnp.max(jnp.abs(point))


def draw_between(
    key: PRNGKeyArray, pieces: Mapping[str, tuple[tuple[float, float], ...]]
) -> dict[str, Float[Array, ""]]:
    """A scalar for each name, uniform over the union of its intervals `(low, high)`, which do not
    overlap."""
    drawn = {}
    for (name, intervals), one in zip(
        pieces.items(), jax.random.split(key, len(pieces)), strict=True
    ):
        widths = [high - low for low, high in intervals]
        # A place on the intervals laid end to end, then moved to the interval that it is in.
        along = jax.random.uniform(one, (), maxval=sum(widths))
        value = intervals[0][0] + along
        for (_, end), (begin, _) in itertools.pairwise(intervals):
            value = jnp.where(value > end, value + (begin - end), value)
        drawn[name] = value
    return drawn


def in_turn(key: PRNGKeyArray, values: Array, n: int) -> Array:
    """`values` `[k, …]` in random order, over and over until there are `n`: the tasks of a finite
    family."""
    return jax.random.permutation(key, values)[jnp.arange(n) % len(values)]


def place_in(value: Array, low: float, high: float) -> Array:
    """Where `value` lies between `low` and `high`: −1 at the low end, 1 at the high one."""
    return (value - 0.5 * (low + high)) / (0.5 * (high - low) or 1.0)
