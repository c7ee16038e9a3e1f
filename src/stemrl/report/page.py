"""A story as one HTML file: no network, no external font or script, light and dark."""

import json
from html import escape
from importlib.resources import files
from typing import Any

from .beliefs import belief_svg
from .svg import Series, chart, legend, number, short


def page(story: dict[str, Any], shows: list[dict[str, Any]]) -> str:
    """Return the whole page. `story` comes from `tell`, `shows` from `shows`."""
    parts = [
        _header(story),
        _tiles(story),
        _show(shows, story),
        _beliefs(story),
        '<div class="pair">',
        _adaptation(story),
        _learning(story),
        "</div>",
        _by_parameter(story),
        _points_table(story),
        _task_table(story),
        _how(story),
        configuration(story),
        footer(story),
    ]
    return document(story, parts, shows)


def document(story: dict[str, Any], parts: list[str], shows: list[dict[str, Any]]) -> str:
    """Return a whole page of these parts, with the numbers behind it in the element `data`."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(story['title'])}</title>\n<style>{_asset('report.css')}</style>\n"
        f"</head>\n<body>\n<main>\n{''.join(parts)}\n</main>\n"
        f"{_embedded('data', story)}\n{_embedded('scenes', shows)}\n"
        f"<script>{_asset('player.js')}</script>\n</body>\n</html>\n"
    )


def footer(story: dict[str, Any]) -> str:
    """Return who wrote it, when, and where the numbers are."""
    return (
        f"<footer>Written by stemrl {escape(story['versions'].get('stemrl', ''))} on"
        f" {escape(story['created'])}. The numbers behind every figure are in this file, in the"
        ' element <code>&lt;script type="application/json" id="data"&gt;</code>.</footer>'
    )


def finding(story: dict[str, Any]) -> str:
    """Return the result in a sentence or two."""
    subject, *others = story["subjects"]
    first, last = _ends(subject)
    evaluation = subject["evaluation"]
    split = {"train": "training", "test": "held-out", "ood": "out-of-distribution"}
    kind = "" if evaluation["train_is_test"] else split[evaluation["split"]] + " "
    text = f"On {evaluation['tasks']} {kind}tasks, {subject['label']} has a mean return of"
    if not evaluation["adapts"]:
        text += f" {number(last['mean'])}; it does not adapt"
    else:
        text += f" {number(first['mean'])} before adaptation"
        if last is not first:
            text += f" and {number(last['mean'])} after {episodes(last)} of each task"
    for other in others:
        theirs = _ends(other)[1]
        after = f" after {episodes(theirs)}" if other["evaluation"]["adapts"] else ""
        text += f"; {other['label']} reaches {number(theirs['mean'])}{after}"
    return text + "."


def episodes(point: dict[str, float]) -> str:
    """Return `1 episode`, `20 episodes`."""
    used = point["episodes_used"]
    return f"{used} episode{'' if used == 1 else 's'}"


def _ends(subject: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """What there is to say at first and in the end: of what never adapts the same, twice."""
    evaluation = subject["evaluation"]
    if not evaluation["adapts"]:
        return evaluation["overall"], evaluation["overall"]
    return evaluation["episodes"][0], evaluation["episodes"][-1]


def _asset(name: str) -> str:
    return files("stemrl.report").joinpath("assets", name).read_text("utf-8")


def _embedded(name: str, data: Any) -> str:
    """JSON that no string in it can break out of."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, default=str)
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _header(story: dict[str, Any]) -> str:
    evaluation = story["subjects"][0]["evaluation"]
    return (
        f"<header><h1>{escape(story['title'])}</h1>"
        f'<p class="kicker"><code>{escape(evaluation["identity"])}</code></p>'
        f'<p class="finding">{escape(finding(story))}</p></header>'
    )


