"""A card's result as a figure (SVG): a strip for each of its main rows, with ours and its interval, the
published number, the bar and the exact optimum.

Drawn from the JSON alone. Colors are those of the reports and follow light and dark pages; what is reached
and what is missed differ in words as well.
"""

import math
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from ..report.svg import short
from .card import aim_verdict, verdict, worst

WIDTH, EDGE = 360, 10
LETTER = 6.6
"""How wide a letter is, about: text is not measured. A Chinese one is as wide as two."""
PHRASE = re.compile(r"(?<=[，：])|(?=（)")
BREAK = re.compile(r"(?<=[ \u2e80-\uff07\uff09-\uffef])(?![ ，：）])|(?<![ （])(?=[\u2e80-\u9fff])")
"""Where a line of Chinese may end: between phrases; and in one that is longer than a line after a space
and beside every Chinese letter, but not before a mark that closes nor after one that opens."""
MOST = 6
"""Rows of a figure, unless somebody names them."""
OPTIMUM = re.compile(r"Bayes-optimal( agent)?|(the )?optimum of the known task")
STYLE = """text { fill: var(--soft); } .name { fill: var(--text); } .value { fill: var(--text); font-weight: 600; }
.page { fill: var(--panel); } .rule { stroke: var(--edge); } .zero { stroke: var(--soft); opacity: .45; }
.side { fill: var(--soft); opacity: .1; } .bar { stroke: var(--text); stroke-width: 1.6; }
.aim { stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 2 2; }
.published { fill: var(--panel); stroke: var(--text); stroke-width: 1.6; } .optimum { fill: var(--s3); }
.interval { stroke-width: 4; stroke-linecap: round; opacity: .45; } .mean { stroke: var(--panel); }
.interval.none { stroke: var(--s0); } .none { fill: var(--s0); }
.interval.reached { stroke: var(--s2); } .reached { fill: var(--s2); }
.interval.at { stroke: var(--s4); } .at { fill: var(--s4); }
.interval.missed { stroke: var(--s1); } .missed { fill: var(--s1); }"""
MARKS = ("ours", "interval", "published", "bar", "aim", "optimum")


@dataclass
class _Axis:
    """Rows of about one size, which share an axis."""

    difference: bool
    rows: list[dict[str, Any]] = field(default_factory=list)

    def values(self) -> list[float]:
        return [value for row in self.rows for value in _numbers(row)]

    def takes(self, row: dict[str, Any]) -> bool:
        """Return whether a row fits: a difference beside differences, shares beside shares, and
        nothing so small that it would be a dot on the others' zero."""
        here, new = self.values(), _numbers(row)
        if not any(new) and not self.difference:
            # Nothing at all is of any size: it goes by its name, as in 'steps, after 4 tasks'.
            head = row["name"].partition(",")[0]
            if any(one["name"].partition(",")[0] == head for one in self.rows):
                return True
        if self.difference != _is_difference(row) or _shares(here) != _shares(new):
            return False
        sizes = [max(map(abs, values)) or 1e-9 for values in (here, new)]
        return _shares(here) or max(sizes) <= 12 * min(sizes)

    def span(self) -> tuple[float, float]:
        values = [*self.values(), *([0.0] if self.difference else [])]
        low, high = min(values), max(values)
        if not self.difference and _shares(values):
            low, high = 0.0, 1.0
        elif high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - (abs(low) or 1.0), high + (abs(high) or 1.0)
        margin = 0.04 * (high - low)
        return low - margin, high + margin


def figure(
    result: dict[str, Any],
    rows: Sequence[str] = (),
    words: Mapping[str, str] | None = None,
    language: str = "en",
) -> str:
    """Return a card's result, as `results/cards/<name>.json` holds it, as an SVG document.

    **Arguments:**

    - `rows`: the names of the rows to show; by default `main_rows`.
    - `words`: what stands in the place of a row's name, of a verdict or of a word of the legend, in
        another language; what is not among them stays as it is.
    - `language`: the code of that language.

    Raises `LookupError` for a row that the result does not have.
    """
    words = words or {}
    known = {row["name"]: row for row in result["rows"]}
    if unknown := [name for name in rows if name not in known]:
        raise LookupError(f"{result['card']} has no row {unknown}")
    optima = [row for row in result["rows"] if OPTIMUM.search(row["name"])]
    shown = [known[name] for name in rows] or main_rows(result)
    shown = [
        row | {"optimum": _optimum(row, optima), "label": words.get(row["name"], row["name"])}
        for row in shown
    ]
    axes: list[_Axis] = []
    for row in shown:
        axis = next((axis for axis in axes if axis.takes(row)), None)
        if axis is None:
            axes.append(axis := _Axis(_is_difference(row)))
        axis.rows.append(row)
    y, parts = EDGE, []
    for axis in axes:
        drawn, y = _drawn(axis, y, words)
        parts += drawn
    drawn, y = _legend(shown, y, words)
    found = worst(result["rows"]) or "no bar"
    title = f"{result['title']}: {words.get(found, found)}"
    spoken = "" if language == "en" else f' lang="{language}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}"'
        f' viewBox="0 0 {WIDTH} {y:.0f}" role="img"{spoken}'
        f' font-family="system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<style>{_palette()}{STYLE}</style><rect class="page" width="{WIDTH}" height="{y:.0f}" rx="6"/>'
        + "".join([*parts, *drawn])
        + "</svg>\n"
    )


