"""The Python face: the same as the command line, and families of one's own."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
import stemrl
import tiny
from stemrl import registry
from stemrl.api import named_parameters, with_values
from stemrl.errors import UserError
from stemrl.tasks.point import Point2D

SMALL = {"steps": 120, "evaluate_every": 0, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stemrl.Run:
    return stemrl.train(
        tiny.Tiny(learning_rate=0.2),
        Point2D(horizon=5),
        out=tmp_path_factory.mktemp("api") / "run",
        **SMALL,
    )


def test_importing_stemrl_does_not_import_jax():
    script = """
import sys, stemrl
assert "jax" not in sys.modules
assert set(stemrl.__all__) <= set(dir(stemrl))
stemrl.UserError
assert "jax" not in sys.modules
for name in stemrl.__all__:
    getattr(stemrl, name)
import stemrl.evaluation
assert stemrl.evaluate is stemrl.api.evaluate
try:
    stemrl.no_such_name
except AttributeError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_by_name():
    family = stemrl.make_family("half-cheetah-vel", horizon=7)
    assert family.name == "half-cheetah-vel" and family.horizon == 7
    learner = stemrl.make_learner("maml", inner_learning_rate=0.3)
    assert learner.name == "maml"
    assert vars(learner)["inner_learning_rate"] == 0.3
    with pytest.raises(stemrl.UserError, match="did you mean 'point-2d'"):
        stemrl.make_family("point2d")
    with pytest.raises(stemrl.UserError, match="did you mean 'steps'"):
        stemrl.train("ppo", "point-2d", total_timesteps=10)
    with pytest.raises(stemrl.UserError, match="did you mean 'horizon'"):
        stemrl.make_family("point-2d", horizn=7)


def test_an_environment_s_object_is_a_family_of_one_task():
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    name, settings = stemrl.api._named("families", env)
    assert (name, settings) == (
        "gymnasium",
        {"environment": "CartPole-v1", "ranges": "", "horizon": 500},
    )
    family = stemrl.make_family(name, **settings)
    assert family.finite and family.action_space.n == 2
    tasks = family.tasks(jax.random.key(0), "test", 3)
    assert stemrl.core.count(tasks) == 3
    world = family.make(jax.tree.map(lambda x: np.asarray(x[0]), tasks))
    assert world.spec.id == "CartPole-v1" and family.change(world, tasks)
    with pytest.raises(stemrl.UserError, match="no ood split"):
        family.sample(jax.random.key(0), "ood")
    wrapped = gymnasium.wrappers.TransformReward(env, abs)
    for other in (gymnasium.make("Pendulum-v1", g=3.0), wrapped, env.unwrapped.__class__()):
        with pytest.raises(stemrl.UserError, match="a name alone does not make it again"):
            stemrl.train("ppo", other)


def test_train_load_evaluate(run: stemrl.Run):
    assert run.config.family == "point-2d"
    assert run.config.family_settings["horizon"] == 5
    assert run.config.settings["learning_rate"] == 0.2
    opened = stemrl.load(run.path)
    assert isinstance(opened.learner, tiny.Tiny)
    few = {"tasks": 4, "episodes": 2}
    by_run, by_path = stemrl.evaluate(opened, **few), stemrl.evaluate(str(run.path), **few)
    by_agent = stemrl.evaluate(run.agent(), Point2D(horizon=5), **few)
    assert by_run.as_dict() == by_path.as_dict()
    np.testing.assert_array_equal(by_run.scores, by_agent.scores)
    assert [point["episodes_used"] for point in by_run.points] == [0, 2]
    with pytest.raises(stemrl.UserError, match="on a problem or family"):
        stemrl.evaluate(run.agent())
    with pytest.raises(stemrl.UserError, match="one run is evaluated; compare takes several"):
        stemrl.evaluate([run, run])  # pyright: ignore[reportArgumentType]
    # In another world: by name, by class, by object.
    elsewhere = stemrl.evaluate(opened, Point2D, **few)
    assert elsewhere.as_dict() == stemrl.evaluate(opened, "point-2d", **few).as_dict()
    assert elsewhere.identity != by_run.identity
    with pytest.raises(stemrl.UserError, match="differ in their observation space"):
        stemrl.evaluate(opened, "cart-pole", **few)


