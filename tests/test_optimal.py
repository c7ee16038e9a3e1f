"""Exact optima: against enumeration, published numbers, and the players that reach them."""

import itertools

import equinox as eqx
import jax
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.optimal import (
    BanditAgent,
    BayesOptimal,
    BayesOptimalSearcher,
    Gittins,
    Greedy,
    KnownProcess,
    PosteriorSampling,
    Thompson,
    bayes_optimal_value,
    best_search,
    gittins_indices,
    goal_known_return,
    optimal_action_values,
)
from stemrl.optimal.bandits import _binomials, _compositions, _rank
from stemrl.rl import play
from stemrl.tasks.bandit import Bandit
from stemrl.tasks.gridnavi import GridNavi
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


def test_the_bayes_optimal_player_earns_the_bayes_optimal_value():
    family = Bandit()
    earned = {
        name: total_returns(BanditAgent(rule, 5), family, 4000, 10)
        for name, rule in (
            ("optimal", BayesOptimal.of(5, 10)),
            ("greedy", Greedy()),
            ("thompson", Thompson()),
        )
    }
    error = earned["optimal"].std() / 4000**0.5
    assert abs(earned["optimal"].mean() - bayes_optimal_value(5, 10)) < 4 * error
    # The same arms for each, so the differences are paired.
    assert (earned["optimal"] - earned["thompson"]).mean() > 0.5
    assert (earned["optimal"] - earned["greedy"]).mean() > -4 * error


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


def test_no_path_of_a_small_grid_beats_the_search():
    family = GridNavi(size=3, horizon=4)
    params = family.tasks(jax.random.key(0), "test", 5)
    goals = [tuple(goal) for goal in np.asarray(params["goal"])]
    moves = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    best = -np.inf
    for path in itertools.product(range(5), repeat=4):
        total = 0.0
        for goal in goals:
            x, y, found = 0, 0, False
            for move in path:
                if not found:
                    x = min(max(x + moves[move][0], 0), 2)
                    y = min(max(y + moves[move][1], 0), 2)
                    found = (x, y) == goal
                total += 1.0 if found else -0.1
        best = max(best, total / len(goals))
    assert best_search(3, 4, 1).value == pytest.approx(best)


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


def test_posterior_sampling_learns_the_process():
    family = RandomMDP()
    earned = total_returns(PosteriorSampling(10, 5, 10), family, 100, 10)
    # Random play earns about 100, the optimum of the known process 217.7.
    assert 120 < earned.mean() < 150
