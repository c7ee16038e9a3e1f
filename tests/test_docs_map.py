"""What the pages say exists does: paths, commands with their flags, methods and families; and the
Chinese pages say the same as the English ones."""

import json
import posixpath
import re
import shlex
from pathlib import Path

import pytest

from stemrl.cli import COMMANDS, main
from stemrl.cli.parser import Parser
from stemrl.registry import CARDS, FAMILIES, METHODS
from test_public_names import hooks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("README*.md")),
    *(p for p in sorted(DOCS.rglob("*.md")) if p.parent.name != "api"),
]
# Their commands are run, on files that the pages hold (`test_docs_pages`).
RUN_ELSEWHERE = {"own-family.md", "own-mjcf.md", "own-method.md", "recipes.md"}
BLOCK = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
TRANSLATED = {
    "README.zh.md": "README.md",
    **{
        p.relative_to(ROOT).as_posix(): f"docs/{p.relative_to(DOCS / 'zh').as_posix()}"
        for p in (DOCS / "zh").rglob("*.md")
    },
}
LINK = re.compile(r"\]\(([^)\s]+)\)")
SIGNED = r"−\d+(?:\.\d+)?"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(text: str) -> list[str]:
    """The lines of shell blocks, and `stemrl …` in running text, without prompts and remarks."""
    blocks = [block for kind, block in BLOCK.findall(text) if kind in ("sh", "console")]
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    lines += [code for code in CODE.findall(BLOCK.sub("", text)) if code.startswith("stemrl ")]
    return [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines if line.strip()]


class Parsed(BaseException):
    """A command was understood; nothing of it shall be run, nor said to have failed."""


VENV = "python3 -m venv .venv && source .venv/bin/activate"


def understand(line: str) -> None:
    """Raises what is wrong with a command line; runs nothing."""
    program, *words = shlex.split(line.replace(" RUN", " runs/x"))
    if program == "pip" and words[-1] == ".":  # from a checkout, as tests/test_docs_pages.py has it
        assert words[:-1] == ["install", "-c", "constraints.txt"], line
    elif program == "pip":
        extra = re.fullmatch(r"stemrl\[(\w+)\]", words[-1])
        assert extra and re.search(
            rf"^{extra[1]} = ", (ROOT / "pyproject.toml").read_text(), re.M
        ), line
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif program == "export":
        assert all("=" in word for word in words), line
    elif program in ("source", "python3"):
        assert line in ("source .venv/bin/activate", VENV), line
    elif program == "python":
        assert (ROOT / words[0]).exists(), line
    elif len(words) == 1:
        # A command by its name alone, in running text.
        assert program == "stemrl" and words[0] in [*COMMANDS, "--help"], line
    else:
        assert program == "stemrl", line
        with pytest.raises(Parsed):
            main(words)


@pytest.fixture
def nothing_runs(monkeypatch, tmp_path):
    """Commands stop once their flags are parsed. One reads a run's configuration before."""
    parse = Parser.parse

    def stop(self: Parser, arguments):
        parse(self, arguments)
        raise Parsed

    monkeypatch.setattr(Parser, "parse", stop)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    config = {"method": "maml", "family": "half-cheetah-vel"}
    (tmp_path / "runs" / "x" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in RUN_ELSEWHERE], ids=name_of)
def test_every_command_is_understood(page: Path, nothing_runs, capsys):
    for line in commands(page.read_text(encoding="utf-8")):
        understand(line)


@pytest.mark.parametrize("line", ["stemrl train maml nowhere", "stemrl train maml bandit --oops 1"])
def test_a_wrong_command_is_not(line: str, nothing_runs, capsys):
    with pytest.raises(pytest.fail.Exception):
        understand(line)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    for code in CODE.findall(BLOCK.sub("", text)):
        if re.match(r"(src|docs|tests|benchmarks|results)/[\w./-]*$", code):
            assert (ROOT / code).exists(), code
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_section_is_empty(page: Path):
    text = BLOCK.sub("code", page.read_text(encoding="utf-8"))  # `# …` in a shell is no heading
    headings = list(re.finditer(r"^(#+) (.+)$", text, re.MULTILINE))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        end = len(text) if following is None else following.start()
        deeper = following is not None and len(following[1]) > len(heading[1])
        assert deeper or text[heading.end() : end].strip(), heading[2]


SECTIONS = (
    *("The problem", "The idea", "Can I use it?", "Run it", "Metrics", "Settings that matter"),
    *("Departures from the paper", "Where it fails", "Cite"),
)
"""Of every page on a method; others may stand between them."""


NOT_ONE_METHOD = {"few-shot", "multi-task"}
"""Pages beside those of the methods: what compares learners, and what is no method but a setting."""


def test_every_method_has_a_page_by_its_name():
    assert {
        page.stem for page in (DOCS / "methods").glob("*.md")
    } == METHODS.keys() | NOT_ONE_METHOD


