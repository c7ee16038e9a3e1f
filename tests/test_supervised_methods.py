"""g_φ(D_train): what each method's formula says, by hand; that each learns a family of lines; and that
what it knows of a task it has from the training set and from nowhere else."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from PIL import Image

from stemrl.cli import main
from stemrl.core import (
    AbstractSupervisedFamily,
    Examples,
    SupervisedProblem,
    UserError,
    draw_sets,
)
from stemrl.evaluation import draw_few_shot, evaluate_few_shot
from stemrl.meta.supervised import (
    CNP,
    GradientDescent,
    LearnedOptimizer,
    RNNSupervised,
    SNAILSupervised,
    SupervisedMAML,
)
from stemrl.meta.supervised.learned_optimizer import told
from stemrl.registry import METHODS
from stemrl.runs import programs
from stemrl.tasks import Glyphs, Omniglot, Sinusoid
from stemrl.tasks.glyphs import different_numbers

KEY = jax.random.key(0)


class Lines(AbstractSupervisedFamily):
    """y = a x with a slope of 1 or so, up or down."""

    name: ClassVar[str] = "lines"
    inputs: ClassVar[int] = 1
    outputs: ClassVar[int] = 1

    def sample(self, key, split):
        low, high = (2.0, 3.0) if split == "ood" else (0.5, 1.5)
        sign_key, size_key = jax.random.split(key)
        sign = jax.random.rademacher(sign_key, (), float)
        return {"slope": sign * jax.random.uniform(size_key, minval=low, maxval=high)}

    def data(self, key, params, n):
        x = jax.random.uniform(key, (n, 1), minval=-1.0, maxval=1.0)
        return Examples(x, params["slope"] * x)

    def loss(self, prediction, y):
        return jnp.mean((prediction - y) ** 2)


LINES = SupervisedProblem.of(Lines())
ZERO = (1 + 1 / 12) / 3
"""What predicting zero, the mean, costs: E[a²] E[x²]."""

SMALL = dict(meta_batch_size=16, shots=5, queries=5, learning_rate=1e-2)
LEARNERS = {
    "maml-supervised": SupervisedMAML(
        **SMALL, hidden=(), inner_steps=2, inner_learning_rate=1.0, inner_rates="tensor"
    ),
    "rnn-supervised": RNNSupervised(**SMALL, hidden=(4,), embedding=16),
    "snail-supervised": SNAILSupervised(
        **(SMALL | {"learning_rate": 3e-3}), embedding=16, filters=16, value_size=16, rounds=1
    ),
    "cnp": CNP(
        **(SMALL | {"learning_rate": 3e-3}), size=32, encoder_hidden=(32,), decoder_hidden=(32,)
    ),
    "learned-optimizer": LearnedOptimizer(
        **SMALL, hidden=(), lstm_size=8, inner_steps=10, adam_learning_rate=0.1
    ),
    "pretrained-supervised": GradientDescent(
        **SMALL, hidden=(), adapt_steps=20, adapt_learning_rate=0.5
    ),
    "scratch-supervised": GradientDescent(
        **SMALL,
        hidden=(),
        adapt_steps=20,
        adapt_learning_rate=0.3,
        pretrain=False,
        optimizer="adam",
    ),
}


@functools.cache
def learned(name: str):
    """The learner's agent after 400 updates."""
    learner = LEARNERS[name]
    state = programs.begin(learner, LINES, programs.seed_keys(0, 1))
    exempt = jnp.asarray(programs.exempt(state, False))
    fixed = (learner, LINES, exempt, jnp.int32(400), False)
    state, done, rows, _ = programs.advance(fixed, state)
    assert int(done) == 400 and np.isfinite(rows["loss"][:400]).all()
    return learner.agent(LINES, state)


@eqx.filter_jit
def losses(agent, train: Examples, test: Examples):
    def one(train, test):
        return agent.problem.target.loss(agent.fit(train)(test.x), test.y)

    return jax.vmap(one)(train, test)


