"""Multi-task learning: one policy for many tasks, told which."""

from .her import HER, HERState
from .relabel import Episode, Strategy, draw_relabelled, draw_steps, hindsight

__all__ = [
    "HER",
    "Episode",
    "HERState",
    "Strategy",
    "draw_relabelled",
    "draw_steps",
    "hindsight",
]
