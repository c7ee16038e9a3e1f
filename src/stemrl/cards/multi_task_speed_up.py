"""Several tasks together against each alone, with as many steps of each task: the lecture's claim that what
is shared is learned once for all, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import AbstractFamily, Params, Problem
from ..physics.hopper_tasks import TASKS, HopperTasks
from ..physics.locomotion import HalfCheetahVelMaml
from ..rl import PPO
from ..tasks import PointConflict
from ..tasks.ranges import in_turn
from .card import Card, Measure
from .speed import learning_curves, reached
from .workshop import Workshop

SPEEDS = (0.5, 1.0, 1.5)
"""Of the half-cheetah (metres a second)."""
NEAR = 0.8
"""Of the way from the return before training to that at the end of training alone: the threshold."""
WAYS: dict[str, dict[str, Any]] = {
    "one network": {},
    "heads": {"heads": True},
    "PCGrad": {"gradient_surgery": True},
    "heads and PCGrad": {"heads": True, "gradient_surgery": True},
}
"""To learn them together."""


class Speeds(HalfCheetahVelMaml):
    """A half-cheetah at one of three speeds; the context, one-hot, says which."""

    name: ClassVar[str] = "half-cheetah-speeds"
    finite: ClassVar[bool] = True

    only: int | None = eqx.field(static=True, default=None)
    """The number of the one speed that is drawn; all of them, in turn, if none."""

    def sample(self, key: Any, split: Any) -> Params:
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: Any, split: Any, n: int) -> Params:
        every = jnp.asarray(SPEEDS if self.only is None else SPEEDS[self.only : self.only + 1])
        return {"speed": in_turn(key, every, n)}

    def context(self, params: Params) -> Float[Array, " speeds"]:
        return (jnp.abs(params["speed"] - jnp.asarray(SPEEDS)) < 1e-3).astype(jnp.float32)

    @property
    def worlds(self) -> int:
        return len(SPEEDS)


@dataclass(frozen=True)
class Case:
    """Tasks to be learned together, and how."""

    together: AbstractFamily
    alone: Mapping[str, AbstractFamily]
    """A family of each task by itself, by name."""
    settings: Mapping[str, Any]
    """Of PPO; `num_envs` and `minibatches` for each task."""
    updates: int
    points: int
    episodes: int
    """Of each task, to judge by."""


CASES = {
    "point-conflict": Case(
        PointConflict(),
        {f"goal {i}": PointConflict(only=i) for i in range(2)},
        {
            "num_envs": 16, "rollout_length": 40, "minibatches": 4, "epochs": 4,
            "learning_rate": 1e-3, "initial_std": 0.5,
        },
        updates=60, points=30, episodes=100,
    ),
    "hopper-tasks": Case(
        HopperTasks(),
        {name: HopperTasks(only=name) for name in TASKS},  # pyright: ignore[reportArgumentType]
        {
            "num_envs": 8, "rollout_length": 128, "minibatches": 8, "epochs": 6,
            "learning_rate": 5e-4, "initial_std": 0.5,
        },
        updates=80, points=10, episodes=10,
    ),
    "half-cheetah-vel": Case(
        Speeds(),
        {f"{speed} m/s": Speeds(only=i) for i, speed in enumerate(SPEEDS)},
        {
            "num_envs": 8, "rollout_length": 100, "minibatches": 8, "epochs": 6,
            "learning_rate": 5e-4, "initial_std": 0.5,
        },
        updates=60, points=10, episodes=4,
    ),
}  # fmt: skip


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO on each task alone, then on all in every way, with the same steps of each task and minibatches
    of the same size."""
    cases = workshop.pick(list(CASES), ["point-conflict"])
    ways = workshop.pick(list(WAYS), ["one network", "heads and PCGrad"])
    rows = []
    for name in cases:
        case = CASES[name]
        alone = {
            task: _curves(workshop, f"{name}, alone, {task}", case, family, {task: family})[task]
            for task, family in case.alone.items()
        }
        for way in ways:
            label = f"{name}, {way}"
            together = _curves(workshop, label, case, case.together, case.alone, WAYS[way])
            rows += _compared(label, alone, together)
    return rows


def _compared(
    label: str, alone: dict[str, np.ndarray], together: dict[str, np.ndarray]
) -> list[Measure]:
    """The speed-up, and what is gained or lost at the end, means over the tasks, of each seed."""
    ratios, ends = [], []
    for task, curves in alone.items():
        start, end = curves[:, 0].mean(), curves[:, -3:].mean()
        threshold = start + NEAR * (end - start)
        # Half a point is as soon as can be told.
        needed = [np.maximum(reached(x, threshold), 0.5) for x in (curves, together[task])]
        ratios.append(needed[0] / needed[1])
        lead = together[task][:, -3:].mean(1) - curves[:, -3:].mean(1)
        ends.append(lead / abs(end - start))
    return [
        Measure(
            f"{label}: steps alone over steps together", np.exp(np.mean(np.log(ratios), 0)), ratio=True
        ),
        Measure(f"{label}: final return more than alone (1: what was learned alone)", np.mean(ends, 0)),
    ]  # fmt: skip


def _curves(
    workshop: Workshop,
    label: str,
    case: Case,
    family: AbstractFamily,
    judged: Mapping[str, AbstractFamily],
    options: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Returns of each task in `judged`, `[seeds, points + 1]`."""
    lanes = len(judged)
    settings = dict(case.settings)
    if workshop.quick:
        settings |= {"num_envs": 2, "minibatches": 1, "epochs": 1}
    for name in ("num_envs", "minibatches"):
        settings[name] *= lanes
    updates, points = workshop.pick((case.updates, case.points), (2, 2))
    learner, problem = PPO(**settings, **(options or {})), Problem.of(family, "context")
    tasks = {
        name: (one, jax.tree.map(lambda x: x[0], one.tasks(jax.random.key(0), "test", 1)))
        for name, one in judged.items()
    }
    found = learning_curves(
        workshop, label, learner, problem, tasks,
        updates=updates, points=points, episodes=workshop.pick(case.episodes, 4),
    )  # fmt: skip
    steps = learner.steps_per_update(problem) / lanes * updates / points * np.arange(points + 1)
    group, way = label.split(", ", 1)
    way = way.split(", ")[0]
    for task, curve in found.items():
        workshop.curve(
            f"{group}-{task}".replace(" ", "-").replace("/", "-"),
            way,
            steps,
            curve,
            x_label="steps of the task",
        )
    return found


CARD = Card(
    name="multi-task-speed-up",
    title="Whether several tasks together are learned sooner than each alone",
    source="The lecture's claim that training together speeds up each task; nothing published",
    run=run,
    seeds=3,
    note=(
        "Whichever way it falls, so there is no bar. Steps are those of one task; the threshold is 0.8 of the"
        " way from an untrained policy's return to that of training alone. Above 1, together is faster (geometric means"
        " over tasks and seeds)."
        " `point-conflict`: two goals opposite each other, which share nothing but that the point moves."
    ),
    differs=(
        "Short: 38,400 steps of each of the two points, 82,000 of each hopper and 48,000 of each"
        " half-cheetah, of which none is trained to its end.",
    ),
)
