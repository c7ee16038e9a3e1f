"""Training on supervised tasks: the loop of `train`, for learners that meet no environment.

The same programs (`compiled`), checkpoints, metrics and signals, and the same promise: neither
saving, stopping nor resuming changes a bit of what is learned. It is a loop of its own because a
`RunConfig` names an environment family and a budget of steps, and its evaluations are episodes:
none of which a supervised task has.
"""

import contextlib
import json
import operator
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..core import AbstractSupervisedFamily, AbstractSupervisedLearner, State
from ..errors import CannotResume, UserError
from ..reading import read_configuration
from . import checkpoint, programs
from .files import locked, write_whole, writing
from .loop import SAVE_SECONDS, Interrupted, NonFinite
from .metrics import MetricsFile
from .progress import ProgressDisplay
from .run import CHECKPOINTS, METRICS
from .signals import StopSignals

SETTING = "setting.json"


@dataclass(frozen=True)
class SupervisedRun:
    """What `train_supervised` gives."""

    states: tuple[State, ...]
    """The state of learning of each seed."""
    seconds: float
    """Wall-clock of the training, that of interrupted calls included."""


def train_supervised(
    learner: AbstractSupervisedLearner,
    family: AbstractSupervisedFamily,
    out: str | Path,
    *,
    updates: int,
    seed: int = 0,
    seeds: int = 1,
    progress: bool = True,
) -> SupervisedRun:
    """Train `learner` on `family` in the folder `out`, or go on with what is there.

    **Arguments:** `updates` in all; `seeds` from `seed` on, together in one program. With more
    updates than the last time, training goes on to them as if it had never stopped.

    `metrics.jsonl` has a row a seed for every 512 updates: their mean. Raises `UserError` if `out`
    holds a training of another setting or cannot be written, `NonFinite` if learning blows up and
    `Interrupted` after SIGINT or SIGTERM, when all is saved.
    """
    if min(updates, seeds) < 1:
        raise UserError("updates and seeds must be at least 1")
    out = Path(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _claim(out / SETTING, learner, family, seed, seeds)
        return _Training(learner, family, out, updates, seed, seeds, progress).run_to_end()


def setting(learner: AbstractSupervisedLearner, family: AbstractSupervisedFamily) -> dict[str, Any]:
    """Method, hyper-parameters and the family's identity, in JSON's types."""
    fields = {name: getattr(learner, name) for name in learner.__dataclass_fields__}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    return {"method": learner.name, "family": family.identity, **plain}


def _claim(
    path: Path,
    learner: AbstractSupervisedLearner,
    family: AbstractSupervisedFamily,
    seed: int,
    seeds: int,
) -> None:
    """Write down what is trained here; refuse if it is something else already."""
    ours = {**setting(learner, family), "seed": seed, "seeds": seeds}
    if not path.exists():
        try:
            text = json.dumps(ours, indent=2) + "\n"
        except (TypeError, ValueError) as error:
            raise UserError(f"the settings cannot be written to {path.name}: {error}") from None
        write_whole(path, text.encode())
        return
    found = read_configuration(path)
    for name, value in ours.items():
        if not isinstance(found, dict) or found.get(name) != value:
            was = found.get(name) if isinstance(found, dict) else None
            raise CannotResume(
                f"cannot resume with another {name} ({was!r} before, {value!r} now); choose another"
                " folder"
            )


class _Training:
    """One call of `train_supervised`."""

    def __init__(
        self,
        learner: AbstractSupervisedLearner,
        family: AbstractSupervisedFamily,
        out: Path,
        updates: int,
        seed: int,
        seeds: int,
        shown: bool,
    ):
        self.learner, self.family, self.out, self.total = learner, family, out, updates
        self.seed, self.seeds, self.seeded = seed, seeds, seeds > 1
        self.update, self.seconds = 0, 0.0
        damaged = self._restore(programs.seed_keys(seed, seeds))
        if self.update > updates:
            raise UserError(f"{out} has {self.update} updates already, more than {updates}")
        self.saved, self.saved_at = self.update, time.monotonic()
        self.exempt = jnp.asarray(programs.exempt(self.state, self.seeded))
        self.metrics = MetricsFile(out / METRICS, self.update, evaluated=False)
        self.display = ProgressDisplay(updates, self.update, shown, unit="updates")
        for line in damaged:
            self.display.warn(f"warning: {line}; going on from update {self.update}")

    def _restore(self, keys: PRNGKeyArray) -> list[str]:
        """The newest checkpoint that is whole, or the first state; a line for each damaged one."""
        damaged = []
        template = programs.shape_of_state(self.learner, self.family, keys)
        for path in checkpoint.saved(self.out / CHECKPOINTS)[::-1]:
            try:
                self.state, manifest = checkpoint.load(path, template)
            except checkpoint.Damaged as error:
                damaged.append(f"checkpoint {path.name} is damaged ({error})")
                continue
            self.update, self.seconds = manifest.update, manifest.seconds
            return damaged
        self.state = programs.begin(self.learner, self.family, keys)
        return damaged

    def run_to_end(self) -> SupervisedRun:
        """The loop."""
        with contextlib.closing(self.metrics), StopSignals(self._announce) as stop, self.display:
            compiling = True
            while self.update < self.total and not stop.received:
                self._chunk(compiling)
                compiling = False
                if time.monotonic() - self.saved_at > SAVE_SECONDS:
                    self._save()
            self._save()
        if stop.received and self.update < self.total:
            message = f"stopped by {stop.received.name} after {self.update} updates, saved"
            self.display.warn(message)
            raise Interrupted(None, stop.received, message)
        if not self.seeded:
            return SupervisedRun((self.state,), self.seconds)
        one = [jax.tree.map(operator.itemgetter(i), self.state) for i in range(self.seeds)]
        return SupervisedRun(tuple(one), self.seconds)

    def _announce(self, received: signal.Signals) -> None:
        self.display.say(f"{received.name}: finishing the chunk and saving; once more to kill")

    def _chunk(self, compiling: bool) -> None:
        """Updates to the next multiple of `CHUNK`, as one compiled loop, and a row of metrics."""
        until = min(self.total, (self.update // programs.CHUNK + 1) * programs.CHUNK)
        wanted = jnp.int32(until - self.update)
        fixed = (self.learner, self.family, self.exempt, wanted, self.seeded)
        began = time.monotonic()
        self.state, done, rows, fine = programs.advance(fixed, self.state)
        rows, done, fine = jax.device_get(rows), int(done), np.asarray(fine)
        took = time.monotonic() - began
        self.update, self.seconds = self.update + done, self.seconds + took
        means = {k: v[:done].mean(0) for k, v in rows.items()}
        self.metrics.append(
            [
                {
                    "kind": "update",
                    "update": self.update,
                    "steps": self.update,
                    "seed": self.seed + i,
                    **{k: float(v[i] if self.seeded else v) for k, v in means.items()},
                    "wall/seconds": round(self.seconds, 4),  # compiling included
                }
                for i in range(self.seeds)
            ]
        )
        if not fine.all():
            last = {k: v[done - 1] for k, v in rows.items()}
            names = programs.quantities(self.state, last, self.seeded)
            seed, quantity = np.argwhere(~fine.reshape(self.seeds, -1))[0]
            raise NonFinite(
                f"stopped in update {self.update}: '{names[quantity]}' of seed {self.seed + seed}"
                " is not finite; lower the learning rates"
            )
        self.display.advance(self.update, None if compiling else done / took, None)

    def _save(self) -> None:
        """A checkpoint of the state as it is, unless there is one."""
        if self.saved == self.update:
            return
        self.metrics.sync()  # first: a checkpoint promises the rows before it
        manifest = checkpoint.Manifest(
            update=self.update,
            steps=self.update,
            seconds=round(self.seconds, 3),
            identity=self.family.identity,
            method=self.learner.name,
            score=None,
        )
        checkpoint.save(self.out / CHECKPOINTS, self.state, manifest)
        checkpoint.prune(self.out / CHECKPOINTS, 0)
        self.saved, self.saved_at = self.update, time.monotonic()
