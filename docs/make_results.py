"""Write `results.md`, in both languages, and its gallery from what cards and benchmarks measured, and the
table of `transfer.md`, and what methods' pages show: python docs/make_results.py

Nothing on those pages, and in those tables, is written by hand; a test compares them with the files that
they are made from.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemrl import registry
from stemrl.cards.card import Card, aim_verdict, verdict, worst
from stemrl.cards.figure import figure
from stemrl.cli.output import number

ROOT = Path(__file__).resolve().parent.parent
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

MEASURED = {
    "finetune": "finetune-supervised maxent-finetune; finetune-reversal",
    "dann": "dann-pixels; dann-biased",
    "dann-supervised": "dann-moons; dann-digits",
    "epopt": "epopt-adapt epopt-hopper; free-lunch epopt-cartpole",
    "darc": "darc-grid darc-half-cheetah-broken ant-disk; darc-reverse",
    "multi-task": "contextual-generalisation multi-task-speed-up",
    "her": "her-reacher her-bit-flip; goals-cannot-say",
    "dg-learning": "dg-grid",
    "uvfa": "uvfa-rooms",
    "goal-dreaming": "dream-goals",
    "maml": "maml-point-2d surrogates; maesn-point",
    "maesn": "maesn-point",
    "rl2": "rl2-gridnavi two-step; meta-support",
    "variational-rnn": "latent-deadlock",
    "varibad": "varibad-gridnavi",
    "pearl": "pearl-point-sparse",
    "rdpg": "recurrent-control",
    "rsvg": "recurrent-control",
    "dpt": "dpt-bandit",
    "maml-supervised": "maml-sinusoid glyphs-all",
    "few-shot": "sinusoid-all glyphs-all",
    "rnn-supervised": "sinusoid-all",
    "snail-supervised": "glyphs-all",
    "cnp": "sinusoid-all",
    "learned-optimizer": "sinusoid-all",
    "pretrained-supervised": "finetune-supervised; maml-sinusoid",
    "scratch-supervised": "sinusoid-all",
    "ppo": "context-or-not; epopt-cartpole",
    "trpo": "maml-point-2d",
    "sac": "maxent-finetune",
    "td3": "her-reacher",
    "dqn": "her-bit-flip",
}
"""Cards that the page of a method shows, and after a semicolon those of its failure. A method without a
card of its own shows one that it has part in."""
PICTURE = {
    "maxent-finetune": "paths", "maesn-point": "solved", "pearl-point-sparse": "paths",
    "surrogates": "bias", "uvfa-rooms": "values", "dream-goals": "frontier",
    "epopt-adapt": "cart-pole", "meta-support": "left-out",
}  # fmt: skip
"""Which of a card's pictures its method's page shows, where it is not the first."""

NUMBERED = ("which-one.md", "methods/few-shot.md")
"""Pages in whose text single numbers of cards stand; see `numbered`."""
NUMBER = re.compile(r"<!--=(.+?)::(.*?)::(.*?)-->.*?<!--/-->")
LANGUAGES = {"en": ROOT / "docs", "zh": ROOT / "docs" / "zh"}
"""Where each language has its pages, by the same names."""
TITLES = ROOT / "docs" / "zh" / "titles.json"
"""The cards' titles in Chinese; all else that a card says stays in English, marked as such."""
GALLERY = "images/gallery"
"""Below `docs/`: a figure for each card that has run."""
PARAGRAPH = 400
"""Letters of a paragraph that still is at most five lines on the site."""

CHAPTERS = {
    "forward transfer": (
        "finetune-supervised finetune-reversal maxent-finetune dann-moons dann-digits dann-pixels"
        " dann-biased darc-grid darc-reverse darc-half-cheetah-broken darc-families ant-disk"
        " epopt-cartpole epopt-hopper epopt-adapt free-lunch context-or-not"
    ),
    "multi-task": (
        "contextual-generalisation multi-task-speed-up breadth goals-cannot-say world-choice"
        " her-bit-flip her-reacher her-fetch-reach dg-grid uvfa-rooms dream-goals"
    ),
    "meta-learning": "",
}
"""Cards by chapter, in the order of the page; those of no other are the last one's."""

