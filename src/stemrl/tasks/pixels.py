"""Worlds that are seen as pictures, and look different in the target: domain shift at its purest.

In `pixel-reach` a dot has to get to a ring, in `pixel-drive` a car has to stay on a winding road. The
pictures are 32×32 in three colours. Source and target differ in looks *alone*: colours, a texture on the
ground, and noise; what happens, and what it is worth, is the same to the bit. That is the assumption of
domain-adversarial training (Ganin et al. 2016, 1505.07818), and here it holds exactly. How well things go
is in the events (`distance`, `offset`, `off_road`), so that one can ask whether features still show it.
"""

import abc
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8, UInt32

from ..core import AbstractFamily, Box, Params, Split, UserError
from ..drawing import Scene, Shape

Looks = Literal["source", "target"]
SIDE = 32
"""Pixels along a side of a picture."""
PIXEL = 2.0 / SIDE
"""Side of a pixel (length units): a picture shows [−1, 1]²."""

_middle = (np.arange(SIDE, dtype=np.float32) + 0.5) * PIXEL - 1.0
ACROSS = _middle[None, :]
"""x of every column of pixels, to the right: `[1, 32]`."""
UP = -_middle[:, None]
"""y of every row, the top one first: `[32, 1]`."""

Picture = UInt8[Array, "32 32 3"]
Mask = Float[Array, "32 32"]
"""How much of each pixel something covers, 0 to 1."""


class Pair(NamedTuple):
    """A colour (red, green, blue, 0 to 1) in the source and in the target."""

    source: tuple[float, float, float]
    target: tuple[float, float, float]

    def at(self, looks: Float[Array, ""]) -> Float[Array, "3"]:
        """Return the colour `looks` of the way from the source's to the target's."""
        source, target = jnp.asarray(self.source), jnp.asarray(self.target)
        return jnp.clip(source + looks * (target - source), 0.0, 1.0)


GROUND = Pair((0.06, 0.07, 0.10), (0.62, 0.50, 0.34))
AGENT = Pair((0.95, 0.95, 0.95), (0.80, 0.15, 0.30))
GOAL = Pair((0.10, 0.75, 0.25), (0.15, 0.25, 0.75))
GRASS = Pair((0.16, 0.45, 0.18), (0.78, 0.70, 0.52))
ROAD = Pair((0.32, 0.32, 0.34), (0.35, 0.20, 0.32))
PAINT = Pair((0.95, 0.95, 0.90), (0.95, 0.80, 0.15))
CAR = Pair((0.85, 0.15, 0.15), (0.10, 0.65, 0.70))
TEXTURE = 0.12
"""How bright the target's texture is."""
NOISE = 0.12
"""The widest that the target's noise is off, either way."""


class AbstractPixelEnv(eqx.Module):
    """What both worlds share: pictures of a state, or, where nothing is to be rendered, a few numbers.

    Params are `{"looks": []}`: 0 for the source's, 1 for the target's, or anywhere between and beyond.
    They change the picture and nothing else.
    """

    render: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def picture(self, state: Any, params: Params) -> Picture:
        """Return what `state` looks like."""

    @abc.abstractmethod
    def numbers(self, state: Any) -> Float[Array, " numbers"]:
        """Return what a policy needs to know of `state`."""

    def observe(self, state: Any, params: Params) -> Array:
        """Return the picture, or the numbers where nothing is rendered."""
        return self.picture(state, params) if self.render else self.numbers(state)


class ReachState(eqx.Module):
    """Dot and ring."""

    position: Float[Array, "2"]
    goal: Float[Array, "2"]
    grain: UInt32[Array, ""]
    """Chooses texture and noise of the next picture; nothing else depends on it."""


