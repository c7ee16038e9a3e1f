"""What the cards of Gymnasium-Robotics' Fetch arm share: what they need, and how they judge."""

from typing import Any

import jax
import numpy as np

from ..errors import UserError
from ..rl import play
from .workshop import Trained, Workshop

HORIZON = 50
TOGETHER = 25
"""Episodes that are played side by side, each in a world of its own."""


def require_robotics(card: str) -> None:
    """Raises `UserError` where Gymnasium-Robotics is not installed."""
    try:
        import gymnasium_robotics  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{card} needs Gymnasium-Robotics, in an environment of its own: make robotics"
        ) from None


def judged(workshop: Workshop, trained: Trained, goals: int) -> dict[str, list[float]]:
    """Return for each seed's agent, on goals that it was not trained on, one episode each: the share
    that the last step leaves at the goal (`success`), and the mean return (`return`)."""
    family: Any = trained.problem.target
    task_key, play_key = jax.random.split(jax.random.key(1))
    params = family.tasks(task_key, "test", workshop.pick(goals, 2))
    found: dict[str, list[float]] = {"success": [], "return": []}
    for agent in trained.agents:
        there, returns = [], []
        for first in range(0, len(params["goal"]), TOGETHER):
            some = jax.tree.map(lambda x, i=first: x[i : i + TOGETHER], params)
            key = jax.random.fold_in(play_key, first)
            trials = play(agent, family, some, some["goal"], key, 1)
            there.append(np.asarray(trials.transitions.events["success"])[..., -1].ravel())
            returns.append(np.asarray(trials.returns).ravel())
        found["success"].append(float(np.concatenate(there).mean()))
        found["return"].append(float(np.concatenate(returns).mean()))
    return found