def _tiles(story: dict[str, Any]) -> str:
    tiles = []

    def tile(style: int, name: str, point: dict[str, float]) -> None:
        tiles.append(
            f'<div class="tile s{style}"><div class="name">{escape(name)}</div>'
            f'<div class="value">{number(point["mean"])}</div>'
            f'<div class="range">95% interval {number(point["mean_low"])} to'
            f" {number(point['mean_high'])}</div></div>"
        )

    for index, subject in enumerate(story["subjects"]):
        first, last = _ends(subject)
        if not subject["evaluation"]["adapts"]:
            tile(index, f"{subject['label']}, which does not adapt", last)
            continue
        if index == 0:
            tile(0, f"{subject['label']}, before adaptation", first)
        if last is not first or index:
            tile(index, f"{subject['label']}, after {episodes(last)}", last)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _show(shows: list[dict[str, Any]], story: dict[str, Any]) -> str:
    if not shows:
        return (
            "<section><h2>No animation</h2><p>This family says nothing of how it is drawn; every number"
            " is below. A family draws itself by a method <code>draw(params, states)</code>, see"
            " <code>stemrl.drawing</code>; one that Python objects step is not recorded.</p></section>"
        )
    choices = "".join(
        f'<button type="button" aria-pressed="{"true" if i == 0 else "false"}">'
        f"{escape(show['label'])}</button>"
        for i, show in enumerate(shows)
    )
    panels = "".join(
        f'<div class="panel"><h3>{escape(panel["title"])} <span>{escape(panel["note"])}</span></h3>'
        f'<canvas role="img" width="440" height="180"></canvas></div>'
        for panel in shows[0]["panels"]
    )
    evaluation = story["subjects"][0]["evaluation"]
    new = not evaluation["train_is_test"] and evaluation["split"] != "train"
    adapts = len(shows[0]["panels"]) > 1
    title = ("Before and after" if adapts else "At work") + (
        ", on tasks that it has not met" if new else ""
    )
    label = escape(story["subjects"][0]["label"])
    caption = (
        f"One episode of {label} before it has seen the task and one after its last adaptation: of"
        " each round, the episode whose return is the median."
        if adapts
        else f"One episode of {label}, which is one and the same policy in every episode: of a"
        " round, the episode whose return is the median."
    )
    return (
        f'<section id="show" class="show"><h2>{title}</h2>'
        f'<figure><div class="choices" role="group" aria-label="Task">{choices}</div>'
        f'<div class="panels">{panels}</div>'
        '<div class="controls"><button type="button" class="play">Play</button>'
        '<button type="button" class="slow" aria-pressed="false">¼ speed</button>'
        '<input type="range" min="0" max="1000" value="0" aria-label="Time in the episode">'
        '<span class="time"></span></div>'
        f"<figcaption>{caption} Green marks what the task asks for.</figcaption></figure>"
        "<noscript><p>The animation needs JavaScript; every number is below.</p></noscript>"
        "</section>"
    )


def _beliefs(story: dict[str, Any]) -> str:
    """What the agent believes of a few tasks, if it can be drawn."""
    found = story.get("beliefs")
    if not found:
        return ""
    grid = "cells" in found[0]["moments"][0]
    caption = (
        "The darker a cell, the more the agent predicts that it pays."
        if grid
        else "Where the agent goes by samples of its posterior, each held for an episode."
    )
    rows = "".join(f'<div class="beliefs">{belief_svg(one)}</div>' for one in found)
    return figure("What it believes", rows, f"{caption} Green marks what the task asks for.")


def adaptation_chart(story: dict[str, Any]) -> tuple[str, list[tuple[int, str]]]:
    """Return the return while adapting as an `<svg>`, and the style and name of each line in it."""
    series = _adaptation_series(story)
    described = f"Return by target episodes used. {finding(story)}"
    drawing = chart(series, "Target episodes used", "Return", described, x_zero=True, x_whole=True)
    return drawing, [(one.style, one.label) for one in series]


def _adaptation_series(story: dict[str, Any]) -> list[Series]:
    series = []
    for style, subject in enumerate(story["subjects"]):
        evaluation = subject["evaluation"]
        points, adapting = evaluation["episodes"], evaluation["adapts"]
        if not adapting:  # one number, over as many episodes as the others use
            whole = evaluation["overall"]
            points = [whole | {"episodes_used": used} for used in {0: 0, whole["episodes_used"]: 0}]
        columns = (
            [point[name] for point in points]
            for name in ("episodes_used", "mean", "mean_low", "mean_high")
        )
        series.append(Series(subject["label"], *columns, style=style, markers=adapting))
    return series