@eqx.filter_jit
def begun(learner, problem=LINES, key=KEY):
    """Its first state."""
    return learner.init(problem, key)


@eqx.filter_jit
def predicted(agent, train: Examples, x):
    """What is said of `x` after the training set."""
    return agent.fit(train)(x)


def test_there_is_one_of_each():
    """But for DANN, which has a target set too, and tests of its own."""
    supervised = {name for name, entry in METHODS.items() if entry.supervised}
    assert set(LEARNERS) == supervised - {"dann-supervised"}


@pytest.mark.parametrize("name", LEARNERS)
def test_each_learns_and_only_from_its_training_set(name: str):
    """The same program with the labels of another task's training set: what was in the pairs is gone,
    and the prediction is no better than the mean."""
    agent = learned(name)
    _, train, test = draw_few_shot(LINES.target, "test", 200, 5, 20, 0)
    others = Examples(train.x, jnp.roll(train.y, 1, axis=0))
    fits, ablated = (float(losses(agent, one, test).mean()) for one in (train, others))
    assert fits < 0.15 * ZERO, fits
    assert ablated > 0.9 * ZERO, ablated
    # And without a training set it knows what all tasks have in common, or less.
    curve = evaluate_few_shot(agent, tasks=100)
    assert curve.points[0]["mean"] > 0.8 * ZERO
    assert curve.points[-1]["mean"] < 0.15 * ZERO
    assert evaluate_few_shot(agent, split="ood", tasks=100).points[-1]["mean"] > 0


def test_the_order_of_examples_means_nothing_to_a_cnp():
    cnp = CNP(size=8, encoder_hidden=(8,), decoder_hidden=(8,))
    agent = cnp.agent(LINES, begun(cnp))
    train = Lines().data(KEY, {"slope": 1.3}, 6)
    x = jnp.linspace(-1, 1, 5)[:, None]
    backwards = jax.tree.map(lambda leaf: leaf[::-1], train)
    np.testing.assert_allclose(
        predicted(agent, train, x), predicted(agent, backwards, x), atol=1e-6
    )
    # r is the mean of what each pair says alone.
    read = eqx.filter_jit(lambda train: agent.fit(train).read)
    alone = [read(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], train)) for i in range(6)]
    np.testing.assert_allclose(read(train), np.mean(alone, 0), atol=1e-6)


def test_classes_of_a_cnp_are_but_names():
    """Other numbers for the classes give the same logits in the other order; r is each class's mean."""
    problem = SupervisedProblem.of(Glyphs(ways=3, size=5))
    cnp = CNP(size=4, features=(6,), encoder_hidden=(8,), decoder_hidden=(8,), by_class=True)
    agent = cnp.agent(problem, begun(cnp, problem))
    train = eqx.filter_jit(lambda f: f.data(KEY, f.sample(KEY, "train"), 6))(problem.source)
    other = jnp.array([2, 0, 1])
    fit = eqx.filter_jit(lambda train, x: (agent.fit(train)(x), agent.fit(train).read))
    fitted, read = fit(train, train.x)
    renamed, _ = fit(Examples(train.x, train.y[:, other]), train.x)
    np.testing.assert_allclose(fitted[:, other], renamed, atol=1e-6)
    first = train.x[np.asarray(train.y)[:, 0] == 1]
    said = eqx.filter_jit(lambda a, x: a.learned.encoder(a.learned.features(x)))(agent, first)
    np.testing.assert_allclose(read[0], said.mean(0), atol=1e-6)
    assert fit(Examples(train.x[:0], train.y[:0]), train.x)[0].shape == (6, 3)


def test_snail_sees_no_later_position_and_minds_the_order():
    snail = SNAILSupervised(shots=6, embedding=8, filters=8, key_size=4, value_size=8)
    network = eqx.filter_jit(begun(snail).learned)
    sequence = jax.random.normal(KEY, (7, 2))
    whole = network(sequence)
    for t in range(7):
        changed = network(sequence.at[t].add(1.0))
        np.testing.assert_allclose(changed[:t], whole[:t], atol=1e-6)
        assert (np.abs(changed[t:] - whole[t:]).max(1) > 1e-6).all()  # and all earlier ones
    assert np.abs(network(sequence[::-1])[-1] - whole[-1]).max() > 1e-4