def main_rows(result: dict[str, Any], most: int = MOST) -> list[dict[str, Any]]:
    """Return the rows that say most, in the card's order: claims first, then what a paper has
    published, then the others; not the exact optima that are marks on them."""
    optima = [row for row in result["rows"] if OPTIMUM.search(row["name"])]
    others = [row for row in result["rows"] if row not in optima] or optima

    def weight(row: dict[str, Any]) -> int:
        if row["bar"] is not None or row.get("interval_excludes") is not None:
            return 0 if row.get("must", True) else 1
        return 2 if row.get("aim") is not None else 3 if row["published"] is not None else 4

    best = sorted(others, key=weight)[:most]
    return [row for row in others if row in best]


def _optimum(row: dict[str, Any], optima: Sequence[dict[str, Any]]) -> float | None:
    """The exact optimum of a row's own condition: named as the row is, but for who acts."""
    for optimum in optima:
        condition = _words(OPTIMUM.sub("", optimum["name"]).replace("(exact)", ""))
        ours = _words(row["name"])
        if condition <= ours and len(ours - condition) == 1:
            return optimum["mean"]
    return None


def _words(name: str) -> set[str]:
    return {word.strip() for word in re.split("[,:]", name) if word.strip()}


def _numbers(row: dict[str, Any]) -> list[float]:
    keys = ("mean", "low", "high", "published", "bar", "interval_excludes", "aim", "optimum")
    return [row[key] for key in keys if row.get(key) is not None]


def _shares(values: Sequence[float]) -> bool:
    return min(values) >= -0.02 and max(values) <= 1.02


def _is_difference(row: dict[str, Any]) -> bool:
    return row.get("interval_excludes") == 0 or "(paired)" in row["name"]


def _drawn(axis: _Axis, y: float, words: Mapping[str, str]) -> tuple[list[str], float]:
    """The rows of one axis, from a height on, and the height below."""
    low, high = axis.span()
    parts = []

    def px(value: float) -> float:
        return EDGE + (value - low) / (high - low) * (WIDTH - 2 * EDGE)

    top = y
    for row in axis.rows:
        drawn, y = _row(row, y, px, words)
        parts += drawn
    under = []
    for tick in _ticks(low, high):
        x = px(tick)
        kind = "zero" if axis.difference and tick == 0 else "rule"
        under.append(f'<path class="{kind}" d="M{x:.1f} {top:.0f}V{y:.0f}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{y + 12:.0f}" font-size="10" text-anchor="middle">{short(tick)}</text>'
        )
    return [*under, *parts], y + 24


