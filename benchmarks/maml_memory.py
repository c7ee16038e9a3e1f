"""Peak memory of MAML's meta-gradient with 1, 2, 4 and 8 inner steps, recomputed (`--remat`) and kept.

Of the compiled outer step of ProMP (20 tasks × 20 episodes × 100 steps of navigation in the plane, a
100-100 network): what XLA sets aside beside arguments and results. The rounds themselves, one more for
every inner step, are arguments.

    python benchmarks/maml_memory.py
"""

import functools

import equinox as eqx
import jax

from _common import row, write
from stemrl.core import Problem
from stemrl.registry import make

STEPS = (1, 2, 4, 8)
MIB = 2**20


def mebibytes(inner_steps: int, remat: bool) -> float:
    """Of temporaries, of one outer step on rounds that are already prepared."""
    learner = make(
        "methods", "maml", inner_steps=inner_steps, remat=remat, outer="ppo", inner_kl=5e-4,
        surrogate="likelihood_ratio",
    )  # fmt: skip
    problem = Problem.of(make("families", "point-2d"))

    def prepared(state):
        state, trials = learner.collect(problem, state)
        return state, learner.prepare(learner.agent(problem, state), trials)

    def outer(state, tasks):
        adapted = functools.partial(learner.distributions, learner.agent(problem, state))
        return learner.outer_step(adapted, state.initialization, state.optimizer, tasks)

    shapes = eqx.filter_eval_shape(lambda key: learner.init(problem, key), jax.random.key(0))
    state, tasks = eqx.filter_eval_shape(prepared, shapes)
    compiled = jax.jit(outer).lower(state, tasks).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / MIB


def main() -> None:
    peaks = {
        name: {str(steps): mebibytes(steps, remat) for steps in STEPS}
        for name, remat in (("recomputed", True), ("kept", False))
    }
    print(peaks)
    found = peaks["recomputed"]
    # How much of 1.5 times one step's memory the worst number of steps leaves free, as a ratio.
    rows = [
        row(
            "MAML's peak memory at its largest of 1, 2, 4, 8 inner steps within 1.5 times that of one",
            ours=max(found.values()),
            theirs=1.5 * found["1"],
            bar=1,
            lower=True,
            unit="MiB",
        )
    ]
    write("maml_memory", rows, tasks=20, episodes=20, steps=100, hidden=[100, 100], mebibytes=peaks)


if __name__ == "__main__":
    main()