def _adaptation(story: dict[str, Any]) -> str:
    return figure(
        "Return while adapting",
        legend(_adaptation_series(story)) + adaptation_chart(story)[0],
        "Mean return over tasks and episodes, with its 95% stratified bootstrap interval over"
        " tasks. Target episodes are real ones, counted alike for all. What does not adapt is one"
        " line without marks: all of its episodes together.",
    )


def _learning(story: dict[str, Any]) -> str:
    series = []
    learned = [subject for subject in story["subjects"] if subject["learning"]]
    for subject in learned:
        # Several runs are compared by one curve each, a single one is shown in full.
        kept = subject["learning"][:1] if len(learned) > 1 else subject["learning"]
        for curve in kept:
            label = curve["label"]
            series.append(
                Series(
                    f"{subject['label']}: {label.lower()}" if len(learned) > 1 else label,
                    curve["steps"],
                    curve["mean"],
                    curve["low"] or None,
                    curve["high"] or None,
                    style=len(series),
                    markers=curve["held_out"],
                )
            )
    if not series:
        return ""
    ends = "; ".join(
        f"{one.label} from {number(one.y[0])} to {number(one.y[-1])}" for one in series
    )
    several = any(one.low for one in series)
    return figure(
        "Learning",
        legend(series)
        + chart(series, "Environment steps", "Return", f"Return while learning. {ends}."),
        "Mean return of the tasks met while training, by the environment steps taken"
        + ("; the band spans the seeds." if several else "."),
    )


def _by_parameter(story: dict[str, Any]) -> str:
    """How return depends on the task, where one parameter tells tasks apart."""
    if len(story["parameters"]) != 1 or story["parameters"] == ["task"] or len(story["tasks"]) < 4:
        return ""
    x = [row[0] for row in story["tasks"]]
    series = []
    subject, *others = story["subjects"]
    series.append(Series(_last_words(subject), x, _after(subject), style=0, line=False))
    for style, other in enumerate(others, 1):
        theirs = _after(other)
        if len(theirs) == len(x):
            series.append(Series(_last_words(other), x, theirs, style=style, line=False))
    if subject["evaluation"]["adapts"]:
        before = [row[0] for row in subject["evaluation"]["per_task"]]
        style = len(story["subjects"])
        series.append(
            Series(f"{subject['label']}, before adaptation", x, before, style=style, line=False)
        )
    name = story["parameters"][0]
    body = legend(series) + chart(
        series, name.capitalize(), "Return", f"Return of each task by its {name}."
    )
    return figure(
        f"Return by {name}", body, "Each mark is one task: the mean return of its episodes."
    )


def _last_words(subject: dict[str, Any]) -> str:
    if not subject["evaluation"]["adapts"]:
        return subject["label"]
    return f"{subject['label']}, after {episodes(_ends(subject)[1])}"


def _after(subject: dict[str, Any]) -> list[float]:
    """Each task's mean return in the end; of what does not adapt, over all of its episodes."""
    per_task = subject["evaluation"]["per_task"]
    if not subject["evaluation"]["adapts"]:
        return [sum(row) / len(row) for row in per_task]
    return [row[-1] for row in per_task]