def test_names_and_hyper_parameters_as_keywords(run: stemrl.Run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = stemrl.train(
        f"{tiny.__file__}:Tiny",
        "point-2d",
        family_settings={"horizon": 5},
        learning_rate=0.2,
        **SMALL,
    )
    assert again.path == Path("runs") / "Tiny-point-2d-seed0"
    for ours, theirs in zip(
        jax.tree.leaves(again.agent()), jax.tree.leaves(run.agent()), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(stemrl.UserError, match="has no setting 'learning_rat'"):
        stemrl.train(tiny.Tiny, "point-2d", out="x", learning_rat=0.2, **SMALL)


def test_adapt_to_a_given_task(run: stemrl.Run):
    few = {"tasks": 4, "episodes": 2}
    params, returns = stemrl.adapt(run, {"goal": [0.25, 0.5]}, **few)
    np.testing.assert_allclose(params["goal"], 4 * [[0.25, 0.5]])
    assert returns.shape == (4, 2, 2)
    params, _ = stemrl.adapt(run, **few)
    assert len(np.unique(np.asarray(params["goal"]), axis=0)) == 4


def test_where_ones_own_classes_are_found_again():
    from stemrl.api import _named

    assert _named("families", Point2D(size=2.0)) == ("point-2d", {"size": 2.0, "horizon": 100})
    assert _named("families", Point2D) == ("point-2d", {})
    assert _named("methods", tiny.Tiny) == (f"{Path(tiny.__file__).resolve()}:Tiny", {})
    # A preset's name must not stand for the bare class.
    for name, entry in registry.FAMILIES.items():
        if entry.preset:
            assert _named("families", entry.load())[0] != name

    class Local(probes.ConstantReward):
        pass

    with pytest.raises(stemrl.UserError, match="defined inside a function"):
        stemrl.train(tiny.Tiny, Local, out="nowhere")
    Local.__qualname__, Local.__module__ = "Local", "interactive"
    with pytest.raises(stemrl.UserError, match="interactive session"):
        stemrl.train(tiny.Tiny, Local, out="nowhere")


SCRIPT = '''
import equinox as eqx, jax, stemrl
from typing import ClassVar
from stemrl.tasks.point import PointEnv

class Corner(stemrl.AbstractFamily):
    """Goals on a diagonal."""
    name: ClassVar[str] = "corner"
    horizon: int = eqx.field(static=True, default=5)
    """Steps an episode."""

    @property
    def env(self):
        return PointEnv(step_size=0.1)

    def sample(self, key, split):
        return {"goal": jax.random.uniform(key) * jax.numpy.ones(2)}

'''
CALL = 'run = stemrl.train("TINY", Corner(horizon=4), out="run", steps=48, evaluate_every=0)\n'


def test_a_family_in_a_script_can_be_opened_again(tmp_path):
    """The script is not run again for its class, neither while it runs nor, guarded, later."""
    call = CALL.replace("TINY", f"{tiny.__file__}:Tiny")
    guarded = SCRIPT + "print('read')\nif __name__ == '__main__':\n    " + call
    (tmp_path / "mine.py").write_text(guarded)
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("read") == 1
    run = stemrl.load(tmp_path / "run")
    assert run.config.family == f"{(tmp_path / 'mine.py').resolve()}:Corner"
    assert run.problem.source.identity == "corner@1(horizon=4)"
    assert stemrl.evaluate(run, tasks=2, episodes=0).family == "corner"


def test_a_script_that_trains_when_it_is_imported(tmp_path):
    (tmp_path / "rash.py").write_text(SCRIPT + CALL.replace("TINY", f"{tiny.__file__}:Tiny"))
    with pytest.raises(stemrl.UserError, match="trains when it is imported"):
        stemrl.make_family(f"{tmp_path / 'rash.py'}:Corner")
    with pytest.raises(stemrl.UserError, match="no Python file"):
        stemrl.make_family(f"{tmp_path / 'none.py'}:Corner")
    with pytest.raises(stemrl.UserError, match="no module 'no_such_module'"):
        stemrl.make_family("no_such_module:Corner")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: stemrl.train(None, "point-2d"), "the method must be a name .*, not None"),
        (lambda run: stemrl.train("ppo", int), "the family must be a name .*, not <class 'int'>"),
        (lambda run: stemrl.train("ppo", "point-2d", out=3.5), "out is a folder, .*, not 3.5"),
        (lambda run: stemrl.make_learner("darc", learner=0).inner, "learner, not 0|text, not 0"),
        (lambda run: stemrl.load(None), "a run is a folder, .*, not None"),
        (lambda run: stemrl.evaluate(run, tasks=2.5), "tasks must be a whole number, not 2.5"),
        (lambda run: stemrl.evaluate(run, episodes="x"), "episodes must be a whole number, not 'x'"),
        (lambda run: stemrl.adapt(run, member=True), "member must be a whole number, not True"),
        (lambda run: stemrl.adapt(run, task=3), "task gives values by the names .*, not 3"),
        (lambda run: stemrl.adapt(run, tasks=0), "tasks must be at least 1, not 0"),
        (lambda run: stemrl.evaluate(run, which=None), "a checkpoint is .*, not None"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named_by_its_argument(run: stemrl.Run, ask, message: str):
    with pytest.raises(stemrl.UserError, match=message):
        ask(run)


class Factors(Point2D):
    """A point whose tasks have factors with names."""

    def parameter_names(self):
        return {"values": ("mass", "drag")}

    def refuse_tasks(self, params):
        if (params["values"] <= 0).any():
            raise UserError("no such mass")


def test_entries_of_a_task_that_have_names_are_shown_and_set_by_them():
    params, family = {"values": jnp.ones((3, 2)), "goal": jnp.zeros(3)}, Factors()
    assert list(named_parameters(params, family.parameter_names())) == ["goal", "mass", "drag"]
    found = with_values(params, {"drag": 0.5, "goal": 2}, family)
    assert found["values"].tolist() == 3 * [[1.0, 0.5]] and found["goal"].tolist() == 3 * [2.0]
    whole = with_values(params, {"values": [4, 5]}, family)
    assert whole["values"].tolist() == 3 * [[4.0, 5.0]]
    for values, message in (
        ({"drug": 1}, "did you mean 'drag'"),
        ({"mass": [1, 2]}, "'mass' takes one number"),
        ({"mass": float("inf")}, "'mass' takes finite numbers"),
        ({"mass": -1}, "no such mass"),
    ):
        with pytest.raises(UserError, match=message):
            with_values(params, values, family)


def test_a_setting_of_the_family_among_the_method_s_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"of the family 'point-2d'.*family_settings=\{'size': 2\}"):
        stemrl.train("ppo", "point-2d", size=2, out=tmp_path / "run")
