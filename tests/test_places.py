"""A run holds all that it depends on: code and its neighbors, models and their parts, moved folders."""

import gc
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import stemrl
from stemrl import own_code, registry
from stemrl.cli import main
from stemrl.errors import CodeChanged, UserError
from stemrl.physics.model_files import digest_of_model, parts_of_model
from stemrl.reading import syntax_tree
from stemrl.runs import Run, RunConfig, trust
from test_runs import TINY, UPDATE

BOAT = """
from limits import SIZE
from shapes.base import Base

class Boat(Base):
    name = "boat"
    size: float = SIZE
"""
BASE = """
from stemrl.tasks.point import Point2D

class Base(Point2D):
    pass
"""


@pytest.fixture
def harbor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose name has a colon and a space, with a family whose file imports what lies beside
    it; and a home for keys."""
    folder = tmp_path / "a: harbor"
    (folder / "shapes").mkdir(parents=True)
    (folder / "boat.py").write_text(BOAT)
    (folder / "limits.py").write_text("SIZE = 0.5\n")
    (folder / "shapes" / "__init__.py").write_text("")
    (folder / "shapes" / "base.py").write_text(BASE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEMRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield folder
    anew()


def anew() -> None:
    """As in another process: nothing of one's own is imported, nothing signed."""
    mine = [
        name for name in sys.modules if name.startswith(("stemrl_user_boat", "limits", "shapes"))
    ]
    for name in mine:
        del sys.modules[name]
    own_code.imported.clear()
    trust._ours.clear()


def config(folder: Path, updates: int = 1) -> RunConfig:
    return RunConfig(
        TINY, f"{folder / 'boat.py'}:Boat", family_settings={"horizon": 5},
        steps=updates * UPDATE, evaluate_every=0,
    )  # fmt: skip


def test_a_run_finds_its_code_again_and_says_what_changed(
    harbor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = harbor / "runs" / "one"
    words = [
        *("train", TINY, f"{harbor / 'boat.py'}:Boat", "--family.horizon", "5", "--quiet"),
        *("--steps", str(UPDATE), "--evaluate-every", "0", "--out", str(run)),
    ]
    assert main(words) == 0, capsys.readouterr()
    written = json.loads((run / "config.json").read_text())
    code = {Path(name).name for name in written["depends_on"]}
    assert {"boat.py", "limits.py", "base.py", "tiny.py"} <= code
    # The whole folder goes elsewhere. What is in it is what was signed, so it opens by itself.
    anew()
    moved = tmp_path / "moved"
    shutil.move(harbor, moved)
    capsys.readouterr()
    further = ["train", "--resume", "--out", str(moved / "runs" / "one"), "--quiet"]
    assert main([*further, "--steps", str(2 * UPDATE)]) == 0, capsys.readouterr()
    assert "changed" not in capsys.readouterr().err
    assert Run.open(moved / "runs" / "one").config.family == f"{moved / 'boat.py'}:Boat"
    # A file that it imports is edited: it runs, and everybody is told, as often as it is opened.
    anew()
    (moved / "limits.py").write_text("SIZE = 0.75\n")
    for steps in (3, 4):
        anew()
        capsys.readouterr()
        assert main([*further, "--steps", str(steps * UPDATE)]) == 0
        said = capsys.readouterr().err
        assert said.count(f"warning: {moved / 'limits.py'} has changed since") == 1, said
    # Moved once more, now with code that nobody has signed: not imported.
    anew()
    again = tmp_path / "again"
    shutil.move(moved, again)
    with pytest.raises(UserError, match="comes from elsewhere"):
        Run.open(again / "runs" / "one")
    assert f"{again / 'boat.py'}:Boat" in trust.trust(again / "runs" / "one")
    anew()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CodeChanged)
        assert Run.open(again / "runs" / "one").config.family == f"{again / 'boat.py'}:Boat"


