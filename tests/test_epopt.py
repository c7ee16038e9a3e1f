"""EPOpt: which episodes count, that all of them make PPO, and that the worst make it careful."""

import dataclasses
import itertools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Logged, Problem, UserError
from stemrl.report import draw_source
from stemrl.rl import PPO, play
from stemrl.tasks import Randomized
from stemrl.tasks.cart_pole import CartPole
from stemrl.transfer import EPOpt
from stemrl.transfer.epopt import worst
from stemrl.transfer.source_distribution import (
    Beliefs,
    as_vectors,
    believe,
    parameter_names,
    worlds,
)

KEY = jax.random.key(0)


class Gamble(probes.AbstractProbe):
    """One choice: 0.3 for certain, or a gamble that pays 1 in four worlds of five and −1 in the fifth:
    the gamble is better on average (0.6), and worse in the worst fifth (−1)."""

    name: ClassVar[str] = "probe-gamble"
    horizon: int = eqx.field(static=True, default=2)

    def sample(self, key, split):
        return {"task": jax.random.bernoulli(key, 0.8, (1,)).astype(jnp.float32)}

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        pays = jnp.where(params["task"][0] > 0, 1.0, -1.0)
        return state, jnp.where(action == 1, pays, 0.3), True


def test_the_worst_part_by_hand():
    returns = jnp.asarray([3.0, 1.0, 2.0, 5.0, 4.0])
    np.testing.assert_array_equal(worst(returns, 0.25), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(worst(returns, 1.0), np.ones(5))
    np.testing.assert_array_equal(worst(returns, 1e-6), [0, 1, 0, 0, 0])
    assert [int(worst(jnp.arange(float(n)), 0.1).sum()) for n in (10, 60, 240)] == [1, 6, 24]
    # Equal returns are equally bad.
    assert worst(jnp.zeros(4), 0.1).sum() == 4


INNER = PPO(hidden=(8,), epochs=4, minibatches=2, learning_rate=2e-2, discount=1.0)


@pytest.fixture(scope="module")
def learned() -> dict[float, tuple[float, dict]]:
    """The probability of the gamble after training, by ε; both in one program."""
    problem = Problem.of(Gamble())

    @eqx.filter_jit
    def train(epsilon, key):
        learner = dataclasses.replace(EPOpt(INNER, episodes=60, warm_up_updates=5), epsilon=epsilon)
        state = learner.init(problem, key)
        state, metrics = jax.lax.scan(lambda s, _: learner.update(problem, s), state, length=60)
        logits = state.learner.networks.policy(state.learner.normalizer(jnp.zeros((1, 1)))).logits
        return jax.nn.softmax(logits)[0, 1], metrics

    return {e: train(jnp.asarray(e), KEY) for e in (0.2, 1.0)}


def test_it_prefers_what_is_best_in_the_worst_worlds(learned):
    gamble, metrics = learned[0.2]
    assert gamble < 0.15
    assert float(metrics["return/worst"][-1]) > 0.2
    np.testing.assert_allclose(metrics["epsilon"][:6], [1, 1, 1, 1, 1, 0.2])


def test_on_all_episodes_it_gambles(learned):
    """The ablation: ε = 1 maximizes the mean."""
    assert learned[1.0][0] > 0.85


def test_with_epsilon_1_it_is_ppo():
    problem = Problem.of(Gamble())
    learner = EPOpt(INNER, episodes=8, epsilon=1.0)
    inner = learner.inner(problem)

    @eqx.filter_jit
    def both(learner, inner):
        state = learner.init(problem, KEY)
        state, both = learner.collect(problem, state)
        ours, _ = learner.learn(problem, state, both)
        steps = jax.tree.map(lambda x: jnp.swapaxes(x[:, 0, 0], 0, 1), both.source.transitions)
        _, key = jax.random.split(state.learner.key)
        prepared, rows, _ = inner.prepare(problem, state.learner, steps)
        plain, _, _ = inner.improve(
            inner.loss, prepared.networks, prepared.optimizer, rows, prepared.updates, key
        )
        return ours.learner.networks, plain

    for one, other in zip(*map(jax.tree.leaves, both(learner, inner)), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- what the target teaches ----

HIDDEN = 0.4
ADAPTING: dict[str, Any] = {
    "learner": PPO(hidden=(4,), epochs=1, minibatches=1),
    "episodes": 4, "epsilon": 1.0, "warm_up_updates": 1, "updates_per_round": 1, "particles": 60,
    "likelihood_steps": 40,
}  # fmt: skip
POLES = Problem(
    CartPole("nominal", ranges="mass=0.05:0.5", horizon=30),
    CartPole("nominal", ranges=f"mass={HIDDEN}", horizon=30),
    120,
)


@pytest.fixture(scope="module")
def narrowed():
    """Eight updates with an observation error of a tenth of a step, and with one that drowns all."""

    @eqx.filter_jit
    def train(error):
        learner = EPOpt(**ADAPTING, observation_error=error)
        state = learner.init(POLES, KEY)
        return jax.lax.scan(lambda s, _: learner.update(POLES, s), state, length=8)

    return {e: train(jnp.asarray(e)) for e in (0.1, 1e6)}


def test_the_source_narrows_onto_a_hidden_mass(narrowed, tmp_path):
    state, metrics = narrowed[0.1]
    names = parameter_names(POLES.source)
    first = state.beliefs.first_std[names.index("mass")]
    np.testing.assert_allclose(first, 0.45 / 12**0.5, rtol=0.05)
    off = jnp.abs(metrics["source/mean/mass"] - HIDDEN)
    assert off[-1] < first / 4 < off[0]
    assert metrics["source/width"][-1] < 0.3 and not state.beliefs.std[0]  # the force is known
    # What it believes is what it trains on.
    tasks = worlds(state.beliefs, POLES.source, KEY, 500)
    np.testing.assert_allclose(tasks["mass"].mean(), metrics["source/mean/mass"][-1], atol=0.01)
    assert np.all(as_vectors(tasks) >= state.beliefs.low)

    history = {k: np.asarray(v) for k, v in metrics.items() if k.startswith(("source/", "target"))}
    path = draw_source(history, tmp_path / "source.png", truth={"mass": HIDDEN})
    assert path.stat().st_size > 5_000


def test_observations_without_information_teach_nothing(narrowed):
    """The ablation: the same program with a likelihood that is flat."""
    state, metrics = narrowed[1e6]
    assert state.beliefs.rounds > 2
    np.testing.assert_allclose(metrics["source/width"], 1.0, atol=1e-3)
    np.testing.assert_allclose(state.beliefs.mean, state.beliefs.first_mean, atol=1e-3)


def test_the_budget_is_counted_and_kept(narrowed):
    state, metrics = narrowed[0.1]
    # No look in the warm-up; then one an update while a whole episode is still paid for.
    assert metrics["target_steps"][0] == 0 and metrics["source/rounds"][1] == 1
    assert 90 < state.spent <= 120
    learner = EPOpt(**ADAPTING)
    assert [learner.target_steps(POLES, n) for n in (1, 2, 100)] == [0, 30, 120]


def test_a_file_of_the_target_teaches_too():
    """Steps that somebody recorded there, 120 of them, 40 a look: three looks, and none is played."""
    learner = EPOpt(**ADAPTING)
    agent = learner.agent(POLES, learner.init(POLES, KEY))
    tasks = POLES.target.tasks(KEY, "train", 20)
    steps = play(agent, POLES.target, tasks, None, KEY, 1).transitions
    seen = np.asarray(steps.valid)
    space, actions = POLES.source.observation_space, POLES.source.action_space
    columns = {
        "observations": steps.obs,
        "actions": steps.action,
        "next_observations": steps.next_obs,
    }
    columns = {name: np.asarray(x)[seen][:120] for name, x in columns.items()}
    problem = Problem(POLES.source, POLES.source, logged=Logged.of(columns, space, actions))

    @eqx.filter_jit
    def train():
        state = learner.init(problem, KEY)
        return jax.lax.scan(lambda s, _: learner.update(problem, s), state, length=8)

    state, metrics = train()
    assert state.beliefs.rounds == 3 and state.spent == 0
    assert learner.target_steps(problem, 100) == 0
    off = jnp.abs(metrics["source/mean/mass"] - HIDDEN)
    assert off[-1] < 0.03 < off[0] and metrics["source/width"][-1] < 0.5
    del columns["next_observations"]
    problem = Problem(POLES.source, POLES.source, logged=Logged.of(columns, space, actions))
    with pytest.raises(UserError, match="no column 'next_observations', which 'epopt' needs"):
        learner.init(problem, KEY)


def test_a_belief_by_hand():
    beliefs = Beliefs(*(jnp.asarray([x]) for x in (0.0, 1.0, -9.0, 9.0, 0.0, 1.0)), jnp.asarray(1))
    vectors = jnp.asarray([[0.0], [1.0], [2.0]])
    # The weights are ½, ½, ~0: mean ½ and variance ½, of particles whose own are 1 and 1.
    likelihood = jnp.asarray([0.0, 0.0, -50.0])
    ways = {"widen": 1.0, "effective": 0.1, "narrowest": 0.0}
    after, told = believe(beliefs, vectors, likelihood, **ways)
    np.testing.assert_allclose([after.mean[0], after.std[0]], [-0.5, 0.5**0.5], rtol=1e-5)
    np.testing.assert_allclose([told.effective, told.power], [2 / 3, 1.0], rtol=1e-5)
    # Particles drawn twice as wide count less the further out: P/q ∝ exp(−½ p² (1 − ¼)).
    np.testing.assert_allclose(beliefs.log_odds(vectors, 2.0), [0.0, -0.375, -1.5])
    # Where one world explains all, the likelihood is tempered until enough others count.
    vectors = jnp.linspace(-1.0, 1.0, 20)[:, None]
    sure = 1e6 * (vectors[:, 0] - 0.3)
    after, told = believe(beliefs, vectors, sure, **ways | {"effective": 0.5, "narrowest": 0.7})
    assert told.power < 1e-4 and abs(told.effective - 0.5) < 0.01
    assert after.std[0] >= 0.7


def test_a_world_of_many_parameters_goes_on_being_learned():
    """Of 24 numbers, from particles drawn wider than what is believed: most count for little even before the
    likelihood does."""
    n, size, hidden = 200, 24, 0.5
    ones = jnp.ones(size)
    beliefs = Beliefs(0 * ones, ones, -9 * ones, 9 * ones, 0 * ones, ones, jnp.asarray(0))
    widths = []
    for key in jax.random.split(KEY, 6):
        vectors = beliefs.draw(key, n, jnp.where(beliefs.rounds > 0, 1.5, 1.0))
        likelihood = -50.0 * jnp.sum((vectors - hidden) ** 2, axis=1)
        beliefs, told = believe(
            beliefs, vectors, likelihood, widen=1.5, effective=0.2, narrowest=0.05
        )
        assert told.power > 1e-5
        widths.append(float(beliefs.std.mean()))
    assert all(b < a for a, b in itertools.pairwise(widths)) and widths[-1] < 0.75


@pytest.mark.parametrize(
    ("source", "budget", "says"),
    [
        (CartPole(horizon=30), 10, "takes up to 30 steps"),
        (CartPole("nominal", horizon=30), 90, "has only so many tasks"),
        (CartPole(horizon=30, hide_velocities=True), 90, "does not show its whole state"),
        (Randomized(CartPole(horizon=30)), 90, "no real numbers|cannot be put into"),
    ],
)
def test_worlds_that_cannot_be_compared_are_refused(source, budget, says):
    with pytest.raises(UserError, match=says):
        EPOpt(**ADAPTING).init(Problem(source, source, budget), KEY)


def test_it_learns_as_long_as_what_is_inside():
    assert EPOpt().learns_until is None
    assert EPOpt(learner="ppo anneal_updates=7").learns_until == 7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon": 0.0}, "epsilon must be in"),
        ({"epsilon": 1.5}, "epsilon must be in"),
        ({"epsilon": 0.1, "episodes": 5}, "at least one episode"),
        ({"warm_up_updates": -1}, "warm_up_updates must be at least 0"),
        ({"learner": "sac"}, "'sac' cannot learn inside 'epopt'"),
        ({"episodes": 0}, "episodes must be at least 1"),
    ],
)
def test_refusals(settings, says):
    with pytest.raises(UserError, match=says):
        EPOpt(**settings)
