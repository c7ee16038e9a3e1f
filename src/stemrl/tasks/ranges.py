"""Distributions over named numbers: a box to train and test in, a shell around it to be surprised.

Ranges are written as one line of text, so that they can be given on a command line and be part of
a family's identity: `length=0.25:0.75,force_mag=5:15`. Four numbers, `mass=6:1.5:3:9`, are a normal
distribution (mean 6, standard deviation 1.5) that is cut off at both ends (3 and 9). In Python a
dictionary may stand for it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Split, UserError, nearest


class Interval(NamedTuple):
    """What one number is drawn from: uniform between its bounds or, with a mean, normal and cut off at
    them."""

    low: float
    high: float
    mean: float | None = None
    std: float | None = None

    def __str__(self) -> str:
        bounds = f"{self.low}:{self.high}"
        return bounds if self.mean is None else f"{self.mean}:{self.std}:{bounds}"

    def at(self, place: Float[Array, ""], *, log: bool = False) -> Float[Array, ""]:
        """Return the number at a place that is uniform in ±1 (−1 the low end, 1 the high one), so
        that it has this distribution; beyond ±1, as far beyond the bounds. `log`: uniform in the
        logarithm, where there is no mean."""
        low, high = (math.log(self.low), math.log(self.high)) if log else (self.low, self.high)
        linear = 0.5 * (low + high) + 0.5 * (high - low) * place
        linear = jnp.exp(linear) if log else linear
        if self.mean is None or not self.std:
            return linear
        # The normal distribution's own shares, between those at the bounds.
        first, last = (ndtr(jnp.asarray((x - self.mean) / self.std)) for x in self[:2])
        share = first + 0.5 * (jnp.clip(place, -1.0, 1.0) + 1.0) * (last - first)
        normal = jnp.clip(self.mean + self.std * ndtri(share), self.low, self.high)
        return jnp.where(jnp.abs(place) > 1.0, linear, normal)


Ranges = Mapping[str, Sequence[float]]
"""By name, (low, high) or (mean, standard deviation, low, high)."""


def as_text(ranges: Ranges | str) -> str:
    """Write ranges as one line of text, always the same for the same ranges. Raises `UserError` where
    they cannot be read, are not finite or the wrong way round."""
    return ",".join(f"{name}={interval}" for name, interval in parse(ranges).items())


def parse(ranges: Ranges | str, *, above: float = -math.inf) -> dict[str, Interval]:
    """Read ranges by name. A name may hold colons; what follows the last `=` is `low:high`, one number
    for both, or `mean:std:low:high`. `above` is what they must lie above (0 for a mass)."""
    found: dict[str, Interval] = {}
    if not isinstance(ranges, str):
        items = [(name, [float(x) for x in numbers]) for name, numbers in ranges.items()]
    else:
        items = [_split(part) for part in ranges.split(",") if part.strip()]
    for name, numbers in items:
        if name in found:
            raise UserError(f"the range of '{name}' is given twice")
        *normal, low, high = numbers
        shown = ":".join(f"{x:g}" for x in numbers)
        if not (np.isfinite(numbers).all() and low <= high):
            raise UserError(f"the range of '{name}' must be low:high, not {shown}")
        if normal and not (normal[1] > 0.0 and low <= normal[0] <= high):
            raise UserError(
                f"the range of '{name}' must be mean:std:low:high with a std above 0 and the mean"
                f" inside, not {shown}"
            )
        if low <= above:
            raise UserError(f"'{name}' must be above {above:g}, and its range begins at {low:g}")
        found[name] = Interval(low, high, *normal)
    return found


def _split(part: str) -> tuple[str, list[float]]:
    name, _, bounds = part.rpartition("=")
    try:
        numbers = [float(x) for x in bounds.split(":")]
        if name.strip() and len(numbers) in (1, 2, 4):
            return name.strip(), numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        pass
    raise UserError(
        f"cannot read the range '{part.strip()}'; write it as name=low:high or"
        " name=mean:std:low:high"
    )


def draw_in(
    key: PRNGKeyArray,
    split: Split,
    ranges: Mapping[str, Interval],
    beyond: float = 1.5,
    *,
    log: bool = False,
) -> dict[str, Float[Array, ""]]:
    """Return a number for each name, as its interval says; `ood`: at least one of them outside of
    its bounds, up to `beyond` times as far from the middle. For `log` see `Interval.at`."""
    if not ranges:
        return {}
    places = draw(key, split, len(ranges), beyond)
    return {
        name: interval.at(place, log=log)
        for (name, interval), place in zip(ranges.items(), places, strict=True)
    }


def draw(key: PRNGKeyArray, split: Split, size: int, beyond: float) -> Float[Array, " size"]:
    """Draw a point of the box [−1, 1]ⁿ, uniform; `ood`: of the shell between it and the box
    `beyond` times as wide, so that at least one coordinate is outside the training range."""
    where, how_far = jax.random.split(key)
    point = jax.random.uniform(where, (size,), minval=-1.0, maxval=1.0)
    if split != "ood":
        return point
    radius = jax.random.uniform(how_far, (), minval=1.0, maxval=beyond)
    return point * radius / jnp.max(jnp.abs(point))


def own_ranges(ranges: str, known: Mapping[str, object], family: str) -> dict[str, Interval]:
    """Return the ranges that a family with the physical parameters `known` is given in place of its
    own. Raises `UserError` for a parameter that it lacks, and for one that might not be above 0."""
    found = parse(ranges, above=0.0)
    for name in found:
        if name not in known:
            raise UserError(
                f"'{family}' has no parameter '{name}'{nearest(name, known)}; it has"
                f" {', '.join(known)}"
            )
    return found


def draw_between(
    key: PRNGKeyArray, pieces: Mapping[str, tuple[tuple[float, float], ...]]
) -> dict[str, Float[Array, ""]]:
    """Return a scalar for each name, uniform over the union of its intervals `(low, high)`, which
    do not overlap."""
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
    """Return `values` `[k, …]` in random order, over and over until there are `n`: the tasks of a
    finite family."""
    return jax.random.permutation(key, values)[jnp.arange(n) % len(values)]


def place_in(value: Array, low: float, high: float) -> Array:
    """Return where `value` lies between `low` and `high`: −1 at the low end, 1 at the high one."""
    return (value - 0.5 * (low + high)) / (0.5 * (high - low) or 1.0)


def heading(key: PRNGKeyArray, split: Split, name: str, arc: float) -> Float[Array, "2"]:
    """Return a unit vector in the arc (degrees) about (1, 0), or, `ood`, in the rest of the circle.
    Raises `UserError`, in the name of the family, where there is no rest."""
    if split == "ood" and arc == 360.0:
        raise UserError(f"{name} with an arc of 360 has no ood split; set a smaller arc")
    half = math.radians(arc) / 2
    first, last = (half, 2 * math.pi - half) if split == "ood" else (-half, half)
    angle = jax.random.uniform(key, (), minval=first, maxval=last)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def check_arc(name: str, arc: float) -> None:
    """Raises `UserError` where the arc (degrees) is not one."""
    if not 0.0 < arc <= 360.0:
        raise UserError(f"{name} needs an arc in (0, 360] degrees, not {arc:g}")
