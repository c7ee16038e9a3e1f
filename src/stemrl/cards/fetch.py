"""What the cards of Gymnasium-Robotics' Fetch arm share: what they need, and how they judge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core import AbstractAgent
from ..errors import UserError
from ..rl import Player, play
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


# ---- the film ----------------------------------------------------------------------------------

SHOWN = (0, 4, 8, 16, 30, 50)
"""The steps of an episode that are drawn."""
AZIMUTH, ELEVATION = np.radians(-52.0), np.radians(18.0)
"""Where the camera stands."""
LIGHT = np.array([0.35, -0.55, 0.76])


class Shot(NamedTuple):
    """The arm at one step: its triangles in space, their colors, the gripper and the goal."""

    triangles: np.ndarray
    """`[n, 3, 3]`"""
    colors: np.ndarray
    """`[n, 3]`"""
    gripper: np.ndarray
    goal: np.ndarray


def film(agents: Mapping[str, AbstractAgent], problem: Any, path: Path, seed: int = 0) -> None:
    """Draw an episode of each agent as a strip of pictures, all from the same start to the same goal; the
    shapes are those that MuJoCo has of the robot."""
    from matplotlib.figure import Figure

    strips = {name: _shots(agent, problem, seed) for name, agent in agents.items()}
    figure = Figure(figsize=(1.75 * len(SHOWN), 2.15 * len(strips)), layout="constrained")
    rows = figure.subplots(len(strips), len(SHOWN), squeeze=False)
    for axes, (name, shots) in zip(rows, strips.items(), strict=True):
        for axis, step in zip(axes, SHOWN, strict=True):
            _draw(axis, shots[: step + 1])
            away = 100 * np.linalg.norm(shots[step].gripper - shots[step].goal)
            axis.set_title(f"step {step}: {away:.0f} cm", fontsize=8)
        axes[0].set_ylabel(name, fontsize=9)
    figure.savefig(path, dpi=110)


def _shots(agent: AbstractAgent, problem: Any, seed: int) -> list[Shot]:
    """One episode, from its start to the horizon."""
    family: Any = problem.target
    task = jax.tree.map(lambda x: x[0], family.tasks(jax.random.key(seed), "test", 1))
    world = family.make(jax.device_get(task))
    player = Player(agent, problem, task=task, seed=seed)
    try:
        obs, _ = world.reset(seed=seed)
        shots = [_shot(world.unwrapped)]
        for _ in range(family.horizon):
            obs, reward, terminated, truncated, _ = world.step(player.act(obs))
            player.observe(obs, reward, terminated, truncated)
            shots.append(_shot(world.unwrapped))
    finally:
        world.close()
    return shots


def _shot(world: Any) -> Shot:
    """The triangles of everything but the floor, in the world's coordinates."""
    model, data = world.model, world.data
    triangles, colors = [], []
    for geom in range(model.ngeom):
        body = model.body(model.geom_bodyid[geom]).name
        if (mesh := model.geom_dataid[geom]) >= 0:
            first, n = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            corners = model.mesh_vert[first : first + n]
            first, n = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            faces = model.mesh_face[first : first + n]
        elif "finger" in body or "table" in body:
            corners = _CORNERS * model.geom_size[geom]
            faces = _FACES
        else:  # the floor, and what only steers
            continue
        placed = corners @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        triangles.append(placed[faces])
        colors.append(np.tile(model.geom_rgba[geom][:3], (len(faces), 1)))
    gripper = data.site("robot0:grip").xpos.copy()
    return Shot(np.concatenate(triangles), np.concatenate(colors), gripper, np.array(world.goal))


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


def _seen(points: np.ndarray) -> np.ndarray:
    """What the camera sees of points `[…, 3]`: right, up, and how near."""
    sin, cos = np.sin(AZIMUTH), np.cos(AZIMUTH)
    right = np.array([-sin, cos, 0.0])
    toward = np.array([np.cos(ELEVATION) * cos, np.cos(ELEVATION) * sin, np.sin(ELEVATION)])
    return points @ np.stack([right, np.cross(toward, right), toward], axis=1)


def _draw(axis: Any, shots: list[Shot]) -> None:
    """The last of `shots`, with the way that the gripper came: what is far away first."""
    from matplotlib.collections import PolyCollection

    shot = shots[-1]
    corners = _seen(shot.triangles)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    light = np.clip(normal @ _seen(LIGHT), 0.0, 1.0)
    front = np.flatnonzero(normal[:, 2] > 0)
    front = front[np.argsort(corners[front, :, 2].mean(1))]
    shaded = np.clip(shot.colors * (0.45 + 0.6 * light[:, None]), 0.0, 1.0)[front]
    axis.add_collection(
        PolyCollection(
            list(corners[front, :, :2]), facecolors=shaded, edgecolors=shaded, linewidths=0.2
        )
    )
    way = _seen(np.stack([one.gripper for one in shots]))
    axis.plot(way[:, 0], way[:, 1], color="#e0752d", linewidth=1.2)
    goal = _seen(shot.goal)
    axis.plot(goal[0], goal[1], "o", color="#d62728", markersize=6, alpha=0.85)
    middle = _seen(np.array([1.0, 0.75, 0.62]))
    axis.set(xlim=(middle[0] - 0.75, middle[0] + 0.75), ylim=(middle[1] - 0.7, middle[1] + 0.7))
    axis.set(aspect="equal", xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)
