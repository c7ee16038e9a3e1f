"""Sine waves from a few of their points: MAML's regression problem (1703.03400, §5.1)."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractSupervisedFamily, Examples, Params, Split, UserError


class Sinusoid(AbstractSupervisedFamily):
    """Sine waves from a few of their points (MAML, 1703.03400, §5.1): y = A sin(x − φ) with amplitude
    A ~ U[0.1, 5], phase φ ~ U[0, π], x ~ U[−5, 5] and no noise; the loss is the mean squared error.
    Out of distribution the amplitude is U[5, 10]."""

    name: ClassVar[str] = "sinusoid"
    inputs: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]
    outputs: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]
    score_name: ClassVar[str] = "mean squared error"

    min_amplitude: float = eqx.field(static=True, default=0.1)
    """Smallest amplitude."""
    max_amplitude: float = eqx.field(static=True, default=5.0)
    """Largest amplitude of training and test tasks."""
    ood_amplitude: float = eqx.field(static=True, default=10.0)
    """Largest amplitude out of distribution, where the smallest is `max_amplitude`."""
    reach: float = eqx.field(static=True, default=5.0)
    """x is within ± this."""

    def __check_init__(self):
        if not 0 <= self.min_amplitude <= self.max_amplitude <= self.ood_amplitude:
            raise UserError("amplitudes must be 0 ≤ min ≤ max ≤ ood")
        if self.reach <= 0:
            raise UserError(f"reach must be positive, not {self.reach:g}")

    def amplitudes(self, split: Split) -> tuple[float, float]:
        """Return the range that amplitudes of the split are uniform in."""
        if split == "ood":
            return self.max_amplitude, self.ood_amplitude
        return self.min_amplitude, self.max_amplitude

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw `{"amplitude", "phase"}`, scalars."""
        low, high = self.amplitudes(split)
        amplitude, phase = jax.random.uniform(key, (2,))
        return {"amplitude": low + (high - low) * amplitude, "phase": math.pi * phase}

    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw x uniform within ± `reach`, and y, which has no noise; both `[n, 1]`."""
        x = jax.random.uniform(key, (n, 1), minval=-self.reach, maxval=self.reach)
        return Examples(x, params["amplitude"] * jnp.sin(x - params["phase"]))

    def loss(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the mean squared error."""
        return jnp.mean((prediction - y) ** 2)

    def zero_loss(self, split: Split) -> float:
        """Return E[y²], what predicting zero costs: E[A²]/2, since a phase over half a period makes
        sin² ½ on average whatever x is."""
        low, high = self.amplitudes(split)
        return (low**2 + low * high + high**2) / 6
