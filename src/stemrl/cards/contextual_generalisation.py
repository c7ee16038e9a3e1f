"""What a contextual policy does where it is told a context that it was never trained on, inside and outside
the range of those that it was."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .card import Card, Measure
from .point_goals import LEARNER, advance, begin, beyond, drawn, problem_of, worth
from .workshop import Workshop

UPDATES = 150
TABLE = 256
"""Rows of a table of goals; fewer goals stand in it several times."""
CONTEXTS = (4, 16, 64, 256)
"""How many contexts are trained on."""
BAND = "256, none in a band"
PLACES = {"between": "new ones in the range", "band": "new ones in the band", "outside": "outside the range"}  # fmt: skip


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO on 4 to 256 goals of the square, and on 256 of which none is in a band through its middle;
    judged on the goals trained on, on new ones anywhere in the square, in the band, and outside."""
    names = [*map(str, CONTEXTS), BAND]
    judged = {
        "between": drawn(10_000, 200),
        "band": _in_band(20_000, 200),
        "outside": beyond(30_000, 200),
    }
    updates = workshop.pick(UPDATES, 2)
    steps = updates * LEARNER.steps_per_update(problem_of(jnp.zeros((1, 2))))
    workshop.settings["all"] = {"method": "ppo", "family": "point-goals", "steps": steps}

    def compute() -> dict[str, np.ndarray]:
        tables = np.stack([
            [np.resize(drawn(seed, n), (TABLE, 2)) for n in CONTEXTS] + [drawn(seed, TABLE, band=True)]
            for seed in workshop.seeds
        ])  # fmt: skip
        workshop.say(f"{tables.shape[0]} seeds of {len(names)} trainings")
        lanes = jnp.asarray(tables.reshape(-1, TABLE, 2))
        # One seed's trainings begin alike.
        keys = jax.vmap(jax.random.key)(jnp.repeat(jnp.asarray(workshop.seeds), len(names)))
        states = jax.jit(jax.vmap(begin))(keys, lanes)
        states = jax.jit(jax.vmap(functools.partial(advance, updates=updates)))(states, lanes)
        judge = jax.jit(jax.vmap(worth, (0, None)))
        found = {"trained": jax.jit(jax.vmap(worth))(states, lanes)}
        found |= {place: judge(states, jnp.asarray(goals)) for place, goals in judged.items()}
        return {k: np.asarray(v).reshape(*tables.shape[:2], -1).mean(-1) for k, v in found.items()}

    found = workshop.kept("worth", compute)
    for place, line in {"trained": "those trained on", **PLACES}.items():
        workshop.curve(
            "contexts", line, CONTEXTS, found[place][:, : len(CONTEXTS)],
            x_label="contexts trained on", y_label="worth (1: optimum)",
        )  # fmt: skip
    shown = [("256", *each) for each in (("trained", "those trained on"), *PLACES.items())]
    shown += [(BAND, *each) for each in (("trained", "those trained on"), *PLACES.items())]
    shown += [(n, "between", PLACES["between"]) for n in ("4", "16", "64")]
    rows = [
        Measure(f"trained on {name} contexts: {line}", found[place][:, names.index(name)])
        for name, place, line in shown
    ]
    lost = found["band"][:, names.index("256")] - found["band"][:, names.index(BAND)]
    return [*rows, Measure("what never to have seen the band costs in it (paired)", lost)]


def _in_band(seed: int, n: int) -> np.ndarray:
    goals = drawn(seed, 20 * n)
    return goals[np.abs(goals[:, 0]) < 0.2][:n]


CARD = Card(
    name="contextual-generalisation",
    title="A contextual policy between and beyond the contexts that it was trained on",
    source="The lecture's contextual policies; nothing published",
    run=run,
    seeds=10,
    note=(
        "`point-2d` in episodes of 20 steps, the goal revealed; PPO, as many steps for every number of"
        " contexts. Worth is 1 for the optimum and 0 for standing still, so below 0 is worse than that."
        " The range is a square of side 1, outside is the frame up to side 2, and the band, through the"
        " middle of the square, is two fifths of it. No bar."
    ),
)
