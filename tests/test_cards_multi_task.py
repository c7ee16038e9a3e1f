"""What the cards of the multi-task chapter compute: by hand, and against each other."""

import numpy as np
import pytest

from stemrl.cards import world_choice
from stemrl.cards.speed import reached


def test_a_threshold_is_reached_where_a_curve_stays_above_it():
    """Between two points by their straight line; a point alone above it does not count."""
    curves = np.array([[0.0, 0.2, 0.6, 0.6], [0.9, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    # Means of two points: 0.1, 0.4, 0.6, 0.6, so 0.5 is half of the way from point 2 to point 3.
    np.testing.assert_allclose(reached(curves, 0.5), [2.5, 5.0, 1.0])


def test_a_choice_is_worth_the_best_world():
    """And neither the mean nor the other one's; the two differ, or PPO could not show it."""
    worlds = world_choice.FIRST, world_choice.SECOND
    values = [world_choice._value(world) for world in worlds]
    assert world_choice._value_of_choice(worlds) == pytest.approx(max(values), abs=1e-4)
    assert min(values) < 0.8 * max(values)
    for world, value in zip(worlds, values, strict=True):
        assert 0.0 < world_choice._random(world) < 0.75 * value
