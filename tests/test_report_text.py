"""Scenes in a terminal, and `stemrl adapt` and `stemrl export`, which show them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from stemrl.cli import main
from stemrl.core import Problem
from stemrl.drawing import Gauge, Scene, Shape
from stemrl.errors import UserError
from stemrl.evaluation import draw_tasks, play_tasks
from stemrl.registry import make
from stemrl.report import picture
from stemrl.report.picture import animate, encoder, frames
from stemrl.report.scene import scene
from stemrl.report.story import label, shows
from stemrl.report.svg import number
from stemrl.report.text import COLUMNS, beside, sketches
from test_report import Seeker


class Still(Seeker):
    """Always takes the first action."""

    def act(self, memory, carry, obs, key):
        return jax.numpy.zeros((), int), carry, {}


def drawn(family, params, positions) -> Scene:
    """The scene of a walk over cells."""
    state = family.env.reset(jax.random.key(0), params)[1]
    states = jax.tree.map(lambda x: np.asarray(positions, x.dtype), state)
    found = scene(family, params, states)
    assert found is not None
    return found


def test_a_grid_is_a_character_a_cell():
    family = make("families", "gridnavi", size=3)
    there = drawn(family, {"goal": np.array([2, 1])}, [(0, 0), (1, 0), (1, 1), (1, 1)])
    home = drawn(family, {"goal": np.array([2, 1])}, [(0, 0), (1, 0), (2, 0), (2, 1)])
    text = beside([("before: 1", there), ("after: 2", home)])
    assert text is not None
    lines = [re.split(r" {3,}", line) for line in text.splitlines()]
    assert lines == [
        ["before: 1", "after: 2"],
        ["· · ·", "· · ·"],
        ["· ● ◎", "· · ◉"],
        ["• • ·", "• • •"],
    ]


def test_a_wall_stands_between_cells():
    family = make("families", "grid-wall", wall=True)
    params = jax.tree.map(np.asarray, family.sample(jax.random.key(0), "test"))
    text = beside([("", drawn(family, params, [(0, 0), (1, 0)]))])
    assert text is not None
    assert text.splitlines()[1:] == [
        "· · · · ·",
        "· ·┃· · ·",
        "· ·┃· · ·",
        "· ·┃· · ·",
        "• ●┃· · ◎",
    ]


def test_bits_are_an_abacus():
    family = make("families", "bit-flip", bits=4)
    states = np.array([[0, 1, 0, 1], [1, 1, 0, 1.0]])
    found = scene(family, {"goal": np.array([1, 1, 0, 0.0])}, states)
    assert found is not None
    assert beside([("", found)]) == "\n◉ ◉ · ●\n· · ◉ ◎"


def test_a_plane_shows_the_way_and_the_goal():
    way = np.stack([np.linspace(0, 1, 20), np.zeros(20)], 1)
    shapes = [
        Shape("disc", np.array([[[1.0, 1.0]]]), 0.01, "goal"),
        Shape("trail", way[:, None], 0.1, "near"),
    ]
    text = beside([("", Scene(shapes, np.zeros((1, 2)), (3.0, 3.0), 0.1, 20))])
    assert text is not None
    signs = {
        sign: (i, j) for i, line in enumerate(text.splitlines()) for j, sign in enumerate(line)
    }
    (goal_row, goal_column), (end_row, end_column) = signs["◎"], signs["●"]
    assert abs(goal_column - end_column) <= 1 and end_row - goal_row > COLUMNS // 3
    on_the_way = [s for s in text.splitlines()[end_row][:end_column] if "⠀" < s <= "⣿"]
    assert len(on_the_way) > COLUMNS // 2


def test_a_gauge_is_plotted_to_one_scale():
    def robot(values: np.ndarray) -> Scene:
        gauge = Gauge("speed", values, 2.0, " m/s")
        return Scene([], np.zeros((1, 2)), (2.0, 1.0), 0.1, len(values), 0.0, gauge)

    text = beside([("a", robot(np.zeros(9))), ("b", robot(np.full(9, 2.0)))])
    assert text is not None
    lines = text.splitlines()
    assert lines[-1].split("    ")[0].strip() == "speed 0.00 m/s, asked 2.00"
    # Standing still is a line at the bottom left, the asked speed one at the top right.
    assert lines[5][:COLUMNS].strip() and not lines[5][COLUMNS:].strip()
    assert len(lines[1][COLUMNS + 4 :].strip()) == COLUMNS
    assert beside([("", Scene([], np.zeros((1, 2)), (2.0, 1.0), 0.1, 1, 0.0))]) is None


def test_the_sketched_episodes_are_those_that_were_scored():
    problem = Problem.of(make("families", "point-2d", horizon=10))
    params, key = draw_tasks(problem.target, "test", 3, 5)
    scores, *_ = play_tasks(Seeker(), problem, params, key, 3)
    some = jax.tree.map(lambda x: x[:2], params)
    texts = sketches(Seeker(), problem, some, 3, key)
    assert len(texts) == 2
    for text, task in zip(texts, scores, strict=False):
        medians = [number(np.sort(task[round])[1]) for round in (0, 2)]
        before, after = re.findall(r": (−[\d.]+)", text.splitlines()[0])
        assert [before, after] == medians
        assert "after 8 episodes" in text.splitlines()[0]


def test_what_cannot_be_drawn_is_not():
    host = Problem.of(make("families", "gymnasium"))
    assert sketches(Seeker(), host, {}, 1, jax.random.key(0)) == []
    bandit = Problem.of(make("families", "bandit"))
    params, key = draw_tasks(bandit.target, "test", 1, 0)
    assert sketches(Still(), bandit, params, 1, key) == []


def test_tasks_in_words():
    assert label({"speed": np.array([1.25, -2.0])}, 1) == "speed −2.00"
    assert label({"goal": np.array([[3, 4], [1, 4]])}, 0) == "goal (3, 4)"
    assert label({"goal": np.eye(5), "mass": np.ones(5)}, 1) == "goal 01000"
    assert label({"goal": np.linspace(0, 1, 10).reshape(2, 5)}, 0) == "goal (0.00, 0.11, 0.22, …)"
    assert label({"mass": np.ones(2)}, 1) == "task 1"


# Files that move.


@pytest.fixture(scope="module")
def shown():
    """Two tasks of a point, before and after."""
    problem = Problem.of(make("families", "point-2d", horizon=10))
    tasks, _ = draw_tasks(problem.target, "test", 2, 0)
    return shows(Seeker(), problem, tasks, 2)


def lasts(image: Any) -> int:
    """Milliseconds of all frames."""
    total = 0
    for frame in range(image.n_frames):
        image.seek(frame)
        total += image.info["duration"]
    return total


def test_an_animation_has_a_row_a_task(shown, tmp_path: Path):
    seconds = shown[0]["panels"][0]["scene"]["frames"] * 0.05 + picture.REST
    with Image.open(animate(shown, tmp_path / "a.gif", width=60, rate=10)) as image:
        assert image.size == (132, 2 * (60 + 2 * picture.TITLE) + picture.GAP)
        # Frames that are alike are one that lasts longer.
        assert lasts(image) == 100 * round(10 * seconds)
    first, *_, last = frames(shown, width=60)
    assert first.tobytes() != last.tobytes()
    with pytest.raises(UserError, match=r"a \.gif or an \.mp4, not a\.avi"):
        animate(shown, tmp_path / "a.avi")


def test_an_mp4_shows_the_same(shown, tmp_path: Path):
    try:
        program = encoder()
    except UserError:
        pytest.skip("there is no ffmpeg: the extra `video` is not installed")
    path = animate(shown[:1], tmp_path / "new" / "a.mp4", width=61, rate=10)
    raw = [
        program,
        "-loglevel",
        "error",
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    content = subprocess.run(raw, capture_output=True, check=True).stdout
    drawn = list(frames(shown[:1], width=61, rate=10))
    assert drawn[0].size == (134, 113)
    read = np.frombuffer(content, np.uint8).reshape(len(drawn), 114, 134, 3)
    for ours, theirs in zip(drawn, read, strict=True):
        assert np.abs(np.asarray(ours, float) - theirs[:113]).mean() < 6.0


def test_without_ffmpeg_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"pip install 'stemrl\[video\]', or write a \.gif"):
        encoder()


def test_adapt_and_export_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["adapt", "her-bit-flip", "--tasks", "1", "--task", "goal=1,0,1,0,1,0,1,0,1,0"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "◉ · ◉ · ◉ · ◉ · ◉ ·\n· ◉ · ◉ · ◉ · ◉ · ◉" in told
    assert main([*words, "--no-pictures"]) == 0
    plain = capsys.readouterr().out
    assert "◉" not in plain and plain.splitlines()[0] == told.splitlines()[0]
    assert main(["export", "her-bit-flip", str(tmp_path / "bits.gif"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"export": str(tmp_path / "bits.gif")}
    with Image.open(tmp_path / "bits.gif") as image:
        assert lasts(image) > 1000
