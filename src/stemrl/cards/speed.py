"""How fast tasks are learned: curves of each task's own return while one learner trains, and when they reach
a threshold."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core import AbstractFamily, AbstractLearner, Params, Problem
from ..rl import play
from .workshop import Workshop

Tasks = Mapping[str, tuple[AbstractFamily, Params]]
"""What to judge by: names, and of each a family and a task of it (without leading dimensions)."""


def learning_curves(
    workshop: Workshop,
    label: str,
    learner: AbstractLearner,
    problem: Problem,
    tasks: Tasks,
    *,
    updates: int,
    points: int,
    episodes: int,
) -> dict[str, Float[np.ndarray, "seeds points+1"]]:
    """Mean return of `episodes` episodes of each task, before the training and after each of `points`
    equal parts of `updates` updates, for each of the workshop's seeds: all seeds in one program, or one
    after another where a simulator is called."""
    workshop.settings[label] = {
        "method": learner.name,
        "family": problem.source.identity,
        "steps": updates * learner.steps_per_update(problem),
    }

    def advance(state: Any) -> Any:
        return jax.lax.scan(
            lambda s, _: (learner.update(problem, s)[0], None), state, length=updates // points
        )[0]

    def judge(state: Any, key: Any) -> Any:
        agent, found = learner.agent(problem, state), {}
        for name, (family, task) in tasks.items():
            params = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *jnp.shape(x))), task)
            context = jax.vmap(lambda p, family=family: problem.context(family, p))(params)
            found[name] = play(agent, family, params, context, key, 1).returns.mean()
        return found

    def compute() -> dict[str, np.ndarray]:
        together = problem.source.stepping == "jax"

        def begin(key: Any) -> Any:
            return learner.init(problem, key)

        begin_all, steps, scores = (
            jax.jit(jax.vmap(f, axes) if together else f)
            for f, axes in ((begin, (0,)), (advance, (0,)), (judge, (0, None)))
        )
        parts = []
        seeds = [jnp.asarray(workshop.seeds)] if together else list(workshop.seeds)
        for seed in seeds:
            workshop.say(f"{label}, seeds {np.asarray(seed)}")
            key = jax.vmap(jax.random.key)(seed) if together else jax.random.key(seed)
            state, rows = begin_all(key), []
            for point in range(points + 1):
                state = steps(state) if point else state
                found = scores(state, jax.random.key(10_000 + point))
                rows.append(jax.tree.map(lambda x: np.atleast_1d(np.asarray(x)), found))
            parts.append({name: np.stack([row[name] for row in rows], 1) for name in tasks})
        return {name: np.concatenate([part[name] for part in parts]) for name in tasks}

    return workshop.kept(label.replace(" ", "-"), compute)


def arrives(
    curves: Float[np.ndarray, "seeds points"], threshold: float
) -> Float[np.ndarray, " seeds"]:
    """1 for a curve that `reached` finds at the threshold, 0 for one that never is."""
    return (_smooth(curves) >= threshold).any(1).astype(float)


def reached(
    curves: Float[np.ndarray, "seeds points"], threshold: float
) -> Float[np.ndarray, " seeds"]:
    """The number of the point, from 0, at which a curve first is at the threshold and stays there on the
    mean of two points (between two points: where their straight line crosses it); the last where it never is:
    all of the training, which is less than would be needed."""
    smooth = _smooth(curves)
    there = smooth >= threshold
    first = np.where(there.any(1), there.argmax(1), curves.shape[1] - 1)
    found = []
    for row, at in zip(smooth, first, strict=True):
        if at > 0 and row[at] >= threshold:
            found.append(at - 1 + (threshold - row[at - 1]) / max(row[at] - row[at - 1], 1e-9))
        else:
            found.append(float(at))
    return np.asarray(found)


def _smooth(curves: Float[np.ndarray, "seeds points"]) -> Float[np.ndarray, "seeds points"]:
    """The mean of each point and the next."""
    return (curves + np.concatenate([curves[:, 1:], curves[:, -1:]], 1)) / 2
