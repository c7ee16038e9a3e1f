"""Characters that nobody has seen: drawn here from random strokes, to be told apart from a few of them.

The form of Omniglot (Lake, Salakhutdinov and Tenenbaum 2015, Science 350) without its data: an alphabet
as large as one likes, and every character drawn by a shaky hand. A character is a few strokes, each a
quadratic Bézier curve with three random control points; a drawing of it moves the control points a
little, and turns, scales and shifts the whole; ink falls off with the distance from the stroke.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractSupervisedFamily, Examples, Params, Split, UserError

ALPHABET = 0x617F
"""The key that all characters come from: the same ones for everybody."""
POINTS = 10
"""Of a stroke, from which distances are measured."""
INK = 0.035
"""Half the width of a stroke, in widths of the image."""


def classification_loss(prediction: Array, y: Array) -> Float[Array, ""]:
    """Return the mean cross-entropy of logits `[n, ways]` with one-hot labels."""
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(prediction), axis=-1))


def accuracy(prediction: Array, y: Array) -> Float[Array, ""]:
    """Return the share of examples whose largest logit is that of their class."""
    return jnp.mean((jnp.argmax(prediction, -1) == jnp.argmax(y, -1)).astype(jnp.float32))


def balanced_classes(key: PRNGKeyArray, n: int, ways: int) -> Int[Array, " n"]:
    """Return the class of each of `n` examples: every `ways` that follow one another hold each
    class once, in random order."""
    rounds = -(-n // ways)
    orders = jax.vmap(lambda k: jax.random.permutation(k, ways))(jax.random.split(key, rounds))
    return orders.reshape(-1)[:n]


def different_numbers(key: PRNGKeyArray, n: int, k: int) -> Int[Array, " k"]:
    """Return `k` different numbers below `n`, any of these sets in any order as likely as another,
    without shuffling all `n` (Floyd's algorithm)."""
    draw_key, order_key = jax.random.split(key)
    drawn = jax.random.randint(draw_key, (k,), 0, jnp.arange(n - k + 1, n + 1))
    chosen = jnp.full(k, -1, drawn.dtype)
    for i in range(k):
        taken = jnp.any(chosen == drawn[i])
        chosen = chosen.at[i].set(jnp.where(taken, n - k + i, drawn[i]))
    return jax.random.permutation(order_key, chosen)


class Glyphs(AbstractSupervisedFamily):
    """Which of a few characters is it? A task is `ways` characters, an example an image of one of them,
    `[size * size]` with ink from 0 to 1, and its class, one-hot. Test tasks are of characters that are
    in no training task; out of distribution those are drawn by a hand that shakes twice as much. The
    loss is the cross-entropy, the score the accuracy; guessing gives 1/ways."""

    name: ClassVar[str] = "glyphs"
    score_name: ClassVar[str] = "accuracy"
    lower_is_better: ClassVar[bool] = False

    ways: int = eqx.field(static=True, default=5)
    """Characters of a task."""
    size: int = eqx.field(static=True, default=14)
    """Pixels a side."""
    strokes: int = eqx.field(static=True, default=3)
    """Strokes of a character."""
    characters: int = eqx.field(static=True, default=1000)
    """Of the training tasks; as many others are kept for test tasks."""
    shake: float = eqx.field(static=True, default=0.06)
    """Standard deviation of a control point, in widths of the image."""
    tilt: float = eqx.field(static=True, default=0.2)
    """Standard deviation of a drawing's rotation, in radians, and of the logarithm of its scale."""
    shift: float = eqx.field(static=True, default=0.06)
    """Standard deviation of its place, in widths of the image."""

    def __check_init__(self):
        for name, least in (("ways", 2), ("size", 4), ("strokes", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.characters < self.ways:
            raise UserError(f"characters must be at least ways ({self.ways})")

    @property
    def inputs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Pixels of an image."""
        return self.size * self.size

    @property
    def outputs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Classes."""
        return self.ways

    @property
    def examples_per_shot(self) -> int:
        """One of each class."""
        return self.ways

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.size

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw `{"characters": [ways], "shake": []}`, the numbers of different characters."""
        first = 0 if split == "train" else self.characters
        chosen = different_numbers(key, self.characters, self.ways)
        hand = 2.0 if split == "ood" else 1.0
        return {"characters": first + chosen, "shake": jnp.asarray(hand * self.shake)}

    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw `n` drawings, every `ways` of them one of each character, in random order."""
        order_key, hand_key = jax.random.split(key)
        classes = balanced_classes(order_key, n, self.ways)
        draw = jax.vmap(lambda k, c: self.drawing(k, params["characters"][c], params["shake"]))
        x = draw(jax.random.split(hand_key, n), classes)
        return Examples(x, jax.nn.one_hot(classes, self.ways))

    def character(self, number: Int[Array, ""]) -> Float[Array, "strokes 3 2"]:
        """Return the control points of a character, in a square of width 1 around 0."""
        key = jax.random.fold_in(jax.random.key(ALPHABET), number)
        return jax.random.uniform(key, (self.strokes, 3, 2), minval=-0.4, maxval=0.4)

    def drawing(
        self, key: PRNGKeyArray, number: Int[Array, ""], shake: Float[Array, ""]
    ) -> Float[Array, " pixels"]:
        """Return one drawing of a character."""
        shake_key, tilt_key, scale_key, shift_key = jax.random.split(key, 4)
        points = self.character(number)
        points = points + shake * jax.random.normal(shake_key, points.shape)
        angle = self.tilt * jax.random.normal(tilt_key)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turn = jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])
        scale = jnp.exp(self.tilt * jax.random.normal(scale_key))
        points = scale * points @ turn + self.shift * jax.random.normal(shift_key, (2,))
        # Bézier: (1 − t)² a + 2 t (1 − t) b + t² c.
        t = jnp.linspace(0.0, 1.0, POINTS)[:, None]
        a, b, c = (points[:, None, i] for i in range(3))
        curve = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c).reshape(-1, 2)
        middle = (jnp.arange(self.size) + 0.5) / self.size - 0.5
        # |p − q|² as |p|² − 2 p·q + |q|², axis by axis: no array of pixels × points × 2.
        across = (middle[:, None] - curve[:, 0]) ** 2
        down = (middle[:, None] - curve[:, 1]) ** 2
        nearest = jnp.min(down[:, None, :] + across[None, :, :], axis=-1)
        return jnp.exp(-nearest / (2 * INK**2)).reshape(-1)

    def loss(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the mean cross-entropy of logits."""
        return classification_loss(prediction, y)

    def score(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the accuracy."""
        return accuracy(prediction, y)

    def guessing_loss(self) -> float:
        """Return what equal logits cost: log ways."""
        return math.log(self.ways)