@pytest.mark.parametrize("shots", (0, 3))
def test_a_query_is_the_end_of_a_sequence_of_its_own(shots: int):
    snail = SNAILSupervised(shots=3, embedding=8, filters=8, rounds=1)
    agent = snail.agent(LINES, begun(snail))
    predict = agent.fit(Lines().data(KEY, {"slope": 1.0}, shots))
    x = jnp.linspace(-1, 1, 3)[:, None]
    network = eqx.filter_jit(agent.learned)
    alone = [network(jnp.concatenate([predict.past, jnp.array([[a, 0.0]])]))[-1] for a in x[:, 0]]
    np.testing.assert_allclose(eqx.filter_jit(predict)(x), alone, atol=1e-6)


def test_the_last_hidden_state_is_the_predictor():
    rnn = RNNSupervised(hidden=(3,), embedding=8, scale=2.0)
    agent = rnn.agent(LINES, begun(rnn))
    train = Lines().data(KEY, {"slope": 1.0}, 4)
    read = eqx.filter_jit(lambda train: rnn.read(agent.learned, train))
    h = read(train)
    assert h.shape == (3 + 3 + 3 + 1,) and np.abs(h).max() < 1
    predictor = eqx.filter_jit(agent.fit)(train)
    np.testing.assert_allclose(ravel_pytree(predictor)[0], 2.0 * h, rtol=1e-6)
    # By hand: the first layer's weights, its biases, the second's.
    x = np.array([[0.3]])
    w, b, v, c = (2 * np.asarray(part) for part in np.split(h, [3, 6, 9]))
    by_name = {p: leaf for p, leaf in zip(("w", "b", "v", "c"), (w, b, v, c), strict=True)}
    first, second = predictor.network.layers
    np.testing.assert_allclose(np.ravel(first.weight), by_name["w"], rtol=1e-6)
    expected = np.tanh(x @ w[None] + b) @ v[:, None] + c
    np.testing.assert_allclose(predictor(x), expected, rtol=1e-5)
    assert second.weight.shape == (3, 1)
    # One pair at a time: the state after two is what the cell makes of the second from the first's.
    one = read(jax.tree.map(lambda leaf: leaf[:1], train))
    both = jnp.concatenate([train.x[1], train.y[1], train.x[1] * train.y[1]])
    pair = jnp.tanh(agent.learned.embed(both))
    two = agent.learned.cell.step(one, pair)[0]
    both = read(jax.tree.map(lambda leaf: leaf[:2], train))
    np.testing.assert_allclose(two, both, atol=1e-6)


