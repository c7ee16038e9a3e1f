"""A named environment of another library, some of whose numbers are drawn from ranges."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractFamily, Params, Split, UserError
from . import ranges as boxes

NONE = "none"
"""The name of an empty parameter: of a task in which nothing is varied, since parameters have a leaf."""


class AbstractVariedFamily(AbstractFamily):
    """Tasks are values of some of an environment's numbers, params `{name: []}`. With nothing varied there
    is one task, the environment as it is, params `{"none": [0]}`."""

    environment: eqx.AbstractVar[str]
    """The environment's name in its library."""
    ranges: eqx.AbstractVar[str]
    """What is varied, and between which bounds (see `stemrl.tasks.ranges`)."""
    beyond: eqx.AbstractVar[float]
    """How many times as far the ood split reaches."""

    @property
    def varied(self) -> dict[str, boxes.Interval]:
        """Return the ranges by name."""
        return boxes.parse(self.ranges)

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Say whether there is one task alone, as nothing is varied: the one that is trained on."""
        return not self.varied

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw each number as its range says; `ood`: at least one of them outside. Raises `UserError` for
        `ood` where nothing is varied."""
        if not self.varied:
            if split == "ood":
                raise UserError(
                    f"{self.environment} with nothing varied is one task, and has no ood split"
                )
            return {NONE: jnp.zeros(0)}
        return boxes.draw_in(key, split, self.varied, self.beyond)

    def context(self, params: Params) -> Float[Array, " varied"]:
        """Return the numbers that are varied, each as its place in its range: −1 at the low end, 1 at the
        high one. Raises `UserError` where nothing is varied."""
        if not self.varied:
            raise UserError(
                f"{self.environment} with nothing varied is one task: it has no context to reveal;"
                " train with reveal 'nothing'"
            )
        return jnp.stack(
            [
                boxes.place_in(params[name], interval.low, interval.high)
                for name, interval in self.varied.items()
            ]
        )
