"""Handwritten digits in two domains: small ones on plain or textured grounds, and folders of MNIST, MNIST-M
and SVHN (Ganin et al. 1505.07818, §5.2).

None of these images is part of this package. The small ones are scikit-learn's (8×8, 1,797 of them; extra:
digits); the folders hold the files that their authors offer, under the names that they gave them.
"""

import abc
import functools
import gzip
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8
from PIL import Image

from ..core import AbstractSupervisedFamily, Examples, Params, Split, UserError
from ..reading import open_regular
from .glyphs import accuracy, balanced_classes, classification_loss

CLASSES = 10
Background = Literal["plain", "texture"]
"""What small digits stand on."""
Kind = Literal["mnist", "mnist-m", "svhn"]
"""Whose files a folder holds."""
SMALL = 8
"""Pixels a side of scikit-learn's digits."""
WAVES = 3
"""Plane waves of a texture."""


class AbstractDigits(AbstractSupervisedFamily):
    """Which digit is it? One task; an example is an image as a row of numbers from 0 to 1, and its digit,
    one-hot. The train split has other images than the test split; there is none out of distribution. The
    loss is the cross-entropy, the score the accuracy; guessing gives 0.1."""

    finite: ClassVar[bool] = True
    outputs: ClassVar[int] = CLASSES  # pyright: ignore[reportIncompatibleVariableOverride]
    score_name: ClassVar[str] = "accuracy"
    lower_is_better: ClassVar[bool] = False

    @property
    def examples_per_shot(self) -> int:
        """One of each digit."""
        return CLASSES

    @property
    def identity(self) -> str:
        """Name, version and settings, and which images there are."""
        content = hashlib.sha256()
        for split in ("train", "test"):
            content.update(self.drawings(split).tobytes())
        return f"{super().identity}#{content.hexdigest()[:8]}"

    @abc.abstractmethod
    def drawings(self, split: Split) -> UInt8[np.ndarray, "10 images pixels"]:
        """Return all images of a split by their digit, as many of each."""

    def background(
        self, key: PRNGKeyArray, x: Float[Array, "n pixels"]
    ) -> Float[Array, "n pixels"]:
        """Return the images as the family shows them; by default they stay as they are."""
        return x

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw `{"split": []}`: 0 for the train split, 1 for the test split."""
        if split == "ood":
            raise UserError(f"{self.name} has no tasks out of distribution; take train or test")
        return {"split": jnp.asarray(split != "train", jnp.int32)}

    def most_examples(self, split: Split) -> int:
        """Return how many images of the split there are."""
        return CLASSES * self.drawings("train" if split == "train" else "test").shape[1]

    def data(self, key: PRNGKeyArray, params: Params, n: int) -> Examples:
        """Draw `n` images, every ten of them one of each digit, in random order, none twice as long
        as there are enough."""
        class_key, order_key, ground_key = jax.random.split(key, 3)
        classes = balanced_classes(class_key, n, CLASSES)
        number = jnp.arange(n) // CLASSES

        def of(split: Split) -> Array:
            images = self.drawings(split)
            orders = jax.vmap(lambda k: jax.random.permutation(k, images.shape[1]))(
                jax.random.split(order_key, CLASSES)
            )
            return jnp.asarray(images)[classes, orders[classes, number % images.shape[1]]]

        x = jnp.where(params["split"] == 0, of("train"), of("test")).astype(jnp.float32) / 255.0
        return Examples(self.background(ground_key, x), jax.nn.one_hot(classes, CLASSES))

    def loss(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the mean cross-entropy of logits."""
        return classification_loss(prediction, y)

    def score(self, prediction: Array, y: Array) -> Float[Array, ""]:
        """Return the accuracy."""
        return accuracy(prediction, y)