def _points_table(story: dict[str, Any]) -> str:
    rows = []
    for subject in story["subjects"]:
        for point in subject["evaluation"]["episodes"]:
            rows.append(
                f"<tr><td>{escape(subject['label'])}</td><td>{point['episodes_used']}</td>"
                f"<td>{point['steps_used']:,.0f}</td><td>{number(point['mean'])}</td>"
                f"<td>{number(point['mean_low'])}</td><td>{number(point['mean_high'])}</td>"
                f"<td>{number(point['iqm'])}</td><td>{number(point['low'])}</td>"
                f"<td>{number(point['high'])}</td></tr>"
            )
    return (
        '<section><h2>Round by round in numbers</h2><div class="scroll"><table>'
        "<thead><tr><th>Agent</th><th>Episodes used</th><th>Steps used</th><th>Mean</th>"
        "<th>Low</th><th>High</th><th>Interquartile mean</th><th>Low</th><th>High</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _task_table(story: dict[str, Any]) -> str:
    subject, *others = story["subjects"]
    scores = subject["evaluation"]["per_task"]
    others = [o for o in others if len(o["evaluation"]["per_task"]) == len(scores)]
    adapting = subject["evaluation"]["adapts"]
    heads = [
        *story["parameters"],
        *(("Before", "After", "Gain") if adapting else ("Return",)),
        *(
            f"{other['label']}, after" if other["evaluation"]["adapts"] else other["label"]
            for other in others
        ),
    ]
    ours, theirs = _after(subject), [_after(other) for other in others]
    order = sorted(range(len(scores)), key=lambda i: story["tasks"][i])
    rows = []
    for i in order:
        cells = [
            *(f"{value:.3g}".replace("-", "−") for value in story["tasks"][i]),
            *([number(scores[i][0])] if adapting else []),
            number(ours[i]),
            *([number(ours[i] - scores[i][0])] if adapting else []),
            *(number(other[i]) for other in theirs),
        ]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        f'<section><h2>Every task</h2><div class="scroll tall"><table>'
        f"<caption>Mean return of each task's episodes, {escape(subject['label'])}"
        f"{' before and after its last adaptation' if adapting else ''}.</caption>"
        f"<thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _how(story: dict[str, Any]) -> str:
    evaluation = story["subjects"][0]["evaluation"]
    split = evaluation["split"]
    drawn = f"{evaluation['tasks']} tasks of the split <code>{escape(split)}</code>"
    if evaluation["train_is_test"]:
        drawn += "; the family is finite, so these are the training tasks too"
    facts = [
        ("Family", f"<code>{escape(evaluation['identity'])}</code>"),
        ("Tasks", drawn),
        (
            "Seed of the evaluation",
            f"{evaluation['seed']}; every agent here met the same tasks",
        ),
        ("Actions", escape(evaluation["actions"])),
        (
            "Told of the task",
            "its context" if evaluation["reveal"] == "context" else "nothing",
        ),
        ("Return", "undiscounted sum of an episode's rewards"),
    ]
    for subject in story["subjects"]:
        if subject["note"]:
            facts.append((escape(subject["label"]), escape(subject["note"])))
    items = "".join(f"<dt>{name}</dt><dd>{words}</dd>" for name, words in facts)
    return f'<section><h2>How this was measured</h2><dl class="facts">{items}</dl></section>'


def configuration(story: dict[str, Any]) -> str:
    """Return the settings of every subject, folded."""
    sections = []
    for subject in story["subjects"]:
        if not subject["config"] and not subject["settings"]:
            continue
        rows = "".join(
            f'<tr class="{"kept" if s["value"] == s["default"] else "changed"}">'
            f"<td><code>{escape(str(s['name']))}</code></td><td>{escape(_value(s['value']))}</td>"
            f"<td>{escape(_value(s['default']))}</td>"
            f'<td class="meaning">{escape(str(s["meaning"]))}</td></tr>'
            for s in subject["settings"]
        )
        table = (
            '<div class="scroll"><table class="words"><caption>Values in bold differ from the'
            " default.</caption><thead><tr><th>Setting</th><th>Value</th><th>Default</th>"
            f"<th>Meaning</th></tr></thead><tbody>{rows}</tbody></table></div>"
            if rows
            else ""
        )
        config = "".join(
            f"<dt>{escape(name.replace('_', ' '))}</dt><dd><code>{escape(_value(value))}</code></dd>"
            for name, value in subject["config"].items()
            if name != "settings" and value not in (None, {}, "")
        )
        sections.append(
            f"<details><summary>{escape(subject['label'])}: configuration</summary>"
            f'<dl class="facts">{config}</dl>{table}</details>'
        )
    versions = ", ".join(f"{escape(k)} {escape(v)}" for k, v in story["versions"].items())
    return (
        f"<section><h2>Configuration</h2>{''.join(sections)}<p>Versions: {versions}.</p></section>"
    )


def figure(title: str, body: str, caption: str) -> str:
    """Return a section with a picture and what it shows."""
    return (
        f"<section><h2>{escape(title)}</h2><figure>{body}"
        f"<figcaption>{escape(caption)}</figcaption></figure></section>"
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}={_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " × ".join(_value(v) for v in value) if value else "none"
    return short(value) if type(value) is int and abs(value) >= 10_000 else str(value)
