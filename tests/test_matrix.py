"""Every verb on every method, from the registry: what is registered tomorrow is in it by itself.

One tiny training a method (`Entry.tiny`), once a session and in one process; everything else is
done with what it left. And every verb on the families and the method of the documentation, which
are stepped in all three ways. All of it under JAX's own watch for keys that are used twice.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from stemrl import registry
from stemrl.cli import main
from stemrl.runs import Run, RunConfig, forget_programs, resume, train
from test_docs_pages import BLOCK, DOCS
from test_runs import StopAt, compiling, files, rows, stopping

UPDATES, STOPPED, KEPT = 4, 3, 2
"""Updates of a training, after how many the other is stopped, and how often one is kept."""

AGAINST_AN_ORACLE = ("rl2", "darc")
"""What an oracle is held against: what is done with it is the same for all who are not told the task. One
in JAX with trials, one with a target of its own."""

FEW = ["--tasks", "2"]
"""Of every verb: the same number of tasks is the same compiled program."""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs are not left in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMRL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass
class Tried:
    """A method's tiny training; and the same, stopped and resumed."""

    config: RunConfig
    whole: Run
    resumed: Run
    compiled: list[str]
    """The programs of both, each time that one was compiled."""


@pytest.fixture(scope="module")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunConfig], Run]:
    """PPO that is told the task, once for each problem."""
    trained: dict[str, Run] = {}
    tiny = registry.METHODS["ppo"].tiny
    assert tiny is not None

    def oracle(config: RunConfig) -> Run:
        wanted = ("family", "family_settings", "target", "target_settings")
        problem = {name: getattr(config, name) for name in wanted}
        ppo = RunConfig(
            f"ppo {tiny.settings}", reveal="context", steps=1, evaluate_every=0, **problem
        )
        if str(problem) not in trained:
            with jax.debug_key_reuse(True):
                trained[str(problem)] = train(
                    ppo, tmp_path_factory.mktemp("o") / "run", progress=False
                )
        return trained[str(problem)]

    return oracle


