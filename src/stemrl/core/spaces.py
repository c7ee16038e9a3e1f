"""The spaces that observations, actions, contexts and goals live in.

Spaces are static: they describe shapes and bounds, hold no arrays and are hashable, so they may be
closed over by a compiled function or compared for equality.

Agents meet three of them: `Box`, `Discrete` and `MultiDiscrete`, whose whole numbers count from 0. An
environment may also begin its numbers elsewhere, or be observed in a `Dict` or `Tuple`: what an agent
sees then is `as_seen` of its space, and `see` makes it of an observation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray


@dataclass(frozen=True)
class Box:
    """Arrays of one shape in which each entry lies between two bounds.

    `low` and `high` are floats, or tuples of `prod(shape)` floats, entry by entry in row-major
    order. They are infinite where there is no bound. Images are `Box((height, width, channels), 0,
    255, "uint8")`.
    """

    shape: tuple[int, ...]
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def bounded(self) -> bool:
        """Whether every entry has two finite bounds."""
        return all(map(math.isfinite, (*_entries(self.low), *_entries(self.high))))

    @property
    def limited(self) -> bool:
        """Whether any entry has a finite bound."""
        return any(map(math.isfinite, (*_entries(self.low), *_entries(self.high))))

    def bounds(self) -> tuple[Array, Array]:
        """Return `low` and `high` as float32 arrays of the space's shape."""
        return _full(self.low, self.shape), _full(self.high, self.shape)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest float32 number inside the declared bounds, each of the space's
        shape. A declared bound may lie between two float32 numbers."""
        low, high = _exact(self.low, self.shape), _exact(self.high, self.shape)
        inside_low, inside_high = low.astype(np.float32), high.astype(np.float32)
        up, down = np.float32(math.inf), np.float32(-math.inf)
        inside_low = np.where(inside_low < low, np.nextafter(inside_low, up), inside_low)
        inside_high = np.where(inside_high > high, np.nextafter(inside_high, down), inside_high)
        return inside_low, np.maximum(inside_low, inside_high)

    def sample(self, key: PRNGKeyArray) -> Array:
        """Draw an array uniformly, or from a standard normal distribution if the space is not
        bounded."""
        if not self.bounded:
            return jax.random.normal(key, self.shape, self.dtype)
        low, high = self.bounds()
        return jax.random.uniform(key, self.shape, minval=low, maxval=high).astype(self.dtype)


@dataclass(frozen=True)
class Discrete:
    """The integers start, …, start + n − 1, as int32 scalars. Agents count them from 0."""

    n: int
    start: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Always `()`."""
        return ()

    @property
    def dtype(self) -> str:
        """Always int32."""
        return "int32"

    def sample(self, key: PRNGKeyArray) -> Array:
        """Draw one of them, each as likely as the others."""
        return jax.random.randint(key, (), self.start, self.start + self.n)


@dataclass(frozen=True)
class MultiDiscrete:
    """Several whole numbers at once, as an int32 vector. The i-th is one of `sizes[i]` numbers,
    which count from `starts[i]`, or from 0 if `starts` is empty. `MultiDiscrete((2,) * n)` are n
    bits."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the vector, `(len(sizes),)`."""
        return (len(self.sizes),)

    @property
    def dtype(self) -> str:
        """Always int32."""
        return "int32"

    @property
    def size(self) -> int:
        """The number of entries that `flatten` gives, in which each number is one-hot."""
        return sum(self.sizes)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the choices of each number stand among all `size` of them, and which of these
        places are real choices and not padding: two arrays `[numbers, most choices]`."""
        firsts = np.cumsum((0, *self.sizes[:-1]))
        count = np.arange(max(self.sizes))
        there = count < np.asarray(self.sizes)[:, None]
        return np.where(there, firsts[:, None] + count, 0), there

    def sample(self, key: PRNGKeyArray) -> Array:
        """Draw each number uniformly."""
        drawn = jax.random.randint(key, self.shape, 0, jnp.asarray(self.sizes))
        return drawn + jnp.asarray(self.starts or 0, jnp.int32)


@dataclass(frozen=True)
class Dict:
    """Several spaces by name; observations are dictionaries. Agents see them as one vector
    (`as_seen`)."""

    spaces: Any
    """A dictionary of spaces; it is kept as pairs that are sorted by name."""

    def __post_init__(self) -> None:
        pairs = self.spaces.items() if isinstance(self.spaces, Mapping) else self.spaces
        object.__setattr__(self, "spaces", tuple(sorted(pairs)))

    def parts(self, obs: Any = None) -> list[tuple[Any, Any]]:
        """Return each space with its part of the observation `obs`, in the order in which they are
        flattened."""
        return [(space, None if obs is None else obs[name]) for name, space in self.spaces]


@dataclass(frozen=True)
class Tuple:
    """Several spaces in a row; observations are tuples. Agents see them as one vector (`as_seen`)."""

    spaces: tuple[Any, ...]

    def parts(self, obs: Any = None) -> list[tuple[Any, Any]]:
        """Return each space with its part of the observation `obs`."""
        return list(
            zip(self.spaces, [None] * len(self.spaces) if obs is None else obs, strict=True)
        )


Space = Box | Discrete | MultiDiscrete
"""The spaces of what agents see and do."""
AnySpace = Space | Dict | Tuple
"""The spaces of what environments may show."""


def as_seen(space: AnySpace) -> Space:
    """Return the space as agents see it: whole numbers count from 0, and a `Dict` or `Tuple`
    becomes one vector."""
    if isinstance(space, Discrete):
        return Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete(space.sizes)
    if not isinstance(space, Dict | Tuple):
        return space
    low: list[float] = []
    high: list[float] = []
    for part, _ in space.parts():
        seen = as_seen(part)
        if isinstance(seen, Box):
            low += _exact(seen.low, seen.shape).reshape(-1).tolist()
            high += _exact(seen.high, seen.shape).reshape(-1).tolist()
        else:
            low += [0.0] * observation_size(seen)
            high += [1.0] * observation_size(seen)
    return Box((len(low),), tuple(low), tuple(high))


def see(space: AnySpace, obs: Any) -> Array:
    """Turn an observation of `space` into one of `as_seen(space)`."""
    if isinstance(space, Box):
        return obs
    if isinstance(space, Discrete | MultiDiscrete):
        start = space.start if isinstance(space, Discrete) else space.starts
        return obs - jnp.asarray(start, jnp.int32) if start else obs
    vectors = []
    for part, value in space.parts(obs):
        seen = jnp.asarray(see(part, value))
        vectors.append(
            (seen if isinstance(part, Box) else flatten(as_seen(part), seen)).reshape(-1)
        )
    return jnp.concatenate([vector.astype(jnp.float32) for vector in vectors])


def clip_action(space: Space, action: Array) -> Array:
    """Clip an agent's action to its bounds: to −1 and 1, where the space has a bound."""
    if not isinstance(space, Box) or not space.limited:
        return action
    if space.bounded:
        return jnp.clip(action, -1.0, 1.0)
    low, high = space.limits()
    return jnp.clip(
        action,
        np.where(np.isfinite(low), np.float32(-1), low),
        np.where(np.isfinite(high), np.float32(1), high),
    )


