"""`stemrl reproduce`."""

import sys
from typing import Any

from .. import registry
from ..errors import UserError
from .output import as_json, number, only_answers, remark, table
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Run a card, or all, and print published beside ours."""
    parser = Parser(
        "reproduce",
        "Reproduce a published result: published beside ours, and a JSON file. A card that was"
        " interrupted goes on where it was.",
        "CARD [--scale quick|full] [--seeds N] …",
    )
    parser.add_argument(
        "card", nargs="?", default=None, help="a card's name; see `stemrl list cards`"
    )
    parser.add_switch("--all", "every card, one after another")
    parser.add_argument(
        "--scale",
        default="full",
        choices=("quick", "full"),
        help="full: the claim itself; quick: seconds, to see that everything runs (default: full)",
    )
    parser.add_whole("--seeds", None, 1, "how many training seeds", "the card's own number")
    parser.add_whole("--first-seed", None, 0, "the first of them", "the card's own, mostly 0")
    parser.add_argument(
        "--results",
        default=None,
        metavar="DIR",
        help="where to write CARD.json (default: results/cards; runs/cards/quick for quick)",
    )
    parser.add_switch("--fresh", "start anew instead of going on with an interrupted card")
    parser.add_switch("--keep", "leave the card's runs in runs/cards when it is done")
    parser.add_whole(
        "--workers", None, 1, "trainings at once, each with one thread", "one a core, at full scale"
    )
    parser.add_switch("--json", "print the result as JSON")
    options = parser.parse(arguments)
    if bool(options.card) == options.all:
        raise UserError("name one card, or give --all; `stemrl list cards` shows them")
    every = [name for name, entry in registry.CARDS.items() if not entry.missing]
    names = every if options.all else [options.card]
    results = []
    for name in names:
        registry.find("cards", name)
    for name in names:
        with only_answers():
            from ..cards import reproduce

            result, path = reproduce(
                name,
                scale=options.scale,
                seeds=options.seeds,
                first_seed=options.first_seed,
                results=options.results,
                fresh=options.fresh,
                keep=options.keep,
                workers=options.workers,
                progress=sys.stderr.isatty() or not options.all,
            )
        results.append(result)
        if not options.json:
            print(_told(result))
        remark(f"written to {path}")
    if options.json:
        print(as_json(results if options.all else results[0]))
    return 0


def _told(result: dict[str, Any]) -> str:
    """Published beside ours, and the verdict."""
    rows = []
    for row in result["rows"]:
        sign = "≥" if row["direction"] == "at least" else "≤"
        bar = "" if row["bar"] is None else f"{sign} {number(row['bar'])}"
        if "interval_excludes" in row:
            bar = f"{bar} interval excludes {number(row['interval_excludes'])}".strip()
        if not row.get("must", True):
            bar = f"aim {bar}"
        told = _judged(row["verdict"], row.get("must", True))
        if "aim" in row:
            bar = f"{bar}, aim {number(row['aim'])}".removeprefix(", ")
            told = f"{told}, aim {row['aim_verdict']}".removeprefix(", ")
        interval = "" if row["low"] is None else f"[{number(row['low'])}, {number(row['high'])}]"
        rows.append(
            (row["name"], number(row["published"]), number(row["mean"]), interval, bar, told)
        )
    seeds = f"{result['seeds']} seed" + ("s" if result["seeds"] > 1 else "")
    if first := result["first_seed"]:
        seeds += f" from {first}"
    head = f"{result['card']} ({result['scale']}, {seeds}, {number(result['seconds'])} s)"
    lines = [head, table(("", "published", "ours", "95%", "bar", "verdict"), rows)]
    if result["scale"] == "quick":
        lines.append("quick: these numbers only show that everything runs")
    elif result["verdict"] == "missed":
        lines.append("NOT reached: see the rows marked MISSED")
    elif result["verdict"] is not None:
        lines.append(result["verdict"])
    return "\n".join(lines) + "\n"


def _judged(verdict: str | None, must: bool) -> str:
    if verdict == "missed":
        return "MISSED" if must else "missed (an aim)"
    return verdict or ""
