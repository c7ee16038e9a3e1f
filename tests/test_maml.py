"""MAML: its meta-gradient, its contract and that it learns to adapt."""

import dataclasses
import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from probes import HiddenNumber
from stemrl.core import Problem, UserError
from stemrl.meta import MAML, FastWeights
from stemrl.meta.maml import Tasks, adapted_weights
from stemrl.meta.maml_agent import Batch, surrogate_return
from stemrl.registry import make
from stemrl.rl import Categorical
from stemrl.runs import RunConfig
from stemrl.tasks.point import Point2D

SMALL = dict(meta_batch_size=3, inner_episodes=4, hidden=(8,), inner_learning_rate=0.5)
SURROGATES = ("log_likelihood", "likelihood_ratio", "dice")


# --- The meta-gradient -----------------------------------------------------------------------


@jax.jit
def likely(agent, inputs, action):
    return agent.initialization.policy(inputs).log_prob(action)


def synthetic(learner, problem, key, *, double=False):
    """An agent, and one task's rounds of made-up numbers on which any gradient may be taken."""
    dtype = jnp.float64 if double else jnp.float32
    shapes = jax.eval_shape(lambda k: learner.init(problem, k), jax.random.key(0))
    values = np.random.default_rng(0)

    def draw(x):
        return jax.device_put((0.3 * values.standard_normal(x.shape)).astype(dtype))

    drawn = jax.tree.map(draw, shapes.initialization)
    agent = learner.agent(problem, eqx.tree_at(lambda s: s.initialization, shapes, drawn))
    agent = jax.tree.map(lambda x: x.astype(dtype), agent)
    space = problem.source.observation_space
    steps = learner.inner_episodes * problem.source.horizon

    def batch(key, *leading):
        values = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        inputs, action, advantage, noise = (
            jax.device_put(values.standard_normal((*leading, steps, *shape)).astype(dtype))
            for shape in ((space.size,), (2,), (), ())
        )
        log_prob = likely(agent, inputs, action) + 0.1 * noise
        return Batch(inputs, action, log_prob, advantage, jnp.full_like(log_prob, 1 / steps))

    inner, outer = jax.random.split(key)
    return agent, Tasks(None, batch(inner, learner.inner_steps), batch(outer))


def meta_objective(learner, problem):
    """The outer objective of one synthetic task as a function of flat θ, in double precision."""
    agent, task = synthetic(learner, problem, jax.random.key(1), double=True)
    theta, unflatten = ravel_pytree(agent.initialization)
    return lambda v: learner.objective(agent, unflatten(v), task)[0], theta


@pytest.mark.parametrize("inner_steps", [1, 2])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_meta_gradient_agrees_with_finite_differences(surrogate, inner_steps):
    with jax.enable_x64(True):
        learner = MAML(
            **SMALL,
            surrogate=surrogate,
            inner_steps=inner_steps,
            activation="tanh",
            learned_inner_rate=True,
        )
        objective, theta = meta_objective(learner, Problem.of(Point2D(horizon=5)))
        direction = jax.random.normal(jax.random.key(2), theta.shape, jnp.float64)

        @jax.jit
        def both(theta, v):
            h = 1e-5
            ends = jnp.stack([theta + h * v, theta - h * v])
            ahead, behind = jax.lax.map(objective, ends)
            return jax.grad(objective)(theta) @ v, (ahead - behind) / (2 * h)

        exact, numeric = both(theta, direction)
        np.testing.assert_allclose(exact, numeric, rtol=1e-6)


@pytest.mark.parametrize("surrogate", ["likelihood_ratio", "dice"])
def test_rematerialization_changes_no_gradient(surrogate):
    """And ProMP's penalty is in it: zero, with its gradient, only where nothing has moved."""
    with jax.enable_x64(True):
        problem = Problem.of(Point2D(horizon=5))
        kept = MAML(**SMALL, surrogate=surrogate, inner_steps=3, activation="tanh", inner_kl=0.1)

        def derivative(learner):
            agent, task = synthetic(learner, problem, jax.random.key(1), double=True)
            theta, unflatten = ravel_pytree(agent.initialization)

            def loss(v):
                penalty = learner.distributions(agent, unflatten(v), task)[1]
                return learner.objective(agent, unflatten(v), task)[0] - penalty, penalty

            return jax.jit(jax.value_and_grad(loss, has_aux=True))(theta)

        (value, penalty), gradient = derivative(kept)
        (again, _), recomputed = derivative(dataclasses.replace(kept, remat=True))
        np.testing.assert_allclose(again, value, rtol=1e-10)
        np.testing.assert_allclose(recomputed, gradient, rtol=1e-8, atol=1e-12)
        # The synthetic rounds' probabilities are off by a noise of deviation 0.1: E[ρ − 1 − log ρ] ≈ 0.005
        # at the first of three steps, and much more at what moved since.
        assert penalty > 0.1 * 0.005 / 3 * 0.3


