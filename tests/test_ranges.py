"""Values without sense are refused in one line, before anything is made; and shown by --help."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemrl import registry
from stemrl.cli import main
from stemrl.errors import UserError
from stemrl.runs import RunConfig
from stemrl.settings import Range, range_by_name, settings_of


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--learning-rate -1", "learning_rate must be at least 0 and finite, not -1"),
        ("--learning-rate inf", "learning_rate must be at least 0 and finite, not inf"),
        ("--discount 2", "discount must be between 0 and 1, not 2"),
        ("--discount -1", "discount must be between 0 and 1, not -1"),
        ("--discount 1e99", "discount must be between 0 and 1, not 1e+99"),
        ("--gae-lambda 5", "gae_lambda must be between 0 and 1, not 5"),
        ("--clip -1", "clip must be above 0, not -1"),
        ("--initial-std 0", "initial_std must be above 0 and finite, not 0"),
        ("--max-gradient-norm 0", "max_gradient_norm must be above 0, not 0"),
        ("--target-kl -1", "target_kl must be above 0, not -1"),
        ("--anneal-updates 0", "anneal_updates must be at least 1, not 0"),
        ("--hidden 0", "hidden must be at least 1 each, not 0"),
        ("--hidden 8,-5", "hidden must be at least 1 each, not -5"),
        ("--family.horizon 0", "point-2d: horizon must be at least 1, not 0"),
        ("--family.size -1", "point-2d: size must be above 0 and finite, not -1"),
        ("--family.size inf", "point-2d: size must be above 0 and finite, not inf"),
        ("--steps 1e400", "1e400"),
        ("--num-envs 99999999999999999999", "num_envs must be at most 2147483647, not 1e+20"),
        ("--rollout-length 100000000000", "must be at most 2147483647, not 100000000000"),
    ],
)
def test_a_value_without_sense_is_refused_before_a_folder_is_made(
    flags: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", "point-2d", "--out", "r", *flags.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_settings_after_a_name_are_refused_too():
    with pytest.raises(UserError, match="ppo: clip must be above 0, not -1"):
        RunConfig("ppo clip=-1", "point-2d")
    with pytest.raises(UserError, match="discount must be between 0 and 1"):
        RunConfig("darc", "grid-wall", {"learner": "ppo discount=3"}).learner()


def test_the_help_shows_what_a_number_may_be(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["train", "ppo", "point-2d", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(between 0 and 1; default: 0.99)" in shown
    assert "(at least 0 and finite; default: 0.0003)" in shown


@pytest.mark.parametrize("kind", ["methods", "families"])
def test_every_default_is_in_its_range(kind: str):
    for name, entry in registry.KINDS[kind].items():
        for setting in settings_of(entry.path):
            try:
                default = ast.literal_eval(setting.default or "None")
            except (ValueError, SyntaxError):
                continue
            setting.refuse(entry.preset.get(setting.name, default), name)


OWN = '''
import equinox as eqx
from stemrl.tasks.point import Point2D

class Mine(Point2D):
    """A point."""
    name = "mine"
    share: float = 0.5
    """Share of the steps that count, in (0, 1]."""
    patience: int = eqx.field(static=True, default=0)
    """Steps; 0 for as many as it takes, in [0, 500]."""
'''


def test_a_docstring_s_own_interval_comes_first(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)

    def make(**settings: Any) -> Any:
        return RunConfig("ppo", f"{file}:Mine", family_settings=settings).problem()

    assert make(patience=0, share=1).source.patience == 0
    with pytest.raises(UserError, match="share must be above 0 and at most 1, not 0"):
        make(share=0.0)
    with pytest.raises(UserError, match="patience must be between 0 and 500, not 501"):
        make(patience=501)


@pytest.mark.parametrize(
    ("text", "words", "inside", "outside"),
    [
        ("[0, 1)", "at least 0 and below 1", [0, 0.5], [-1, 1]),
        ("(−1, 2.5]", "above -1 and at most 2.5", [0, 2.5], [-1, 3]),
        ("(-inf, inf)", "finite", [-9], [float("inf"), float("-inf")]),
        ("(0, inf]", "above 0", [1e-9, float("inf")], [0]),
    ],
)
def test_intervals(text: str, words: str, inside: list[float], outside: list[float]):
    interval = Range.of(text)
    assert str(interval) == words
    assert all(x in interval for x in inside) and not any(x in interval for x in outside)
    assert float("nan") not in interval
    assert range_by_name("something", f"What it is, in {text}; and more.") == interval


def test_numbers_of_numpy_are_numbers():
    config = RunConfig(
        "ppo", "point-2d", {"num_envs": np.int64(80), "learning_rate": np.float32(0.25)}
    )
    learner = config.learner()
    assert (learner.num_envs, learner.learning_rate) == (80, 0.25)
    assert type(learner.num_envs) is int and type(learner.learning_rate) is float


@pytest.mark.parametrize(
    ("statement", "base"),
    [
        ("from arm import Arm", "Arm"),
        ("import arm", "arm.Arm"),
        ("import arm as limb", "limb.Arm"),
        ("import robots.arm", "robots.arm.Arm"),
        ("from robots import arm", "arm.Arm"),
        ("import stemrl.tasks.point", "stemrl.tasks.point.Point2D"),
    ],
)
def test_settings_of_a_base_are_found_however_it_is_imported(
    tmp_path: Path, statement: str, base: str
):
    (tmp_path / "robots").mkdir()
    for folder in (tmp_path, tmp_path / "robots"):
        (folder / "__init__.py").touch()
        (folder / "arm.py").write_text("class Arm:\n    size: float = 1.0\n")
    (tmp_path / "mine.py").write_text(f"{statement}\nclass Mine({base}):\n    count: int = 2\n")
    names = [setting.name for setting in settings_of(f"{tmp_path / 'mine.py'}:Mine")]
    assert names[0] == "size" and names[-1] == "count"
