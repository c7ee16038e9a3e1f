"""Distributions over actions. All take any leading dimensions; the last is the action's own."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import Box, Discrete, MultiDiscrete, Space, UserError, observation_size


class AbstractDistribution(eqx.Module):
    """A distribution over one action; with leading dimensions, over many independent ones."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Array:
        """Draw one action for each leading index."""

    @abc.abstractmethod
    def mode(self) -> Array:
        """Return the most likely action."""

    @abc.abstractmethod
    def log_prob(self, action: Array) -> Float[Array, "..."]:
        """Return the log-density or log-probability of an action, in nats."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "..."]:
        """Return the entropy, in nats."""


class Categorical(AbstractDistribution):
    """A distribution over 0, …, n − 1, given by its logits."""

    logits: Float[Array, "... n"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, "..."]:
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> Int[Array, "..."]:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        # A product with a one-hot vector has a much cheaper gradient on a CPU than a gather.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(jax.nn.log_softmax(self.logits) * chosen, axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        log_p = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)

    def kl(self, other: "Categorical") -> Float[Array, "..."]:
        """Return KL(self ‖ other), in nats."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


class MultiCategorical(AbstractDistribution):
    """Several independent choices at once, by the logits of all of them in a row."""

    logits: Float[Array, "... choices"]
    space: MultiDiscrete = eqx.field(static=True)

    @property
    def each(self) -> Categorical:
        """The choices side by side, `[…, numbers, most choices]`; those that are not there have no
        chance."""
        where, there = self.space.places
        return Categorical(jnp.where(there, self.logits[..., where], _NEVER))

    def sample(self, key: PRNGKeyArray) -> Int[Array, "... numbers"]:
        return self.each.sample(key)

    def mode(self) -> Int[Array, "... numbers"]:
        return self.each.mode()

    def log_prob(self, action: Int[Array, "... numbers"]) -> Float[Array, "..."]:
        return jnp.sum(self.each.log_prob(action), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        return jnp.sum(self.each.entropy(), axis=-1)

    def kl(self, other: "MultiCategorical") -> Float[Array, "..."]:
        """Return KL(self ‖ other), in nats."""
        return jnp.sum(self.each.kl(other.each), axis=-1)


_NEVER = -1e9
"""The logit of what cannot be chosen: finite, so that its entropy is 0 and no gradient NaN."""


class DiagonalGaussian(AbstractDistribution):
    """Independent normal distributions, one for each entry of an action."""

    mean: Float[Array, "... n"]
    log_std: Float[Array, "... n"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "... n"]:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "... n"]:
        return self.mean

    def log_prob(self, action: Float[Array, "... n"]) -> Float[Array, "..."]:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
        return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def kl(self, other: "DiagonalGaussian") -> Float[Array, "..."]:
        """Return KL(self ‖ other), in nats."""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return 0.5 * jnp.sum(ratio + distance - 1 - jnp.log(ratio), axis=-1)


class TanhGaussian(AbstractDistribution):
    """tanh of a diagonal Gaussian, so that actions are inside (−1, 1) (SAC, 1812.05905, appendix
    C)."""

    mean: Float[Array, "... n"]
    log_std: Float[Array, "... n"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "... n"]:
        return self.sample_with_log_prob(key)[0]

    def sample_with_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, "... n"], Float[Array, "..."]]:
        """Return an action and its log-density, without inverting the tanh."""
        return self.from_noise(jax.random.normal(key, self.mean.shape, self.mean.dtype))

    def from_noise(
        self, noise: Float[Array, "... n"]
    ) -> tuple[Float[Array, "... n"], Float[Array, "..."]]:
        """Return an action and its log-density from standard normal noise that was drawn before."""
        raw = self.mean + jnp.exp(self.log_std) * noise
        density = -jnp.sum(0.5 * noise**2 + self.log_std + 0.5 * math.log(2 * math.pi), axis=-1)
        return jnp.tanh(raw), density - _log_slope(raw)

    def mode(self) -> Float[Array, "... n"]:
        """Return tanh of the mean: the median, which stands for the mode as is usual."""
        return jnp.tanh(self.mean)

    def log_prob(self, action: Float[Array, "... n"]) -> Float[Array, "..."]:
        raw = jnp.arctanh(jnp.clip(action, -1 + 1e-6, 1 - 1e-6))
        return DiagonalGaussian(self.mean, self.log_std).log_prob(raw) - _log_slope(raw)

    def entropy(self) -> Float[Array, "..."]:
        """Return minus the log-density at the mode, a rough stand-in: the entropy is not known in
        closed form."""
        return -self.log_prob(self.mode())


def _log_slope(raw: Float[Array, "... n"]) -> Float[Array, "..."]:
    """Σ log (1 − tanh² raw), stable for large |raw|."""
    return jnp.sum(2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw)), axis=-1)


PolicyDistribution = Categorical | MultiCategorical | DiagonalGaussian
"""What a stochastic policy may be."""


def policy_distribution(
    space: Space, outputs: Float[Array, "... outputs"], log_std: Float[Array, "... actions"] | None
) -> PolicyDistribution:
    """Return the distribution over actions that a policy's last layer describes:
    `outputs_for(space)` logits, or means beside `log_std`."""
    if isinstance(space, Discrete):
        return Categorical(outputs)
    if isinstance(space, MultiDiscrete):
        return MultiCategorical(outputs, space)
    assert log_std is not None
    return DiagonalGaussian(outputs, log_std)


def outputs_for(space: Space) -> int:
    """Return how many numbers a policy's last layer gives for `space`: logits, or means. Raises
    `UserError` for actions that are neither discrete nor a vector."""
    if isinstance(space, Box) and len(space.shape) != 1:
        raise UserError(
            f"actions must be discrete or a vector, not of shape {space.shape}; let the environment"
            " take them as one vector and reshape it"
        )
    return observation_size(space)


def refuse_several_choices(who: str, space: Space) -> None:
    """Raise `UserError` for actions of several whole numbers at once, which only learners with a
    stochastic policy over each of them know. `who` is what cannot take them."""
    if isinstance(space, MultiDiscrete):
        raise UserError(
            f"{who} takes no actions of several choices at once ({space}); 'ppo', 'trpo', 'maml' and"
            " 'rl2' do"
        )
