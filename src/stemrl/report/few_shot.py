"""The report of what learned from labelled examples: predictions, drawn with the few points that they
were made from, and the score after ever more of them."""

import datetime
import platform
from collections.abc import Sequence
from html import escape
from typing import Any

import jax
import numpy as np

from ..core import AbstractSupervisedFamily, Examples, FewShotAgent, UserError, count
from ..evaluation import FewShotEvaluation, draw_few_shot, evaluate_few_shot
from ..machine import versions
from ..runs import Run
from ..runs.run import Which
from .labels import described, labels
from .page import configuration, document, figure, footer
from .story import columns, curves
from .svg import Series, chart, legend, number

SHOWN_TASKS = 3
CURVE = 200
"""Points of a function that is drawn."""
QUERIES_SHOWN = 10
"""Images that are labelled in a picture."""
PIXEL = 3
"""Of an image, on the page."""


def few_shot_page(
    runs: Sequence[Run],
    *,
    split: str,
    tasks: int,
    shots: int | None,
    gradient_steps: int | None,
    seed: int,
    which: Which,
    title: str | None,
) -> str:
    """Evaluate supervised runs of one family on the same tasks, and return an HTML page about them."""
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = first.problem.target.identity, run.problem.target.identity
        if ours != theirs:
            raise UserError(f"{first.path} and {run.path} differ in their family: {ours}, {theirs}")
    most = max(run.learner.shots for run in runs) if shots is None else shots
    subjects = []
    for run, label in zip(runs, labels(runs), strict=True):
        parts = [
            evaluate_few_shot(
                run.agent(which, index),
                split=split,
                tasks=tasks,
                shots=most,
                gradient_steps=gradient_steps,
                seed=seed,
                method=run.config.method,
            )
            for index in range(run.config.seeds)
        ]
        subjects.append(_subject(run, label, FewShotEvaluation.together(parts)))
    family = first.problem.target
    params, train, test = draw_few_shot(family, split, max(tasks, 1), most, CURVE, seed)
    names, values = columns(params)
    agents = [(label, run.agent(which)) for run, label in zip(runs, labels(runs), strict=True)]
    story = {
        "title": title or f"{first.config.method} on {family.name}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {**versions(), "python": platform.python_version()},
        "parameters": names,
        "tasks": values.tolist(),
        "subjects": subjects,
    }
    drawn = [
        _task(family, agents, train, test, index, names, values, gradient_steps)
        for index in range(min(SHOWN_TASKS, count(params)))
    ]
    parts = [
        _header(story),
        f'<section><h2>Predictions from a few examples</h2><div class="pair">{"".join(drawn)}</div>'
        "</section>"
        if any(drawn)
        else "",
        '<div class="pair">',
        _by_shots(story),
        _learning(story),
        "</div>",
        _table(story),
        _how(story),
        configuration(story),
        footer(story),
    ]
    return document(story, parts, [])


def finding(story: dict[str, Any]) -> str:
    """Return the result in a sentence."""
    said = []
    for subject in story["subjects"]:
        points = subject["evaluation"]["points"]
        text = f"{subject['label']} {number(points[-1]['mean'])}"
        if points[0]["shots"] == 0 and len(points) > 1:
            text += f" ({number(points[0]['mean'])} before any)"
        said.append(text)
    evaluation = story["subjects"][0]["evaluation"]
    shots = evaluation["points"][-1]["shots"]
    return (
        f"{evaluation['score_name'].capitalize()} on {evaluation['tasks']} tasks after {shots}"
        f" shot{'' if shots == 1 else 's'} of each: {'; '.join(said)}."
    )


def _subject(run: Run, label: str, evaluation: FewShotEvaluation) -> dict[str, Any]:
    config = run.config.as_dict()
    values = config.pop("settings")
    config.pop("versions")
    return {
        "label": label,
        "evaluation": evaluation.as_dict(),
        "learning": curves(run.metrics()),
        "config": config,
        "settings": described(run, values),
    }


def _header(story: dict[str, Any]) -> str:
    evaluation = story["subjects"][0]["evaluation"]
    tiles = "".join(
        f'<div class="tile s{style}"><div class="name">{escape(subject["label"])}, after'
        f" {subject['evaluation']['points'][-1]['shots']} shots</div>"
        f'<div class="value">{number(subject["evaluation"]["points"][-1]["mean"])}</div>'
        f'<div class="range">95% interval {number(subject["evaluation"]["points"][-1]["low"])} to'
        f" {number(subject['evaluation']['points'][-1]['high'])}</div></div>"
        for style, subject in enumerate(story["subjects"])
    )
    return (
        f"<header><h1>{escape(story['title'])}</h1>"
        f'<p class="kicker"><code>{escape(evaluation["identity"])}</code></p>'
        f'<p class="finding">{escape(finding(story))}</p></header><div class="tiles">{tiles}</div>'
    )


