"""Two moons, and the same two rotated: the smallest shift between domains (Ganin et al. 1505.07818, §5.1)."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractSupervisedFamily, Examples, Params, Split, UserError

CENTER = (0.5, 0.25)
"""Of both moons together: what they are rotated about."""


class Moons(AbstractSupervisedFamily):
    """Which of two half circles that reach into each other is it? One task: points of the plane with
    noise, rotated by `angle` about the middle; a source and a target differ in that angle. Half of the
    examples are of each class, one-hot, unless told otherwise. The loss is the cross-entropy, the score the accuracy."""

    name: ClassVar[str] = "moons"
    finite: ClassVar[bool] = True
    inputs: ClassVar[int] = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    outputs: ClassVar[int] = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    score_name: ClassVar[str] = "accuracy"
    lower_is_better: ClassVar[bool] = False

    angle: float = eqx.field(static=True, default=0.0)
    """Degrees by which both moons are rotated, counterclockwise (the paper's target: 35)."""
    noise: float = eqx.field(static=True, default=0.05)
    """Standard deviation of the noise on each coordinate; a moon's radius is 1."""
    lower_share: float = eqx.field(static=True, default=0.5)
    """Share of the examples that are of the lower moon. A target with another share than the source is where
    to align domains must misplace some."""

    def __check_init__(self):
        if self.noise < 0:
            raise UserError(f"noise must be at least 0, not {self.noise:g}")
        if not 0 <= self.lower_share <= 1:
            raise UserError(f"lower_share must be in [0, 1], not {self.lower_share:g}")

    @property
    def examples_per_shot(self) -> int:
        """One of each moon."""
        return 2

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw `{"angle": []}`, in degrees, the same in all splits."""
        return {"angle": jnp.asarray(self.angle, jnp.float32)}

    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw `n` points, with the default share every two of them one of each moon: x `[n, 2]`, centered and twice as
        large as they are drawn, as the authors scale them."""
        place_key, noise_key = jax.random.split(key)
        lower_so_far = jnp.floor(jnp.arange(n + 1) * self.lower_share)
        which = jnp.diff(lower_so_far).astype(jnp.int32)
        place = math.pi * jax.random.uniform(place_key, (n,))
        upper = jnp.stack([jnp.cos(place), jnp.sin(place)], 1)
        lower = jnp.stack([1 - jnp.cos(place), 0.5 - jnp.sin(place)], 1)
        x = jnp.where(which[:, None] == 0, upper, lower)
        x = x + self.noise * jax.random.normal(noise_key, (n, 2)) - jnp.asarray(CENTER)
        turn = jnp.deg2rad(params["angle"])
        rotation = jnp.array([[jnp.cos(turn), jnp.sin(turn)], [-jnp.sin(turn), jnp.cos(turn)]])
        return Examples(2 * x @ rotation, jax.nn.one_hot(which, 2))

    def loss(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the cross-entropy, in nats, of predicted logits."""
        return jnp.mean(optax.softmax_cross_entropy(prediction, y))

    def score(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the share of points whose moon is named."""
        return jnp.mean(jnp.argmax(prediction, -1) == jnp.argmax(y, -1))
