"""What transfer costs: DARC and DANN over their inner learner on the same steps of the source, EPOpt over
plain randomization on the same episodes, a picture over the numbers that it shows.

    python benchmarks/transfer.py [--repeats 5] [--updates 4]

Every side is one compiled update after the other, past its first. PPO is the inner learner, with its own
settings, on a half-cheetah (DARC), on pictures (DANN) and on the hopper with parameters (EPOpt, whose
twin learns from all episodes and not the worst tenth). Adaptation includes its visits of the target, a tenth
as many steps. Bars: at most 1.3 times the seconds of the inner learner, EPOpt at most 1.2.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from _common import alternate, row, write
from stemrl.core import AbstractLearner, Problem
from stemrl.physics import HopperParams
from stemrl.physics.off_dynamics import HalfCheetahBroken
from stemrl.rl import PPO
from stemrl.tasks.pixels import PixelDrive
from stemrl.transfer import DANN, DARC, EPOpt

ENOUGH = 2**30
"""A budget that is never spent."""
PICTURES = 200
"""Steps that each of 64 worlds takes in a turn."""


def seconds(learner: AbstractLearner, problem: Problem, updates: int) -> Callable[[], float]:
    """Seconds that so many updates take, compiled, one after the other."""

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple, state: Any) -> Any:
        return fixed[0].update(fixed[1], state)[0]

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))

    def run(count: int = updates) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(count):
            state = update((learner, problem), state)
        jax.block_until_ready(jax.tree.leaves(state)[0])
        return time.perf_counter() - began

    run(2)
    return run


def stepping(family: PixelDrive) -> Callable[[], float]:
    """Steps a second of 64 worlds in one compiled program."""
    params = family.sample(jax.random.key(0), "train")

    @jax.jit
    def play(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 64)
        _, states = jax.vmap(lambda k: family.env.reset(k, params))(keys)
        action = jnp.full((64, 1), 0.1)

        def one(states: Any, _: None) -> tuple[Any, jax.Array]:
            obs, states, *_ = jax.vmap(lambda k, s, a: family.env.step(k, s, a, params))(
                keys, states, action
            )
            # Of every number shown, so that none is left out.
            return states, jnp.sum(obs.astype(jnp.float32))

        return jax.lax.scan(one, states, None, length=PICTURES)[1]

    jax.block_until_ready(play(jax.random.key(0)))

    def run() -> float:
        began = time.perf_counter()
        jax.block_until_ready(play(jax.random.key(1)))
        return 64 * PICTURES / (time.perf_counter() - began)

    return run


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=4)
    arguments = parser.parse_args()
    cheetah = Problem(HalfCheetahBroken(), HalfCheetahBroken(broken=True), ENOUGH)
    road = Problem(PixelDrive(), PixelDrive(looks="target"), ENOUGH)
    hoppers = Problem.of(HopperParams())
    ppo, seeing = PPO(), PPO(num_envs=16, rollout_length=50, epochs=4, minibatches=4, hidden=(32,))
    adversary = DANN(learner=seeing, capacity=4_000)
    ours = {
        "DARC over PPO, half-cheetah": (DARC(learner=ppo), ppo, cheetah, 1.3),
        "DANN (shared form) over PPO, pictures": (adversary, seeing, road, 1.3),
        "EPOpt over plain randomization, hopper": (
            EPOpt(learner=ppo, episodes=16, epsilon=0.1, warm_up_updates=0),
            EPOpt(learner=ppo, episodes=16, epsilon=1.0, warm_up_updates=0),
            hoppers,
            1.2,
        ),
    }
    rows = []
    for name, (learner, inner, problem, most) in ours.items():
        found = alternate(
            {
                "ours": seconds(learner, problem, arguments.updates),
                "inner": seconds(inner, problem, arguments.updates),
            },
            arguments.repeats,
        )
        # The bar is on the ratio inner / ours.
        rows.append(row(name, found["ours"], found["inner"], 1 / most, lower=True, unit="s"))
    found = alternate(
        {"rendered": stepping(PixelDrive()), "numbers": stepping(PixelDrive(render=False))},
        arguments.repeats,
    )
    rows.append(
        row("pixel-drive, rendered over its numbers", found["rendered"], found["numbers"], None)
    )
    setting = {
        "updates": arguments.updates,
        "repeats": arguments.repeats,
        "pictures": 64 * PICTURES,
    }
    write("transfer", rows, setting=setting)


if __name__ == "__main__":
    main()