class PixelReachEnv(AbstractPixelEnv):
    """A dot that moves by its action, and a ring in another place in every episode, both in [−1, 1]².
    The reward is exp(−3 · distance); nothing ends the episode."""

    render: bool = eqx.field(static=True, default=True)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Draw the places of dot and ring, each anywhere within ±0.8."""
        grain_key, key = jax.random.split(key)
        places = jax.random.uniform(key, (2, 2), minval=-0.8, maxval=0.8)
        state = ReachState(places[0], places[1], jax.random.bits(grain_key))
        return self.observe(state, params), state

    def step(self, key: PRNGKeyArray, state: ReachState, action: Array, params: Params):
        """Move by `action`, `[2]` (length units), within ±0.9; no randomness in it. Events: `distance`
        to the ring, and `success`, whether that is less than 0.15."""
        position = jnp.clip(state.position + action, -0.9, 0.9)
        distance = jnp.sqrt(jnp.sum((position - state.goal) ** 2))
        after = ReachState(position, state.goal, state.grain + 1)
        no = jnp.asarray(False)
        events = {"success": distance < 0.15, "distance": distance}
        return self.observe(after, params), after, jnp.exp(-3.0 * distance), no, no, events

    def numbers(self, state: ReachState) -> Float[Array, "4"]:
        """Return the dot's place and the ring's."""
        return jnp.concatenate([state.position, state.goal])

    def picture(self, state: ReachState, params: Params) -> Picture:
        """Paint a disc of radius 0.16 and a ring of radius 0.2, seen from above."""
        looks = params["looks"]
        slant = _hash(state.grain >> 5) * np.pi
        # sin(x + y) from rows and columns, for a sine a pixel is what takes time.
        x, y = 14.0 * jnp.cos(slant) * ACROSS, 14.0 * jnp.sin(slant) * UP
        wave = jnp.sin(x) * jnp.cos(y) + jnp.cos(x) * jnp.sin(y)
        layers = [
            (_cover(jnp.abs(_away(state.goal) - 0.2) - 0.05), GOAL.at(looks)),
            (_cover(_away(state.position) - 0.16), AGENT.at(looks)),
        ]
        return _paint(GROUND.at(looks), layers, wave, state.grain, looks)

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the picture `[32, 32, 3]`, or four numbers."""
        return Box((SIDE, SIDE, 3), 0, 255, "uint8") if self.render else Box((4,), -1.0, 1.0)

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the move, `[2]`, entries within ±0.2."""
        return Box((2,), -0.2, 0.2)


class DriveState(eqx.Module):
    """A car and its road."""

    along: Float[Array, ""]
    """How far it has come."""
    across: Float[Array, ""]
    phases: Float[Array, "2"]
    """What makes this episode's road (radians)."""
    grain: UInt32[Array, ""]
    """Chooses texture and noise of the next picture; nothing else depends on it."""


