"""Beginning and resuming: what `stemrl train` and `stemrl.train` call, around the loop.

Everything that can be refused is refused before there is a folder; a folder of which nothing comes
is taken away; and while one process trains in it, no other does.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..machine import refuse_no_device
from ..reading import at_home
from . import checkpoint, hosts, trackers
from .compilation_cache import forget_programs
from .config import RunConfig
from .files import LOCK, locked, unfinished, writing
from .loop import Training
from .metrics import read_rows
from .recorder import Callback
from .run import CHECKPOINTS, CONFIG, METRICS, Run


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    track: Iterable[str] = (),
    callback: Callback | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Run:
    """Train as `config` says, in the folder `out`. Return the finished run.

    - `resume`: go on with the run in `out` from its last good checkpoint, as if it had never
      stopped. `config` may then differ from the run's own only in how long to train and how to
      evaluate.
    - `track`: names of trackers that mirror the metrics (see `trackers.py`).
    - `callback`: is called with every row of `metrics.jsonl`. If it returns False, training stops
      there, saved; if it raises, that is raised once the run is saved.
    - `begun`: is called in the process that writes, once nothing prevents the training and the
      folder is reserved.

    Raises `UserError` for what cannot be trained or written, `NonFinite` if learning breaks down,
    and `Interrupted` after SIGINT or SIGTERM.
    """
    refuse_no_device()
    out = Path(at_home(str(out)))
    config = config.resolved()
    tracked = trackers.checked(track)
    if not hosts.first():
        return Training(config, out, False, [], callback).run_to_end(resume)
    with writing(out):
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; give a folder to --out")
        _refuse_others(config, out, resume)
    # Before there is a folder: what cannot be trained leaves none behind.
    training = Training(config, out, progress, tracked, callback)
    try:
        with _made(out), locked(out), _cleared(out):
            # Once more: another process may have begun, and ended, before the lock was ours.
            _refuse_others(config, out, resume)
            checkpoint.tidy(out / CHECKPOINTS)
            begun()
            return training.run_to_end(resume)
    finally:
        # A process may train as often as it likes: nothing that a run leaves behind adds up.
        training.let_go()
        forget_programs()


def resume(
    out: str | Path, *, progress: bool = True, track: Iterable[str] = (), **changes: Any
) -> Run:
    """Go on with the run in `out`, and return it. `changes` are fields of its configuration, such
    as `steps`. Raises as `train` does."""
    config = dataclasses.replace(Run.open(out).config, **changes)
    return train(config, out, resume=True, progress=progress, track=track)


@contextlib.contextmanager
def _made(out: Path) -> Iterator[None]:
    """Make the folder. If nothing comes of it, take away what was made for it and is empty."""
    with writing(out):
        new = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except UserError:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def _cleared(out: Path) -> Iterator[None]:
    """If nothing comes of the run but what is of no use to anyone, leave the folder empty. Under
    the lock: it is nobody else's file that goes."""
    try:
        yield
    except UserError:
        with contextlib.suppress(OSError):
            left = list(out.iterdir())
            if all(path.name in (LOCK, unfinished(CONFIG)) for path in left):
                for path in left:
                    path.unlink()
        raise


def _refuse_others(config: RunConfig, out: Path, resume: bool) -> None:
    """Raise `UserError` if the folder holds what is not to be overwritten or gone on with."""
    if not resume and (what := _in_the_way(out)):
        raise UserError(f"{out} already holds {what} or choose another folder")
    if resume:
        begun = Run.open(out)
        begun.refuse_exported()
        begun.config.resolved().refuse_change(config)


def _in_the_way(out: Path) -> str | None:
    """What a new run would overwrite. One that failed before its first update is nothing."""
    if not out.is_dir():
        return None
    if checkpoint.saved(out / CHECKPOINTS) or read_rows(out / METRICS):
        return "a run; go on with it (--resume)"
    ours = (CONFIG, METRICS, CHECKPOINTS, *trackers.LEFT_BEHIND)
    if any(p.name not in ours and not p.name.startswith(".") for p in out.iterdir()):
        return "files; empty it"
    return None
