"""The command line: what it prints, where, and with which status."""

import ast
import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import stemrl
from stemrl import cli, registry
from stemrl.cli import main
from stemrl.cli.output import Waiting
from stemrl.errors import UserError
from stemrl.evaluation import playing
from stemrl.reading import read_configuration
from stemrl.settings import settings_of

TINY = f"{Path(__file__).parent / 'tiny.py'}:Tiny"
SMALL = ["--family.horizon", "5", "--steps", "120", "--evaluate-every", "0", "--quiet"]
FEW = ["--tasks", "6", "--episodes", "2"]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Compiled programs are not left in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """`one`, `other` (another seed), `two` (two seeds), `longer` (`one`, as if its episodes were
    longer)."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in (
        ("one", []),
        ("other", ["--seed", "3"]),
        ("two", ["--seeds", "2"]),
    ):
        words = ["train", TINY, "point-2d", "--out", str(folder / name), *SMALL, *flags]
        assert main(words) == 0
    shutil.copytree(folder / "one", folder / "longer")
    content = json.loads((folder / "one" / "config.json").read_text())
    content["family_settings"]["horizon"] = 6
    del content["identity"], content["target_identity"]
    (folder / "longer" / "config.json").write_text(json.dumps(content))
    return folder


def fails(capsys, *words: str) -> str:
    """The line that a mistake gets."""
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stemrl: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


def rows(run: Path) -> list[dict]:
    """The metrics, less what the clock gave."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if not k.startswith("wall/")} for row in lines]


# Without JAX.


