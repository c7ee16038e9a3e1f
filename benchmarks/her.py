"""Deep Q-learning with hindsight on 15 bits: environment steps a second, each with one gradient
step, against Stable-Baselines3's DQN with its HER buffer.

    python benchmarks/her.py [--peers PYTHON] [--repeats 7]

Both sides: 256 hidden units, batches of 128, k = 4, exactly one gradient step a step. Ours takes
16 episodes and their 240 gradient steps an update; it acts at random meanwhile, so that no episode
ends early and the two numbers are one (a policy that begins to succeed takes fewer steps for as many
gradient steps). `PYTHON` is an interpreter that has `torch` and `stable-baselines3`. The fixed figure
was once measured on 2 cores; with `--peers` the ratio of this very run stands beside it.

Reported besides: the paper's schedule, 16 episodes and 40 gradient steps a cycle.
"""

import argparse
import time
from collections.abc import Callable

import equinox as eqx
import jax

from _common import alternate, peer, row, write
from stemrl.core import Problem
from stemrl.multitask import HER, HERState
from stemrl.tasks.bit_flip import BitFlip

STABLE_BASELINES3 = 372.0
BITS = 15
UPDATES = 10
STEPS = 256
"""Of the other side in its turn."""


def speed(learner: HER) -> Callable[[], float]:
    """Environment steps a second, over whole updates."""
    problem = Problem.of(BitFlip(bits=BITS), "context")

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple[HER, Problem], state: HERState):
        return fixed[0].update(fixed[1], state)

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    state, _ = jax.block_until_ready(update((learner, problem), state))

    def once() -> float:
        nonlocal state
        begin, taken = time.perf_counter(), []
        for _ in range(UPDATES):
            state, metrics = update((learner, problem), state)
            # Every step costs 1 but the one that reaches the goal.
            taken.append(learner.episodes * (metrics["success"] - metrics["return"]))
        return float(sum(taken)) / (time.perf_counter() - begin)

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="an interpreter that has the other library")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    paper = HER()
    sides = {
        "even": speed(HER(gradient_steps=paper.episodes * BITS, exploration=1.0)),
        "paper": speed(paper),
    }
    if options.peers:
        seconds = peer(options.peers, "_her_peer.py", str(BITS))
        sides["peer"] = lambda: STEPS / seconds(STEPS)
    found = alternate(sides, options.repeats)
    name = "DQN with HER over Stable-Baselines3's, one gradient step a step"
    rows = [row(f"{name}, fixed figure", found["even"], STABLE_BASELINES3, 10)]
    if "peer" in found:
        rows.append(row(f"{name}, in turns", found["even"], found["peer"], 10))
    write(
        "her",
        rows,
        bits=BITS,
        hidden=[256],
        batch=128,
        paper_schedule={
            "steps": found["paper"],
            "gradient_steps_an_update": paper.gradient_steps,
            "episodes_an_update": paper.episodes,
        },
    )


if __name__ == "__main__":
    main()
