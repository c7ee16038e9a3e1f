"""What the cards of the multi-task chapter compute: by hand, and against each other."""

import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.cards import dg_grid, point_goals, uvfa_rooms, world_choice
from stemrl.cards.speed import arrives, reached
from stemrl.optimal import optimal_goal_values
from stemrl.tasks import GoalGrid


def test_a_threshold_is_reached_where_a_curve_stays_above_it():
    """Between two points by their straight line; a point alone above it does not count, and what never is there
    counts with all that it had."""
    curves = np.array([[0.0, 0.2, 0.6, 0.6], [0.9, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    # Means of two points: 0.1, 0.4, 0.6, 0.6, so 0.5 is half of the way from point 1 to point 2.
    np.testing.assert_allclose(reached(curves, 0.5), [1.5, 3.0, 0.0])
    assert arrives(curves, 0.5).tolist() == [1, 0, 1]


def test_a_choice_is_worth_the_best_world():
    """And neither the mean nor the other one's; the two differ, or PPO could not show it."""
    worlds = world_choice.FIRST, world_choice.SECOND
    values = [world_choice._value(world) for world in worlds]
    assert world_choice._value_of_choice(worlds) == pytest.approx(max(values), abs=1e-4)
    assert min(values) < 0.8 * max(values)
    for world, value in zip(worlds, values, strict=True):
        assert 0.0 < world_choice._random(world) < 0.75 * value


def test_mean_paths_are_those_of_the_optimum_and_of_standing_still():
    """Against the exact values; and of a policy that always goes up, which the edge stops."""
    family = GoalGrid(size=4, horizon=100)
    steps, found = dg_grid.mean_paths(family, dg_grid._optimal(family))
    values = np.asarray(optimal_goal_values(family.transition_probabilities(), 1.0)).max(-1)
    assert steps == pytest.approx(1.0 - values[family.assigned[0]].mean(), abs=1e-3)
    assert found == pytest.approx(1.0, abs=1e-4)
    sure = GoalGrid(size=4, slip=0.0)
    steps, found = dg_grid.mean_paths(sure, np.zeros((16, 16), np.int32))
    # From anywhere below the goal, in its column, it is reached; from the goal only in the top row.
    assert found < 0.5 and steps > 0.5 * dg_grid.CUTOFF


def test_rank_seven_holds_the_rooms_and_the_card_knows_which_goals_are_unseen():
    family = uvfa_rooms.rooms("room")
    known, unseen = uvfa_rooms._goals(family)
    assert len(known) + len(unseen) == len(family.free) and len(unseen) == 9
    low, seven = (uvfa_rooms._exact(uvfa_rooms.rooms("scattered"), rank) for rank in (3, 7))
    assert low < 0.7 < 0.9 < seven <= 1.0 + 1e-3


def test_what_a_point_is_worth_is_by_its_optimum_and_by_standing_still():
    goals = jnp.array([[0.3, 0.05], [-1.0, 1.0]])
    # 0.2 after the first step, then 0.1, then there; the other takes ten steps.
    assert point_goals.best_returns(goals)[0] == pytest.approx(-(0.2 + 0.1), abs=1e-5)
    assert point_goals.best_returns(goals)[1] == pytest.approx(-(2**0.5) * 4.5, rel=1e-5)
    for seed in range(2):
        assert np.abs(point_goals.drawn(seed, 50, band=True)[:, 0]).min() >= 0.2
        assert np.abs(point_goals.beyond(seed, 50)).max(1).min() > 0.5
