"""Native MuJoCo inside compiled programs, and the families of robots built on it."""

from .drawing import Skeleton
from .engine import CENTRE_OF_MASS, Apply, Engine, Motion
from .locomotion import (
    AntDir,
    AntForwardBackward,
    AntGoal,
    AntVel,
    HalfCheetahDir,
    HalfCheetahVel,
    HalfCheetahVelMaml,
    HalfCheetahVelPearl,
    HumanoidDir,
)
from .mjcf import AbstractMjcfFamily
from .mujoco_env import (
    ANT,
    HALF_CHEETAH,
    HOPPER,
    HUMANOID,
    WALKER_2D,
    AbstractMujocoFamily,
    AntEnv,
    Forward,
    HalfCheetahEnv,
    HopperEnv,
    HumanoidEnv,
    MujocoEnv,
    Objective,
    Robot,
    Walker2dEnv,
)
from .parameters import KINDS, ModelParameters
from .randomized import AbstractParamsFamily, HopperParams, HumanoidParams, WalkerParams
from .reacher import REACHER, ReacherEnv, ReacherGoal

__all__ = [
    "ANT",
    "CENTRE_OF_MASS",
    "HALF_CHEETAH",
    "HOPPER",
    "HUMANOID",
    "KINDS",
    "REACHER",
    "WALKER_2D",
    "AbstractMjcfFamily",
    "AbstractMujocoFamily",
    "AbstractParamsFamily",
    "AntDir",
    "AntEnv",
    "AntForwardBackward",
    "AntGoal",
    "AntVel",
    "Apply",
    "Engine",
    "Forward",
    "HalfCheetahDir",
    "HalfCheetahEnv",
    "HalfCheetahVel",
    "HalfCheetahVelMaml",
    "HalfCheetahVelPearl",
    "HopperEnv",
    "HopperParams",
    "HumanoidDir",
    "HumanoidEnv",
    "HumanoidParams",
    "ModelParameters",
    "Motion",
    "MujocoEnv",
    "Objective",
    "ReacherEnv",
    "ReacherGoal",
    "Robot",
    "Skeleton",
    "Walker2dEnv",
    "WalkerParams",
]
