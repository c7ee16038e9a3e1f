"""Task families in pure JAX with their environments, and adapters to the environments of others.

Each module is imported with the first of its names that is used: whoever takes a bandit does not
wait for Gymnasium.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import importer

if TYPE_CHECKING:
    from .bandit import Bandit, BanditEnv
    from .bit_flip import BitFlip, BitFlipEnv
    from .grid_wall import GridWall, GridWallEnv, log_ratio
    from .gridnavi import GridEnv, GridNavi
    from .gymnasium import AbstractGymnasiumFamily, GymnasiumFamily
    from .gymnax import GymnaxEnv, GymnaxFamily
    from .point import Point2D, PointEnv, PointSparse
    from .point_maze import PointMaze, PointMazeEnv, PointMazeGoals
    from .random_mdp import RandomMDP, RandomMDPEnv
    from .sinusoid import Sinusoid
    from .transforms import RandomisedEnv, Randomized

_find = importer(
    __name__,
    {
        "bandit": ("Bandit", "BanditEnv"),
        "bit_flip": ("BitFlip", "BitFlipEnv"),
        "grid_wall": ("GridWall", "GridWallEnv", "log_ratio"),
        "gridnavi": ("GridEnv", "GridNavi"),
        "gymnasium": ("AbstractGymnasiumFamily", "GymnasiumFamily"),
        "gymnax": ("GymnaxEnv", "GymnaxFamily"),
        "point": ("Point2D", "PointEnv", "PointSparse"),
        "point_maze": ("PointMaze", "PointMazeEnv", "PointMazeGoals"),
        "random_mdp": ("RandomMDP", "RandomMDPEnv"),
        "sinusoid": ("Sinusoid",),
        "transforms": ("Randomized", "RandomisedEnv"),
    },
)

__all__ = [
    "AbstractGymnasiumFamily",
    "Bandit",
    "BanditEnv",
    "BitFlip",
    "BitFlipEnv",
    "GridEnv",
    "GridNavi",
    "GridWall",
    "GridWallEnv",
    "GymnasiumFamily",
    "GymnaxEnv",
    "GymnaxFamily",
    "Point2D",
    "PointEnv",
    "PointMaze",
    "PointMazeEnv",
    "PointMazeGoals",
    "PointSparse",
    "RandomMDP",
    "RandomMDPEnv",
    "RandomisedEnv",
    "Randomized",
    "Sinusoid",
    "log_ratio",
]


def __getattr__(name: str) -> Any:
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
