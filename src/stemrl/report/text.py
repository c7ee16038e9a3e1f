"""Scenes in a terminal: where an episode ended, and the way there."""

import math
from collections.abc import Sequence
from itertools import pairwise, zip_longest

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..core import AbstractAgent, Params, Problem, count
from ..drawing import Scene, Shape
from ..evaluation import adapts
from .record import record
from .scene import scene
from .svg import number

COLUMNS = 30
"""Characters across one picture: two of them stand side by side in a terminal of 80."""
PLOT_ROWS = 5
EMPTY, VISITED, BODY, GOAL, REACHED, WALL = "·•●◎◉┃"
# The bit of each of the 4 × 2 dots of a Braille character, by row and column.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

Bounds = tuple[float, float, float, float]
"""Left, right, bottom and top of what is seen."""


def sketches(
    agent: AbstractAgent,
    problem: Problem,
    params: Params,
    rounds: int,
    key: PRNGKeyArray,
    most: int | None = None,
) -> list[str]:
    """Return, for each task in `params` (`[tasks, …]`), or for the first `most`, one episode before
    adaptation and one after the last, side by side; just one for an agent that never adapts. Of each
    round it is the episode whose return is the median.

    Empty where the family cannot be drawn. With the key that `draw_tasks` gives, these are the
    episodes that `play_tasks` plays of as many tasks.
    """
    recording = record(agent, problem, params, rounds, key=jax.random.split(key, 1)[0])
    if recording is None:
        return []
    used = agent.episodes_per_round * (rounds - 1)
    moments = [(0, "before"), (rounds - 1, f"after {used} episode{'' if used == 1 else 's'}")]
    if not adapts(agent):
        moments = [(0, "return")]
    drawn = []
    for task in range(count(params))[:most]:
        panels = []
        for round, title in moments:
            own, states, score = recording.episode(task, round)
            seen = scene(problem.target, own, states)
            if seen is None:
                return []
            panels.append((f"{title}: {number(score)}", seen))
        text = beside(panels)
        if text is None:
            return []
        drawn.append(text)
    return drawn


def beside(panels: Sequence[tuple[str, Scene]]) -> str | None:
    """Return titled scenes of one task side by side, to one scale; `None` for what a terminal
    cannot show."""
    scenes = [seen for _, seen in panels]
    if all(_cells(seen) for seen in scenes):
        pictures = [_grid(seen) for seen in scenes]
    elif all(seen.gauge is not None for seen in scenes):
        pictures = _plots(scenes)
    elif all(seen.ground is None for seen in scenes):
        bounds = _bounds(scenes)
        pictures = [_plane(seen, bounds) for seen in scenes]
    else:
        return None
    return columns([[t, *picture] for (t, _), picture in zip(panels, pictures, strict=True)])


def columns(panels: Sequence[Sequence[str]], width: int = COLUMNS) -> str:
    """Put pictures of several lines side by side."""
    rows = zip_longest(*panels, fillvalue="")
    return "\n".join("    ".join(cell.ljust(width) for cell in row).rstrip() for row in rows)


