"""Task families in pure JAX with their environments, and adapters to the environments of others.

Each module is imported with the first of its names that is used: whoever takes a bandit does not
wait for Gymnasium.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import importer

if TYPE_CHECKING:
    from .bandit import Bandit, BanditEnv
    from .bit_flip import BitFlip, BitFlipEnv
    from .cart_pole import CartPole, CartPoleEnv
    from .causal_graphs import CausalEnv, CausalGraphs
    from .dark_room import DarkRoom
    from .dependent_bandit import DependentBandit, InformativeEnv
    from .digits import DigitFolder, Digits
    from .forbidden_region import ForbiddenRegion, RegionEnv
    from .glyphs import Glyphs
    from .goal_grid import GoalGrid, GoalGridEnv
    from .grid_wall import GridWall, GridWallEnv, log_ratio
    from .gridnavi import GridEnv, GridNavi
    from .gymnasium import AbstractGymnasiumFamily, GymnasiumFamily
    from .gymnasium_goals import GymnasiumGoals
    from .gymnax import GymnaxEnv, GymnaxFamily
    from .imperfect import Imperfect, ImperfectEnv
    from .maze import Maze, MazeEnv
    from .moons import Moons
    from .omniglot import Omniglot
    from .pendulum import Pendulum, PendulumEnv
    from .pixels import PixelDrive, PixelDriveEnv, PixelReach, PixelReachEnv
    from .point import (
        HeadingEnv,
        Point2D,
        PointConflict,
        PointDir,
        PointEnv,
        PointHalfPlane,
        PointSemicircle,
        PointSparse,
    )
    from .point_maze import PointMaze, PointMazeEnv, PointMazeGoals
    from .random_mdp import RandomMDP, RandomMDPEnv
    from .sinusoid import Sinusoid
    from .transforms import AbstractHiddenTask, AbstractTransform, Randomized, RandomizedEnv
    from .trial_pomdp import TrialEnv, TrialPOMDP, inner_returns
    from .two_step import TwoStep, TwoStepEnv
    from .world_choice import WorldChoice, WorldChoiceEnv

_find = importer(
    __name__,
    {
        "bandit": ("Bandit", "BanditEnv"),
        "bit_flip": ("BitFlip", "BitFlipEnv"),
        "cart_pole": ("CartPole", "CartPoleEnv"),
        "causal_graphs": ("CausalEnv", "CausalGraphs"),
        "dark_room": ("DarkRoom",),
        "dependent_bandit": ("DependentBandit", "InformativeEnv"),
        "digits": ("DigitFolder", "Digits"),
        "forbidden_region": ("ForbiddenRegion", "RegionEnv"),
        "goal_grid": ("GoalGrid", "GoalGridEnv"),
        "grid_wall": ("GridWall", "GridWallEnv", "log_ratio"),
        "gridnavi": ("GridEnv", "GridNavi"),
        "glyphs": ("Glyphs",),
        "gymnasium": ("AbstractGymnasiumFamily", "GymnasiumFamily"),
        "gymnasium_goals": ("GymnasiumGoals",),
        "gymnax": ("GymnaxEnv", "GymnaxFamily"),
        "imperfect": ("Imperfect", "ImperfectEnv"),
        "maze": ("Maze", "MazeEnv"),
        "moons": ("Moons",),
        "omniglot": ("Omniglot",),
        "pendulum": ("Pendulum", "PendulumEnv"),
        "pixels": ("PixelDrive", "PixelDriveEnv", "PixelReach", "PixelReachEnv"),
        "point": (
            "HeadingEnv",
            "Point2D",
            "PointConflict",
            "PointDir",
            "PointEnv",
            "PointHalfPlane",
            "PointSemicircle",
            "PointSparse",
        ),
        "point_maze": ("PointMaze", "PointMazeEnv", "PointMazeGoals"),
        "random_mdp": ("RandomMDP", "RandomMDPEnv"),
        "sinusoid": ("Sinusoid",),
        "transforms": ("AbstractHiddenTask", "AbstractTransform", "Randomized", "RandomizedEnv"),
        "trial_pomdp": ("TrialEnv", "TrialPOMDP", "inner_returns"),
        "two_step": ("TwoStep", "TwoStepEnv"),
        "world_choice": ("WorldChoice", "WorldChoiceEnv"),
    },
)

__all__ = [
    "AbstractGymnasiumFamily",
    "AbstractHiddenTask",
    "AbstractTransform",
    "Bandit",
    "BanditEnv",
    "BitFlip",
    "BitFlipEnv",
    "CartPole",
    "CartPoleEnv",
    "CausalEnv",
    "CausalGraphs",
    "DarkRoom",
    "DependentBandit",
    "DigitFolder",
    "Digits",
    "ForbiddenRegion",
    "Glyphs",
    "GoalGrid",
    "GoalGridEnv",
    "GridEnv",
    "GridNavi",
    "GridWall",
    "GridWallEnv",
    "GymnasiumFamily",
    "GymnasiumGoals",
    "GymnaxEnv",
    "GymnaxFamily",
    "HeadingEnv",
    "Imperfect",
    "ImperfectEnv",
    "InformativeEnv",
    "Maze",
    "MazeEnv",
    "Moons",
    "Omniglot",
    "Pendulum",
    "PendulumEnv",
    "PixelDrive",
    "PixelDriveEnv",
    "PixelReach",
    "PixelReachEnv",
    "Point2D",
    "PointConflict",
    "PointDir",
    "PointEnv",
    "PointHalfPlane",
    "PointMaze",
    "PointMazeEnv",
    "PointMazeGoals",
    "PointSemicircle",
    "PointSparse",
    "RandomMDP",
    "RandomMDPEnv",
    "Randomized",
    "RandomizedEnv",
    "RegionEnv",
    "Sinusoid",
    "TrialEnv",
    "TrialPOMDP",
    "TwoStep",
    "TwoStepEnv",
    "WorldChoice",
    "WorldChoiceEnv",
    "inner_returns",
    "log_ratio",
]


def __getattr__(name: str) -> Any:
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
