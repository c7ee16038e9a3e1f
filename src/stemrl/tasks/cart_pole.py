"""The cart and its pole (Barto, Sutton and Anderson 1983), step for step Gymnasium's CartPole-v1, with
a force, a length and a mass that may differ from task to task.

The ranges are those of Packer et al. (1810.12282, table 1), as is the episode of 200 steps that
counts as solved after 195.
"""

import math
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractFamily, Box, Discrete, Params, Split, UserError
from ..drawing import Scene, Shape
from .ranges import as_text, draw_between, draw_in, own_ranges, place_in

GRAVITY = 9.8
CART_MASS = 1.0
SECONDS = 0.02
LIMIT = 2.4
"""How far the cart may be from the middle (m)."""
LEAN = math.radians(12)
"""How far the pole may lean (rad)."""
SOLVED = 195
"""Steps after which an episode is a success."""

NOMINAL = {"force": 10.0, "length": 0.5, "mass": 0.1}
"""Push (N), half the pole's length (m) and the pole's mass (kg) of CartPole-v1."""
RANDOM = {"force": ((5.0, 15.0),), "length": ((0.25, 0.75),), "mass": ((0.05, 0.5),)}
"""Packer et al.'s range R."""
EXTREME = {
    "force": ((1.0, 5.0), (15.0, 20.0)),
    "length": ((0.05, 0.25), (0.75, 1.0)),
    "mass": ((0.01, 0.05), (0.5, 1.0)),
}
"""Packer et al.'s range E, outside R."""

Spread = Literal["nominal", "random"]


class CartPoleState(eqx.Module):
    """Cart and pole."""

    physics: Float[Array, "4"]
    """Cart's position (m) and velocity (m/s), pole's angle from upright (rad) and its velocity."""
    steps: Int[Array, ""]
    """Steps that the pole has stood."""


