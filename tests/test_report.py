"""The report: what is recorded, drawn and written, and whether a browser can show it."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from PIL import Image

from stemrl.core import AbstractAgent, Problem
from stemrl.drawing import Gauge, Scene, Shape
from stemrl.evaluation import draw_tasks, evaluate
from stemrl.physics.drawing import skeleton
from stemrl.registry import FAMILIES, METHODS, chapter_of, make
from stemrl.report.page import finding, page
from stemrl.report.picture import gif, still
from stemrl.report.record import record
from stemrl.report.scene import scene
from stemrl.report.story import Subject, columns, curves, label, shows, spread, tell
from stemrl.report.svg import Series, chart, number, short
from stemrl.report.text import beside


class Seeker(AbstractAgent):
    """Walks to the best place that it has seen on this task; at first it wanders."""

    episodes_per_round: int = eqx.field(static=True, default=4)
    greedy: bool = eqx.field(static=True, default=False)
    learns: bool = eqx.field(static=True, default=True)

    def start(self, context, key):
        return {"place": jnp.zeros(2), "known": jnp.zeros(())}

    def begin(self, memory, key):
        return ()

    def act(self, memory, carry, obs, key):
        there = 10 * (memory["place"] - obs) * memory["known"]
        return there + (1.05 - memory["known"]) * jax.random.normal(key, (2,)), carry, {}

    def adapt(self, memory, carries, episodes, key):
        if not self.learns:
            return memory
        reward = jnp.where(episodes.valid, episodes.reward, -jnp.inf).reshape(-1)
        place = episodes.next_obs.reshape(-1, 2)[jnp.argmax(reward)]
        return {"place": place, "known": jnp.ones(())}


@pytest.fixture(scope="module")
def told():
    problem = Problem.of(make("families", "point-2d", horizon=30))
    agent = Seeker()
    args = {"tasks": 12, "episodes": 8, "seed": 3}
    rows = [
        {"kind": "update", "update": i, "steps": 1000 * i, "seed": 0, "return": -20 + i / 20,
         "return/before": -25.0, "return/after": -20 + i / 20}
        for i in range(1, 301)
    ]  # fmt: skip
    rows.append({"kind": "evaluation", "update": 300, "steps": 300_000, "seed": 0, "score": -6.0})
    settings = [{"name": "inner_learning_rate", "value": 0.2, "default": 0.1, "meaning": "α <b>"}]
    subjects = [
        Subject(
            "seeker",
            evaluate(agent, problem, method="seeker", **args),
            curves(rows),
            {"method": "seeker", "family": "point-2d", "seed": 0},
            settings,
        ),
        Subject("wanderer", evaluate(Seeker(learns=False), problem, **args), note="never learns"),
    ]
    tasks, _ = draw_tasks(problem.target, "test", 12, 3)
    story = tell("Seeker & <point>", subjects, tasks, {"stemrl": "0"})
    return story, shows(agent, problem, tasks, 3, seed=3), problem, tasks


def test_the_page_carries_its_numbers(told, tmp_path):
    story, shown, *_ = told
    text = page(story, shown)
    assert json.loads(element(text, "data")) == json.loads(json.dumps(story))
    assert json.loads(element(text, "scenes")) == json.loads(json.dumps(shown))
    assert len(text) < 1_000_000
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        ElementTree.fromstring(table)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)


def element(text: str, name: str) -> str:
    """What the script element called `name` holds, by a parser that is not ours."""

    class Finder(HTMLParser):
        found, inside = "", False

        def handle_starttag(self, tag, attrs):
            self.inside = tag == "script" and ("id", name) in attrs

        def handle_data(self, data):
            self.found += data if self.inside else ""

        def handle_endtag(self, tag):
            self.inside = False

    finder = Finder()
    finder.feed(text)
    return finder.found


def test_names_are_text_and_never_markup(told):
    story, shown, *_ = told
    text = page(story, shown)
    assert "<point>" not in text
    assert "Seeker &amp; &lt;point&gt;" in text
    assert "α &lt;b&gt;" in text


def test_the_page_asks_nothing_of_the_network(told):
    story, shown, *_ = told
    text = page(story, shown).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text
    assert not re.search(r"<link|<img|@import|url\(|src=", text)


def test_the_page_says_how_it_was_measured(told):
    story, shown, *_ = told
    text = page(story, shown)
    for words in ("point-2d@1(horizon=30,size=0.5)", "12 tasks", "sampled", "never learns"):
        assert words in text
    for subject in story["subjects"]:
        for point in subject["evaluation"]["episodes"]:
            assert number(point["iqm"]) in text


def test_the_headline_is_the_mean_and_claims_no_adaptation_where_there_is_none(told):
    """Of a sparse reward the interquartile mean is 0; of what never adapts, rounds differ by chance."""
    story = json.loads(json.dumps(told[0]))
    subject, other = story["subjects"]
    subject["evaluation"]["episodes"][0] |= {"mean": 8.6, "iqm": 0.0}
    assert "seeker has a mean return of 8.60 before adaptation" in finding(story)
    for one in (subject, other):
        one["evaluation"]["adapts"], one["learning"] = False, []
    text = page(story, [])
    overall = number(subject["evaluation"]["overall"]["mean"])
    assert f"has a mean return of {overall}; it does not adapt; wanderer reaches" in text
    assert "before adaptation" not in text.lower() and ">Before<" not in text
    assert "which does not adapt" in text
    held_out = curves([{"kind": "evaluation", "steps": 1, "score": 2.0}], adapting=False)
    assert held_out[0]["label"] == "Held-out tasks"


def test_what_is_counted_is_marked_in_whole_numbers():
    for most in (1, 2, 3, 7):
        text = chart(
            [Series("x", [0, most], [0, 1])], "Episodes", "", "", x_zero=True, x_whole=True
        )
        marks = re.findall(r'text-anchor="middle">([^<]+)</text>', text)[:-2]
        assert marks and all("." not in mark for mark in marks), marks


def test_parameters_have_names_and_no_task_is_shown_twice():
    tasks = {"values": jnp.asarray([[0.71, 1.26], [0.71, 1.26], [2.0, 1.26]])}
    names = {"values": ("body_mass:torso", "gravity")}
    assert columns(tasks, names)[0] == ["body_mass:torso"]
    assert label(tasks, 0, names) == "body_mass:torso 0.71"
    np.testing.assert_array_equal(spread(tasks, 3), [0, 2])
    family = make("families", "hopper-params", ranges="gravity=0.5:2")
    assert family.parameter_names() == {"values": ("gravity",)}


def test_limbs_are_told_apart_by_where_they_hang_and_meshes_are_left_out():
    model: Any = mujoco.MjModel.from_xml_string(
        """<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>
        <geom type="plane" size="1 1 1" euler="90 0 0"/>
        <body name="flank"><freejoint/><geom name="middle" size="0.1"/>
          <body name="front"><geom name="a" size="0.1"/><body><geom name="b" size="0.1"/></body></body>
          <body name="rear"><geom name="c" type="mesh" mesh="m"/>
            <geom name="d" size="0.1" group="3"/></body>
        </body></worldbody></mujoco>"""
    )
    drawn = skeleton(model)
    assert drawn.names == ("middle", "a", "b", "d") and drawn.limbs == (-1, 0, 0, 1)
    assert drawn.ground is None  # the only plane stands upright


def test_curves_average_updates_and_seeds():
    rows = [
        {"kind": "update", "steps": 10 * i, "seed": seed, "return": float(i + seed)}
        for i in range(250)
        for seed in (0, 2)
    ]
    (curve,) = curves(rows)
    assert len(curve["steps"]) == 100
    assert curve["steps"][-1] == 2490
    np.testing.assert_allclose(curve["mean"][-1], np.mean([248, 249]) + 1, atol=1e-9)
    np.testing.assert_allclose(np.subtract(curve["high"], curve["low"]), 2.0)
    assert curves([]) == []
    assert curves([{"kind": "update", "steps": 1, "return": None}]) == []


def test_what_is_recorded_is_what_is_played(told):
    *_, problem, tasks = told
    some = jax.tree.map(lambda x: x[:2], tasks)
    recording = record(Seeker(), problem, some, 2, key=jax.random.key(1))
    assert recording is not None
    position = recording.before.position
    assert position.shape == (2, 2, 4, 30, 2)
    # Step by step, up to where an episode ends; what stands behind that is padding.
    played = np.arange(29) < recording.lengths[..., None] - 1
    assert played.sum() > 200
    np.testing.assert_array_equal(
        position[..., 1:, :][played], recording.after.position[..., :-1, :][played]
    )
    for task in range(2):
        for round in range(2):
            params, states, score = recording.episode(task, round)
            scores = np.sort(recording.scores[task, round])
            assert score == scores[1]
            np.testing.assert_array_equal(params["goal"], tasks["goal"][task])
            # Rewards are minus the distance after each step: the states give the very return.
            distances = np.linalg.norm(states.position[1:] - params["goal"], axis=-1)
            assert score == pytest.approx(-distances.sum(), rel=1e-5)


def test_a_family_may_draw_itself():
    class Drawn:
        def draw(self, params, states):
            return Scene([], np.zeros((1, 2)), (1.0, 1.0), 0.1, len(states))

    drawn = scene(Drawn(), {}, np.zeros(400))  # pyright: ignore[reportArgumentType]
    assert drawn is not None
    assert (drawn.frames, drawn.seconds) == (134, pytest.approx(0.3))


def test_a_family_that_nobody_can_draw_has_no_animation():
    problem = Problem.of(make("families", "bandit"))
    assert scene(problem.target, {"probability": np.zeros(3)}, np.zeros(3)) is None


@pytest.mark.parametrize("name", ["half-cheetah-vel", "ant-goal"])
def test_robots_are_drawn(name):
    family = make("families", name)
    params = family.sample(jax.random.key(0), "test")
    _, start = family.env.reset(jax.random.key(1), params)
    states = np.stack([np.asarray(start)] * 5)
    drawn = scene(family, jax.tree.map(np.asarray, params), states)
    assert drawn is not None
    assert drawn.frames == 5
    assert any(shape.role == "goal" for shape in drawn.shapes)
    assert sum(shape.role in ("body", "near", "far") for shape in drawn.shapes) > 6
    assert all(np.isfinite(shape.points).all() for shape in drawn.shapes)
    assert all(shape.points.ndim == 3 for shape in drawn.shapes)
    assert "before" in (beside([("before", drawn), ("after", drawn)]) or "")
    if name == "half-cheetah-vel":
        assert drawn.gauge is not None
        assert drawn.gauge.target == pytest.approx(float(params["speed"]))
    json.dumps(drawn.as_dict(), allow_nan=False)


def test_a_scene_through_another_window_keeps_its_ground():
    camera = np.asarray([[0.0, 0.3], [1.0, 0.3]])
    gauge = Gauge("speed", np.zeros(2), 1.0)
    shape = Shape("disc", np.zeros((1, 1, 2)), 1.0)
    seen = Scene([shape], camera, (2.0, 1.0), 0.1, 2, 0.0, gauge).seen_in((4.0, 2.0))
    np.testing.assert_allclose(seen.camera, [[0.0, 0.6], [1.0, 0.6]])
    assert seen.window == (4.0, 2.0)


def test_parameters_become_columns():
    tasks = {"goal": jnp.asarray([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), "mass": jnp.ones(3)}
    names, values = columns(tasks)
    assert names == ["goal 1"]
    np.testing.assert_array_equal(values, [[1], [2], [3]])
    assert columns({"mass": jnp.ones(3)})[0] == ["task"]
    np.testing.assert_array_equal(spread(tasks, 2), [0, 2])
    np.testing.assert_array_equal(spread(tasks, 9), [0, 1, 2])


def test_charts_survive_what_data_can_be():
    odd = Series("odd", [0, 1, 2], [1.0, float("nan"), 1.0], style=3)
    one = Series("one", [5.0], [2.0], [1.0], [3.0])
    ElementTree.fromstring(chart([odd, one], "x", "y", "odd <things>"))
    assert "Nothing to draw" in chart([Series("none", [], [])], "x", "y", "empty")
    assert short(1_500_000) == "1.5M"
    assert short(-20_000) == "−20k"
    assert number(-0.5) == "−0.50"
    assert number(None) == "–"


def test_a_still_and_a_gif_show_the_same_scenes(told, tmp_path):
    story, shown, *_ = told
    picture = ElementTree.fromstring(still(story, shown[0], every=0.5))
    assert picture.tag.endswith("svg")
    path = gif(shown[:1], tmp_path / "new" / "a.gif", width=80, rate=5)
    with Image.open(path) as image:
        assert image.n_frames > 3  # pyright: ignore[reportAttributeAccessIssue]
        assert image.width == 172
        assert len(image.convert("RGB").getcolors(10_000) or []) > 3


def test_the_readme_lists_what_the_registry_knows():
    text = (Path(__file__).parent.parent / "README.md").read_text()
    rows = dict(re.findall(r"^\| \[?`([\w-]+)`[^|]*\| ([^|]*) \|", text, re.MULTILINE))
    assert rows == {name: entry.summary for name, entry in (METHODS | FAMILIES).items()}
    heading = ""
    for line in text.splitlines():  # each under the heading of its chapter
        heading = (re.match(r"\| \*\*(.*?)\*\* \|", line) or ["", heading])[1]
        name = (re.match(r"\| \[?`([\w-]+)`", line) or ["", ""])[1]
        for kind, known in (("methods", METHODS), ("families", FAMILIES)):
            if name in known:
                assert heading == chapter_of(kind, name) or not chapter_of(kind, name), name


@pytest.mark.parametrize("name", ["gridnavi", "point-sparse"])
def test_points_and_grids_are_drawn(name):
    family = make("families", name)
    params = jax.tree.map(np.asarray, family.sample(jax.random.key(0), "train"))
    _, start = family.env.reset(jax.random.key(1), params)
    states = jax.tree.map(lambda x: np.stack([np.asarray(x)] * 4), start)
    drawn = scene(family, params, states)
    assert drawn is not None
    (goal,) = (shape for shape in drawn.shapes if shape.role == "goal")
    np.testing.assert_allclose(goal.points[0, 0], params["goal"])
    assert sum(shape.role == "cell" for shape in drawn.shapes) == (25 if name == "gridnavi" else 0)
