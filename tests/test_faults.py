"""Nothing that goes wrong around a run costs more than the time since its last checkpoint.

After every fault either the run goes on to the very bits of the one that nothing disturbed, or
there is one line that says what is the matter, and the last good checkpoint. Never a hang: every
process here has a time limit. `make faults` runs the long tests, those marked `faults`, as well.
"""

import contextlib
import ctypes
import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import faulty
from faulty import Steps
from stemrl.cli import main
from stemrl.errors import UserError
from stemrl.physics import engine
from stemrl.runs import Run, RunConfig, checkpoint, launch, loop, programs
from test_runs import CALLBACK, TINY, UPDATE, files, rows, tiny

FAULTY = Path(faulty.__file__)
LIMIT = 240.0
"""Seconds after which a process counts as hanging. Those that end take a few."""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs are not left in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(run: Path, config: RunConfig, *more: str) -> list[str]:
    """The words that begin a run or go on with it, as its user would type them."""
    file = run.with_name(f"{run.name}.config.json")
    if not file.exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(config.text())
    resume = ["--resume"] if (run / "config.json").exists() else []
    return ["train", "--config", str(file), "--out", str(run), *resume, *more]


def begin(words: list[str], **fault: Any) -> subprocess.Popen[str]:
    """`stemrl` with these words and a fault (see `faulty.main`), in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(FAULTY), json.dumps(fault), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said on stderr."""
    try:
        said = process.communicate(timeout=LIMIT)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"hangs; it said: {process.communicate()[1]}")
    assert "Traceback" not in said, said
    return process.returncode, said


