"""Each value of every hyper-parameter that no tiny training has: trained, resumed, evaluated, reported.

An hour or two of compiling, in `make long`; see `away.py` for the values, and `test_matrix.py` for many at
once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from away import CASES, configured
from stemrl.cli import main
from stemrl.runs import Run, RunConfig, forget_programs, train


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs are not left in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def try_out(config: RunConfig, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train an update, go on with another, evaluate and report."""
    path = str(folder / "run")
    train(config, Path(path), progress=False)
    for words in (
        ["train", "--resume", "--out", path, "--steps", str(2 * config.steps), "--quiet"],
        ["evaluate", path, "--tasks", "2"],
        ["report", path, "--tasks", "2", "--out", str(folder / "report.html")],
    ):
        assert main(words) == 0, f"stemrl {' '.join(words)}: {capsys.readouterr().err}"
    rows = Run.open(Path(path)).metrics()
    assert rows[-1]["steps"] == 2 * config.steps
    undefined = {name for row in rows for name, value in row.items() if value is None}
    assert not undefined, f"not finite: {', '.join(undefined)}"


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "name", "value"), CASES, ids=[f"{m}-{n}-{v}".replace(" ", "") for m, n, v in CASES]
)
def test_one_by_one(
    method: str, name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    try_out(configured(method, {name: value}), tmp_path, capsys)
    forget_programs()
