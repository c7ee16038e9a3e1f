"""Write `results.md`, in both languages, and its gallery from what cards and benchmarks measured, and the
table of `transfer.md`, and what methods' pages show: python docs/make_results.py

Nothing on those pages, and in those tables, is written by hand; a test compares them with the files that
they are made from.
"""

import functools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Beside this file, wherever it is called from.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from words import (
    BROUGHT,
    CHAPTERS,
    FIGURE,
    FRONT,
    HEADS,
    MAIN_ROWS,
    MEASURED,
    PAPERS,
    PICTURE,
    SPEED,
    UNITS,
    WORDS,
)

from stemrl import registry
from stemrl.cards.card import Card, aim_verdict, verdict, worst
from stemrl.cards.figure import figure
from stemrl.cli.output import number

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = {"en": ROOT / "docs" / "transfer.md", "zh": ROOT / "docs" / "zh" / "transfer.md"}
"""Pages with a table of what transfer has brought, between two comments."""
BEGIN, END = "<!-- measured: made by docs/make_results.py -->\n", "<!-- measured: end -->"
FRONTS = {
    "README.md": ("en", "docs/", "docs/", "results/cards/"),
    "README.zh.md": ("zh", "docs/zh/", "docs/", "results/cards/"),
    "docs/index.md": ("en", "", "", "../results/cards/"),
    "docs/zh/index.md": ("zh", "", "../", "../../results/cards/"),
}
"""The front pages: their language and the ways from them to pages, images and cards' pictures."""
NUMBER = re.compile(r"<!--=(.+?)::(.*?)::(.*?)-->.*?<!--/-->")
"""A number of a card in a page's text; see `numbered`."""
LANGUAGES = {"en": ROOT / "docs", "zh": ROOT / "docs" / "zh"}
"""Where each language has its pages, by the same names."""
TITLES = ROOT / "docs" / "zh" / "titles.json"
ROWS = ROOT / "docs" / "zh" / "rows.json"
"""The cards' titles in Chinese, and the names of their rows; notes stay in English, marked as such."""
GALLERY = "images/gallery"
"""Below `docs/`: a figure for each card that has run, in each language; see `_figure_file`."""
PARAGRAPH = 400
"""Letters of a paragraph that still is at most five lines on the site."""


def pages(results: Path, known: Mapping[str, Card]) -> dict[Path, str]:
    """Everything that this command makes of a folder of results and all cards, by file."""
    made = {
        folder / "results.md": page(results, known, language)
        for language, folder in LANGUAGES.items()
    }
    made |= {file: chapter(results, language) for language, file in CHAPTER.items()}
    cards = _cards(results, known)
    made |= {
        file: measured(file, results, cards, language)
        for language, folder in LANGUAGES.items()
        for name in MEASURED
        if (file := folder / "methods" / f"{name}.md").exists()
    }
    made |= {ROOT / name: front(name, results, cards) for name in FRONTS}
    for language in LANGUAGES:
        told = FIGURE[language] | _row_names(language)
        for name, card in _titled(cards, language).items():
            shown = MAIN_ROWS.get(name, ())
            file = ROOT / "docs" / _figure_file(name, language)
            made[file] = figure(card, shown, told, language)
    for file in LANGUAGES["en"].rglob("*.md"):
        text = made.get(file) or file.read_text(encoding="utf-8")
        if NUMBER.search(text):
            made[file] = numbered(text, results)
    return made


def numbered(text: str, results: Path) -> str:
    """A page with its numbers read anew from the cards: `<!--=CARD::ROW::FORMAT-->…<!--/-->` stands
    around each. A format is Python's for the row's mean, followed by `[]` with its interval; `minutes`
    is what the whole card took."""

    def read(found: re.Match[str]) -> str:
        name, row, how = found.groups()
        card = json.loads((results / "cards" / f"{name}.json").read_text(encoding="utf-8"))
        if how == "minutes":
            value = f"{max(card['seconds'] / 60, 1):.0f}"
        else:
            one = next((r for r in card["rows"] if r["name"] == row), None)
            if one is None:
                raise SystemExit(f"results/cards/{name}.json has no row '{row}'")
            how, interval, _ = how.partition("[]")
            value = f"{one['mean']:{how}}"
            if interval:
                value += f" [{one['low']:{how}}, {one['high']:{how}}]"
        return f"<!--={name}::{row}::{found[3]}-->{value.replace('-', '−')}<!--/-->"

    return NUMBER.sub(read, text)


