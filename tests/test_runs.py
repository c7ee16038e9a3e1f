"""The run loop: what it writes, and that nothing it does besides learning changes what is learned."""

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

from stemrl import machine
from stemrl.errors import UserError
from stemrl.runs import (
    Interrupted,
    NonFinite,
    Run,
    RunConfig,
    compilation_cache,
    loop,
    resume,
    train,
)

HERE = Path(__file__).parent
TINY, CALLBACK = f"{HERE / 'tiny.py'}:Tiny", f"{HERE / 'tiny.py'}:CallbackPoint"
UPDATE = 3 * 2 * 5
"""Environment steps of one of `Tiny`'s updates."""


def tiny(updates: int = 12, **changes: Any) -> RunConfig:
    """A run of that many updates of a few milliseconds each."""
    fields: dict[str, Any] = {
        "method": TINY,
        "family": "point-2d",
        "family_settings": {"horizon": 5},
        "steps": updates * UPDATE,
        "evaluate_every": 5 * UPDATE,
        "evaluate_tasks": 2,
    }
    if changes.get("family") == CALLBACK:
        fields["family_settings"] = {}
    return RunConfig(**fields | changes)


def rows(run: Run) -> list[dict[str, Any]]:
    """The metrics that must repeat."""
    return [{k: v for k, v in row.items() if not k.startswith("wall/")} for row in run.metrics()]


def files(run: Run) -> dict[str, bytes]:
    """The arrays of every checkpoint."""
    folder = run.path / "checkpoints"
    return {p.name: (p / "state.safetensors").read_bytes() for p in sorted(folder.iterdir())}


class StopAt(Exception):
    """The test's own end of a run."""


def stopping(monkeypatch: pytest.MonkeyPatch, update: int, how: str) -> None:
    """Make the next training stop once `update` is done: `crash`, or `signal` and a clean end."""
    record = loop.Training._record

    def stop(self: Any, *args: Any) -> None:
        record(self, *args)
        if self.update >= update:
            monkeypatch.undo()
            if how == "crash":
                raise StopAt
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.2)  # the thread that listens has its turn

    monkeypatch.setattr(loop.Training, "_record", stop)


@contextlib.contextmanager
def compiling(forget: bool = True) -> Iterator[list[str]]:
    """The names of the run's programs, each time that one is compiled. Without `forget`, those
    that this process has compiled before may be missing."""
    names: list[str] = []

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if found := re.match(
                r"Compiling jit\(_?(begin|advance|collect|learn)\)", record.msg % record.args
            ):
                names.append(found[1])

    if forget:  # other files' tests may have compiled the same, in this very process
        jax.clear_caches()
    handler, logger = Names(), logging.getLogger("jax")
    logger.addHandler(handler)
    with jax.log_compiles():
        yield names
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    """A run from beginning to end, and what was compiled for it."""
    with compiling() as names:
        run = train(tiny(), tmp_path_factory.mktemp("whole") / "run", progress=False)
    return run, names


@pytest.fixture(scope="module")
def whole(undisturbed: tuple[Run, list[str]]) -> Run:
    """A run that nothing disturbed."""
    return undisturbed[0]


def test_a_run_leaves_what_it_promises(whole: Run):
    found = Run.open(whole.path)
    assert found.config == whole.config.resolved()
    updates = [row for row in found.metrics() if row["kind"] == "update"]
    assert [row["update"] for row in updates] == list(range(1, 13))
    assert [row["steps"] for row in updates] == [UPDATE * i for i in range(1, 13)]
    assert all(np.isfinite(row["return"]) and row["undefined"] is None for row in updates)
    evaluations = [row for row in found.metrics() if row["kind"] == "evaluation"]
    assert [row["update"] for row in evaluations] == [5, 10, 12]
    assert evaluations[0]["points"][0]["episodes_used"] == 0
    assert evaluations[0]["score"] == evaluations[0]["points"][-1]["mean"]
    assert int(found.state().updates) == 12
    best = max(evaluations, key=lambda row: row["score"])
    assert int(found.state("best").updates) == best["update"]
    agent = found.agent()
    np.testing.assert_array_equal(agent.weight, found.state().weight)
    assert found.summary["updates"] == 12 and found.summary["best_score"] == best["score"]


