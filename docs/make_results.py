"""Write `results.md` from what cards and benchmarks measured: python docs/make_results.py

Nothing on that page is written by hand; a test compares it with the files that it is made from.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemrl import registry
from stemrl.cards.card import Card, aim_verdict, verdict, worst
from stemrl.cli.output import number

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"

OPENING = """# Results

Every number on this page was measured by a command that is named beside it, and is read from the
files in `results/` by `docs/make_results.py`; none is typed in. What was missed is here as well as
what was reached.
"""

CARDS = """## Published results

A *card* is a published result and the setting that is to give ours. `stemrl reproduce CARD` trains,
evaluates, prints the paper's numbers beside ours and writes the file that stands here. *Ours* is a mean
over training seeds, beside it the 95% t interval over seeds; a row without an interval is of one seed, or
of what has none. A row with a *bar* is a claim. It is *reached* if the mean meets the bar and the interval
lies wholly on its side, *at the bar* if the mean meets it and the interval does not exclude a miss, and
**missed** otherwise; a claim that one beats another is reached only if the interval excludes 0. An *aim* is
what one hopes for: missed, it is printed as such. A row with neither stands there for comparison. The bar
is what this library asks of itself, and need not be the paper's number.
"""

BENCHMARKS = """## Speed

`make bench`. Where a row says *in turns*, and where the other side is a limit or another part of this
library, both were measured in one run, alternating; a *fixed figure* of another library was once measured
on two cores. The ratio says how many times better ours is.
"""


def page(results: Path, known: Mapping[str, Card]) -> str:
    """The whole page, from a folder of results and all cards. Numbers are the files', words are the
    cards' as they are today, so that a word can be mended without measuring anew."""
    cards, benchmarks = (_read(results / kind) for kind in ("cards", "benchmarks"))
    for name in cards.keys() & known.keys():
        words = known[name]
        told = ("title", "source", "note", "differs", "tried", "revised")
        cards[name] |= {word: getattr(words, word) for word in told}
    for name, card in cards.items():
        if card["scale"] != "full":
            raise SystemExit(f"results/cards/{name}.json is of scale {card['scale']}, not full")
    parts = [OPENING, CARDS]
    if cards:
        parts.append(_overview(cards))
    if missing := [name for name in known if name not in cards]:
        parts.append(f"Not run at full scale yet: {', '.join(f'`{name}`' for name in missing)}.\n")
    elif not cards:
        parts.append("There is no card yet.\n")
    for name, card in cards.items():
        parts.append(_card(name, card))
        for picture in card.get("pictures") or [f"{name}.png"]:
            if (results / "cards" / picture).exists():
                # As seen from the page; the site has its own copy (`hooks.py`).
                parts.append(f"![{card['title']}](../results/cards/{picture})\n")
    parts.append(BENCHMARKS)
    parts += [_benchmark(name, content) for name, content in benchmarks.items()]
    if not benchmarks:
        parts.append("Nothing was measured yet.\n")
    return "\n".join(parts)


def _overview(cards: dict[str, dict[str, Any]]) -> str:
    rows = [
        (f"[`{name}`](#{name})", card["title"], _verdict(worst(card["rows"])))
        for name, card in cards.items()
    ]
    return _table(("card", "what it shows", "verdict"), rows)


