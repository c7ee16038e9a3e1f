"""The pendulum that must be swung up and held, step for step Gymnasium's Pendulum-v1, with a length
and a mass that may differ from task to task.

The ranges are those of Packer et al. (1810.12282, table 1).
"""

import math
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractFamily, Box, Params, Split, UserError
from ..drawing import Scene, Shape
from .ranges import as_text, draw_between, draw_in, own_ranges, place_in

GRAVITY = 10.0
SECONDS = 0.05
FASTEST = 8.0
"""Bound on the angular velocity (rad/s)."""
STRONGEST = 2.0
"""Bound on the torque (N m)."""

NOMINAL = {"length": 1.0, "mass": 1.0}
"""Length (m) and mass (kg) of Pendulum-v1."""
RANDOM = {"length": ((0.75, 1.25),), "mass": ((0.75, 1.25),)}
"""Packer et al.'s range R."""
EXTREME = {"length": ((0.5, 0.75), (1.25, 1.5)), "mass": ((0.5, 0.75), (1.25, 1.5))}
"""Packer et al.'s range E, outside R."""

Spread = Literal["nominal", "random"]


class PendulumState(eqx.Module):
    """How the pendulum hangs."""

    physics: Float[Array, "2"]
    """Angle from upright (rad, any number of turns) and angular velocity (rad/s)."""


class PendulumEnv(eqx.Module):
    """Pendulum-v1's equations; params `{"length", "mass"}`, scalars (m, kg). The reward is
    −(angle² + 0.1 velocity² + 0.001 torque²) with the angle within ±π; nothing ends the episode. The
    observation is the angle's cosine and sine and the angular velocity."""

    hide_velocities: bool = eqx.field(static=True, default=False)
    """Whether the observation leaves the angular velocity out."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Draw any angle, and an angular velocity within ±1 rad/s, both uniformly."""
        high = jnp.asarray([math.pi, 1.0])
        physics = jax.random.uniform(key, (2,), minval=-high, maxval=high)
        return self._see(physics), PendulumState(physics)

    def step(self, key: PRNGKeyArray, state: PendulumState, action: Array, params: Params):
        """Turn with the torque `action`, `[1]` (N m, within ±2); no randomness in it. The event
        `upright` says whether the pendulum was within 60° of upright before the step."""
        angle, velocity = state.physics
        torque = jnp.clip(action[0], -STRONGEST, STRONGEST)
        length, mass = params["length"], params["mass"]
        within = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = within**2 + 0.1 * velocity**2 + 0.001 * torque**2
        turn = 3 * GRAVITY / (2 * length) * jnp.sin(angle) + 3.0 / (mass * length**2) * torque
        velocity = jnp.clip(velocity + turn * SECONDS, -FASTEST, FASTEST)
        physics = jnp.stack([angle + velocity * SECONDS, velocity])
        no = jnp.asarray(False)
        events = {"upright": jnp.abs(within) < math.pi / 3}
        return self._see(physics), PendulumState(physics), -cost, no, no, events

    def state_of(self, obs: Float[Array, "3"], params: Params) -> PendulumState:
        """Return the state that is seen as `obs`. Raises `UserError` where velocities are hidden."""
        if self.hide_velocities:
            raise UserError("'pendulum' with hidden velocities does not show its whole state")
        return PendulumState(jnp.stack([jnp.arctan2(obs[1], obs[0]), obs[2]]))

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of cosine and sine of the angle, and of the velocity unless it is
        hidden: `[3]` or `[2]`."""
        if self.hide_velocities:
            return Box((2,), -1.0, 1.0)
        return Box((3,), (-1.0, -1.0, -FASTEST), (1.0, 1.0, FASTEST))

    def action_space(self, params: Params | None = None) -> Box:
        """Return the space of the torque, `[1]`, within ±2 (N m)."""
        return Box((1,), -STRONGEST, STRONGEST)

    def _see(self, physics: Float[Array, "2"]) -> Array:
        angle, velocity = physics
        shown = [jnp.cos(angle), jnp.sin(angle), velocity]
        return jnp.stack(shown[:2] if self.hide_velocities else shown)


class Pendulum(AbstractFamily):
    """A pendulum to swing up (Gymnasium's Pendulum-v1), with a length and a mass of its own (Packer et
    al., 1810.12282)."""

    name: ClassVar[str] = "pendulum"

    spread: Spread = eqx.field(static=True, default="random")
    """What train and test tasks are drawn from: random (Packer et al.'s range R) or nominal
    (Pendulum-v1 itself). The ood split is always their range E, outside R."""
    ranges: str = eqx.field(static=True, default="", converter=as_text)
    """Ranges that replace those of `spread` for the parameters that they name: `mass=0.1:0.3`, or `mass=0.2:0.05:0.1:0.3` for
    a normal distribution (mean, deviation) cut off at 0.1 and 0.3, or `mass=0.2`; of the ood split too."""
    hide_velocities: bool = eqx.field(static=True, default=False)
    """Whether the observation leaves out the angular velocity."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode."""

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
    def env(self) -> PendulumEnv:
        return PendulumEnv(self.hide_velocities)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw length and mass, each uniformly from its range; `ood`: each from outside of it,
        below or above."""
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

    def context(self, params: Params) -> Float[Array, "2"]:
        """Return length and mass, each as its place in the range R: −1 at the low end, 1 at the
        high one. Shape `[2]`."""
        return jnp.stack([place_in(params[name], *RANDOM[name][0]) for name in NOMINAL])

    def draw(self, params: Any, states: Any) -> Scene:
        """Draw the rod over time."""
        angle = np.asarray(states.physics)[:, 0]
        tip = float(params["length"]) * np.stack([-np.sin(angle), np.cos(angle)], 1)
        rod = np.stack([np.zeros_like(tip), tip], 1)
        shapes = [Shape("capsule", rod, 0.06), Shape("disc", np.zeros((1, 1, 2)), 0.04, "start")]
        return Scene(shapes, np.zeros((1, 2)), (3.4, 3.4), SECONDS, len(tip))
