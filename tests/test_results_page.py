"""The pages of results and their figures are what `docs/make_results.py` makes of the measured files, and
hide nothing."""

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stemrl import registry
from stemrl.cards import Card, Measure
from stemrl.cards.figure import figure

ROOT = Path(__file__).parent.parent


def load_script() -> Any:
    file = ROOT / "docs" / "make_results.py"
    spec = importlib.util.spec_from_file_location("make_results", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()

MACHINE = {"processor": "Some CPU", "cores": 2, "devices": ["cpu: cpu", "gpu: Some GPU"]}
VERSIONS = {"stemrl": "0.1.0", "jax": "0.10.2", "mujoco": "4.0.0"}


def toy(note: str, measures: Sequence[Measure] = (), **words: Any) -> Card:
    return Card("toy", "Toys learn", "Toy 2001, Table 1", lambda _: measures, note=note, **words)


def result(measures: list[Measure], scale: Any = "full") -> dict[str, Any]:
    return toy("We *tried*.", measures).result(
        measures,
        scale=scale,
        seeds=3,
        seconds=754.0,
        settings={},
        machine=MACHINE,
        versions=VERSIONS,
    )


def write(folder: Path, kind: str, name: str, content: dict[str, Any]) -> None:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / kind / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    every = {name: entry.load() for name, entry in registry.CARDS.items()}
    return script.pages(ROOT / "results", every)


def test_pages_and_figures_are_what_the_files_say(made):
    for file, text in made.items():
        assert file.exists() and file.read_text(encoding="utf-8") == text, (
            f"results changed ({file.name}): run python docs/make_results.py"
        )
    assert set((ROOT / "docs" / script.GALLERY).iterdir()) <= made.keys()


def test_no_paragraph_is_long(made):
    """At most five lines on the site, of about ninety letters."""
    text = made[ROOT / "docs" / "results.md"]
    plain = re.sub(r"\]\([^)]*\)", "]", text)
    prose = [
        part
        for part in plain.split("\n\n")
        if not part.lstrip().startswith(("|", "- ", "<", "!", "[!"))
    ]
    assert [part for part in prose if len(part) > 460] == []


def test_every_method_s_page_shows_what_was_measured():
    assert {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")} == set(script.MEASURED)
    named = {name for names in script.MEASURED.values() for name in names.replace(";", "").split()}
    assert named <= registry.CARDS.keys()


def test_every_card_has_a_chinese_title():
    assert json.loads(script.TITLES.read_text(encoding="utf-8")).keys() == registry.CARDS.keys()


def test_every_row_has_a_chinese_name():
    """And no two rows of a card the same one."""
    names = json.loads(script.ROWS.read_text(encoding="utf-8"))
    for file in sorted((ROOT / "results" / "cards").glob("*.json")):
        rows = [row["name"] for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]
        missing = [row for row in rows if row not in names]
        assert not missing, f"{file.name} has {missing}: add it to docs/zh/rows.json"
        chinese = [names[row] for row in rows]
        alike = {name for name in chinese if chinese.count(name) > 1}
        assert not alike, f"{file.name}: two rows are {alike} in docs/zh/rows.json"


def test_reached_and_missed_stand_side_by_side(tmp_path):
    measures = [
        Measure("return", [1.0, 2.0, 3.0], published=-2.5, bar=1.5),
        Measure("return |after|", [1.0, 1.0, 1.0], bar=1.5),
        Measure("ours − theirs", [-0.5, 0.1, 0.6], low_bar=0.0),
        Measure("the optimum", [4.0], published=4.0),
        Measure("hoped for", [1.0, 1.0], bar=2.0, must=False),
        Measure("share", [0.9, 0.9], bar=0.5, aim=0.95),
    ]
    write(tmp_path, "cards", "toy", result(measures))
    (tmp_path / "cards" / "toy.png").touch()
    text = script.page(
        tmp_path,
        {
            "toy": toy(
                "We *tried again*.",
                differs=("A step is longer.",),
                tried=(("a shorter one", "worse"),),
                revised="longer steps.",
            ),
            "another": toy(""),
        },
    )
    assert "| return | −2.5 | 2 | [−0.4841, 4.484] | ≥ 1.5 | at the bar |" in text
    assert "| return \\|after\\| |  | 1 | [1, 1] | ≥ 1.5 | **missed** |" in text
    assert "| interval excludes 0 | **missed** |" in text
    assert "| the optimum | 4 | 4 |  |  |  |" in text
    chinese = script.page(tmp_path, {"toy": toy("")}, "zh")
    assert "| return | −2.5 | 2 | [−0.4841, 4.484] | ≥ 1.5 | 恰在标准上 |" in chinese
    assert "[![Toys learn](images/gallery/toy.svg)<br>Toys learn](#toy) **missed**" in text
    assert "| hoped for |  | 1 | [1, 1] | aim: ≥ 2 | missed |" in text
    assert "| share |  | 0.9 | [0.9, 0.9] | ≥ 0.5, aim 0.95 | reached, aim missed |" in text
    assert "*Revised after its bar was seen:* longer steps." in text
    assert "- A step is longer." in text and "| a shorter one | worse |" in text
    assert "3 seeds, 12.57 minutes, on Some CPU, 2 cores, gpu: Some GPU; stemrl 0.1.0" in text
    assert "![Toys learn](../results/cards/toy.png)" in text
    assert "We *tried again*." in text and "Not run at full scale yet: `another`." in text


def test_a_benchmark_that_misses_says_so(tmp_path):
    rows = [
        {"name": "a", "ours": 20_000.0, "theirs": 10_000.0, "ratio": 2.0, "bar": 1.5, "unit": "x"},
        {"name": "b", "ours": 1.0, "theirs": 1.0, "ratio": 1.0, "bar": 1.5},
        {"name": "c", "ours": 1.0, "theirs": 1.0, "ratio": 0.849996, "bar": 0.85},
    ]
    content = {
        "rows": rows,
        "setting": {"toys": 3, "kinds": "few"},
        "theirs": "on the same table",
        "machine": MACHINE,
        "versions": VERSIONS,
    }
    write(tmp_path, "benchmarks", "start_up", content)
    text = script.page(tmp_path, {})
    assert "| a | 20,000 x | 10,000 x | 2 | ≥ 1.5 | reached |" in text
    assert "| b | 1 | 1 | 1 | ≥ 1.5 | **missed** |" in text
    # Rounded to four digits it would be the bar itself.
    assert "| c | 1 | 1 | 0.849996 | ≥ 0.85 | **missed** |" in text
    assert "Theirs: on the same table. Toys 3, kinds few. `python benchmarks/start_up.py`" in text
    assert "There is no card yet." in text


def test_a_figure_marks_claims_published_numbers_and_optima():
    measures = [
        Measure("ours, easy", [1.0, 2.0, 3.0], published=2.5, bar=1.5),
        Measure("ours, hard", [1.0, 1.0, 1.0], bar=1.5),
        Measure("Bayes-optimal, easy (exact)", [3.0]),
        Measure("ours − theirs (paired)", [0.19, 0.2, 0.21], low_bar=0.0),
    ]
    text = figure(result(measures))
    ET.fromstring(text)
    assert [text.count(f'"{kind}"') for kind in ("mean at", "mean missed", "published")] == [
        1,
        1,
        2,
    ]
    # One on the strip of its condition, one in the legend; it has no strip of its own.
    assert text.count('"optimum"') == 2 and "Bayes" not in text
    # Differences have an axis of their own.
    assert text.count('class="zero"') == 1
    with pytest.raises(LookupError, match="nothing"):
        figure(result(measures), ["nothing"])


def test_a_figure_in_chinese_breaks_its_lines_between_phrases():
    long = "在全部目标上训练而不是只在略去的那一半里的目标上训练"
    names = {
        "a": "目标环境里的回报，用 DARC 的目标步数在那里微调",
        "b": f"RL²，{long}",
        "c": "贪心",
    }
    measures = [Measure(name, [1.0, 2.0, 3.0], bar=1.5) for name in names]
    text = figure(result(measures), words=names | {"at the bar": "恰在标准上"}, language="zh")
    ET.fromstring(text)
    lines = re.findall('class="name"[^>]*>([^<]*)<', text)
    assert lines[:2] == ["目标环境里的回报，", "用 DARC 的目标步数在那里微调"]
    assert "".join(lines[2:-1]) == f"RL²，{long}" and lines[-1] == "贪心"
    # 12 pixels a letter, beside a number and a verdict of about 90.
    assert max(map(len, lines)) * 12 < 360 - 20 - 90
    assert 'lang="zh"' in text and "恰在标准上" in text and "at the bar" not in text
    # What has no translation stays as it is.
    assert ">ours<" in text


def test_quick_numbers_are_refused(tmp_path):
    write(tmp_path, "cards", "toy", result([Measure("return", [1.0])], scale="quick"))
    with pytest.raises(SystemExit, match="quick"):
        script.page(tmp_path, {})


def test_a_number_in_a_text_is_read_from_its_card(tmp_path):
    write(tmp_path, "cards", "toy", result([Measure("a − b", [-0.5, -1.5])]))
    text = "It has <!--=toy::a − b::.1f[]-->7<!--/--> in <!--=toy::::minutes-->?<!--/--> minutes."
    told = re.sub("<!--.*?-->", "", script.numbered(text, tmp_path))
    assert told == "It has −1.0 [−7.4, 5.4] in 13 minutes."
    with pytest.raises(SystemExit, match="no row 'b'"):
        script.numbered("<!--=toy::b::.1f--><!--/-->", tmp_path)
