"""A run's agent in NumPy: a folder that needs neither JAX nor stemrl."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..core import AbstractAgent, Transition, UserError, unscale_action
from ..rl.experience import like, strong
from ..runs import Run
from ..runs.files import write_whole, writing
from ..runs.run import Which
from . import numpy_agent
from .programs import Writer

RUNTIME = Path(numpy_agent.__file__)
TOLERANCE = 1e-3
"""By how much a result in NumPy may differ from JAX's, relative to its size where that is above 1."""
KEYS = 3
"""Random keys by which each function is compared."""


class Exported(NamedTuple):
    """What was written, and how well it agrees."""

    path: Path
    difference: float
    """The largest difference of any result from JAX's, relative to its size where that is above 1."""


def export_numpy(
    run: Run,
    out: str | Path,
    *,
    which: Which = "last",
    member: int = 0,
    most_likely: bool = False,
) -> Exported:
    """Write an agent of a run to the folder `out`, which must be new or empty, as NumPy alone can play it, and
    compare each of its functions with the original.

    The folder holds `numpy_agent.py`, whose `Agent` plays as `stemrl.Player` does and adapts as it does,
    `programs.json` and `arrays.npz`.

    **Arguments:** `which` and `member`: the checkpoint, and which of the run's seeds (from 0); `most_likely`:
    the most likely action instead of a sampled one.

    Raises `UserError` for a supervised run, for an agent with an operation that the runtime does not know, and
    where the results differ by more than rounding.
    """
    out = Path(out)
    if run.supervised:
        raise UserError(f"{run.path} learned from labelled examples, and does not act")
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is in the way; give a new folder")
    agent = run.agent(which, member)
    if most_likely:
        agent = dataclasses.replace(agent, greedy=True)
    writer, functions = Writer(), _functions(agent, run)
    programs = {name: writer.write(f, *examples) for name, (f, examples) in functions.items()}
    _, (_, carry, *_) = functions["act"]
    about = {
        "format": numpy_agent.FORMAT,
        **_about(agent, run),
        "carries": len(jax.tree.leaves(carry)),
        "programs": programs,
    }
    difference = max(
        _difference(
            numpy_agent.Program(json.loads(json.dumps(programs[name])), writer.arrays), f, examples
        )
        for name, (f, examples) in functions.items()
    )
    if not difference < TOLERANCE:
        raise UserError(
            f"in NumPy this agent differs from the original by {difference:.2g}; stemrl.Player plays it where JAX"
            " is installed"
        )
    stored = io.BytesIO()
    arrays: Any = writer.arrays  # names are hexadecimal, none of savez's own
    np.savez(stored, **arrays)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "arrays.npz", stored.getvalue())
        write_whole(out / "programs.json", json.dumps(about).encode())
        shutil.copyfile(RUNTIME, out / RUNTIME.name)
    return Exported(out, difference)