def page(results: Path, known: Mapping[str, Card], language: str = "en") -> str:
    """The whole page of results, from a folder of them and all cards. Numbers are the files', words
    are the cards' as they are today, so that a word can be mended without measuring anew."""
    words = WORDS[language]
    cards = _titled(_cards(results, known), language)
    benchmarks = _read(results / "benchmarks")
    chapters = {
        chapter: found
        for chapter in CHAPTERS
        if (found := {name: cards[name] for name in _of_chapter(chapter, cards)})
    }
    parts = [words["opening"]]
    for chapter, found in chapters.items():
        parts += [f"**{words[chapter]}**\n", _gallery(found, language)]
    parts.append(words["cards"])
    if missing := [f"`{name}`" for name in known if name not in cards]:
        parts.append(words["not run"].format(words["list"].join(missing)) + "\n")
    elif not cards:
        parts.append(words["no card"] + "\n")
    for chapter, found in chapters.items():
        parts.append(f"## {words[chapter]}\n")
        parts += [_card(name, card, results, language) for name, card in found.items()]
    parts.append(words["speed"])
    parts += [_benchmark(name, content, words) for name, content in benchmarks.items()]
    if not benchmarks:
        parts.append(words["no benchmark"] + "\n")
    return "\n".join(parts)


def _cards(results: Path, known: Mapping[str, Card]) -> dict[str, dict[str, Any]]:
    """The results of all cards that have run, with the cards' words as they are today."""
    cards = _read(results / "cards")
    for name in cards.keys() & known.keys():
        words = known[name]
        told = ("title", "source", "note", "differs", "tried", "revised")
        cards[name] |= {word: getattr(words, word) for word in told}
    for name, card in cards.items():
        if card["scale"] != "full":
            raise SystemExit(f"results/cards/{name}.json is of scale {card['scale']}, not full")
    return cards


def _titled(cards: Mapping[str, dict[str, Any]], language: str) -> dict[str, dict[str, Any]]:
    """Cards with their titles in a language."""
    titles = json.loads(TITLES.read_text("utf-8")) if language == "zh" else {}
    return {name: card | {"title": titles.get(name, card["title"])} for name, card in cards.items()}


@functools.cache
def _row_names(language: str) -> dict[str, str]:
    """The names of rows in a language, by the English ones; one that is not there stays English."""
    return json.loads(ROWS.read_text("utf-8")) if language == "zh" else {}


def _of_chapter(chapter: str, cards: Mapping[str, Any]) -> list[str]:
    """The cards of a chapter that have run, in the order of the page."""
    named = CHAPTERS[chapter].split()
    if not named:
        taken = {name for names in CHAPTERS.values() for name in names.split()}
        named = sorted(cards.keys() - taken)
    return [name for name in named if name in cards]


def chapter(results: Path, language: str) -> str:
    """The page on transfer with its table, from a folder of results: a row for each card that has run."""
    cards = _read(results / "cards")
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
        rows.append((label, *numbers, f"[`{name}`](results.md#{name})"))
    return _filled(CHAPTER[language], [_table(HEADS[language], rows)])


def _filled(file: Path, blocks: Sequence[str]) -> str:
    """A page's text with what is made in place of what stood between its comments, in order."""
    first, *others = file.read_text(encoding="utf-8").split(BEGIN)
    if len(others) != len(blocks):
        raise SystemExit(f"{file} has {len(others)} places for {len(blocks)} tables")
    made = (
        f"{BEGIN}\n{block.strip()}\n\n{END}{rest.split(END)[1]}"
        for block, rest in zip(blocks, others, strict=True)
    )
    return "".join([first, *made])


