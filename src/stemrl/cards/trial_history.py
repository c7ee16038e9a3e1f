"""Mazes played twice: what the history of the whole trial is good for (1611.02779, §3.3; 1707.03141, §5.2.4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..core import Carry, Memory, Transition
from ..meta.history import HistoryAgent
from ..rl import play
from ..tasks.maze import Maze
from .card import Card, Measure, differences
from .workshop import Workshop

STEPS = 3_000_000
SETTINGS: dict[str, Any] = {
    "hidden_size": 96,
    "batch_steps": 24_000,
    "learning_rate": 2e-3,
    "epochs": 4,
    "anneal_updates": STEPS // 24_000,
    "discount": 0.97,
    "entropy_weight": 0.02,
    "anneal_entropy": True,
    "chrono_span": 60,
}
MAZES = 2_000
"""Held out, of an evaluation."""
HISTORY, RESET = "whole trial's history", "memory reset each episode"
NO_CHANGE = -0.5
"""Steps: who starts afresh may differ by so much from its first episode by chance."""


class Forgetful(HistoryAgent):
    """Starts each episode as if it were the first of the trial."""

    def adapt(
        self, memory: Memory, carries: Carry, episodes: Transition | None, key: Any
    ) -> Memory:
        return memory


def run(workshop: Workshop) -> Sequence[Measure]:
    """RL² trained on trials of two episodes, and on trials of one; and the first, its memory reset."""
    family = Maze(**workshop.pick({}, {"cells": 2, "horizon": 8}))
    settings = SETTINGS | workshop.pick(
        {}, {"batch_steps": 64, "epochs": 1, "hidden_size": 8, "minibatches": 2}
    )
    trained = {
        name: workshop.train(
            label,
            "rl2",
            "maze",
            steps=workshop.pick(STEPS, 100),
            settings=settings | {"episodes": episodes},
            family_settings=family.settings(),
        )
        for label, name, episodes in (("history", HISTORY, 2), ("reset", RESET, 1))
    }
    tasks = family.tasks(jax.random.key(1), "test", workshop.pick(MAZES, 4))

    @eqx.filter_jit
    def played(agent: Any, key: Any) -> Transition:
        return play(agent, family, tasks, None, key, 2).transitions

    found: dict[str, list[Transition]] = {}
    for name, agents in trained.items():
        for seed, agent in zip(workshop.seeds, agents.agents, strict=True):
            players = {name: _forgetful(agent) if name == RESET else agent}
            if name == HISTORY:
                players["the same agent, its memory reset"] = _forgetful(agent)
            for player, one in players.items():
                steps = played(one, jax.random.key(100 + seed))
                found.setdefault(player, []).append(
                    jax.tree.map(lambda x: np.asarray(x[:, :, 0]), steps)
                )
    lengths = {
        name: np.stack([steps.valid.sum(-1).mean(0) for steps in each])
        for name, each in found.items()
    }  # [seeds, 2]
    change = {name: values[:, 1] - values[:, 0] for name, values in lengths.items()}
    _pair(found[HISTORY][0], tasks, workshop.picture("pair"))
    rows = [
        Measure(f"{HISTORY}: second episode − first (steps, paired)", change[HISTORY], None,
                direction="at most", low_bar=0.0),
        Measure(f"{RESET}: second episode − first (steps, paired)", change[RESET], None, NO_CHANGE),
        Measure("the one change − the other (paired)", differences(change[HISTORY], change[RESET]),
                None, direction="at most", low_bar=0.0),
    ]  # fmt: skip
    shortest = np.abs(_shortest(tasks)).mean()
    for name, each in found.items():
        rows += [
            Measure(f"{name}: steps of the {which} episode", lengths[name][:, i])
            for i, which in enumerate(("first", "second"))
        ]
        rows += [
            Measure(f"{name}: goals found in the {which} episode",
                    [s.events["success"][:, i].any(-1).mean() for s in each], proportion=True)
            for i, which in enumerate(("first", "second"))
        ]  # fmt: skip
        rows.append(
            Measure(f"{name}: dead ends of the first episode entered again in the second",
                    [_again(s) for s in each])
        )  # fmt: skip
    return [*rows, Measure("steps of the shortest way (exact)", [float(shortest)])]


def _forgetful(agent: HistoryAgent) -> Forgetful:
    return Forgetful(**{name: getattr(agent, name) for name in agent.__dataclass_fields__})


def _shortest(tasks: Any) -> np.ndarray:
    from ..tasks.maze import distances

    steps = jax.jit(jax.vmap(lambda p: distances(p["walls"], p["start"])[tuple(p["goal"])]))
    return np.asarray(steps(tasks))


def _again(steps: Transition) -> float:
    """Mean over mazes: dead ends that both episodes enter."""
    counts = []
    for dead, cell in zip(steps.events["dead_end"], steps.events["cell"], strict=True):
        first, second = (set(c[d].tolist()) for d, c in zip(dead, cell, strict=True))
        counts.append(len(first & second))
    return float(np.mean(counts))


def _pair(steps: Transition, tasks: Any, path: Path) -> None:
    """Draw both episodes of the first maze in which the first one took long and found the goal."""
    from matplotlib.figure import Figure

    lengths = steps.valid.sum(-1)
    good = steps.events["success"][:, 0].any(-1) * lengths[:, 0]
    i = int(np.argmax(good))
    walls, start, goal = (np.asarray(tasks[name][i]) for name in ("walls", "start", "goal"))
    picture = Figure(figsize=(6, 3.2), layout="constrained")
    for episode, axes in enumerate(picture.subplots(1, 2)):
        cells = steps.events["cell"][i, episode][: lengths[i, episode]]
        walk = np.stack([start, *(np.array(divmod(int(c), len(walls))) for c in cells)])
        axes.imshow(walls.T, origin="lower", cmap="Greys", vmin=0, vmax=1.6)
        wobble = 0.12 * np.sin(np.arange(len(walk)))[:, None]
        axes.plot(*(walk + wobble).T, color="tab:blue", linewidth=1.2)
        axes.plot(*start, "o", color="tab:gray")
        axes.plot(*goal, "*", color="tab:green", markersize=12)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"episode {episode + 1}: {lengths[i, episode]} steps", fontsize="small")
    picture.savefig(path, dpi=130)


CARD = Card(
    name="trial-history",
    title="In a maze played twice, the history of the whole trial finds the way back",
    source="The mazes of Duan et al. 2016 (1611.02779, §3.3) and Mishra et al. 2018 (1707.03141), seen in few numbers",
    run=run,
    seeds=5,
    note=(
        "4×4 cells, 60 steps an episode at most, a view of the eight neighboring blocks. *Whole trial's history*"
        " is RL² on trials of two episodes; *memory reset each episode* is RL² on trials of one. An episode that"
        " does not find the goal counts with its 60 steps."
    ),
    differs=("The papers' mazes are larger and seen in pictures.",),
)
