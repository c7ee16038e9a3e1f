"""Trainings in processes of their own: the same runs, errors in one line, nothing that goes on alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stemrl.cards import Workshop
from stemrl.errors import UserError
from stemrl.runs import Run, RunConfig, checkpoint, train
from stemrl.runs.crew import Crew, Job
from stemrl.runs.metrics import last_row
from stemrl.runs.run import CHECKPOINTS

SMALL = RunConfig(
    "ppo",
    "bandit",
    steps=64,
    evaluate_every=0,
    settings={"num_envs": 4, "rollout_length": 8, "hidden": (4,), "epochs": 1, "minibatches": 1},
)


def rows(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith("wall/")} for row in run.metrics()]


def test_a_crew_trains_what_this_process_would(tmp_path: Path, capfd: pytest.CaptureFixture):
    with Crew(2) as crew:
        workshop = Workshop(tmp_path / "card", "full", (0, 1), progress=True, crew=crew)
        trained = workshop.train("plain", "ppo", "bandit", steps=64, settings=SMALL.settings)
        assert len(trained.agents) == 2
        # What is finished is not begun again.
        again = workshop.train("plain", "ppo", "bandit", steps=64, settings=SMALL.settings)
        assert [run.path for run in again.runs] == [run.path for run in trained.runs]
    here = train(SMALL, tmp_path / "here", progress=False)
    there = rows(trained.runs[0])
    assert [row["steps"] for row in there] == [32, 64]
    for mine, other in zip(rows(here), there, strict=True):
        # This process may have several threads, and so another order of sums.
        np.testing.assert_allclose(list(mine.values())[1:], list(other.values())[1:], 1e-3, 1e-5)
    assert "plain: training" in (said := capfd.readouterr().err) and "128 of 128" in said
    assert Workshop(tmp_path / "card", "full", (0, 1)).seconds > 0


def test_what_went_wrong_in_another_process_is_one_line(tmp_path: Path):
    def wait(config: RunConfig, name: str) -> None:
        with Crew(1) as crew:
            crew.wait([crew.train("mine, seed 0", config, tmp_path / name)], progress=False)

    wild = {**SMALL.settings, "learning_rate": float(np.finfo(np.float32).max)}
    with pytest.raises(UserError, match=r"^mine, seed 0: stopped in update .* is not finite"):
        wait(RunConfig("ppo", "bandit", steps=6400, settings=wild), "wild")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^mine, seed 0: .* is a file"):
        wait(SMALL, "file")


def test_the_end_of_a_crew_leaves_a_run_to_go_on_with(tmp_path: Path):
    long = RunConfig("ppo", "bandit", steps=10**9, evaluate_every=0, settings=SMALL.settings)
    with Crew(1) as crew:
        job = crew.train("long", long, tmp_path / "run")
        second = crew.train("never begun", long, tmp_path / "other")
        until_it_learns(job)
    done = Run.open(tmp_path / "run").restore("last")[1].steps
    assert done >= 32 and job.steps() == done
    assert second.done.cancelled() and not (tmp_path / "other").exists()


def test_nobody_trains_on_for_a_process_that_was_killed(tmp_path: Path):
    long = RunConfig("ppo", "bandit", steps=10**9, evaluate_every=0, settings=SMALL.settings)
    job = Job("", long, tmp_path / "run")
    program = (
        "import json, sys; from stemrl.runs import RunConfig; from stemrl.runs.crew import Crew\n"
        "with Crew(1) as crew:\n"
        "    config = RunConfig.from_dict(json.loads(sys.argv[1]))\n"
        "    crew.wait([crew.train('long', config, sys.argv[2])], progress=False)\n"
    )
    words = [json.dumps(json.loads(long.text())), str(job.out)]
    parent = subprocess.Popen([sys.executable, "-c", program, *words], env=dict(os.environ))
    until_it_learns(job)
    parent.kill()
    parent.wait()
    for _ in range(600):
        if (saved := checkpoint.saved(job.out / CHECKPOINTS)) and int(
            saved[-1].name
        ) == job.steps():
            break
        time.sleep(0.1)
    done = job.steps()
    time.sleep(1)
    assert job.steps() == done


def until_it_learns(job: Job) -> None:
    for _ in range(1200):
        if job.steps():
            return
        time.sleep(0.1)
    raise AssertionError("nothing was learned in two minutes")


def test_the_last_row_is_read_while_another_writes(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    assert last_row(path) is None
    row = {"kind": "update", "update": 1, "steps": 2, "seed": 0}
    path.write_text(json.dumps(row) + "\n" + '{"kind": "upd')
    assert last_row(path) == row
    path.write_text('{"kind": "upd')
    assert last_row(path) is None
