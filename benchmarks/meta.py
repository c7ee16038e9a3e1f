"""Meta-RL that infers its task, steps a second of training, against the code of the methods' authors:
PEARL on the sparse point, VariBAD and RL² on the grid.

    python benchmarks/meta.py [--peers PYTHON --pearl OYSTER --varibad VARIBAD] [--repeats 5]

OYSTER and VARIBAD are folders with github.com/katerakelly/oyster and github.com/lmzintgraf/varibad,
PYTHON is an interpreter that has `torch` and `numpy` below 2. What is changed so that the authors' code
runs, `_pearl_peer.py` and `_varibad_peer.py` say. Without them, PEARL alone is compared with what the
machine can multiply.

PEARL, both sides, twice: at the authors' sizes (policy and critics of 300-300-300, encoder of
200-200-200, 16 tasks × 256 steps and a context of 1,024 steps a gradient step, one gradient step for ten
environment steps), and at those of the card `pearl-point-sparse` (64-64, 16 × 32, a context of 400, one
for forty). Environment steps a second, the gradient steps that belong to them included. A turn is a part
of an iteration: one task, and 10 or 20 gradient steps. The authors' learner has a value network that ours
leaves out.

VariBAD and RL², both sides: the authors' sizes for the grid (GRU of 64, latent of 5, policy layer of 32,
decoder of 32-32, 60 steps of 16 worlds an update, 2 epochs of 4 minibatches). Their encoder learns from 3
× 25 trials an update, ours from 5 × 16. Besides, ours with 200 worlds, the number that its cards use: the
authors' worlds are processes.

Both sides compute with one thread each (`NPROC` for XLA): on layers this small the authors' is the faster
the fewer it has, on shared cores more than tenfold. What the machine did besides is told with the results.

The limit: matrix products of 256 × 256 × 256 alone, and what share of their rate PEARL's gradient steps
reach at the authors' sizes, where products are nearly all of the work.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

# Before JAX starts.
os.environ["NPROC"] = "1"

import equinox as eqx
import jax

from _common import alternate, peer, products, row, write
from stemrl.core import Problem
from stemrl.registry import make

HORIZON = 20
PEARL = {
    "the authors' sizes": {
        "hidden": (300, 300, 300),
        "encoder_hidden": (200, 200, 200),
        "latent_size": 5,
        "batch_size": 256,
        "context_batch_size": 1024,
        "prior_episodes": 1,
        "posterior_episodes": 4,
        "gradient_steps": 10,
        "posterior_context": True,
    },
    "its card's sizes": {
        "hidden": (64, 64),
        "encoder_hidden": (64, 64),
        "latent_size": 2,
        "batch_size": 32,
        "context_batch_size": 400,
        "prior_episodes": 20,
        "posterior_episodes": 20,
        "gradient_steps": 20,
        "posterior_context": False,
    },
}
META_BATCH, TASKS = 16, 80
GRID = {
    "rl2": {"head_hidden_size": 32},
    "varibad": {
        "latent_size": 5,
        "hidden": (32,),
        "reward_inputs": "next_state",
        "decoder_hidden": (32, 32),
        "vae_epochs": 5,
        "vae_minibatches": 1,
    },
}
GRID_SHARED = {"hidden_size": 64, "epochs": 2, "minibatches": 4, "clip": 0.05, "discount": 0.95}
TRIAL = 60
"""Steps of a trial on the grid: 4 episodes of 15."""
WORLDS = {"16 worlds": 16, "200 worlds": 200}
NAMES = {"rl2": "RL²", "varibad": "VariBAD"}


def ours(method: str, family: str, settings: dict[str, Any], updates: int, warm_up: int = 1):
    """Environment steps a second over some whole updates."""
    learner, problem = make("methods", method, **settings), Problem.of(make("families", family))

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple, state: Any):
        return fixed[0].update(fixed[1], state)

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))

    def run(updates: int) -> None:
        nonlocal state
        for _ in range(updates):
            state, _ = update((learner, problem), state)
        jax.block_until_ready(state)

    run(warm_up)

    def once() -> float:
        started = time.perf_counter()
        run(updates)
        return updates * learner.steps_per_update(problem) / (time.perf_counter() - started)

    return once


def pearl(sizes: dict[str, Any]) -> Callable[[], float]:
    """Ours, once every task has been played."""
    settings = {
        "tasks": TASKS,
        "collect_tasks": 1,
        "meta_batch_size": META_BATCH,
        "recent_episodes": sizes["prior_episodes"] + sizes["posterior_episodes"],
        "discount": 0.9,
        "reward_scale": 100.0,
        "learn_temperature": False,
        **sizes,
    }
    return ours("pearl", "point-sparse", settings, updates=1, warm_up=TASKS)


def pearl_peer(python: str, checkout: str, sizes: dict[str, Any]) -> Callable[[], float]:
    """The authors', of the same sizes."""
    prior, after = (HORIZON * sizes[f"{kind}_episodes"] for kind in ("prior", "posterior"))
    settings = {
        **{name: sizes[name] for name in ("latent_size", "hidden", "encoder_hidden", "batch_size")},
        "threads": 1,
        "embedding_batch_size": sizes["context_batch_size"],
        "embedding_mini_batch_size": sizes["context_batch_size"],
        "meta_batch": META_BATCH,
        "num_initial_steps": 200,
        "num_tasks_sample": 1,
        "num_steps_prior": prior,
        "num_steps_posterior": after if sizes["posterior_context"] else 0,
        "num_extra_rl_steps_posterior": 0 if sizes["posterior_context"] else after,
        "num_train_steps_per_itr": sizes["gradient_steps"],
        "max_path_length": HORIZON,
        "discount": 0.9,
        "reward_scale": 100.0,
        "soft_target_tau": 0.005,
    }
    seconds = peer(python, "_pearl_peer.py", checkout, json.dumps(settings))
    return lambda: (prior + after) / seconds(1)