def test_a_learned_step_by_hand():
    """Gradients by their logarithm and sign, p = 10. An LSTM of zeros is Adam, and the biases of its
    output are steps and the logarithm of Adam's step size."""
    gradient = jnp.array([1.0, -np.exp(5.0), 0.0, -np.exp(-11.0)])
    given = told(gradient, jnp.arange(4.0), -gradient, 0.25)
    np.testing.assert_allclose(
        given[:, :2], [[0, 1], [0.5, -1], [-1, 0], [-1, -np.exp(-1)]], atol=1e-5
    )
    np.testing.assert_allclose(given[:, 2:], np.stack([np.arange(4), -gradient, [0.25] * 4], 1))
    learner = LearnedOptimizer(hidden=(), lstm_size=2, inner_steps=3, adam_learning_rate=0.1)
    agent = learner.agent(LINES, begun(learner))
    zeros = jax.tree.map(jnp.zeros_like, agent.learned)
    still = eqx.tree_at(
        lambda a: (a.learned.cell, a.learned.output), agent, (zeros.cell, zeros.output)
    )
    train = Lines().data(KEY, {"slope": 1.0}, 4)
    start = ravel_pytree(agent.learned.initial)[0]
    adam = GradientDescent(hidden=(), adapt_steps=1, adapt_learning_rate=0.1, optimizer="adam")
    fitted = eqx.filter_jit(adam.fit)(LINES, agent.learned.initial, train)

    @eqx.filter_jit
    def fit(agent, steps=None):
        return agent.fit(train, steps=steps).network

    ours = fit(still, 1)
    np.testing.assert_allclose(ravel_pytree(ours)[0], ravel_pytree(fitted)[0], atol=1e-5)
    moving = eqx.tree_at(lambda a: a.learned.output.bias, still, jnp.array([-jnp.inf, 0.7]))
    np.testing.assert_allclose(ravel_pytree(fit(moving))[0], start + 3 * 0.1 * 0.7, rtol=1e-5)
    # One and the same LSTM for every parameter, each with a state of its own.
    known = jnp.array([0.5, -0.2, 0.5])[:, None] * jnp.ones(5)
    hidden, moves = agent.learned.step(jnp.zeros((3, 4)), known, jnp.array([1.0, -1.0, 1.0]))
    assert moves[0] == moves[2] != moves[1] and hidden.shape == (3, 4)
    # The first state is that of the parameter's tensor: weights and biases may go different ways.
    apart = eqx.tree_at(
        lambda a: (a.learned.first, a.learned.output.weight),
        agent,
        (jnp.array([[0.0] * 4, [0.0, 0.0, 5.0, 5.0]]), jnp.ones((2, 2))),
    )
    alike = ravel_pytree(fit(agent, 1))[0]
    moved = ravel_pytree(fit(apart, 1))[0]
    assert np.abs(moved[1] - alike[1]) > np.abs(moved[0] - alike[0])


def test_first_parameters_are_drawn_anew_or_learned():
    def gradient(learn_initial: bool):
        learner = LearnedOptimizer(
            hidden=(), lstm_size=2, inner_steps=2, learn_initial=learn_initial, features=(3,)
        )
        learned = begun(learner).learned
        train, test = draw_sets(LINES.source, KEY, learner.meta_batch_size, 3, 4)
        objective = lambda phi: learner.objective(LINES, phi, train, test, KEY)[0]  # noqa: E731
        return jax.jit(jax.grad(objective))(learned)

    drawn, kept = gradient(False), gradient(True)
    assert not ravel_pytree(drawn.initial)[0].any() and ravel_pytree(kept.initial)[0].any()
    assert ravel_pytree(drawn.features)[0].any() and ravel_pytree(kept.features)[0].any()


def test_gradient_steps_by_hand():
    """ŷ = w x + b: plain steps, and Adam's first, whose size is the step size."""
    x, y = np.array([[0.5], [-1.0], [2.0]]), np.array([[1.0], [0.0], [-1.0]])
    train = Examples(jnp.asarray(x), jnp.asarray(y))
    plain = GradientDescent(hidden=(), adapt_steps=2, adapt_learning_rate=0.1)
    agent = plain.agent(LINES, begun(plain))
    w, b = float(agent.learned.layers[0].weight[0, 0]), 0.0
    start = np.array([w, b])
    for _ in range(2):
        e = w * x + b - y
        w, b = w - 0.1 * 2 * np.mean(e * x), b - 0.1 * 2 * np.mean(e)
    np.testing.assert_allclose(predicted(agent, train, train.x), w * x + b, rtol=1e-5)
    adam = GradientDescent(hidden=(), adapt_steps=1, adapt_learning_rate=0.1, optimizer="adam")
    fitted = eqx.filter_jit(adam.agent(LINES, begun(plain)).fit)(train).layers[0]
    e = start[0] * x + start[1] - y
    slopes = np.sign([np.mean(e * x), np.mean(e)])
    moved = np.array([fitted.weight[0, 0], fitted.bias[0]])
    np.testing.assert_allclose(moved, start - 0.1 * slopes, rtol=1e-4)