class Digits(AbstractDigits):
    """scikit-learn's small digits (extra: digits), plain or, as MNIST-M is made of MNIST, the difference
    to a texture: |ink − texture|, so that ink is dark on bright ground and bright on dark ground. Every
    example has a texture of its own, a few plane waves."""

    name: ClassVar[str] = "digits"

    ground: Background = eqx.field(static=True, default="plain")
    """What digits stand on: plain or texture."""
    contrast: float = eqx.field(static=True, default=0.8)
    """Brightest value of a texture; the darkest is 0, and ink is 1."""
    size: int = eqx.field(static=True, default=8)
    """Pixels a side, in [8, 64]: 8 as they are, or more, to which they are smoothly enlarged. A texture's waves
    are at least eight pixels long each way, so that in larger images strokes are no longer as large as they are."""

    def __check_init__(self):
        if self.ground not in get_args(Background):
            known = " or ".join(get_args(Background))
            raise UserError(f"ground must be {known}, not {self.ground!r}")
        if not 0 <= self.contrast <= 1:
            raise UserError(f"contrast must be in [0, 1], not {self.contrast:g}")
        if not SMALL <= self.size <= 64:
            raise UserError(f"size must be in [8, 64], not {self.size}")

    @property
    def inputs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Numbers in an image."""
        return self.size * self.size

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.size

    def drawings(self, split: Split) -> UInt8[np.ndarray, "10 images pixels"]:
        """Return scikit-learn's digits, every fourth of which is a test image. Raise `UserError` if
        scikit-learn is not installed."""
        return _enlarged(split != "train", self.size)

    def background(
        self, key: PRNGKeyArray, x: Float[Array, "n pixels"]
    ) -> Float[Array, "n pixels"]:
        """Return the images with a texture behind each."""
        if self.ground == "plain":
            return x
        wave_key, phase_key = jax.random.split(key)
        side = jnp.arange(float(self.size))
        place = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), -1)
        # Up to a wave in eight pixels each way: shapes as large as strokes, and larger.
        waves = jax.random.uniform(wave_key, (len(x), WAVES, 2), minval=-1.0, maxval=1.0)
        phases = jax.random.uniform(phase_key, (len(x), WAVES, 1), maxval=2 * jnp.pi)
        angle = (2 * jnp.pi / 8) * waves @ place.reshape(-1, 2).T + phases
        texture = 0.5 + 0.5 * jnp.mean(jnp.sin(angle), axis=1)
        return jnp.abs(x - self.contrast * texture)


class DigitFolder(AbstractDigits):
    """Digits from a folder: MNIST's four files (packed or not), MNIST-M's two folders of images with a
    list of labels for each, or SVHN's two files `train_32x32.mat` and `test_32x32.mat`. All are read at
    one size and with as many channels, so that each can be the source or the target of another."""

    name: ClassVar[str] = "digit-folder"
    paths: ClassVar[tuple[str, ...]] = ("folder",)

    kind: Kind = eqx.field(static=True, default="mnist")
    """Whose files they are: mnist, mnist-m or svhn."""
    folder: str = eqx.field(static=True, default="mnist")
    """Where they are."""
    size: int = eqx.field(static=True, default=16)
    """Pixels a side, to which images are scaled."""
    color: bool = eqx.field(static=True, default=False)
    """Three channels a pixel instead of one."""
    most: int = eqx.field(static=True, default=500)
    """Images of each digit that are read in a split, in [1, inf]: the first ones."""

    def __check_init__(self):
        if self.kind not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise UserError(f"kind must be one of {known}, not {self.kind!r}")
        for name in ("size", "most"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def inputs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Numbers in an image."""
        return self.size * self.size * (3 if self.color else 1)

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width, of images without color."""
        return None if self.color else (self.size, self.size)

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.size, self.size, 3 if self.color else 1

    def drawings(self, split: Split) -> UInt8[np.ndarray, "10 images pixels"]:
        """Return the images of the folder. Raises `UserError` where it does not hold them."""
        folder = self.place(self.folder)
        return _read(self.kind, folder, split != "train", self.size, self.color, self.most)


@functools.cache
def _small_digits(test: bool) -> UInt8[np.ndarray, "10 images 64"]:
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "digits are scikit-learn's, which is not installed: pip install 'stemrl[digits]'"
        ) from None
    found: Any = load_digits()
    chosen = (np.arange(len(found.target)) % 4 == 3) == test
    images = np.round(found.data[chosen] * (255 / 16)).astype(np.uint8)
    return by_digit(images, found.target[chosen], len(images))


@functools.cache
def _enlarged(test: bool, size: int) -> UInt8[np.ndarray, "10 images pixels"]:
    """The small digits at `size` pixels a side."""
    small = _small_digits(test)
    if size == SMALL:
        return small

    def one(row: np.ndarray) -> np.ndarray:
        image = Image.fromarray(row.reshape(SMALL, SMALL))
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.uint8).ravel()

    return np.stack([np.stack([one(row) for row in rows]) for rows in small])


def by_digit(
    images: UInt8[np.ndarray, "n pixels"], labels: np.ndarray, most: int
) -> UInt8[np.ndarray, "10 images pixels"]:
    """Return images by their digit, the first ones, as many of each as there are of all and at most `most`.
    Raises `UserError` where a digit has none."""
    counts = np.bincount(labels, minlength=CLASSES)[:CLASSES]
    if counts.min() == 0:
        raise UserError(f"there is no image of the digit {int(counts.argmin())}")
    each = min(int(counts.min()), most)
    return np.stack([images[np.flatnonzero(labels == digit)[:each]] for digit in range(CLASSES)])


@functools.cache
def _read(
    kind: Kind, folder: Path, test: bool, size: int, color: bool, most: int
) -> UInt8[np.ndarray, "10 images pixels"]:
    readers: dict[Kind, Callable[[Path, bool], tuple[Callable[[int], Image.Image], np.ndarray]]] = {
        "mnist": _mnist, "mnist-m": _mnist_m, "svhn": _svhn,
    }  # fmt: skip
    image, labels = readers[kind](folder, test)
    wrong = labels[(labels < 0) | (labels >= CLASSES)]
    if len(wrong):
        raise UserError(f"{folder} has a label {int(wrong[0])}; digits are 0 to 9")
    # Only those that are kept are scaled.
    try:
        kept = by_digit(np.arange(len(labels), dtype=np.int64)[:, None], labels, most)[..., 0]
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    mode = "RGB" if color else "L"

    def scaled(number: int) -> np.ndarray:
        small = image(number).convert(mode).resize((size, size), Image.Resampling.BOX)
        return np.asarray(small, np.uint8).reshape(-1)

    return np.stack([np.stack([scaled(int(i)) for i in row]) for row in kept])


def _mnist(folder: Path, test: bool) -> tuple[Callable[[int], Image.Image], np.ndarray]:
    part = "t10k" if test else "train"
    images = _idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels = _idx(folder, f"{part}-labels-idx1-ubyte", 1)
    _as_many(folder, len(images), len(labels))
    return lambda i: Image.fromarray(images[i]), labels.astype(np.int64)


def _idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An array of bytes of the form "IDX": two zero bytes, 8, the number of dimensions, each of them
    in four bytes, the content."""
    for file, opened in ((folder / name, lambda f: f), (folder / f"{name}.gz", gzip.open)):
        if not file.exists():
            continue
        try:
            with open_regular(file) as raw, opened(raw) as content:
                data = content.read(_LIMIT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"cannot read {file}: {error}") from None
        head = 4 + 4 * dimensions
        if len(data) < head or data[:4] != bytes((0, 0, 8, dimensions)):
            raise UserError(
                f"{file} is not of MNIST's form (IDX, {dimensions} dimensions of bytes)"
            )
        shape = tuple(int(n) for n in np.frombuffer(data[4:head], ">u4"))
        if len(data) - head != int(np.prod(shape, dtype=object)):
            raise UserError(f"{file} has {len(data) - head} bytes where its head says {shape}")
        return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
    raise UserError(f"there is no {name} (or {name}.gz) in {folder}; give MNIST's folder as folder")


