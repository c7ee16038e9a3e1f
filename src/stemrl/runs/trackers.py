"""Trackers: the rows of `metrics.jsonl` mirrored to TensorBoard, Weights & Biases or MLflow.

`metrics.jsonl` is the record, a tracker shows it. What was mirrored so far is noted in the run's
`trackers.json`; since a resumed run repeats its rows bit for bit, those that a tracker has already
are not sent again, and those that it lacks are, also of the time before it was asked for. Nothing
that a tracker does stops a training: one that fails is given up, with a line that says so.
"""

import importlib.util
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError, nearest
from ..reading import CONFIGURATION_LIMIT, open_regular
from .config import RunConfig
from .files import write_whole

FILE = "trackers.json"
LEFT_BEHIND = (FILE, "tensorboard", "wandb")
"""What trackers may leave in a run's folder."""
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Trackers, and the module that each needs: that of the extra of the same name."""

Values = dict[str, float]
Mark = dict[str, int]
"""For each kind of row the steps up to which all are mirrored."""


class Tracker(Protocol):
    """Where rows go."""

    def log(self, steps: int, values: Values) -> None:
        """Numbers by name, after so many environment steps."""

    def flush(self) -> None:
        """Make what was logged last."""

    def close(self) -> None:
        """The training has ended, or was stopped."""


class Trackers:
    """The trackers of one training."""

    def __init__(
        self,
        names: Sequence[str],
        out: Path,
        config: RunConfig,
        rows: Sequence[dict[str, Any]],
        resumed: bool,
        warn: Callable[[str], None],
    ):
        """Begin, or go on, in the run's folder `out`; `rows` are those of `metrics.jsonl`. A run
        that is not `resumed` begins anew, whatever was tracked in its folder before."""
        self.out, self.config, self.warn = out, config, warn
        self.notes: dict[str, dict[str, Any]] = _notes(out / FILE) if resumed else {}
        self.open: dict[str, Tracker] = {}
        for name in names:
            note = self.notes.setdefault(name, {"id": uuid.uuid4().hex, "mark": {}})
            with _Guard(self, name):
                self.open[name] = TRACKERS[name](out, config, note)
        self.append(rows)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Mirror rows that the trackers lack."""
        for name in list(self.open):
            with _Guard(self, name):
                self._append(name, rows)
        if self.open and rows:
            write_whole(self.out / FILE, json.dumps(self.notes).encode())

    def _append(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        tracker, mark = self.open[name], self.notes[name]["mark"]
        reached = dict(mark)
        for row in rows:
            if row["steps"] > mark.get(row["kind"], -1):
                tracker.log(row["steps"], numbers(row, self.config.seeds > 1))
                reached[row["kind"]] = row["steps"]
        tracker.flush()
        mark.update(reached)

    def close(self) -> None:
        """End them all."""
        for name in list(self.open):
            with _Guard(self, name):
                self.open[name].close()


class _Guard:
    """Gives a tracker up that raises, and says so."""

    def __init__(self, trackers: Trackers, name: str):
        self.trackers, self.name = trackers, name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        # A tracker that calls sys.exit is no reason to stop, either.
        if error is None or isinstance(error, KeyboardInterrupt):
            return False
        self.trackers.open.pop(self.name, None)
        said = " ".join(f"{type(error).__name__}: {error}".split())
        self.trackers.warn(f"warning: tracking by {self.name} is given up ({said[:300]})")
        return True


def checked(names: Iterable[str]) -> list[str]:
    """Return the names of trackers, each once. Raises `UserError` for one that is unknown or whose
    package is not installed."""
    found = list(dict.fromkeys(names))
    for name in found:
        if name not in PACKAGES:
            raise UserError(f"unknown tracker '{name}'{nearest(name, PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(
                f"tracking by {name} needs a package that is not installed:"
                f" pip install 'stemrl[{name}]'"
            )
    return found


def numbers(row: dict[str, Any], seeded: bool) -> Values:
    """Return a row of `metrics.jsonl` as names and numbers; those of one seed of several under
    `seedN/`. What is not finite is left out; what held-out tasks gave is under `evaluation/`, with
    the mean return after each number of episodes."""
    values: dict[str, Any] = {
        name: value
        for name, value in row.items()
        if name not in ("kind", "update", "steps", "seed", "split", "tasks", "points")
    }
    if row["kind"] == "evaluation":
        values |= {f"after_{p['episodes_used']}_episodes": p["mean"] for p in row["points"]}
        values = {f"evaluation/{name}": value for name, value in values.items()}
    start = f"seed{row['seed']}/" if seeded else ""
    return {
        start + name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def parameters(config: RunConfig) -> dict[str, Any]:
    """Return the configuration, flat: `method`, `settings.discount`, … and the versions."""
    flat: dict[str, Any] = {}
    for name, value in config.as_dict().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        elif value is not None:
            flat[name] = value
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flat.items()}


class TensorBoard:
    """Event files in the run's folder `tensorboard/`, written anew when a run is resumed."""

    def __init__(self, out: Path, config: RunConfig, note: dict[str, Any]):
        # Not its SummaryWriter, whose queue blocks for ever once the thread behind it has died.
        from tensorboardX import summary  # pyright: ignore[reportMissingImports]
        from tensorboardX.event_file_writer import (  # pyright: ignore[reportMissingImports]
            EventsWriter,
        )
        from tensorboardX.proto.event_pb2 import (  # pyright: ignore[reportMissingImports]
            Event,  # pyright: ignore[reportAttributeAccessIssue]
        )

        folder = out / "tensorboard"
        folder.mkdir(exist_ok=True)
        # An event file cannot be cut back to the last checkpoint, but soon be written again.
        for stale in folder.glob("events.out.tfevents.*"):
            stale.unlink()
        note["mark"] = {}
        self.scalar, self.event = summary.scalar, Event
        self.writer = EventsWriter(str(folder / "events"))
        for told in summary.hparams(parameters(config), {"return": 0.0}):
            self.writer.write_event(Event(wall_time=time.time(), summary=told))

    def log(self, steps: int, values: Values) -> None:
        now = time.time()
        for name, value in values.items():
            told = self.scalar(name, value)
            self.writer.write_event(self.event(wall_time=now, step=steps, summary=told))

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of the project `stemrl` (WANDB_PROJECT: another) under the id in `trackers.json`, in the
    run's folder `wandb/`. Nothing leaves the machine unless WANDB_MODE is `online`."""

    def __init__(self, out: Path, config: RunConfig, note: dict[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "stemrl"),
            id=note["id"],
            name=out.name,
            dir=str(out),
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),  # pyright: ignore[reportArgumentType]
            config=parameters(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("steps")
        self.run.define_metric("*", step_metric="steps")

    def log(self, steps: int, values: Values) -> None:
        self.run.log({"steps": steps, **values})

    def flush(self) -> None:
        """Its own process writes."""

    def close(self) -> None:
        self.run.finish()


class MlFlow:
    """A run of the experiment `stemrl` (MLFLOW_EXPERIMENT_NAME: another) in the store that
    MLFLOW_TRACKING_URI names, by default the SQLite file `mlflow.db` beside the run's folder."""

    def __init__(self, out: Path, config: RunConfig, note: dict[str, Any]):
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        self.metric = Metric
        where = os.environ.get("MLFLOW_TRACKING_URI")
        self.client = MlflowClient(where or f"sqlite:///{out.resolve().parent / 'mlflow.db'}")
        self.waiting: list[Any] = []
        if "run" in note:
            self.run = note["run"]
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "stemrl")
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run = self.client.create_run(number, run_name=out.name).info.run_id
        params = [Param(k, str(v)[:500]) for k, v in parameters(config).items()]
        for part in _parts(params, 100):
            self.client.log_batch(self.run, params=part)
        note["run"], note["mark"] = self.run, {}

    def log(self, steps: int, values: Values) -> None:
        # Where the store is a folder, `return` cannot be a file in it and a folder, too.
        now = round(time.time() * 1000)
        self.waiting += [
            self.metric(name.replace("/", "."), value, now, steps) for name, value in values.items()
        ]

    def flush(self) -> None:
        for part in _parts(self.waiting, 1000):
            self.client.log_batch(self.run, metrics=part)
        self.waiting = []

    def close(self) -> None:
        self.client.set_terminated(self.run)


def _parts(items: list[Any], size: int) -> Iterable[list[Any]]:
    """As many as a store takes at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))


TRACKERS: dict[str, Callable[[Path, RunConfig, dict[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MlFlow,
}


def _notes(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with open_regular(path) as file:
            notes = json.loads(file.read(CONFIGURATION_LIMIT))
        return {
            name: note
            for name, note in notes.items()
            if note["id"] and dict(note["mark"]) == note["mark"]
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