def test_the_inner_penalty_doubles_and_halves():
    weights, kl = jnp.full(4, 0.5), jnp.array([0.031, 0.029, 0.014, 0.013])
    found = adapted_weights(weights, kl, 0.02)
    np.testing.assert_allclose(found, [1.0, 0.5, 0.5, 0.25])


def test_first_order_leaves_the_second_derivatives_out():
    with jax.enable_x64(True):
        problem = Problem.of(Point2D(horizon=5))
        learner = MAML(**SMALL, activation="tanh")
        (exact_value, exact), (first_value, first) = (
            jax.jit(jax.value_and_grad(objective))(theta)
            for objective, theta in (
                meta_objective(learner, problem),
                meta_objective(dataclasses.replace(learner, first_order=True), problem),
            )
        )
        np.testing.assert_allclose(exact_value, first_value, rtol=1e-10)
        assert jnp.linalg.norm(exact - first) > 0.05 * jnp.linalg.norm(exact)


class Table(eqx.Module):
    """A softmax policy over two actions in each of a few states, `inputs` one-hot."""

    logits: jax.Array

    def __call__(self, inputs, context=None):
        return Categorical(inputs @ self.logits)


def every_episode(policy, horizon):
    """A world of states 0 … 3 that remembers the last two actions: every possible episode, its
    probability under `policy` and its rewards-to-go, and the expected return as a function."""
    rewards = jnp.array([[0.3, -1.0], [2.0, 0.5], [-0.7, 1.5], [1.0, -2.0]])
    inputs, action, reward = [], [], []
    for path in itertools.product((0, 1), repeat=horizon):
        state = 0
        for a in path:
            inputs.append(state)
            action.append(a)
            reward.append(rewards[state, a])
            state = (2 * state + a) % 4
    inputs = jax.nn.one_hot(jnp.array(inputs), 4)
    action, reward = jnp.array(action), jnp.array(reward).reshape(-1, horizon)

    def chances(policy):
        return policy(inputs).log_prob(action).reshape(-1, horizon)

    def expected_return(policy):
        return jnp.sum(jnp.exp(jnp.sum(chances(policy), 1)) * jnp.sum(reward, 1))

    log_prob = chances(policy)
    togo = jnp.flip(jnp.cumsum(jnp.flip(reward, 1), 1), 1)
    weight = jnp.broadcast_to(jnp.exp(jnp.sum(log_prob, 1))[:, None], togo.shape)
    batch = Batch(inputs, action, log_prob.reshape(-1), togo.reshape(-1), weight.reshape(-1))
    return batch, togo.shape[0], expected_return


@pytest.mark.parametrize(("surrogate", "horizon"), [("dice", 3), ("likelihood_ratio", 1)])
def test_surrogate_has_the_second_derivative_of_the_expected_return(surrogate, horizon):
    """DiCE's is unbiased at any horizon; the likelihood ratio's where episodes are one step long;
    the log-likelihood's is not."""
    policy = Table(jax.random.normal(jax.random.key(0), (4, 2)))
    batch, episodes_per_round, expected_return = every_episode(policy, horizon)

    def derivatives(function):
        both = jax.jit(lambda p: (jax.grad(function)(p), jax.hessian(function)(p)))
        first, second = both(policy)
        return first.logits, second.logits.logits

    def of(name):
        return derivatives(lambda p: surrogate_return(p, None, batch, name, episodes_per_round))

    gradient, hessian = derivatives(expected_return)
    found = {name: of(name) for name in SURROGATES}
    for first, _ in found.values():
        np.testing.assert_allclose(first, gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[surrogate][1], hessian, rtol=1e-4, atol=1e-5)
    assert np.abs(found["log_likelihood"][1] - hessian).max() > 0.05