def _task(
    family: AbstractSupervisedFamily,
    agents: Sequence[tuple[str, FewShotAgent]],
    train: Examples,
    test: Examples,
    index: int,
    names: list[str],
    values: np.ndarray,
    steps: int | None,
) -> str:
    """One task's examples and what is predicted from them; empty where there is no way to draw it."""
    train, test = jax.tree.map(lambda x: x[index], (train, test))
    about = ", ".join(f"{n} {v:.3g}" for n, v in zip(names, values[index], strict=True))
    if family.image_shape is not None:
        label, agent = agents[0]
        return _images(label, agent, family.image_shape, train, test, steps)
    if (family.inputs, family.outputs) != (1, 1):
        return ""
    order = np.argsort(np.asarray(test.x[:, 0]))
    x = np.asarray(test.x[order])
    series = [
        Series(
            "the function",
            x[:, 0].tolist(),
            np.asarray(test.y[order, 0]).tolist(),
            style=5,
            markers=False,
        )
    ]
    for style, (label, agent) in enumerate(agents):
        y = np.asarray(agent.fit(train, steps)(jax.numpy.asarray(x)))[:, 0]
        series.append(Series(label, x[:, 0].tolist(), y.tolist(), style=style, markers=False))
    xs, ys = (np.asarray(v)[:, 0].tolist() for v in train)
    series.append(Series(f"its {len(xs)} examples", xs, ys, style=4, line=False))
    described = f"Predictions from {len(xs)} examples of a task with {about}."
    return figure(
        f"Task {index + 1}", legend(series) + chart(series, "x", "y", described), described
    )


