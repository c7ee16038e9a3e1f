"""A run from elsewhere: it cannot run code, lead out of its folder, make us wait or allocate."""

import contextlib
import hashlib
import json
import os
import pickle
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from stemrl.cli import main
from stemrl.errors import UserError
from stemrl.runs import Run, RunConfig, checkpoint, trust
from stemrl.runs.metrics import MetricsFile
from test_faults import SMALL_PPO, one_line, train
from test_runs import TINY, tiny


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs are not left in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@contextlib.contextmanager
def little_memory(allowed: int = 2**29) -> Iterator[None]:
    """No more address space than there is now, and half a gigabyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stemrl's own method, as one would download it: two checkpoints and their rows."""
    run = tmp_path_factory.mktemp("honest") / "run"
    config = RunConfig("ppo", "point-2d", settings=SMALL_PPO, steps=160, evaluate_every=0)
    config = config.resolved()
    state = config.learner().init(config.problem(), jax.random.key(0))
    run.mkdir()
    (run / "config.json").write_bytes(config.text())
    (run / ".lock").write_text("process 1")
    metrics = MetricsFile(run / "metrics.jsonl", 0, False)
    for update in (1, 2):
        row = {"kind": "update", "update": update, "steps": 80 * update, "seed": 0, "return": -1.0}
        metrics.append([row])
        about = checkpoint.Manifest(
            update, 80 * update, 1.0, config.problem().source.identity, "ppo", None,
            config.trained_with,
        )  # fmt: skip
        checkpoint.save(run / "checkpoints", state, about)
    metrics.close()
    return run


def test_an_honest_run_from_elsewhere_opens(honest: Path):
    state, manifest, damaged = Run.open(honest).restore()
    assert manifest.update == 2 and damaged == []
    assert Run.open(honest).summary["steps"] == 160 and jax.tree.leaves(state)


