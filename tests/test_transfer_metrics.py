"""What transfer has brought: on curves that are known, and intervals against scipy's bootstrap."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from stemrl.core import UserError
from stemrl.evaluation import Evaluation, generalization, retention, transfer
from stemrl.tasks.point import Point2D


def curves(scores: np.ndarray, split: str = "test", strata: np.ndarray | None = None) -> Evaluation:
    """An evaluation with these scores, `[tasks, rounds]`; every episode takes 10 steps."""
    tasks = len(scores)
    return Evaluation(
        family="point-2d",
        identity=Point2D().identity,
        method="",
        split=split,
        seed=0,
        actions="sampled",
        reveal="nothing",
        train_is_test=False,
        scores=np.asarray(scores, float)[..., None],
        lengths=np.full((*np.shape(scores), 1), 10),
        diverged=np.zeros((*np.shape(scores), 1), bool),
        strata=np.zeros(tasks, int) if strata is None else strata,
        target=Point2D(),
        params={"goal": np.zeros((tasks, 2))},
    )


def test_every_number_of_two_curves():
    scratch = curves(np.array([[0.0, 1.0, 4.0, 6.0], [0.0, 1.0, 2.0, 2.0]]))
    ours = curves(np.array([[3.0, 5.0, 7.0, 7.0], [1.0, 3.0, 3.0, 1.0]]))
    gain = transfer(ours, scratch)
    assert gain.zero_shot.value == 2.0
    assert gain.jump_start.value == 2.0
    assert gain.asymptote.value == 0.0
    assert gain.area.value == pytest.approx(1.75)
    # The mean curves are (2, 4, 5, 4) and (0, 1, 3, 4): 4 after one episode, and after three.
    assert gain.threshold == 4.0
    assert (gain.budget.value, gain.scratch_budget.value) == (10.0, 30.0)
    assert gain.negative.value == 0.5
    assert gain.negative.low == 0.0 and gain.negative.high == 1.0
    never = transfer(ours, scratch, threshold=6.0)
    assert never.budget.value == np.inf and never.budget.low == 20.0
    # As a curve: 0 at once for both, 5 after two episodes and never.
    assert gain.thresholds[0] == 0.0 and gain.thresholds[-1] == 5.0
    assert gain.budgets[-1].value == 20.0
    assert gain.scratch_budgets[0].value == 0.0
    assert gain.scratch_budgets[-1].value == np.inf
    assert set(gain.as_dict()["budget"]) == {"value", "low", "high"}  # pyright: ignore


def test_what_is_left_of_the_source():
    before = curves(np.array([[3.0, 9.0], [5.0, 9.0]]))
    after = curves(np.array([[1.0, 9.0], [3.0, 9.0]]))
    kept = retention(before, after)
    assert (kept.before.value, kept.after.value) == (4.0, 2.0)
    assert tuple(kept.change) == (-2.0, -2.0, -2.0)
    with pytest.raises(UserError, match="the same tasks: tasks 2 is not 1"):
        retention(before, curves(np.array([[1.0, 1.0]])))


def test_intervals_are_paired_over_tasks():
    random = np.random.default_rng(0)
    level = 10 * random.normal(size=(60, 1))
    scratch = level + random.normal(size=(60, 3))
    ours = level + 1.0 + random.normal(size=(60, 3))
    gain = transfer(curves(ours), curves(scratch))
    theirs = stats.bootstrap(
        (ours[:, 0] - scratch[:, 0],), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert gain.jump_start[1:] == pytest.approx((theirs.low, theirs.high), abs=0.05)
    # Unpaired, the spread of the tasks would hide the lead.
    assert gain.jump_start.low > 0


def test_tasks_that_are_strata_of_their_own_leave_nothing_to_chance():
    # Each task twice, and each time as well.
    scores = np.repeat([[0.0, 4.0], [2.0, 6.0], [4.0, 8.0]], 2, axis=0)
    strata = np.repeat(np.arange(3), 2)
    ours = curves(scores, strata=strata)
    gain = transfer(ours, curves(scores - 1.0, strata=strata))
    assert gain.jump_start == (1.0, 1.0, 1.0)
    assert gain.budget == (10.0, 10.0, 10.0)


def test_generalization_is_a_difference_of_unpaired_means():
    random = np.random.default_rng(1)
    train, test, ood = (
        random.normal(mean, 1.0, size=(n, 2)) for n, mean in ((50, 5.0), (80, 4.5), (40, 1.0))
    )
    found = generalization(curves(train, "train"), curves(test), curves(ood, "ood"))
    assert found.training.value == pytest.approx(train[:, 1].mean())
    assert found.interpolation.value == pytest.approx(test[:, 1].mean() - train[:, 1].mean())
    assert found.extrapolation is not None and found.extrapolation.high < -2
    theirs = stats.bootstrap(
        (test[:, 1], train[:, 1]),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        method="percentile",
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    assert found.interpolation[1:] == pytest.approx((theirs.low, theirs.high), abs=0.05)
    assert generalization(curves(train), curves(test)).as_dict()["extrapolation"] is None


def test_tasks_that_were_drawn_once_each_do_not_mix_the_splits():
    """Of a finite family most tasks are strata of their own: the interval is that of the splits drawn anew."""
    random = np.random.default_rng(0)
    train, test = (random.normal(15.0, 1.0, (50, 1)) for _ in range(2))
    own = np.arange(50)
    found = generalization(curves(train, "train", own), curves(test, "test", own)).interpolation
    one = generalization(curves(train, "train"), curves(test, "test")).interpolation
    np.testing.assert_allclose((found.low, found.high), (one.low, one.high), atol=0.05)


def test_the_best_mean_is_reached_whatever_rounding_does():
    random = np.random.default_rng(1)
    for _ in range(20):
        ours, scratch = (curves(random.normal(size=(37, 5))) for _ in range(2))
        found = transfer(ours, scratch)
        last = found.budgets[-1].value, found.scratch_budgets[-1].value
        assert np.isfinite(min(last)), "the highest of all means is that of one of them"


def test_what_cannot_be_compared_is_refused():
    one = curves(np.zeros((3, 2)))
    with pytest.raises(UserError, match="as many rounds: 2 is not 3"):
        transfer(one, curves(np.zeros((3, 3))))
    with pytest.raises(UserError, match="tasks 3 is not 4"):
        transfer(one, curves(np.zeros((4, 2))))
    with pytest.raises(UserError, match="seed 0 is not 1"):
        transfer(one, dataclasses.replace(one, seed=1))
    other = dataclasses.replace(one, identity="another@1()")
    with pytest.raises(UserError, match="cannot be compared"):
        generalization(one, other)
