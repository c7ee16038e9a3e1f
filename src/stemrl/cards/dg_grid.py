"""Learning to achieve goals (after Kaelbling 1993): how many steps until all goals are reached by nearly
the shortest ways, if a step teaches one goal, a few, or all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import Problem
from ..multitask import DGLearning
from ..optimal import optimal_goal_values
from ..tasks import GoalGrid
from .card import Card, Measure
from .speed import reached
from .workshop import Workshop

NEAR = 1.1
"""Times the optimal mean path: when the goals count as learned."""
CUTOFF = 200
"""Steps after which a path counts as that long."""
POINTS = 100
SETTLED = 100_000
"""Steps after which a training may stop, once it is near the optimum."""
RATES = (0.03, 0.1, 0.3, 0.6)
"""Of learning, of which each variant takes what is best for it on seeds of its own."""
VARIANTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "current": ("Q-learning on the current goal", {"goals": "current"}, 1_000_000),
    "all": ("DG-learning", {"goals": "all"}, 100_000),
    "relaxed": ("DG-learning with relaxation", {"goals": "all", "intermediates": 4}, 100_000),
    "hindsight": ("Q-learning with hindsight", {"goals": "hindsight"}, 500_000),
}
"""Names, settings, and the steps after which a variant is given up."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Every variant with the rate that is best for it; steps until the mean path to the goals that are
    assigned is near the optimum, and the success on those that never are."""
    family = GoalGrid()
    found = {name: _learned(workshop, family, name) for name in VARIANTS}
    rows = [
        Measure(f"steps to within {NEAR} of the optimum, {VARIANTS[name][0]}", steps)
        for name, (steps, _) in found.items()
    ]
    ratio = found["current"][0] / found["all"][0]
    rows += [
        Measure(
            "how many times fewer DG-learning needs than Q-learning", ratio, None, 3.0, aim=5.0, ratio=True
        ),
        Measure("the same, with relaxation", found["current"][0] / found["relaxed"][0], ratio=True),
        *(
            Measure(
                f"success on goals never assigned, {VARIANTS[name][0]}", success,
                None, 0.95 if name == "all" else None, proportion=True,
            )
            for name, (_, success) in found.items()
        ),
    ]  # fmt: skip
    return rows


def _learned(workshop: Workshop, family: GoalGrid, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each seed the steps it needed, and the success on withheld goals at the end."""
    line, settings, limit = VARIANTS[name]
    limit, points = workshop.pick((limit, POINTS), (400, 2))
    learner, problem = DGLearning(**settings), Problem.of(family, "context")
    updates = limit // points // learner.steps_per_update(problem)
    steps = updates * learner.steps_per_update(problem)
    optimum = float(mean_paths(family, _optimal(family))[0])

    @eqx.filter_jit
    def part(learner: DGLearning, rates: Array, states: Any) -> tuple[Any, Array]:
        def advance(rate: Array, state: Any) -> tuple[Any, Array]:
            mine = dataclasses.replace(learner, learning_rate=rate)
            state = jax.lax.scan(
                lambda s, _: (mine.update(problem, s)[0], None), state, None, length=updates
            )[0]
            return state, jnp.stack(mean_paths(family, jnp.argmin(state.table, -1)))

        return jax.vmap(advance)(rates, states)

    def curves(rates: Sequence[float], seeds: Sequence[int]) -> np.ndarray:
        """Mean path over the optimum and success on withheld goals, `[lanes, points, 2]`."""
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
        states = eqx.filter_jit(jax.vmap(lambda k: learner.init(problem, k)))(keys)
        # A fresh table takes the first action everywhere.
        first = jnp.zeros((family.states, family.states), jnp.int32)
        rows = [np.tile(np.asarray(mean_paths(family, first)), (len(seeds), 1)) / (optimum, 1.0)]
        for point in range(points):
            states, row = part(learner, jnp.asarray(rates), states)
            rows.append(np.asarray(row) / (optimum, 1.0))
            # What all lanes have learned need not be watched any longer.
            if (point + 1) * steps >= SETTLED and np.max(rows[-3:], axis=0)[:, 0].max() <= NEAR:
                break
        rows += [rows[-1]] * (points + 1 - len(rows))
        return np.stack(rows, 1)

    def compute() -> dict[str, np.ndarray]:
        lanes = len(workshop.seeds)
        # In as many lanes as the card has seeds, so that one program does both.
        rates = np.resize(RATES, lanes)
        workshop.say(f"{line}: learning rates")
        tried = reached(-curves(rates.tolist(), range(1000, 1000 + lanes))[:, :, 0], -NEAR)
        needed = {rate: tried[rates == rate].mean() for rate in dict.fromkeys(rates.tolist())}
        best = min(needed, key=lambda rate: needed[rate])
        workshop.say(f"{line}: {lanes} seeds at {best:g}")
        return {"rate": np.asarray(best), "curves": curves([best] * lanes, workshop.seeds)}

    kept = workshop.kept(name, compute)
    workshop.settings[name] = {**settings, "learning_rate": float(kept["rate"]), "limit": limit}
    ratios, success = kept["curves"][:, :, 0], kept["curves"][:, :, 1]
    workshop.curve(
        "paths", line, steps * np.arange(points + 1), ratios, y_label="mean path / optimum"
    )
    return steps * reached(-ratios, -NEAR), success[:, -1]


def mean_paths(
    family: GoalGrid, policy: Int[Array, "goals states"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean number of steps, exactly, to the goals that are assigned from anywhere, at most
    `CUTOFF` each; and the probability of reaching those that are not within an episode."""
    after, goals = jnp.asarray(family.after), jnp.arange(family.states)
    arrived = goals[:, None] == goals[None]

    def back(value: Array, at_goal: float, cost: float) -> Array:
        moved = jnp.where(arrived, at_goal, value)[:, after]
        meant = jnp.take_along_axis(moved, policy[..., None], axis=-1)[..., 0]
        return cost + (1.0 - family.slip) * meant + family.slip * jnp.mean(moved, axis=-1)

    none = jnp.zeros(policy.shape)
    steps = jax.lax.fori_loop(0, CUTOFF, lambda _, v: back(v, 0.0, 1.0), none)
    found = jax.lax.fori_loop(0, family.horizon, lambda _, v: back(v, 1.0, 0.0), none)
    free = jnp.asarray(family.free)
    assigned, withheld = map(jnp.asarray, family.assigned)
    return jnp.mean(steps[assigned][:, free]), jnp.mean(found[withheld][:, free])


def _optimal(family: GoalGrid) -> Int[Array, "goals states"]:
    values = optimal_goal_values(family.transition_probabilities(), 1.0)
    return jnp.argmax(values, axis=-1)


CARD = Card(
    name="dg-grid",
    title="A step that teaches every goal makes all of them learned sooner",
    source="After Kaelbling 1993; no numbers are published",
    run=run,
    seeds=8,
    note=(
        "A grid of 10 × 10 cells with slipping; a third of the goals is never assigned. Paths are exact: not"
        " of episodes, but of what the table would do from every cell, and one that takes longer than 200"
        " steps counts as 200. Where a seed never is near enough, the steps after which it was given up stand"
        " for it. Learning rates of 0.03, 0.1, 0.3 and 0.6 were tried for each variant on other seeds. Ratios have"
        " geometric means."
    ),
)