def sparse(path: Path, size: int = 2**42) -> None:
    """A file of four terabytes that takes no room."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def piped(path: Path) -> None:
    """A pipe that nobody writes into: whoever opens it waits for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def linked(path: Path, to: Path | str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def rewritten(path: Path, **changes: Any) -> None:
    """A `config.json` that says something else."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if "identity" not in k}))


def with_evil(run: Path, **changes: Any) -> None:
    """A run that brings code along, and names it."""
    (run / "evil.py").write_text(EVIL)
    rewritten(run / "config.json", **changes)


def signed(path: Path, **changes: Any) -> None:
    """A checkpoint whose manifest claims something else, and whose checksums are right."""
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    del manifest["manifest_sha256"]
    manifest["manifest_sha256"] = checkpoint._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


class Pwned:
    """What pickle would run."""

    def __reduce__(self):
        return os.system, (f"touch {os.environ['PWNED']}",)


NESTED = "[" * 100_000
EVIL = """
import os, pathlib
pathlib.Path(os.environ["PWNED"]).write_text("ran")
class Evil:
    pass
"""

HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    # A configuration.
    "a sparse configuration": (lambda r: sparse(r / "config.json"), "too large"),
    "a configuration that is a pipe": (lambda r: piped(r / "config.json"), "not a regular file"),
    "a configuration without end": (lambda r: linked(r / "config.json", "/dev/zero"), "regular"),
    "nested": (lambda r: (r / "config.json").write_text(NESTED), "not JSON"),
    "a long number": (
        lambda r: (r / "config.json").write_text('{"seed": ' + "9" * 99_999 + "}"),
        "not JSON",
    ),
    "billions of seeds": (lambda r: rewritten(r / "config.json", seeds=2**30), "at most"),
    "a network without measure": (
        lambda r: rewritten(r / "config.json", settings=SMALL_PPO | {"hidden": [2**20, 2**20]}),
        r"does not fit|would take [\d,.]+ GiB of memory",
    ),
    "a method by its path": (
        lambda r: with_evil(r, method=f"{r / 'evil.py'}:Evil"),
        "names code, which opening it would run; .* stemrl trust",
    ),
    "a family by its path": (
        lambda r: with_evil(r, family=f"{r / 'evil.py'}:Evil"),
        "names code",
    ),
    "a family inside a family": (
        lambda r: with_evil(r, family="randomized",
                family_settings={"family": f"{r / 'evil.py'}:Evil"}),
        "names code",
    ),
    "a function of the system": (
        lambda r: rewritten(
            r / "config.json",
            method="subprocess:call",
            settings={"args": f"touch {os.environ['PWNED']}", "shell": True},
        ),
        "names code",
    ),
    "a module that Gymnasium imports": (
        lambda r: rewritten(
            r / "config.json", family="gymnasium", family_settings={"environment": "this:This-v0"}
        ),
        "names code",
    ),
    "a signature that is none": (
        lambda r: with_evil(r, method=f"{r / 'evil.py'}:Evil", signature="0" * 64),
        "names code",
    ),
    "a configuration of lists": (
        lambda r: rewritten(r / "config.json", method=["ppo"], family={"a": 1}),
        "method",
    ),
    # Metrics.
    "sparse metrics": (lambda r: sparse(r / "metrics.jsonl"), "damaged in line 1"),
    "metrics that are a pipe": (lambda r: piped(r / "metrics.jsonl"), "not a regular file"),
    "metrics that lead elsewhere": (
        lambda r: linked(r / "metrics.jsonl", os.environ["PRECIOUS"]),
        "metrics.jsonl is a link",
    ),
    "a lock that leads elsewhere": (
        lambda r: linked(r / ".lock", os.environ["PRECIOUS"]),
        "it is a link",
    ),
    "a lock that is a pipe": (lambda r: piped(r / ".lock"), "lock"),
    "checkpoints that lead elsewhere": (
        lambda r: linked(r / "checkpoints", Path(os.environ["PRECIOUS"]).parent),
        "is a link, and checkpoints must lie in the run's own folder",
    ),
}  # fmt: skip


def each(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same for every checkpoint of a run."""

    def changed(run: Path) -> None:
        for path in checkpoint.saved(run / "checkpoints"):
            change(path)

    return changed


HOSTILE |= {
    f"every checkpoint: {name}": (each(change), said)
    for name, change, said in [
        ("sparse state", lambda p: sparse(p / "state.safetensors"), "larger than it may be"),
        ("sparse manifest", lambda p: sparse(p / "manifest.json"), "larger than it may be"),
        ("state a pipe", lambda p: piped(p / "state.safetensors"), "not a regular file"),
        ("manifest a pipe", lambda p: piped(p / "manifest.json"), "not a regular file"),
        ("state a link", lambda p: linked(p / "state.safetensors", "/etc/passwd"), "symbolic"),
        ("itself a link", lambda p: linked(p, "/etc"), "it is a link"),
        ("nested", lambda p: (p / "manifest.json").write_text(NESTED), "not JSON"),
        (
            "a pickle",
            lambda p: (p / "state.safetensors").write_bytes(pickle.dumps(Pwned())),
            "bytes",
        ),
        (
            "a pickle of the right size",
            lambda p: (
                (p / "state.safetensors").write_bytes(
                    pickle.dumps(Pwned()).ljust((p / "state.safetensors").stat().st_size, b".")
                )
                and None
            ),
            "checksum",
        ),
        (
            "a header of 2**60 bytes",
            lambda p: forged(p, (2**60).to_bytes(8, "little") + b"{}"),
            "holds other arrays",
        ),
        (
            "a nested header",
            lambda p: forged(p, len(NESTED).to_bytes(8, "little") + NESTED.encode()),
            "no header",
        ),
        ("a manifest of 2**62 bytes", lambda p: signed(p, bytes=2**62), "larger than its arrays"),
        ("fewer than no bytes", lambda p: signed(p, bytes=-1), "cannot be counted"),
        ("NaN updates", lambda p: signed(p, seconds=float("nan")), "cannot be counted"),
        ("10**400 steps", lambda p: signed(p, steps=10**400), "cannot be counted"),
        (
            "leaves that lead elsewhere",
            lambda p: signed(p, leaves={"../../../etc/passwd": {}, "/etc/passwd": {}}),
            "does not fit",
        ),
    ]
}


def forged(path: Path, content: bytes) -> None:
    """A state that its manifest vouches for."""
    (path / "state.safetensors").write_bytes(content)
    signed(path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("what", HOSTILE)
def test_a_run_from_elsewhere_is_one_line_and_nothing_else(
    honest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
):
    (tmp_path / "mine").mkdir()
    precious = tmp_path / "mine" / "precious"
    precious.write_text("years of work\n")
    monkeypatch.setenv("PWNED", str(tmp_path / "pwned"))
    monkeypatch.setenv("PRECIOUS", str(precious))
    change, expected = HOSTILE[what]
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    change(run)
    train_on = ["train", "--resume", "--out", str(run), "--steps", "400"]
    said = []
    with little_memory():
        for words in (["evaluate", str(run), "--tasks", "2", "--episodes", "0"], train_on):
            if words is train_on or not any(x in what for x in ("metrics", "lock")):
                said.append(one_line(capsys, words))
    assert all(re.search(expected, line) for line in said), said
    assert not (tmp_path / "pwned").exists()
    assert precious.read_text() == "years of work\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "run"]


def test_a_state_is_never_larger_than_memory(tmp_path: Path):
    """Not even where configuration, manifest and file agree on it."""
    about = checkpoint.Manifest(1, 1, 1.0, "family", "method", None)
    path = checkpoint.save(tmp_path, {"x": np.zeros(1, np.uint8)}, about)
    for size, said in [
        (2**42, "GiB of memory, and this machine has"),
        (2**32, "not enough memory"),
    ]:
        template = {"x": jax.ShapeDtypeStruct((size,), np.uint8)}
        sparse(path / "state.safetensors", size)
        signed(path, leaves=checkpoint._described(template), bytes=size)
        with little_memory(), pytest.raises(UserError, match=said):
            checkpoint.load(path, template)


def test_code_that_a_run_names_is_imported_only_for_whom_vouches_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """One's own runs open, also in another process; another user's do not, until trusted."""
    run = tmp_path / "run"
    assert main([*train(run, tiny(2, evaluate_every=0)), "--quiet"]) == 0
    words = ["evaluate", str(run), "--tasks", "2", "--episodes", "0"]
    monkeypatch.setattr(trust, "_ours", set())  # as another process
    assert main(words) == 0
    monkeypatch.setattr(trust, "_ours", set())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    assert "tiny.py:Tiny' comes from elsewhere" in one_line(capsys, words)
    monkeypatch.setattr(trust, "_ours", set())
    assert main(["trust", str(run)]) == 0
    assert f"may now import: {TINY}" in capsys.readouterr().out
    monkeypatch.setattr(trust, "_ours", set())
    assert main(words) == 0
    assert (tmp_path / "another" / "stemrl" / "key").stat().st_mode & 0o777 == 0o600
    # Going on with it keeps the signature; a name that is changed afterwards has none.
    assert main(["train", "--resume", "--out", str(run), "--steps", "90", "--quiet"]) == 0
    monkeypatch.setattr(trust, "_ours", set())
    assert main(words) == 0
    content = json.loads((run / "config.json").read_text())
    content["family"] = f"{tmp_path / 'evil.py'}:Evil"
    (run / "config.json").write_text(json.dumps(content))
    assert "comes from elsewhere" in one_line(capsys, words)
    # Where no key can be kept, the process that made a run still opens it.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert main([*train(tmp_path / "more", tiny(1, evaluate_every=0)), "--quiet"]) == 0
    assert Run.open(tmp_path / "more").summary["updates"] == 1