class CartPoleEnv(eqx.Module):
    """CartPole-v1's equations; params `{"force", "length", "mass"}`, scalars: the push (N), half the
    pole's length (m), the pole's mass (kg). Reward 1 a step; the end comes when the cart is further
    than 2.4 m from the middle or the pole leans by more than 12°."""

    hide_velocities: bool = eqx.field(static=True, default=False)
    """Whether the observation is position and angle alone."""
    continuous: bool = eqx.field(static=True, default=False)
    """Whether the action is the push itself, as a share of the greatest one, in place of its side."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Draw all four numbers of the state uniformly from ±0.05."""
        physics = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return self._see(physics), CartPoleState(physics, jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: CartPoleState, action: Array, params: Params):
        """Push to the left (`action` 0) or to the right (1), or where it is continuous with the
        share `action`, `[1]`, of the force; no randomness in it. The event `success` says whether
        the pole has stood for 195 steps."""
        _, speed, angle, turning = state.physics
        side = (
            jnp.clip(action[0], -1.0, 1.0) if self.continuous else jnp.where(action == 1, 1.0, -1.0)
        )
        force = side * params["force"]
        length, mass = params["length"], params["mass"]
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        total = CART_MASS + mass
        shared = (force + mass * length * turning**2 * sin) / total
        turn = (GRAVITY * sin - cos * shared) / (length * (4.0 / 3.0 - mass * cos**2 / total))
        push = shared - mass * length * turn * cos / total
        rate = jnp.stack([speed, push, turning, turn])
        physics = state.physics + SECONDS * rate
        fallen = (jnp.abs(physics[0]) > LIMIT) | (jnp.abs(physics[2]) > LEAN)
        steps = state.steps + 1
        events = {"success": steps >= SOLVED}
        no = jnp.asarray(False)
        return self._see(physics), CartPoleState(physics, steps), jnp.ones(()), fallen, no, events

    def state_of(self, obs: Float[Array, "4"], params: Params) -> CartPoleState:
        """Return the state that is seen as `obs`. Raises `UserError` where velocities are hidden."""
        if self.hide_velocities:
            raise UserError("'cart-pole' with hidden velocities does not show its whole state")
        return CartPoleState(obs, jnp.zeros((), jnp.int32))

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the physics `[4]`, or without velocities `[2]`, without bounds."""
        return Box((2 if self.hide_velocities else 4,))

    def action_space(self, params: Params | None = None) -> Discrete | Box:
        """Return the space of left and right, or of the share of the force, `[1]`, within ±1."""
        return Box((1,), -1.0, 1.0) if self.continuous else Discrete(2)

    def _see(self, physics: Float[Array, "4"]) -> Array:
        return physics[::2] if self.hide_velocities else physics


class CartPole(AbstractFamily):
    """A pole to balance on a cart (Gymnasium's CartPole-v1), with a push, a length and a mass of its own
    (Packer et al., 1810.12282)."""

    name: ClassVar[str] = "cart-pole"

    spread: Spread = eqx.field(static=True, default="random")
    """What train and test tasks are drawn from: random (Packer et al.'s range R) or nominal
    (CartPole-v1 itself). The ood split is always their range E, outside R."""
    ranges: str = eqx.field(static=True, default="", converter=as_text)
    """Ranges that replace those of `spread` for the parameters that they name: `mass=0.1:0.3`, or `mass=0.2:0.05:0.1:0.3` for
    a normal distribution (mean, deviation) cut off at 0.1 and 0.3, or `mass=0.2`; of the ood split too."""
    hide_velocities: bool = eqx.field(static=True, default=False)
    """Whether the observation leaves out both velocities."""
    continuous: bool = eqx.field(static=True, default=False)
    """Whether an action is any push up to the greatest, in place of one of two."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode (500 in Gymnasium)."""

    def __check_init__(self):
        if self.spread not in get_args(Spread):
            raise UserError(f"spread must be nominal or random, not {self.spread!r}")
        _ = own_ranges(self.ranges, NOMINAL, self.name)

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether there is one task alone."""
        own = own_ranges(self.ranges, NOMINAL, self.name)
        fixed = {name for name, interval in own.items() if interval.low == interval.high}
        return fixed == {*NOMINAL} or (self.spread == "nominal" and fixed == {*own})

    @property
    def env(self) -> CartPoleEnv:
        return CartPoleEnv(self.hide_velocities, self.continuous)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw push, length and mass, each uniformly from its range; `ood`: each from outside of
        it, below or above."""
        own = own_ranges(self.ranges, NOMINAL, self.name)
        key, own_key = jax.random.split(key) if own else (key, key)
        drawn = {name: jnp.asarray(value) for name, value in NOMINAL.items()}
        if split == "ood" or self.spread == "random":
            drawn = draw_between(key, EXTREME if split == "ood" else RANDOM)
        return drawn | draw_in(own_key, split, own)

    def settings(self) -> dict[str, Any]:
        """Return the fields by name. `ranges` is left out where it is empty, so that identities
        that were written before it existed stay as they were."""
        settings = super().settings()
        if not self.ranges:
            del settings["ranges"]
        return settings

    def context(self, params: Params) -> Float[Array, "3"]:
        """Return push, length and mass, each as its place in the range R: −1 at the low end, 1 at
        the high one. Shape `[3]`."""
        return jnp.stack([place_in(params[name], *RANDOM[name][0]) for name in NOMINAL])

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw cart and pole over time."""
        x, _, angle, _ = np.asarray(states.physics, float).T
        cart = np.stack([x, np.zeros_like(x)], 1)
        whole = 2 * float(params["length"])
        tip = cart + whole * np.stack([np.sin(angle), np.cos(angle)], 1)
        shapes = [
            Shape("capsule", np.array([[[-LIMIT, 0.0], [LIMIT, 0.0]]]), 0.01, "cell"),
            Shape("square", cart[:, None], 0.12, "near"),
            Shape("capsule", np.stack([cart, tip], 1), 0.04),
        ]
        window = (2.2 * LIMIT, 2.2 * max(whole, 1.0))
        return Scene(shapes, np.zeros((1, 2)), window, SECONDS, len(x))
