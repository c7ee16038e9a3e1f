"""Recurrent deterministic policy gradients, RDPG (Heess et al. 2015, 1512.04455, algorithm 1).

The problem: control from observations that do not tell all, such as positions without velocities, or a
pendulum of unknown length. A policy has to find out while it acts, and to remember. The idea: DDPG with
a memory. Actor and critic each read the history hₜ = (o₁, a₁, r₁, …, oₜ); whole trials are replayed, and
gradients run back through all of their steps:

    yₜ  = rₜ + γ Q̄(hₜ₊₁, μ̄(hₜ₊₁))
    J_Q = E[Σₜ ½ (Q(hₜ, aₜ) − yₜ)²],     ∇J_μ = E[Σₜ ∇ₐQ(hₜ, a)|_{a = μ(hₜ)} ∇μ(hₜ)],

with slow copies Q̄, μ̄ and Gaussian noise on the action. Where the history is that of several episodes
of one unknown task, what it learns to find out is the task.

There are two critics here, on one memory, of which the smaller one is believed in the target (TD3's
remedy); the paper has one.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..rl.distributions import AbstractDistribution
from .recurrent_control import AbstractRecurrentControl


class Deterministic(AbstractDistribution):
    """One action, tanh of the outputs, with Gaussian noise where it is sampled."""

    action: Float[Array, "... n"]
    noise: Float[Array, ""]
    """The noise's deviation."""

    @classmethod
    def of(cls, outputs: Float[Array, "... n"], noise: Float[Array, ""]) -> "Deterministic":
        """Make it of a policy's outputs."""
        return cls(jnp.tanh(outputs), noise)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "... n"]:
        noise = self.noise * jax.random.normal(key, self.action.shape, self.action.dtype)
        return jnp.clip(self.action + noise, -1.0, 1.0)

    def mode(self) -> Float[Array, "... n"]:
        return self.action

    def log_prob(self, action: Float[Array, "... n"]) -> Float[Array, "..."]:
        """Return 0, since nothing is known of densities."""
        return jnp.zeros(action.shape[:-1])

    def entropy(self) -> Float[Array, "..."]:
        return jnp.zeros(self.action.shape[:-1])


class RDPG(AbstractRecurrentControl):
    """DDPG with a memory in actor and critic; continuous actions."""

    name: ClassVar[str] = "rdpg"
    kind: ClassVar[type] = Deterministic

    exploration_noise: float = 0.1
    """Standard deviation of the noise it explores with."""

    def outputs(self, actions: int) -> int:
        return actions

    def decide(self, distribution: Any, noise: Array) -> tuple[Array, Array]:
        return distribution.action, jnp.zeros(noise.shape[:-1])

    def exploration(self) -> float | Array:
        return self.exploration_noise
