"""What stands beside a method in its card's table."""

import math
from pathlib import Path

import numpy as np
import pytest

from stemrl.cards import Workshop, adjusted_mean, classical, exact, finetuning
from stemrl.core import UserError
from stemrl.optimal import bayes_optimal_value
from stemrl.tasks.bandit import Bandit
from stemrl.tasks.gridnavi import GridNavi
from stemrl.tasks.random_mdp import RandomMDP


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "card", "quick", (0, 1), progress=False)


def test_exact_rows():
    bayes, known = exact(Bandit(arms=2, pulls=3))
    assert bayes.values == [pytest.approx(bayes_optimal_value(2, 3))]
    assert known.values == [pytest.approx(2.0)]
    bayes, known = exact(GridNavi(), episodes=4)
    assert bayes.values == [pytest.approx(37.2143, abs=1e-4)]
    assert known.values == [pytest.approx(4 * 11.0714, abs=1e-3)]
    (known,) = exact(Bandit(arms=10, pulls=100))
    assert "known task" in known.name
    with pytest.raises(UserError, match="no optimum in closed form"):
        exact(RandomMDP())


def test_control_variates_leave_the_mean_and_shrink_the_error():
    random = np.random.default_rng(0)
    controls = random.normal(size=(4000, 2))
    values = 3.0 + controls @ [2.0, -1.0] + 0.1 * random.normal(size=4000)
    mean, error = adjusted_mean(values, controls)
    assert error == pytest.approx(0.1 / math.sqrt(4000), rel=0.05)
    assert abs(mean - 3.0) < 4 * error
    with pytest.raises(UserError, match="too few"):
        adjusted_mean(values[:3], controls[:3])


def test_players_stand_beside_the_published_numbers_and_are_played_once(workshop: Workshop):
    family = Bandit(arms=2, pulls=4)
    published = {"random": 2.0, "bayes-optimal": None, "ucb1-tuned": 2.5}
    rows = classical(workshop, family, published, trials=1500)
    assert [row.published for row in rows] == [2.0, None, 2.5]
    values = {row.name: row.values[0] for row in rows}
    (setting,) = workshop.settings.values()
    errors = setting["standard_errors"]
    assert abs(values["random"] - 2.0) < 4 * errors["random"]
    optimum = bayes_optimal_value(2, 4)
    assert abs(values["Bayes-optimal agent"] - optimum) < 4 * errors["Bayes-optimal agent"]
    assert (
        values["UCB1 with the prior, c tuned"]
        < optimum + 4 * errors["UCB1 with the prior, c tuned"]
    )
    assert "UCB1 with the prior, c tuned" in setting["tuned"]
    again = Workshop(workshop.folder, "quick", (0, 1), progress=False)
    assert [row.values for row in classical(again, family, published, trials=1500)] == [
        row.values for row in rows
    ]
    assert again.settings == workshop.settings


def test_a_fine_tuned_policy_has_a_total_for_every_seed(workshop: Workshop):
    small = {"num_envs": 8, "rollout_length": 16, "hidden": (8,)}
    options = {"settings": small, "family_settings": {"arms": 2, "pulls": 4}, "steps": 256}
    row = finetuning(
        workshop, "bandit", tasks=300, episodes_per_round=2, step_sizes=(1e-3, 1e-2), **options
    )()
    assert len(row.values) == 2 and all(1.4 < value < 3 for value in row.values)
    assert workshop.settings["finetune"]["adapt_learning_rate"] in (1e-3, 1e-2)
    with pytest.raises(UserError, match="rounds of 3 episodes do not fill a trial of 4"):
        finetuning(workshop, "bandit", tasks=3, episodes_per_round=3, label="three", **options)
    with pytest.raises(UserError, match="learns nothing"):
        finetuning(workshop, "bandit", tasks=3, episodes_per_round=1, label="one", **options)
