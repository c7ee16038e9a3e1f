"""SAC on half-cheetah, environment steps a second with one gradient step each, against
Stable-Baselines3 and SBX.

    python benchmarks/sac.py [--peers PYTHON] [--repeats 5]

All sides: half-cheetah, twin critics and policy of 256-256, batches of 256, past the random
beginning, each with its own number of worlds: four for ours, one for the others. `PYTHON` is an interpreter that has `torch`, `stable-baselines3`, `sbx-rl` and
`gymnasium[mujoco]`. The bars are on the figures that were once measured on 2 cores; with `--peers`
the ratios of this very run stand beside them, without a bar of their own.

Besides, the limit: matrix products of 256 × 256 × 256 alone, and what share of their rate the
gradient step reaches.
"""

import argparse
import time
from collections.abc import Callable

import equinox as eqx
import jax

from _common import alternate, peer, products, row, write
from stemrl.core import Problem
from stemrl.physics import HalfCheetahVel
from stemrl.rl import SAC, SACState

FIXED = {"Stable-Baselines3": 66.0, "SBX": 123.0}
BARS = {"Stable-Baselines3": 3.0, "SBX": 1.5}
LIBRARIES = {"Stable-Baselines3": "sb3", "SBX": "sbx"}
STEPS = 128
"""Environment steps that each side takes in its turn."""


def flops(observations: int, actions: int, hidden: int, batch: int) -> float:
    """Of the matrix products of one gradient step: what is needed at least."""
    policy_forward = observations * hidden + hidden**2 + hidden * 2 * actions
    critic_forward = (observations + actions) * hidden + hidden**2 + hidden
    policy = 2 * policy_forward + policy_forward + hidden**2 + hidden * 2 * actions
    # Forward in the target, for both losses; weights' gradients once, activations' twice.
    critics = 2 * (3 * critic_forward + critic_forward + 2 * (hidden**2 + hidden))
    critics += 2 * actions * hidden
    return 2.0 * batch * (policy + critics)


def ours() -> Callable[[], float]:
    """Steps a second of `SAC`, collecting and learning, each compiled."""
    learner, problem = SAC(), Problem.of(HalfCheetahVel())

    @eqx.filter_jit(donate="all-except-first")
    def collect(fixed: tuple, state: SACState):
        return fixed[0].collect(fixed[1], state)

    @eqx.filter_jit(donate="all-except-first")
    def learn(fixed: tuple, state: SACState):
        return fixed[0].learn(fixed[1], state, fixed[2])

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps // learner.steps_per_update(problem)):
            state, experience = collect((learner, problem), state)
            state, _ = learn((learner, problem, experience), state)
        jax.block_until_ready(state.collected)

    run(1_088)  # over the random beginning, and compiled

    def once() -> float:
        started = time.perf_counter()
        run(STEPS)
        return STEPS / (time.perf_counter() - started)

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="an interpreter that has the other libraries")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    sides = {"stemrl": ours(), "products": products()}
    if options.peers:
        for name, library in LIBRARIES.items():
            seconds = peer(options.peers, "_sac_peer.py", library)
            sides[name] = lambda seconds=seconds: STEPS / seconds(STEPS)
    speed = alternate(sides, options.repeats)
    rows = [
        row(f"SAC over {name}, fixed figure", speed["stemrl"], FIXED[name], bar)
        for name, bar in BARS.items()
    ]
    rows += [
        row(f"SAC over {name}, in turns", speed["stemrl"], speed[name], None)
        for name in BARS
        if name in speed
    ]
    needed = flops(17, 6, 256, 256)
    path = write(
        "sac",
        rows,
        setting={
            "worlds": SAC().num_envs,
            "steps": STEPS,
            "repeats": options.repeats,
            "batch": 256,
            "hidden": [256, 256],
        },
        limit={
            "flop_per_gradient_step": needed,
            "matrix_products_flop_per_second": speed["products"],
            "steps_per_second_at_that_rate": speed["products"] / needed,
            "share_of_the_limit": speed["stemrl"] * needed / speed["products"],
        },
    )
    print(f"{speed['stemrl'] * needed / speed['products']:.0%} of what matrix products allow")
    print(path)


if __name__ == "__main__":
    main()
