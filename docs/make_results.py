"""Write `results.md` from what cards and benchmarks measured, and the tables of `transfer.md`:
python docs/make_results.py

Nothing on that page, and in those tables, is written by hand; a test compares them with the files that
they are made from.
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
CHAPTER = {"en": ROOT / "docs" / "transfer.md", "zh": ROOT / "docs" / "zh" / "transfer.md"}
"""Pages with a table of what transfer has brought, between two comments."""
BEGIN, END = "<!-- measured: made by docs/make_results.py -->\n", "<!-- measured: end -->"
BROUGHT = [
    ("finetune-supervised", "the same, from scratch", "accuracy in the target, fine-tuned on 10 labels",
     "fine-tuning on 10 labels: accuracy", "用 10 个标签微调：准确率"),
    ("finetune-reversal", "return backward in the end, from scratch",
     "return backward in the end, fine-tuned, pretrained without a bonus",
     "fine-tuning to run the other way: return", "微调成反方向奔跑：回报"),
    ("maxent-finetune", "steps to a return of -25, near-deterministic",
     "steps to a return of -25, maximum entropy",
     "the best way is shut: steps (fewer is better)", "最好的路被堵住：步数（越少越好）"),
    ("dann-moons", "median accuracy in the target, source only",
     "median accuracy in the target, shared form",
     "DANN on rotated moons: accuracy", "DANN，旋转的月牙：准确率"),
    ("dann-digits", "accuracy in the target, source only", "accuracy in the target, shared form",
     "DANN on digits on textures: accuracy", "DANN，带纹理的数字：准确率"),
    ("dann-pixels", "return in the target (of 50), source only", "return in the target (of 50), shared",
     "DANN on a road of other colors: return", "DANN，换了颜色的路：回报"),
    ("dann-biased", "return in the target (of 50), source only",
     "return in the target (of 50), aligned",
     "DANN with a bad driver's frames: return (it harms)", "DANN，糟糕司机的画面：回报（有害）"),
    ("darc-grid", "success in the target, source only", "success in the target, DARC",
     "DARC on a grid with a wall: success", "DARC，有墙的网格：成功率"),
    ("darc-half-cheetah-broken", "return in the target, source only", "return in the target, DARC",
     "DARC on a half-cheetah with a dead motor: return", "DARC，电机失灵的半猎豹：回报"),
    ("ant-disk", "episodes that stay on the disk, source only", "episodes that stay on the disk, DARC",
     "DARC on an ant on a disk: episodes that stay", "DARC，圆盘上的蚂蚁：留在盘上的回合"),
    ("epopt-adapt", "cart-pole: the same before",
     "cart-pole: distance of the mean from the hidden mass, in first deviations",
     "EPOpt finds a hidden mass: distance (less is better)", "EPOpt 找到隐藏的质量：距离（越小越好）"),
]  # fmt: skip
"""Card, its row without the method and with it, and what they are, in both languages."""
HEADS = {
    "en": ("", "without", "with", "card"),
    "zh": ("", "不用", "使用", "卡片"),
}  # fmt: skip

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


def chapter(results: Path, language: str) -> str:
    """The page on transfer with its table, from a folder of results: a row for each card that has run."""
    cards = _read(results / "cards")
    up = "" if language == "en" else "../"
    rows = []
    for name, without, brought, *words in BROUGHT:
        if name not in cards:
            continue
        found = {row["name"]: row for row in cards[name]["rows"]}
        numbers = [
            f"{_number(r['mean'])} {_interval(r['low'], r['high'])}".strip()
            for r in (found[without], found[brought])
        ]
        label = words[0 if language == "en" else 1]
        rows.append((label, *numbers, f"[`{name}`]({up}results.md#{name})"))
    text = CHAPTER[language].read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{_table(HEADS[language], rows)}\n{END}{rest.split(END)[1]}"


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
    for language, file in CHAPTER.items():
        file.write_text(chapter(ROOT / "results", language), encoding="utf-8")
