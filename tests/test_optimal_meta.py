"""Exact optima and reference agents of the meta-learning chapter's families, against what they earn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from stemrl.core import UserError
from stemrl.optimal import (
    bayes_optimal_value,
    cause_effect_values,
    choice_regression,
    known_optima,
    paired_returns,
    problem_of,
    reference_agent,
    stay_probabilities,
    walk,
)
from stemrl.optimal.causal_graphs import CausalTables, expected_noise, sample_moments
from stemrl.rl import play
from stemrl.tasks.causal_graphs import CausalGraphs, conditioned, intervened
from stemrl.tasks.dark_room import DarkRoom
from stemrl.tasks.dependent_bandit import DependentBandit
from stemrl.tasks.gridnavi import MOVES
from stemrl.tasks.maze import Maze
from stemrl.tasks.two_step import TwoStep

RUN = eqx.filter_jit(play)


def played(name, family, tasks, episodes=1, split="test", **settings):
    """The tasks, and the trials of a reference agent on them."""
    agent = reference_agent(name, family, episodes=episodes, **settings)
    problem = problem_of(name, family)
    params = jax.jit(lambda key: family.tasks(key, split, tasks))(jax.random.key(0))
    context = jax.jit(jax.vmap(lambda p: problem.context(family, p)))(params)
    return params, RUN(agent, family, params, context, jax.random.key(1), episodes)


@pytest.mark.parametrize("condition", ("uniform", "easy", "medium", "hard"))
def test_the_best_player_of_paired_arms_earns_what_is_computed(condition):
    family = DependentBandit(condition=condition, pulls=30)
    params, trials = played("bayes-optimal", family, 600, 30)
    best = known_optima(family, params, "test", 30)
    exact = best.bayes_optimal
    error = 3 * np.asarray(trials.returns).sum((1, 2)).std() / np.sqrt(600)
    assert abs(float(trials.returns.sum((1, 2)).mean()) - exact.sum(1).mean()) < error
    assert np.all(np.diff(exact, axis=1) > -1e-9) and np.all(exact <= best.known_task + 1e-9)
    assert np.allclose(exact[:, 0], 0.5)


def test_paired_arms_by_hand():
    """p = 0.9: ½ first; then the arm that one pull spoke for, right with 0.9; after two pulls right
    with 0.81, tied with 0.18."""
    exact = paired_returns(np.array([[0.9, 0.1]]), 3)[0]
    right = np.array([0.5, 0.9, 0.81 + 0.09])
    np.testing.assert_allclose(exact, right * 0.9 + (1 - right) * 0.1)


def test_other_bandits():
    free = DependentBandit(condition="independent", pulls=10)
    params = free.tasks(jax.random.key(0), "test", 4000)
    exact = known_optima(free, params, "test", 10).bayes_optimal.sum(1)
    assert abs(exact.mean() - bayes_optimal_value(2, 10)) < 4 * exact.std() / np.sqrt(4000)
    # Of two independent arms, the rule for paired ones is not the best.
    family = DependentBandit(condition="informative")
    params, trials = played("bayes-optimal", family, 10, 5)
    optima = known_optima(family, params, "test", 5)
    np.testing.assert_allclose(trials.returns[:, :, 0], optima.bayes_optimal, rtol=1e-6)
    assert optima.bayes_optimal.sum(1).mean() == pytest.approx(20.55)
    _, told = played("known-task", family, 10, 5)
    np.testing.assert_allclose(told.returns[:, :, 0], optima.known_task)
    assert known_optima(family, params, "test", 1).bayes_optimal is None


@pytest.mark.parametrize(("size", "start"), ((9, "center"), (10, "center"), (5, "corner")))
def test_the_walk_enters_a_new_cell_with_every_step(size, start):
    family = DarkRoom(size=size, start=start, horizon=size * size - 1)
    here = np.array(family.first_cell)
    seen = {tuple(here)}
    for action in walk(family):
        here = here + MOVES[action]
        assert here.min() >= 0 and here.max() < size
        seen.add(tuple(here))
    assert len(seen) == size * size
    # With time for all cells it looks at the one where it begins, too: a step each, the goal found after
    # 1, 2, … of them.
    family = DarkRoom(size=3, start=start, horizon=20)
    _, trials = played("bayes-optimal", family, 9)
    assert float(trials.returns.mean()) == pytest.approx(np.mean(20 - np.arange(9)))


def test_a_dark_room_is_searched_and_then_known():
    family = DarkRoom(size=5, horizon=12)
    params, trials = played("bayes-optimal", family, 25)
    optima = known_optima(family, params, "test", 1)
    np.testing.assert_allclose(trials.returns[:, 0], optima.bayes_optimal, atol=1e-6)
    # The goal is found with each of 12 steps in 1 of 25 rooms: (12 + 11 + … + 1) / 25.
    assert optima.bayes_optimal.mean() == pytest.approx(78 / 25)
    params, told = played("known-task", family, 25, 2)
    known = known_optima(family, params, "test", 2)
    np.testing.assert_allclose(told.returns[..., 0], known.known_task, atol=1e-6)
    assert known.bayes_optimal is None
    _, sampled = played("psrl", family, 25, 8)
    assert float(sampled.returns[:, -1].mean()) > 2 * float(sampled.returns[:, 0].mean())
    for wrong, episodes in ((family, 2), (DarkRoom(held_out=0.2), 1)):
        with pytest.raises(UserError, match="dark-room"):
            reference_agent("bayes-optimal", wrong, episodes=episodes)


def test_a_known_maze_is_walked_straight():
    family = Maze(cells=3, horizon=30)
    params, trials = played("known-task", family, 40, 2)
    optima = known_optima(family, params, "test", 2)
    np.testing.assert_allclose(trials.returns[..., 0], optima.known_task, atol=1e-5)
    assert np.all(trials.transitions.events["success"].any(-1))


def test_the_two_step_agents_show_their_patterns():
    """Model-free: reward raises staying, the transition does not matter. Model-based: it matters."""
    family = TwoStep()
    shown = {}
    for name in ("model-free", "model-based", "bayes-optimal"):
        _, trials = played(name, family, 200)
        events = jax.device_get(trials.transitions.events)
        stay = stay_probabilities(events)
        assert stay.common_rewarded.shape == (200, 1, 1)
        shown[name] = stay, choice_regression(events), float(trials.returns.mean())
    free, based, best = (shown[name] for name in ("model-free", "model-based", "bayes-optimal"))
    assert np.nanmean(free[0].reward_effect) > 0.3 and abs(np.nanmean(based[0].reward_effect)) < 0.1
    assert np.nanmean(based[0].interaction) > 0.9 > 0.35 > np.nanmean(free[0].interaction)
    assert free[1].reward > 5 and abs(free[1].reward_by_transition) < 1
    assert based[1].reward_by_transition > 5 and abs(based[1].reward) < 2
    # By chance 50 of 100; the exact optimum is the best of all.
    assert 55 < free[2] < based[2] < best[2] and abs(best[2] - 70.5) < 1.5


def test_stay_probabilities_by_hand():
    """Five trials: common rewarded, stay; rare rewarded, change; common not rewarded, stay; rare not
    rewarded, change."""
    spread = lambda row: np.repeat(np.array(row), 2)  # noqa: E731
    stay = stay_probabilities(
        {
            "stage1_action": spread([0, 0, 1, 1, 0]),
            "common": spread([True, False, True, False, True]),
            "rewarded": spread([True, True, False, False, True]),
        }
    )
    assert (stay.common_rewarded, stay.rare_rewarded) == (1.0, 0.0)
    assert (stay.common_unrewarded, stay.rare_unrewarded) == (1.0, 0.0)
    assert (stay.interaction, stay.reward_effect) == (0.0, 0.0)


@pytest.mark.parametrize("condition", ("conditional", "interventional"))
def test_the_density_of_samples(condition):
    """Mean and covariance of drawn samples are those that the density has."""
    weights = CausalGraphs(nodes=4).sample(jax.random.key(5), "train")["weights"]
    noise = 0.1 * jax.random.normal(jax.random.key(0), (20_000, 4))
    made = {
        "conditional": lambda e: conditioned(weights, e, jnp.int32(2), 5.0),
        "interventional": lambda e: intervened(weights, e, jnp.int32(2), 5.0),
    }[condition]
    values = np.asarray(jax.vmap(made)(noise))[:, 1:]
    mean, covariance = sample_moments(weights, jnp.int32(1), condition)
    np.testing.assert_allclose(values.mean(0), mean, atol=0.01)
    assert np.all(values[:, 1] == 5.0)
    covariance = covariance.at[1, 1].set(0.0)  # given a variance that says nothing
    np.testing.assert_allclose(np.cov(values.T), covariance, atol=0.002)
    tables = CausalTables.of(weights[None], condition, False)
    density = float(tables.log_density(jnp.asarray(values[0]), jnp.int32(1))[0])
    mean, covariance = sample_moments(weights, jnp.int32(1), condition)
    assert density == pytest.approx(
        multivariate_normal(mean, covariance).logpdf(values[0]), rel=1e-3
    )


def test_noise_is_inferred_where_it_is_seen():
    """Without the hidden node's effects, the noise of every visible node but the one that was set
    follows exactly."""
    weights = jnp.zeros((4, 4)).at[2, 1].set(1.0).at[3, 2].set(-1.0)
    noise = jnp.asarray([0.3, 0.1, -0.2, 0.15])
    values = intervened(weights, noise, jnp.int32(2), 5.0)[1:]
    found = expected_noise(weights, values, jnp.int32(1))
    np.testing.assert_allclose(found, [0.0, 0.1, 0.0, 0.15], atol=1e-4)


def test_causes_are_worth_more_than_associations():
    """On held-out graphs of 4 nodes: what is inferred from observation alone earns less than knowing
    the network, and counterfactual questions pay more, as the noise tells something."""
    earned = {}
    for condition in ("observational", "counterfactual"):
        family = CausalGraphs(nodes=4, condition=condition)
        params, trials = played("cause-effect", family, 100)
        earned[condition] = float(trials.returns.mean())
    family = CausalGraphs(nodes=4)
    params, told = played("known-task", family, 100)
    assert earned["observational"] < float(told.returns.mean()) < earned["counterfactual"]
    assert abs(float(told.returns.mean()) - cause_effect_values(params["weights"]).mean()) < 0.6
    assert known_optima(family, params, "test", 1).known_task.shape == (100, 1)
    with pytest.raises(UserError, match="up to 4 nodes"):
        reference_agent("associative", CausalGraphs())
