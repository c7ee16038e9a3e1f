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
from ..evaluation.statistics import proportion_interval, t_interval

if TYPE_CHECKING:
    from .workshop import Workshop

Scale = Literal["quick", "full"]
Direction = Literal["at least", "at most"]
Verdict = Literal["reached", "at the bar", "missed"]
"""Of a row with a bar. *Reached*: the mean meets the bar, and the interval lies wholly on its side.
*At the bar*: the mean meets it, the interval does not exclude that it is missed. *Missed*: neither."""


@dataclass(frozen=True)
class Measure:
    """One row of a card's table, before statistics."""

    name: str
    """What was measured: 'return after 1 gradient step'."""
    values: Sequence[float] | np.ndarray
    """Our numbers, one for each training seed; or a single number for what has no seed (an exact
    optimum)."""
    published: float | None = None
    """The paper's number, or `None` if there is none."""
    bar: float | None = None
    """What our mean over seeds must reach; `None` for a row that stands there for comparison alone.
    """
    direction: Direction = "at least"
    """Whether ours must be at least or at most the bar."""
    low_bar: float | None = None
    """What the interval must exclude, in the same direction. For a claim that one beats another it
    is 0, on their paired differences."""
    aim: float | None = None
    """What one hopes for beyond the bar, in the same direction. A missed aim is printed as such,
    and does not make the card miss."""
    must: bool = True
    """Whether the card misses if this row misses its bar. If not, `bar` and `low_bar` are an aim
    too."""
    proportion: bool = False
    """Whether the values are shares: their interval then stays inside [0, 1]."""
    ratio: bool = False
    """Whether the values are ratios, such as speed-ups: mean and interval are then those of their logarithms,
    taken back, so that twice as fast and half as fast weigh the same."""

    def row(self) -> dict[str, Any]:
        """Return the row in the form that JSON has: mean and 95% t interval over seeds. An interval
        needs two seeds: with one, `low` and `high` are null. Raise `UserError` if a value is not
        finite, if a proportion lies outside of [0, 1], or if a ratio is not positive."""
        values = np.asarray(self.values, float)
        if not np.isfinite(values).all():
            raise UserError(f"'{self.name}' is not finite: {values.tolist()}")
        if self.proportion and not ((values >= 0) & (values <= 1)).all():
            raise UserError(f"'{self.name}' is no proportion: {values.tolist()}")
        if self.ratio and not (values > 0).all():
            raise UserError(f"'{self.name}' is no ratio: {values.tolist()}")
        mean, low, high = float(values.mean()), None, None
        if self.ratio:
            mean = float(np.exp(np.log(values).mean()))
        if len(values) > 1:
            interval = proportion_interval if self.proportion else t_interval
            bounds = interval(np.log(values) if self.ratio else values)[1:]
            low, high = (float(x) for x in (np.exp(bounds) if self.ratio else bounds))
        row: dict[str, Any] = {
            "name": self.name,
            "published": self.published,
            "bar": self.bar,
            "direction": self.direction,
            "mean": mean,
            "low": low,
            "high": high,
            "values": values.tolist(),
        }
        if self.low_bar is not None:
            row["interval_excludes"] = self.low_bar
        if self.aim is not None:
            row["aim"] = self.aim
        if not self.must:
            row["must"] = False
        if self.ratio:
            row["ratio"] = True
        return row | {"verdict": verdict(row), "aim_verdict": aim_verdict(row)}


def verdict(row: dict[str, Any]) -> Verdict | None:
    """Return the verdict of a row on its bar; `None` if it has no bar. If an interval must exclude
    something, there is no verdict in between: the interval excludes it, or the row is missed."""
    found = _against(row, row["bar"])
    if (excluded := row.get("interval_excludes")) is not None:
        edge = row["low"] if row["direction"] == "at least" else row["high"]
        if edge is None or not _beyond(row, edge, excluded) or edge == excluded:
            return "missed"
        found = found or "reached"
    return found


def aim_verdict(row: dict[str, Any]) -> Verdict | None:
    """Return the verdict of a row on its aim; `None` if it has none."""
    return _against(row, row.get("aim"))


def worst(rows: Sequence[dict[str, Any]]) -> Verdict | None:
    """Return the worst verdict of the rows that a card must reach; `None` if there is none."""
    found = [verdict(row) for row in rows if row.get("must", True)]
    order: tuple[Verdict, ...] = ("missed", "at the bar", "reached")
    return next((one for one in order if one in found), None)


def _against(row: dict[str, Any], bar: float | None) -> Verdict | None:
    if bar is None:
        return None
    if not _beyond(row, row["mean"], bar):
        return "missed"
    edge = row["low"] if row["direction"] == "at least" else row["high"]
    # A single value, as of an exact optimum, has no interval.
    return "reached" if edge is None or _beyond(row, edge, bar) else "at the bar"


def _beyond(row: dict[str, Any], value: float, bar: float) -> bool:
    return value >= bar if row["direction"] == "at least" else value <= bar


@dataclass(frozen=True)
class Card:
    """One published result, and how to reproduce it."""

    name: str
    """The name on the command line, such as `maml-sinusoid`."""
    title: str
    """What it shows, in one line."""
    source: str
    """Paper, section or table, and whose numbers stand in the column `published`."""
    run: Callable[["Workshop"], Sequence[Measure]]
    """A function that does the work at the workshop's scale and returns the rows."""
    seeds: int = 3
    """How many training seeds there are, unless the user says otherwise."""
    first_seed: int = 0
    """The first of them. A card whose recipe was chosen by what some seeds gave begins after those."""
    heavy: bool = False
    """Whether it takes up to an hour a seed at full scale. Other cards take up to 20 minutes in
    all."""
    note: str = ""
    """What the numbers say, if that is not plain: a few lines of Markdown."""
    differs: Sequence[str] = ()
    """Where the setting is not the paper's: a sentence each."""
    tried: Sequence[tuple[str, str]] = ()
    """What else was tried and what it gave, a row of a table each."""
    revised: str = ""
    """That the recipe was changed after its result was compared with the bar, and how; empty if it
    was not. A number that was reached in this way is weaker evidence."""

    def result(
        self,
        measures: Sequence[Measure],
        *,
        scale: Scale,
        seeds: int,
        first_seed: int = 0,
        seconds: float,
        settings: dict[str, Any],
        machine: dict[str, Any],
        versions: dict[str, str],
        figures: dict[str, Any] | None = None,
        pictures: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Return the JSON object that `results/cards/<name>.json` holds."""
        rows = [measure.row() for measure in measures]
        found = worst(rows)
        return {
            "card": self.name,
            "title": self.title,
            "source": self.source,
            "note": self.note,
            "differs": list(self.differs),
            "tried": [list(row) for row in self.tried],
            "revised": self.revised,
            "scale": scale,
            "seeds": seeds,
            "first_seed": first_seed,
            "seconds": round(seconds, 1),
            "settings": settings,
            "machine": machine,
            "versions": versions,
            "rows": rows,
            "figures": figures or {},
            "pictures": list(pictures),
            "verdict": found,
            "reached": None if found is None else found != "missed",
        }


def differences(
    ours: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray
) -> list[float]:
    """Return ours − theirs, paired over seeds."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]
