"""Trackers mirror `metrics.jsonl`: every row once, whatever happens, and never at training's cost."""

import json
import os
import struct
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stemrl.cli import main
from stemrl.errors import UserError
from stemrl.runs import Run, resume, trackers, train
from stemrl.runs.trackers import numbers, parameters
from test_runs import StopAt, rows, stopping, tiny


class Notebook:
    """A tracker that keeps everything in a list that outlives it."""

    kept: ClassVar[list[tuple[int, dict[str, float]]]]
    ids: ClassVar[list[str]]
    fails_at = 10**9

    def __init__(self, out: Path, config: Any, note: dict[str, Any]):
        self.ended = False
        self.ids.append(note["id"])

    def log(self, steps: int, values: dict[str, float]) -> None:
        if steps >= self.fails_at:
            raise ConnectionError("no network")
        self.kept.append((steps, values))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.ended = True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type[Notebook]:
    """Registered as the tracker `notebook`."""

    class Fresh(Notebook):
        kept: ClassVar = []
        ids: ClassVar = []

    monkeypatch.setitem(trackers.TRACKERS, "notebook", Fresh)
    monkeypatch.setitem(trackers.PACKAGES, "notebook", "json")
    return Fresh


def mirrored(run: Run) -> list[tuple[int, dict[str, float]]]:
    """What a tracker should hold of a finished run."""
    return [(row["steps"], numbers(row, run.config.seeds > 1)) for row in run.metrics()]


def without_clock(kept: list[tuple[int, dict[str, float]]]) -> list[Any]:
    return [(s, {k: v for k, v in d.items() if "wall/" not in k}) for s, d in kept]


def test_every_row_arrives_as_it_is_written(notebook: type[Notebook], tmp_path: Path):
    run = train(tiny(seeds=2), tmp_path / "run", progress=False, track=["notebook"])
    assert notebook.kept == mirrored(run)
    steps, values = notebook.kept[0]
    assert steps == 30 and {"seed0/return", "seed0/loss/policy"} <= set(values)
    assert "seed0/undefined" not in values
    found = [values for _, values in notebook.kept if "seed1/evaluation/score" in values]
    assert len(found) == 3
    assert found[0]["seed1/evaluation/after_0_episodes"] != found[0]["seed1/evaluation/score"]


@pytest.mark.parametrize("update", [3, 5])
def test_a_resumed_run_sends_nothing_twice(
    notebook: type[Notebook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: int
):
    stopping(monkeypatch, update, "crash")
    with pytest.raises(StopAt):
        train(tiny(), tmp_path / "run", progress=False, track=["notebook"])
    assert len(notebook.kept) >= update
    monkeypatch.setitem(trackers.TRACKERS, "notebook", notebook)
    monkeypatch.setitem(trackers.PACKAGES, "notebook", "json")
    run = resume(tmp_path / "run", progress=False, track=["notebook"])
    # The crash came before the first checkpoint, so that all its updates were done anew.
    assert len(run.metrics()) == 15
    assert without_clock(notebook.kept) == without_clock(mirrored(run))
    assert len(set(notebook.ids)) == 1


def test_a_tracker_that_comes_late_gets_what_was_before(notebook: type[Notebook], tmp_path: Path):
    train(tiny(6), tmp_path / "run", progress=False)
    run = resume(tmp_path / "run", progress=False, track=["notebook"], steps=tiny().steps)
    assert notebook.kept == mirrored(run)


def test_a_run_that_failed_at_once_may_be_tried_again(notebook: type[Notebook], tmp_path: Path):
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    old = {"notebook": {"id": "old", "mark": {"update": 60}}}
    (tmp_path / "run" / "trackers.json").write_text(json.dumps(old))
    run = train(tiny(2), tmp_path / "run", progress=False, track=["notebook"])
    assert notebook.kept == mirrored(run)
    assert "old" not in notebook.ids


def test_training_does_not_mind_a_tracker_that_fails(
    notebook: type[Notebook], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    plain = train(tiny(), tmp_path / "plain", progress=False)
    notebook.fails_at = 90
    run = train(tiny(), tmp_path / "run", progress=False, track=["notebook"])
    assert rows(run) == rows(plain)
    assert [steps for steps, _ in notebook.kept] == [30, 60]
    said = " ".join(capfd.readouterr().err.split())
    assert said == ("warning: tracking by notebook is given up (ConnectionError: no network)")


def test_mistakes_are_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    with pytest.raises(UserError, match="unknown tracker 'wandbee'; did you mean 'wandb'"):
        train(tiny(), tmp_path / "run", track=["wandbee"])
    monkeypatch.setitem(trackers.PACKAGES, "mlflow", "no_such_package")
    words = ["train", "maml", "point-2d", "--out", str(tmp_path / "run"), "--track", "mlflow"]
    assert main(words) == 2
    assert "pip install 'stemrl[mlflow]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_parameters_are_flat_and_plain():
    flat = parameters(tiny())
    assert flat["method"].endswith("Tiny") and flat["settings.learning_rate"] == 0.1
    assert flat["settings.hidden"] == "[2, 2]" and flat["versions.stemrl"]
    assert all(isinstance(value, bool | int | float | str) for value in flat.values())


# The real ones, without any network.


def interrupted_then_resumed(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of 12 updates, stopped after 7 of them."""
    stopping(monkeypatch, 7, "crash")
    with pytest.raises(StopAt):
        train(tiny(), out, progress=False, track=[name])
    return resume(out, progress=False, track=[name])


def expected(run: Run) -> dict[str, list[tuple[int, float]]]:
    """By name, the numbers that a tracker should show."""
    series: dict[str, list[tuple[int, float]]] = {}
    for steps, values in mirrored(run):
        for name, value in values.items():
            if "wall/" not in name:
                series.setdefault(name, []).append((steps, pytest.approx(value, rel=1e-6)))
    return series


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    from tensorboardX.proto.event_pb2 import Event

    run = interrupted_then_resumed("tensorboard", tmp_path / "run", monkeypatch)
    series: dict[str, list[tuple[int, float]]] = {}
    tags = set()
    for file in sorted((run.path / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                tags.add(value.tag)
                if value.HasField("simple_value") and "wall/" not in value.tag:
                    series.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert series == expected(run)
    assert "_hparams_/session_start_info" in tags


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    pytest.importorskip("alembic", reason="the extra `mlflow` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = interrupted_then_resumed("mlflow", tmp_path / "run", monkeypatch)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'stemrl'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert found.data.params["settings.learning_rate"] == "0.1"
    for name, points in expected(run).items():
        history = client.get_metric_history(found.info.run_id, name.replace("/", "."))
        assert [(one.step, one.value) for one in history] == points


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = interrupted_then_resumed("wandb", tmp_path / "run", monkeypatch)
    folders = sorted((run.path / "wandb").glob("offline-run-*"))
    note = json.loads((run.path / "trackers.json").read_text())["wandb"]
    assert {folder.name.rpartition("-")[2] for folder in folders} == {note["id"]}
    assert os.listdir(folders[0])
    assert note["mark"] == {"update": 360, "evaluation": 360}
