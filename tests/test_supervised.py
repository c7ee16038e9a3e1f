"""Supervised meta-learning: sine waves, MAML's meta-gradient, the loop, and that it learns."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from stemrl.cli import main
from stemrl.core import Examples, SupervisedProblem, UserError, draw_sets
from stemrl.evaluation import evaluate_few_shot, few_shot, few_shot_losses
from stemrl.meta.supervised import SupervisedMAML
from stemrl.runs import NonFinite, Run, RunConfig, checkpoint, loop, train
from stemrl.tasks.sinusoid import Sinusoid

SMALL = dict(meta_batch_size=3, shots=4, queries=5, hidden=(8,), inner_learning_rate=0.05)
FAMILY = Sinusoid()
PROBLEM = SupervisedProblem.of(FAMILY)


# --- The family ------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0.1, 5), ("ood", 5, 10)])
def test_sine_waves_are_drawn_as_the_paper_says(split, low, high):
    n = 4096
    tasks = FAMILY.tasks(jax.random.key(0), split, n)
    keys = jax.random.split(jax.random.key(1), n)
    x, y = jax.vmap(lambda k, p: FAMILY.data(k, p, 8))(keys, tasks)
    assert x.shape == y.shape == (n, 8, 1)
    a, phase = tasks["amplitude"], tasks["phase"]
    for values, (first, last) in ((a, (low, high)), (phase, (0, np.pi)), (x, (-5, 5))):
        assert first <= values.min() and values.max() <= last
        # Deciles of a uniform distribution, within 5 standard errors.
        deciles = np.quantile(np.ravel(values), np.arange(0.1, 1, 0.1))
        np.testing.assert_allclose(
            deciles, first + (last - first) * np.arange(0.1, 1, 0.1), atol=2.5 * (last - first) / 64
        )
    assert abs(np.corrcoef(a, phase)[0, 1]) < 5 / 64
    np.testing.assert_allclose(
        y, a[:, None, None] * np.sin(x - phase[:, None, None]), rtol=1e-4, atol=1e-4
    )
    # E[y²]: the analytic value, within 5 standard errors over tasks.
    squares = np.mean(np.asarray(y) ** 2, (1, 2))
    error = squares.std() / np.sqrt(n)
    assert abs(squares.mean() - FAMILY.zero_loss(split)) < 5 * error


def test_predicting_zero_costs_what_it_does_with_a_known_amplitude():
    """A = 2 always: E[y²] = A²/2 = 2. And Table 2's "about 4.25"."""
    assert Sinusoid(min_amplitude=2, max_amplitude=2).zero_loss("train") == pytest.approx(2)
    assert FAMILY.zero_loss("test") == pytest.approx(4.2517, abs=1e-4)


def test_another_range_is_another_family():
    assert FAMILY.identity != Sinusoid(max_amplitude=4).identity
    assert FAMILY.identity.startswith("sinusoid@1(")


KEY = jax.random.key(7)
"""Of what a method draws: MAML draws nothing."""

# --- The meta-gradient -----------------------------------------------------------------------


def meta_objective(**settings):
    """The outer objective on three tasks, as a function of flat θ (and rates), in float64."""
    learner = SupervisedMAML(**{**SMALL, "activation": "tanh", **settings})
    initialization = eqx.filter_jit(learner.init)(PROBLEM, jax.random.key(0)).learned
    train, test = draw_sets(FAMILY, jax.random.key(1), 3, 4, 5)
    theta, unflatten = ravel_pytree(jax.tree.map(lambda x: x.astype(jnp.float64), initialization))
    return lambda v: learner.objective(PROBLEM, unflatten(v), train, test, KEY)[0], theta


@pytest.mark.parametrize(("inner_steps", "rates"), [(1, "fixed"), (2, "element"), (6, "tensor")])
def test_meta_gradient_agrees_with_finite_differences(inner_steps, rates):
    with jax.enable_x64(True):
        objective, theta = meta_objective(inner_steps=inner_steps, inner_rates=rates)
        direction = jax.random.normal(jax.random.key(2), theta.shape, jnp.float64)

        @jax.jit
        def both(theta, v):
            h = 1e-5
            ahead, behind = jax.lax.map(objective, jnp.stack([theta + h * v, theta - h * v]))
            return jax.grad(objective)(theta) @ v, (ahead - behind) / (2 * h)

        exact, numeric = both(theta, direction)
        np.testing.assert_allclose(exact, numeric, rtol=1e-6)


def test_first_order_leaves_the_second_derivatives_out():
    with jax.enable_x64(True):
        (value, exact), (first_value, first) = (
            jax.jit(jax.value_and_grad(objective))(theta)
            for objective, theta in (meta_objective(), meta_objective(first_order=True))
        )
        np.testing.assert_allclose(value, first_value, rtol=1e-12)
        assert jnp.linalg.norm(exact - first) > 0.02 * jnp.linalg.norm(exact)


