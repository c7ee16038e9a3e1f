"""Exported runs, and the trained agents that come with the package."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import stemrl
from stemrl.agents import folder, open_agent
from stemrl.agents.recipes import RECIPES
from stemrl.cli import main
from stemrl.errors import UserError
from stemrl.registry import AGENTS
from stemrl.runs import Run, export, resume, train
from test_runs import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two seeds of `Tiny`."""
    return train(tiny(250, seeds=2), tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.fixture(scope="module")
def exported(run: Run) -> Run:
    return export(run, run.path.parent / "exported")


def test_an_exported_run_plays_as_the_run_does(run: Run, exported: Run):
    assert exported.config == run.config and exported.exported and not run.exported
    for seed in (0, 1):
        ours, theirs = (one.agent(seed=seed) for one in (exported, run))
        np.testing.assert_array_equal(ours.weight, theirs.weight)
    found, wanted = (stemrl.evaluate(one, tasks=4).as_dict() for one in (exported, run))
    assert found == wanted
    with pytest.raises(UserError, match="there is no 2"):
        exported.agent(seed=2)


def test_an_exported_run_keeps_its_curve_and_drops_its_state(run: Run, exported: Run):
    rows = exported.metrics()
    evaluations = [row for row in run.metrics() if row["kind"] == "evaluation"]
    assert [row for row in rows if row["kind"] == "evaluation"] == evaluations
    updates = sorted({row["update"] for row in rows if row["kind"] == "update"})
    assert updates[0] == 1 and updates[-1] == 250 and 50 <= len(updates) <= 101
    names = {file.name for file in exported.path.rglob("*") if file.is_file()}
    assert names == {"config.json", "metrics.jsonl", "state.safetensors", "manifest.json"}
    (agents,) = (exported.path / "agents").iterdir()
    leaves = json.loads((agents / "manifest.json").read_text())["leaves"]
    assert set(leaves) == {f"{seed}/{name}" for seed in (0, 1) for name in ("weight", "bias")}


def test_an_exported_run_cannot_learn_on(exported: Run, tmp_path: Path):
    for learn_on in (exported.state, lambda: resume(exported.path, progress=False)):
        with pytest.raises(UserError, match=r"play but cannot learn on; train anew"):
            learn_on()
    with pytest.raises(UserError, match="exported already"):
        export(exported, tmp_path / "again")
    with pytest.raises(UserError, match="in the way"):
        export(Run.open(exported.path.parent / "run"), exported.path)


def test_a_damaged_agent_is_not_played(exported: Run, tmp_path: Path):
    shutil.copytree(exported.path, tmp_path / "damaged")
    (state,) = (tmp_path / "damaged" / "agents").glob("*/state.safetensors")
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(UserError, match="does not match its checksum"):
        Run.open(tmp_path / "damaged").agent()


def test_export_on_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(run.path), str(tmp_path / "out"), "--checkpoint", "best"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    np.testing.assert_array_equal(
        Run.open(tmp_path / "out").agent().weight, run.agent("best").weight
    )
    for words, line in (
        (["x.png"], "neither"),
        ([str(tmp_path / "out")], "in the way"),
    ):
        assert main(["export", str(run.path), *words]) == 2
        assert line in capsys.readouterr().err


# The ones that come with the package.


def test_every_agent_is_small_and_made_by_its_recipe():
    assert set(AGENTS) == set(RECIPES)
    assert {path.parent.name for path in folder().glob("*/config.json")} == set(AGENTS)
    for name in AGENTS:
        found = open_agent(name)
        # Settings that came later have their defaults.
        assert found.config.resolved() == RECIPES[name].resolved()
        assert found.summary["steps"] >= found.config.steps
        size = sum(file.stat().st_size for file in found.path.rglob("*") if file.is_file())
        assert size < 300_000


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        # Bayes-optimal: 4.0 in the first episode, 11.07 in each later one.
        ("rl2-gridnavi", 2.0, 9.5),
        ("varibad-gridnavi", 2.0, 9.5),
        # Of at most about 8; before a reward is met it tries one place after another.
        ("pearl-point-sparse", -0.1, 2.0),
        # The authors' MAML: −40.4 and −11.7.
        ("maml-point-2d", -60.0, -20.0),
        # One flip less than there are wrong bits, five on average.
        ("her-bit-flip", -4.5, -4.5),
    ],
)
def test_every_agent_does_what_it_is_shown_for(name: str, before: float, after: float):
    # A search for what pays only where it is takes longer than a trial of the family's.
    episodes = 15 if name == "pearl-point-sparse" else None
    points = stemrl.evaluate(name, tasks=40, episodes=episodes).points
    assert points[0]["mean"] > before
    assert points[-1]["mean"] > after
    if name != "her-bit-flip":
        assert points[-1]["low"] > points[0]["high"]


def test_a_name_is_as_good_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert stemrl.load("rl2-gridnavi").path == folder() / "rl2-gridnavi"
    with pytest.raises(UserError, match=r"did you mean 'rl2-gridnavi'\?"):
        stemrl.load("rl2-gridnavy")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder() / "maml-point-2d", "rl2-gridnavi")
    assert stemrl.load("rl2-gridnavi").config.method == "maml"
    with pytest.raises(UserError, match="unknown agent 'rl2'"):
        open_agent("rl2")
    assert main(["list", "agents", "--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} == set(AGENTS)
