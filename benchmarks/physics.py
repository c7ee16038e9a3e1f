"""Half-cheetah steps a second inside `play`, against MuJoCo alone and against Gymnasium.

    python benchmarks/physics.py

Ours: `play` of 20 tasks × 20 episodes × 100 steps, compiled, with a 2×100 tanh network of its own
for every task: networks, sampling, rewards and bookkeeping included. Theirs: a bare loop over
`mujoco.rollout` with the same batch, frame skip and threads, and random controls drawn beforehand;
a Gymnasium `AsyncVectorEnv` of 16 worlds and a single Gymnasium world, both with random actions
drawn beforehand. Only the bare loop sees no policy, no reward and no observation.
"""

import time

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np
from jaxtyping import Array

from _common import alternate, row, write
from stemrl.core import AbstractAgent
from stemrl.networks import MLP
from stemrl.physics import HalfCheetahDir
from stemrl.physics.engine import FULL, thread_count
from stemrl.rl import play

TASKS, EPISODES, HORIZON = 20, 20, 100
WORLDS = 16
REPEATS = 7


class Player(AbstractAgent):
    """A Gaussian policy whose memory is its network's weights."""

    width: int = eqx.field(static=True, default=EPISODES)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context, key):
        return MLP(17, 6, (100, 100), "tanh", key=key)

    def begin(self, memory, key):
        return ()

    def act(self, memory, carry, obs, key):
        mean = memory(obs)
        noise = jax.random.normal(key, mean.shape)
        return mean + noise, carry, {"log_prob": -0.5 * jnp.sum(noise**2)}


def ours():
    """Steps a second of a compiled `play`."""
    family = HalfCheetahDir(horizon=HORIZON)
    agent = Player()

    @jax.jit
    def run(key: Array):
        params = family.tasks(jax.random.key(0), "train", TASKS)
        return play(agent, family, params, None, key, 1).transitions

    jax.block_until_ready(run(jax.random.key(0)))
    seed = iter(range(1, 1_000))

    def once() -> float:
        started = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(next(seed))))
        return TASKS * EPISODES * HORIZON / (time.perf_counter() - started)

    return once


def bare():
    """Steps a second of `mujoco.rollout` on the same batch and threads."""
    family = HalfCheetahDir()
    engine = family.env.engine
    model, n, skip = engine.nominal, TASKS * EPISODES, engine.frame_skip
    threads = thread_count()
    data = [mujoco.MjData(model) for _ in range(threads)]
    keys = jax.random.split(jax.random.key(0), n)
    _, states = jax.vmap(family.env.reset, in_axes=(0, None))(keys, {})
    size = mujoco.mj_stateSize(model, FULL)
    start = np.array(states).view(np.float64)[:, :size].copy()
    rng = np.random.default_rng(0)
    controls = rng.uniform(-1, 1, (HORIZON, n, 1, model.nu)).repeat(skip, axis=2)
    out, sensors = np.empty((n, skip, size)), np.empty((n, skip, 0))

    def once() -> float:
        with mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0) as pool:
            state = start.copy()
            started = time.perf_counter()
            for control in controls:
                pool.rollout(
                    [model] * n,
                    data,
                    state,
                    control,
                    skip_checks=True,
                    nstep=skip,
                    state=out,
                    sensordata=sensors,
                )
                state[:] = out[:, -1]
            return n * HORIZON / (time.perf_counter() - started)

    return once


def asynchronous():
    """Steps a second of Gymnasium's own vector of processes."""
    worlds = gymnasium.make_vec("HalfCheetah-v5", num_envs=WORLDS, vectorization_mode="async")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (400, WORLDS, 6)).astype(np.float32)
    worlds.reset(seed=0)

    def once() -> float:
        started = time.perf_counter()
        for action in actions:
            worlds.step(action)
        return WORLDS * len(actions) / (time.perf_counter() - started)

    return once, worlds


def single():
    """Steps a second of one Gymnasium world."""
    world = gymnasium.make("HalfCheetah-v5")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (10_000, 6)).astype(np.float32)
    world.reset(seed=0)

    def once() -> float:
        started = time.perf_counter()
        for action in actions:
            *_, truncated, _ = world.step(action)
            if truncated:
                world.reset()
        return len(actions) / (time.perf_counter() - started)

    return once


def main() -> None:
    """Measure, print, write."""
    vector, worlds = asynchronous()
    sides = {"ours": ours(), "bare": bare(), "async": vector, "single": single()}
    speed = alternate(sides, REPEATS)
    worlds.close()
    write(
        "physics",
        [
            row("play over bare mujoco.rollout", speed["ours"], speed["bare"], 0.85),
            row(f"play over AsyncVectorEnv of {WORLDS}", speed["ours"], speed["async"], 5.0),
            row("play over one Gymnasium world", speed["ours"], speed["single"], 1.7),
        ],
        setting=f"half-cheetah, {TASKS} tasks × {EPISODES} episodes × {HORIZON} steps, "
        f"2×100 tanh policy a task, {thread_count()} threads, median of {REPEATS}",
    )


if __name__ == "__main__":
    main()
