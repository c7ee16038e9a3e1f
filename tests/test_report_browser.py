"""Reports in headless Chromium: what a reader sees, read back from the page that was shown."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import stemrl
from stemrl.core import AbstractAgent, Discrete, Problem, Space
from stemrl.evaluation import draw_tasks, evaluate
from stemrl.registry import make
from stemrl.report import report
from stemrl.report.page import page
from stemrl.report.story import Subject, shows, tell
from stemrl.report.svg import number
from stemrl.runs import Run, train
from test_runs import tiny

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs") / "run", progress=False)


class Chance(AbstractAgent):
    """Acts at random."""

    actions: Space = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=2)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context, key):
        return ()

    def begin(self, memory, key):
        return ()

    def act(self, memory, carry, obs, key):
        if isinstance(self.actions, Discrete):
            return jax.random.randint(key, (), 0, self.actions.n), carry, {}
        return jax.random.uniform(key, self.actions.shape, minval=-1.0), carry, {}

    def adapt(self, memory, carries, episodes, key):
        return memory


def chance(family: str):
    """The story of an agent that acts at random, and its animations."""
    problem = Problem.of(make("families", family))
    agent = Chance(problem.target.action_space)
    tasks, _ = draw_tasks(problem.target, "test", 4, 0)
    result = evaluate(agent, problem, tasks=4, episodes=2, method="chance")
    return tell("Chance", [Subject("chance", result)], tasks, {}), shows(agent, problem, tasks, 2)


def browse(file: Path, *flags: str) -> tuple[str, list[str]]:
    """The page as it stands after four seconds of its own time, and what its console says."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={file.parent / 'profile'}",
        "--enable-logging=stderr", "--virtual-time-budget=4000", *flags, "--dump-dom",
        file.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return shown.stdout, re.findall(r"CONSOLE[:(]\d+.*", shown.stderr)


class Page(HTMLParser):
    """The words of each tile and of each table's cells, in their order."""

    def __init__(self, text: str):
        super().__init__()
        self.tiles: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.into = self.tables[-1][-1]
            self.into.append("")
        elif tag == "div" and ("class", "value") in attrs:
            self.into = self.tiles
            self.tiles.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th", "div"):
            self.into = None

    def handle_data(self, data):
        if self.into is not None:
            self.into[-1] += data


def test_the_numbers_on_the_page_are_those_of_the_evaluation(run: Run, tmp_path: Path):
    file = report([run], tmp_path / "report.html", tasks=8, episodes=4, seed=2)
    text, console = browse(file)
    assert console == []
    found = stemrl.evaluate(run, tasks=8, episodes=4, seed=2)
    shown = Page(text)
    first, last = found.points[0], found.points[-1]
    assert shown.tiles[:2] == [number(first["mean"]), number(last["mean"])]
    points, tasks = shown.tables[:2]
    for point, row in zip(found.points, points[1:], strict=False):
        names = ("mean", "mean_low", "mean_high", "iqm", "low", "high")
        told = (point[name] for name in names)
        assert row[1:] == [
            str(point["episodes_used"]),
            f"{point['steps_used']:,.0f}",
            *map(number, told),
        ]
    goal = tasks[0].index("Before")
    rows = {(row[goal], row[goal + 1]) for row in tasks[1:]}
    per_task = found.as_dict()["per_task"]
    assert len(tasks) == 9 and len(points) == 7
    assert rows == {(number(scores[0]), number(scores[-1])) for scores in per_task}
    # The chart's points, from the titles that a pointer brings up.
    for point in found.points:
        interval = f"[{number(point['mean_low'])}, {number(point['mean_high'])}]"
        assert f"{number(point['mean'])} {interval} at {point['episodes_used']} target" in text


def test_the_console_is_heard(tmp_path: Path):
    file = tmp_path / "wrong.html"
    file.write_text("<script>console.error('one'); nothing.at.all();</script>")
    console = browse(file)[1]
    assert len(console) == 2
    assert "one" in console[0] and "ReferenceError" in console[1]


