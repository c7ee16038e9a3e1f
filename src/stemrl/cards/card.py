"""What a card is: one published result, the setting that gives ours, and the bar between them.

A card is a module that ends in `CARD = Card(…)`, whose `run` does the work in a `Workshop` and
returns `Measure`s: one number per seed for each row of its table. Everything else is here: the
intervals, the verdict, and the JSON file that the documentation is made from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import UserError
from ..evaluate.statistics import t_interval

if TYPE_CHECKING:
    from .workshop import Workshop

Scale = Literal["quick", "full"]
Direction = Literal["at least", "at most"]


@dataclass(frozen=True)
class Measure:
    """One row of a card's table, before statistics."""

    name: str
    """What was measured: 'return after 1 gradient step'."""
    values: Sequence[float] | np.ndarray
    """Ours, one number per training seed; a single one for what has no seed (an exact optimum)."""
    published: float | None = None
    """The paper's, or `None` where there is none."""
    bar: float | None = None
    """What ours must reach on average over seeds; `None` for a row that only stands beside."""
    direction: Direction = "at least"
    """Whether ours must be at least or at most the bar."""
    low_bar: float | None = None
    """What the interval must exclude, in the same direction: for a claim that one beats another, 0
    on their paired differences."""

    def row(self) -> dict[str, Any]:
        """The row as JSON has it: mean and 95% t interval over seeds. An interval needs two seeds:
        with one, `low` and `high` are null. Raises `UserError` if a value is not finite."""
        values = np.asarray(self.values, float)
        if not np.isfinite(values).all():
            raise UserError(f"'{self.name}' is not finite: {values.tolist()}")
        low = high = None
        if len(values) > 1:
            low, high = (float(x) for x in t_interval(values)[1:])
        row = {
            "name": self.name,
            "published": self.published,
            "bar": self.bar,
            "direction": self.direction,
            "mean": float(values.mean()),
            "low": low,
            "high": high,
            "values": values.tolist(),
        }
        if self.low_bar is not None:
            row["interval_excludes"] = self.low_bar
        return row


def reached(row: dict[str, Any]) -> bool | None:
    """Whether a row meets its bar; `None` if it has none."""
    at_least = row["direction"] == "at least"
    verdicts = []
    if row["bar"] is not None:
        verdicts.append(row["mean"] >= row["bar"] if at_least else row["mean"] <= row["bar"])
    if (excluded := row.get("interval_excludes")) is not None:
        edge = row["low"] if at_least else row["high"]
        verdicts.append(edge is not None and (edge > excluded if at_least else edge < excluded))
    return all(verdicts) if verdicts else None


@dataclass(frozen=True)
class Card:
    """One published result."""

    name: str
    """As on the command line: `maml-sinusoid`."""
    title: str
    """What it shows, in one line."""
    source: str
    """Paper, section or table, and whose numbers stand in the column `published`."""
    run: Callable[["Workshop"], Sequence[Measure]]
    """Does the work at the workshop's scale."""
    seeds: int = 3
    """How many, unless the user says."""
    heavy: bool = False
    """Takes up to an hour a seed at full scale; other cards up to 20 minutes in all."""
    note: str = ""
    """What a reader should know of the setting, where it is not the paper's; and of what was tried
    where the bar is missed. Markdown."""

    def result(
        self,
        measures: Sequence[Measure],
        *,
        scale: Scale,
        seeds: int,
        seconds: float,
        settings: dict[str, Any],
        machine: dict[str, Any],
        versions: dict[str, str],
    ) -> dict[str, Any]:
        """The JSON object that `results/cards/<name>.json` holds."""
        rows = [measure.row() for measure in measures]
        verdicts = [verdict for row in rows if (verdict := reached(row)) is not None]
        return {
            "card": self.name,
            "title": self.title,
            "source": self.source,
            "note": self.note,
            "scale": scale,
            "seeds": seeds,
            "seconds": round(seconds, 1),
            "settings": settings,
            "machine": machine,
            "versions": versions,
            "rows": rows,
            "reached": all(verdicts) if verdicts else None,
        }


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Paired over seeds: ours − theirs."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]
