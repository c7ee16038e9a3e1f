"""Curves of runs in one figure, their numbers, tables for a paper, and frames."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import stemrl
from stemrl import UserError
from stemrl.agents import open_agent
from stemrl.cli import main
from stemrl.cli.output import write_table
from stemrl.report import adaptation_curves, learning_curves, names_of, write_figure
from stemrl.runs import Run

SHIPPED = "rl2-gridnavi"


def altered(folder: Path, name: str, scale: float = 1.0, every: int = 1, **config) -> Run:
    """A copy of a run that came with the library, its returns scaled, some rows and settings other."""
    path = folder / name
    shutil.copytree(open_agent(SHIPPED).path, path)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["kind"] == "update"][::every]
    for row in kept:
        row["return"] *= scale
        row["seed"] = config.get("seed", 0)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    content = json.loads((path / "config.json").read_text())
    content["settings"] |= {k: v for k, v in config.items() if k != "seed"}
    content["seed"] = config.get("seed", 0)
    (path / "config.json").write_text(json.dumps(content))
    return Run.open(path)


def test_runs_of_other_seeds_are_one_line_with_its_interval(tmp_path):
    one = altered(tmp_path, "one")
    three = [
        one,
        altered(tmp_path, "two", 2.0, seed=1),
        altered(tmp_path, "other", learning_rate=0.5),
    ]
    figure = learning_curves(three)
    assert list(figure["lines"]) == ["rl2 learning_rate=0.001", "rl2 learning_rate=0.5"]
    both, alone = figure["lines"].values()
    returns = np.array([row["return"] for row in one.metrics()])
    np.testing.assert_allclose(both["mean"], 1.5 * returns)
    # Of two values a and 2a: standard error a/2, and the t quantile of one degree of freedom.
    np.testing.assert_allclose(
        np.array(both["high"]) - both["mean"], 12.7062 * abs(returns) / 2, rtol=1e-4
    )
    assert alone["low"] == [] and both["x"][0] == one.metrics()[0]["steps"]
    assert figure["x_label"] == "environment steps" and figure["y_label"] == "return"
    seconds = learning_curves([one], x="seconds")["lines"]["rl2"]["x"]
    assert seconds[0] == one.metrics()[0]["wall/seconds"]


def test_an_exported_run_keeps_its_clock_and_a_run_its_name(tmp_path):
    """Its evaluations lie between the updates that it kept; and two folders of one name are two lines."""
    one = stemrl.load("rl2-gridnavi")
    rows = one.metrics()
    x = learning_curves([one], "score", x="seconds")["lines"]["rl2"]["x"]
    assert x == sorted(x) and x[-1] <= max(row.get("wall/seconds", 0.0) for row in rows)
    assert len(x) == sum(row["kind"] == "evaluation" for row in rows)
    twins = [altered(tmp_path / place / "run", "rl2-gridnavi", seed=1) for place in "ab"]
    assert len(set(names_of(twins))) == 2


def test_rows_at_other_places_meet_in_between(tmp_path):
    runs = [altered(tmp_path, "one"), altered(tmp_path, "two", every=2, seed=1)]
    [line] = learning_curves(runs)["lines"].values()
    last = min(run.metrics()[-1]["steps"] for run in runs)
    assert line["x"][-1] == last and len(line["x"]) == len(runs[1].metrics())


def test_an_adaptation_curve_is_the_evaluation(tmp_path):
    run = open_agent(SHIPPED)
    result = stemrl.evaluate(run, tasks=4, episodes=2)
    [line] = adaptation_curves(names_of([run]), [result])["lines"].values()
    assert line["x"] == [0, 1, 2] and line["mean"] == [p["mean"] for p in result.points]
    assert line["low"] == [p["mean_low"] for p in result.points]
    frame = pytest.importorskip("pandas") and result.to_frame()
    assert len(frame) == result.scores.size
    means = frame.groupby("episodes_used")["return"].mean()
    np.testing.assert_allclose(means, [p["mean"] for p in result.points], rtol=1e-6)


def test_files_of_all_kinds(tmp_path, capsys):
    figure = learning_curves([open_agent(SHIPPED)], "score")
    for ending in ("png", "svg", "pdf", "csv", "json"):
        path = write_figure(figure, tmp_path / "new" / f"curves.{ending}")
        assert path.stat().st_size > 100
    rows = list(csv.reader((tmp_path / "new" / "curves.csv").open()))
    assert rows[0] == ["line", "environment steps", "score", "low", "high"]
    assert [float(row[2]) for row in rows[1:]] == figure["lines"]["rl2"]["mean"]
    assert main(["plot", SHIPPED, "--out", str(tmp_path / "a.svg")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.svg")
    assert "rl2" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    "words, says",
    [
        (["--metric", "retrun"], "has no metric 'retrun'; did you mean 'return'?"),
        (["--x", "episodes"], "--adaptation draws over episodes"),
        (["--out", "a.gif"], "name a figure (.png, .svg, .pdf) or the numbers"),
        (["--adaptation", "--metric", "return"], "--metric is of a learning curve"),
        (["--tasks", "3"], "--tasks means nothing to a learning curve (see --adaptation)"),
    ],
)
def test_mistakes(words, says, capsys):
    assert main(["plot", SHIPPED, *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_folder_of_agents_is_no_episode(tmp_path, capsys):
    assert main(["export", SHIPPED, str(tmp_path / "out"), "--most-likely"]) == 2
    assert "--most-likely means nothing to a folder of agents" in capsys.readouterr().err


def test_tables_for_a_paper(tmp_path, capsys):
    few = ["--tasks", "3", "--episodes", "1"]
    table = tmp_path / "table.csv"
    assert main(["evaluate", SHIPPED, *few, "--out", str(table), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["episodes"]
    rows = list(csv.DictReader(table.open()))
    assert [float(row["mean_low"]) for row in rows] == [point["mean_low"] for point in points]
    assert main(["compare", SHIPPED, SHIPPED, *few, "--out", str(tmp_path / "t.tex")]) == 0
    text = (tmp_path / "t.tex").read_text()
    assert text.startswith("\\begin{tabular}{lll") and text.count("\\\\\n") == 5
    assert "known\\_task" not in text and "known task" in text
    assert main(["evaluate", SHIPPED, "--out", "x.html"]) == 2


def test_a_latex_table_by_hand(tmp_path):
    path = tmp_path / "t.tex"
    write_table(path, [{"run": "a_b", "mean": 1.5, "mean_low": 1.0, "mean_high": 2.0, "n": 3}])
    assert path.read_text().splitlines()[2:5] == [
        r"run & mean & n \\",
        r"\midrule",
        r"a\_b & $1.5$ $[1, 2]$ & $3$ \\",
    ]
    with pytest.raises(UserError, match="a table is"):
        write_table(tmp_path / "t.xls", [{"a": 1}])


def test_metrics_as_a_frame():
    pytest.importorskip("pandas")
    run = open_agent(SHIPPED)
    frame = run.to_frame()
    assert len(frame) == len(run.metrics()) and "points" not in frame
    assert frame[frame.kind == "update"]["return"].notna().all()