MAIN_ROWS = {
    "glyphs-all": (
        "SNAIL, 1 shot", "CNP, 1 shot", "MAML, 1 shot", "nearest neighbour in pixels, 1 shot",
        "MAML, 5 shots", "nearest neighbour in pixels, 5 shots",
    ),
    "multi-task-speed-up": tuple(
        f"{family}, {how}: steps alone over steps together"
        for family in ("point-conflict", "hopper-tasks", "half-cheetah-vel")
        for how in ("one network", "heads and PCGrad")
    ),
    "rl2-bandit": (
        "RL², n = 10, k = 5", "Thompson sampling, n = 10, k = 5", "greedy, n = 10, k = 5",
        "RL², n = 100, k = 10", "Thompson sampling, n = 100, k = 10", "greedy, n = 100, k = 10",
    ),
    "maml-point-2d": tuple(
        f"{who} after {steps} gradient step{'' if steps == 1 else 's'}"
        for who in ("MAML", "pretrained on all goals,") for steps in (1, 2, 3)
    ),
    "stem-cell": (
        "MAML: cosine of way and heading, after", "MAML: cosine of way and heading, before",
        "never trained: cosine of way and heading, after", "MAML: displacement before over after",
    ),
    "darc-grid": (
        "largest error of Δr (nats)", "success in the target, DARC",
        "success in the target, source only", "success in the target, one classifier on (s, a)",
        "success in the target, trained there on DARC's target steps alone",
    ),
    "context-or-not": (
        "return, told the parameters", "return, not told, randomised per episode",
        "return, nominal hopper only", "told − not told (paired)",
        "randomised − nominal (paired)",
    ),
    "uvfa-rooms": (
        "policy quality, rank 7, two stages", "of the best table of rank 3, exact",
        "of the best table of rank 7, exact", "policy quality, goals never trained on",
        "goals in the room that was never trained on", "how many times fewer two stages need",
    ),
}  # fmt: skip
"""Rows of a card's figure, where those that it would choose by itself do not say the most."""

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "opening": """# Results

[中文](zh/results.md)

Every number on this page was measured by a command that is named beside it, and is read from the
files in `results/` by `docs/make_results.py`; none is typed in. What was missed is here as well as
what was reached.

## Gallery

A figure for each card, which leads to its table. The disc is ours and the bar around it the 95% interval
over training seeds; a diamond is the published number, a triangle the exact optimum. A line with a shaded
side is what is claimed: green where it is reached, yellow at the bar, orange where it is missed. Rows of one
size share an axis.
""",
        "cards": """## Published results

A *card* is a published result and the setting that is to give ours. `stemrl reproduce CARD` trains,
evaluates, prints the paper's numbers beside ours and writes the file that stands here.

- *Ours* is a mean over training seeds, beside it the 95% t interval over seeds; a row without an interval
  is of one seed, or of what has none.
- A row with a *bar* is a claim. It is *reached* if the mean meets the bar and the interval lies wholly on
  its side, *at the bar* if the mean meets it and the interval does not exclude a miss, and **missed**
  otherwise. A claim that one beats another is reached only if the interval excludes 0.
- An *aim* is what one hopes for: missed, it is printed as such. A row with neither stands there for
  comparison.
- The bar is what this library asks of itself, and need not be the paper's number.
""",
        "speed": """## Speed

`make bench`. Where a row says *in turns*, and where the other side is a limit or another part of this
library, both were measured in one run, alternating; a *fixed figure* of another library was once measured
on two cores. The ratio says how many times better ours is.
""",
        "forward transfer": "Forward transfer",
        "multi-task": "Multi-task",
        "meta-learning": "Meta-learning",
        "not run": "Not run at full scale yet: {}.",
        "no card": "There is no card yet.",
        "no benchmark": "Nothing was measured yet.",
        "published": "Published: {}. Run: {}.",
        "methods": " Methods: {}.",
        "heads": "|published|ours|95% interval|bar|verdict",
        "benchmark heads": "|ours|theirs|ratio|bar|verdict",
        "tried heads": "tried|gave",
        "reached": "reached",
        "at the bar": "at the bar",
        "missed": "missed",
        "excludes": "interval excludes {}",
        "aim": "aim {}",
        "aim:": "aim: ",
        "and": ", ",
        "list": ", ",
        "seed": "{} seed",
        "seeds": "{} seeds",
        "seconds": "{} s",
        "minutes": "{} minutes",
        "machine": "on {}, {} cores",
        "cores": "on {} cores",
        "ran": "{}, {}, {}.",
        "revised": "*Revised after its bar was seen:* {}",
        "differs": "Where it differs from the paper:",
        "tried": "What was tried",
        "theirs": "Theirs: {}.",
        "took": "{}: {}{} in {}, {}.",
        "fails": "**Where it fails:**",
        "not yet": "Not run at full scale yet: {}.",
        "by": "{}, {}.",
    },
    "zh": {
        "opening": """# 结果

[English](../results.md)

本页的每个数值都由写在旁边的命令测得，由 `docs/make_results.py` 从 `results/` 的文件读出，没有一个是手写的。没有达到的和达到的一样列出。卡片与行的名称以及说明保留英文。

## 图览

每张卡片一幅图，点击即到它的表格。圆点是我们的数值，圆点两侧的横条是对训练种子的 95% 区间；菱形是论文发表的数值，三角形是精确的最优值。带阴影一侧的竖线是所要求的标准：达到为绿色，恰在标准上为黄色，未达到为橙色。大小相近的行共用一根轴。
""",
        "cards": """## 已发表的结果

*卡片*是一个已发表的结果，连同应当给出我们的结果的设置。`stemrl reproduce CARD` 训练、评估，把论文的数值与我们的并列打印，并写出这里所用的文件。

- *我们的*是对训练种子的均值，旁边是种子之间的 95% t 区间；没有区间的行只有一个种子，或者本来就没有种子。
- 有*标准*的行是一项主张。均值合乎标准、区间也全在标准的一侧，为*达到*；均值合乎标准而区间不能排除未达到，为*恰在标准上*；否则为**未达到**。主张一个胜过另一个的，只有区间不含 0 才算达到。
- *期望*是所希望的：未达到时也照样写明。两者都没有的行，只供比较。
- 标准是这个库对自己的要求，不一定是论文的数值。
""",
        "speed": """## 速度

`make bench`。写着 *in turns* 的行，以及对方是一个界限或本库另一部分的行，双方在同一次运行中交替测得；写着 *fixed figure* 的，是另一个库某次在两个核上测得的数值。比值说明我们的好多少倍。
""",
        "forward transfer": "正向迁移",
        "multi-task": "多任务",
        "meta-learning": "元学习",
        "not run": "尚未以完整规模运行：{}。",
        "no card": "还没有卡片。",
        "no benchmark": "还没有测量。",
        "published": "出处：{}。运行：{}。",
        "methods": "方法：{}。",
        "heads": "|论文|我们的|95% 区间|标准|结论",
        "benchmark heads": "|我们的|对方的|比值|标准|结论",
        "tried heads": "尝试（英文）|结果",
        "reached": "达到",
        "at the bar": "恰在标准上",
        "missed": "未达到",
        "excludes": "区间不含 {}",
        "aim": "期望 {}",
        "aim:": "期望：",
        "and": "，",
        "list": "、",
        "seed": "{} 个种子",
        "seeds": "{} 个种子",
        "seconds": "{} 秒",
        "minutes": "{} 分钟",
        "machine": "{}，{} 核",
        "cores": "{} 核",
        "ran": "{}，{}，{}。",
        "revised": "*Revised after its bar was seen:* {}",
        "differs": "Where it differs from the paper:",
        "tried": "What was tried",
        "notes": "说明，以及与论文的不同（英文）",
        "theirs": "对方：{}。",
        "took": "{}：{}{}，{}，{}。",
        "fails": "**它失败的地方：**",
        "not yet": "尚未以完整规模运行：{}。",
        "by": "{}，{}。",
    },
}
"""What pages say beside numbers and the cards' own words."""


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
    for name, card in cards.items():
        made[ROOT / "docs" / GALLERY / f"{name}.svg"] = figure(card, MAIN_ROWS.get(name, ()))
    for file in (folder / name for folder in LANGUAGES.values() for name in NUMBERED):
        made[file] = numbered(made.get(file) or file.read_text(encoding="utf-8"), results)
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
    cards, benchmarks = _cards(results, known), _read(results / "benchmarks")
    if language == "zh":
        titles = json.loads(TITLES.read_text("utf-8"))
        cards = {
            name: card | {"title": titles.get(name, card["title"])} for name, card in cards.items()
        }
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
    text = CHAPTER[language].read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{_table(HEADS[language], rows)}\n{END}{rest.split(END)[1]}"