def test_from_scratch_nothing_is_learned_beforehand():
    before = begun(LEARNERS["scratch-supervised"], LINES, programs.seed_keys(0, 1)).learned
    after = learned("scratch-supervised").learned
    np.testing.assert_array_equal(ravel_pytree(after)[0], ravel_pytree(before)[0])


def test_half_of_a_batch_has_fewer_shots():
    learner = CNP(meta_batch_size=25, shots=10)
    sizes = learner.sizes()
    assert [n for _, n in sizes] == [0, 1, 2, 5, 10]
    tasks = np.concatenate([np.arange(25)[part] for part, _ in sizes])
    np.testing.assert_array_equal(tasks, np.arange(25))
    assert sizes[-1][0] == slice(12, None)
    assert CNP(meta_batch_size=1, shots=1).sizes() == [(slice(0, None), 1)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: CNP(shots=0), "shots must be at least 1"),
        (
            lambda: CNP(by_class=True).init(LINES, KEY),
            "by_class is for classes, and 'lines' has none",
        ),
        (lambda: LearnedOptimizer(inner_steps=0), "inner_steps must be at least 1"),
        (lambda: GradientDescent(adapt_steps=-1), "adapt_steps must be at least 0"),
        (lambda: Glyphs(ways=1), "ways must be at least 2"),
        (lambda: Glyphs(characters=3), "characters must be at least ways"),
        (lambda: SupervisedProblem(Sinusoid(), Glyphs()), "differ in their inputs"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()


# --- Characters ------------------------------------------------------------------------------


def nearest_neighbour(family, tasks: int, split: str) -> float:
    """The accuracy of the nearest training image in pixels."""
    _, train, test = draw_few_shot(family, split, tasks, 1, 20, 0)
    distance = np.sum((np.asarray(test.x)[:, :, None] - np.asarray(train.x)[:, None]) ** 2, -1)
    said = np.take_along_axis(
        np.asarray(train.y).argmax(-1), distance.argmin(-1).reshape(tasks, -1), axis=1
    )
    return float(np.mean(said == np.asarray(test.y).argmax(-1)))


def test_glyphs_are_balanced_held_out_and_told_apart():
    family = Glyphs()
    train, test = (family.tasks(KEY, split, 50)["characters"] for split in ("train", "test"))
    assert train.max() < 1000 <= test.min() and test.max() < 2000
    assert all(len(set(row.tolist())) == 5 for row in train)
    params = family.sample(KEY, "test")
    x, y = eqx.filter_jit(family.data)(KEY, params, 15)
    assert x.shape == (15, 196) and y.shape == (15, 5) and x.min() >= 0 and x.max() <= 1
    np.testing.assert_array_equal(y.reshape(3, 5, 5).sum(1), np.ones((3, 5)))
    assert 0.03 < float(x.mean()) < 0.5  # ink on paper
    # A character is drawn anew each time, and yet is itself.
    assert np.abs(x[0] - x[5:]).max() > 0.1
    plain, shaken = (nearest_neighbour(family, 100, split) for split in ("test", "ood"))
    assert 0.45 < plain < 0.95 and 0.2 < shaken < plain
    assert family.guessing_loss() == pytest.approx(np.log(5))


def test_different_numbers_are_as_likely_as_one_another():
    keys = jax.random.split(KEY, 6000)
    drawn = np.asarray(jax.vmap(lambda k: different_numbers(k, 4, 3))(keys))
    kinds, often = np.unique(drawn, axis=0, return_counts=True)
    assert all(len(set(kind)) == 3 for kind in kinds.tolist()) and len(kinds) == 24
    assert often.min() > 250 - 5 * 16 and often.max() < 250 + 5 * 16  # five standard deviations


@pytest.fixture
def folder(tmp_path):
    """A folder of Omniglot's form: two alphabets of three characters each, with 4 drawings, a thick
    line each at a place of its own."""
    for split in ("images_background", "images_evaluation"):
        for number in range(6):
            one = tmp_path / split / f"Alphabet_{number // 3}" / f"character{number % 3:02}"
            one.mkdir(parents=True)
            for drawing in range(4):
                image = np.full((105, 105), 255, np.uint8)
                image[15 * number + drawing : 15 * number + drawing + 12, 10:95] = 0
                Image.fromarray(image).convert("1").save(one / f"{number:04}_{drawing:02}.png")
    return tmp_path


def test_an_omniglot_folder_is_read(folder, tmp_path):
    family = Omniglot(folder=str(folder), ways=3, size=21, rotations=False)
    drawings = family.drawings("train")
    assert drawings.shape == (6, 4, 441) and drawings.max() == 255 and drawings.min() == 0
    params = family.sample(KEY, "test")
    x, y = family.data(KEY, params, 12)
    np.testing.assert_array_equal(y.reshape(4, 3, 3).sum(1), np.ones((4, 3)))
    # The ink of an example is where its character's line is.
    rows = (x.reshape(12, 21, 21).sum(2) * np.arange(21)).sum(1) / x.sum(1)
    line = np.asarray(params["characters"])[np.asarray(y).argmax(1)] * 3 + 1.5
    np.testing.assert_allclose(rows, line, atol=1.2)
    # All four drawings of a character, none twice.
    first = np.flatnonzero(np.asarray(y)[:, 0])
    assert len(np.unique(np.asarray(x)[first], axis=0)) == 4
    turned = Omniglot(folder=str(folder), ways=12, size=21)
    assert turned.tasks(KEY, "train", 20)["turns"].max() == 3
    assert "#" in family.identity and family.identity != turned.identity
    for wrong, message in [
        (Omniglot(folder=str(tmp_path / "none")), "there are no drawings in"),
        (Omniglot(folder=str(folder), ways=7, rotations=False), "has 6 characters, and a task"),
    ]:
        with pytest.raises(UserError, match=message):
            wrong.sample(KEY, "train")
    with pytest.raises(UserError, match="no tasks out of distribution"):
        family.sample(KEY, "ood")


def test_characters_by_the_commands(folder, tmp_path, capsys):
    """Trained on a folder, and drawn in a report."""
    words = (
        f"train cnp omniglot --family.folder {folder} --family.ways 3 --shots 1 --size 8"
        f" --encoder-hidden 8 --decoder-hidden 8 --meta-batch-size 4 --steps 52 --out {tmp_path}/run"
        " --evaluate-every 0 --quiet"
    )
    assert main(words.split()) == 0
    assert main(["evaluate", f"{tmp_path}/run", "--tasks", "3"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["report", f"{tmp_path}/run", "--tasks", "3"]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    # Of four drawings a character one was learned from: nine are left to judge by.
    assert "of 9 are right" in page and "a column a class" in page
    assert main(["adapt", f"{tmp_path}/run", "--tasks", "1"]) == 0
    missing = words.replace(str(folder), str(tmp_path / "none")).replace("/run", "/other")
    assert main(missing.split()) == 2
    assert "there are no drawings" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_head_alone_is_descended_on_features_that_stand_still():
    """By the gradient with respect to the whole network, of which only the last layer's part is used."""
    learner = GradientDescent(head_only=True, adapt_steps=1, adapt_learning_rate=0.1, hidden=(4, 3))
    problem = SupervisedProblem.of(Sinusoid())
    network = eqx.filter_jit(learner.parameters)(problem, KEY)
    train = Examples(jnp.linspace(-1, 1, 6)[:, None], jnp.ones((6, 1)))
    found = eqx.filter_jit(learner.fit)(problem, network, train)
    gradient = jax.jit(jax.grad(lambda n: problem.target.loss(n(train.x), train.y)))(network)
    jax.tree.map(np.testing.assert_array_equal, found.layers[:-1], network.layers[:-1])
    step = jax.tree.map(lambda a, g: a - 0.1 * g, network.layers[-1], gradient.layers[-1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found.layers[-1], step)
