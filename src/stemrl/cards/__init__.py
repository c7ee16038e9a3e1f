"""Cards: published results, reproduced by one command each (`stemrl reproduce CARD`)."""

from .baselines import adjusted_mean, classical, exact, expected_total, finetuning
from .card import Card, Measure, differences, verdict
from .reproduce import reproduce
from .workshop import Trained, Workshop, point_means, trial_totals

__all__ = [
    "Card",
    "Measure",
    "Trained",
    "Workshop",
    "adjusted_mean",
    "classical",
    "differences",
    "exact",
    "expected_total",
    "finetuning",
    "point_means",
    "reproduce",
    "trial_totals",
    "verdict",
]