def measured(file: Path, results: Path, cards: Mapping[str, dict[str, Any]], language: str) -> str:
    """The page of a method with the figures of its cards that have run, and of its failure, and what
    they took."""
    words, up = WORDS[language], _up(language)
    titles = json.loads(TITLES.read_text("utf-8")) if language == "zh" else {}
    shown, _, failures = MEASURED[file.stem].partition("; ")
    parts = []
    for head, names in (("", shown.split()), (words["fails"], failures.split())):
        if names and head:
            parts.append(head)
        ran = [name for name in names if name in cards]
        for name in ran:
            card = cards[name]
            title = titles.get(name, card["title"])
            told = _verdict(worst(card["rows"]), words)
            link = f"{title} ([`{name}`](../results.md#{name}))"
            seeds = words["seed" if card["seeds"] == 1 else "seeds"].format(card["seeds"])
            took = words["took"].format(
                link, told + words["and"] if told else "", seeds,
                _seconds(card["seconds"], words), _where(card, words),
            )  # fmt: skip
            parts += [f"![{title}](../{up}{_picture(name, card, results)})", took]
        if missing := [f"`stemrl reproduce {name}`" for name in names if name not in ran]:
            parts.append(words["not yet"].format(words["list"].join(missing)))
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    body = "\n\n".join(parts)
    return f"{before}{BEGIN}\n{body}\n\n{END}{rest.split(END)[1]}"