def front(name: str, results: Path, cards: Mapping[str, dict[str, Any]]) -> str:
    """A front page: a picture a chapter, the methods with their papers and cards, and how fast some
    are beside others."""
    language, to_pages, to_images, to_cards = FRONTS[name]
    words = FRONT[language]
    rows = {
        card: {row["name"]: row["mean"] for row in cards[card]["rows"]}
        for card in ("darc-grid", "uvfa-rooms") if card in cards
    }  # fmt: skip
    numbers = {
        "breaks": _percent(rows["darc-grid"]["success in the target, source only"]),
        "cured": _percent(rows["darc-grid"]["success in the target, DARC"]),
        "seen": _percent(rows["uvfa-rooms"]["policy quality, rank 7, two stages"]),
        "unseen": _percent(rows["uvfa-rooms"]["policy quality, goals never trained on"]),
    }
    ways = {"pages": to_pages, "images": to_images, "results": to_cards}
    pictures = "\n\n".join(words[chapter].format(**numbers, **ways) for chapter in CHAPTERS)
    return _filled(
        ROOT / name,
        [pictures, _method_table(language, to_pages, cards), _speed(results, language, to_pages)],
    )


def _method_table(language: str, to_pages: str, cards: Mapping[str, dict[str, Any]]) -> str:
    """Every method by chapter: what it is, its paper, and the card that shows it."""
    words = FRONT[language]
    said = {name: entry.summary for name, entry in registry.METHODS.items()}
    if language == "zh":
        # The Chinese words are the README's, where a person writes them.
        text = (ROOT / "README.zh.md").read_text(encoding="utf-8")
        said |= dict(re.findall(r"^\| \[`([\w-]+)`\]\(\S+\) \| ([^|]*?) \|", text, re.MULTILINE))
    rows: list[tuple[str, ...]] = []
    for chapter, names in registry.by_chapter("methods").items():
        title = WORDS[language].get(chapter) or words[chapter]
        rows.append((f"**{title if language == 'zh' else chapter}**", "", "", ""))
        for name in names:
            author, paper = PAPERS[name]
            address = paper if ":" in paper else f"https://arxiv.org/abs/{paper}"
            shown = MEASURED[name].replace(";", "").split()
            card = next((one for one in shown if one in cards), shown[0])
            link = f"[`{card}`]({to_pages}results.md#{card})" if card in cards else f"`{card}`"
            rows.append(
                (
                    f"[`{name}`]({to_pages}methods/{name}.md)",
                    said[name],
                    f"[{author}]({address})" if paper else author,
                    link,
                )
            )
    # Of a class for the site's style sheet (`extra.css`).
    return f'<div class="methods" markdown>\n\n{_table(words["heads"].split("|"), rows)}\n</div>'


def _speed(results: Path, language: str, to_pages: str) -> str:
    """Some of what was measured beside other libraries."""
    words, rows, machine = FRONT[language], [], ""
    benchmarks = _read(results / "benchmarks")
    for benchmark, name, *told, beside in SPEED:
        content = benchmarks[benchmark]
        row = next(row for row in content["rows"] if row["name"] == name)
        machine, unit = content["machine"]["processor"], row["unit"]
        unit = UNITS.get(unit, unit) if language == "zh" else unit
        label = told[0 if language == "en" else 1]
        ours, theirs = (f"{_number(row[side])} {unit}" for side in ("ours", "theirs"))
        rows.append((label, beside, ours, theirs, f"{row['ratio']:.3g}"))
    table = _table(words["speed heads"].removeprefix("|").split("|"), rows)
    return f"{table}\n{words['speed'].format(machine, to_pages)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def measured(file: Path, results: Path, cards: Mapping[str, dict[str, Any]], language: str) -> str:
    """The page of a method with the figures of its cards that have run, and of its failure, and what
    they took."""
    words, cards = WORDS[language], _titled(cards, language)
    shown, _, failures = MEASURED[file.stem].partition("; ")
    parts = []
    for head, names in (("", shown.split()), (words["fails"], failures.split())):
        if names and head:
            parts.append(head)
        ran = [name for name in names if name in cards]
        for name in ran:
            card = cards[name]
            title = card["title"]
            told = _verdict(worst(card["rows"]), words)
            link = f"{title} ([`{name}`](../results.md#{name}))"
            seeds = _seeds(card, words)
            took = words["took"].format(
                link, told + words["and"] if told else "", seeds,
                _seconds(card["seconds"], words), _where(card, words),
            )  # fmt: skip
            parts += [
                f"![{title}](../{_up(language)}{_picture(name, card, results, language)})",
                took,
            ]
        if missing := [f"`stemrl reproduce {name}`" for name in names if name not in ran]:
            parts.append(words["not yet"].format(words["list"].join(missing)))
    return _filled(file, ["\n\n".join(parts)])


