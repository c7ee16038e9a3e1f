"""Aggregates and intervals over scores, after Agarwal et al. (2108.13264) and their `rliable`.

Scores come as a matrix `[units, repeats]`. A *unit* is what was drawn independently, a task or a
training run; its *repeats* are not independent of one another (a task's parallel episodes, say).
A *stratum* is a group of units that the design fixed, of which there would be just as many if all
were done again: the tasks of a finite family, or the seeds of a sweep. The stratified bootstrap
draws units with replacement inside each stratum and keeps a unit's repeats together. In rliable's
own setting (a fixed benchmark, independent runs) a unit is a run on a task and a stratum a task.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

Scores = Float[np.ndarray, "units repeats"]


def iqm(scores: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "..."]:
    """Return the interquartile mean over the last dimension: the mean of what is left without the
    lowest and the highest ⌊n/4⌋."""
    scores = np.asarray(scores, float)
    n = scores.shape[-1]
    cut = n // 4
    if cut == 0:
        return scores.mean(-1)
    return np.partition(scores, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(-1)


def mean(scores: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "..."]:
    """Return the mean over the last dimension."""
    return np.mean(scores, axis=-1)


def bootstrap_interval(
    scores: Scores,
    strata: Int[np.ndarray, " units"] | None = None,
    *,
    statistic: Callable[[np.ndarray], np.ndarray] = iqm,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `(low, high)`, the percentile bootstrap interval of `statistic` over all scores.

    - `scores`: `[units, repeats]`.
    - `strata`: a label for each unit; by default there is one stratum. A stratum of a single unit
      says nothing of the variation between units: there, its repeats are drawn instead. Strata of a
      single score say nothing at all: they are drawn together as one, so that the interval is wider
      than it need be, but not of no width.
    - `statistic`: a function from `[..., n]` to `[..., *out]`; the interval has the shape `out`.

    Of more than a million scores, about 20,000 are drawn each time, and the interval is narrowed to
    what it is for all, by the square root of their share (the m-out-of-n bootstrap): the error of a
    statistic falls with the root of the number of scores.
    """
    scores = np.asarray(scores, float)
    groups = _groups(scores, strata)
    share = _share(scores, groups)
    draws = [statistic(draw) for draw in _resample(scores, groups, share, resamples, seed)]
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(draws), [tail, 100 - tail], axis=0)
    if share < 1:
        center = statistic(scores.reshape(-1))
        low, high = (center + np.sqrt(share) * (end - center) for end in (low, high))
    return low, high


MANY, DRAWN, FEW = 1_000_000, 20_000, 1000
"""Above how many scores a draw is of fewer, of how many then, and of at least how many units a stratum."""


def together_if_alone(strata: Int[np.ndarray, " units"]) -> Int[np.ndarray, " units"]:
    """Return the strata by number, those of a single unit as one: 0. There is nothing to draw in a stratum
    of one score."""
    labels = np.unique(strata, return_inverse=True)[1]
    return np.where(np.bincount(labels)[labels] == 1, 0, labels + 1)


def _groups(
    scores: Scores, strata: Int[np.ndarray, " units"] | None
) -> list[Int[np.ndarray, " group"]]:
    """The units of each stratum."""
    units, repeats = scores.shape
    labels = np.zeros(units, int) if strata is None else np.unique(strata, return_inverse=True)[1]
    if repeats == 1:
        labels = together_if_alone(labels)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _share(scores: Scores, groups: list[Int[np.ndarray, " group"]]) -> float:
    """The share of the units of each stratum that a draw is of."""
    if scores.size <= MANY:
        return 1.0
    return min(1.0, max(DRAWN / scores.size, FEW / min(map(len, groups))))


def _resample(
    scores: Scores,
    groups: list[Int[np.ndarray, " group"]],
    share: float,
    resamples: int,
    seed: int,
) -> Iterator[Float[np.ndarray, "block n"]]:
    """Bootstrap draws of the scores, flattened, in blocks that bound the memory they take."""
    repeats = scores.shape[1]
    random = np.random.default_rng(seed)
    block = max(1, int(4_000_000 // (share * scores.size)))
    for start in range(0, resamples, block):
        n = min(block, resamples - start)
        parts = []
        for group in groups:
            if len(group) == 1:
                drawn = scores[group[0], random.integers(repeats, size=(n, repeats))]
            else:
                size = (n, round(share * len(group)))
                drawn = scores[group[random.integers(len(group), size=size)]]
            parts.append(drawn.reshape(n, -1))
        yield np.concatenate(parts, axis=1)


def t_interval(
    values: Float[np.ndarray, " n"], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Return `(mean, low, high)` by Student's t, as for the means of a few training seeds (n ≥ 2)."""
    values = np.asarray(values, float)
    n = values.size
    if n < 2:
        raise ValueError("an interval over seeds takes at least two of them")
    center = float(values.mean())
    half = float(stdtrit(n - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(n))
    return center, center - half, center + half


def proportion_interval(
    values: Float[np.ndarray, " n"], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Return `(mean, low, high)` of shares in [0, 1], one a training seed (n ≥ 2): Student's t on
    arcsin √p, whose variance hardly depends on p, and back. The interval stays inside [0, 1]."""
    values = np.asarray(values, float)
    _, low, high = t_interval(np.arcsin(np.sqrt(np.clip(values, 0, 1))), level=level)
    low, high = (float(np.sin(np.clip(angle, 0, np.pi / 2)) ** 2) for angle in (low, high))
    center = float(values.mean())
    return center, min(low, center), max(high, center)


def performance_profile(
    scores: Float[np.ndarray, "... n"], thresholds: Float[np.ndarray, " taus"]
) -> Float[np.ndarray, "... taus"]:
    """Return F(τ): the fraction of scores above each threshold (2108.13264, §4.2)."""
    scores = np.asarray(scores, float)
    above = [np.mean(scores > tau, axis=-1) for tau in np.asarray(thresholds, float)]
    return np.stack(above, axis=-1)


def profile_interval(
    scores: Scores,
    thresholds: Float[np.ndarray, " taus"],
    strata: Int[np.ndarray, " units"] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " taus"], Float[np.ndarray, " taus"]]:
    """Return the bootstrap band of `performance_profile`, threshold by threshold (2108.13264, fig.
    4)."""
    return bootstrap_interval(
        scores,
        strata,
        statistic=lambda draws: performance_profile(draws, thresholds),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Return P(X > Y) + ½ P(X = Y) for a repeat X of ours and Y of theirs on the same task,
    averaged over the tasks (2108.13264, §4.3). Both `[tasks, repeats]`; the repeats may differ in
    number."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    difference = ours[:, :, None] - theirs[:, None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def improvement_interval(
    ours: Scores,
    theirs: Scores,
    strata: Int[np.ndarray, " units"] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval of `probability_of_improvement`: tasks are drawn in pairs."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    difference = ours[:, :, None] - theirs[:, None, :]
    wins = np.mean((difference > 0) + 0.5 * (difference == 0), axis=(1, 2))
    low, high = bootstrap_interval(
        wins[:, None], strata, statistic=mean, level=level, resamples=resamples, seed=seed
    )
    return float(low), float(high)