def _row(
    row: dict[str, Any], y: float, px: Any, words: Mapping[str, str]
) -> tuple[list[str], float]:
    told = _told(row)
    kind, told = _kind(told), words.get(told, told)
    number = short(row["mean"])
    said = f"{number}{f' {told}' if told else ''}"
    parts = [
        f'<text class="value" x="{WIDTH - EDGE}" y="{y + 11:.0f}" text-anchor="end">{number}'
        + (f' <tspan class="{kind}">{told}</tspan>' if told else "")
        + "</text>"
    ]
    room = int((WIDTH - 2 * EDGE - max(_width(said) + 2, 8) * LETTER) / LETTER)
    for line in _lines(row["label"], room):
        parts.append(f'<text class="name" x="{EDGE}" y="{y + 11:.0f}">{escape(line)}</text>')
        y += 14
    middle, y = y + 10, y + 24
    bar, excluded = row["bar"], row.get("interval_excludes")
    edge = bar if bar is not None else excluded
    if edge is not None:
        x = px(edge)
        right = row["direction"] == "at least"
        start, end = (x, WIDTH - EDGE / 2) if right else (EDGE / 2, x)
        parts.append(
            f'<rect class="side" x="{start:.1f}" y="{middle - 7:.0f}" width="{max(end - start, 0):.1f}"'
            f' height="14"/><path class="bar" d="M{x:.1f} {middle - 7:.0f}v14"/>'
        )
    if row.get("aim") is not None:
        parts.append(f'<path class="aim" d="M{px(row["aim"]):.1f} {middle - 7:.0f}v14"/>')
    if row["low"] is not None:
        parts.append(
            f'<path class="interval {kind}" d="M{px(row["low"]):.1f} {middle:.0f}H{px(row["high"]):.1f}"/>'
        )
    if row["optimum"] is not None:
        parts.append(_triangle(px(row["optimum"]), middle))
    if row["published"] is not None:
        parts.append(_diamond(px(row["published"]), middle))
    parts.append(
        f'<circle class="mean {kind}" cx="{px(row["mean"]):.1f}" cy="{middle:.0f}" r="4.5"/>'
    )
    return parts, y


def _width(text: str) -> int:
    """How wide a text is, in letters."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _lines(text: str, room: int) -> list[str]:
    """A text in lines of at most so many letters."""
    if _width(text) == len(text):
        return textwrap.wrap(text, room, break_long_words=False)
    lines = [""]
    for phrase in PHRASE.split(text):
        for piece in BREAK.split(phrase) if _width(phrase) > room else [phrase]:
            if _width((lines[-1] + piece).rstrip()) > room:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _told(row: dict[str, Any]) -> str:
    """A row's verdict in words, or what became of its aim."""
    if (found := verdict(row)) is not None and row.get("must", True):
        return found
    found = found or aim_verdict(row)
    return "" if found is None else f"aim {found}"


def _kind(told: str) -> str:
    """The class of a mark's color: a missed aim is no missed claim."""
    return "none" if not told or told.startswith("aim") else told.partition(" ")[0]


def _triangle(x: float, y: float) -> str:
    return f'<path class="optimum" d="M{x:.1f} {y - 6:.1f}l5.5 10h-11z"/>'


def _diamond(x: float, y: float) -> str:
    return f'<path class="published" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>'


def _legend(
    rows: Sequence[dict[str, Any]], y: float, words: Mapping[str, str]
) -> tuple[list[str], float]:
    """What the marks mean, of those that are there."""
    there = {
        "ours": True,
        "interval": any(row["low"] is not None for row in rows),
        "published": any(row["published"] is not None for row in rows),
        "bar": any(
            row["bar"] is not None or row.get("interval_excludes") is not None for row in rows
        ),
        "aim": any(row.get("aim") is not None for row in rows),
        "optimum": any(row["optimum"] is not None for row in rows),
    }
    marks = {
        "ours": lambda x, y: f'<circle class="mean none" cx="{x}" cy="{y}" r="4.5"/>',
        "interval": lambda x, y: f'<path class="interval none" d="M{x - 5} {y}h10"/>',
        "published": _diamond,
        "bar": lambda x, y: (
            f'<rect class="side" x="{x}" y="{y - 6}" width="6" height="12"/>'
            f'<path class="bar" d="M{x} {y - 6}v12"/>'
        ),
        "aim": lambda x, y: f'<path class="aim" d="M{x} {y - 6}v12"/>',
        "optimum": _triangle,
    }
    words = {"interval": "95%", **words}
    parts, x = [], float(EDGE + 5)
    for name in MARKS:
        if there[name]:
            word = words.get(name, name)
            parts.append(marks[name](x, y + 4))
            parts.append(f'<text x="{x + 9:.0f}" y="{y + 8:.0f}" font-size="10">{word}</text>')
            x += 28 + 5.6 * _width(word)
    return parts, y + 18


def _ticks(low: float, high: float) -> Iterator[float]:
    """Three to five round numbers between two."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        yield i * step


def _palette() -> str:
    """The reports' colors, light and dark, without what only pages have."""
    text = files("stemrl.report").joinpath("assets", "report.css").read_text("utf-8")
    text = text.partition("* {")[0]
    used = set(re.findall(r"var\((--\w+)\)", STYLE))
    colors = re.sub(
        r"(--[\w-]+): #[0-9a-f]{6};\s*", lambda m: m[0].strip() if m[1] in used else "", text
    )
    return re.sub(r"\s+", " ", colors)