def _images(
    label: str,
    agent: FewShotAgent,
    shape: tuple[int, int],
    train: Examples,
    test: Examples,
    steps: int | None,
) -> str:
    """The training set by class, and a few other images with the class that they were given."""
    given = np.asarray(agent.fit(train, steps)(test.x[:QUERIES_SHOWN])).argmax(-1)
    true = np.asarray(test.y[:QUERIES_SHOWN]).argmax(-1)
    classes = np.asarray(train.y).argmax(-1)
    x, queries = np.asarray(train.x), np.asarray(test.x)
    step = PIXEL * shape[1] + 8
    wide = max(len(set(classes.tolist())), -(-QUERIES_SHOWN // 2), 1)
    parts, level = [], 4.0
    for row in range(int(np.bincount(classes).max()) if len(classes) else 0):
        for kind in sorted(set(classes.tolist())):
            same = np.flatnonzero(classes == kind)
            if row < len(same):
                parts.append(_image(x[same[row]], shape, 4 + kind * step, level, "none"))
        level += PIXEL * shape[0] + 8
    level += 8
    for i, (guess, truth) in enumerate(zip(given, true, strict=True)):
        place = (4 + i % wide * step, level + i // wide * (PIXEL * shape[0] + 22))
        colour = "seagreen" if guess == truth else "firebrick"
        parts.append(_image(queries[i], shape, *place, colour))
        parts.append(
            f'<text class="tick" x="{place[0]}" y="{place[1] + PIXEL * shape[0] + 13:.0f}">'
            f"{guess + 1}{'' if guess == truth else f' not {truth + 1}'}</text>"
        )
    high = level + -(-len(given) // wide) * (PIXEL * shape[0] + 22)
    right = int((given == true).sum())
    said = (
        f"Above the training set, a column a class; below other images with the class that {label}"
        f" gave them: {right} of {len(given)} are right."
    )
    body = (
        f'<svg class="chart" viewBox="0 0 {wide * step + 8} {high:.0f}" role="img"'
        f' xmlns="http://www.w3.org/2000/svg" aria-label="{escape(said)}">{"".join(parts)}</svg>'
    )
    return figure("A task", body, said)


def _image(image: np.ndarray, shape: tuple[int, int], x: float, y: float, border: str) -> str:
    """Ink on paper; values from 0 to 1."""
    ink = image.reshape(shape).clip(0, 1)
    dots = "".join(
        f'<rect x="{x + PIXEL * column:.0f}" y="{y + PIXEL * row:.0f}" width="{PIXEL}"'
        f' height="{PIXEL}" fill-opacity="{ink[row, column]:.2f}"/>'
        for row, column in zip(*np.nonzero(ink > 0.05), strict=True)
    )
    return (
        f'<g fill="#111"><rect x="{x:.0f}" y="{y:.0f}" width="{PIXEL * shape[1]}"'
        f' height="{PIXEL * shape[0]}" fill="#fff" stroke="{border}" stroke-width="2"/>{dots}</g>'
    )


def _by_shots(story: dict[str, Any]) -> str:
    series = []
    for style, subject in enumerate(story["subjects"]):
        points = subject["evaluation"]["points"]
        column = {k: [p[k] for p in points] for k in ("shots", "mean", "low", "high")}
        series.append(
            Series(
                subject["label"],
                column["shots"],
                column["mean"],
                column["low"],
                column["high"],
                style=style,
            )
        )
    name = story["subjects"][0]["evaluation"]["score_name"].capitalize()
    body = chart(
        series, "Shots", name, f"{name} by shots. {finding(story)}", x_zero=True, x_whole=True
    )
    return figure(
        f"{name} by examples",
        legend(series) + body,
        "Mean over tasks on examples that the learner has not seen, with its 95% bootstrap interval"
        " over tasks.",
    )


def _learning(story: dict[str, Any]) -> str:
    series = []
    for subject in story["subjects"]:
        for curve in subject["learning"]:
            if curve["held_out"]:
                continue
            series.append(
                Series(
                    f"{subject['label']}: loss",
                    curve["steps"],
                    curve["mean"],
                    curve["low"] or None,
                    curve["high"] or None,
                    style=len(series),
                    markers=False,
                )
            )
    if not series:
        return ""
    body = chart(series, "Examples drawn", "Loss", "Loss on training tasks while learning.")
    return figure(
        "Learning",
        legend(series) + body,
        "Loss on the test sets of training tasks, by the examples drawn so far.",
    )


def _table(story: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(subject['label'])}</td><td>{point['shots']}</td>"
        f"<td>{number(point['mean'])}</td><td>{number(point['low'])}</td>"
        f"<td>{number(point['high'])}</td></tr>"
        for subject in story["subjects"]
        for point in subject["evaluation"]["points"]
    )
    name = escape(story["subjects"][0]["evaluation"]["score_name"].capitalize())
    return (
        '<section><h2>In numbers</h2><div class="scroll"><table><thead><tr><th>Learner</th>'
        f"<th>Shots</th><th>{name}</th><th>Low</th><th>High</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _how(story: dict[str, Any]) -> str:
    evaluation = story["subjects"][0]["evaluation"]
    drawn = f"{evaluation['tasks']} tasks of the split <code>{escape(evaluation['split'])}</code>"
    if evaluation["train_is_test"]:
        drawn += "; the family is finite, so these are the training tasks too"
    steps = evaluation["gradient_steps"]
    facts = [
        ("Family", f"<code>{escape(evaluation['identity'])}</code>"),
        ("Tasks", drawn),
        ("Seed of the evaluation", f"{evaluation['seed']}; all met the same tasks and examples"),
        (
            "Gradient steps",
            "as in training, where a learner takes any" if steps is None else str(steps),
        ),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{words}</dd>" for name, words in facts)
    return f'<section><h2>How this was measured</h2><dl class="facts">{items}</dl></section>'


ROWS, COLUMNS = 13, 60
"""Of a plot in a terminal."""


def plot(agent: FewShotAgent, train: Examples, test: Examples, steps: int | None) -> str | None:
    """Return one task in a terminal, where x and y are numbers: `·` the function, `*` what is
    predicted, `●` the examples. `None` where they are not."""
    family = agent.problem.target
    if (family.inputs, family.outputs) != (1, 1):
        return None
    x = np.asarray(test.x[:, 0])
    layers = [
        ("·", x, np.asarray(test.y[:, 0])),
        ("*", x, np.asarray(agent.fit(train, steps)(test.x))[:, 0]),
        ("●", np.asarray(train.x[:, 0]), np.asarray(train.y[:, 0])),
    ]
    ys = np.concatenate([y for _, _, y in layers])
    left, right, low, high = x.min(), x.max(), ys.min(), ys.max()
    grid = [[" "] * COLUMNS for _ in range(ROWS)]
    for mark, across, up in layers:
        columns_ = (across - left) / max(right - left, 1e-9) * (COLUMNS - 1)
        rows = (high - up) / max(high - low, 1e-9) * (ROWS - 1)
        for column, row in zip(columns_, rows, strict=True):
            if 0 <= round(column) < COLUMNS:
                grid[round(row)][round(column)] = mark
    lines = ["".join(line).rstrip() for line in grid]
    return "\n".join([*lines, f"· the function   * predicted   ● {len(train.x)} examples"])
