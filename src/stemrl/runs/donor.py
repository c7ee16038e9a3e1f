"""Beginning a run from another one: what fits of its networks is taken over."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..core import AbstractLearner, Problem, State
from ..errors import UserError
from .config import RunConfig
from .run import Run, one_seed
from .starting import split_start


def begin_from(
    config: RunConfig, learner: AbstractLearner, problem: Problem, state: State
) -> tuple[State, str]:
    """Return `state`, just begun, with what fits of the run that `config` starts from; and a line
    that says what did not. Each seed begins from the same seed of that run, or all from its only
    one."""
    path, steps = split_start(config.start or "")
    run = Run.open(path)
    seeds = run.config.seeds
    if seeds not in (1, config.seeds):
        raise UserError(
            f"{path} has {seeds} seeds and this run {config.seeds}; start from a run of one seed or"
            " of as many"
        )
    found = run.state("last" if steps is None else steps)
    begun, left = [], []
    for seed in range(config.seeds):
        donated = one_seed(found, run.config, seed if seeds > 1 else 0)
        mine = one_seed(state, config, seed)
        one, left = learner.inherit(problem, mine, run.learner, donated)
        begun.append(one)
    whole = begun[0] if config.seeds == 1 else jax.tree.map(lambda *x: jnp.stack(x), *begun)
    # Copied: no two leaves may share a buffer, for the state is donated.
    return jax.tree.map(_copied, whole), _line(path, left)


def _copied(leaf: Any) -> Any:
    return jnp.array(leaf, copy=True)


def _line(path: Path, left: list[str]) -> str:
    if not left:
        return f"begun from {path}: all of its networks fit"
    few = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    return f"begun from {path}; not taken over, for want of a part of that name and shape: {few}"
