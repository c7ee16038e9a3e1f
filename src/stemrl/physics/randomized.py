"""Robots whose bodies differ from task to task: `hopper-params`, `walker-params`, `humanoid-params`.

The distribution is that of PEARL's rand-params tasks (1903.08254, §6.1; the authors' environments):
every mass, every principal moment of inertia, every joint's damping and every geom's sliding
friction has a multiplier of its own, bᵘ with u uniform in ±3, b = 1.3 for damping and 1.5 for all
else. (Inertia does not follow the mass there, and so not here. Torsional and rolling friction,
which they vary too, act in none of these contacts.) The sizes of limbs can be varied besides, with
mass and inertia recomputed; that was not part of it. Reward and termination are those of
Gymnasium's v5 robots; episodes last 200 steps, as in PEARL.
"""

import functools
import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Params, Split, UserError
from ..tasks.ranges import Interval, as_text, draw, draw_in, parse
from .mujoco_env import HOPPER, HUMANOID, WALKER_2D, AbstractMujocoFamily, Forward, MujocoEnv, Robot
from .parameters import ModelParameters, addresses, limbs, refuse_factors


class AbstractParamsFamily(AbstractMujocoFamily):
    """A robot with a multiplier on each of its parameters. Params are `{"values": [P]}`, the
    multipliers in the order of `parameters`."""

    robot: ClassVar[Robot]
    objective: ClassVar[Forward]

    ranges: eqx.AbstractVar[str]
    width: eqx.AbstractVar[float]
    limb_width: eqx.AbstractVar[float]
    beyond: eqx.AbstractVar[float]

    def __check_init__(self):
        for name in ("width", "limb_width"):
            if not 0.0 <= getattr(self, name) <= 6.0:
                raise UserError(f"{name} must be from 0 to 6, not {getattr(self, name):g}")
        if self.beyond < 1.0:
            raise UserError(f"beyond must be at least 1, not {self.beyond:g}")
        if self.ranges:
            self.parameters.check(self.robot.engine().nominal)

    @property
    def own(self) -> dict[str, Interval]:
        """The ranges that the user gave, by address."""
        return parse(self.ranges, above=0.0)

    @property
    def parameters(self) -> ModelParameters:
        """The parameters that are multiplied."""
        if self.ranges:
            return ModelParameters(tuple(self.own))
        return _parameters(self.robot, self.limb_width > 0.0)

    @property
    def env(self) -> MujocoEnv:
        return MujocoEnv(self.robot, self.objective, self.parameters, self.engine)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw exponents uniformly from the box of the widths; `ood`: from the shell around it.
        Where a width is zero, the multipliers are exactly 1. If the user gave ranges, draw as those
        say."""
        if self.ranges:
            drawn = draw_in(key, split, self.own, self.beyond, log=True)
            return {"values": jnp.stack([*drawn.values()])}
        scales = _log_scales(self.parameters, self.width, self.limb_width)
        exponents = draw(key, split, len(scales), self.beyond)
        return {"values": jnp.exp(jnp.asarray(scales) * exponents)}

    def parameter_names(self) -> dict[str, tuple[str, ...]]:
        """Return the addresses of the parameters that are multiplied."""
        return {"values": self.parameters.addresses}

    def refuse_tasks(self, params: Params) -> None:
        """Raise `UserError` for a factor that is not above 0."""
        refuse_factors(self.parameter_names()["values"], params["values"])

    def context(self, params: Params) -> Float[Array, " P"]:
        """Return the logarithms of the multipliers."""
        return jnp.log(params["values"])

    def settings(self) -> dict[str, Any]:
        """Return the fields by name. `ranges` is left out where it is empty, so that identities
        that were written before it existed stay as they were."""
        settings = super().settings()
        if not self.ranges:
            del settings["ranges"]
        return settings


class HopperParams(AbstractParamsFamily):
    """A hopper that must run, with masses, inertias, damping and friction of its own (PEARL's)."""

    name: ClassVar[str] = "hopper-params"
    robot: ClassVar[Robot] = HOPPER
    objective: ClassVar[Forward] = Forward(1.0, 1.0, 1e-3)

    width: float = eqx.field(static=True, default=3.0)
    """Multipliers are bᵘ with u uniform in ± this (b is 1.3 for damping, else 1.5); 0: nominal."""
    limb_width: float = eqx.field(static=True, default=0.0)
    """The same for the lengths and radii of limbs, with b = 1.5; 0: nominal, as published."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far as the exponents of the others."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode."""
    ranges: str = eqx.field(static=True, default="", converter=as_text)
    """In place of all that, factors on the parameters of one's own choice by address, and nothing else
    varied: `body_mass:torso=0.8:2.5` (log-uniform), or `body_mass:torso=1.6:0.4:0.8:2.5` for a normal
    distribution (mean, deviation) cut off at both ends; see `stemrl.physics.parameters`."""


class WalkerParams(AbstractParamsFamily):
    """A planar walker that must run, with masses, inertias, damping and friction of its own
    (PEARL's)."""

    name: ClassVar[str] = "walker-params"
    robot: ClassVar[Robot] = WALKER_2D
    objective: ClassVar[Forward] = Forward(1.0, 1.0, 1e-3)

    width: float = eqx.field(static=True, default=3.0)
    """Multipliers are bᵘ with u uniform in ± this (b is 1.3 for damping, else 1.5); 0: nominal."""
    limb_width: float = eqx.field(static=True, default=0.0)
    """The same for the lengths and radii of limbs, with b = 1.5; 0: nominal, as published."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far as the exponents of the others."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode."""
    ranges: str = eqx.field(static=True, default="", converter=as_text)
    """In place of all that, factors on the parameters of one's own choice by address, and nothing else
    varied: `body_mass:torso=0.8:2.5` (log-uniform), or `body_mass:torso=1.6:0.4:0.8:2.5` for a normal
    distribution (mean, deviation) cut off at both ends; see `stemrl.physics.parameters`."""


class HumanoidParams(AbstractParamsFamily):
    """A humanoid that must run, with masses, inertias, damping and friction of its own, drawn as
    PEARL's are."""

    name: ClassVar[str] = "humanoid-params"
    robot: ClassVar[Robot] = HUMANOID
    objective: ClassVar[Forward] = Forward(1.25, 5.0, 0.1)

    width: float = eqx.field(static=True, default=3.0)
    """Multipliers are bᵘ with u uniform in ± this (b is 1.3 for damping, else 1.5); 0: nominal."""
    limb_width: float = eqx.field(static=True, default=0.0)
    """The same for the lengths and radii of limbs, with b = 1.5; 0: nominal. It starts from the
    nominal height, so keep legs no longer than its feet are above the ground (0.2 or less)."""
    beyond: float = eqx.field(static=True, default=1.5)
    """The ood split reaches this many times as far as the exponents of the others."""
    horizon: int = eqx.field(static=True, default=200)
    """Steps an episode."""
    ranges: str = eqx.field(static=True, default="", converter=as_text)
    """In place of all that, factors on the parameters of one's own choice by address, and nothing else
    varied: `body_mass:torso=0.8:2.5` (log-uniform), or `body_mass:torso=1.6:0.4:0.8:2.5` for a normal
    distribution (mean, deviation) cut off at both ends; see `stemrl.physics.parameters`."""


@functools.cache
def _parameters(robot: Robot, with_limbs: bool) -> ModelParameters:
    nominal = robot.engine().nominal
    friction = addresses(nominal, "geom_friction", by_axis=True)
    return ModelParameters(
        (
            *addresses(nominal, "body_mass_alone"),
            *addresses(nominal, "body_inertia", by_axis=True),
            *addresses(nominal, "joint_damping"),
            *(address for address in friction if address.endswith(":0")),
            *(limbs(nominal) if with_limbs else ()),
        )
    )


@functools.cache
def _log_scales(parameters: ModelParameters, width: float, limb_width: float) -> np.ndarray:
    """Largest logarithm of each multiplier, `[P]`."""

    def scale(address: str) -> float:
        if address.startswith("limb"):
            return limb_width * math.log(1.5)
        return width * math.log(1.3 if address.startswith("joint_damping") else 1.5)

    return np.array([scale(address) for address in parameters.addresses], np.float32)
