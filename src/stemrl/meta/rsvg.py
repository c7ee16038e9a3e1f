"""Recurrent stochastic value gradients, RSVG(0) (Heess et al. 2015, 1512.04455, §3.1).

The problem is RDPG's: control from observations that do not tell all. The idea: the same gradient for a
*stochastic* policy. An action is a differentiable function of the history and of noise,
aₜ = a(hₜ, εₜ), εₜ ~ N(0, I), so that the critic's gradient reaches mean and deviation alike:

    yₜ   = rₜ + γ Q̄(hₜ₊₁, ā(hₜ₊₁, ε′))
    ∇J_π = E_ε[Σₜ ∇ₐQ(hₜ, a)|_{a = a(hₜ, ε)} ∇a(hₜ, ε)].

Its own noise explores. Nothing keeps the deviation up but what is gained by it; `entropy_weight` pays
for it (α of soft actor-critic; 0, as in the paper, pays nothing).
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..rl.distributions import TanhGaussian
from .recurrent_control import AbstractRecurrentControl


class Squashed(TanhGaussian):
    """A tanh Gaussian by a policy's outputs, means and logarithms of deviations."""

    @classmethod
    def of(cls, outputs: Float[Array, "... 2n"], noise: Float[Array, ""]) -> "Squashed":
        """Make it of a policy's outputs, with its deviation raised by `noise` while it warms up."""
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return cls(mean, jnp.clip(log_std - 1.0, -10.0, 1.0) + noise)


class RSVG(AbstractRecurrentControl):
    """Stochastic value gradients with a memory in actor and critic; continuous actions."""

    name: ClassVar[str] = "rsvg"
    kind: ClassVar[type] = Squashed

    entropy_weight: float = 0.01
    """Weight α of the policy's entropy, in the policy's loss and in the value."""

    def outputs(self, actions: int) -> int:
        return 2 * actions

    def decide(self, distribution: Any, noise: Array) -> tuple[Array, Array]:
        action, log_prob = distribution.from_noise(noise)
        return action, self.entropy_weight * log_prob

    def exploration(self) -> float | Array:
        return 0.0
