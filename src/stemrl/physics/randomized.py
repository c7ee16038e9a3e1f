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
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Params, Split, UserError
from ..tasks.ranges import draw
from .mujoco_env import HOPPER, HUMANOID, WALKER_2D, AbstractMujocoFamily, Forward, MujocoEnv, Robot
from .parameters import ModelParameters, addresses, limbs


class AbstractParamsFamily(AbstractMujocoFamily):
    """A robot with a multiplier on each of its parameters; params `{"values": [P]}`, the
    multipliers in the order of `parameters`."""

    robot: ClassVar[Robot]
    objective: ClassVar[Forward]

    width: eqx.AbstractVar[float]
    limb_width: eqx.AbstractVar[float]
    beyond: eqx.AbstractVar[float]

    def __check_init__(self):
        for name in ("width", "limb_width"):
            if not 0.0 <= getattr(self, name) <= 6.0:
                raise UserError(f"{name} must be from 0 to 6, not {getattr(self, name):g}")
        if self.beyond < 1.0:
            raise UserError(f"beyond must be at least 1, not {self.beyond:g}")

    @property
    def parameters(self) -> ModelParameters:
        """What is multiplied."""
        return _parameters(self.robot, self.limb_width > 0.0)

    @property
    def env(self) -> MujocoEnv:
        return MujocoEnv(self.robot, self.objective, self.parameters, self.engine)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Exponents uniform in the box of the widths; `ood`: in the shell around it. Where a width
        is zero the multipliers are exactly 1."""
        scales = _log_scales(self.parameters, self.width, self.limb_width)
        exponents = draw(key, split, len(scales), self.beyond)
        return {"values": jnp.exp(jnp.asarray(scales) * exponents)}

    def context(self, params: Params) -> Float[Array, " P"]:
        """The logarithms of the multipliers."""
        return jnp.log(params["values"])


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