def _seeds(card: dict[str, Any], words: Mapping[str, str]) -> str:
    """How many there were, and from which on if not from 0."""
    told = words["seed" if card["seeds"] == 1 else "seeds"].format(card["seeds"])
    first = card.get("first_seed", 0)
    return told + words["from seed"].format(first) if first else told


def _picture(name: str, card: dict[str, Any], results: Path, language: str) -> str:
    """The picture of a card for another page, seen from `docs/`: one of its own, or its figure."""
    own = [one for one in card.get("pictures") or [f"{name}.png"]
           if (results / "cards" / one).exists()]  # fmt: skip
    chosen = [one for one in own if one == f"{name}-{PICTURE.get(name, '')}.png"] or own
    return f"../results/cards/{chosen[0]}" if chosen else _figure_file(name, language)


def _figure_file(name: str, language: str) -> str:
    """A card's figure in a language, seen from `docs/`."""
    return f"{GALLERY}/{name}{'.zh' if language == 'zh' else ''}.svg"


def _gallery(cards: Mapping[str, dict[str, Any]], language: str) -> str:
    """A thumbnail for each card, which leads to its section."""
    up = _up(language)
    lines = ['<div class="gallery" markdown>', ""]
    for name, card in cards.items():
        told = _verdict(worst(card["rows"]), WORDS[language])
        file = f"{up}{_figure_file(name, language)}"
        lines += [
            f"[![{card['title']}]({file})<br>{card['title']}](#{name}) {told}".rstrip(),
            "",
        ]
    return "\n".join([*lines, "</div>", ""])


def _up(language: str) -> str:
    """From a language's folder up to `docs/`."""
    return "../" if language == "zh" else ""


def _card(name: str, card: dict[str, Any], results: Path, language: str) -> str:
    words, names = WORDS[language], _row_names(language)
    rows = []
    for row in card["rows"]:
        bar = []
        if row["bar"] is not None:
            bar.append(f"{'≥' if row['direction'] == 'at least' else '≤'} {_number(row['bar'])}")
        if (excluded := row.get("interval_excludes")) is not None:
            bar.append(words["excludes"].format(_number(excluded)))
        must = row.get("must", True)
        claim = ("" if must else words["aim:"]) + words["and"].join(bar)
        told = _verdict(verdict(row), words, must=must)
        if (aim := row.get("aim")) is not None:
            met = words["aim"].format(_verdict(aim_verdict(row), words, must=False))
            claim = words["and"].join(filter(None, [claim, words["aim"].format(_number(aim))]))
            told = words["and"].join(filter(None, [told, met]))
        rows.append(
            (
                names.get(row["name"], row["name"]),
                _number(row["published"]),
                _number(row["mean"], unlike=row["bar"]),
                _interval(row["low"], row["high"]),
                claim,
                told,
            )
        )
    seeds = _seeds(card, words)
    published = words["published"].format(_linked(card["source"]), f"`stemrl reproduce {name}`")
    if methods := _methods(card):
        published += words["methods"].format(words["list"].join(methods))
    lines = [
        f"### {card['title']} {{ #{name} }}",
        "",
        published,
        "",
        _table(words["heads"].split("|"), rows),
        words["ran"].format(seeds, _seconds(card["seconds"], words), _machine(card, words)),
    ]
    notes = _notes(card, words)
    if notes and language != "en":
        notes = [
            f'<details markdown lang="en"><summary>{words["notes"]}</summary>', *notes, "", "</details>"
        ]  # fmt: skip
    lines += ["", *notes] if notes else []
    for picture in card.get("pictures") or [f"{name}.png"]:
        if (results / "cards" / picture).exists():
            # As seen from the page; the site has its own copy (`hooks.py`).
            what = picture.removeprefix(name).removesuffix(".png").replace("-", " ").strip()
            title = f"{card['title']}: {what}" if what else card["title"]
            lines += ["", f"![{title}](../{_up(language)}results/cards/{picture})"]
    return "\n".join([*lines, ""])


def _notes(card: dict[str, Any], words: Mapping[str, str]) -> list[str]:
    """What a card says of its numbers, in its own words."""
    lines = []
    if card["note"]:
        lines += ["", *_paragraphs(card["note"])]
    if card.get("revised"):
        lines += ["", *_paragraphs(words["revised"].format(card["revised"]))]
    if card.get("differs"):
        lines += ["", words["differs"], ""]
        lines += [f"- {text}" for text in card["differs"]]
    if card.get("tried"):
        # Folded, as few readers want it.
        lines += ["", f"<details markdown><summary>{words['tried']}</summary>", ""]
        lines += [_table(words["tried heads"].split("|"), card["tried"]), "</details>"]
    return lines[1:]