def _functions(agent: AbstractAgent, run: Run) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """The agent's five functions, compiled, with examples of what they take, keys as pairs of words."""
    problem = run.problem
    family, key = problem.target, jnp.zeros(2, jnp.uint32)
    params = family.sample(jax.random.key(0), "test")
    told = None if problem.reveal == "nothing" else jnp.asarray(problem.context(family, params))
    start = jax.jit(lambda c, k: strong(agent.start(c, k)))
    begin = jax.jit(lambda m, k: strong(agent.begin(m, k)))
    memory = start(told, key)
    carry = begin(memory, key)
    space = family.observation_space
    obs = jnp.asarray(_example(space))
    watches, adapts = _watches(agent), _adapts(agent)

    @jax.jit
    def act(memory: Any, carry: Any, obs: Any, key: PRNGKeyArray) -> Any:
        action, after, info = agent.act(memory, carry, obs, key)
        kept = info if watches or adapts else {}
        return action, unscale_action(family.action_space, action), like(after, carry), kept

    action, _, after, info = act(memory, carry, obs, key)
    flag = jnp.asarray(False)
    step = (obs, action, jnp.float32(0.5), flag, flag, obs, jnp.asarray(True), info)

    def transition(*leaves: Any) -> Transition:
        obs, action, reward, terminated, truncated, after, valid, info = leaves
        return Transition(obs, action, reward, terminated, truncated, after, valid, info, {})

    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "start": (start, (told, key)),
        "begin": (begin, (memory, key)),
        "act": (act, (memory, carry, obs, key)),
    }
    if watches:
        observe = lambda m, c, *leaves: like(agent.observe(m, c, transition(*leaves)), c)  # noqa: E731
        found["observe"] = (jax.jit(observe), (memory, after, *step))
    if adapts:
        shape = (agent.episodes_per_round, family.horizon)
        stacked = lambda leaf, lead: jnp.broadcast_to(leaf, (*lead, *jnp.shape(leaf)))  # noqa: E731
        steps = jax.tree.map(lambda leaf: stacked(leaf, shape), step)
        carries = jax.tree.map(lambda leaf: stacked(leaf, shape[:1]), carry)

        @jax.jit
        def adapt(memory: Any, carries: Any, *given: Any) -> Any:
            *leaves, key = given
            return like(agent.adapt(memory, carries, transition(*leaves), key), memory)

        found["adapt"] = (adapt, (memory, carries, *steps, key))
    if told is not None and isinstance(params, dict):
        # The runtime gives them in the order of their names.
        names = sorted(params)
        context = jax.jit(lambda *given: family.context(dict(zip(names, given, strict=True))))
        found["context"] = (context, tuple(params[name] for name in names))
    return found


def _about(agent: AbstractAgent, run: Run) -> dict[str, Any]:
    """What the runtime must know beside the programs."""
    problem, family = run.problem, run.problem.target
    params = jax.eval_shape(lambda: family.sample(jax.random.key(0), "test"))
    told = problem.reveal != "nothing"
    space = family.observation_space
    context = jax.eval_shape(lambda p: problem.context(family, p), params) if told else None
    named = told and isinstance(params, dict) and all(hasattr(v, "dtype") for v in params.values())
    return {
        "method": run.config.method,
        "family": family.identity,
        "horizon": family.horizon,
        "episodes_per_round": agent.episodes_per_round,
        "watches": _watches(agent),
        "adapts": _adapts(agent),
        "observation": {"shape": list(space.shape), "dtype": np.dtype(space.dtype).name},
        "context": None if context is None else list(context.shape),
        "task": {k: np.dtype(params[k].dtype).name for k in sorted(params)} if named else None,
    }


def _watches(agent: AbstractAgent) -> bool:
    return type(agent).observe is not AbstractAgent.observe


def _adapts(agent: AbstractAgent) -> bool:
    return type(agent).adapt is not AbstractAgent.adapt


def _example(space: Any) -> np.ndarray:
    """An observation of this shape."""
    if np.dtype(space.dtype).kind == "f":
        return np.random.default_rng(0).normal(size=space.shape).astype(space.dtype)
    return np.zeros(space.shape, space.dtype)


def _difference(program: numpy_agent.Program, function: Any, examples: tuple[Any, ...]) -> float:
    """The largest difference between a program's results and its function's, for several keys."""
    worst = 0.0
    for seed in range(KEYS):
        given = examples
        if getattr(examples[-1], "shape", None) == (2,) and examples[-1].dtype == jnp.uint32:
            given = (*examples[:-1], jax.random.key_data(jax.random.key(seed)))
        theirs = jax.tree.leaves(function(*given))
        ours = program(*(np.asarray(leaf) for leaf in jax.tree.leaves(given)))
        for mine, other in zip(ours, theirs, strict=True):
            exact = np.asarray(other, float)
            far = np.abs(np.asarray(mine, float) - exact) / np.maximum(1.0, np.abs(exact))
            worst = max(worst, float(np.max(far, initial=0.0)))
    return worst
