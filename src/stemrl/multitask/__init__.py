"""Multi-task learning: one policy for many tasks, told which."""

from .her import Her, HerState
from .relabel import Episode, Strategy, draw_relabelled, draw_steps, hindsight

__all__ = [
    "Episode",
    "Her",
    "HerState",
    "Strategy",
    "draw_relabelled",
    "draw_steps",
    "hindsight",
]