# --- The contract ----------------------------------------------------------------------------


def test_later_steps_are_smaller():
    learner = MAML(**SMALL, later_step_factor=0.5)
    agent, task = synthetic(learner, Problem.of(Point2D(horizon=5)), jax.random.key(1))
    batch = jax.tree.map(lambda x: x[0], task.inner)
    start = agent.start(None)

    @jax.jit
    def moved(agent, steps):
        memory = eqx.tree_at(lambda m: m.steps, start, steps)
        return ravel_pytree(agent.step(memory, batch).policy)[0] - ravel_pytree(start.policy)[0]

    each = dataclasses.replace(agent, later_step_factor=jnp.asarray([0.5, 0.25]))
    first = moved(agent, 0)
    for one, factors in ((agent, (1, 0.5, 0.5, 0.5)), (each, (1, 0.5, 0.25, 0.25))):
        for steps, factor in enumerate(factors):
            expected = factor * first
            np.testing.assert_allclose(moved(one, steps), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"inner_steps": 0}, "inner_steps must be at least 1"),
        ({"surrogate": "lvc"}, "surrogate must be one of"),
        ({"outer": "sgd"}, "outer must be one of"),
        ({"initial_std": 0.0}, "must be positive"),
        ({"target_inner_kl": 0.01}, "set inner_kl"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(UserError, match=says):
        MAML(**settings)


def test_discrete_actions_a_context_and_every_option():
    """And no key is used twice, and the second update compiles nothing."""
    learner = MAML(
        **SMALL,
        surrogate="likelihood_ratio",
        inner_steps=2,
        normalize_observations=True,
    )
    problem = Problem.of(make("families", "gridnavi"), "context")
    update = eqx.filter_jit(eqx.debug.assert_max_traces(learner.update, max_traces=1))
    with jax.debug_key_reuse(True):
        before = jax.jit(lambda k: learner.init(problem, k))(jax.random.key(0))
        state, metrics = update(problem, before)
        state, metrics = update(problem, state)
    assert all(jnp.isfinite(x) for x in metrics.values()), metrics
    assert {"return/before", "return/step_1", "return/after"} <= metrics.keys()
    old, new = ravel_pytree(before.initialization)[0], ravel_pytree(state.initialization)[0]
    assert jnp.isfinite(new).all() and (old != new).any()


# --- Learning --------------------------------------------------------------------------------


def last(history, name, count=5):
    return np.mean([m[name] for m in history[-count:]])


@pytest.fixture(scope="module")
def navigation():
    """MAML on the point: learner, problem, metrics, the last state that played and its experience,
    returns without adaptation, and the compiled `learn`."""
    learner = MAML(
        meta_batch_size=10, inner_episodes=10, hidden=(32, 32), inner_learning_rate=jnp.asarray(0.5)
    )
    problem = Problem.of(Point2D(horizon=30))
    collect = eqx.filter_jit(lambda learner, state: learner.collect(problem, state))
    learn = eqx.filter_jit(lambda learner, state, trials: learner.learn(problem, state, trials))
    state = jax.jit(lambda k: learner.init(problem, k))(jax.random.key(0))
    history, trials = [], None
    for _ in range(25):
        state, trials = collect(learner, state)
        acted = state
        state, metrics = learn(learner, state, trials)
        history.append({k: float(v) for k, v in metrics.items()})
    # The same policy, met without adaptation.
    still = dataclasses.replace(learner, inner_learning_rate=jnp.asarray(0.0))
    frozen = collect(still, state)[1].returns.mean((0, 2))
    return learner, problem, history, acted, trials, frozen, learn


def test_maml_learns_to_adapt_on_the_point(navigation):
    _, _, history, _, _, frozen, _ = navigation
    before, after = last(history, "return/before"), last(history, "return/after")
    # Twice as good after adaptation as before it and as everything was at first: about −15.
    assert after > -8 and before < -10
    # Not so by a second chance alone.
    assert abs(frozen[1] - frozen[0]) < 0.5


def test_trpo_stays_inside_its_trust_region(navigation):
    history = navigation[2]
    assert all(m["kl"] <= 0.01 for m in history)
    assert all(m["improvement"] > 0 for m in history if m["accepted"])
    assert sum(m["accepted"] for m in history) >= 20


def test_adaptation_in_play_is_the_one_that_is_differentiated(navigation):
    """From the recorded rounds, the agent's steps lead to the very weights it played with."""
    learner, problem, _, state, trials, *_ = navigation
    agent = learner.agent(problem, state)

    @jax.jit
    def again(trials):
        tasks = learner.prepare(agent, trials)
        task = jax.tree.map(lambda x: x[3], tasks)
        memory = agent.step(agent.start(None), jax.tree.map(lambda x: x[0], task.inner))
        return memory, learner.objective(agent, state.initialization, task)[0]

    memory, value = again(trials)
    played = jax.tree.map(lambda x: x[3], trials.memory)
    assert isinstance(played, FastWeights) and played.steps == 1
    for ours, theirs in zip(jax.tree.leaves(memory), jax.tree.leaves(played), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    # Where nothing has moved yet, the surrogate is the mean of standardized advantages, zero.
    np.testing.assert_allclose(value, 0.0, atol=1e-3)


def test_padding_changes_nothing(navigation):
    learner, _, _, state, trials, _, learn = navigation
    rows = trials.transitions
    valid = rows.valid.at[:, :, ::2, 20:].set(False)
    reward = jnp.where(valid, rows.reward, 0.0)
    results = []
    for junk in (0.0, 5.0):
        obs = jnp.where(valid[..., None], rows.obs, junk)
        action = jnp.where(valid[..., None], rows.action, junk)
        cut = rows._replace(valid=valid, reward=reward, obs=obs, action=action)
        new, _ = learn(learner, state, trials._replace(transitions=cut))
        results.append(ravel_pytree(new.initialization)[0])
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-5)


def test_promp_and_learned_rates_solve_the_hidden_number():
    """PPO outside, with ProMP's adaptive penalty. The best before adaptation is −size²/3 − σ² = −0.083 − σ², after it −σ²."""
    learner = MAML(
        meta_batch_size=20,
        inner_episodes=40,
        hidden=(16,),
        initial_std=0.3,
        outer="ppo",
        surrogate="likelihood_ratio",
        learned_inner_rate=True,
        learning_rate=jnp.asarray(1e-2),
        inner_kl=5e-4,
        target_inner_kl=0.01,
    )
    problem = Problem.of(HiddenNumber())
    update = eqx.filter_jit(lambda learner, state: learner.update(problem, state))
    state = jax.jit(lambda k: learner.init(problem, k))(jax.random.key(0))
    history = []
    for _ in range(80):
        state, metrics = update(learner, state)
        history.append({k: float(v) for k, v in metrics.items()})
    assert last(history, "return/after", 10) > -0.03
    assert last(history, "return/before", 10) < -0.05
    assert last(history, "inner_rate") > 0.15
    # The penalty holds back what samples in the inner step. A weight so large that Adam overshoots may not.
    collected, trials = eqx.filter_jit(learner.collect)(problem, state)
    step = eqx.filter_jit(lambda s: learner.learn(problem, s, trials)[1]["inner_kl"])
    free, held = (
        step(eqx.tree_at(lambda s: s.inner_kl, collected, jnp.full(1, eta))) for eta in (0.0, 1.0)
    )
    assert held < 0.995 * free and metrics["inner_kl_weight"] > 0
    # An update's epochs end where its policies have moved too far.
    state, metrics = update(dataclasses.replace(learner, learning_rate=jnp.asarray(1.0)), state)
    assert metrics["epochs"] == 1 and jnp.isfinite(ravel_pytree(state.initialization)[0]).all()


@pytest.mark.parametrize("method", ["maml", "rl2"])
def test_the_method_page_follows_the_template_and_explains_every_metric(method: str):
    page = (Path(__file__).parent.parent / "docs" / "methods" / f"{method}.md").read_text()
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    wanted = [
        *("The problem", "The idea", "Can I use it?", "Run it", "Metrics", "Settings that matter"),
        *("Departures from the paper", "Where it fails", "Cite"),
    ]
    assert [heading for heading in headings if heading in wanted] == wanted
    config = RunConfig.tiny(method)
    learner, problem = config.learner(), config.problem()
    logged = jax.eval_shape(
        lambda key: learner.update(problem, learner.init(problem, key))[1], jax.random.key(0)
    )
    metrics = page.partition("## Metrics")[2].partition("\n## ")[0]
    assert [name for name in logged if f"`{name}`" not in metrics] == []
