"""Where a training is written down and shown: `metrics.jsonl`, the trackers, the terminal."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .config import RunConfig
from .metrics import MetricsFile, read_rows
from .progress import ProgressDisplay
from .run import METRICS
from .schedule import Schedule
from .trackers import Trackers

Metrics = dict[str, np.ndarray]
"""Of one update: scalars, or with several seeds `[seeds]`."""
Callback = Callable[[dict[str, Any]], Any]
"""Is called with a row of `metrics.jsonl`; False ends the training."""


class Recorder:
    """The rows of one training. In a process that does not write, all of it does nothing but show."""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        schedule: Schedule,
        *,
        update: int,
        evaluated: bool,
        tracked: Sequence[str],
        resumed: bool,
        unit: str,
        shown: bool,
        writes: bool,
        callback: Callback | None = None,
    ):
        """Go on after `update` updates and, if it was `evaluated`, the evaluation that followed.
        `unit` is what the schedule's steps are."""
        self.enough = False  # whether the callback has had enough
        self.raised: BaseException | None = None
        self._callback = callback if writes else None
        self.config, self.schedule = config, schedule
        per_row = schedule.updates_per_row
        self._file = MetricsFile(out / METRICS, update, evaluated, per_row) if writes else None
        self.display = ProgressDisplay(
            schedule.total_steps, schedule.steps(update), shown, unit=unit
        )
        if self._file and self._file.lost:
            self.display.warn(
                f"warning: {out / METRICS} tells nothing of {self._file.lost} of the {update} updates up"
                " to the checkpoint: their rows are lost; what was learned in them is not"
            )
        rows = read_rows(out / METRICS) if tracked else []
        self._trackers = Trackers(tracked, out, config, rows, resumed, self.display.warn)
        self._diverged = 0  # episodes whose simulation broke down

    def updates(
        self, update: int, seconds: float, chunk: Sequence[Metrics], each: float, speed: bool
    ) -> None:
        """The metrics of a chunk of updates, which began after `update` updates and `seconds`
        seconds and took `each` seconds an update. `speed`: whether that says how fast training is
        (compiling does not)."""
        lines = []
        for begin, end in self.schedule.rows(update, len(chunk)):
            mean = _mean(chunk[begin - update : end - update])
            for index in range(self.config.seeds):
                one = {k: float(v[index] if v.ndim else v) for k, v in mean.items()}
                lines.append(
                    {
                        "kind": "update",
                        "update": end,
                        "steps": self.schedule.steps(end),
                        "seed": self.config.seed + index,
                        **one,
                        # Compiling included.
                        "wall/seconds": round(seconds + each * (end - update), 4),
                    }
                )
        self._write(lines)
        update += len(chunk)
        self._warn_of_divergence(update, chunk)
        rate = self.config.seeds * self.schedule.steps_per_update / each if speed else None
        watched = next((name for name in ("return", "loss") if name in chunk[-1]), None)
        value = None if watched is None else (watched, float(np.mean(chunk[-1][watched])))
        self.display.advance(self.schedule.steps(update), rate, value)

    def evaluation(
        self, update: int, results: Sequence[dict[str, Any]], seconds: Sequence[float]
    ) -> None:
        """What held-out tasks gave, a result a seed (`score`, `points`, …), and how long each took."""
        self._write(
            [
                {
                    "kind": "evaluation",
                    "update": update,
                    "steps": self.schedule.steps(update),
                    "seed": self.config.seed + index,
                    "split": "test",
                    "tasks": self.config.evaluate_tasks,
                    **result,
                    "wall/seconds": round(took, 3),
                }
                for index, (result, took) in enumerate(zip(results, seconds, strict=True))
            ]
        )

    def sync(self) -> None:
        """Make what was written last: before a checkpoint, which promises the rows before it."""
        if self._file:
            self._file.sync()

    def announce(self, received: signal.Signals) -> None:
        """Say that a signal was heard."""
        self.display.say(f"{received.name}: finishing the chunk and saving; once more to kill")

    def close(self) -> None:
        """Close the file and the trackers."""
        try:
            self._trackers.close()
        finally:
            if self._file:
                self._file.close()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if self._file:
            self._file.append(rows)
        self._trackers.append(rows)
        self._call(rows)

    def _call(self, rows: list[dict[str, Any]]) -> None:
        """Ask the callback about rows, until it has had enough. What it raises waits until the run is saved."""
        for row in rows:
            if self._callback is None or self.enough:
                return
            try:
                answer = self._callback(dict(row))
                self.enough = isinstance(answer, bool | np.bool_) and not answer
            except BaseException as error:  # sys.exit() included: first the run is saved
                self.raised, self.enough = error, True

    def _warn_of_divergence(self, update: int, chunk: Sequence[Metrics]) -> None:
        diverged = sum(int(np.sum(one["diverged"])) for one in chunk if "diverged" in one)
        if diverged and not self._diverged:
            self.display.warn(
                f"warning: {diverged} simulation(s) diverged up to update {update}; such an"
                " episode ends and the others go on; 'diverged' in metrics.jsonl counts them"
            )
        self._diverged += diverged


def _mean(chunk: Sequence[Metrics]) -> Metrics:
    """The mean over updates; of one update, its very numbers."""
    if len(chunk) == 1:
        return {name: np.asarray(value) for name, value in chunk[0].items()}
    return {name: np.mean([one[name] for one in chunk], axis=0) for name in chunk[0]}
