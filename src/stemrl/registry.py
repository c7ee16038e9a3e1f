"""What stemrl knows by name: methods, families and cards.

Plain data that imports nothing heavy, so that `stemrl --help` and `stemrl list` answer at once.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

from .errors import UserError, nearest


@dataclass(frozen=True)
class Entry:
    """One name: where its class is, what it is, and the settings that make it a preset."""

    path: str
    """`package.module:Class`."""
    summary: str
    """One line."""
    preset: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the class's own defaults."""

    def load(self) -> Any:
        """The class."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)


METHODS: dict[str, Entry] = {
    "ppo": Entry(
        "stemrl.rl.ppo:Ppo",
        "Proximal policy optimisation; contextual where the context is revealed",
    ),
}

FAMILIES: dict[str, Entry] = {
    "bandit": Entry("stemrl.tasks.bandit:Bandit", "RL²'s Bernoulli bandits: a pull is an episode"),
    "random-mdp": Entry(
        "stemrl.tasks.random_mdp:RandomMDP", "RL²'s random tabular decision processes"
    ),
    "gridnavi": Entry(
        "stemrl.tasks.gridnavi:GridNavi", "VariBAD's 5×5 grid with a hidden goal (finite)"
    ),
    "point-2d": Entry(
        "stemrl.tasks.point:Point2D", "MAML's point: find a goal in a square, dense reward"
    ),
    "point-sparse": Entry(
        "stemrl.tasks.point:PointSparse", "PEARL's point: a goal on a half-circle, sparse reward"
    ),
}

CARDS: dict[str, Entry] = {}


def find(kind: str, name: str) -> Entry:
    """The entry called `name` among the `methods`, `families` or `cards`."""
    known = {"methods": METHODS, "families": FAMILIES, "cards": CARDS}[kind]
    if name not in known:
        one = {"methods": "method", "families": "family", "cards": "card"}[kind]
        raise UserError(f"unknown {one} '{name}'{nearest(name, known)}")
    return known[name]


def make(kind: str, name: str, **settings: Any) -> Any:
    """An instance: the preset's settings, then yours over them."""
    entry = find(kind, name)
    return entry.load()(**{**entry.preset, **settings})
