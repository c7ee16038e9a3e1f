"""A point and tables of goals: trainings that differ only in which goals they see, as one program."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import Params, Problem
from ..rl import PPO, play
from ..tasks import Point2D

STRIDE, WITHIN = 0.1, 0.01
"""Of the point's steps, and how near to the goal ends an episode (in each coordinate)."""


class PointGoals(Point2D):
    """`point-2d` with episodes of 20 steps, whose goals are the rows of a table, each as likely."""

    name: ClassVar[str] = "point-goals"

    horizon: int = eqx.field(static=True, default=20)
    goals: Float[Array, "n 2"] | None = None
    """An array, so that each training of a batch may have its own; those of `point-2d` if none."""

    def sample(self, key: Any, split: Any) -> Params:
        if self.goals is None:
            return super().sample(key, split)
        return {"goal": self.goals[jax.random.randint(key, (), 0, len(self.goals))]}


LEARNER = PPO(
    num_envs=16, rollout_length=40, minibatches=4, epochs=4, learning_rate=1e-3,
    initial_std=0.5, normalize_observations=False,
)  # fmt: skip
"""Told the goal. Places are as good an input as they stand, and a normalizer would know of the training
goals alone."""


def problem_of(goals: Float[Array, "n 2"]) -> Problem:
    """The goal is revealed."""
    return Problem.of(PointGoals(goals=goals), "context")


def begin(key: Any, goals: Float[Array, "n 2"]) -> Any:
    """A learner before its training."""
    return LEARNER.init(problem_of(goals), key)


def advance(state: Any, goals: Float[Array, "n 2"], updates: int) -> Any:
    """So many updates on the goals of the table."""
    problem = problem_of(goals)
    return jax.lax.scan(
        lambda s, _: (LEARNER.update(problem, s)[0], None), state, None, length=updates
    )[0]


def worth(state: Any, goals: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """What the policy's most likely actions are worth on each goal: 1 the optimum, 0 standing still."""
    problem = problem_of(goals)
    agent = dataclasses.replace(LEARNER.agent(problem, state), greedy=True)
    # Nothing is drawn: neither where the point starts nor what it does.
    trials = play(agent, problem.source, {"goal": goals}, goals, jax.random.key(0), 1)
    best, still = best_returns(goals), -PointGoals().horizon * jnp.linalg.norm(goals, axis=-1)
    return (trials.returns.reshape(-1) - still) / (best - still)


def best_returns(goals: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """The optimum: each coordinate as far as a step goes, until the goal is reached."""

    def step(loop: Any, _: None) -> tuple[Any, Array]:
        place, going = loop
        place = place + jnp.clip(goals - place, -STRIDE, STRIDE)
        offset = goals - place
        reward = jnp.where(going, -jnp.linalg.norm(offset, axis=-1), 0.0)
        return (place, going & ~jnp.all(jnp.abs(offset) < WITHIN, axis=-1)), reward

    start = jnp.zeros_like(goals), jnp.ones(len(goals), bool)
    return jax.lax.scan(step, start, None, length=PointGoals().horizon)[1].sum(0)


def drawn(seed: int, n: int, *, band: bool = False) -> Float[np.ndarray, "n 2"]:
    """Goals uniform in the square of ±0.5 and further than 0.1 from where the point starts; with `band`
    none whose first coordinate is within ±0.2."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < n:
        goal = rng.uniform(-0.5, 0.5, 2)
        if np.linalg.norm(goal) > 0.1 and not (band and abs(goal[0]) < 0.2):
            found.append(goal)
    return np.asarray(found, np.float32)


def beyond(seed: int, n: int) -> Float[np.ndarray, "n 2"]:
    """Goals uniform in the frame between that square and one twice as wide."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < n:
        goal = rng.uniform(-1.0, 1.0, 2)
        if np.abs(goal).max() > 0.5:
            found.append(goal)
    return np.asarray(found, np.float32)