def one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What a command that is refused says."""
    capsys.readouterr()
    assert main([*words, "--quiet"] if words[0] == "train" else words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("stemrl: ") and said.err.count("\n") == 1, said.err
    return said.err


def last(run: Path) -> bytes:
    """The arrays of the newest checkpoint."""
    return (checkpoint.saved(run / "checkpoints")[-1] / "state.safetensors").read_bytes()


def litter(run: Path) -> list[str]:
    """What saving leaves only if it is killed."""
    return [p.name for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]


EVERY = 20


def disturbed(updates: int = 300, **changes: Any) -> RunConfig:
    """A run that evaluates and saves every few milliseconds."""
    return tiny(updates, evaluate_every=EVERY * UPDATE, **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What such a run is if nothing happens to it."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main([*train(run, disturbed()), "--quiet"]) == 0
    return Run.open(run)


# ---- saving, step by step ----------------------------------------------------------------------

STORY = [(10, None), (10, 2.0), (20, None), (30, 1.0), (40, None)]
"""Saves: one is replaced once it is evaluated, one is best, and from the fourth on one goes."""


def state_of(chapter: int) -> dict[str, Any]:
    return {"x": np.arange(500.0, dtype=np.float32) + chapter, "count": np.int32(chapter)}


TEMPLATE = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state_of(0)))


@pytest.fixture
def without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves when it dies is not what a disk leaves when the power goes."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def tell(folder: Path, done: int = 0) -> Iterator[int]:
    """Save and prune chapter by chapter; yields how many are done."""
    for chapter in range(done, len(STORY)):
        steps, score = STORY[chapter]
        about = checkpoint.Manifest(steps, steps, 1.0, "family", "method", score)
        checkpoint.save(folder, state_of(chapter), about)
        checkpoint.prune(folder, 0)
        yield chapter + 1


def newest(folder: Path) -> int:
    """Chapters told, by the newest checkpoint that can be read."""
    for path in checkpoint.saved(folder)[::-1]:
        with contextlib.suppress(checkpoint.Damaged):
            state, manifest = checkpoint.load(path, TEMPLATE)
            chapter = STORY.index((manifest.steps, manifest.score))
            np.testing.assert_array_equal(state["x"], state_of(chapter)["x"])
            return chapter + 1
    return 0


def finish(folder: Path) -> None:
    """Tell what is left to be told."""
    for _ in tell(folder, newest(folder)):
        pass
    checkpoint.prune(folder, 0)


def contents(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    return {str(name): (folder / name).read_bytes() for name in sorted(found)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """All saves, undisturbed: what they leave and the steps that they take."""
    folder = tmp_path_factory.mktemp("told") / "checkpoints"
    with Steps(folder) as steps:
        assert list(tell(folder))[-1] == len(STORY)
    names = " ".join(steps.done)
    for what in (
        "half .writing-000000000010/state", "sync .writing-000000000010/manifest", "sync . ",
        "rename .writing-", "rename 000000000010", "remove .replaced-", "rename 000000000020",
        "rmdir .pruned-",
    ):  # fmt: skip
        assert what in names
    assert sorted(p.name for p in folder.iterdir()) == [f"{n:012d}" for n in (10, 30, 40)]
    return contents(folder), steps.done


class Struck(BaseException):
    """The end of the process, as far as the code under test can tell."""


def strike() -> None:
    raise Struck


def test_killed_in_any_step_of_saving_it_loses_nothing(
    told: tuple[dict[str, bytes], list[str]], tmp_path: Path, without_syncing: None
):
    for at in range(len(told[1])):
        folder, done = tmp_path / str(at) / "checkpoints", 0
        folder.parent.mkdir()
        with Steps(folder, strike, at) as steps, contextlib.suppress(Struck):
            for done in tell(folder):  # noqa: B007
                pass
        where = f"killed before: {steps.done[at]}"
        checkpoint.tidy(folder)
        assert done <= newest(folder) <= done + 1, where
        assert not folder.exists() or not litter(folder.parent), where
        finish(folder)
        assert contents(folder) == told[0], where


def test_a_disk_full_in_any_step_of_saving_is_one_line(
    told: tuple[dict[str, bytes], list[str]], tmp_path: Path, without_syncing: None
):
    refused = 0
    for at, step in enumerate(told[1]):
        folder, done = tmp_path / str(at) / "checkpoints", 0
        folder.parent.mkdir()

        def full() -> None:
            if len(steps.done) == at + 1:  # noqa: B023
                raise OSError(errno.ENOSPC, "No space left on device")

        with Steps(folder, full, at) as steps:
            try:
                for done in tell(folder):  # noqa: B007
                    pass
            except UserError as error:
                assert re.fullmatch(r"cannot write .*: No space left on device", str(error)), step
                refused += 1
        # No one has tidied up yet: this is what the process itself leaves.
        assert done <= newest(folder) <= done + 1, step
        checkpoint.tidy(folder)
        finish(folder)
        assert contents(folder) == told[0], step
    assert refused > len(told[1]) // 2


# ---- processes that are killed and stopped -----------------------------------------------------


def kill_at(process: subprocess.Popen[str], run: Path, seconds: float) -> None:
    """Kill it so long after it has begun to write, unless it ends before."""
    inputs, deadline = written(run), time.monotonic() + LIMIT
    while process.poll() is None and written(run) == inputs and time.monotonic() < deadline:
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()


def written(run: Path) -> tuple[int, ...]:
    """Changes when the run goes on."""
    with contextlib.suppress(FileNotFoundError):
        status = (run / "metrics.jsonl").stat()
        return status.st_mtime_ns, status.st_size
    return ()


def check_what_is_left(run: Path, whole: Run) -> None:
    """Whatever a kill left: rows are those of the undisturbed run, and a checkpoint can be read."""
    if not (run / "config.json").exists():
        return
    opened = Run.open(run)
    of_update = {(row["kind"], row["update"]): row for row in rows(whole)}
    assert all(row == of_update[row["kind"], row["update"]] for row in rows(opened))
    if checkpoint.saved(run / "checkpoints"):
        assert opened.restore()[2] == []  # none of them is damaged


def check_the_end(run: Path, whole: Run) -> None:
    """It is the undisturbed run, and nothing lies around."""
    assert rows(Run.open(run)) == rows(whole)
    assert files(Run.open(run)) == files(whole)
    assert litter(run) == []


def test_killed_while_training_and_while_saving_it_goes_on_to_the_same_bits(
    undisturbed: Run, tmp_path: Path
):
    run, moment = tmp_path / "run", random.Random(0).uniform(0.0, 0.3)
    process = begin(train(run, disturbed()))
    kill_at(process, run, moment)
    killed = end(process)[0]
    assert killed in (-signal.SIGKILL, 0)
    check_what_is_left(run, undisturbed)
    # Begun anew or resumed, its 40th step is inside the second or third checkpoint.
    process = begin(train(run, disturbed()), die_at=40, folder=str(run))
    assert end(process)[0] == killed
    check_what_is_left(run, undisturbed)
    assert main([*train(run, disturbed()), "--quiet"]) == 0
    check_the_end(run, undisturbed)


SMALL_PPO = {"num_envs": 8, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": [8]}
KILLS = {
    "in JAX alone": (30, disturbed(600)),
    "with a simulator": (12, disturbed(200, family=CALLBACK)),
    "PPO": (
        8,
        RunConfig(
            "ppo", "point-2d", family_settings={"horizon": 20}, steps=40_000,
            settings=SMALL_PPO, evaluate_every=800, evaluate_tasks=2,
        ),
    ),
}  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("what", KILLS)
def test_fifty_kills_at_random_moments(what: str, tmp_path: Path):
    kills, config = KILLS[what]
    assert main([*train(tmp_path / "whole", config), "--quiet"]) == 0
    whole = Run.open(tmp_path / "whole")
    moments, count, run = random.Random(7), 0, tmp_path / "run0"
    inside = 0
    while count < kills:
        which = moments.random()
        if which < 0.4:  # in a step of saving, of one of the first few checkpoints
            process = begin(train(run, config), die_at=moments.randrange(15, 60), folder=str(run))
        elif which < 0.5:  # before it has begun: while it imports, restores, compiles
            process = begin(train(run, config))
            time.sleep(moments.uniform(0.0, 3.0))
            process.kill()
        else:
            process = begin(train(run, config))
            kill_at(process, run, moments.uniform(0.0, 0.5))
        status = end(process)[0]
        assert status in (-signal.SIGKILL, 0)
        count += status != 0
        if (run / "checkpoints").exists():
            inside += bool(litter(run))
        if status == 0:
            check_the_end(run, whole)
            run = tmp_path / f"run{count}"
            continue
        check_what_is_left(run, whole)
    assert main([*train(run, config), "--quiet"]) == 0
    check_the_end(run, whole)
    assert inside > 0
    print(f"{what}: {count} kills, {inside} of them left half a checkpoint", file=sys.stderr)


@pytest.mark.faults
def test_killed_in_every_step_of_a_run(undisturbed: Run, tmp_path: Path):
    """Each process dies one step later than the one before it, and goes on where that one was."""
    run = tmp_path / "run"
    for at in range(80):
        process = begin(train(run, disturbed()), die_at=at, folder=str(run))
        status = end(process)[0]
        assert status in (-signal.SIGKILL, 0)
        check_what_is_left(run, undisturbed)
        if status == 0:
            break
    assert main([*train(run, disturbed()), "--quiet"]) == 0
    check_the_end(run, undisturbed)


def stopped_by(how: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process trains; another that wants the same folder is refused; a signal stops the first;
    what it has done is what a run of that length would have."""
    run, config = tmp_path / "run", tiny(1_000_000, evaluate_every=0)
    process = begin(train(run, config), chunk=0.1)
    deadline = time.monotonic() + LIMIT
    while not written(run) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert f"process {process.pid}) is writing" in one_line(capsys, train(run, config))
    process.send_signal(how)
    status, said = end(process)
    assert status == 128 + how and said.count("stopped by") == 1, said
    assert f"{how.name}: finishing the chunk" in said and "--resume" in said
    done = Run.open(run).summary["updates"]
    assert int(Run.open(run).state().updates) == done  # nothing that was done is lost
    more = ["--steps", str((done + 3) * UPDATE), "--quiet"]
    assert main([*train(run, config), *more]) == 0
    assert main([*train(tmp_path / "whole", config), *more]) == 0
    assert last(run) == last(tmp_path / "whole")
    assert rows(Run.open(run)) == rows(Run.open(tmp_path / "whole"))