def _paragraphs(text: str) -> list[str]:
    """A text as lines, with an empty one between paragraphs; none of them long: what is, is parted
    between sentences."""
    lines: list[str] = []
    for paragraph in re.split(r"\n{2,}", text.strip()):
        if "\n" not in paragraph and len(paragraph) > PARAGRAPH:
            sentences = re.split(r"(?<=[.:;]) (?=[^a-z])", paragraph)
            half, first = len(paragraph) / 2, sentences[:1]
            while (
                len(" ".join(first)) < half
                and len(first) < len(sentences) - 1
                and len(" ".join(sentences[: len(first) + 1])) <= PARAGRAPH
            ):
                first.append(sentences[len(first)])
            rest = " ".join(sentences[len(first) :])
            parts = [" ".join(first), *(_paragraphs(rest) if rest else [])]
            lines += ["", parts[0], *(["", *parts[1:]] if parts[1:] else [])]
        else:
            lines += ["", paragraph]
    return lines[1:]


def _linked(source: str) -> str:
    """A source whose papers' numbers on arXiv are links."""
    return re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", source)


def _methods(card: dict[str, Any]) -> list[str]:
    """Links to the pages of the methods that a card trained, by what its settings say."""
    found: dict[str, None] = {}

    def search(settings: Any) -> None:
        if isinstance(settings, Mapping):
            if isinstance(method := settings.get("method"), str):
                found[method] = None
            for value in settings.values():
                search(value)
        elif isinstance(settings, list):
            for value in settings:
                search(value)

    search(card["settings"])
    own = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")}
    links = []
    for method in found:
        links.append(f"[`{method}`](methods/{method}.md)" if method in own else f"`{method}`")
    return links


def _benchmark(name: str, content: dict[str, Any], words: Mapping[str, str]) -> str:
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
                _verdict({True: "reached", False: "missed", None: None}[met], words),
            )
        )
    told = [words["by"].format(f"`python benchmarks/{name}.py`", _machine(content, words))]
    if isinstance(setting := content.get("setting"), dict):
        setting = ", ".join(f"{key} {value}" for key, value in setting.items())
    if setting:
        told.insert(0, _sentence(setting))
    if "theirs" in content:
        told.insert(0, words["theirs"].format(content["theirs"]))
    lines = [
        f"### {name.replace('_', ' ')}",
        "",
        _table(words["benchmark heads"].split("|"), rows),
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
    """A table without the columns in which nothing stands."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    head, *rows = ([line[i] for i in kept] for line in (head, *rows))
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    # A bar in a cell, as in |Δx|, would end it.
    return text.replace("|", "\\|").replace("\n", " ")


def _verdict(found: str | None, words: Mapping[str, str], *, must: bool = True) -> str:
    if found is None:
        return ""
    return f"**{words[found]}**" if found == "missed" and must else words[found]


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


def _seconds(seconds: float, words: Mapping[str, str]) -> str:
    if seconds < 600:
        return words["seconds"].format(_number(seconds))
    return words["minutes"].format(_number(seconds / 60))


def _machine(content: dict[str, Any], words: Mapping[str, str]) -> str:
    machine, versions = content["machine"], content["versions"]
    devices = [d for d in machine.get("devices", []) if not d.startswith("cpu")]
    where = words["machine"].format(machine["processor"], machine["cores"])
    return (
        f"{', '.join([where, *devices])}; stemrl {versions['stemrl']}, JAX {versions['jax']},"
        f" MuJoCo {versions['mujoco']}"
    )


def _where(content: dict[str, Any], words: Mapping[str, str]) -> str:
    """How many cores, and which accelerator."""
    machine = content["machine"]
    devices = [d for d in machine.get("devices", []) if not d.startswith("cpu")]
    return ", ".join([words["cores"].format(machine["cores"]), *devices])


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


if __name__ == "__main__":
    every = {name: entry.load() for name, entry in registry.CARDS.items()}
    for stale in (ROOT / "docs" / GALLERY).glob("*.svg"):
        stale.unlink()
    for file, text in pages(ROOT / "results", every).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
