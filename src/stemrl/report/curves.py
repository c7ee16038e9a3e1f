"""Curves of several runs in one figure, and the numbers behind them.

A *figure* is plain data: `x_label`, `y_label`, and `lines` by name, each with `x`, `mean`, `low` and
`high` of one length (`low` and `high` are empty where there is one seed and so no interval).
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import UserError
from ..errors import nearest
from ..evaluation import Evaluation, FewShotEvaluation, t_interval
from ..runs import Run
from ..runs.config import EXTENSIBLE

LABELS = {
    "steps": "environment steps",
    "updates": "updates",
    "seconds": "wall-clock of training (s)",
    "episodes": "episodes on a held-out task",
    "shots": "examples of a held-out task",
}
SECONDS = "wall/seconds"
_IN_ROWS = {"steps": "steps", "updates": "update", "seconds": SECONDS}

MOST_POINTS = 200
"""Of a line; more are averaged."""
PICTURES = (".png", ".svg", ".pdf")
TABLES = (".csv", ".json")
ALIKE = ("seed", "seeds", "devices", "versions", "schema", *EXTENSIBLE)
"""Fields of a configuration in which runs of one line may differ."""


def learning_curves(
    runs: Sequence[Run], metric: str | None = None, x: str = "steps"
) -> dict[str, Any]:
    """Return a figure of a metric during the training of some runs, as `metrics.jsonl` has it.

    Runs that differ in their seed alone are one line, all of their seeds together, for as long as
    all of them last. The band is the 95% t interval of their mean.

    - `metric`: a metric of the runs, or `score`, that of held-out tasks during training. By default
      it is the return after adaptation where that is measured, otherwise the return, otherwise the
      loss.
    - `x`: `steps`, `updates` or `seconds`.

    Raises `UserError` for a metric that a run does not have.
    """
    if not runs:
        raise UserError("there are no runs to draw; give at least one")
    if x not in _IN_ROWS:
        raise UserError(
            f"a learning curve is drawn over steps, updates or seconds, not {x}; --adaptation draws over"
            " episodes"
        )
    rows = [run.metrics() for run in runs]
    metric = metric or _usual(rows)
    lines = {}
    for name, members in _alike(runs).items():
        series = []
        for i in members:
            series += _series(runs[i], rows[i], metric, _IN_ROWS[x])
        lines[name] = _line(series)
    return {"x_label": LABELS[x], "y_label": metric, "lines": lines}


def adaptation_curves(
    names: Sequence[str], evaluations: Sequence[Evaluation | FewShotEvaluation], x: str = "episodes"
) -> dict[str, Any]:
    """Return a figure of the score on held-out tasks, after more and more episodes of each.

    The band is the 95% t interval over the training seeds of a run if it has several, otherwise the
    95% bootstrap interval over tasks.

    - `names`, `evaluations`: the name and the evaluation of each line.
    - `x`: `episodes` or `steps`; for supervised runs it is always `shots`.
    """
    lines: dict[str, Any] = {}
    y_label = "return"
    for name, one in zip(names, evaluations, strict=True):
        if isinstance(one, FewShotEvaluation):
            x, key, (low, high), y_label = "shots", "shots", ("low", "high"), one.score_name
        elif x not in ("episodes", "steps"):
            raise UserError(f"an adaptation curve is drawn over episodes or steps, not {x}")
        else:
            key, (low, high) = f"{x}_used", ("mean_low", "mean_high")
        seeds = one.over_seeds if one.agents > 1 else None
        bands = seeds or [{"low": p[low], "high": p[high]} for p in one.points]
        lines[name] = {
            "x": [p[key] for p in one.points],
            "mean": [p["mean"] for p in one.points],
            "low": [band["low"] for band in bands],
            "high": [band["high"] for band in bands],
        }
    label = "environment steps of a held-out task" if x == "steps" else LABELS[x]
    return {"x_label": label, "y_label": y_label, "lines": lines}


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return a short name for each run: its method, the settings in which the runs of that method
    differ, and its folder if all that does not tell them apart (by its whole path if need be)."""
    told = [_told(run) for run in runs]
    names = []
    for one in told:
        same = [other for other in told if other["method"] == one["method"]]
        differing = [key for key in one if any(o.get(key) != one[key] for o in same)]
        parts = [f"{key}={_short(one[key])}" for key in sorted(differing)]
        names.append(" ".join([one["method"].rpartition(":")[2], *parts]))
    for place in (lambda path: path.name, str):
        named = [
            f"{name} ({place(run.path)})" if names.count(name) > 1 else name
            for name, run in zip(names, runs, strict=True)
        ]
        if len(set(named)) == len(named):
            break
    return named