def test_help_and_list_do_not_import_jax():
    script = """
import sys
from stemrl.cli import main
for words in (
    ["--help"], ["--version"], ["train", "--help"], ["train", "maml", "half-cheetah-vel", "--help"],
    ["evaluate", "--help"], ["evaluate", "thompson", "bandit", "--help"], ["adapt", "--help"], ["compare", "--help"], ["report", "--help"],
    ["demo", "--help"], ["doctor", "--help"], ["list"], ["list", "families", "--json"],
    ["trian"], ["train", "mamel", "point-2d"], ["train", "maml", "point-2d", "--nonsense"],
):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code
    heavy = {"jax", "mujoco", "equinox", "matplotlib"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--inner-learning-rate" in done.stdout


def settable() -> list[str]:
    return sorted({e.path for e in (*registry.METHODS.values(), *registry.FAMILIES.values())})


@pytest.mark.parametrize("path", settable())
def test_settings_read_from_source_are_the_fields(path: str):
    found = settings_of(path)
    cls = registry.Entry(path, "").load()
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    assert {s.name for s in found} == set(fields)
    for setting in found:
        assert setting.kind is not None, f"{setting.name}: a type that no flag can give"
        assert setting.documentation, f"{setting.name} has no docstring"
        assert setting.default is not None, f"{setting.name} has no default"
        assert ast.literal_eval(setting.default) == fields[setting.name].default


@pytest.mark.parametrize("method", registry.METHODS)
def test_help_shows_every_hyper_parameter_with_its_default(method: str, capsys):
    with pytest.raises(SystemExit):
        main(["train", method, "point-2d", "--help"])
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for setting in settings_of(registry.METHODS[method].path):
        assert f"--{setting.name.replace('_', '-')} " in words
        assert setting.documentation in words
    assert "--family.size FLOAT" in words and "(above 0 and finite; default: 0.5)" in words


@pytest.mark.parametrize("kind", ["methods", "families", "cards", "reference-agents"])
def test_list(kind: str, capsys):
    assert main(["list", kind, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    known = getattr(registry, kind.upper().replace("-", "_"))
    # Methods and families by the chapters of the lecture, not in the order of the registry.
    assert sorted(one["name"] for one in listed) == sorted(known)
    assert all(set(one) - {"chapter"} == {"name", "summary"} and one["summary"] for one in listed)


def test_list_for_people(capsys):
    assert main(["list"]) == 0
    assert "half-cheetah-vel" in capsys.readouterr().out


# Mistakes.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "did you mean 'train'"),
        ("list familys", "did you mean 'families'"),
        ("train", "name a method and a family"),
        ("train maml", "name a family"),
        ("train mamel point-2d", "unknown method 'mamel'; did you mean 'maml'"),
        ("train MAML point-2d", "unknown method 'MAML'; did you mean 'maml'"),
        ("train ppo point-2d --lr 0.1", "did you mean '--learning-rate'"),
        ("train ppo point-2d --gamma 0.9", "did you mean '--discount'"),
        ("train ppo point-2d --n_steps 5", "did you mean '--rollout-length'"),
        ("train ppo CartPole-v1", "is the family gymnasium with --family.environment CartPole-v1"),
        ("train maml piont-2d", "unknown family 'piont-2d'; did you mean 'point-2d'"),
        ("train maml point-2d more", "unexpected argument 'more'"),
        ("train maml point-2d --metabatch-size 3", "did you mean '--meta-batch-size'"),
        ("train maml point-2d --family.sise 3", "did you mean '--family.size'"),
        (
            f"train {TINY.partition(':')[0]} point-2d",
            f"is a file; name its class too: {TINY[:-5]}:",
        ),
        (f"train {TINY}y point-2d", "did you mean 'Tiny'"),
        ("train ppo point-2d --target point-2d --budget 100", "'ppo' takes nothing from a target"),
        ("train maml point-2d --out", "--out: expected one argument"),
        ("train maml point-2d --meta-batch-size many", "must be a whole number, not 'many'"),
        ("train maml point-2d --meta-batch-size 2.5", "must be a whole number"),
        ("train maml point-2d --meta-batch-size 0", "meta_batch_size must be at least 1"),
        ("train maml point-2d --inner-learning-rate fast", "must be a number, not 'fast'"),
        ("train maml point-2d --surrogate dise", "did you mean 'dice'"),
        ("train maml point-2d --hidden 64,x", "hidden must be"),
        ("train maml point-2d --first-order maybe", "must be true or false"),
        ("train maml point-2d --steps 0", "steps must be at least 1"),
        ("train maml point-2d --steps -5", "steps must be at least 1"),
        ("train maml point-2d --seed 1e30", "seed"),
        ("train maml point-2d --reveal all", "reveal must be one of"),
        ("train maml point-2d --family.horizon soon", "must be a whole number"),
        ("train maml point-2d --target half-cheetah-vel", "differ in their observation space"),
        ("train her point-2d", "'her' needs a family with goals"),
        ("train darc grid-wall --steps 1000", "the budget is 0; name a target and give --budget"),
        (
            "train darc grid-wall --target grid-wall --target.wall --steps 1000",
            "the budget is 0; give --budget",
        ),
        ("train maml nowhere.py:Mine", "nowhere.py"),
        ("train maml no.module:Mine", "there is no 'Mine' in no.module"),
        ("train --config nowhere.json", "nowhere.json"),
        ("train --resume --out nowhere", "nowhere"),
        ("evaluate", "required: RUN"),
        ("evaluate nowhere", "there is no run in nowhere"),
        ("evaluate thompson", "name a family: stemrl evaluate thompson FAMILY"),
        ("evaluate thompson bandti", "unknown family 'bandti'; did you mean 'bandit'"),
        (
            "evaluate tomson bandit",
            "bandit has no reference agent 'tomson'; did you mean 'thompson'",
        ),
        ("evaluate thompson point-2d", "point-2d has no reference agent 'thompson'"),
        ("evaluate thompson bandit --family.arm 2", "did you mean '--family.arms'"),
        ("evaluate thompson bandit more", "unexpected argument 'more'"),
        ("evaluate random bandit --oracle nowhere", "there is no run in nowhere"),
        ("evaluate nowhere --tasks 0", "at least 1, not '0'"),
        ("evaluate nowhere --tasks x", "--tasks: must be a whole number"),
        ("evaluate nowhere --episodes -2", "--episodes: must be a whole number"),
        ("evaluate nowhere --split tset", "invalid choice: 'tset'"),
        ("evaluate nowhere --spilt test", "did you mean '--split'"),
        ("adapt nowhere --task velocity", "--task takes NAME=NUMBER"),
        ("adapt nowhere --task velocity=fast", "--task takes NAME=NUMBER"),
        ("compare", "required: RUN"),
        ("compare nowhere elsewhere", "there is no run in nowhere"),
        ("report nowhere", "there is no run in nowhere"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(
    words: str, message: str, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *words.split())
    assert not list(tmp_path.iterdir()), "nothing is written for a mistake"


def test_mistakes_with_a_run(runs: Path, capsys, tmp_path):
    one = str(runs / "one")
    assert "take 2 or 4" in fails(capsys, "evaluate", one, "--episodes", "3")
    assert "already holds a run" in fails(capsys, "train", TINY, "point-2d", "--out", one)
    assert "with another learning_rate" in fails(
        capsys, "train", TINY, "point-2d", "--out", one, "--resume", "--learning-rate", "1"
    )
    assert "is a run of the family 'point-2d'" in fails(
        capsys, "train", TINY, "bandit", "--out", one, "--resume"
    )
    assert "no parameter 'gaol'; did you mean 'goal'" in fails(
        capsys, "adapt", one, "--task", "gaol=1"
    )
    assert "'goal' takes numbers of shape (2,)" in fails(
        capsys, "adapt", one, "--task", "goal=1,2,3"
    )
    assert "'goal' takes finite numbers" in fails(capsys, "adapt", one, "--task", "goal=1,nan")
    assert "there is no 1" in fails(capsys, "adapt", one, "--member", "1")
    line = fails(capsys, "compare", one, str(runs / "longer"))
    assert "horizon=5" in line and "horizon=6" in line
    assert "it is empty" in fails(capsys, "evaluate", str(tmp_path))
    assert "none is best" in fails(capsys, "evaluate", one, "--checkpoint", "best")
    assert "last, best or a number of steps, not 'first'" in fails(
        capsys, "evaluate", one, "--checkpoint", "first"
    )
    assert "no checkpoint of 7 steps; there are: " in fails(
        capsys, "evaluate", one, "--checkpoint", "7"
    )


def test_damaged_and_foreign_runs(runs: Path, capsys, tmp_path):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(runs / "one", tmp_path / name))

    damaged = copy("damaged")
    for state in damaged.glob("checkpoints/*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1] + b"\0\0")
    assert "damaged" in fails(capsys, "evaluate", str(damaged))

    foreign = copy("foreign")
    shutil.rmtree(foreign / "checkpoints")
    shutil.copytree(runs / "two" / "checkpoints", foreign / "checkpoints")
    assert "does not fit this run's method" in fails(capsys, "evaluate", str(foreign))

    garbled = copy("garbled")
    (garbled / "config.json").write_text("{")
    assert "is not JSON" in fails(capsys, "evaluate", str(garbled))

    for field, value, message in (
        ("schema", 99, "schema 99"),
        ("identity", "point-2d@9()", "is not what it was"),
        ("method", "mamel", "did you mean 'maml'"),
    ):
        other = copy(field)
        content = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**content, field: value}))
        assert message in fails(capsys, "evaluate", str(other))


def test_ctrl_c_is_130_and_what_was_not_foreseen_is_one_line(monkeypatch, capsys, tmp_path):
    from stemrl.cli import listing

    def interrupted(arguments):
        raise KeyboardInterrupt

    def broken(arguments):
        raise ZeroDivisionError("of what")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(listing, "run", interrupted)
    assert main(["list"]) == 130
    capsys.readouterr()
    monkeypatch.setattr(listing, "run", broken)
    assert main(["list", "a b"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ZeroDivisionError: of what (" in said
    kept = Path(said.rpartition("the traceback is in ")[2].strip())
    assert kept.parent == tmp_path
    assert "stemrl list 'a b'" in kept.read_text() and "in broken" in kept.read_text()
    assert main(["list", "--traceback"]) == 1
    said = capsys.readouterr().err
    assert "in broken" in said and "the traceback is in" not in said
    assert main(["no-verb", "--traceback"]) == 2  # of a mistake of one's own as well
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "words", "status", "out", "err"),
    [
        ("JAX_PLATFORMS=cuda", "evaluate thompson bandit --tasks 2", 2, "", "compute on 'cuda'"),
        ("", "list methods >&-", 2, "", "standard output is closed"),
        ("", "list methods 2>&-", 0, "rl2", ""),
        ("", "nothing 2>&-", 2, "", ""),
        ("", "nothing >&- 2>&- <&-", 2, "", ""),
        ("PYTHONIOENCODING=ascii", "--help", 0, "stemrl COMMAND ?", ""),
        ("PYTHONIOENCODING=cp1252", "train ppo point-2d --help", 0, "--gae-lambda", ""),
    ],
)
def test_whatever_the_terminal_is(before, words, status, out, err):
    script = "import sys; from stemrl.cli import main; sys.exit(main())"
    done = subprocess.run(
        f"{before} {shlex.quote(sys.executable)} -c {shlex.quote(script)} {words}",
        shell=True, capture_output=True, timeout=100,
    )  # fmt: skip
    told = done.stderr.decode()
    assert done.returncode == status, told
    assert out in done.stdout.decode(errors="replace") and err in told
    assert told.count("\n") <= 1 and "Traceback" not in told


def test_a_path_with_a_nul_byte_is_refused(runs: Path, capsys):
    assert "NUL byte" in fails(capsys, "train", "ppo", "point-2d", "--out", "a\0b")
    for ask in (
        lambda: stemrl.load("a\0b"),
        lambda: stemrl.train("ppo", "point-2d", out="a\0b"),
        lambda: read_configuration(Path("a\0b")),
    ):
        with pytest.raises(UserError, match=r"NUL|null"):
            ask()


def test_commands_to_copy_are_quoted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = "空 格/运 行"
    assert main(["train", TINY, "point-2d", *SMALL, "--quiet", "--out", out]) == 0
    assert f"next: stemrl evaluate '{out}'   stemrl report '{out}'" in capsys.readouterr().err


def test_a_long_evaluation_says_what_it_will_take(runs: Path, capsys, monkeypatch):
    monkeypatch.setattr(playing, "MEMORY", 1)
    monkeypatch.setattr(Waiting, "LITTLE", 0.0)
    assert main(["evaluate", str(runs / "one"), "--tasks", "4", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) and re.match(r"1 of 4 tasks played, about \d+ s left\n", err)
    assert "GiB" in fails(capsys, "evaluate", str(runs / "one"), "--tasks", str(10**12))


# Training.


def test_names_may_stand_after_flags_and_flags_may_have_underscores(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "--learning_rate", "0.5", "--quiet", "--out", str(out), TINY, "--seed=4"]
    assert main([*words, "point-2d", *SMALL, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    config = json.loads((out / "config.json").read_text())
    assert summary["updates"] == 4 and summary["path"] == str(out)
    assert (config["settings"]["learning_rate"], config["seed"]) == (0.5, 4)
    assert config["family_settings"]["horizon"] == 5
    assert config["method"] == TINY


def test_default_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", TINY, "point-2d", *SMALL, "--seed", "2"]) == 0
    out, err = capsys.readouterr()
    assert (tmp_path / "runs" / "Tiny-point-2d-seed2" / "config.json").exists()
    assert "writing to runs/Tiny-point-2d-seed2" in err
    assert out.count("\n") == 1 and "120 steps" in out


def test_a_configuration_repeats_its_run_and_flags_change_it(runs: Path, tmp_path):
    config = str(runs / "other" / "config.json")
    assert main(["train", "--config", config, "--out", str(tmp_path / "a"), "--quiet"]) == 0
    assert rows(tmp_path / "a") == rows(runs / "other")
    words = ["train", "--config", str(runs / "other"), "--out", str(tmp_path / "b"), "--quiet"]
    assert main([*words, "--learning-rate", "0.9"]) == 0
    assert rows(tmp_path / "b") != rows(runs / "other")
    kept = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (kept["seed"], kept["settings"]["learning_rate"]) == (3, 0.9)


def test_resume_needs_only_the_folder(runs: Path, tmp_path):
    run = Path(shutil.copytree(runs / "one", tmp_path / "run"))
    assert main(["train", "--resume", "--out", str(run), "--steps", "180", "--quiet"]) == 0
    assert rows(run)[:4] == rows(runs / "one")
    assert [row["steps"] for row in rows(run)] == [30, 60, 90, 120, 150, 180]
    again = ["train", TINY, "point-2d", "--resume", "--out", str(run), "--steps", "210", "--quiet"]
    assert main(again) == 0
    assert rows(run)[-1]["steps"] == 210


# What was learned.


def test_evaluate_prints_an_object(runs: Path, capsys):
    assert main(["evaluate", str(runs / "one"), *FEW, "--seed", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["family"] == "point-2d"
    assert (result["method"], result["split"], result["tasks"], result["seed"]) == (
        TINY,
        "test",
        6,
        5,
    )
    assert [point["episodes_used"] for point in result["episodes"]] == [0, 2]
    assert [point["steps_used"] for point in result["episodes"]] == [0, 10]
    assert result["actions"] == "sampled" and result["training_seeds"] == [0]
    assert main(["evaluate", str(runs / "one"), *FEW, "--most-likely", "--split", "ood"]) == 0
    text = capsys.readouterr().out
    assert "6 ood tasks of point-2d, most likely actions" in text
    assert len(text.splitlines()) == 4


def test_evaluate_a_player(capsys):
    words = ["evaluate", "--tasks", "40", "bayes-optimal", "bandit", "--family.arms", "2"]
    assert main([*words, "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["reference_agent"] == result["method"] == "bayes-optimal"
    assert result["identity"] == "bandit@1(arms=2,pulls=10)"
    assert [point["episodes_used"] for point in result["episodes"]] == [0, 1, 2]
    trial = result["gaps"]["bayes_optimal"]["trial"]
    assert trial["low"] <= trial["gap"] <= trial["high"] and 0.7 < trial["fraction"] < 1.3
    assert main(["evaluate", "known-task", "gridnavi", "--tasks", "21"]) == 0
    out, err = capsys.readouterr()
    assert "known-task on 21 test tasks of gridnavi" in out
    assert "optimum of the known task 44.29, gap" in out and "100.0% of it" in out
    assert "Bayes-optimal 37.21, gap" in out
    assert "its test tasks are its training tasks" in err


def test_evaluate_a_run_in_another_family(runs: Path, capsys):
    one = str(runs / "one")
    assert main(["evaluate", one, "point-2d size=3.0", "--family.horizon", "7", *FEW]) == 0
    assert "6 test tasks of point-2d" in capsys.readouterr().out
    assert main(["evaluate", one, "point-2d size=3.0", *FEW, "--json"]) == 0
    assert "size=3.0" in json.loads(capsys.readouterr().out)["identity"]
    assert "differ in their observation space" in fails(capsys, "evaluate", one, "bandit", *FEW)


def test_evaluate_beside_an_oracle(runs: Path, capsys, tmp_path):
    oracle = Path(shutil.copytree(runs / "other", tmp_path / "oracle"))
    content = json.loads((oracle / "config.json").read_text())
    (oracle / "config.json").write_text(json.dumps({**content, "reveal": "context"}))
    one = str(runs / "one")
    assert main(["evaluate", one, *FEW, "--oracle", str(oracle), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["oracle"] == str(oracle)
    gap = result["gaps"]["oracle"]["points"][1]
    assert gap["gap"] == pytest.approx(gap["value"] - result["episodes"][1]["mean"])
    assert main(["evaluate", one, *FEW, "--oracle", str(oracle)]) == 0
    assert "whole trial:" in capsys.readouterr().out
    assert "without --reveal context" in fails(capsys, "evaluate", one, "--oracle", one)
    # Of other settings.
    other = Path(shutil.copytree(runs / "longer", tmp_path / "longer"))
    content = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**content, "reveal": "context"}))
    assert "is no oracle here" in fails(capsys, "evaluate", one, "--oracle", str(other))


def test_an_oracle_may_be_a_trained_agent(capsys, monkeypatch, tmp_path):
    """And a folder of that name, where there is one, comes before it."""
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "random", "bit-flip", "--family.bits", "10", "--tasks", "8"]
    assert main([*words, "--episodes", "0", "--oracle", "her-bit-flip", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["oracle"] == "her-bit-flip"
    assert result["gaps"]["oracle"]["points"][0]["gap"] > 3  # steps fewer, of ten
    said = fails(capsys, *words, "--oracle", "rl2-gridnavi")
    assert "was trained without --reveal context" in said
    (tmp_path / "her-bit-flip").mkdir()
    said = fails(capsys, *words, "--oracle", "her-bit-flip")
    assert "there is no run in her-bit-flip: it is empty" in said


def test_evaluate_all_seeds_of_a_run_together(runs: Path, capsys):
    assert main(["evaluate", str(runs / "two"), *FEW, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["training_seeds"] == [0, 1]
    for point, over in zip(result["episodes"], result["over_seeds"], strict=True):
        assert point["mean"] == pytest.approx(sum(over["means"]) / 2)
        assert over["low"] < point["mean"] < over["high"]
    assert [point["steps_used"] for point in result["episodes"]] == [0, 10]


def test_a_finite_family_is_noted(runs: Path, capsys, monkeypatch):
    from stemrl.tasks.point import Point2D

    monkeypatch.setattr(Point2D, "finite", True)
    assert main(["evaluate", str(runs / "one"), *FEW]) == 0
    assert "its test tasks are its training tasks" in capsys.readouterr().err
    assert main(["evaluate", str(runs / "one"), *FEW, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train_is_test"] is True


def test_compare(runs: Path, capsys):
    both = [str(runs / "one"), str(runs / "other")]
    assert main(["compare", *both, *FEW, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in result["runs"]] == both
    alone = []
    for run in both:
        assert main(["evaluate", run, *FEW, "--json"]) == 0
        alone.append(json.loads(capsys.readouterr().out)["episodes"])
    assert [one["episodes"] for one in result["runs"]] == alone
    better = result["runs"][1]["improvement_over_first"]
    assert 0 <= better["low"] <= better["probability"] <= better["high"] <= 1
    assert result["runs"][0]["improvement_over_first"] is None
    assert result["runs"][0]["transfer_over_first"] is None
    gain = result["runs"][1]["transfer_over_first"]
    lead = [one["episodes"][0]["mean"] for one in result["runs"]]
    assert gain["jump_start"]["value"] == pytest.approx(lead[1] - lead[0])
    assert main(["compare", *both, "--tasks", "6", "--episodes", "3"]) == 0
    text = capsys.readouterr().out
    assert "beats first" in text and f"{both[1]} against the first: jump-start" in text


def test_adapt(runs: Path, capsys):
    one = str(runs / "one")
    assert main(["adapt", one, "--task", "goal=0.25,-0.5", *FEW, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [task["parameters"] for task in result["tasks"]] == 6 * [{"goal": [0.25, -0.5]}]
    assert [row["episodes_used"] for row in result["tasks"][0]["rounds"]] == [0, 2]
    assert len(result["tasks"][0]["rounds"][0]["returns"]) == 2
    assert main(["adapt", one, *FEW]) == 0
    text = capsys.readouterr().out
    assert text.count("task goal=") == 6 and "mean return" in text


def test_doctor(monkeypatch, capsys):
    from stemrl.cli import doctor

    monkeypatch.setattr(doctor, "STEPPED", ("point-2d", "no-such-family"))
    monkeypatch.setattr(doctor, "TASKS", 2)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps_per_second"]["point-2d"] > 0
    assert "unknown family" in found["steps_per_second"]["no-such-family"]
    assert found["versions"]["jax"] and found["devices"] and "gymnax" in found["extras"]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert main(["doctor"]) == 0
    assert "steps/s" in capsys.readouterr().out


def test_report(runs: Path, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["report", str(runs / "one"), str(runs / "other"), "--out", str(page), *FEW]
    assert main([*words, "--title", "Two <seeds>", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert "Two &lt;seeds&gt;" in page.read_text()


def test_every_command_has_help(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert not end.value.code
        assert f"stemrl {command}" in capsys.readouterr().out
