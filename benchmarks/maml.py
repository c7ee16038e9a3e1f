"""Seconds a meta-iteration of MAML-TRPO with the exact second-order gradient.

Two settings, 20 tasks × (20 + 20) episodes × 100 steps each, a 100-100 network: navigation in the
plane, against learn2learn's `maml_trpo` on its own Particles2D at its own defaults (2 workers on 2
cores, a fixed figure), and half-cheetah velocity, against a fixed bar. A meta-iteration is one
`update`: all the playing, the adaptation and the learning. Reported are its parts too.

    python benchmarks/maml.py [point] [cheetah]
"""

import statistics
import sys
import time

import equinox as eqx
import jax

from _common import row, write
from stemrl.core import Problem
from stemrl.registry import make

# Seconds: learn2learn on Particles2D; a straightforward program on half-cheetah.
LEARN2LEARN = 53.0
HALF_CHEETAH_BAR = 2.5
REPEATS = 15


def seconds(family: str, **settings) -> dict[str, float]:
    """Medians of a meta-iteration's seconds, whole and in parts."""
    learner = make("methods", "maml", **settings)
    problem = Problem.of(make("families", family, horizon=100))
    collect = eqx.filter_jit(lambda state: learner.collect(problem, state))
    learn = eqx.filter_jit(lambda state, trials: learner.learn(problem, state, trials))
    state = jax.jit(lambda key: learner.init(problem, key))(jax.random.key(0))
    playing, learning = [], []
    for i in range(REPEATS + 2):
        begin = time.perf_counter()
        state, trials = jax.block_until_ready(collect(state))
        middle = time.perf_counter()
        state, _ = jax.block_until_ready(learn(state, trials))
        # The first two hold compilation and warm caches.
        if i >= 2:
            playing.append(middle - begin)
            learning.append(time.perf_counter() - middle)
    whole = [p + q for p, q in zip(playing, learning, strict=True)]
    return {
        "iteration": statistics.median(whole),
        "playing": statistics.median(playing),
        "learning": statistics.median(learning),
        "fastest": min(whole),
    }


def main(names: list[str]) -> None:
    rows, parts = [], {}
    if "point" in names:
        parts["point-2d"] = seconds("point-2d", inner_learning_rate=0.5)
        rows.append(
            row(
                "MAML-TRPO on navigation over learn2learn",
                ours=parts["point-2d"]["iteration"],
                theirs=LEARN2LEARN,
                bar=100,
                lower=True,
                unit="s a meta-iteration",
            )
        )
    if "cheetah" in names:
        parts["half-cheetah-vel"] = seconds("half-cheetah-vel")
        rows.append(
            row(
                f"MAML-TRPO on half-cheetah within {HALF_CHEETAH_BAR} s",
                ours=parts["half-cheetah-vel"]["iteration"],
                theirs=HALF_CHEETAH_BAR,
                bar=1,
                lower=True,
                unit="s a meta-iteration",
            )
        )
    write(
        "maml", rows, tasks=20, episodes="20 + 20", steps=100, hidden=[100, 100], seconds_of=parts
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["point", "cheetah"])