def test_fit_is_plain_gradient_descent_on_the_training_set():
    """A linear model by hand: ŷ = w x + b, gradients 2·mean(e x) and 2·mean(e)."""
    learner = SupervisedMAML(hidden=(), inner_learning_rate=0.1)
    state = eqx.filter_jit(learner.init)(PROBLEM, jax.random.key(0))
    x, y = np.array([[0.5], [-1.0], [2.0]]), np.array([[1.0], [0.0], [-1.0]])
    w, b = float(state.learned.network.layers[0].weight[0, 0]), 0.0
    for _ in range(3):
        e = w * x + b - y
        w, b = w - 0.1 * 2 * np.mean(e * x), b - 0.1 * 2 * np.mean(e)
    fitted = learner.agent(PROBLEM, state).fit(Examples(jnp.asarray(x), jnp.asarray(y)), 3)
    np.testing.assert_allclose(fitted(jnp.asarray(x)), w * x + b, rtol=1e-5)


# --- The loop --------------------------------------------------------------------------------

QUICK = SupervisedMAML(**SMALL, inner_rates="element")


def same(a, b):
    """Whether two states are equal, bit for bit."""

    def data(x):
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(data(x), data(y)) for x, y in pairs)


PER_UPDATE = 3 * (4 + 5)


def config(updates, **changes):
    """A run of `QUICK` of so many updates."""
    fields = {f.name: getattr(QUICK, f.name) for f in dataclasses.fields(QUICK)}
    return RunConfig(
        "maml-supervised",
        "sinusoid",
        settings={**fields, **changes.pop("settings", {})},
        **{"steps": updates * PER_UPDATE, "evaluate_every": 0, "seeds": 2, **changes},
    )


def test_resumed_training_is_the_same_bit_for_bit(tmp_path, monkeypatch):
    whole = train(config(180), tmp_path / "whole", progress=False)
    for updates in (30, 110, 180):
        parts = train(config(updates), tmp_path / "parts", progress=False, resume=updates > 30)
    assert same(whole.state(), parts.state())
    rows = [(r["update"], r["seed"]) for r in whole.metrics()]
    assert rows == [(n, seed) for n in (50, 100, 150, 180) for seed in (0, 1)]
    # However it is cut into chunks, and whatever is done in between.
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    watched = config(180, evaluate_every=70 * PER_UPDATE, evaluate_tasks=3)
    other = train(watched, tmp_path / "other", progress=False)
    assert same(whole.state(), other.state())
    evaluated = [r for r in other.metrics() if r["kind"] == "evaluation" and r["seed"] == 1]
    assert [r["update"] for r in evaluated] == [100, 150, 180]
    assert [p["shots"] for p in evaluated[0]["points"]] == [0, 1, 2, 4]
    assert evaluated[0]["score"] == -evaluated[0]["points"][-1]["mean"]
    # A damaged checkpoint is passed over for the one before it.
    saved = checkpoint.saved(tmp_path / "other" / "checkpoints")
    (saved[-1] / "state.safetensors").write_bytes(b"nothing")
    again = train(watched, tmp_path / "other", progress=False, resume=True)
    assert same(whole.state(), again.state())
    with pytest.raises(UserError, match="cannot resume with another shots"):
        train(config(200, settings={"shots": 5}), tmp_path / "parts", resume=True)


