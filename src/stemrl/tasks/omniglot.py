"""Characters from a folder of the form of Omniglot (Lake, Salakhutdinov and Tenenbaum 2015).

The data set itself is not part of this package; its folder is unpacked as its authors packed it:
`images_background/ALPHABET/CHARACTER/DRAWING.png` for training tasks, `images_evaluation/…` for test
tasks, black on white.
"""

import functools
import hashlib
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8
from PIL import Image

from ..core import AbstractSupervisedFamily, Examples, Params, Split, UserError
from .glyphs import accuracy, balanced_classes, classification_loss, different_numbers

FOLDERS = {"train": "images_background", "test": "images_evaluation"}


class Omniglot(AbstractSupervisedFamily):
    """Which of a few characters is it? As `glyphs`, with the drawings of a folder. With `rotations`
    every character turned by 90, 180 and 270 degrees is three more (Santoro et al. 1605.06065)."""

    name: ClassVar[str] = "omniglot"
    paths: ClassVar[tuple[str, ...]] = ("folder",)
    score_name: ClassVar[str] = "accuracy"
    lower_is_better: ClassVar[bool] = False

    folder: str = eqx.field(static=True, default="omniglot")
    """Where `images_background` and `images_evaluation` are."""
    ways: int = eqx.field(static=True, default=5)
    """Characters of a task."""
    size: int = eqx.field(static=True, default=20)
    """Pixels a side, to which drawings are scaled."""
    rotations: bool = eqx.field(static=True, default=True)
    """Count a character turned by a right angle as another one."""

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

    @property
    def identity(self) -> str:
        """Name, version and settings, and what the folder holds."""
        content = hashlib.sha256()
        for split in ("train", "test"):
            content.update(self.drawings(split).tobytes())
        return f"{super().identity}#{content.hexdigest()[:8]}"

    def drawings(self, split: Split) -> UInt8[np.ndarray, "characters drawings pixels"]:
        """Return all drawings of a split, ink 255. Raises `UserError` where the folder holds none."""
        if split == "ood":
            raise UserError("omniglot has no tasks out of distribution; take train or test")
        found = read_drawings(self.place(self.folder) / FOLDERS[split], self.size)
        if len(found) * self._turns < self.ways:
            raise UserError(
                f"{self.folder}/{FOLDERS[split]} has {len(found)} characters, and a task takes"
                f" {self.ways}"
            )
        return found

    @property
    def _turns(self) -> int:
        return 4 if self.rotations else 1

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw `{"characters": [ways], "turns": [ways], "split": []}`."""
        known = len(self.drawings(split))
        chosen = different_numbers(key, known * self._turns, self.ways)
        return {
            "characters": chosen % known,
            "turns": chosen // known,
            "split": jnp.asarray(split != "train", jnp.int32),
        }

    @property
    def _different(self) -> int:
        return min(self.drawings(split).shape[1] for split in ("train", "test"))

    def most_examples(self, split: Split) -> int:
        """Return how many drawings of its characters there are."""
        return self.ways * self._different

    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw `n` drawings, every `ways` of them one of each character, in random order, none
        twice as long as there are enough."""
        order_key, hand_key = jax.random.split(key)
        classes = balanced_classes(order_key, n, self.ways)
        train, test = (self.drawings(split) for split in ("train", "test"))
        most = self._different
        # The drawing of each round: a permutation for each class, gone through again and again.
        orders = jax.vmap(lambda k: jax.random.permutation(k, most))(
            jax.random.split(hand_key, self.ways)
        )
        which = orders[classes, (jnp.arange(n) // self.ways) % most]
        character = params["characters"][classes]
        image = jnp.where(
            params["split"] == 0,
            jnp.asarray(train)[character % len(train), which],
            jnp.asarray(test)[character % len(test), which],
        )
        x = image.reshape(n, self.size, self.size).astype(jnp.float32) / 255.0
        turned = jnp.stack([jnp.rot90(x, k, axes=(1, 2)) for k in range(4)])
        x = turned[params["turns"][classes], jnp.arange(n)]
        return Examples(x.reshape(n, -1), jax.nn.one_hot(classes, self.ways))

    def loss(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the mean cross-entropy of logits."""
        return classification_loss(prediction, y)

    def score(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the accuracy."""
        return accuracy(prediction, y)


@functools.cache
def read_drawings(folder: Path, size: int) -> UInt8[np.ndarray, "characters drawings pixels"]:
    """Return the drawings `ALPHABET/CHARACTER/*.png` below a folder, ink 255, scaled to `size`
    pixels a side; of every character as many as the one with the fewest has. Raises `UserError`
    where there are none, and for a file that is no image."""
    characters = sorted({file.parent for file in folder.glob("*/*/*.png")})
    if not characters:
        raise UserError(
            f"there are no drawings in {folder}: ALPHABET/CHARACTER/*.png is wanted; give the unpacked"
            " Omniglot folder as folder"
        )
    found = [[_ink(file, size) for file in sorted(one.glob("*.png"))] for one in characters]
    fewest = min(map(len, found))
    return np.stack([np.stack(one[:fewest]) for one in found])


def _ink(file: Path, size: int) -> UInt8[np.ndarray, " pixels"]:
    try:
        with Image.open(file) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BOX)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no image that can be read: {error}") from None
    return 255 - np.asarray(small, np.uint8).reshape(-1)
