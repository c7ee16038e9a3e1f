"""The pages on families and methods of one's own are run as they stand: files, Python and commands.
The first pages are followed in a fresh shell."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from stemrl.cli import main
from stemrl.errors import ELSEWHERE

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["own-family.md", "own-mjcf.md", "own-method.md", "recipes.md"])
def test_a_page_runs(page: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace: dict = {}
    ran = {"files": 0, "python": 0, "commands": 0}
    for language, options, text in BLOCK.findall((DOCS / page).read_text()):
        title = re.search(r'title="(.+?)"', options)
        if title:
            Path(title[1]).write_text(text)
            ran["files"] += 1
        elif language == "python" and "no-run" not in options:
            exec(compile(text, page, "exec"), namespace)
            ran["python"] += 1
        elif language == "sh" and "no-run" not in options:
            for line in text.strip().splitlines():
                program, *arguments = shlex.split(line)
                assert program == "stemrl"
                assert main(arguments) == 0, (line, capsys.readouterr().err)
                ran["commands"] += 1
    assert min(ran.values()) > 0, ran
    assert re.search(r"-?\d+\.\d+", capsys.readouterr().out)
    if page == "own-method.md":
        # What is learned is worth something from the first point to the last.
        for with_it, without in zip(
            namespace["learned"].points, namespace["fresh"].points, strict=True
        ):
            assert with_it["iqm"] > without["iqm"]


def test_the_words_of_others_are_answered_as_the_page_says():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in page.splitlines() if row.startswith("| `")]
    words = [(re.findall(r"`(\w+)`", a), re.findall(r"`(\w+)`", b)) for a, b in rows]
    known = [(word, ours) for theirs, ours in words for word in theirs if word in ELSEWHERE]
    assert len(known) >= 16
    assert [word for word, ours in known if ELSEWHERE[word] not in ours] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boat.py:Boat", "no Python file"),
        ("nowhere.at_all:Boat", "no 'Boat' in nowhere.at_all"),
        ("stemrl.tasks.point:Point3D", "no 'Point3D' in stemrl.tasks.point"),
        ("stemrl.tasks.point:PointEnv", "is the class PointEnv, not a family"),
        ("stemrl.rl.ppo:PPO", "is the class PPO, not a family"),
    ],
)
def test_a_wrong_path_is_one_clear_line(name: str, message: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", name, "--steps", "1"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error, error


REPOSITORY = DOCS.parent
FIRST_PAGES = ("README.md", "README.zh.md", "docs/quick-start.md", "docs/zh/quick-start.md")


def commands(page: str) -> list[str]:
    """What a reader is shown after a `$`, from the top of the page on."""
    text = (REPOSITORY / page).read_text()
    blocks = [block for language, _, block in BLOCK.findall(text) if language == "console"]
    shown = [line[2:] for line in "".join(blocks).splitlines() if line.startswith("$ ")]
    return [line.partition("  #")[0].strip() for line in shown]


@pytest.mark.parametrize("page", FIRST_PAGES)
def test_who_follows_a_first_page_finds_the_command(page: str):
    """Before `stemrl` is named first, the shell was told where it is; what the lines about it need is
    there; and those that take no time answer in a fresh shell."""
    if not (REPOSITORY / ".venv/bin/activate").exists():
        pytest.skip("this checkout has no .venv, which make sets up")
    shown = commands(page)
    first = next(i for i, line in enumerate(shown) if line.startswith("stemrl"))
    before = shown[:first]
    assert "make demo" in before and "source .venv/bin/activate" in before
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line in before:
        program, *words = shlex.split(line)
        assert program != "make" or words[0] in targets
        assert all((REPOSITORY / w).exists() for w in words if w.endswith(".txt"))
    quick = [line for line in shown[first:] if re.match(r"stemrl (list|--help)", line)]
    follow = ["source .venv/bin/activate", *(quick or ["stemrl --help"])]
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--noprofile", "--norc", "-ec", "\n".join(follow)],
        cwd=REPOSITORY, env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}, timeout=100,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.long
def test_the_library_by_itself_installs_and_runs(tmp_path: Path):
    """The lines of the README that install it, in a copy of what is committed and a fresh shell."""
    archive = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", "HEAD", "-o"]
    if subprocess.run([*archive, str(tmp_path / "all.tar")], capture_output=True).returncode:
        pytest.skip("this is no checkout")
    subprocess.run(["tar", "-xf", "all.tar"], cwd=tmp_path, check=True)
    lines = [line for line in commands("README.md") if "venv &&" in line or line.startswith("pip")]
    done = subprocess.run(
        ["bash", "-ec", "\n".join([*lines, "cd /", "stemrl evaluate thompson bandit --tasks 2"])],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0 and "thompson on 2 test tasks" in done.stdout, done.stderr
