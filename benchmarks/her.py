"""Deep Q-learning with hindsight on 15 bits: environment steps a second, each with one gradient
step, against Stable-Baselines3's DQN with its HER buffer.

    python benchmarks/her.py

Both sides: 256 hidden units, batches of 128, one gradient step a step; theirs is what was measured
on 2 cores. Reported besides: the paper's schedule, 16 episodes and 40 gradient steps a cycle, as
environment steps plus gradient steps a second.
"""

import statistics
import time

import equinox as eqx
import jax

from _common import row, write
from stemrl.core import Problem
from stemrl.multitask import Her, HerState
from stemrl.tasks.bit_flip import BitFlip

STABLE_BASELINES3 = 372.0
BITS = 15
UPDATES, REPEATS = 10, 7


def speed(learner: Her) -> dict[str, float]:
    """Medians of environment steps and gradient steps a second, over whole updates."""
    problem = Problem.of(BitFlip(bits=BITS), "context")

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple[Her, Problem], state: HerState):
        return fixed[0].update(fixed[1], state)

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    state, _ = jax.block_until_ready(update((learner, problem), state))
    world, gradient = [], []
    for _ in range(REPEATS):
        begin, taken = time.perf_counter(), []
        for _ in range(UPDATES):
            state, metrics = update((learner, problem), state)
            # Every step costs 1 but the one that reaches the goal.
            taken.append(learner.episodes * (metrics["success"] - metrics["return"]))
        steps = float(sum(taken))
        seconds = time.perf_counter() - begin
        world.append(steps / seconds)
        gradient.append(UPDATES * learner.gradient_steps / seconds)
    return {"world": statistics.median(world), "gradient": statistics.median(gradient)}


def main() -> None:
    even = speed(Her(gradient_steps=16 * BITS))
    paper = speed(Her())
    write(
        "her",
        [
            row(
                "DQN with HER over Stable-Baselines3's, one gradient step a step",
                ours=min(even.values()),
                theirs=STABLE_BASELINES3,
                bar=10,
            )
        ],
        bits=BITS,
        hidden=[256],
        batch=128,
        one_gradient_step_a_step=even,
        paper_schedule=paper | {"sum": sum(paper.values())},
    )


if __name__ == "__main__":
    main()
