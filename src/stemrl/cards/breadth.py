"""Whether more tasks in pretraining, at the same number of steps in all, make a new one faster to learn."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..rl.experience import select
from .card import Card, Measure, differences
from .point_goals import LEARNER, advance, begin, drawn, problem_of, worth
from .speed import arrives, reached
from .workshop import Workshop

BREADTHS = (0, 1, 2, 4, 16)
"""Tasks that were trained on before; 0: none, from scratch."""
PRETRAINING, FINE_TUNING, POINTS = 100, 60, 30
"""Updates, and points of a curve."""
NEAR = 0.9
"""Of what the optimum is worth more than standing still: when a new task counts as learned."""
TABLE = 16


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO on 1, 2, 4 or 16 goals by the same steps in all, then on one that was none of them; a learner
    that begins there beside it."""
    before, after, points = workshop.pick((PRETRAINING, FINE_TUNING, POINTS), (2, 2, 2))
    per_update = LEARNER.steps_per_update(problem_of(jnp.zeros((1, 2))))
    workshop.settings["all"] = {
        "method": "ppo", "family": "point-goals", "steps of pretraining": before * per_update,
        "steps of fine-tuning": after * per_update,
    }  # fmt: skip

    def compute() -> dict[str, np.ndarray]:
        workshop.say(f"{len(workshop.seeds)} seeds of {len(BREADTHS)} trainings")
        goals = [drawn(seed, TABLE + 1) for seed in workshop.seeds]
        tables = np.stack([
            np.resize(own[: max(n, 1)], (TABLE, 2)) for own in goals for n in BREADTHS
        ])  # fmt: skip
        new = np.stack([np.resize(own[TABLE:], (TABLE, 2)) for own in goals for _ in BREADTHS])
        scratch = jnp.tile(jnp.asarray(BREADTHS) == 0, len(goals))
        keys = jax.vmap(jax.random.key)(jnp.repeat(jnp.asarray(workshop.seeds), len(BREADTHS)))
        start = jax.jit(jax.vmap(begin))
        train = jax.jit(
            jax.vmap(functools.partial(advance, updates=after // points)), donate_argnums=0
        )
        states = start(keys, jnp.asarray(tables))
        for _ in range(before // (after // points)):
            states = train(states, jnp.asarray(tables))
        fresh = start(keys, jnp.asarray(new))
        states = jax.jit(jax.vmap(_handed_over))(states, fresh, scratch)
        judge = jax.jit(jax.vmap(worth))
        rows = []
        for point in range(points + 1):
            states = train(states, jnp.asarray(new)) if point else states
            rows.append(np.asarray(judge(states, jnp.asarray(new)[:, :1]))[:, 0])
        return {"curves": np.stack(rows, 1).reshape(len(goals), len(BREADTHS), -1)}

    curves = workshop.kept("curves", compute)["curves"]
    steps = after // points * per_update
    needed = {n: steps * reached(curves[:, i], NEAR) for i, n in enumerate(BREADTHS)}
    for i, n in enumerate(BREADTHS):
        workshop.curve(
            "new-task", _named(n), steps * np.arange(points + 1), curves[:, i],
            y_label="worth (1: optimum)",
        )  # fmt: skip
    rows = [Measure(f"steps to {NEAR} of the optimum, {_named(n)}", needed[n]) for n in BREADTHS]
    rows += [
        Measure(f"share that gets there, {_named(n)}", arrives(curves[:, i], NEAR), proportion=True)
        for i, n in enumerate(BREADTHS)
    ]
    rows += [
        Measure(f"worth before the first step, {_named(n)}", curves[:, i, 0])
        for i, n in enumerate(BREADTHS)
    ]
    saved = differences(list(needed[1]), list(needed[16]))
    return [*rows, Measure("steps that 16 tasks save against 1 (paired)", saved)]


def _handed_over(trained: Any, fresh: Any, scratch: Any) -> Any:
    """The learner that begins on a new task with what it has learned; a fresh one where that is to be."""
    begun, _ = LEARNER.inherit(problem_of(jnp.zeros((1, 2))), fresh, LEARNER, trained)
    return select(scratch, fresh, begun)


def _named(n: int) -> str:
    return "from scratch" if n == 0 else f"after {n} task{'s' * (n > 1)}"


CARD = Card(
    name="breadth",
    title="The more tasks before, at the same steps in all, the sooner a new one is learned",
    source="The lecture's claim of multi-task pretraining; nothing published",
    run=run,
    seeds=10,
    note=(
        "`point-2d` in episodes of 20 steps, the goal revealed. Each seed has goals of its own, and its new"
        " one is none of them; all begin alike. No bar."
    ),
    differs=(
        "A training that never gets there counts with all its steps, which is less than it would need.",
    ),
)
