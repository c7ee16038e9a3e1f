"""Aggregates and intervals against independent implementations."""

import numpy as np
import pytest
from scipy import stats

from stemrl.evaluation import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    performance_profile,
    probability_of_improvement,
    profile_interval,
    statistics,
    t_interval,
)
from stemrl.evaluation.statistics import mean


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 100, 103])
def test_iqm_is_the_trimmed_mean(n: int):
    scores = np.random.default_rng(n).normal(size=(3, n))
    for row, ours in zip(scores, iqm(scores), strict=True):
        assert ours == pytest.approx(stats.trim_mean(row, 0.25))


def test_interval_of_the_mean_is_scipys_percentile_bootstrap():
    scores = np.random.default_rng(0).gamma(2.0, size=(60, 1))
    low, high = bootstrap_interval(scores, statistic=mean, resamples=8000)
    theirs = stats.bootstrap(
        (scores[:, 0],), np.mean, method="percentile", n_resamples=8000, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_interval_of_the_iqm_is_scipys_percentile_bootstrap():
    scores = np.random.default_rng(7).gamma(2.0, size=(80, 1))
    low, high = bootstrap_interval(scores, resamples=6000)
    theirs = stats.bootstrap(
        (scores[:, 0],),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        n_resamples=6000,
        rng=1,
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_stratified_interval_by_hand():
    random = np.random.default_rng(3)
    strata = np.repeat([0, 1], [7, 12])
    scores = random.normal(size=(19, 4)) + 10 * strata[:, None]
    by_hand = []
    for _ in range(4000):
        rows = np.concatenate([random.choice(7, 7), 7 + random.choice(12, 12)])
        by_hand.append(stats.trim_mean(scores[rows].ravel(), 0.25))
    ours = bootstrap_interval(scores, strata, resamples=4000)
    assert ours == pytest.approx(np.percentile(by_hand, [2.5, 97.5]), abs=0.15)
    # Without strata the share of the two groups varies too.
    low, high = bootstrap_interval(scores, resamples=4000)
    assert high - low > 1.5 * (ours[1] - ours[0])


def test_of_very_many_scores_fewer_are_drawn(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(2)
    strata = np.repeat([0, 1], [5000, 20_000])
    scores = random.gamma(2.0, size=(25_000, 2)) + 10 * strata[:, None]
    for of in (mean, iqm):
        options: dict = {"strata": strata, "statistic": of, "resamples": 1000}
        whole = bootstrap_interval(scores, **options)
        with monkeypatch.context() as patch:
            patch.setattr(statistics, "MANY", 10_000)
            patch.setattr(statistics, "DRAWN", 5000)
            few = bootstrap_interval(scores, **options)
        assert np.mean(few) == pytest.approx(np.mean(whole), rel=1e-3)
        assert few[1] - few[0] == pytest.approx(whole[1] - whole[0], rel=0.15)
        assert few != whole


def test_interval_covers_the_truth_where_repeats_are_not_independent():
    random = np.random.default_rng(5)
    covered, naive = 0, 0
    for trial in range(150):
        tasks = random.normal(size=(40, 1))
        scores = tasks + 0.1 * random.normal(size=(40, 20))
        low, high = bootstrap_interval(scores, statistic=mean, resamples=300, seed=trial)
        covered += low <= 0 <= high
        low, high = bootstrap_interval(
            scores.reshape(-1, 1), statistic=mean, resamples=300, seed=trial
        )
        naive += low <= 0 <= high
    assert covered / 150 > 0.88
    assert naive / 150 < 0.6


def test_strata_of_a_single_score_are_drawn_together():
    scores = np.arange(21.0)[:, None]
    alone = bootstrap_interval(scores, np.arange(21))
    np.testing.assert_array_equal(alone, bootstrap_interval(scores))
    assert alone[0] < alone[1]
    # A stratum of two units is still one of its own: 0 or 1 twice, and 2 or 3 twice.
    interval = bootstrap_interval(scores[:4], np.array([0, 0, 1, 2]), statistic=mean)
    assert interval == (1.0, 2.0)


def test_one_unit_in_every_stratum_draws_its_repeats():
    scores = np.array([[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0]])
    low, high = bootstrap_interval(scores, np.arange(2), statistic=mean)
    assert 5.5 < low < 6.5 < high < 7.5


def test_blocks_do_not_change_shape_and_constant_scores_have_no_width():
    low, high = bootstrap_interval(np.full((100, 60), 2.5), resamples=1500)
    assert (low, high) == (2.5, 2.5)


def test_t_interval_is_scipys():
    values = np.array([1.0, 2.0, 4.0, 4.5])
    center, low, high = t_interval(values)
    theirs = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert center == values.mean()
    assert (low, high) == pytest.approx(theirs)
    with pytest.raises(ValueError, match="at least two"):
        t_interval(np.array([1.0]))


def test_performance_profile():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        performance_profile(scores, np.array([0.0, 2.0, 3.5, 4.0])), [1, 0.5, 0.25, 0]
    )
    assert performance_profile(np.ones((3, 4)), np.zeros(5)).shape == (3, 5)


def test_performance_profile_by_counting():
    random = np.random.default_rng(4)
    # Runs on tasks, as in the paper: a run is a unit, a task a stratum.
    scores = random.normal(size=(3, 8)) + np.array([[0.0], [1.0], [3.0]])
    thresholds = np.linspace(-2, 5, 12)
    profile = performance_profile(scores.ravel(), thresholds)
    for tau, ours in zip(thresholds, profile, strict=True):
        of_tasks = [sum(1 for score in runs if score > tau) / 8 for runs in scores]
        assert ours == pytest.approx(sum(of_tasks) / 3)
    low, high = profile_interval(
        scores.reshape(-1, 1), thresholds, np.repeat(np.arange(3), 8), resamples=4000
    )
    by_hand = []
    for _ in range(4000):
        drawn = np.array([random.choice(runs, 8) for runs in scores])
        by_hand.append([(drawn > tau).mean() for tau in thresholds])
    # A fraction of 24 scores moves in steps of 1/24.
    expected = np.percentile(by_hand, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=1.01 / 24)
    assert np.all(low <= profile) and np.all(profile <= high)


def test_profile_band_is_scipys_at_every_threshold():
    scores = np.random.default_rng(6).gamma(2.0, size=(200, 1))
    thresholds = np.array([1.0, 2.0])
    low, high = profile_interval(scores, thresholds, resamples=6000)
    for i, tau in enumerate(thresholds):
        theirs = stats.bootstrap(
            ((scores[:, 0] > tau).astype(float),),
            np.mean,
            method="percentile",
            n_resamples=6000,
            rng=2,
        ).confidence_interval
        assert (low[i], high[i]) == pytest.approx((theirs.low, theirs.high), abs=0.0101)


def test_probability_of_improvement_is_mann_whitneys():
    random = np.random.default_rng(2)
    ours, theirs = random.integers(0, 6, (5, 7)), random.integers(0, 5, (5, 4))
    u = [stats.mannwhitneyu(x, y).statistic / 28 for x, y in zip(ours, theirs, strict=True)]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(u))
    low, high = improvement_interval(ours, theirs)
    assert low <= np.mean(u) <= high
    assert improvement_interval(np.ones((4, 2)), np.zeros((4, 3))) == (1, 1)
