"""What a problem and a run are made of: recorded data, names with settings, a run to begin from."""

import dataclasses
import json
import operator
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.cli import main
from stemrl.core import Box, Discrete, Logged, Problem, UserError
from stemrl.naming import located, named_settings, split_name
from stemrl.rl import PPO
from stemrl.runs import Run, RunConfig, train
from stemrl.runs.loop import units_per_update
from stemrl.tasks import GoalGrid
from stemrl.tasks.point import Point2D
from stemrl.tasks.transforms import Randomized
from tiny import Tiny

KEY = jax.random.key(0)
PLANE, MOVES = Box((2,), -1.0, 1.0), Box((1,), 0.0, 4.0)
TINY_PPO = "ppo num_envs=2 rollout_length=4 epochs=1 minibatches=1 hidden=4"


def columns(rows: int = 5) -> dict[str, np.ndarray]:
    at = np.linspace(-1, 1, 2 * rows).reshape(rows, 2)
    return {
        "observations": at,
        "actions": np.linspace(0, 4, rows)[:, None],
        "rewards": np.arange(rows),
        "terminations": np.zeros(rows, bool),
        "next_observations": at[::-1],
    }


# ---- recorded data ----


def test_actions_are_read_into_an_agents_units_and_written_back(tmp_path: Path):
    np.savez(tmp_path / "data.npz", **columns(), comment=np.asarray(["not a column"]))
    logged = Logged.read(tmp_path / "data.npz", PLANE, MOVES)
    assert logged.rows == 5 and "truncations" not in logged.columns
    np.testing.assert_allclose(logged.actions[:, 0], [-1, -0.5, 0, 0.5, 1])  # pyright: ignore
    logged.save(tmp_path / "again.npz", MOVES)
    again = Logged.read(tmp_path / "again.npz", PLANE, MOVES)
    assert again.digest == logged.digest and again.columns == logged.columns
    assert logged.first(3).rows == 3 and logged.first(3).digest != logged.digest
    assert logged.first(9) is logged


def test_frames_alone_are_data(tmp_path: Path):
    space = Box((4, 4, 3), 0, 255, "uint8")
    np.savez(tmp_path / "frames.npz", observations=np.full((6, 4, 4, 3), 7, np.int64))
    logged = Logged.read(tmp_path / "frames.npz", space, MOVES)
    assert logged.observations.dtype == jnp.uint8 and logged.columns == ("observations",)
    drawn = logged.draw(KEY, (2, 3), "observations")[0]
    assert drawn.shape == (2, 3, 4, 4, 3)
    with pytest.raises(UserError, match=r"no column 'next_observations', which 'darc' needs; it"):
        logged.require("observations", "next_observations", by="darc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": None}, "has no column 'observations'; it has: actions, next_obs"),
        ({"observations": np.zeros((0, 2))}, "is empty: it has no rows"),
        (
            {"observations": np.zeros((5, 3))},
            r"'observations' has the shape \(5, 3\), not \(5, 2\)",
        ),
        ({"terminations": np.full(5, 0.5)}, "'terminations' holds other values than 0 and 1"),
        ({"rewards": np.zeros(4)}, r"'rewards' has the shape \(4,\), not \(5,\) \(one for each"),
        ({"actions": np.full((5, 1), np.nan)}, "'actions' holds values that are not finite"),
        ({"actions": np.full((5, 1), 50.0)}, "5 of 5 actions lie far outside of .* its units?"),
        ({"observations": np.full((5, 2), "a")}, "'observations' holds .* values that are not of"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, change: dict, message: str):
    held = {k: v for k, v in {**columns(), **change}.items() if v is not None}
    np.savez(tmp_path / "data.npz", **held)
    with pytest.raises(UserError, match=message):
        Logged.read(tmp_path / "data.npz", PLANE, MOVES)


