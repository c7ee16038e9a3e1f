"""MAML and RL², killed at random points and resumed, end as if nothing had happened."""

import random
from pathlib import Path
from typing import Any

import pytest

from stemrl.runs import RunConfig, loop, resume, train
from test_runs import StopAt, files, rows, stopping

METHODS: dict[str, tuple[int, dict[str, Any]]] = {
    "maml": (
        2 * (2 + 2) * 4,
        {"meta_batch_size": 2, "inner_episodes": 2, "hidden": (4,), "cg_iterations": 2},
    ),
    "rl2": (
        4 * 2 * 4,
        {"hidden_size": 4, "episodes": 2, "batch_steps": 32, "epochs": 1, "minibatches": 2},
    ),
}
UPDATES = 9


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_resume_is_bit_identical(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps, settings = METHODS[method]
    config = RunConfig(
        method,
        "point-2d",
        settings=settings,
        family_settings={"horizon": 4},
        steps=UPDATES * steps,
        evaluate_every=0,
        keep_every=3 * steps,
    )
    assert config.learner().steps_per_update(config.problem()) == steps
    whole = train(config, tmp_path / "whole", progress=False)
    last = max(files(whole))
    at_random = random.Random(method)
    for attempt in range(4):
        path, update = tmp_path / str(attempt), at_random.randint(1, UPDATES - 1)
        stopping(monkeypatch, update, at_random.choice(["crash", "signal"]))
        monkeypatch.setattr(loop, "CHUNK_SECONDS", at_random.choice([0.0, 0.01, 1.0]))
        with pytest.raises((StopAt, loop.Interrupted)):
            train(config, path, progress=False)
        again = resume(path, progress=False)
        assert rows(again) == rows(whole)
        assert files(again)[last] == files(whole)[last]