class PixelDriveEnv(AbstractPixelEnv):
    """A car seen from above that goes forward by itself and steers across; the road winds, another way
    in every episode. The reward falls from 1 in the middle of the road to 0 at its edge and beyond;
    nothing ends the episode.

    The picture moves with the car, which is in its lower middle. The numbers are how far the road's
    middle is from the car, here and at three places ahead.
    """

    render: bool = eqx.field(static=True, default=True)

    HALF: ClassVar[float] = 0.35
    """Half the road's width."""
    SPEED: ClassVar[float] = 0.1
    """Length units a step."""
    CAR: ClassVar[float] = -0.7
    """Where the car is in the picture, upwards."""

    def middle(self, state: DriveState, along: Array) -> Array:
        """Return where the middle of the road is, that far along."""
        first, second = state.phases
        return 0.35 * jnp.sin(2.5 * along + first) + 0.15 * jnp.sin(4.7 * along + second)

    def reset(self, key: PRNGKeyArray, params: Params):
        """Draw any road, and put the car anywhere within ±0.3 of its middle."""
        grain_key, road_key, car_key = jax.random.split(key, 3)
        phases = jax.random.uniform(road_key, (2,), maxval=2 * np.pi)
        zero = jnp.zeros(())
        state = DriveState(zero, zero, phases, jax.random.bits(grain_key))
        start = self.middle(state, zero) + jax.random.uniform(car_key, minval=-0.3, maxval=0.3)
        state = eqx.tree_at(lambda s: s.across, state, start)
        return self.observe(state, params), state

    def step(self, key: PRNGKeyArray, state: DriveState, action: Array, params: Params):
        """Go forward and steer by `action`, `[1]` (length units across), at most 1 from the road's
        middle; no randomness in it. Events: `offset` from the middle, to the right, and `off_road`."""
        along = state.along + self.SPEED
        middle = self.middle(state, along)
        offset = jnp.clip(state.across + action[0] - middle, -1.0, 1.0)
        after = DriveState(along, middle + offset, state.phases, state.grain + 1)
        reward = jnp.maximum(1.0 - jnp.abs(offset) / self.HALF, 0.0)
        events = {"off_road": jnp.abs(offset) > self.HALF, "offset": offset}
        no = jnp.asarray(False)
        return self.observe(after, params), after, reward, no, no, events

    def numbers(self, state: DriveState) -> Float[Array, "4"]:
        """Return the road's middle to the right of the car: here, and 0.2, 0.5 and 1 ahead."""
        ahead = jnp.asarray([0.0, 0.2, 0.5, 1.0])
        return self.middle(state, state.along + ahead) - state.across

    def picture(self, state: DriveState, params: Params) -> Picture:
        """Paint grass, a road with painted edges and a dashed middle, and the car, seen from above."""
        looks = params["looks"]
        along = state.along + UP - self.CAR
        beside = state.across + ACROSS - self.middle(state, along)  # from the road's middle
        edge = jnp.abs(beside) - self.HALF
        dashes = jnp.maximum(jnp.abs(beside) - 0.04, jnp.sin(8.0 * along) * 0.2)
        car = jnp.maximum(jnp.abs(ACROSS) - 0.12, jnp.abs(UP - self.CAR) - 0.2)
        wave = jnp.sin(11.0 * (state.across + ACROSS)) * jnp.sin(13.0 * along)
        layers = [
            (_cover(edge), ROAD.at(looks)),
            (_cover(jnp.abs(edge) - 0.05), PAINT.at(looks)),
            (_cover(dashes), PAINT.at(looks)),
            (_cover(car), CAR.at(looks)),
        ]
        return _paint(GRASS.at(looks), layers, wave, state.grain, looks)

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the picture `[32, 32, 3]`, or four numbers."""
        return Box((SIDE, SIDE, 3), 0, 255, "uint8") if self.render else Box((4,), -2.0, 2.0)

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of actions: how far to steer across, `[1]`, within ±0.25."""
        return Box((1,), -0.25, 0.25)


class AbstractPixels(AbstractFamily):
    """What both families share: one task, as the source or the target looks."""

    finite: ClassVar[bool] = True

    looks: eqx.AbstractVar[Looks]
    strength: eqx.AbstractVar[float]
    render: eqx.AbstractVar[bool]

    def __check_init__(self):
        if self.looks not in get_args(Looks):
            raise UserError(f"{self.name}: looks must be source or target, not {self.looks!r}")

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the one task, the same in training and test."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': it is one task")
        return {"looks": jnp.asarray(self.strength if self.looks == "target" else 0.0)}

    def context(self, params: Params) -> Float[Array, "1"]:
        """Return how far the looks are from the source's."""
        return params["looks"][None]


