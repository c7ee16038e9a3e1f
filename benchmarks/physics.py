"""Half-cheetah steps a second inside `play`, against MuJoCo alone and against Gymnasium.

    python benchmarks/physics.py

Ours: `play` of 20 tasks × 20 episodes × 100 steps, compiled, with a 2×100 tanh network of its own
for every task: networks, sampling, rewards and bookkeeping included. Theirs: a bare loop over
`mujoco.rollout` that replays the very same batch (starts, controls, frame skip, threads); a
Gymnasium `AsyncVectorEnv` of 16 worlds and a single Gymnasium world, both given the same controls.
None of theirs has a policy to ask.
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
from stemrl.core import AbstractAgent, Params, unscale_action
from stemrl.machine import cores
from stemrl.networks import MLP
from stemrl.physics import HalfCheetahDir
from stemrl.physics.engine import FULL
from stemrl.rl import play

TASKS, EPISODES, HORIZON = 20, 20, 100
WORLDS = 16
REPEATS = 7


class Player(AbstractAgent):
    """A Gaussian policy whose memory is its network's weights, handed over as the context."""

    episodes_per_round: int = eqx.field(static=True, default=EPISODES)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context, key):
        return context

    def begin(self, memory, key):
        return ()

    def act(self, memory, carry, obs, key):
        mean = memory(obs)
        noise = jax.random.normal(key, mean.shape)
        return mean + noise, carry, {"log_prob": -0.5 * jnp.sum(noise**2)}


def ours():
    """Steps a second of a compiled `play`; and the first observations `[n, 17]` and the controls
    `[n, time, 6]` of what it played."""
    family = HalfCheetahDir(horizon=HORIZON)
    agent = Player()

    params = family.tasks(jax.random.key(0), "train", TASKS)
    keys = jax.random.split(jax.random.key(1), TASKS)
    weights = jax.vmap(lambda key: MLP(17, 6, (100, 100), "tanh", key=key))(keys)

    @jax.jit
    def run(params: Params, weights: MLP, key: Array):
        return play(agent, family, params, weights, key, 1).transitions

    played = run(params, weights, jax.random.key(0))
    controls = unscale_action(family.action_space, played.action)
    controls = np.asarray(controls, np.float64).reshape(-1, HORIZON, 6)
    starts = np.asarray(played.obs, np.float64).reshape(-1, HORIZON, 17)[:, 0]

    def once() -> float:
        started = time.perf_counter()
        jax.block_until_ready(run(params, weights, jax.random.key(0)))
        return TASKS * EPISODES * HORIZON / (time.perf_counter() - started)

    return once, starts, controls


def bare(starts: np.ndarray, controls: np.ndarray):
    """Steps a second of `mujoco.rollout` on the same batch and threads."""
    engine = HalfCheetahDir().env.engine
    model, n, skip = engine.nominal, len(starts), engine.frame_skip
    threads = cores()
    data = [mujoco.MjData(model) for _ in range(threads)]
    size = mujoco.mj_stateSize(model, FULL)
    # Time, where along the track, then what is observed.
    start = np.concatenate([np.zeros((n, 2)), starts], 1)
    held = controls.swapaxes(0, 1)[:, :, None].repeat(skip, axis=2)
    out, sensors = np.empty((n, skip, size)), np.empty((n, skip, 0))
    pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)

    def once() -> float:
        state = start.copy()
        started = time.perf_counter()
        for control in held:
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


def asynchronous(worlds: gymnasium.vector.VectorEnv, controls: np.ndarray):
    """Steps a second of Gymnasium's own vector of processes."""
    actions = controls[:WORLDS].swapaxes(0, 1).astype(np.float32)

    def once() -> float:
        worlds.reset(seed=0)
        started = time.perf_counter()
        for action in actions:
            worlds.step(action)
        return WORLDS * HORIZON / (time.perf_counter() - started)

    return once


def single(controls: np.ndarray):
    """Steps a second of one Gymnasium world."""
    world = gymnasium.make("HalfCheetah-v5")
    episodes = controls[:50].astype(np.float32)

    def once() -> float:
        started = time.perf_counter()
        for actions in episodes:
            world.reset(seed=0)
            for action in actions:
                world.step(action)
        return len(episodes) * HORIZON / (time.perf_counter() - started)

    return once


def main() -> None:
    """Measure, print, write."""
    # It forks, so before JAX has threads.
    worlds = gymnasium.make_vec("HalfCheetah-v5", num_envs=WORLDS, vectorization_mode="async")
    run, starts, controls = ours()
    sides = {
        "ours": run,
        "bare": bare(starts, controls),
        "async": asynchronous(worlds, controls),
        "single": single(controls),
    }
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
        f"2×100 tanh policy a task, {cores()} threads, median of {REPEATS}",
    )


if __name__ == "__main__":
    main()