def unscale_action(space: Space, action: Array) -> Array:
    """Turn an agent's action into the units of the world. Shapes: from `[…, *space.shape]` to the
    same.

    It is done entry by entry. With two bounds, an agent's −1 and 1 are those bounds, and the entry
    is clipped to them. With one bound, −1 is the lower or 1 the upper one, and a unit is a unit.
    With none, the entry stays as it is. Discrete actions count from 0 and get the space's start
    added. The result is never outside of the declared bounds, not even by a rounding error.
    """
    if not isinstance(space, Box):
        return _shifted(space, action, 1)
    if not space.limited:
        return action
    low, high = space.bounds()
    action = clip_action(space, action)
    if space.bounded:
        world = low + 0.5 * (action + 1.0) * (high - low)
    else:
        above, below = jnp.isfinite(low), jnp.isfinite(high)
        span = jnp.where(above & below, high - low, 2.0)
        from_low = jnp.where(above, low, 0.0) + 0.5 * (action + 1.0) * span
        from_high = jnp.where(below, high, 0.0) + action - 1.0
        world = jnp.where(above, from_low, jnp.where(below, from_high, action))
    return jnp.clip(world, *space.limits())


def scale_action(space: Space, action: Array) -> Array:
    """Turn an action of the world, inside the bounds, into an agent's units: the inverse of
    `unscale_action`."""
    if not isinstance(space, Box):
        return _shifted(space, action, -1)
    if not space.limited:
        return action
    low, high = space.bounds()
    if space.bounded:
        return 2.0 * (action - low) / (high - low) - 1.0
    above, below = jnp.isfinite(low), jnp.isfinite(high)
    span = jnp.where(above & below, high - low, 2.0)
    from_low = 2.0 * (action - jnp.where(above, low, 0.0)) / span - 1.0
    from_high = action - jnp.where(below, high, 0.0) + 1.0
    return jnp.where(above, from_low, jnp.where(below, from_high, action))


def _shifted(space: Discrete | MultiDiscrete, action: Array, sign: int) -> Array:
    start = space.start if isinstance(space, Discrete) else space.starts
    return action + sign * jnp.asarray(start, jnp.int32) if start else action


def is_image(space: Space) -> bool:
    """Return whether observations are images, `[height, width, channels]`."""
    return isinstance(space, Box) and len(space.shape) == 3


def observation_size(space: Space) -> int:
    """Return the number of entries that `flatten` gives."""
    return space.n if isinstance(space, Discrete) else space.size


def flatten(space: Space, obs: Array) -> Array:
    """Turn what an agent sees or does into a float vector `[…, size]`, with whole numbers one-hot.
    Images keep their shape; unless they are bytes, they are scaled from the bounds of the space to
    those of bytes, 0 to 255."""
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n)
    if isinstance(space, MultiDiscrete):
        hot = jax.nn.one_hot(obs, max(space.sizes))
        return hot[..., space.places[1]]
    if is_image(space):
        return _as_bytes(space, obs)
    return obs.reshape(*obs.shape[: obs.ndim - len(space.shape)], -1).astype(jnp.float32)


def _as_bytes(space: Box, image: Array) -> Array:
    """An image on the scale of bytes; as it is where it is on that, or without bounds as if it were on
    that of 0 to 1."""
    if (space.low, space.high) == (0, 255):
        return image
    if not space.bounded:
        return 255.0 * image
    low, high = space.bounds()
    return 255.0 * (image - low) / jnp.where(high > low, high - low, 1.0)


def _entries(bound: float | tuple[float, ...]) -> tuple[float, ...]:
    return bound if isinstance(bound, tuple) else (bound,)


def _full(bound: float | tuple[float, ...], shape: tuple[int, ...]) -> Array:
    value = jnp.asarray(bound, jnp.float32)
    return value.reshape(shape) if isinstance(bound, tuple) else jnp.full(shape, value)


def _exact(bound: float | tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A bound of every entry, as it was declared."""
    value = np.asarray(bound, np.float64)
    return np.broadcast_to(value.reshape(shape) if isinstance(bound, tuple) else value, shape)
