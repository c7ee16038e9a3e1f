"""Native MuJoCo inside compiled programs, and the families of robots built on it."""

from .drawing import Skeleton
from .engine import CENTRE_OF_MASS, Apply, Block, Engine, Motion
from .hopper_tasks import HopperTasks, Skill
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
from .mjcf import AbstractMjcfFamily, ControlStep
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
from .off_dynamics import AntBroken, AntDisk, HalfCheetahBroken, HalfCheetahWall, HopperFalling
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
    "AntBroken",
    "AntDir",
    "AntDisk",
    "AntEnv",
    "AntForwardBackward",
    "AntGoal",
    "AntVel",
    "Apply",
    "Block",
    "ControlStep",
    "Engine",
    "Forward",
    "HalfCheetahBroken",
    "HalfCheetahDir",
    "HalfCheetahEnv",
    "HalfCheetahVel",
    "HalfCheetahVelMaml",
    "HalfCheetahVelPearl",
    "HalfCheetahWall",
    "HopperEnv",
    "HopperFalling",
    "HopperParams",
    "HopperTasks",
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
    "Skill",
    "Walker2dEnv",
    "WalkerParams",
]
