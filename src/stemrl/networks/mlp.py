"""Multilayer perceptrons and convolutional encoders as plain pytrees of arrays."""

import math
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .orthogonal import orthogonal

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
"""The activation functions there are; see `activate`."""


def activate(name: Activation, x: Array) -> Array:
    """Apply the activation function called `name`. Raise `ValueError` if there is none of that
    name."""
    if name not in get_args(Activation):
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(get_args(Activation))}")
    return jnp.tanh(x) if name == "tanh" else getattr(jax.nn, name)(x)


class Linear(eqx.Module):
    """y = x W + b. `x` may have any leading dimensions; it is one matrix product."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0, key: PRNGKeyArray):
        """Make orthogonal weights times `scale` (√2 suits ReLU, 0.01 the last layer of a policy),
        and biases of 0."""
        self.weight = scale * orthogonal(key, (inputs, outputs))
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        return x @ self.weight + self.bias


class LayerNorm(eqx.Module):
    """A layer that shifts and scales its input to mean 0 and deviation 1, and then by what it has
    learned (Ba et al. 1607.06450)."""

    scale: Float[Array, " size"]
    shift: Float[Array, " size"]

    def __init__(self, size: int):
        self.scale, self.shift = jnp.ones(size), jnp.zeros(size)

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        return standardized(x) * self.scale + self.shift


def standardized(x: Float[Array, "... size"]) -> Float[Array, "... size"]:
    """Shift and scale `x` to mean 0 and deviation 1 over the last dimension (0 stays 0)."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


class MLP(eqx.Module):
    """Linear layers with an activation after each but the last."""

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        *,
        final_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** sizes of input, output and hidden layers; `final_scale` multiplies the
        last layer's orthogonal weights."""
        sizes = (inputs, *hidden, outputs)
        keys = jax.random.split(key, len(sizes) - 1)
        inner = math.sqrt(2) if activation in ("relu", "elu", "silu", "gelu") else 1.0
        scales = [inner] * len(hidden) + [final_scale]
        self.layers = tuple(
            Linear(i, o, scale=s, key=k)
            for i, o, s, k in zip(sizes[:-1], sizes[1:], scales, keys, strict=True)
        )
        self.activation = activation

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        for layer in self.layers[:-1]:
            x = activate(self.activation, layer(x))
        return self.layers[-1](x)


class ConvEncoder(eqx.Module):
    """An encoder of images `[…, height, width, channels]`, with values from 0 to 255, into features
    `[…, features]`.

    It has three 3×3 convolutions with stride 2 and ReLU, then a linear layer: it is small, for
    small images.
    """

    kernels: tuple[Float[Array, "3 3 inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]
    project: Linear

    def __init__(
        self,
        shape: tuple[int, int, int],
        features: int,
        channels: tuple[int, ...] = (16, 32, 32),
        *,
        key: PRNGKeyArray,
    ):
        """**Arguments:** the image's shape, the number of features, channels of each layer."""
        *keys, last = jax.random.split(key, len(channels) + 1)
        initialize = jax.nn.initializers.he_normal(in_axis=(0, 1, 2))
        sizes = (shape[2], *channels)
        self.kernels = tuple(
            initialize(k, (3, 3, i, o)) for k, i, o in zip(keys, sizes, sizes[1:], strict=False)
        )
        self.biases = tuple(jnp.zeros(o) for o in channels)
        height, width = shape[:2]
        for _ in channels:
            height, width = -(-height // 2), -(-width // 2)
        self.project = Linear(height * width * channels[-1], features, scale=math.sqrt(2), key=last)

    def __call__(self, image: Array) -> Float[Array, "... features"]:
        leading = image.shape[:-3]
        x = image.reshape(-1, *image.shape[-3:]).astype(jnp.float32) / 255.0
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = patches(x) @ kernel.reshape(-1, kernel.shape[-1])
            x = jax.nn.relu(x + bias)
        return jax.nn.relu(self.project(x.reshape(*leading, -1)))


class RowEncoder(eqx.Module):
    """A `ConvEncoder` of images that come as rows of numbers from 0 to 1, `[…, height · width · channels]`."""

    images: ConvEncoder
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "... pixels"]) -> Float[Array, "... features"]:
        return self.images(255.0 * x.reshape(*x.shape[:-1], *self.shape))


def patches(x: Float[Array, "n height width channels"]) -> Float[Array, "n rows columns patch"]:
    """Return the 3×3 neighborhoods that a convolution with stride 2 sees, padded as by "SAME".

    A convolution is these times its kernel. On a CPU, XLA's own is quicker forward (55 µs against 80 an
    image of 32×32) but takes six times as long for a gradient (600 µs against 105).
    """
    sizes = x.shape[1:3]
    after = [-(-size // 2) for size in sizes]
    # One row of padding on the far side of an even size, one on both sides of an odd one.
    x = jnp.pad(x, ((0, 0), *((size % 2, 1) for size in sizes), (0, 0)))
    rows, columns = ([slice(i, i + 2 * n - 1, 2) for i in range(3)] for n in after)
    return jnp.concatenate([x[:, row, column] for row in rows for column in columns], axis=-1)