def _picture(name: str, card: dict[str, Any], results: Path) -> str:
    """The picture of a card for another page, seen from `docs/`: one of its own, or its figure."""
    own = [one for one in card.get("pictures") or [f"{name}.png"]
           if (results / "cards" / one).exists()]  # fmt: skip
    chosen = [one for one in own if one == f"{name}-{PICTURE.get(name, '')}.png"] or own
    return f"../results/cards/{chosen[0]}" if chosen else f"{GALLERY}/{name}.svg"


def _gallery(cards: Mapping[str, dict[str, Any]], language: str) -> str:
    """A thumbnail for each card, which leads to its section."""
    up = _up(language)
    lines = ['<div class="gallery" markdown>', ""]
    for name, card in cards.items():
        told = _verdict(worst(card["rows"]), WORDS[language])
        lines += [
            f"[![{card['title']}]({up}{GALLERY}/{name}.svg)<br>{card['title']}](#{name})"
            f" {told}".rstrip(),
            "",
        ]
    return "\n".join([*lines, "</div>", ""])


def _up(language: str) -> str:
    """From a language's folder up to `docs/`."""
    return "../" if language == "zh" else ""


def _card(name: str, card: dict[str, Any], results: Path, language: str) -> str:
    words = WORDS[language]
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
                row["name"],
                _number(row["published"]),
                _number(row["mean"], unlike=row["bar"]),
                _interval(row["low"], row["high"]),
                claim,
                told,
            )
        )
    seeds = words["seed" if card["seeds"] == 1 else "seeds"].format(card["seeds"])
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
            while len(" ".join(first)) < half and len(first) < len(sentences) - 1:
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


PAGE_OF = {"rsvg": "rdpg", **dict.fromkeys(
    ("rnn-supervised", "snail-supervised", "cnp", "learned-optimizer", "pretrained-supervised",
     "scratch-supervised"), "few-shot"
)}  # fmt: skip
"""Pages of methods that have none of their own."""


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
        page = method if method in own else PAGE_OF.get(method, method)
        links.append(f"[`{method}`](methods/{page}.md)" if page in own else f"`{method}`")
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
