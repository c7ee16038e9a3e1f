"""The pages on families and methods of one's own are run as they stand: files, Python and commands."""

import re
import shlex
from pathlib import Path

import pytest

from stemrl.cli import main

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["own-family.md", "own-mjcf.md", "own-method.md"])
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
        elif language == "python":
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
