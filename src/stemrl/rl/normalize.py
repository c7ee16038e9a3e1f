"""Running statistics, as leaves of a learner's state."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Normalizer(eqx.Module):
    """Running mean and variance of all observations so far, entry by entry (Chan et al. 1979).

    It is held in a learner's state and copied into its agent. Experience is stored raw, and
    normalized where it is used.
    """

    count: Float[Array, ""]
    mean: Float[Array, " size"]
    m2: Float[Array, " size"]
    """Sum of squared deviations from the mean."""

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the normalizer before the first observation: the identity."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    def update(self, x: Float[Array, "... size"], valid: Bool[Array, "..."] | None = None) -> Self:
        """Return the normalizer with the observations in `x` added, but for those that are not
        `valid`."""
        x = jax.lax.stop_gradient(x.reshape(-1, x.shape[-1]))
        w = jnp.ones(x.shape[0]) if valid is None else valid.reshape(-1).astype(x.dtype)
        n = jnp.sum(w)
        # A GPU's short products would lose the digits in which a large mean differs.
        mean = jnp.matmul(w, x, precision="highest") / jnp.maximum(n, 1)
        m2 = jnp.matmul(w, (x - mean) ** 2, precision="highest")
        total = self.count + n
        delta = mean - self.mean
        share = n / jnp.maximum(total, 1)
        return type(self)(
            total,
            self.mean + delta * share,
            self.m2 + m2 + delta**2 * self.count * share,
        )

    @property
    def std(self) -> Float[Array, " size"]:
        """The standard deviation of each entry; 1 before there are two observations, and where
        nothing varies."""
        variance = self.m2 / jnp.maximum(self.count, 1)
        return jnp.where((self.count > 1) & (variance > 1e-8), jnp.sqrt(variance), 1.0)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """Return (x − mean) / std, clipped to ±10."""
        return jnp.clip((x - self.mean) / self.std, -10.0, 10.0)


class CoarseNormalizer(Normalizer):
    """The same, for observations in meters and radians of which some hardly vary: what varies by less
    than 0.01 is not blown up, and nothing goes beyond ±5 (as in OpenAI's code of 1707.01495)."""

    @property
    def std(self) -> Float[Array, " size"]:
        """The standard deviation of each entry, at least 0.01."""
        variance = self.m2 / jnp.maximum(self.count, 1)
        return jnp.where(self.count > 1, jnp.maximum(jnp.sqrt(variance), 0.01), 1.0)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """Return (x − mean) / std, clipped to ±5."""
        return jnp.clip((x - self.mean) / self.std, -5.0, 5.0)


class RewardScaler(eqx.Module):
    """The scale of rewards: the running standard deviation of the discounted return, which is
    summed lane by lane.

    Rewards divided by it keep value targets near one, and the optimum is the same.
    """

    running: Float[Array, " lanes"]
    statistics: Normalizer

    @classmethod
    def of(cls, lanes: int) -> "RewardScaler":
        """Return the scaler before the first reward: its scale is 1."""
        return cls(jnp.zeros(lanes), Normalizer.of(1))

    def update(
        self,
        reward: Float[Array, "time lanes"],
        ended: Bool[Array, "time lanes"],
        discount: float | Array,
        valid: Bool[Array, "time lanes"] | None = None,
    ) -> "RewardScaler":
        """Return the scaler with a chunk of rewards added, but for those that are not `valid`.
        After a step that `ended` an episode, the lane's discounted sum begins at 0 again."""

        def step(running: Array, row: tuple[Array, Array]):
            r, end = row
            running = discount * running + r
            return jnp.where(end, 0.0, running), running

        running, sums = jax.lax.scan(step, self.running, (reward, ended))
        return RewardScaler(running, self.statistics.update(sums[..., None], valid))

    def __call__(self, reward: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the reward over the scale, clipped to ±10."""
        return jnp.clip(reward / self.statistics.std[0], -10.0, 10.0)
