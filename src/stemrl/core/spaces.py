"""The two spaces that observations, actions, contexts and goals live in.

Spaces are static: they describe shapes and bounds, hold no arrays and are hashable, so they may be
closed over by a compiled function or compared for equality.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray


@dataclass(frozen=True)
class Box:
    """Arrays of one shape, each entry between two bounds.

    `low` and `high` are floats, or tuples of `prod(shape)` floats, entry by entry in row-major
    order; infinite where there is no bound. Images are `Box((height, width, channels), 0, 255,
    "uint8")`.
    """

    shape: tuple[int, ...]
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def bounded(self) -> bool:
        """Whether every entry has two finite bounds."""
        return all(map(math.isfinite, (*_entries(self.low), *_entries(self.high))))

    def bounds(self) -> tuple[Array, Array]:
        """`low` and `high` as float32 arrays of the space's shape."""
        return _full(self.low, self.shape), _full(self.high, self.shape)

    def sample(self, key: PRNGKeyArray) -> Array:
        """A uniform draw; standard normal where the space is not bounded."""
        if not self.bounded:
            return jax.random.normal(key, self.shape, self.dtype)
        low, high = self.bounds()
        return jax.random.uniform(key, self.shape, minval=low, maxval=high).astype(self.dtype)


@dataclass(frozen=True)
class Discrete:
    """The integers 0, …, n − 1, as int32 scalars."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Always `()`."""
        return ()

    @property
    def dtype(self) -> str:
        """Always int32."""
        return "int32"

    def sample(self, key: PRNGKeyArray) -> Array:
        """A uniform draw."""
        return jax.random.randint(key, (), 0, self.n)


Space = Box | Discrete
"""Either space."""


def unscale_action(space: Space, action: Array) -> Array:
    """An agent's action in the units of the world.

    Every agent's continuous action is in [−1, 1] per dimension; here it is clipped to that and
    scaled to the bounds of the space. (Without bounds, and for discrete actions, the identity.)
    Shapes: `[…, *space.shape]` to the same.
    """
    if isinstance(space, Discrete) or not space.bounded:
        return action
    low, high = space.bounds()
    return low + 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0) * (high - low)


def scale_action(space: Space, action: Array) -> Array:
    """The inverse of `unscale_action` inside the bounds: an action of the world in an agent's units."""
    if isinstance(space, Discrete) or not space.bounded:
        return action
    low, high = space.bounds()
    return 2.0 * (action - low) / (high - low) - 1.0


def is_image(space: Space) -> bool:
    """Whether observations are `[height, width, channels]`."""
    return isinstance(space, Box) and len(space.shape) == 3


def observation_size(space: Space) -> int:
    """Entries of what `flatten` gives."""
    return space.n if isinstance(space, Discrete) else space.size


def flatten(space: Space, obs: Array) -> Array:
    """An observation as a float vector `[…, size]`: one-hot if discrete. Images stay as they are."""
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n)
    if is_image(space):
        return obs
    return obs.reshape(*obs.shape[: obs.ndim - len(space.shape)], -1).astype(jnp.float32)


def _entries(bound: float | tuple[float, ...]) -> tuple[float, ...]:
    return bound if isinstance(bound, tuple) else (bound,)


def _full(bound: float | tuple[float, ...], shape: tuple[int, ...]) -> Array:
    value = jnp.asarray(bound, jnp.float32)
    return value.reshape(shape) if isinstance(bound, tuple) else jnp.full(shape, value)