def try_out(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """Train twice, the second time with a stop."""
    with compiling(forget=False) as names, jax.debug_key_reuse(True):
        whole = train(config, folder / "whole", progress=False)
        stopping(monkeypatch, STOPPED, "crash")
        with pytest.raises(StopAt):
            train(config, folder / "resumed", progress=False)
        return Tried(config, whole, resume(folder / "resumed", progress=False), names)


@pytest.fixture(scope="module", params=registry.METHODS)
def tried(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """Of every method of the registry, one after another."""
    method = request.param
    if registry.METHODS[method].tiny is None:
        pytest.fail(
            f"'{method}' has no tiny setting: give its Entry in registry.py one, tiny=Tiny(…)",
            pytrace=False,
        )
    each = RunConfig.tiny(method).steps
    config = RunConfig.tiny(method, UPDATES, keep_every=KEPT * each)
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = try_out(config, tmp_path_factory.mktemp(method), monkeypatch)
    yield found
    # All of them together compile more than one process may hold; and what the next one compiles must not
    # be let go of by a training half way through.
    forget_programs(5_000)


# What every method must be able to do.


def test_a_resumed_training_is_the_uninterrupted_one(tried: Tried):
    # A supervised run sums up many updates in a row.
    assert len(rows(tried.whole)) == (1 if tried.whole.supervised else UPDATES)
    assert rows(tried.resumed) == rows(tried.whole)
    assert files(tried.resumed) == files(tried.whole)


def test_nothing_is_compiled_twice(tried: Tried):
    assert sorted(tried.compiled) == sorted(set(tried.compiled)), (
        "a program was traced again: a leaf of the state changes its type, its shape or what is"
        " static about it from one update to the next"
    )


def test_metrics_are_finite_and_have_a_return(tried: Tried):
    for row in rows(tried.whole):
        assert tried.whole.supervised or "return" in row
        undefined = [name for name, value in row.items() if value is None]
        assert not undefined, f"not finite: {', '.join(undefined)}"


def test_every_leaf_of_the_state_is_an_array(tried: Tried):
    strange = [x for x in jax.tree.leaves(tried.whole.state()) if not eqx.is_array(x)]
    assert not strange


def test_every_verb(
    tried: Tried, oracles: Callable[[RunConfig], Run], capsys: pytest.CaptureFixture[str]
):
    oracle = None
    if tried.config.reveal == "context" and not tried.whole.supervised:
        oracle = tried.whole
    elif tried.config.method in AGAINST_AN_ORACLE:
        oracle = oracles(tried.config)
    with jax.debug_key_reuse(True):
        run_verbs(tried.whole, oracle, capsys)


def _data(leaf: Any) -> Any:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def run_verbs(
    run: Run, oracle: Run | None, capsys: pytest.CaptureFixture[str], drawn: bool = True
) -> None:
    """Every verb, by the command line, on a run; what it writes stands beside the run."""
    path, beside, supervised = str(run.path), run.path.parent, run.supervised

    def says(*words: str) -> Any:
        capsys.readouterr()
        status = main(words)
        out, err = capsys.readouterr()
        assert status == 0, f"stemrl {' '.join(words)}: {err}"
        return json.loads(out) if "--json" in words else out

    against = ["--oracle", str(oracle.path)] if oracle else []
    evaluated = says("evaluate", path, *FEW, *against, "--json")
    measured = "per_task" if supervised else "episodes"
    assert np.isfinite(
        [
            list(point.values()) if isinstance(point, dict) else point
            for point in evaluated[measured]
        ]
    ).all()
    assert not oracle or set(evaluated["gaps"]["oracle"]) == {"points", "trial"}
    says("evaluate", path, *FEW)

    adapted = says("adapt", path, *FEW, "--json")
    if not supervised:
        rounds = [[one["mean"] for one in task["rounds"]] for task in adapted["tasks"]]
        assert rounds == evaluated["per_task"]
    assert says("adapt", path, *FEW)

    exported = beside / "exported"
    says("export", path, str(exported))
    ours, theirs = (
        jax.tree.leaves(eqx.filter(one.agent(), eqx.is_array)) for one in (Run.open(exported), run)
    )
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(_data(a), _data(b))
    compared = says("compare", path, str(exported), *FEW, "--json")
    one, other = (theirs["per_task"] for theirs in compared["runs"])
    assert one == other == evaluated["per_task"]
    says("compare", path, str(exported), *FEW)
    curves = Path(says("plot", path, "--out", str(beside / "curves.csv")).strip())
    assert len(curves.read_text().splitlines()) == 1 + len(run.metrics())

    page = Path(
        says("report", path, str(exported), *FEW, "--out", str(beside / "report.html")).strip()
    )
    assert run.config.method.rpartition(":")[2] in page.read_text()
    moving = ["export", path, str(beside / "moves.gif"), *FEW, "--width", "40"]
    if supervised:
        assert main(moving) == 2 and capsys.readouterr().err.count("\n") == 1
    elif drawn:
        says(*moving)
        assert (beside / "moves.gif").read_bytes().startswith(b"GIF8")
    else:
        assert main(moving) == 2 and "cannot be drawn" in capsys.readouterr().err

    more = run.config.steps + run.config.steps // UPDATES
    says("train", "--resume", "--out", path, "--steps", str(more), "--quiet")
    assert Run.open(path).metrics()[-1]["update"] == UPDATES + 1


# The documentation's own families and method, and families that wrap what others wrote.

PPO = registry.METHODS["ppo"].tiny
DRAWN = ("mjcf", "method", "randomized")
DOCUMENTED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "jax": ("ppo", "boat.py:Boat", {"horizon": 4}, {}),
    "host": ("ppo", "pendulums.py:Pendulums", {"horizon": 4}, {}),
    "mjcf": ("ppo", "cart.py:Cart", {"horizon": 4}, {}),
    "method": (
        "search.py:Search",
        "point-2d",
        {"horizon": 4},
        {"tasks": 2, "episodes_per_round": 4},
    ),
    "gymnasium": (
        "ppo",
        "gymnasium",
        {"environment": "Pendulum-v1", "ranges": "l=0.5:1.5", "horizon": 4},
        {},
    ),
    "gymnax": ("ppo", "gymnax", {"environment": "Pendulum-v1", "ranges": "g=8:12", "steps": 4}, {}),
    "randomized": ("ppo", "randomized", {"family": "point-2d"}, {}),
}
"""Method, family, the family's settings and the method's."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files of the documentation's pages."""
    folder = tmp_path_factory.mktemp("pages")
    for page in ("own-family.md", "own-mjcf.md", "own-method.md"):
        for _, options, text in BLOCK.findall((DOCS / page).read_text()):
            if title := re.search(r'title="(.+?)"', options):
                (folder / title[1]).write_text(text)
    with contextlib.chdir(folder):
        yield folder


# In JAX and on the host they are stepped like others here, and have files of tests of their own.
LIKE_OTHERS = ("gymnasium", "gymnax", "jax", "randomized")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n in LIKE_OTHERS)) for n in DOCUMENTED]
)
def test_every_verb_on_the_documentation_s_own(
    name: str, pages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if name == "gymnax":
        pytest.importorskip("gymnax")
    method, family, family_settings, settings = DOCUMENTED[name]
    assert PPO is not None
    config = RunConfig(
        method if settings else f"{method} {PPO.settings}",
        family,
        settings=settings,
        family_settings=family_settings,
        evaluate_every=0,
    )
    steps = config.learner().steps_per_update(config.problem())
    config = RunConfig(**{**vars(config), "steps": UPDATES * steps})
    run = train(config, pages / name / "whole", progress=False)
    run_verbs(run, None, capsys, drawn=name in DRAWN)
