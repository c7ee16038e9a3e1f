"""DPT: labels by hand, the exact posterior over which arm is best, and that it takes the context."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from stemrl.core import Problem, UserError
from stemrl.meta import DPT
from stemrl.optimal.choices import optimal_choice
from stemrl.rl import play
from stemrl.tasks import Bandit, DarkRoom, GridNavi, Point2D, RandomMDP

KEY = jax.random.key(0)
ARMS = Problem.of(Bandit(arms=2, pulls=12))
LEARNER = DPT(
    cell="gru",
    layers=1,
    hidden_size=32,
    batch_size=128,
    context_length=12,
    learning_rate=1e-2,
    anneal_updates=300,
)


def test_optimal_actions_by_hand():
    probability = {"probability": jnp.array([0.2, 0.7, 0.7])}
    assert optimal_choice(Bandit(arms=3), probability, jnp.int32(0)).tolist() == [0, 0.5, 0.5]
    room = DarkRoom(size=5)
    # From the corner to (2, 1): right or up; along the edge: right; on it: stay.
    goal = {"goal": jnp.array([2, 1])}
    for cell, best in (
        ((0, 0), [0, 0.5, 0.5, 0, 0]),
        ((0, 1), [0, 0, 1, 0, 0]),
        ((2, 1), [1, 0, 0, 0, 0]),
    ):
        choice = optimal_choice(room, goal, jnp.array(cell, jnp.float32))
        assert choice.tolist() == best
    with pytest.raises(
        UserError, match=r"optimal actions of 'random-mdp' .*; known: bandit, dark-room, gridnavi"
    ):
        DPT().init(Problem.of(RandomMDP()), KEY)
    with pytest.raises(UserError, match="needs discrete actions"):
        DPT().init(Problem.of(Point2D()), KEY)


@pytest.fixture(scope="module")
def learned():
    @eqx.filter_jit
    def run(learner):
        state = learner.init(ARMS, KEY)
        return jax.lax.scan(
            lambda s, _: learner.update(ARMS, s), state, None, length=LEARNER.anneal_updates
        )[0]

    return run(LEARNER)


@pytest.fixture(scope="module")
def contexts(learned):
    """Transitions of 64 tasks, and the predictions after each number of them."""

    @eqx.filter_jit
    def run(state):
        params, trials = LEARNER.collect(ARMS, state)[1]
        steps = jax.tree.map(
            lambda x: x[:, :, 0].reshape(128, -1, *x.shape[4:]), trials.transitions
        )
        queries = LEARNER.queries(steps, KEY)
        p = jax.nn.softmax(LEARNER.predictions(ARMS, state.predictor, steps, queries))
        others = jax.tree.map(lambda x: jnp.roll(x, 1, 0), steps)
        shuffled = jax.nn.softmax(LEARNER.predictions(ARMS, state.predictor, others, queries))
        return params["probability"], steps, p, shuffled

    return jax.tree.map(np.asarray, run(learned))


def best_arm(wins, losses):
    """P(the second arm is the better one) for two arms of uniform priors."""
    grid = (np.arange(400) + 0.5) / 400
    density = beta.pdf(grid, 1 + wins[1], 1 + losses[1])
    return np.mean(density * beta.cdf(grid, 1 + wins[0], 1 + losses[0]))


def test_it_says_how_likely_each_arm_is_the_best(contexts):
    """The exact posterior by integration over two Beta distributions."""
    _, steps, p, _ = contexts
    errors = []
    for task in range(24):
        for n in (0, 3, 6, 12):
            action, reward = steps.action[task, :n], steps.reward[task, :n]
            wins = [reward[action == a].sum() for a in (0, 1)]
            losses = [(1 - reward)[action == a].sum() for a in (0, 1)]
            errors.append(p[task, n, 1] - best_arm(wins, losses))
    assert np.mean(np.abs(errors)) < 0.06


def test_without_the_right_context_it_knows_nothing(contexts):
    """The same program on another task's transitions is right no more often than chance."""
    arms, _, p, shuffled = contexts
    best = arms.argmax(1)
    right, wrong = ((x[:, -1].argmax(-1) == best).mean() for x in (p, shuffled))
    assert right > 0.72 and wrong < 0.65


def test_the_agent_fills_its_own_context(learned, contexts):
    """Reading step by step is reading at once; over a trial it comes to prefer the better arm."""
    agent = LEARNER.agent(ARMS, learned)
    params = ARMS.target.tasks(KEY, "test", 200)
    trials = eqx.filter_jit(play)(agent, ARMS.target, params, None, KEY, 12)
    returns = np.asarray(trials.returns.mean((0, 2)))
    assert returns[-4:].mean() > returns[0] + 0.05 and returns[-4:].mean() > 0.57
    _, steps, p, _ = contexts
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), steps)

    @eqx.filter_jit
    def follow(agent):
        held = agent.start(None, KEY)
        for i in range(3):
            held = agent.observe(held, held, jax.tree.map(lambda x, i=i: x[i], one))
        return jax.nn.softmax(agent.predictor.logits(held.output, jnp.ones(1)))

    np.testing.assert_allclose(follow(agent), p[0, 3], atol=1e-5)
    assert dataclasses.replace(agent, greedy=True).greedy


def test_a_room_and_a_grid_have_labels():
    learner = dataclasses.replace(LEARNER, context_length=10, batch_size=4)
    for family in (DarkRoom(size=3, horizon=4), GridNavi(size=3, horizon=4)):
        problem = Problem.of(family)
        state = eqx.filter_eval_shape(learner.init, problem, KEY)
        assert learner.rounds(problem) == 3 and learner.steps_per_update(problem) == 48
        metrics = eqx.filter_eval_shape(learner.update, problem, state)[1]
        assert metrics["loss"].shape == ()


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="behavior must be one of uniform, mixture"):
        DPT(behavior="expert")  # pyright: ignore
