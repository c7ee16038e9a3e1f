"""Exact optima: against enumeration, published numbers, and the reference agents that reach them."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Problem, UserError
from stemrl.evaluation import evaluate
from stemrl.optimal import (
    BanditAgent,
    BayesOptimalSearcher,
    Gittins,
    KnownProcess,
    Thompson,
    bayes_optimal_returns,
    bayes_optimal_value,
    best_search,
    gittins_indices,
    goal_known_return,
    known_optima,
    optimal_action_values,
    problem_of,
    reference_agent,
    reference_agent_names,
)
from stemrl.optimal.bandits import _binomials, _compositions, _rank
from stemrl.registry import REFERENCE_AGENTS
from stemrl.rl import play
from stemrl.tasks.bandit import Bandit
from stemrl.tasks.gridnavi import GridNavi
from stemrl.tasks.point import Point2D
from stemrl.tasks.random_mdp import RandomMDP


def total_returns(agent, family, tasks: int, rounds: int, context: bool = False) -> np.ndarray:
    """Return of whole trials, `[tasks]`."""
    params = family.tasks(jax.random.key(0), "test", tasks)
    shown = jax.vmap(family.context)(params) if context else None
    played = eqx.filter_jit(play)(agent, family, params, shown, jax.random.key(1), rounds)
    return np.asarray(played.returns.sum((1, 2)))


def test_bayes_optimal_bandit_against_brute_force():
    def value(counts: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        best = 0.0
        for arm, (s, f) in enumerate(counts):
            p = (s + 1) / (s + f + 2)
            won = (*counts[:arm], (s + 1, f), *counts[arm + 1 :])
            lost = (*counts[:arm], (s, f + 1), *counts[arm + 1 :])
            best = max(best, p * (1 + value(won, left - 1)) + (1 - p) * value(lost, left - 1))
        return best

    for arms, pulls in ((2, 2), (2, 4), (3, 3)):
        assert bayes_optimal_value(arms, pulls) == pytest.approx(value(((0, 0),) * arms, pulls))


def test_bayes_optimal_bandit_has_the_published_value():
    assert bayes_optimal_value(5, 10) == pytest.approx(6.660, abs=5e-4)


def test_counts_are_ranked_in_the_order_of_their_enumeration():
    counts = _compositions(4, 5)
    assert list(_rank(counts.T, _binomials(2, 6))) == list(range(len(counts)))
    assert sorted(map(tuple, counts)) == [
        c for c in itertools.product(range(6), repeat=4) if sum(c) == 5
    ]


def test_too_large_a_bandit_is_refused():
    with pytest.raises(UserError, match="too many to solve"):
        bayes_optimal_value(10, 100)


def test_bayes_optimal_returns_add_up_to_the_value():
    for arms, pulls in ((2, 5), (3, 4), (5, 6)):
        (returns,) = bayes_optimal_returns(arms, pulls)
        assert returns.sum() == pytest.approx(bayes_optimal_value(arms, pulls), abs=1e-9)
        # Nothing is known of the first pull, and no later one is worth less.
        assert returns[0] == pytest.approx(0.5)
        assert np.all(np.diff(returns) > -1e-12)


def test_bayes_optimal_returns_of_known_arms_by_hand():
    # Two pulls of two arms: after a success the same arm again, after a failure the other.
    p, q = 0.9, 0.3
    second = 0.5 * (p * p + (1 - p) * q) + 0.5 * (q * q + (1 - q) * p)
    returns = bayes_optimal_returns(2, 2, np.array([[p, q], [1.0, 0.0]]))
    np.testing.assert_allclose(returns, [[0.6, second], [0.5, 1.0]])


def test_the_bayes_optimal_player_earns_the_bayes_optimal_value():
    family = Bandit()
    earned = {
        name: evaluate(reference_agent(name, family), Problem.of(family), tasks=500)
        for name in ("bayes-optimal", "greedy", "thompson")
    }
    totals = {name: result.scores.sum((1, 2)) for name, result in earned.items()}
    error = totals["bayes-optimal"].std() / 500**0.5
    assert abs(totals["bayes-optimal"].mean() - bayes_optimal_value(5, 10)) < 4 * error
    # The evaluator's gap takes the expectation on each task itself: none to itself.
    gap = earned["bayes-optimal"].gaps["bayes_optimal"]["trial"]
    assert abs(gap["gap"]) < gap["high"] - gap["low"]
    assert gap["fraction"] == pytest.approx(1.0, abs=0.02)
    # The same arms for each, so the differences are paired.
    assert (totals["bayes-optimal"] - totals["thompson"]).mean() > 0.5
    assert (totals["bayes-optimal"] - totals["greedy"]).mean() > -4 * error
    assert earned["thompson"].gaps["bayes_optimal"]["trial"]["low"] > 0.5


def test_gittins_indices_have_their_published_values():
    # Gittins, Glazebrook & Weber (2011), table 8.4: uniform prior.
    assert gittins_indices(4, 0.9)[0, 0] == pytest.approx(0.7029, abs=2e-4)
    assert gittins_indices(4, 0.9)[1, 0] == pytest.approx(0.8001, abs=2e-4)
    assert gittins_indices(4, 0.9)[0, 1] == pytest.approx(0.5001, abs=2e-4)


def test_gittins_beats_thompson_on_long_trials():
    family = Bandit(arms=5, pulls=50)
    gittins = total_returns(BanditAgent(Gittins.of(50), 5), family, 500, 50)
    thompson = total_returns(BanditAgent(Thompson(), 5), family, 500, 50)
    assert (gittins - thompson).mean() > 1.0


def test_the_grid_is_searched_and_then_walked_as_well_as_can_be():
    family = GridNavi()
    assert goal_known_return() == pytest.approx(11.0714, abs=1e-4)
    search = best_search(5, 15, 4)
    # A first episode's search earns 4; what it left is found on the way there in the second.
    assert search.value == pytest.approx(4.0 + 3 * goal_known_return())
    earned = total_returns(BayesOptimalSearcher.of(family), family, 21, 4)
    assert earned.mean() == pytest.approx(search.value, abs=1e-4)


@pytest.mark.parametrize(("horizon", "episodes"), [(4, 1), (3, 1), (3, 2)])
def test_no_path_of_a_small_grid_beats_the_search(horizon: int, episodes: int):
    # With 3 steps the far corner is out of reach.
    goals = [(0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]
    moves = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    known = [
        horizon + 1 - sum(g) - 0.1 * (sum(g) - 1) if sum(g) <= horizon else -0.1 * horizon
        for g in goals
    ]
    assert goal_known_return(3, horizon) == pytest.approx(np.mean(known))

    def earns(path: tuple[int, ...], goal: tuple[int, int], value: float) -> float:
        total, found = 0.0, False
        for episode in range(episodes):
            if found:
                total += value
                continue
            x, y = 0, 0
            for move in path[episode * horizon : (episode + 1) * horizon]:
                if not found:
                    x = min(max(x + moves[move][0], 0), 2)
                    y = min(max(y + moves[move][1], 0), 2)
                    found = (x, y) == goal
                total += 1.0 if found else -0.1
        return total

    best = max(
        np.mean([earns(path, goal, value) for goal, value in zip(goals, known, strict=True)])
        for path in itertools.product(range(1, 5), repeat=horizon * episodes)
    )
    assert best_search(3, horizon, episodes).value == pytest.approx(best)


def test_every_goal_of_the_grid_is_found_when_the_optimum_says():
    family = GridNavi()
    result = evaluate(reference_agent("bayes-optimal", family), Problem.of(family), tasks=50)
    optima = result.optima
    assert optima is not None and optima.bayes_optimal is not None
    np.testing.assert_allclose(result.scores[:, :, 0], optima.bayes_optimal, atol=1e-5)
    told = evaluate(
        reference_agent("known-task", family), problem_of("known-task", family), tasks=50
    )
    np.testing.assert_allclose(told.scores[:, :, 0], optima.known_task, atol=1e-5)
    every = known_optima(family, {"goal": family.goals("test")}, "test", 4)
    assert every is not None and every.bayes_optimal is not None
    np.testing.assert_allclose(
        every.bayes_optimal.mean(0), [4.0, *[goal_known_return()] * 3], atol=1e-9
    )


def test_posterior_sampling_on_the_grid_rules_goals_out():
    family, rounds = GridNavi(), 24
    agent = reference_agent("psrl", family)
    params = family.tasks(jax.random.key(0), "test", 210)
    played = eqx.filter_jit(play)(agent, family, params, None, jax.random.key(1), rounds)
    means = np.asarray(played.returns).mean((0, 2))
    # Every episode rules out the goal that was believed in, and what lies on the way there.
    assert means[0] < 2.0 < means[5] < goal_known_return() - 1
    known = known_optima(family, jax.device_get(params), "test", 1)
    assert known is not None
    assert means[-1] == pytest.approx(np.mean(known.known_task), abs=1e-4)


def test_the_known_process_is_played_to_its_value():
    family = RandomMDP()
    params = family.tasks(jax.random.key(0), "test", 300)
    values = jax.vmap(lambda p: optimal_action_values(p["transition"], p["reward"], 10))(params)
    promised = np.asarray(values[:, 0, 0].max(-1))
    agent = KnownProcess(10, 5, 10)
    earned = total_returns(agent, family, 300, 10, context=True) / 10
    assert abs((earned - promised).mean()) < 4 * (earned - promised).std() / 300**0.5
    # CARD: about 21.77 an episode; 300 tasks leave a standard error of about 0.15.
    assert promised.mean() == pytest.approx(21.77, abs=0.6)


def test_players_of_unknown_processes():
    family = RandomMDP()
    results = {
        name: evaluate(reference_agent(name, family), Problem.of(family), tasks=40)
        for name in ("greedy", "psrl")
    }
    totals = {name: result.scores.sum((1, 2)) for name, result in results.items()}
    # A random agent earns 1 a step in expectation, 100 in all.
    assert totals["psrl"].mean() > 115
    assert (totals["greedy"] - totals["psrl"]).mean() > 5
    assert results["psrl"].gaps["known_task"]["trial"]["low"] > 50
    assert "bayes_optimal" not in results["psrl"].gaps


def test_the_greedy_player_plans_for_the_average_process():
    family = RandomMDP(states=2, actions=2, horizon=3)
    agent = reference_agent("greedy", family)
    key = jax.random.key(0)
    memory = agent.start(None, key)
    memory = dataclasses.replace(
        memory,
        visits=memory.visits.at[0, 1, 1].set(3.0),
        reward_sum=memory.reward_sum.at[0, 1].set(7.0),
    )
    plan, _ = agent.begin(memory, key)
    transition = np.array([[[0.5, 0.5], [0.2, 0.8]], [[0.5, 0.5], [0.5, 0.5]]])
    # (1 + 7) / (1 + 3) where it was seen, the prior's mean elsewhere.
    reward = np.array([[1.0, 2.0], [1.0, 1.0]])
    value = np.zeros(2)
    for step in reversed(range(3)):
        q = reward + transition @ value
        np.testing.assert_allclose(plan.values[step], q, rtol=1e-5)
        value = q.max(axis=1)
    assert int(agent.act(memory, (plan, memory), jnp.asarray(0), key)[0]) == 1


@pytest.mark.parametrize("family", [Bandit(2, 3), GridNavi(3, 4), RandomMDP(2, 2, 2), Point2D()])
def test_every_player_plays_its_family(family):
    names = reference_agent_names(family)
    assert names[0] == "random" and set(names) <= set(REFERENCE_AGENTS)
    for name in names:
        problem = problem_of(name, family)
        result = evaluate(reference_agent(name, family), problem, tasks=3, episodes=0)
        assert np.isfinite(result.scores).all()
    assert set(result.gaps) <= {"bayes_optimal", "known_task"}


def test_upper_confidence_by_hand():
    counts, key = jnp.array([[2, 1], [0, 1], [0, 0]]), jax.random.key(0)
    plain = reference_agent("ucb1", Bandit(3)).rule.scores(counts, key)  # pyright: ignore
    log = np.log(4)
    expected = [2 / 3 + np.sqrt(2 * log / 3), np.sqrt(2 * log), np.inf]
    np.testing.assert_allclose(plain, expected, rtol=1e-6)
    informed = reference_agent("ucb1", Bandit(3), constant=0.5, prior=True).rule  # pyright: ignore
    log, n = np.log(10), np.array([5, 3, 2])
    expected = np.array([3 / 5, 1 / 3, 1 / 2]) + np.sqrt(0.5 * log / n)
    np.testing.assert_allclose(informed.scores(counts, key), expected, rtol=1e-6)


def test_players_take_the_settings_of_their_rule():
    family = Bandit()
    assert reference_agent("ucb1", family, constant=0.3).rule.constant == 0.3  # pyright: ignore
    with pytest.raises(UserError, match="'thompson' has no setting 'constant'"):
        reference_agent("thompson", family, constant=0.3)
    with pytest.raises(
        UserError, match="bandit has no reference agent 'tomson'; did you mean 'thompson'"
    ):
        reference_agent("tomson", family)
    with pytest.raises(UserError, match="must be told its task"):
        evaluate(reference_agent("known-task", family), Problem.of(family), tasks=2)


def test_no_optimum_where_there_is_none_to_be_had():
    params = {"probability": np.full((2, 10), 0.4)}
    large = known_optima(Bandit(10, 100), params, "test", 100)
    assert large is not None and large.bayes_optimal is None
    np.testing.assert_allclose(large.known_task, 0.4)
    # The agent of U(0, 1) is not the Bayes-optimal one of poorer arms.
    other = known_optima(Bandit(10, 3), params, "ood", 3)
    assert other is not None and other.bayes_optimal is None
    assert known_optima(Point2D(), {"goal": np.zeros((2, 2))}, "test", 3) is None