def grid(method: str, worlds: int) -> Callable[[], float]:
    """Ours, about as many steps a turn whatever the number of worlds."""
    settings = {**GRID_SHARED, **GRID[method], "batch_steps": TRIAL * worlds}
    return ours(method, "gridnavi", settings, updates=800 // worlds)


def flops(sizes: dict[str, Any]) -> float:
    """Of the matrix products of one of PEARL's gradient steps: what is needed, about."""
    latent = sizes["latent_size"]

    def forward(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
        layers = (inputs, *hidden, outputs)
        return sum(a * b for a, b in itertools.pairwise(layers))

    policy = forward(2 + latent, sizes["hidden"], 4)
    critic = forward(4 + latent, sizes["hidden"], 1)
    encoder = forward(5, sizes["encoder_hidden"], 2 * latent)
    # Forward and backward cost 1 and 2. Policy: at the next step, and learned. Each critic: the
    # target, learned, and forward and half of backward for the policy.
    steps = sizes["batch_size"] * (4 * policy + 2 * 6 * critic)
    return 2.0 * META_BATCH * (steps + sizes["context_batch_size"] * 3 * encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="an interpreter for the authors' code")
    parser.add_argument("--pearl", help="a checkout of PEARL's")
    parser.add_argument("--varibad", help="a checkout of VariBAD's")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    sides: dict[Any, Callable[[], float]] = {"products": products()}
    for name, sizes in PEARL.items():
        sides["pearl", name] = pearl(sizes)
        if options.peers and options.pearl:
            sides["pearl", name, "peer"] = pearl_peer(options.peers, options.pearl, sizes)
    for method in GRID:
        for name, worlds in WORLDS.items():
            sides[method, name] = grid(method, worlds)
        if options.peers and options.varibad:
            seconds = peer(options.peers, "_varibad_peer.py", options.varibad, method)
            sides[method, "peer"] = lambda seconds=seconds: 16 * TRIAL / seconds(1)
    speed = alternate(sides, options.repeats)

    needed = flops(first := PEARL["the authors' sizes"])
    each = HORIZON * (first["prior_episodes"] + first["posterior_episodes"])
    each /= first["gradient_steps"]
    limit = each * speed["products"] / needed
    reached = speed["pearl", "the authors' sizes"]
    rows = [
        row(f"PEARL over its authors' code in turns, {name}", speed["pearl", name], theirs, 5)
        for name in PEARL
        if (theirs := speed.get(("pearl", name, "peer")))
    ]
    rows += [
        row(
            f"{NAMES[method]} over VariBAD's authors' code in turns, ours {name}",
            speed[method, name],
            theirs,
            50,
        )
        for method in GRID
        for name in WORLDS
        if (theirs := speed.get((method, "peer")))
    ]
    rows.append(
        row("PEARL over what matrix products allow, the authors' sizes", reached, limit, None)
    )
    write(
        "meta",
        rows,
        setting={
            "repeats": options.repeats,
            "threads of each side": 1,
            "load of the machine's cores by all its jobs": os.getloadavg()[1],
            "the authors' worlds on the grid": 16,
        },
        limit={
            "flop_per_gradient_step": needed,
            "matrix_products_flop_per_second": speed["products"],
            "steps_per_second_at_that_rate": limit,
            "share_of_the_limit": reached / limit,
        },
    )


if __name__ == "__main__":
    main()