class PixelReach(AbstractPixels):
    """A dot has to get to a ring, seen as a picture; the target differs in its looks alone.

    As a problem of transfer, the source is the family as it is and the target is
    `PixelReach(looks="target")`.
    """

    name: ClassVar[str] = "pixel-reach"

    looks: Looks = eqx.field(static=True, default="source")
    """Colours, texture and noise: those of the source, or of the target."""
    strength: float = eqx.field(static=True, default=1.0)
    """How different the target looks: 0 as the source, 1 as it was drawn."""
    render: bool = eqx.field(static=True, default=True)
    """Whether the observation is the picture; else four numbers, the places of dot and ring."""
    horizon: int = eqx.field(static=True, default=20)
    """Steps an episode."""

    @property
    def env(self) -> PixelReachEnv:
        return PixelReachEnv(self.render)

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw dot and ring over time."""
        position, goal = np.asarray(states.position, float), np.asarray(states.goal, float)
        shapes = [
            Shape("disc", goal[:, None], 0.2, "goal"),
            Shape("trail", position[:, None], 0.02, "near"),
            Shape("disc", position[:, None], 0.1, "body"),
        ]
        return Scene(shapes, np.zeros((1, 2)), (2.0, 2.0), 0.1, len(position))


class PixelDrive(AbstractPixels):
    """A car has to stay on a winding road, seen as a picture; the target differs in its looks alone.

    As a problem of transfer, the source is the family as it is and the target is
    `PixelDrive(looks="target")`.
    """

    name: ClassVar[str] = "pixel-drive"

    looks: Looks = eqx.field(static=True, default="source")
    """Colours, texture and noise: those of the source, or of the target."""
    strength: float = eqx.field(static=True, default=1.0)
    """How different the target looks: 0 as the source, 1 as it was drawn."""
    render: bool = eqx.field(static=True, default=True)
    """Whether the observation is the picture; else four numbers, where the road is."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode."""

    @property
    def env(self) -> PixelDriveEnv:
        return PixelDriveEnv(self.render)

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the road's edges and the car over time."""
        env = self.env
        along, across = np.asarray(states.along, float), np.asarray(states.across, float)
        phases = np.asarray(states.phases, float)[0]
        first = DriveState(jnp.zeros(()), jnp.zeros(()), jnp.asarray(phases), jnp.uint32(0))
        ahead = np.linspace(-0.3, along[-1] + 1.7, 8 + 8 * len(along))
        middle = np.asarray(env.middle(first, jnp.asarray(ahead)))
        shapes = []
        for side in (-env.HALF, env.HALF):
            edge = np.stack([middle + side, ahead], 1)
            pairs = np.stack([edge[:-1], edge[1:]], 1)
            shapes += [Shape("band", pair[None], 0.02, "wall") for pair in pairs]
        car = np.stack([across, along], 1)
        shapes.append(Shape("square", car[:, None], 0.12, "body"))
        camera = np.stack([np.zeros_like(along), along - env.CAR], 1)
        return Scene(shapes, camera, (2.0, 2.0), 0.1, len(along))


def _away(place: Float[Array, "2"]) -> Float[Array, "32 32"]:
    """The distance of every pixel to a place."""
    return jnp.sqrt((ACROSS - place[0]) ** 2 + (UP - place[1]) ** 2)


def _cover(distance: Float[Array, "32 32"]) -> Mask:
    """Coverage by what is inside where `distance` is negative: its edge is a pixel wide."""
    return jnp.clip(0.5 - distance / PIXEL, 0.0, 1.0)


def _paint(
    ground: Float[Array, "3"],
    layers: list[tuple[Mask, Float[Array, "3"]]],
    wave: Float[Array, "32 32"],
    grain: UInt32[Array, ""],
    looks: Float[Array, ""],
) -> Picture:
    """The ground with its texture, the layers over it one after the other, noise over all."""
    pixels = jnp.arange(SIDE * SIDE, dtype=jnp.uint32).reshape(SIDE, SIDE)
    noise = NOISE * (2.0 * _hash(pixels + grain * jnp.uint32(SIDE * SIDE)) - 1.0)
    # Drawn once each, and not once a colour, as a compiler that fuses them into the rest would.
    grey, noise, masks = jax.lax.optimization_barrier(
        (looks * TEXTURE * wave, looks * noise, [mask for mask, _ in layers])
    )
    whole = ground[:, None, None] + grey
    for mask, (_, colour) in zip(masks, layers, strict=True):
        whole = whole + mask * (colour[:, None, None] - whole)
    whole = whole + noise
    return jnp.moveaxis((255.0 * jnp.clip(whole, 0.0, 1.0) + 0.5).astype(jnp.uint8), 0, -1)


def _hash(x: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """A number in [0, 1) that looks random, for each; far cheaper than a random key a pixel, and a
    function of the state, so that the same state always looks the same."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return (x ^ (x >> 16)).astype(jnp.float32) / 2.0**32