@pytest.mark.parametrize("name", sorted({*METHODS, "multi-task"}))
def test_every_method_s_page_has_the_template_s_sections(name: str):
    text = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    text = text.replace("from the papers", "from the paper")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize("page", ["map.md", "zh/map.md"])
def test_the_map_names_what_there_is(page: str):
    text = (DOCS / page).read_text(encoding="utf-8")
    said = set(CODE.findall(text))
    assert METHODS.keys() <= said, METHODS.keys() - said
    named = re.findall(r"(?:[Mm]ethod|方法) ?`([a-z0-9-]+)`", text)
    assert len(named) >= 5 and set(named) <= METHODS.keys()
    named = re.findall(r"(?:[Ff]amily|任务族) ?`([a-z0-9-]+)`", text)
    assert len(named) >= 2 and set(named) <= FAMILIES.keys()


@pytest.mark.parametrize(("translation", "original"), sorted(TRANSLATED.items()))
def test_a_translation_says_the_same(translation: str, original: str):
    theirs, ours = ((ROOT / name).read_text(encoding="utf-8") for name in (original, translation))
    assert BLOCK.findall(ours) == BLOCK.findall(theirs)
    # Results are signed, and so are no other numbers.
    assert re.findall(SIGNED, ours) == re.findall(SIGNED, theirs)
    sections = [re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE) for text in (ours, theirs)]
    assert sections[0] == sections[1]
    mentioned = [set(CODE.findall(BLOCK.sub("", text))) for text in (ours, theirs)]
    assert mentioned[0] == mentioned[1]


def test_the_lecture_s_letters_have_names_that_there_are():
    text = (DOCS / "the-one-idea.md").read_text(encoding="utf-8")
    table = text.partition("## The lecture's letters")[2].partition("## ")[0]
    named = {word for code in CODE.findall(table) for word in re.findall(r"[A-Za-z_]{2,}", code)}
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    assert len(named) > 30 and named <= set(re.findall(r"\w+", source))


def links(page: str) -> set[str]:
    """Where a page's links lead, seen from the repository's root."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return {
        link if ":" in link else posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        for link in LINK.findall(text)
        if not link.startswith("#")
    }


@pytest.mark.parametrize(("translation", "original"), sorted(TRANSLATED.items()))
def test_a_translation_links_to_the_same(translation: str, original: str):
    """Each page links to the other, and to the same things as the other, in Chinese where there are
    in Chinese."""
    ours, theirs = links(translation) - {original}, links(original) - {translation}
    assert original in links(translation) and translation in links(original)
    chinese = {there: here for here, there in TRANSLATED.items()}
    for picture in (DOCS / "images").rglob("*.zh.svg"):
        file = picture.relative_to(ROOT).as_posix()
        chinese[file.replace(".zh.", ".")] = file
    pages = [(link.partition("#")[0], link) for link in theirs]
    # Chinese headings have other anchors; cards on the page of results have the same.
    assert {link for link in ours if not link.startswith("docs/zh/results.md#")} == {
        chinese.get(page, link) for page, link in pages if not link.startswith("docs/results.md#")
    }
    cards = [{link.partition("results.md")[2] for link in some} for some in (ours, theirs)]
    assert cards[0] == cards[1]


def test_every_page_offers_itself_in_both_languages():
    pages = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}
    for page in pages:
        offered = hooks.in_languages(page, pages)
        language = hooks.language_of(page)
        assert offered[language] == page and set(offered.values()) <= pages
    for translation, original in TRANSLATED.items():
        if translation.startswith("docs/"):
            expected = {"en": original.removeprefix("docs/"), "zh": translation[len("docs/") :]}
            assert hooks.in_languages(expected["en"], pages) == expected
            assert hooks.in_languages(expected["zh"], pages) == expected
    assert hooks.in_languages("api/core.md", pages)["zh"] == "zh/index.md"


def test_the_chinese_readme_lists_what_the_registry_knows():
    text = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[?`([\w-]+)`", text, re.MULTILINE)
    assert sorted(listed) == sorted([*METHODS, *FAMILIES])


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_a_readme_shows_the_picture_and_the_two_commands(readme: str):
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert "](docs/images/adaptation.svg)" in text
    assert "$ make demo" in text and "$ make test" in text


@pytest.mark.parametrize("page", ["map.md", "zh/map.md"])
def test_the_map_names_every_card(page: str):
    text = (DOCS / page).read_text(encoding="utf-8")
    reproduced = {line.split()[2] for line in commands(text) if line.startswith("stemrl reproduce")}
    assert reproduced - {"CARD"} == CARDS.keys()


def test_code_that_is_not_run_is_shown_as_code():
    text = hooks.on_page_markdown("```sh no-run\na\n```\n", None, None, None)
    assert text == "```sh\na\n```\n"