def _mnist_m(folder: Path, test: bool) -> tuple[Callable[[int], Image.Image], np.ndarray]:
    part = "mnist_m_test" if test else "mnist_m_train"
    listing = folder / f"{part}_labels.txt"
    try:
        with open_regular(listing) as file:
            lines = file.read(_LIMIT).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"there is no {listing.name} to read in {folder}; give MNIST-M's folder as folder"
        ) from None
    rows = [line.split() for line in lines if line.strip()]
    for row in rows:
        if len(row) != 2 or not row[1].isdecimal() or "/" in row[0]:
            raise UserError(f"{listing}: a line is a file and its digit, not {' '.join(row)!r}")

    def image(number: int) -> Image.Image:
        file = folder / part / rows[number][0]
        try:
            with open_regular(file) as raw, Image.open(raw) as found:
                return found.convert("RGB")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is no image that can be read: {error}") from None

    return image, np.array([int(row[1]) for row in rows], np.int64)


def _svhn(folder: Path, test: bool) -> tuple[Callable[[int], Image.Image], np.ndarray]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    file = folder / f"{'test' if test else 'train'}_32x32.mat"
    try:
        with open_regular(file) as raw:
            found = loadmat(raw, variable_names=("X", "y"))
    except FileNotFoundError:
        raise UserError(
            f"there is no {file.name} in {folder}; give SVHN's folder (cropped digits) as folder"
        ) from None
    except (MatReadError, OSError, ValueError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{file} is no MATLAB file that can be read: {error}") from None
    x, y = found.get("X"), found.get("y")
    if x is None or y is None or x.ndim != 4 or x.shape[2] != 3 or x.dtype != np.uint8:
        raise UserError(f"{file} needs X, bytes [height, width, 3, images], and y, their digits")
    _as_many(folder, x.shape[3], y.size)
    # Ten stands for the digit 0 there.
    return lambda i: Image.fromarray(x[..., i]), y.reshape(-1).astype(np.int64) % 10


def _as_many(folder: Path, images: int, labels: int) -> None:
    if images != labels:
        raise UserError(f"{folder} has {images} images and {labels} labels")


_LIMIT = 2**30
"""Bytes of one file, unpacked."""
