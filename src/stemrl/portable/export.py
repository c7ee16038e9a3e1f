"""A run's agent in NumPy: a folder that needs neither JAX nor stemrl."""

import dataclasses
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractAgent, Transition, UserError, unscale_action
from ..errors import said
from ..rl.experience import like, strong
from ..runs import Run
from ..runs.files import refuse_full, write_whole, writing
from ..runs.run import Which
from . import numpy_agent
from .programs import Writer

RUNTIME = Path(numpy_agent.__file__)
TOLERANCE = 1e-3
"""By how much a result in NumPy may differ from JAX's, relative to its size where that is above 1."""
SCALES = (1.0, 3.0, 10.0)
"""Of the observations and rewards with which each function is compared, each time with another random key."""


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
    refuse_full(out)
    agent = run.agent(which, member)
    if most_likely:
        agent = dataclasses.replace(agent, greedy=True)
    writer, functions = Writer(), _functions(agent, run)
    programs = {name: writer.write(f, *examples[0]) for name, (f, examples) in functions.items()}
    _, ((_, carry, *_), *_) = functions["act"]
    about = {
        "format": numpy_agent.FORMAT,
        **_about(agent, run),
        "carries": len(jax.tree.leaves(carry)),
        "programs": programs,
    }
    try:
        difference = max(
            _difference(
                numpy_agent.Program(json.loads(json.dumps(programs[name])), writer.arrays), *both
            )
            for name, both in functions.items()
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"the runtime in NumPy cannot play this agent ({said(error)}); stemrl.Player plays it where JAX is"
            " installed"
        ) from error
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


def _functions(agent: AbstractAgent, run: Run) -> dict[str, tuple[Any, list[tuple[Any, ...]]]]:
    """The agent's functions, compiled, each with several examples of what it takes, keys as pairs of words."""
    problem = run.problem
    family, key = problem.target, jnp.zeros(2, jnp.uint32)
    params = family.sample(jax.random.key(0), "test")
    told = None if problem.reveal == "nothing" else jnp.asarray(problem.context(family, params))
    start = jax.jit(lambda c, k: strong(agent.start(c, k)))
    begin = jax.jit(lambda m, k: strong(agent.begin(m, k)))
    memory = start(told, key)
    carry = begin(memory, key)
    watches, adapts = _watches(agent), _adapts(agent)

    @jax.jit
    def act(memory: Any, carry: Any, obs: Any, key: PRNGKeyArray) -> Any:
        action, after, info = agent.act(memory, carry, obs, key)
        kept = info if watches or adapts else {}
        return action, unscale_action(family.action_space, action), like(after, carry), kept

    def transition(*leaves: Any) -> Transition:
        obs, action, reward, terminated, truncated, after, valid, info = leaves
        return Transition(obs, action, reward, terminated, truncated, after, valid, info, {})

    @jax.jit
    def observe(memory: Any, carry: Any, *leaves: Any) -> Any:
        return like(agent.observe(memory, carry, transition(*leaves)), carry)

    @jax.jit
    def adapt(memory: Any, carries: Any, *given: Any) -> Any:
        *leaves, key = given
        return like(agent.adapt(memory, carries, transition(*leaves), key), memory)

    shape = (agent.episodes_per_round, family.horizon)
    seen = [_example(family.observation_space, scale) for scale in SCALES]
    acted = [act(memory, carry, obs, key) for obs in seen]
    # The last step of each episode is none, and the one before it ended the task.
    valid = jnp.broadcast_to(jnp.arange(shape[1]) < max(1, shape[1] - 1), shape)
    ended = jnp.broadcast_to(jnp.arange(shape[1]) == max(0, shape[1] - 2), shape)

    def stacked(tree: Any, lead: tuple[int, ...]) -> Any:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*lead, *jnp.shape(x))), tree)

    observed, adapted, none = [], [], jnp.asarray(False)
    for obs, (action, _, after, info), scale in zip(seen, acted, SCALES, strict=True):
        paid = jnp.float32(0.5 * scale)
        step = (obs, action, paid, none, none, obs, ~none, info)
        observed.append((memory, after, *step))
        if adapts:
            obs, action, paid, _, _, following, _, info = stacked(step, shape)
            steps = (obs, action, paid, ended, jnp.zeros(shape, bool), following, valid, info)
            adapted.append((memory, stacked(carry, shape[:1]), *steps, key))
    found: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
        "start": (start, [(told, key)] * len(SCALES)),
        "begin": (begin, [(memory, key)] * len(SCALES)),
        "act": (act, [(memory, carry, obs, key) for obs in seen]),
    }
    if watches:
        found["observe"] = (observe, observed)
    if adapts:
        found["adapt"] = (adapt, adapted)
    if told is not None and isinstance(params, dict):
        # The runtime gives them in the order of their names.
        names = sorted(params)
        context = jax.jit(lambda *given: family.context(dict(zip(names, given, strict=True))))
        found["context"] = (context, [tuple(params[name] for name in names)])
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
        # By name: the type, and the shape.
        "task": {k: [np.dtype(params[k].dtype).name, list(params[k].shape)] for k in sorted(params)}
        if named
        else None,
    }


def _watches(agent: AbstractAgent) -> bool:
    return type(agent).observe is not AbstractAgent.observe


def _adapts(agent: AbstractAgent) -> bool:
    return type(agent).adapt is not AbstractAgent.adapt


def _example(space: Any, scale: float) -> Array:
    """An observation of this shape, whose numbers are of this size."""
    if np.dtype(space.dtype).kind == "f":
        numbers = np.random.default_rng(0).normal(size=space.shape, scale=scale)
        return jnp.asarray(numbers.astype(space.dtype))
    return jnp.zeros(space.shape, space.dtype)


def _difference(
    program: numpy_agent.Program, function: Any, examples: list[tuple[Any, ...]]
) -> float:
    """The largest difference between a program's results and its function's; infinite where one of them is
    not a number and the other is, or where their shapes differ."""
    worst = 0.0
    for seed, given in enumerate(examples):
        if getattr(given[-1], "shape", None) == (2,) and given[-1].dtype == jnp.uint32:
            given = (*given[:-1], jax.random.key_data(jax.random.key(seed)))
        theirs = jax.tree.leaves(function(*given))
        ours = program(*(np.asarray(leaf) for leaf in jax.tree.leaves(given)))
        for mine, other in zip(ours, theirs, strict=True):
            exact, found = np.asarray(other), np.asarray(mine)
            if (exact.shape, exact.dtype) != (found.shape, found.dtype):
                return math.inf
            exact, found = exact.astype(float), found.astype(float)
            with np.errstate(invalid="ignore"):
                far = np.abs(found - exact) / np.maximum(1.0, np.abs(exact))
            same = (found == exact) | (np.isnan(found) & np.isnan(exact))
            far = np.where(same, 0.0, np.where(np.isnan(far), math.inf, far))
            worst = max(worst, float(np.max(far, initial=0.0)))
    return worst