def write_figure(figure: dict[str, Any], path: str | Path) -> Path:
    """Draw a figure (`.png`, `.svg`, `.pdf`), or write the numbers behind it (`.csv`, `.json`).
    Return the path."""
    path = Path(path)
    refuse_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in PICTURES:
            draw_curves(figure, path)
        elif path.suffix.lower() == ".json":
            path.write_text(json.dumps(figure, indent=1) + "\n", encoding="utf-8")
        else:
            path.write_text(_as_csv(figure), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def refuse_suffix(path: Path) -> None:
    """Raise `UserError` for a name whose ending is none of a figure or of its numbers."""
    if path.suffix.lower() not in (*PICTURES, *TABLES):
        raise UserError(
            f"cannot write {path.name}: name a figure ({', '.join(PICTURES)}) or the numbers behind it"
            f" ({', '.join(TABLES)})"
        )


def draw_curves(figure: dict[str, Any], path: Path) -> None:
    """Draw lines with their bands, as a file of the kind that its name ends in (PNG, SVG, PDF)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    picture = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = picture.add_subplot()
    for name, line in figure["lines"].items():
        # A line of few points shows where they are.
        marker = "o" if len(line["x"]) <= 12 else None
        (drawn,) = axes.plot(
            line["x"], line["mean"], label=name, linewidth=1.6, marker=marker, markersize=3
        )
        if line["low"]:
            axes.fill_between(
                line["x"], line["low"], line["high"],
                color=drawn.get_color(), alpha=0.18, linewidth=0,
            )  # fmt: skip
    places = [x for line in figure["lines"].values() for x in line["x"]]
    if all(float(x).is_integer() for x in places):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if max(places, default=0) >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(figure["x_label"])
    axes.set_ylabel(figure["y_label"])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    # Text in a PDF or SVG stays text, so that it can be searched and set in another font.
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        picture.savefig(path, dpi=130)


def _usual(rows: list[list[dict[str, Any]]]) -> str:
    """The metric that most asked for: of the first run's last update."""
    updates = [row for row in rows[0] if row["kind"] == "update"]
    if updates:
        for name in ("return/after", "return", "loss"):
            if updates[-1].get(name) is not None:
                return name
    return "score"


def _series(
    run: Run, rows: list[dict[str, Any]], metric: str, x: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """x and y of each of a run's seeds."""
    kind = "evaluation" if metric == "score" else "update"
    passed = _clocks(rows)
    found: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if row["kind"] != kind or (value := row.get(metric)) is None:
            continue
        at = row.get(x)
        if kind == "evaluation" and x == SECONDS:
            # An evaluation's own time is how long it took.
            at = passed(row)
        if at is not None:
            found.setdefault(row["seed"], []).append((at, value))
    if not found:
        there = sorted(
            {
                name
                for row in rows
                for name, value in row.items()
                if row["kind"] == "update" and name not in ("kind", "update", "steps", "seed")
                if isinstance(value, int | float) and not name.startswith("wall/")
            }
            | ({"score"} if any(row["kind"] == "evaluation" for row in rows) else set())
        )
        if not there:
            raise UserError(f"{run.path} has no metrics to draw")
        raise UserError(f"{run.path} has no metric '{metric}'{nearest(metric, there)}")
    return [tuple(np.asarray(points, float).T) for points in found.values()]  # pyright: ignore[reportReturnType]


def _clocks(rows: list[dict[str, Any]]) -> Callable[[dict[str, Any]], float | None]:
    """A function that says at which second of training a row's update ended: an exported run has not kept
    all updates, so between two that it has."""
    clocks: dict[int, list[tuple[int, float]]] = {}
    for row in rows:
        if row["kind"] == "update" and row.get(SECONDS) is not None:
            clocks.setdefault(row["seed"], []).append((row["update"], row[SECONDS]))

    def passed(row: dict[str, Any]) -> float | None:
        if not (known := clocks.get(row["seed"])):
            return None
        updates, seconds = np.asarray(sorted(known)).T
        return float(np.interp(row["update"], [0, *updates], [0.0, *seconds]))

    return passed


def _line(series: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, list[float]]:
    """Mean and interval over seeds, as far as all of them go, at common places."""
    binned = []
    for x, y in series:
        parts = np.array_split(np.arange(len(x)), min(len(x), MOST_POINTS))
        binned.append(tuple(np.array([v[part].mean() for part in parts]) for v in (x, y)))
    begin, end = max(x[0] for x, _ in binned), min(x[-1] for x, _ in binned)
    first = binned[0][0]
    if all(np.array_equal(x, first) for x, _ in binned):
        at = first
    else:
        at = np.linspace(begin, max(begin, end), min(len(x) for x, _ in binned))
    values = np.stack([np.interp(at, x, y) for x, y in binned])
    band = [t_interval(v)[1:] for v in values.T] if len(values) > 1 else []
    return {
        "x": at.tolist(),
        "mean": values.mean(0).tolist(),
        "low": [float(low) for low, _ in band],
        "high": [float(high) for _, high in band],
    }


def _alike(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Which runs are one line, by its name."""
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(json.dumps(_told(run), sort_keys=True, default=str), []).append(i)
    members = list(groups.values())
    names = names_of([runs[group[0]] for group in members])
    return dict(zip(names, members, strict=True))


def _told(run: Run) -> dict[str, Any]:
    """The configuration as one level of names."""
    flat = {}
    for name, value in run.config.as_dict().items():
        if name in ALIKE:
            continue
        if isinstance(value, dict):
            flat |= value if name == "settings" else {f"{name}.{k}": v for k, v in value.items()}
        else:
            flat[name] = value
    return flat


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).rpartition(":")[2] if isinstance(value, str) else str(value)


def _as_csv(figure: dict[str, Any]) -> str:
    """A line a point: `line`, x, `mean`, `low`, `high`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("line", figure["x_label"], figure["y_label"], "low", "high"))
    for name, line in figure["lines"].items():
        empty = [""] * len(line["x"])
        writer.writerows(
            (name, *point)
            for point in zip(
                line["x"], line["mean"], line["low"] or empty, line["high"] or empty, strict=True
            )
        )
    return text.getvalue()
