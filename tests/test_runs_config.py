"""A run's configuration: JSON and back, and one clear line for everything that can be wrong."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from stemrl.errors import UserError
from stemrl.runs import Run, RunConfig, checkpoint, train
from stemrl.runs.fields import coerce, plain
from test_runs import TINY, UPDATE, tiny


def test_a_configuration_survives_json(tmp_path: Path):
    config = tiny(settings={"hidden": (3, 4), "learning_rate": 1, "poison": "loss"}, seed=5)
    (tmp_path / "config.json").write_bytes(config.text())
    again = RunConfig.load(tmp_path / "config.json")
    assert again == config.resolved()
    assert again.learner() == config.learner() and again.problem() == config.problem()
    assert again.settings["hidden"] == (3, 4) and again.settings["learning_rate"] == 1.0
    assert again.resolved() == again
    assert again.text() == config.text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "tinny"}, "unknown method 'tinny'"),
        ({"family": "point-3d"}, "unknown family 'point-3d'; did you mean 'point-2d'"),
        ({"settings": {"learning_rat": 1.0}}, "no setting 'learning_rat'; did you mean 'learning_"),
        ({"settings": {"learning_rate": "fast"}}, "learning_rate must be a number, not 'fast'"),
        ({"settings": {"tasks": 2.5}}, "tasks must be a whole number, not 2.5"),
        ({"settings": {"tasks": True}}, "tasks must be a whole number, not True"),
        ({"settings": {"poison": "los"}}, "poison must be one of .* did you mean 'loss'"),
        ({"settings": {"hidden": 64}}, "hidden must be a list with a whole number each, not 64"),
        ({"family_settings": {"horizont": 3}}, "no setting 'horizont'; did you mean 'horizon'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"steps": "many"}, "steps must be a whole number, not 'many'"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"evaluate_episodes": 0}, "evaluate_episodes must be at least 1"),
        ({"reveal": "all"}, "reveal must be one of nothing, context, not 'all'"),
        ({"settings": []}, "settings must be names with values"),
        ({"target_settings": {"horizon": 3}}, "target_settings need a target"),
        ({"budget": 10}, "a budget is of steps in a target; name the target family"),
        ({"target": "bandit"}, "differ in their"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as error:
        config = tiny(**changes)
        config.problem(), config.learner()
    assert "\n" not in str(error.value)


def test_kinds():
    assert coerce([1, 2], tuple[int, ...], "x") == (1, 2)
    assert coerce([1, 2.5], tuple[float, float], "x") == (1.0, 2.5)
    assert coerce(None, int | None, "x") is None and coerce(3, int | None, "x") == 3
    assert coerce("inf", float, "x") == float("inf") and plain(float("-inf")) == "-inf"
    assert coerce("a", Literal["a", "b"] | None, "x") == "a"
    assert type(coerce(3, int | float, "x")) is int and coerce(True, bool | int, "x") is True
    for value, kind in [
        ([1], tuple[int, int]), (1.0, int), (float("nan"), float), ("x", int | None), ([True], tuple[int, ...]),
    ]:  # fmt: skip
        with pytest.raises(UserError):
            coerce(value, kind, "x")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(2), tmp_path_factory.mktemp("run"), progress=False)


def broken(run: Run, tmp_path: Path, **changes: Any) -> Path:
    """The run's configuration with changes, in a folder of its own."""
    content = json.loads((run.path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | changes))
    return tmp_path


def test_folders_that_are_no_run(tmp_path: Path):
    with pytest.raises(UserError, match="it is no folder"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="it is empty"):
        Run.open(tmp_path)
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"method": ')
    with pytest.raises(UserError, match="is damaged, it is not JSON"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is damaged"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="not a run's configuration"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"family": "point-2d"}')
    with pytest.raises(UserError, match="'method' is missing"):
        Run.open(tmp_path)


def test_configurations_of_another_time(run: Run, tmp_path: Path):
    with pytest.raises(UserError, match=r"schema 2, this stemrl .* reads schema 1"):
        Run.open(broken(run, tmp_path, schema=2))
    with pytest.raises(UserError, match="unknown field 'stepps'; did you mean 'steps'"):
        Run.open(broken(run, tmp_path, stepps=3))
    with pytest.raises(UserError, match="is not what it was: this run has point-2d@0"):
        Run.open(broken(run, tmp_path, identity="point-2d@0(horizon=5,size=0.5)"))
    with pytest.raises(UserError, match="has no setting 'gone'"):
        Run.open(broken(run, tmp_path, settings={"gone": 1}))


def test_a_run_without_checkpoints_or_evaluations(run: Run, tmp_path: Path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        Run.open(broken(run, tmp_path)).state()
    with pytest.raises(UserError, match=r"'last', 'best' or a number .*, not 'first'"):
        run.state("first")  # pyright: ignore
    other = train(tiny(1, evaluate_every=0), tmp_path / "other", progress=False)
    with pytest.raises(UserError, match="no evaluated checkpoint"):
        other.state("best")


def test_a_foreign_checkpoint(run: Run, tmp_path: Path):
    manifest = checkpoint.read_manifest(run.ranked()[0])
    checkpoint.save(tmp_path / "checkpoints", {"other": np.zeros(3)}, manifest)
    with pytest.raises(UserError, match="does not fit this run's method: 'bias' is missing"):
        Run.open(broken(run, tmp_path)).state()


def test_a_family_from_a_file_is_found_from_anywhere(tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(Path(TINY).parent)
    config = tiny(1, method="tiny.py:Tiny").resolved()
    assert config.method == TINY
    assert config.steps == UPDATE