def test_sigterm_and_two_writers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stopped_by(signal.SIGTERM, tmp_path, capsys)


@pytest.mark.faults
def test_sigint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stopped_by(signal.SIGINT, tmp_path, capsys)


@pytest.mark.faults
def test_of_many_that_begin_at_once_one_trains(undisturbed: Run, tmp_path: Path):
    run = tmp_path / "run"
    words = train(run, disturbed())
    processes = [begin(words) for _ in range(4)]
    ends = [end(process) for process in processes]
    assert sorted(status for status, _ in ends) == [0, 2, 2, 2], ends
    for status, said in ends:
        if status:
            assert re.search(r"stemrl: .*(is writing|already holds a run)", said), said
    check_the_end(run, undisturbed)


def test_what_was_begun_and_ended_while_we_waited_for_the_lock_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, config = tmp_path / "run", tiny(3)
    real = launch.locked

    def late(folder: Path) -> Any:
        monkeypatch.setattr(launch, "locked", real)
        launch.train(config, run, progress=False)  # another process is faster
        return real(folder)

    monkeypatch.setattr(launch, "locked", late)
    with pytest.raises(UserError, match="already holds a run"):
        launch.train(config, run, progress=False)
    assert Run.open(run).summary["updates"] == 3


# ---- a disk that is full, a folder that is read-only -------------------------------------------


