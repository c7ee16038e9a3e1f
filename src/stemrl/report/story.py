"""What a report tells, as plain data: gathered here, laid out in `page.py`.

Everything a reader sees comes from one dictionary, which the page also carries as JSON.
"""

import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ..core import AbstractAgent, Params, Problem, count
from ..evaluation import Evaluation, adapts
from .record import record
from .scene import scene
from .svg import number

SHOWN_TASKS = 3
MOST_COLUMNS = 6
MOST_POINTS = 100


@dataclass(frozen=True)
class Subject:
    """One learner in a report: how it learned, and how well it does on held-out tasks."""

    label: str
    evaluation: Evaluation
    learning: Sequence[dict[str, Any]] = ()
    """Curves over environment steps: `label`, `held_out`, `steps`, `mean`, `low`, `high`."""
    config: dict[str, Any] = field(default_factory=dict)
    """As in `config.json`; empty for a comparison that was not trained."""
    settings: Sequence[dict[str, Any]] = ()
    """The hyper-parameters: `name`, `value`, `default`, `meaning`."""
    note: str = ""
    """A sentence that says what this is, if the label does not say it all."""


def tell(
    title: str,
    subjects: Sequence[Subject],
    tasks: Params,
    versions: dict[str, str],
    entries: dict[str, tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """Return the story of these subjects; the first is the one that the report is about.

    `tasks` are the parameters of the evaluated tasks, `[tasks, …]`, and `entries` the names of
    their entries where they have any (see `AbstractTasks.parameter_names`).
    """
    names, values = columns(tasks, entries)
    return {
        "title": title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {**versions, "python": platform.python_version()},
        "parameters": names,
        "tasks": values.tolist(),
        "subjects": [
            {
                "label": one.label,
                "note": one.note,
                "evaluation": one.evaluation.as_dict(),
                "learning": [dict(curve) for curve in one.learning],
                "config": one.config,
                "settings": [dict(setting) for setting in one.settings],
            }
            for one in subjects
        ],
    }


def curves(rows: Sequence[dict[str, Any]], adapting: bool = True) -> list[dict[str, Any]]:
    """Return the learning curves in the rows of `metrics.jsonl`: the mean over seeds, and the
    lowest and the highest seed. Several updates are averaged into one of about a hundred points.
    `adapting`: whether held-out tasks were measured after an adaptation."""
    updates = [row for row in rows if row["kind"] == "update"]
    held_out = [row for row in rows if row["kind"] == "evaluation"]
    measured = bool(updates) and updates[-1].get("return/after") is not None
    wanted = (
        [("return/after", "After adaptation"), ("return/before", "Before adaptation")]
        if measured
        else [("return", "Training tasks"), ("loss", "Loss on training tasks")]
    )
    found = [_curve(updates, name, label, False) for name, label in wanted]
    name = "Held-out tasks, after adaptation" if adapting else "Held-out tasks"
    found.append(_curve(held_out, "score", name, True))
    return [curve for curve in found if curve is not None]


def _curve(
    rows: list[dict[str, Any]], name: str, label: str, held_out: bool
) -> dict[str, Any] | None:
    by_steps: dict[int, list[float]] = {}
    for row in rows:
        value = row.get(name)
        if value is not None and np.isfinite(value):
            by_steps.setdefault(int(row["steps"]), []).append(float(value))
    if not by_steps:
        return None
    steps = sorted(by_steps)
    table = [(np.mean(by_steps[s]), min(by_steps[s]), max(by_steps[s])) for s in steps]
    several = max(map(len, by_steps.values())) > 1
    parts = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
    points = [(steps[part[-1]], *np.mean([table[i] for i in part], axis=0)) for part in parts]
    lists = [[float(value) for value in column] for column in zip(*points, strict=True)]
    curve: dict[str, Any] = dict(zip(("steps", "mean", "low", "high"), lists, strict=True))
    if not several:
        curve["low"] = curve["high"] = []
    return {"label": label, "held_out": held_out, **curve}


def columns(
    tasks: Params, entries: dict[str, tuple[str, ...]] | None = None
) -> tuple[list[str], np.ndarray]:
    """Return the tasks' parameters as a table: names, and values `[tasks, names]`. Constant ones
    and those beyond the first few are left out. `entries` are the names of some parameters'
    entries."""
    names, parts = [], []
    for name, rows, inner in _parameters(tasks, entries):
        for index in range(rows.shape[1]):
            if count(tasks) > 1 and np.ptp(rows[:, index]) == 0:
                continue
            names.append(
                inner[index] if inner else name if rows.shape[1] == 1 else f"{name} {index + 1}"
            )
            parts.append(rows[:, index])
    if not parts:
        return ["task"], np.arange(count(tasks), dtype=float)[:, None]
    return names[:MOST_COLUMNS], np.stack(parts[:MOST_COLUMNS], axis=1).round(4)


def _parameters(
    tasks: Params, entries: dict[str, tuple[str, ...]] | None
) -> Iterator[tuple[str, np.ndarray, tuple[str, ...]]]:
    """Each parameter's name, its values `[tasks, entries]`, and its entries' names if they have any."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tasks)[0]:
        rows = np.asarray(leaf, float).reshape(count(tasks), -1)
        name = jax.tree_util.keystr(path, simple=True, separator=" ") or "parameter"
        inner = (entries or {}).get(name, ())
        yield name, rows, inner if len(inner) == rows.shape[1] else ()


def shows(
    agent: AbstractAgent,
    problem: Problem,
    tasks: Params,
    rounds: int,
    *,
    seed: int = 0,
    most: int = SHOWN_TASKS,
) -> list[dict[str, Any]]:
    """Return at most `most` of the tasks before and after adaptation, side by side: for each a
    `label` and two `panels` (one of an agent that never adapts), as the page's player takes them.
    Empty where the family cannot be drawn."""
    chosen, entries = spread(tasks, most), problem.target.parameter_names()
    moments = [(0, "Before adaptation"), (rounds - 1, after(agent, rounds - 1))]
    if not adapts(agent):
        moments = [(0, "An episode")]
    some = jax.tree.map(lambda x: x[chosen], tasks)
    recording = record(agent, problem, some, rounds, key=jax.random.key(seed))
    if recording is None:
        return []
    shown = []
    for index in range(len(chosen)):
        panels: list[dict[str, Any]] = []
        scenes = []
        for round, title in moments:
            params, states, score = recording.episode(index, round)
            drawn = scene(problem.target, params, states)
            if drawn is None:
                return []
            scenes.append(drawn)
            panels.append({"title": title, "note": f"return {number(score)}"})
        # To one scale, so that the two can be compared by eye.
        window = (max(s.window[0] for s in scenes), max(s.window[1] for s in scenes))
        for panel, drawn in zip(panels, scenes, strict=True):
            panel["scene"] = drawn.seen_in(window).as_dict()
        shown.append({"label": label(tasks, int(chosen[index]), entries), "panels": panels})
    return shown


def after(agent: AbstractAgent, rounds: int) -> str:
    """Return `After 20 episodes`."""
    episodes = agent.episodes_per_round * rounds
    return f"After {episodes} episode{'' if episodes == 1 else 's'}"


def label(tasks: Params, index: int, entries: dict[str, tuple[str, ...]] | None = None) -> str:
    """Return a task's parameters in words: `speed 1.25`, `goal (3, 4)`, `goal 0110`,
    `body_mass:torso 0.71`; those that all tasks share are left out."""
    words = []
    for name, values, inner in _parameters(tasks, entries):
        differ = np.ptp(values, axis=0) > 0 if count(tasks) > 1 else np.ones(values.shape[1], bool)
        if not differ.any():
            continue
        if inner:
            words += [
                f"{one} {_in_words(values[index, [i]])}" for i, one in enumerate(inner) if differ[i]
            ]
        else:
            words.append(f"{name} {_in_words(values[index])}")
    return ", ".join(words[:3]) or f"task {index}"


def _in_words(values: np.ndarray) -> str:
    whole = np.array_equal(values, values.round())
    if whole and len(values) > 3 and set(values) <= {0.0, 1.0}:
        return "".join(f"{value:.0f}" for value in values)
    shown = [
        f"{value:.0f}" if whole and len(values) > 1 else f"{value:.2f}" for value in values[:3]
    ]
    text = ", ".join(shown).replace("-", "−")
    return text if len(values) == 1 else f"({text}{', …' if len(values) > 3 else ''})"


def spread(tasks: Params, n: int) -> np.ndarray:
    """Return the indices of `n` tasks (fewer if there are fewer different ones) that differ most in
    their first parameter: evenly over its ranks, both ends left out where there are enough."""
    leaves = [np.asarray(leaf, float).reshape(count(tasks), -1) for leaf in jax.tree.leaves(tasks)]
    _, different = np.unique(np.concatenate(leaves, axis=1), axis=0, return_index=True)
    different = np.sort(different)
    first = columns(tasks)[1][different, 0]
    order = different[np.argsort(first, kind="stable")]
    n = min(n, len(order))
    return order[((np.arange(n) + 0.5) / n * len(order)).astype(int)]
