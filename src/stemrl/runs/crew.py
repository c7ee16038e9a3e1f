"""Trainings in processes of their own, as many at a time as there are cores.

A second thread gives the small networks of one training little, a second training all of its core.
So several seeds, or several methods to be compared, are trained side by side, each in an ordinary
run's folder.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

from ..errors import CannotResume, UserError, unforeseen
from ..machine import CORES, XLA_THREADS
from . import checkpoint
from .compilation_cache import enable_compilation_cache
from .config import RunConfig
from .launch import train
from .loop import Interrupted
from .metrics import last_row
from .progress import ProgressDisplay
from .run import CHECKPOINTS, CONFIG, METRICS, Run

POLL_SECONDS = 1.0
"""Between two looks at how far the others are."""
CANNOT_RESUME = 3
"""How a process ends that was refused because of what lies in the run's folder."""


class Job:
    """A training that a `Crew` does, or will do."""

    def __init__(self, label: str, config: RunConfig, out: Path):
        """**Arguments:** `label` names it in messages."""
        self.label, self.config, self.out = label, config, out
        self.done: Future[None] = Future()

    def order(self) -> str:
        """Return what the process is told. Settings are read out of our source, and this thread alone
        may do that: until Python 3.12 two that read syntax, NumPy's files too, can fail (CPython's
        issue 106905)."""
        return json.dumps({"config": json.loads(self.config.text()), "out": str(self.out)})

    def steps(self) -> int:
        """Return how many environment steps are done so far."""
        row = last_row(self.out / METRICS)
        return 0 if row is None else min(int(row["steps"]), self.config.steps)


class Crew:
    """`size` processes at a time, each with one thread for XLA and one for simulators.

    A context: at its end those that still train are told to stop, which leaves their runs as an
    interruption does, to be gone on with. So are they if this process dies.
    """

    def __init__(self, size: int):
        self._size = size
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._size)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def train(self, label: str, config: RunConfig, out: str | Path) -> Job:
        """Train as `config` says in the folder `out`, or go on with what is there, as soon as there
        is a core for it; returns at once."""
        job = Job(label, config, Path(out))
        try:
            finished, order = _finished(job.config, job.out), job.order()
        except UserError as error:
            job.done.set_exception(error)
        else:
            if finished:
                job.done.set_result(None)
            else:
                job.done = self._pool.submit(self._do, job, order)
        return job

    def wait(
        self, jobs: Sequence[Job], progress: bool, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Until `jobs` are done; `tick` is called every second or so meanwhile. Raises `UserError`
        with the word of one that failed."""
        wanted = sum(job.config.steps for job in jobs)
        begun = sum(job.steps() for job in jobs)
        began, first = time.monotonic(), None
        shown = progress and any(not job.done.done() for job in jobs)
        with ProgressDisplay(wanted, begun, shown) as display:
            while any(not job.done.done() for job in jobs):
                time.sleep(POLL_SECONDS)
                tick()
                for job in jobs:
                    if job.done.done():
                        job.done.result()
                done = sum(job.steps() for job in jobs)
                first = done if first is None else first
                took = max(time.monotonic() - began, POLL_SECONDS)
                display.advance(done, (done - first) / took or None, None)
        for job in jobs:
            job.done.result()

    def _do(self, job: Job, order: str) -> None:
        """In a thread: one process from its start to its end."""
        with self._lock:
            if self._closed:
                return
            process = subprocess.Popen(
                [sys.executable, "-c", f"import sys, {__name__} as crew; sys.exit(crew.main())"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                # Ctrl-C in a terminal is for this process, which then stops the others.
                start_new_session=True,
                env={**os.environ, XLA_THREADS: "1", CORES: "1"},
            )
            self._processes.add(process)
        try:
            said = _tell(process, order)
        finally:
            with self._lock:
                self._processes.discard(process)
        if self._closed:
            return
        if process.returncode:
            why = said[-1] if said else f"its process ended with status {process.returncode}"
            refused = CannotResume if process.returncode == CANNOT_RESUME else UserError
            raise refused(f"{job.label}: {why}")
        for line in said:
            print(f"{job.label}: {line}", file=sys.stderr, flush=True)


def _tell(process: subprocess.Popen, order: str) -> list[str]:
    """Give a process its order; what it said when it has ended. Its standard input stays open as
    long as this process lives: its end is how the other learns that nobody waits any more."""
    stdin, stderr = _open(process.stdin), _open(process.stderr)
    try:
        stdin.write(order + "\n")
        stdin.flush()
    except BrokenPipeError:
        pass  # it says why
    said = [line.rstrip() for line in stderr if line.strip()]
    process.wait()
    stdin.close()
    stderr.close()
    return said


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _finished(config: RunConfig, out: Path) -> bool:
    """Whether there is nothing left to do in `out`."""
    if not (saved := checkpoint.saved(out / CHECKPOINTS)):
        return False
    Run.open(out).config.resolved().refuse_change(config.resolved())
    if int(saved[-1].name) < config.steps:
        return False
    # Interrupted between its last update and the evaluation that is due after it?
    return not config.evaluate_every or checkpoint.read_manifest(saved[-1]).score is not None


def main() -> int:
    """Return what a process of the crew does: read its order, train, end."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_when_orphaned, daemon=True).start()
    enable_compilation_cache()
    out = Path(order["out"])
    try:
        config = RunConfig.from_dict(order["config"])
        train(config, out, resume=(out / CONFIG).exists(), progress=False)
    except Interrupted as interrupted:
        return interrupted.exit_status
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return CANNOT_RESUME if isinstance(error, CannotResume) else 2
    except Exception as error:
        print(unforeseen(error, f"one of several processes, training in {out}"), file=sys.stderr)
        return 1
    return 0


def _end_when_orphaned() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
