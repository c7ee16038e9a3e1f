"""Cards: published results, reproduced by one command each (`stemrl reproduce CARD`)."""

from .card import Card, Measure, differences
from .reproduce import reproduce
from .workshop import Trained, Workshop, point_means, trial_totals

__all__ = [
    "Card",
    "Measure",
    "Trained",
    "Workshop",
    "differences",
    "point_means",
    "reproduce",
    "trial_totals",
]
