"""Multi-task learning: one policy for many tasks, told which."""

from .dg_learning import DGLearning, DGState, DistanceAgent
from .her import HER, HERState
from .relabel import Episode, Strategy, draw_relabelled, draw_steps, hindsight
from .uvfa import UVFA, TwoStreams, UVFAState

__all__ = [
    "HER",
    "UVFA",
    "DGLearning",
    "DGState",
    "DistanceAgent",
    "Episode",
    "HERState",
    "Strategy",
    "TwoStreams",
    "UVFAState",
    "draw_relabelled",
    "draw_steps",
    "hindsight",
]
