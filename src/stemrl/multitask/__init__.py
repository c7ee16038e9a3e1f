"""Multi-task learning: one policy for many tasks, told which."""

from .dg_learning import DGLearning, DGState, DistanceAgent
from .goal_dreaming import Dreamer, GoalDreaming, kernel_density
from .her import HER, HERState
from .relabel import Strategy, draw_relabelled, hindsight
from .uvfa import UVFA, TwoStreams, UVFAState

__all__ = [
    "HER",
    "UVFA",
    "DGLearning",
    "DGState",
    "DistanceAgent",
    "Dreamer",
    "GoalDreaming",
    "HERState",
    "Strategy",
    "TwoStreams",
    "UVFAState",
    "draw_relabelled",
    "hindsight",
    "kernel_density",
]