CHECK = """<script>
// Without a window no frames are asked for: a clock asks instead.
window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 16);
let tries = 0;
const clocks = new Set();
const watch = setInterval(() => {
  const c = document.querySelector('canvas'), d = document.documentElement;
  const clock = c && document.querySelector('.time').textContent;
  clocks.add(clock);
  if (c && ++tries < 15) return;
  clearInterval(watch);
  const result = {wide: d.scrollWidth, inner: innerWidth, clock, clocks: clocks.size, seen: {}};
  if (c) {
    const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const one = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    result.colours = new Set(p).size;
    for (const role of ['body', 'near', 'far', 'goal']) {
      one.fillStyle = getComputedStyle(d).getPropertyValue('--' + role);
      one.fillRect(0, 0, 1, 1);
      const [r, g, b] = one.getImageData(0, 0, 1, 1).data;
      result.seen[role] = 0;
      for (let i = 0; i < p.length; i += 4)
        result.seen[role] += p[i] === r && p[i + 1] === g && p[i + 2] === b;
    }
  }
  document.body.dataset.result = JSON.stringify(result);
}, 100);
</script>"""
"""Notes whether anything is wider than the window, what the clock says, how many things it has said,
and what the canvas holds: its colours, and how many pixels have the colour of each part."""


def watched(html: str, width: int, folder: Path) -> tuple[str, dict[str, Any]]:
    """The page in a window that wide, as it stands in the end, and what `CHECK` noted; nothing was
    said on its console, and nothing is wider than the window."""
    file = folder / "page.html"
    file.write_text(html.replace("<head>", f"<head>{CHECK}"))
    text, console = browse(file, f"--window-size={width},900")
    assert console == []
    found = re.search(r'data-result="([^"]*)"', text)
    assert found is not None
    result = json.loads(found[1].replace("&quot;", '"'))
    assert result["wide"] <= result["inner"]
    return text, result


@pytest.mark.parametrize(
    ("family", "width"), [("point-2d", 1200), ("gridnavi", 360), ("bandit", 360)]
)
def test_the_animation_is_drawn_in_any_window(family: str, width: int, tmp_path: Path):
    text, result = watched(page(*chance(family)), width, tmp_path)
    if family == "bandit":
        assert "says nothing of how it is drawn" in text
    else:
        assert result["colours"] > 3
        now, end = map(float, re.findall(r"[\d.]+", result["clock"]))
        assert 0 <= now < end
        assert result["clocks"] > 3  # it moves


def test_a_robot_is_seen_to_move(tmp_path: Path):
    """The report of a half-cheetah that has hardly learned: its scenes hold every part of it in every
    frame, and the canvas shows its trunk and its legs."""
    horizon = 20
    config = tiny(1, family="half-cheetah-vel", family_settings={"horizon": horizon},
                  evaluate_every=0)  # fmt: skip
    run = train(config, tmp_path / "run", progress=False)
    file = report([run], tmp_path / "report.html", tasks=2, episodes=2, comparisons=[])
    html = file.read_text()
    _, result = watched(html, 1200, tmp_path)
    assert result["clocks"] > 3  # it moves
    for role in ("body", "near", "far"):
        assert result["seen"][role] > 20, role
    # As long as its frames: 0.05 s each, as the simulator has them.
    assert float(re.findall(r"[\d.]+", result["clock"])[1]) == pytest.approx(1.05, abs=0.06)

    embedded = re.search(r'<script type="application/json" id="scenes">(.*?)</script>', html)
    assert embedded is not None
    shown = json.loads(embedded[1])
    assert len(shown) == 2  # tasks
    for panel in (panel for show in shown for panel in show["panels"]):
        scene = panel["scene"]
        assert scene["frames"] == horizon + 1 and scene["gauge"]["label"] == "speed"
        limbs = [s for s in scene["shapes"] if s["role"] in ("body", "near", "far")]
        assert len(limbs) == 8  # torso, head, and three parts of each leg
        for limb in limbs:
            ends = np.reshape(limb["points"], (horizon + 1, 4))
            assert limb["kind"] == "capsule" and np.ptp(ends, axis=0).max() > 0.01