def test_two_folders_may_have_neighbors_of_one_name(harbor: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(harbor, other)
    (other / "limits.py").write_text("SIZE = 2.0\n")
    sizes = [stemrl.make_family(f"{f / 'boat.py'}:Boat").size for f in (harbor, other, harbor)]
    assert sizes == [0.5, 2.0, 0.5]


def test_what_is_no_family_is_never_called(tmp_path: Path):
    """Not even what its user has vouched for: a name may lead anywhere."""
    (tmp_path / "calls.py").write_text("def pwn(**_):\n    raise SystemExit(3)\n")
    inner = f"{tmp_path / 'calls.py'}:pwn"
    cases: tuple[dict[str, Any], ...] = (
        {"method": "ppo", "family": "os:system", "family_settings": {"command": "touch PWNED"}},
        {"method": "subprocess:Popen", "family": "point-2d", "settings": {"args": ["touch", "X"]}},
        {"method": "ppo", "family": "randomized", "family_settings": {"family": inner}},
        {"method": f"epopt learner='{inner}'", "family": "cart-pole"},
        {"method": f"her learner='{inner}'", "family": "bit-flip"},
    )
    for fields in cases:
        made: Any = RunConfig(**fields)
        with pytest.raises(
            UserError, match=r"is (builtin_function_or_method|the class Popen|function), not"
        ):
            made.problem()
            made.learner()
    with pytest.raises(UserError, match="not a family"):
        registry.make("families", "os:system", command="touch PWNED")


def test_a_model_is_all_files_that_it_is_made_of(tmp_path: Path):
    (tmp_path / "parts" / "shapes").mkdir(parents=True)
    main_file = tmp_path / "robot.xml"
    main_file.write_text(
        '<mujoco><compiler meshdir="parts/shapes"/><include file="parts/arm.xml"/></mujoco>'
    )
    (tmp_path / "parts" / "arm.xml").write_text(
        '<mujoco><asset><mesh name="m" file="hand.stl"/><mesh name="n" file="gone.stl"/></asset></mujoco>'
    )
    mesh = tmp_path / "parts" / "shapes" / "hand.stl"
    mesh.write_bytes(b"one")
    names = [path.name for path in parts_of_model(main_file)]
    assert names == ["robot.xml", "arm.xml", "hand.stl"]
    seen = {digest_of_model(main_file)}
    mesh.write_bytes(b"three")
    seen.add(digest_of_model(main_file))
    (tmp_path / "parts" / "arm.xml").write_text("<mujoco/>")
    seen.add(digest_of_model(main_file))
    assert len(seen) == 3


def test_a_setting_without_a_default_is_asked_for(tmp_path: Path):
    (tmp_path / "pier.py").write_text(
        "from stemrl.tasks.point import Point2D\nclass Pier(Point2D):\n    length: float\n"
        "    def __init__(self, length, horizon=5):\n        self.length = length\n"
    )
    with pytest.raises(UserError, match="needs a value for its setting 'length'"):
        stemrl.make_family(f"{tmp_path / 'pier.py'}:Pier")


CART = """
from stemrl.physics.mjcf import AbstractMjcfFamily
class Cart(AbstractMjcfFamily):
    name = "cart"
    file: str = "cart.xml"
    ranges: str = ""
    frame_skip: int = 1
    horizon: int = 5
    def reward(self, qpos, qvel, action, next_qpos, next_qvel):
        return next_qpos[0]
"""
MODEL = """<mujoco><worldbody><body name="b"><joint name="x" type="slide" axis="1 0 0"/>
<geom size="0.1"/></body></worldbody><actuator><motor joint="x"/></actuator></mujoco>"""


def test_a_relative_model_is_found_from_elsewhere(
    harbor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (harbor / "cart.py").write_text(CART)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my.xml").write_text(MODEL)
    monkeypatch.chdir(tmp_path / "here")
    made = RunConfig("ppo", f"{harbor / 'cart.py'}:Cart file=my.xml")
    inside = RunConfig("ppo", f"""randomized family='"{harbor / "cart.py"}:Cart" file=my.xml'""")
    assert "file='my.xml'" in made.problem().source.identity
    resolved, nested = made.resolved(), inside
    (tmp_path / "config.json").write_bytes(made.text())
    monkeypatch.chdir(tmp_path)
    assert resolved.family_settings["file"] == str(tmp_path / "here" / "my.xml")
    assert RunConfig.load(tmp_path / "config.json").problem().source.identity
    assert nested.method == "ppo"


def test_home_is_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=str(tmp_path / "x")):
        Run.open("~/x")
    assert main(["evaluate", "--oracle=~/y", "~/x"]) == 2
    assert f"{tmp_path}/x" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()
    # Without one, or with one that cannot be written: said at the start, with a way on.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    said = trust.without_key({"family": "boat.py:Boat"})
    assert said is not None and "set XDG_CONFIG_HOME" in said
    assert trust.without_key({"family": "point-2d"}) is None


def test_updates_that_teach_nothing_are_said():
    tiny = RunConfig.tiny("ppo", updates=3)
    learner = stemrl.make_learner("ppo", anneal_updates=2)
    assert learner.learns_until == 2 and tiny.learner().learns_until is None
    inside: Any = stemrl.make_learner("darc", learner="ppo anneal_updates=2")
    assert inside.learns_until == 2


def test_threads_read_code_at_once():
    """Trees built in two threads at once failed, rarely (CPython's issue 106905): two seeds that began
    together were enough. Whatever runs while garbage is collected lets the other thread on."""

    def dawdle(*_: Any) -> None:
        for _ in range(100):
            pass

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    source = Path(own_code.__file__).read_text()
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(50)
        gc.callbacks.append(dawdle)
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(syntax_tree, [source] * 12))) == 12
    finally:
        gc.callbacks.remove(dawdle)
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