def test_a_callback_sees_every_row_and_may_stop(whole: Run, tmp_path: Path):
    seen: list[dict[str, Any]] = []

    def evaluated_twice(row: dict[str, Any]) -> Any:
        seen.append(row)
        return np.less([one["kind"] for one in seen].count("evaluation"), 2)  # NumPy's False too

    out = tmp_path / "run"
    stopped = train(tiny(), out, progress=False, callback=evaluated_twice)
    names = ("kind", "update", "steps", "seed", "return", "score", "wall/seconds")
    told, written = ([[row.get(n) for n in names] for row in r] for r in (seen, stopped.metrics()))
    assert told == written and seen[-1]["kind"] == "evaluation"
    assert stopped.summary["updates"] == 10

    class Pruned(Exception):
        pass

    def prune(row: dict[str, Any]) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        train(tiny(), out, resume=True, progress=False, callback=prune)
    assert Run.open(out).summary["updates"] > 10
    resumed = train(tiny(), out, resume=True, progress=False)
    # It keeps the two newest, and another one is the last but one.
    assert rows(resumed) == rows(whole) and max(files(resumed).items()) == max(files(whole).items())


@pytest.mark.parametrize("how", ["crash", "signal"])
@pytest.mark.parametrize("update", [1, 5, 8, 11])
def test_a_resumed_run_is_the_uninterrupted_one(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, update: int
):
    stopping(monkeypatch, update, how)
    with pytest.raises(StopAt if how == "crash" else Interrupted) as stopped:
        train(tiny(), tmp_path / "run", progress=False)
    if how == "signal":
        assert stopped.value.exit_status == 143 and "--resume" in str(stopped.value)
    again = resume(tmp_path / "run", progress=False)
    assert rows(again) == rows(whole)
    assert files(again)["000000000360"] == files(whole)["000000000360"]


def test_a_callback_family_resumes_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny(6, family=CALLBACK)
    with compiling() as names:
        undisturbed = train(config, tmp_path / "whole", progress=False)
    assert names == ["begin", "collect", "learn"]
    stopping(monkeypatch, 3, "signal")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", progress=False)
    again = resume(tmp_path / "run", progress=False)
    assert rows(again) == rows(undisturbed)
    assert files(again) == files(undisturbed)