def ways_in_plane(
    panels: Sequence[Float[np.ndarray, "ways time 2"]], goal: Float[np.ndarray, "2"], radius: float
) -> list[list[str]]:
    """Return many ways in the plane at once, each panel a picture to the same scale, with the goal."""
    points = np.concatenate([*(ways.reshape(-1, 2) for ways in panels), goal[None]])
    half = 1.05 * float(np.abs(points).max()) + radius
    pictures = []
    for ways in panels:
        canvas = _Canvas(COLUMNS, COLUMNS // 2, (-half, half, -half, half))
        if radius:
            canvas.circle(goal, radius)
        for way in ways:
            for start, end in pairwise(way):
                canvas.line(start, end)
        canvas.mark(goal, GOAL)
        for way in ways:
            if canvas.mark(way[-1], BODY) in (GOAL, REACHED):
                canvas.mark(way[-1], REACHED)
        pictures.append(canvas.lines())
    return pictures


# Grids: a character for each cell.


def _cells(seen: Scene) -> list[Shape]:
    return [shape for shape in seen.shapes if shape.kind == "square" and shape.role == "cell"]


def _grid(seen: Scene) -> list[str]:
    cells = {_cell(shape.points[0, 0]) for shape in _cells(seen)}
    visited = {_cell(p) for s in seen.shapes if s.kind == "trail" for p in s.points[:, 0]}
    goals = {_cell(s.points[-1, 0]) for s in seen.shapes if s.kind == "square" and s.role == "goal"}
    bodies = {_cell(s.points[-1, 0]) for s in seen.shapes if s.kind == "disc" and s.role == "body"}
    walls = [s.points[0] for s in seen.shapes if s.kind == "band" and s.role == "wall"]

    def sign(cell: tuple[int, int]) -> str:
        if cell in goals:
            return REACHED if cell in bodies else GOAL
        return BODY if cell in bodies else VISITED if cell in visited else EMPTY

    def gap(x: int, y: int) -> str:
        """What stands between a cell and the next to its right."""
        stands = any(
            abs(wall[:, 0] - x - 0.5).max() < 0.1 and wall[:, 1].min() <= y <= wall[:, 1].max()
            for wall in walls
        )
        return WALL if stands else " "

    xs, ys = sorted({x for x, _ in cells}), sorted({y for _, y in cells}, reverse=True)
    return ["".join(sign((x, y)) + gap(x, y) for x in xs).rstrip() for y in ys]


def _cell(point: Float[np.ndarray, "2"]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


# Planes: dots, of which a Braille character has eight.


def _path(seen: Scene) -> Float[np.ndarray, "frames 2"]:
    """The trail; without one, the way of the camera, which follows what moves."""
    trails = [shape.points[:, 0] for shape in seen.shapes if shape.kind == "trail"]
    return trails[0] if trails else seen.camera


def _bounds(scenes: Sequence[Scene]) -> Bounds:
    """All paths and goals, in a square with a margin."""
    parts = [_path(seen) for seen in scenes]
    parts += [s.points[:, 0] for one in scenes for s in one.shapes if s.kind == "disc"]
    points = np.concatenate(parts)
    low, high = points.min(0), points.max(0)
    half = 0.55 * max(float((high - low).max()), 1e-3)
    (x, y) = (low + high) / 2
    return x - half, x + half, y - half, y + half


def _plane(seen: Scene, bounds: Bounds) -> list[str]:
    canvas = _Canvas(COLUMNS, COLUMNS // 2, bounds)
    for shape in seen.shapes:
        if shape.role == "goal" and shape.kind == "band":
            canvas.line(shape.points[0, 0], shape.points[0, 1])
        if shape.role == "goal" and shape.kind == "disc":
            canvas.circle(shape.points[0, 0], shape.size)
    path = _path(seen)
    for start, end in pairwise(path):
        canvas.line(start, end)
    for shape in seen.shapes:
        if shape.role == "goal" and shape.kind == "disc":
            canvas.mark(shape.points[0, 0], GOAL)
    reached = canvas.mark(path[-1], BODY)
    if reached == GOAL:
        canvas.mark(path[-1], REACHED)
    return canvas.lines()


def _plots(scenes: Sequence[Scene]) -> list[list[str]]:
    """Each gauge over the episode, with the value that is asked for as a dotted line."""
    gauges = [seen.gauge for seen in scenes if seen.gauge is not None]
    shown = [float(v) for one in gauges for v in one.values]
    shown += [float(one.target) for one in gauges if one.target is not None]
    low, high = min(0.0, *shown), max(0.1, *shown)
    plots = []
    for gauge in gauges:
        last = len(gauge.values) - 1
        canvas = _Canvas(COLUMNS, PLOT_ROWS, (0.0, max(last, 1), low, high))
        for frame, (start, end) in enumerate(pairwise(gauge.values)):
            canvas.line((frame, start), (frame + 1, end))
        words = f"{gauge.label} {number(float(gauge.values[last // 2 :].mean()))}{gauge.unit}"
        if gauge.target is not None:
            for dot in range(0, 2 * COLUMNS, 4):
                canvas.dot((dot / (2 * COLUMNS) * last, float(gauge.target)))
            words += f", asked {number(float(gauge.target))}"
        plots.append([*canvas.lines(), words])
    return plots


class _Canvas:
    """Dots and characters on a rectangle of a plane."""

    def __init__(self, columns: int, rows: int, bounds: Bounds):
        self.bounds = bounds
        self.dots = np.zeros((4 * rows, 2 * columns), bool)
        self.marks: dict[tuple[int, int], str] = {}

    def place(self, point: Sequence[float] | np.ndarray) -> tuple[float, float]:
        """Row and column of a point, in dots."""
        left, right, bottom, top = self.bounds
        rows, columns = self.dots.shape
        across = (float(point[0]) - left) / (right - left)
        up = (float(point[1]) - bottom) / (top - bottom)
        return (1 - up) * (rows - 1), across * (columns - 1)

    def dot(self, point: Sequence[float] | np.ndarray) -> None:
        """A dot, if it is in sight."""
        self._set(*self.place(point))

    def _set(self, row: float, column: float) -> None:
        i, j = round(row), round(column)
        if 0 <= i < self.dots.shape[0] and 0 <= j < self.dots.shape[1]:
            self.dots[i, j] = True

    def line(self, start: Sequence[float] | np.ndarray, end: Sequence[float] | np.ndarray) -> None:
        """A line of dots."""
        a, b = np.asarray(self.place(start)), np.asarray(self.place(end))
        for part in np.linspace(0.0, 1.0, 1 + math.ceil(float(np.abs(b - a).max()))):
            self._set(*(a + part * (b - a)))

    def circle(self, centre: np.ndarray, radius: float) -> None:
        """Its edge."""
        for angle in np.linspace(0.0, 2 * math.pi, 120):
            self.dot(centre + radius * np.asarray([math.cos(angle), math.sin(angle)]))

    def mark(self, point: Sequence[float] | np.ndarray, sign: str) -> str | None:
        """Return a character over the dots; returns the one that was there."""
        row, column = self.place(point)
        at = round(row) // 4, round(column) // 2
        before, self.marks[at] = self.marks.get(at), sign
        return before

    def lines(self) -> list[str]:
        """As text; trailing blanks left out."""
        bits = np.zeros((self.dots.shape[0] // 4, self.dots.shape[1] // 2), int)
        for i, row in enumerate(DOTS):
            for j, bit in enumerate(row):
                bits += bit * self.dots[i::4, j::2]
        text = []
        for i, row in enumerate(bits):
            signs = [
                self.marks.get((i, j)) or (chr(0x2800 + value) if value else " ")
                for j, value in enumerate(row)
            ]
            text.append("".join(signs).rstrip())
        return text