def test_what_blows_up_says_so(tmp_path):
    wild = config(60, settings={"inner_learning_rate": 1e30})
    with pytest.raises(NonFinite, match=r"update 1: .* of seed 0 is not finite"):
        train(wild, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train rl2 sinusoid", "'rl2' learns from an environment, and 'sinusoid' is a supervised"),
        ("train maml-supervised bandit", "learns from a supervised family, and 'bandit' is an env"),
        (
            "train maml-supervised sinusoid --reveal context",
            "budget, reveal and target_data are of",
        ),
        ("train maml-supervised sinusoid --target bandit", "one of them is an environment"),
        ("evaluate RUN --episodes 3", "does not act, so 'episodes' means nothing"),
        ("evaluate RUN --most-likely", "does not act, so 'most_likely' means nothing"),
        ("adapt RUN --episodes 3", "does not act"),
        ("report RUN --episodes 3", "does not act"),
        ("export RUN x.gif", "nothing moves in 'sinusoid'"),
        ("evaluate random bandit --shots 3", "learns by acting"),
    ],
)
def test_what_has_no_meaning_is_one_clear_line(
    words, message, trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([str(trained.path) if word == "RUN" else word for word in words.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds."""
    return train(config(50), tmp_path_factory.mktemp("runs") / "run", progress=False)


def test_many_tasks_are_scored_in_parts(trained, monkeypatch):
    whole = evaluate_few_shot(trained.agent(), tasks=5, shots=2)
    monkeypatch.setattr(few_shot, "AT_ONCE", 2)
    heard: list[tuple[int, int]] = []
    parts = evaluate_few_shot(
        trained.agent(), tasks=5, shots=2, progress=lambda *done: heard.append(done)
    )
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5)
    assert heard == [(2, 5), (4, 5), (5, 5)]
    with pytest.raises(UserError, match="GiB"):
        evaluate_few_shot(trained.agent(), tasks=10**9, shots=2)


def test_every_verb_takes_a_supervised_run(trained, tmp_path, capsys):
    def said(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    run = str(trained.path)
    found = json.loads(said("evaluate", run, "--tasks", "3", "--shots", "3", "--json"))
    assert [p["shots"] for p in found["points"]] == [0, 1, 2, 3]
    assert found["score_name"] == "mean squared error" and len(found["over_seeds"][0]["means"]) == 2
    table = said("evaluate", run, "--tasks", "3", "--gradient-steps", "2")
    assert "2 gradient steps, 2 training seeds" in table and "mean squared error" in table
    adapted = said("adapt", run, "--tasks", "1", "--task", "amplitude=2")
    assert "amplitude=2" in adapted and "* predicted   ● 4 examples" in adapted
    assert said("compare", run, run, "--tasks", "3").count("50% [50%, 50%]") == 1
    page = trained.path / "report.html"
    assert said("report", run, "--tasks", "3").strip() == str(page)
    text = page.read_text()
    assert "Predictions from 4 examples" in text and "nan" not in text.partition("<script")[0]
    said("export", run, str(tmp_path / "small"))
    small = Run.open(tmp_path / "small")
    both = [evaluate_few_shot(one.agent("last", 1), tasks=3).scores for one in (trained, small)]
    np.testing.assert_array_equal(*both)
    assert not any("optimizer" in str(p) for p in (tmp_path / "small").rglob("*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "shots must be at least 1"),
        ({"inner_steps": -1}, "inner_steps must be at least 0"),
        ({"inner_rates": "all"}, "inner_rates must be fixed, tensor or element"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings, message):
    with pytest.raises(UserError, match=message):
        SupervisedMAML(**settings)
    with pytest.raises(UserError, match="amplitudes"):
        Sinusoid(min_amplitude=6)


# --- Learning --------------------------------------------------------------------------------


def test_maml_adapts_where_pretraining_cannot(tmp_path):
    """The same learner without its inner step is pretraining, which no few steps save."""
    after = {}
    for inner_steps in (1, 0):
        run = train(
            RunConfig(
                "maml-supervised",
                "sinusoid",
                settings={"inner_steps": inner_steps, "learning_rate": 3e-3},
                steps=1000 * 25 * 20,
                evaluate_every=0,
            ),
            tmp_path / str(inner_steps),
            progress=False,
        )
        losses = few_shot_losses(run.agent(), shots=10, steps=(0, 1, 5), tasks=200)
        after[inner_steps] = losses.mean(1)
    before, one, five = after[1]
    assert five < one < 0.5 * before
    assert one < 1.5 and after[0][1] > 2 * one
    assert after[0][2] > 2 * five


def test_every_learner_is_shown_the_same_tasks():
    """Losses of equal predictors are equal, and those of another seed are not."""
    linear = SupervisedMAML(hidden=())
    state = eqx.filter_jit(linear.init)(PROBLEM, jax.random.key(0))
    agent = linear.agent(PROBLEM, state)
    options = dict(shots=5, tasks=4, queries=7)
    first = few_shot_losses(agent, steps=(0, 0, 1), **options)
    assert first.shape == (3, 4) and np.array_equal(first[0], first[1])
    still = dataclasses.replace(linear, inner_learning_rate=0.0).agent(PROBLEM, state)
    np.testing.assert_array_equal(few_shot_losses(still, steps=(3,), **options)[0], first[0])
    other = few_shot_losses(agent, steps=(0,), seed=1, **options)
    assert not np.array_equal(other[0], first[0])
    # A curve's points are of the first examples of one set, and begin with none.
    curve = evaluate_few_shot(agent, shots=5, tasks=4, queries=7)
    np.testing.assert_allclose(curve.scores[:, 0, 0], first[0], rtol=1e-5)
    np.testing.assert_allclose(curve.scores[:, -1, 0], first[2], rtol=1e-5)
    assert curve.shots == (0, 1, 2, 5) and curve.score == -curve.points[-1]["mean"]
    for wrong in ({"shots": -1}, {"tasks": 0}, {"gradient_steps": -1}, {"split": "tset"}):
        with pytest.raises(UserError):
            evaluate_few_shot(agent, **wrong)
    with pytest.raises(UserError, match="at least 1"):
        few_shot_losses(agent, shots=0)


# --- The card --------------------------------------------------------------------------------


@pytest.mark.long  # make cards runs it too, and what a card writes is tested with others
def test_the_card_runs(tmp_path, monkeypatch):
    from stemrl.cards import reproduce

    monkeypatch.chdir(tmp_path)
    result, path = reproduce("maml-sinusoid", scale="quick", seeds=2, progress=False)
    assert json.loads(path.read_text()) == result
    rows = {row["name"]: row for row in result["rows"]}
    assert all(np.isfinite(row["mean"]) for row in rows.values())
    bars = [row["bar"] for row in rows.values() if row["bar"] is not None]
    assert bars == [0.67, 0.38, 0.35]
    assert result["settings"]["MAML"]["updates"] == 512