def test_a_disk_that_fills_up_while_training(
    undisturbed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Here no file may grow beyond a size, which the system says in other words."""
    run = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = train(run, disturbed())
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        said = one_line(capsys, words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.search(
        r"after update \d+: cannot write .*metrics.jsonl: File too large; the last good", said
    )
    check_what_is_left(run, undisturbed)
    assert main([*train(run, disturbed()), "--quiet"]) == 0
    check_the_end(run, undisturbed)


@pytest.mark.faults
def test_a_file_system_that_is_full(
    undisturbed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        run = disk / "run"
        words = train(run, disturbed())
        (disk / "ballast").write_bytes(bytes(2**21 - 48 * 1024))
        for _ in range(2):  # with a disk that is still full, going on is no other
            said = one_line(capsys, words)
            assert re.search(r"cannot write .*No space left on device", said), said
            words = train(run, disturbed())
        check_what_is_left(run, undisturbed)
        (disk / "ballast").unlink()
        assert main([*words, "--quiet"]) == 0
        check_the_end(run, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextlib.contextmanager
def obeying_permissions() -> Iterator[None]:
    """Be refused what permission bits refuse. Root is not, unless it lays down that power."""
    if os.geteuid() != 0:
        yield
        return
    libc, override = ctypes.CDLL(None, use_errno=True), 1  # CAP_DAC_OVERRIDE
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:
        pytest.skip("root's powers cannot be read here")
    before = sets[0]
    sets[0] &= ~(1 << override)
    if libc.capset(header, sets) != 0:
        pytest.skip("root's powers cannot be laid down here")
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)


def test_a_read_only_folder(
    undisturbed: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    run = tmp_path / "run"
    words = train(run, disturbed())
    with obeying_permissions():
        tmp_path.chmod(0o555)
        assert re.search(r"cannot write .*run: Permission denied", one_line(capsys, words))
        tmp_path.chmod(0o755)

        record = loop.Training._record

        def closing(self: Any, *arguments: Any) -> None:
            record(self, *arguments)
            if self.update >= 100:
                (run / "checkpoints").chmod(0o555)

        monkeypatch.setattr(loop.Training, "_record", closing)
        said = one_line(capsys, words)
        assert re.search(r"stopped after update 100: cannot write .*Permission denied", said)
        assert "the last good checkpoint is" in said and "000000002400" in said
        monkeypatch.undo()
        (run / "checkpoints").chmod(0o755)
        assert main([*train(run, disturbed()), "--quiet"]) == 0
        check_the_end(run, undisturbed)

        # Reading a run writes nothing; going on with it must.
        for folder in (run, run / "checkpoints"):
            folder.chmod(0o555)
        (run / ".lock").chmod(0o444)
        assert main(["evaluate", str(run), "--tasks", "2", "--episodes", "0"]) == 0
        assert "Permission denied" in one_line(capsys, train(run, disturbed()))
        for folder in (run, run / "checkpoints"):
            folder.chmod(0o755)
    check_the_end(run, undisturbed)


def test_an_answer_that_cannot_be_written_is_one_line():
    script = "import sys; from stemrl.cli import main; sys.exit(main(['list']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=LIMIT,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "stemrl: cannot write the answer: No space left on device\n"


# ---- bytes that are not what they were ---------------------------------------------------------


def test_a_flipped_byte_in_any_file_is_noticed_or_harms_nothing(
    undisturbed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Arrays and manifests are proof against it; the rest is text for people to read, where a
    flipped digit may pass, but never into what is learned."""
    config = tiny(7)
    assert main([*train(tmp_path / "whole", config), "--quiet"]) == 0
    whole = tmp_path / "whole"
    found = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert len(found) == 3 + 2 * len(checkpoint.saved(whole / "checkpoints"))
    places = random.Random(3)
    outcomes = {"went on": 0, "refused": 0}
    for name in sorted(found):
        size = (whole / name).stat().st_size
        for at in {0, 8, size - 1, places.randrange(size), places.randrange(size)}:
            run = tmp_path / "damaged"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(whole, run)
            (run.parent / "damaged.config.json").unlink(missing_ok=True)
            content = bytearray((run / name).read_bytes())
            content[min(at, size - 1)] ^= 1 << places.randrange(7)
            (run / name).write_bytes(content)
            words = ["train", "--resume", "--out", str(run), "--steps", str(7 * UPDATE)]
            capsys.readouterr()
            status, said = main([*words, "--quiet"]), capsys.readouterr().err
            if status == 0:
                assert last(run) == last(whole), name
                outcomes["went on"] += 1
            else:
                assert status == 2 and said.count("stemrl: ") == 1 and "\n" not in said[:-1], said
                assert contents(run / "checkpoints") == contents(whole / "checkpoints") or (
                    name.parts[0] == "checkpoints"
                )
                outcomes["refused"] += 1
            if name.parts[0] == "checkpoints":
                assert status == 0
                if name.parent.name == f"{7 * UPDATE:012d}":
                    assert "is damaged" in said
    assert min(outcomes.values()) > 3, outcomes


# ---- learning and simulating that goes wrong ---------------------------------------------------


def test_of_400_episodes_one_diverges_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = RunConfig(
        TINY, "half-cheetah-vel", settings={"tasks": 20, "episodes_per_round": 20},
        family_settings={"horizon": 8}, steps=400 * 8 * 2, evaluate_every=0,
    )  # fmt: skip
    learner, problem = config.learner(), config.problem()
    exempt = jnp.asarray(programs.exempt(learner.init(problem, jax.random.key(0)), False))

    def play() -> tuple[Any, dict[str, Any]]:
        state = programs.begin(learner, problem, jax.random.key(0))
        state, trials = programs.collect((learner, problem), state)
        trials = jax.device_get(trials)
        return trials, programs.learn((learner, problem, trials, exempt), state)[1]

    sound, metrics = play()
    assert metrics["diverged"] == 0
    step, called = engine._Simulator.step, 0

    def breaking(self: Any, words: Any, control: Any, values: Any) -> Any:
        nonlocal called
        called += 1
        if called == 5:
            words = np.array(words)
            velocity = 1 + self.nominal.nq
            words.view(np.float64)[137, velocity : velocity + self.nominal.nv] = 1e30
        return step(self, words, control, values)

    monkeypatch.setattr(engine._Simulator, "step", breaking)
    broken, metrics = play()
    assert metrics["diverged"] == 1
    task, episode = divmod(137, 20)
    assert sound.lengths.shape == (20, 1, 20) and (sound.lengths == 8).all()
    assert broken.lengths[task, 0, episode] == 5
    assert broken.transitions.terminated[task, 0, episode].tolist() == [False] * 4 + [True] + (
        [False] * 3
    )
    assert np.isfinite(broken.transitions.next_obs).all() and np.isfinite(broken.returns).all()
    others = np.arange(400) != 137
    for one, other in zip(
        jax.tree.leaves(sound.transitions), jax.tree.leaves(broken.transitions), strict=True
    ):
        one, other = (x.reshape(400, *x.shape[3:])[others] for x in (one, other))
        np.testing.assert_array_equal(one, other)

    called = 0
    assert main([*train(tmp_path / "run", config), "--quiet"]) == 0
    assert "warning: 1 simulation(s) diverged up to update 1" in capsys.readouterr().err
    assert [row["diverged"] for row in Run.open(tmp_path / "run").metrics()] == [1, 0]
    for first_call, count in ((0, 1), (5, 0)):
        called = first_call
        words = ["evaluate", str(tmp_path / "run"), "--tasks", "20", "--episodes", "0", "--json"]
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["diverged"] == count


SMALL = {
    "ppo": {"num_envs": 4, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": [8]},
    "sac": {"capacity": 4000, "warm_up_steps": 100, "batch_size": 16, "hidden": [8]},
    "maml": {"meta_batch_size": 2, "inner_episodes": 2, "hidden": [8]},
    "rl2": {"hidden_size": 8, "batch_steps": 60, "epochs": 1, "minibatches": 1},
    "finetune": {"num_envs": 4, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": [8]},
    "her": {
        "episodes": 8, "gradient_steps": 2, "batch_size": 16, "capacity": 400, "hidden": [8],
    },
    "darc": {
        "learner": "ppo num_envs=4 rollout_length=20 epochs=1 minibatches=1 hidden=8",
        "warm_up_steps": 0, "classifier_gradient_steps": 2, "classifier_batch_size": 16,
        "classifier_hidden": [8], "capacity": 400,
    },
}  # fmt: skip
"""Settings with which a method's update takes a moment."""


POISONED, TRANSFER = f"{FAULTY}:PoisonedPoint", {"target": "point-2d", "budget": 100_000}
POISON: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in ("ppo", "sac", "maml", "rl2", "finetune")},
    "her": {"method": "her", "family": f"{FAULTY}:PoisonedBits", "reveal": "context"},
    "darc, source": {"method": "darc", **TRANSFER, "target_settings": {"horizon": 5}},
    "darc, target": {
        "method": "darc", **TRANSFER, "family": "point-2d", "family_settings": {"horizon": 5},
        "target": POISONED,
    },
}  # fmt: skip
"""Methods of every kind, where some rewards are not numbers."""


def poisoned(what: str) -> RunConfig:
    fields = {"family": POISONED, "steps": 100_000, "evaluate_every": 0, **POISON[what]}
    return RunConfig(**fields, settings=SMALL[fields["method"]])


def check_poisoned(run: Path, config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that the family is to blame, in which update and step; what it has saved is finite,
    and is resumed to the same end."""
    said = one_line(capsys, train(run, config))
    told = r"the reward of the family .* is not finite at .*step \d+.*; mend the family"
    found = re.search(rf"stopped in update (\d+): {told}", said)
    assert found, said
    assert Run.open(run).metrics()[-1]["update"] == int(found[1])
    again = one_line(capsys, train(run, config))
    assert re.search(rf"stopped in update {found[1]}: {told}", again), again


SHORT = ("ppo",)


@pytest.mark.parametrize(
    "what",
    [pytest.param(w, marks=() if w in SHORT else pytest.mark.faults) for w in POISON],
)
def test_rewards_that_are_not_numbers_stop_every_learner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
):
    """In the source, and for DARC, which learns from no reward of the target, there too. Every
    method's experience is looked over in one place, so these stand for all."""
    check_poisoned(tmp_path / "run", poisoned(what), capsys)


@pytest.mark.parametrize(
    "world", ["BrokenPoint", pytest.param("BrokenHostPoint", marks=pytest.mark.faults)]
)
def test_a_simulator_that_raises_an_exception_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world: str
):
    run = tmp_path / "run"
    faulty.calls, per_update = 0, {"BrokenPoint": 5, "BrokenHostPoint": 30}[world]
    breaks_at = 7 * per_update + 3
    config = tiny(
        10, family=f"{FAULTY}:{world}", family_settings={"breaks_at": breaks_at},
        evaluate_every=0, keep_every=5 * UPDATE,
    )  # fmt: skip
    said = one_line(capsys, train(run, config))
    assert "stopped after update 7: " in said, said
    assert "FloatingPointError: the simulator fell apart" in said and "faulty.py, line" in said
    assert "the last good checkpoint is" in said and "000000000150" in said
    faulty.calls = breaks_at  # mended
    assert main([*train(run, config), "--quiet"]) == 0
    faulty.calls = breaks_at
    assert main([*train(tmp_path / "whole", config), "--quiet"]) == 0
    assert last(run) == last(tmp_path / "whole")


# ---- memory ------------------------------------------------------------------------------------


def growth(tmp_path: Path, configs: dict[str, RunConfig]) -> dict[str, float]:
    """MiB that training takes more after 500 updates than after 100, in a process each."""
    grown = {}
    for name, config in configs.items():
        note = tmp_path / f"{name}.memory"
        process = begin([*train(tmp_path / name, config), "--quiet"], memory=str(note), chunk=0.0)
        status, said = end(process)
        assert status == 0, said
        held = dict(map(int, line.split()) for line in note.read_text().splitlines())
        assert max(held) >= 500
        early, late = ([held[n] for n in held if a < n <= a + 20] for a in (90, 480))
        grown[name] = (np.median(late) - np.median(early)) / 2**20
    return grown


def test_memory_over_500_updates_is_flat(tmp_path: Path):
    config = tiny(500, family=CALLBACK, evaluate_every=0, keep_every=50 * UPDATE)
    grown = growth(tmp_path, {"simulator": config})
    assert grown["simulator"] < 5.0, grown


@pytest.mark.faults
def test_memory_of_real_learners_is_flat(tmp_path: Path):
    def updates(method: str, family: str, each: int, **family_settings: Any) -> RunConfig:
        steps = 500 * each
        return RunConfig(
            method, family, settings=SMALL[method], family_settings=family_settings,
            steps=steps, evaluate_every=50 * each, evaluate_tasks=2,
        )  # fmt: skip

    grown = growth(
        tmp_path,
        {
            "ppo": updates("ppo", "point-2d", 40, horizon=5),
            "sac": updates("sac", "point-2d", 64, horizon=5),
            "maml": updates("maml", "hopper-params", 80, horizon=10),
            "rl2": updates("rl2", "half-cheetah-vel", 60, horizon=10),
            "host": updates("rl2", "gymnasium", 60, horizon=10),
        },
    )
    print({name: round(float(mib), 2) for name, mib in grown.items()}, file=sys.stderr)
    assert max(grown.values()) < 5.0, grown