def test_chunks_evaluations_and_kept_checkpoints_change_nothing(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tiny(evaluate_every=0, keep_every=4 * UPDATE)
    other = train(config, tmp_path / "a", progress=False)
    assert files(other)["000000000360"] == files(whole)["000000000360"]
    assert sorted(map(int, files(other))) == [120, 240, 360]
    # What is kept can be opened, and what is damaged has no substitute.
    assert not np.array_equal(other.agent(120).weight, other.agent().weight)
    np.testing.assert_array_equal(other.agent(360).weight, other.agent("last").weight)
    with pytest.raises(UserError, match="no checkpoint of 121 steps; there are: 120, 240, 360"):
        other.agent(121)
    with pytest.raises(UserError, match="'last', 'best' or a number"):
        other.agent(cast(Any, "first"))
    (other.path / "checkpoints" / "000000000120" / "state.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"damaged.*ask for another"):
        other.agent(120)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    other = train(config, tmp_path / "b", progress=False)
    assert files(other)["000000000360"] == files(whole)["000000000360"]


def test_more_steps_go_on_from_the_last(whole: Run, tmp_path: Path):
    train(tiny(7, evaluate_every=0), tmp_path / "run", progress=False)
    longer = resume(tmp_path / "run", progress=False, steps=12 * UPDATE)
    assert files(longer)["000000000360"] == files(whole)["000000000360"]
    assert Run.open(longer.path).config.steps == 12 * UPDATE


def test_nothing_compiles_after_the_first_update(undisturbed: tuple[Run, list[str]]):
    assert undisturbed[1] == ["begin", "advance"]


def test_seeds_at_once_are_the_seeds_one_by_one(tmp_path: Path):
    config = tiny(4, seeds=2, seed=3, evaluate_every=4 * UPDATE)
    both = train(config, tmp_path / "both", progress=False)
    for index, seed in enumerate((3, 4)):
        config = tiny(4, seed=seed, evaluate_every=4 * UPDATE)
        alone = train(config, tmp_path / str(seed), progress=False)
        ours, theirs = both.agent("last", index), alone.agent()
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
        of_seed = [row for row in rows(both) if row["seed"] == seed]
        for mine, other in zip(of_seed, rows(alone), strict=True):
            assert mine["update"] == other["update"] and mine["kind"] == other["kind"]
            name = "return" if mine["kind"] == "update" else "score"
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-4)
    with pytest.raises(UserError, match="counted from 0; there is no 2"):
        both.agent("last", 2)
    with pytest.raises(UserError, match=r"pure JAX.*one after another"):
        train(tiny(family=CALLBACK, seeds=2), tmp_path / "callback")


@pytest.mark.parametrize(("family", "poison"), [("point-2d", "loss"), (CALLBACK, "parameter")])
def test_what_is_not_finite_stops_the_run(tmp_path: Path, family: str, poison: str):
    settings = {"poison": poison, "poison_at": 8}
    config = tiny(family=family, settings=settings)
    name = {"loss": "loss/policy", "parameter": "weight"}[poison]
    with pytest.raises(NonFinite, match=f"update 8: '{name}' is not finite.*000000000150"):
        train(config, tmp_path / "run", progress=False)
    run = Run.open(tmp_path / "run")
    assert int(run.state().updates) == 5
    assert np.isfinite(run.state().weight).all()


def test_a_run_is_never_overwritten(whole: Run, tmp_path: Path):
    before = files(whole), rows(whole)
    with pytest.raises(UserError, match="already holds a run; go on with it"):
        train(tiny(), whole.path)
    assert (files(whole), rows(whole)) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds files; empty it"):
        train(tiny(), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        train(tiny(), tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no run in"):
        train(tiny(), tmp_path / "nowhere", resume=True)


def test_resuming_with_other_settings_is_refused(whole: Run):
    for changes, message in [
        ({"seed": 1}, r"another seed \(0 before, 1 now\)"),
        ({"settings": {"learning_rate": 1.0}}, r"another learning_rate \(0.1 before, 1.0 now\)"),
        ({"family_settings": {"horizon": 6}}, "another horizon"),
    ]:
        with pytest.raises(UserError, match=message):
            train(tiny(**changes), whole.path, resume=True)


def test_the_budget_in_the_target_is_never_exceeded(tmp_path: Path):
    settings = {"target_steps_taken": 10}
    config = tiny(12, settings=settings, target="point-2d", budget=119)
    learner, problem = config.learner(), config.problem()
    with pytest.raises(UserError, match=r"12 updates would take 120 steps .* lower steps to 330"):
        train(config, tmp_path / "run")
    assert loop._updates(dataclasses.replace(config, steps=330), learner, problem) == 11
    # Of a budget that does not allow for one update, fewer steps are no way out.
    with pytest.raises(UserError, match=r"the budget is 9; give a new run a larger budget$"):
        train(dataclasses.replace(config, budget=9), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_which_nothing_comes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What cannot be trained is known before there is a folder; what cannot be written, after."""
    told: list[str] = []
    begun = lambda: told.append("begun")  # noqa: E731
    nothing = RunConfig("her", "point-2d")
    for wrong in (nothing, tiny(settings={"target_steps_taken": 1}), tiny(devices=2)):
        with pytest.raises(UserError):
            train(wrong, tmp_path / "runs" / "run", begun=begun)
    assert not list(tmp_path.iterdir()) and told == []

    def full(path: Path, content: bytes) -> None:
        path.with_name(f".{path.name}.writing").write_bytes(content[:7])
        raise UserError("cannot write: the disk is full")

    (tmp_path / "mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_whole", full)
        for folder in ("runs/run", "mine"):
            with pytest.raises(UserError, match="the disk is full"):
                train(tiny(), tmp_path / folder, begun=begun)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())
    train(tiny(1), tmp_path / "mine", progress=False, begun=begun)
    assert told == 3 * ["begun"]


def test_a_lock_that_was_given_up_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flock = fcntl.flock

    def late(file: Any, how: int) -> None:
        (tmp_path / ".lock").unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UserError, match=r"has just given up .*; try again"):
        train(tiny(), tmp_path, progress=False)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_last_good_checkpoint_is_used(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = train(tiny(), tmp_path / "run", progress=False)
    names = sorted(files(run))
    damage(run.path / "checkpoints" / names[-1] / "state.safetensors")
    assert int(run.state().updates) == int(names[-2]) // UPDATE
    again = resume(run.path, progress=False)
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: checkpoint {names[-1]} is damaged" in said
    assert rows(again) == rows(whole)
    state = (run.path / "checkpoints" / names[-1] / "state.safetensors").read_bytes()
    assert state == files(whole)[names[-1]]
    for path in (run.path / "checkpoints").glob("0*"):
        damage(path / "manifest.json")
    with pytest.raises(UserError, match=r"no checkpoint of .* can be read"):
        run.state()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    blocked = tmp_path / "file" / "run"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*run"):
        train(tiny(), blocked)


def test_a_second_signal_ends_the_process():
    script = """
import os, signal, time
from stemrl.runs.signals import StopSignals
with StopSignals(lambda s: print("first", flush=True)) as stop:
    os.kill(os.getpid(), signal.SIGINT)
    while stop.received is None: time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 130 and done.stdout == b"first\n"


def test_handlers_are_as_they_were(whole: Run):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    resume(whole.path, progress=False)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_metrics_that_were_cut_short_are_mended(tmp_path: Path):
    run = train(tiny(3), tmp_path / "run", progress=False)
    before = rows(run)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "update", "upd')
    assert rows(run) == before
    resume(run.path, progress=False)
    assert rows(run) == before
    (run.path / "metrics.jsonl").write_text("nonsense\n" + json.dumps(before[0]) + "\n")
    with pytest.raises(UserError, match="damaged in line 1"):
        run.metrics()


def test_rows_that_are_lost_are_said_and_repeated_ones_are_refused(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(whole.path, tmp_path / name))

    lines = (whole.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    for name, kept, lost in (("none", [], 12), ("fewer", lines[:3] + lines[5:], 2)):
        run = copy(name)
        (run / "metrics.jsonl").write_text("".join(kept))
        done = resume(run, progress=False)
        assert f"tells nothing of {lost} of the 12 updates" in capsys.readouterr().err
        assert done.summary["updates"] == 12 and done.summary["steps"] == 12 * UPDATE
    (copy("removed") / "metrics.jsonl").unlink()
    resume(tmp_path / "removed", progress=False)
    assert "of 12 of the 12" in capsys.readouterr().err

    repeated = copy("repeated") / "metrics.jsonl"
    with open(repeated, "w") as file:
        file.writelines([lines[0]] * 100_000)
    for ask in (Run.open(repeated.parent).metrics, lambda: resume(repeated.parent)):
        began = time.monotonic()
        with pytest.raises(UserError, match="damaged in line 2: it repeats a row"):
            ask()
        assert time.monotonic() - began < 5
    shuffled = copy("shuffled")
    (shuffled / "metrics.jsonl").write_text("".join([*lines[2:], *lines[:2]]))
    with pytest.raises(UserError, match="goes back"):
        Run.open(shuffled).metrics()

    linked = copy("linked") / "metrics.jsonl"
    linked.rename(tmp_path / "elsewhere.jsonl")
    linked.symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(UserError, match="is a link, which could lead anywhere"):
        resume(linked.parent, progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hidden": (300_000_000,)}, "state of learning"), ({"rollout_length": 2**31 - 1}, "experience of")],
)  # fmt: skip
def test_what_does_not_fit_into_memory_is_refused_before_it_is_tried(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "physical_memory", lambda: 2**33)
    with pytest.raises(UserError, match=rf"{message} .*would take [\d,.]+ GiB"):
        train(RunConfig("ppo", "point-2d", settings=settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_64_bit_numbers_says_so(whole: Run):
    with jax.enable_x64(True), pytest.raises(UserError) as caught:
        Run.open(whole.path).state()
    assert "32-bit numbers, and this process has 64-bit ones" in str(caught.value)
    assert "JAX_ENABLE_X64=0" in str(caught.value)


def test_a_finished_run_lets_its_programs_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run
):
    one = jax.jit(lambda x: x + 1)
    one(1.0)
    monkeypatch.setattr(compilation_cache, "MAPPINGS", 1 << 40)
    resume(whole.path, progress=False)
    assert one._cache_size() == 1
    monkeypatch.setattr(compilation_cache, "MAPPINGS", 0)
    resume(whole.path, progress=False)
    assert one._cache_size() == 0


@pytest.mark.long
def test_200_trainings_in_one_process(tmp_path: Path):
    """Each with other settings, as in a sweep: neither mappings nor memory pile up."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(HERE)!r})
import stemrl
for i in range(200):
    stemrl.train(
        "ppo", "point-2d", family_settings={{"horizon": 5}}, out={str(tmp_path)!r} + f"/{{i}}",
        progress=False, evaluate_every=0, steps=20, num_envs=2, rollout_length=5, minibatches=1,
        epochs=1, hidden=(4 + i,),
    )
    if i % 50 == 49:
        held = sum(1 for _ in open("/proc/self/maps"))
        print(held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    held, memory = zip(*(map(int, line.split()) for line in done.stdout.splitlines()), strict=True)
    assert len(held) == 4 and max(held) < 30_000, held
    assert memory[-1] < memory[0] + 1500, memory


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_jax_was_used_is_one_line(whole: Run):
    script = f"""
import multiprocessing, sys
import stemrl, jax
jax.numpy.zeros(3).block_until_ready()
def work():
    for ask in (lambda: stemrl.train("ppo", "point-2d", out="r"), lambda: stemrl.load({str(whole.path)!r})):
        try:
            ask()
        except stemrl.UserError as error:
            print(error, flush=True)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(60)
sys.exit(child.exitcode)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("forked after JAX had been used") == 2