def test_no_columns_at_all_is_one_line(tmp_path: Path):
    for content in (b"", b"text", b"PK\x03\x04 broken"):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"is no \.npz file with columns by name"):
            Logged.read(tmp_path / "data.npz", PLANE, MOVES)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match="one array without a name"):
        Logged.read(tmp_path / "one.npy", PLANE, MOVES)
    with pytest.raises(UserError, match="is no Minari data set"):
        Logged.read(tmp_path, PLANE, MOVES)
    bad = {"observations": np.asarray([0, 9]), "actions": np.asarray([0, 1])}
    with pytest.raises(UserError, match="'observations' holds int64 values that are not of"):
        Logged.of(bad, Discrete(9), Discrete(4))


def test_a_minari_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One observation more than actions, episode by episode, in the order of their numbers."""

    def episode(start: float, steps: int) -> dict[str, np.ndarray]:
        at = np.full((steps + 1, 2), start)
        at[:, 1] = np.arange(steps + 1)
        no = np.zeros(steps, bool)
        return {
            "observations": at, "actions": np.zeros((steps, 1)), "rewards": np.zeros(steps),
            "terminations": no, "truncations": no,
        }  # fmt: skip

    class File(dict):
        def __init__(self, path):
            super().__init__({"episode_10": episode(1, 3), "episode_2": episode(0, 2)})

        def __enter__(self):
            return self

        def __exit__(self, *what):
            pass

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "main_data.hdf5").touch()
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=File))
    logged = Logged.read(tmp_path, Box((2,)), MOVES)
    np.testing.assert_array_equal(logged.observations[:, 0], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(logged.next_observations[:, 1], [1, 2, 1, 2, 3])  # pyright: ignore
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="needs h5py"):
        Logged.read(tmp_path, Box((2,)), MOVES)


class Reader(PPO):
    """It is given data of a target."""

    name: ClassVar[str] = "reader"
    budget_units = ("steps",)


def test_a_run_knows_its_data_again(tmp_path: Path):
    path = tmp_path / "data.npz"
    at = np.zeros((8, 2), np.float32)
    np.savez(path, observations=at)
    config = RunConfig(f"{__file__}:Reader", "point-2d horizon=4", target_data=str(path), steps=8,
                       settings=named_settings("methods", TINY_PPO)[1], evaluate_every=0)  # fmt: skip
    run = train(config, tmp_path / "run", progress=False)
    assert run.problem.logged is not None and run.problem.logged.rows == 8
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["data_identity"] == run.problem.logged.digest
    # Moved: opened and played, but not trained on. Elsewhere: gone on with. Changed: refused.
    path.rename(tmp_path / "moved.npz")
    opened = Run.open(run.path)
    assert opened.problem.logged.absent and opened.agent() is not None  # pyright: ignore
    further: dict[str, Any] = {"steps": 16}
    with pytest.raises(UserError, match="there are no target data in"):
        train(RunConfig.load(run.path / "config.json"), run.path, resume=True, progress=False)
    there = {**further, "target_data": str(tmp_path / "moved.npz")}
    from stemrl.runs import resume

    assert resume(run.path, progress=False, **there).summary["steps"] == 16
    np.savez(tmp_path / "moved.npz", observations=at + 1)
    with pytest.raises(UserError, match="is not what it was when this run was trained on it"):
        Run.open(run.path)


def test_the_budget_takes_no_more_rows(tmp_path: Path):
    np.savez(tmp_path / "data.npz", observations=np.zeros((8, 2)))
    data = str(tmp_path / "data.npz")
    config = RunConfig("ppo", "point-2d", target_data=data, budget=3)
    assert config.problem().logged.rows == 3  # pyright: ignore[reportOptionalMemberAccess]
    whole = RunConfig("ppo", "point-2d", target_data=data).problem().logged
    with pytest.raises(UserError, match="has 8 rows, and the budget is 3"):
        Problem(Point2D(), Point2D(), 3, logged=whole)
    config = RunConfig("darc", "point-2d", target_data=data, budget=3, budget_unit="labels")
    with pytest.raises(UserError, match="'darc' counts a target's budget in steps, not in labels"):
        train(config, tmp_path / "run", progress=False)
    for changes in ({"target_data": data}, {"target": "point-2d", "budget": 3}):
        with pytest.raises(UserError, match=r"'ppo' takes nothing from a target.*; leave budget"):
            train(RunConfig("ppo", "point-2d", **changes), tmp_path / "run", progress=False)


# ---- names with settings ----


def test_a_name_and_the_settings_after_it():
    assert split_name("point-2d") == ("point-2d", {})
    assert split_name("point-2d size=1 horizon=50") == ("point-2d", {"size": "1", "horizon": "50"})
    nested = """randomized family="point-2d size=1" x='a b'"""
    assert split_name(nested) == ("randomized", {"family": "point-2d size=1", "x": "a b"})
    assert split_name("a folder/boat.py:Boat size=1")[0] == "a folder/boat.py:Boat"
    assert split_name("a=b/boat.py:Boat")[0] == "a=b/boat.py:Boat"
    assert named_settings("methods", "ppo num-envs=3 hidden=4,4 target_kl=none")[1] == {
        "num_envs": 3, "hidden": (4, 4), "target_kl": None,
    }  # fmt: skip
    for text, message in (
        ("ppo num_envs=3 four", "'four' after 'ppo' is not setting=value"),
        ("ppo num_env=3", "'ppo' has no setting 'num_env'; did you mean 'num_envs'"),
        ("ppo num_envs=three", "'ppo': num_envs must be INT, not 'three'"),
        ("ppo activation=tan", "activation must be tanh|relu"),
    ):
        with pytest.raises(UserError, match=message):
            named_settings("methods", text)


def test_a_nested_file_is_found_from_anywhere():
    here = Path("boat.py").resolve()
    assert located("boat.py:Boat size=1") == f"{here}:Boat size=1"
    assert located("point-2d size=1") == "point-2d size=1"
    assert located("gravity=5.0:15.0") == "gravity=5.0:15.0"


def test_a_configuration_takes_settings_after_names():
    config = RunConfig(
        "ppo num_envs=3 hidden=4", "point-2d size=0.5", target="point-2d size=2 horizon=7",
        settings={"num_envs": 5}, budget=1,
    )  # fmt: skip
    assert (config.method, config.family, config.target) == ("ppo", "point-2d", "point-2d")
    learner: Any = config.learner()
    assert (learner.num_envs, learner.hidden) == (5, (4,))
    problem = config.problem()
    assert problem.source == Point2D(size=0.5) and problem.target == Point2D(size=2.0, horizon=7)
    config = RunConfig("ppo", """randomized family="point-2d horizon=3" """)
    assert config.problem().source == Randomized("point-2d horizon=3")
    assert config.problem().source.horizon == 3
    assert RunConfig.from_dict(config.as_dict()) == config.resolved()


def test_the_command_line_takes_settings_after_names(tmp_path: Path):
    out = tmp_path / "run"
    words = ["--steps", "8", "--evaluate-every", "0", "--quiet", "--out", str(out)]
    assert main(["train", TINY_PPO, "point-2d horizon=4 size=2", *words]) == 0
    run = Run.open(out)
    assert run.problem.source == Point2D(size=2.0, horizon=4)
    assert run.config.settings["num_envs"] == 2
    # The same words go on with it; other ones are refused.
    more = ["--resume", "--steps", "16", "--quiet", "--evaluate-every", "0", "--out", str(out)]
    assert main(["train", TINY_PPO, "point-2d horizon=4 size=2", *more]) == 0
    assert main(["train", TINY_PPO, "point-2d horizon=4 size=1", *more]) != 0


# ---- a run to begin from ----


def settings_of(text: str) -> dict[str, Any]:
    return named_settings("methods", text)[1]


def begun(out: Path, start: Path | str | None, method: str = TINY_PPO, **changes: Any) -> Run:
    config = RunConfig(
        method, "grid-wall", steps=8, evaluate_every=0, start=start and str(start), **changes
    )
    return train(config, out, progress=False)


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return begun(tmp_path_factory.mktemp("donor") / "run", None, seed=3)


def test_what_fits_is_taken_over(donor: Run, tmp_path: Path, capsys: pytest.CaptureFixture):
    # Nothing is learned at a rate of zero: what stands there was taken over.
    run = begun(tmp_path / "same", donor.path, f"{TINY_PPO} learning_rate=0")
    for ours, theirs in zip(
        jax.tree.leaves(run.state().networks), jax.tree.leaves(donor.state().networks), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert run.config.start == f"{donor.path.resolve()}@8"
    assert not np.array_equal(
        jax.random.key_data(run.state().key), jax.random.key_data(donor.state().key)
    )
    # With another first layer, the rest still fits.
    capsys.readouterr()
    wide = TINY_PPO.replace("hidden=4", "hidden=4,4")
    config = RunConfig(f"{wide} learning_rate=0", "grid-wall", steps=8, evaluate_every=0,
                       start=str(donor.path))  # fmt: skip
    run = train(config, tmp_path / "wide", progress=True)
    said = capsys.readouterr().err
    assert "not taken over, for want of a part of that name and shape: networks/" in said
    first = lambda state: state.networks.policy.network.body.layers[0].weight  # noqa: E731
    np.testing.assert_array_equal(first(run.state()), first(donor.state()))


@pytest.mark.parametrize(
    "method",
    [
        "finetune num_envs=2 rollout_length=4 epochs=1 minibatches=1 hidden=4 learning_rate=0",
        f"darc learner='{TINY_PPO} learning_rate=0' capacity=80 classifier_gradient_steps=1",
    ],
)
def test_other_methods_begin_from_it_too(donor: Run, tmp_path: Path, method: str):
    more = {"target": "grid-wall", "budget": 8} if method.startswith("darc") else {}
    state = begun(tmp_path / "run", donor.path, method, **more).state()
    state = state.learner if method.startswith("darc") else state
    for ours, theirs in zip(
        jax.tree.leaves(state.networks), jax.tree.leaves(donor.state().networks), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("method", "learned", "other"),
    [
        ("rl2", "networks", "hidden_size=7"),
        ("maml", "initialization", "hidden=7"),
        ("maesn", "parameters.policy", "hidden=7"),
        ("pearl", "learning", ""),
        ("dpt", "predictor", "hidden_size=12 head_hidden=7"),
    ],
)
def test_a_meta_learner_begins_from_another_training(method: str, learned: str, other: str):
    config = RunConfig.tiny(method)
    learner, problem = config.learner(), config.problem()
    get = operator.attrgetter(learned)
    first = eqx.filter_jit(learner.init)
    state, found = first(problem, KEY), first(problem, jax.random.key(1))
    begun, left = learner.inherit(problem, state, learner, found)
    assert left == [] and jax.tree.all(jax.tree.map(jnp.array_equal, get(begun), get(found)))
    assert not jax.tree.all(jax.tree.map(jnp.array_equal, get(state), get(found)))
    if not other:  # of PEARL's critics a bias fits whatever their size
        return
    others = named_settings("methods", f"{method} {other}")[1]
    unlike = dataclasses.replace(config, settings=config.settings | others).learner()
    shape = eqx.filter_eval_shape(unlike.init, problem, KEY)
    with pytest.raises(UserError, match="nothing of the run to begin from fits"):
        learner.inherit(problem, state, unlike, shape)


def test_sac_begins_from_sac(tmp_path: Path):
    sac = "sac num_envs=2 rollout_length=4 batch_size=4 capacity=40 warm_up_steps=0 hidden=4"
    first = begun(tmp_path / "first", None, sac)
    second = begun(tmp_path / "second", first.path, f"{sac} learning_rate=0 target_rate=0")
    for name in ("networks", "target"):
        for ours, theirs in zip(
            jax.tree.leaves(getattr(second.state().learned, name)),
            jax.tree.leaves(getattr(first.state().learned, name)),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match=r"no networks|nothing of the run"):
        begun(tmp_path / "third", first.path, TINY_PPO.replace("hidden=4", "hidden=7"))


def test_several_seeds_begin_from_one(donor: Run, tmp_path: Path):
    run = begun(tmp_path / "run", f"{donor.path}@8", f"{TINY_PPO} learning_rate=0", seeds=2)
    first = lambda state: state.networks.value.body.layers[0].weight  # noqa: E731
    both = np.asarray(first(run.state()))
    np.testing.assert_array_equal(both, np.stack([np.asarray(first(donor.state()))] * 2))
    with pytest.raises(UserError, match="has 2 seeds and this run 1"):
        begun(tmp_path / "other", run.path)


def test_what_cannot_be_begun_from_is_one_line(donor: Run, tmp_path: Path):
    with pytest.raises(UserError, match="there is no run in"):
        begun(tmp_path / "run", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no checkpoint of 5 steps"):
        begun(tmp_path / "run", f"{donor.path}@5")
    with pytest.raises(UserError, match="nothing of the run to begin from fits"):
        config = RunConfig(TINY_PPO.replace("hidden=4", "hidden=5"), "point-2d",
                           steps=8, evaluate_every=0, start=str(donor.path))  # fmt: skip
        train(config, tmp_path / "run", progress=False)
    config = RunConfig(f"{Path(__file__).parent / 'tiny.py'}:Tiny", "point-2d", steps=8,
                       evaluate_every=0, start=str(donor.path))  # fmt: skip
    with pytest.raises(UserError, match="'tiny' cannot begin from another run"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


class Named(Point2D):
    """Tells as many numbers as it is asked to."""

    name: ClassVar[str] = "named"
    told: int = eqx.field(static=True, default=2)

    def context(self, params: Any) -> Any:
        return jnp.zeros(self.told)


@pytest.mark.parametrize(("target", "reveal", "message"), [
    (GoalGrid(size=6), "nothing", "differ in their observation space: Discrete.n=25.* and Discrete.n=36"),
    (Named(told=3), "context", r"tell contexts of other shapes: \[\(2,\)\] and \[\(3,\)\]"),
])  # fmt: skip
def test_a_target_that_networks_cannot_meet_is_refused(target: Any, reveal: Any, message: str):
    source = GoalGrid(size=5) if reveal == "nothing" else Named(told=2)
    with pytest.raises(UserError, match=message):
        Problem(source, target, reveal=reveal)


# ---- what a run counts ----


class Idle(Tiny):
    """A learner without environment steps,"""

    name: ClassVar[str] = "idle"

    def steps_per_update(self, problem: Problem) -> int:
        return 0


class Patient(Idle):
    """which says so."""

    unit: ClassVar[Any] = "updates"


def test_a_learner_without_steps_counts_updates(tmp_path: Path):
    problem = Problem.of(Point2D(horizon=4))
    assert units_per_update(Patient(), problem) == 1
    assert units_per_update(PPO(), problem) == 4096
    with pytest.raises(UserError, match="an update of 'idle' takes 0 environment steps; a learner"):
        units_per_update(Idle(), problem)
    config = RunConfig(f"{__file__}:Patient", "point-2d horizon=4", steps=7, evaluate_every=0)
    run = train(config, tmp_path / "run", progress=False)
    assert run.summary["steps"] == run.summary["updates"] == 7


def test_a_problem_of_one_family_may_hold_traced_numbers():
    """As where goals are batched over seeds: a family is not compared with itself."""

    class Moved(Point2D):
        place: Any = 0.0

    def told(place: Any) -> Any:
        family = Moved(place=place)
        return Problem.of(family, "context").source.place

    np.testing.assert_array_equal(jax.vmap(told)(jnp.arange(3.0)), jnp.arange(3.0))