def _card(name: str, card: dict[str, Any]) -> str:
    rows = []
    for row in card["rows"]:
        bar = []
        if row["bar"] is not None:
            bar.append(f"{'≥' if row['direction'] == 'at least' else '≤'} {_number(row['bar'])}")
        if (excluded := row.get("interval_excludes")) is not None:
            bar.append(f"interval excludes {_number(excluded)}")
        if not row.get("must", True):
            bar.insert(0, "aim:")
        told = _verdict(verdict(row), must=row.get("must", True))
        if (aim := row.get("aim")) is not None:
            bar.append(f"aim {_number(aim)}")
            told = f"{told}, aim {_verdict(aim_verdict(row), must=False)}".removeprefix(", ")
        rows.append(
            (
                row["name"],
                _number(row["published"]),
                _number(row["mean"], unlike=row["bar"]),
                _interval(row["low"], row["high"]),
                ", ".join(bar).replace("aim:, ", "aim: "),
                told,
            )
        )
    seeds = f"{card['seeds']} seed" + ("s" if card["seeds"] != 1 else "")
    lines = [
        f"### {card['title']} {{ #{name} }}",
        "",
        f"Published: {card['source']}. Run: `stemrl reproduce {name}`.",
        "",
        _table(("", "published", "ours", "95% interval", "bar", "verdict"), rows),
        f"{seeds}, {_seconds(card['seconds'])}, {_machine(card)}.",
    ]
    if card["note"]:
        lines += ["", card["note"].strip()]
    if card.get("revised"):
        lines += ["", f"*Revised after its bar was seen:* {card['revised']}"]
    if card.get("differs"):
        lines += ["", "Where it differs from the paper:", ""]
        lines += [f"- {text}" for text in card["differs"]]
    if card.get("tried"):
        # Folded, as few readers want it.
        lines += ["", "<details markdown><summary>What was tried</summary>", ""]
        lines += [_table(("tried", "gave"), card["tried"]), "</details>"]
    return "\n".join([*lines, ""])


def _benchmark(name: str, content: dict[str, Any]) -> str:
    rows = []
    for row in content["rows"]:
        unit = row.get("unit", "")
        bar = row["bar"]
        met = None if bar is None else row["ratio"] >= bar
        rows.append(
            (
                row["name"],
                f"{_number(row['ours'])} {unit}".strip(),
                f"{_number(row['theirs'])} {unit}".strip(),
                _number(row["ratio"], unlike=bar),
                "" if bar is None else f"≥ {_number(bar)}",
                _verdict({True: "reached", False: "missed", None: None}[met]),
            )
        )
    told = [f"`python benchmarks/{name}.py`, {_machine(content)}."]
    if isinstance(setting := content.get("setting"), dict):
        setting = ", ".join(f"{key} {value}" for key, value in setting.items())
    if setting:
        told.insert(0, _sentence(setting))
    if "theirs" in content:
        told.insert(0, f"Theirs: {content['theirs']}.")
    lines = [
        f"### {name.replace('_', ' ')}",
        "",
        _table(("", "ours", "theirs", "ratio", "bar", "verdict"), rows),
        " ".join(told),
        "",
    ]
    return "\n".join(lines)


def _read(folder: Path) -> dict[str, Any]:
    """Every JSON file of a folder, by name."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    # A bar in a cell, as in |Δx|, would end it.
    return text.replace("|", "\\|").replace("\n", " ")


def _verdict(found: str | None, *, must: bool = True) -> str:
    if found == "missed":
        return "**missed**" if must else "missed"
    return found or ""


def _number(value: float | None, unlike: float | None = None) -> str:
    """Four digits; or as many as it takes to see that it is not `unlike`, the bar it just misses."""
    if value is None:
        return ""
    text = number(value)
    if unlike is not None and value != unlike and text == number(unlike):
        digits = 5
        while float(f"{value:.{digits}g}") == unlike:
            digits += 1
        text = f"{value:.{digits}g}"
    return text.replace("-", "−")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{_number(low)}, {_number(high)}]"


def _seconds(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds < 600 else f"{_number(seconds / 60)} minutes"


def _machine(content: dict[str, Any]) -> str:
    machine, versions = content["machine"], content["versions"]
    devices = [d for d in machine.get("devices", []) if not d.startswith("cpu")]
    where = f"{machine['processor']}, {machine['cores']} cores"
    return (
        f"on {', '.join([where, *devices])}; stemrl {versions['stemrl']}, JAX {versions['jax']},"
        f" MuJoCo {versions['mujoco']}"
    )


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


if __name__ == "__main__":
    every = {name: entry.load() for name, entry in registry.CARDS.items()}
    PAGE.write_text(page(ROOT / "results", every), encoding="utf-8")
