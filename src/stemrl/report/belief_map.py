"""What an agent expects of every cell of a grid while it searches: its belief as it narrows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractFamily, Context, Params, Problem
from ..rl import play
from ..tasks.gridnavi import GridNavi

if TYPE_CHECKING:
    from ..meta import VariBADAgent


class Walk(NamedTuple):
    """A trial on a grid, step by step."""

    cells: Int[np.ndarray, "steps 2"]
    """Where the agent stood, episode after episode, before each action."""
    expected: Float[np.ndarray, "steps size size"]
    """The reward that it expected of each cell (x, y) at that moment."""
    exact: Float[np.ndarray, "steps size size"]
    """The same by Bayes' rule: the goal is, with equal probability, in one of the cells where it
    has not been looked for."""
    goal: Int[np.ndarray, "2"]
    horizon: int


def believed_rewards(
    agent: "VariBADAgent", family: GridNavi, goal: Sequence[int], key: PRNGKeyArray, episodes: int
) -> Walk:
    """Play a trial of so many episodes on one goal. Before each step, ask the agent's belief what
    every cell pays. Return the trial with these answers."""
    params = {"goal": jnp.asarray(goal, jnp.int32)[None]}
    left, reached, expected = map(np.asarray, _play(agent, family, params, None, key, episodes))
    return Walk(
        cells=left[0].round().astype(int),
        expected=expected[0],
        exact=_exact(family, reached[0].round().astype(int), np.asarray(goal)),
        goal=np.asarray(goal),
        horizon=family.horizon,
    )


@eqx.filter_jit
def _play(
    agent: "VariBADAgent",
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    episodes: int,
) -> tuple[Array, Array, Array]:
    """Of trials on a grid: cells left and reached `[tasks, steps, 2]`, and what was expected of every
    cell before each step, `[tasks, steps, size, size]`."""
    size = family.env.size  # pyright: ignore[reportAttributeAccessIssue]
    side = jnp.arange(size, dtype=jnp.float32)
    cells = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    stay = jnp.zeros(len(cells), jnp.int32)
    steps = play(agent, family, params, context, key, episodes, task_batch=1).transitions
    expected = agent.expect(steps.info["belief"], cells, stay, cells)
    tasks = len(expected)
    left, reached = (x.reshape(tasks, -1, 2) for x in (steps.obs, steps.next_obs))
    return left, reached, expected.reshape(tasks, -1, size, size)


SHADES = "·░▒▓█"
"""Of a cell in a terminal, by the predicted reward between elsewhere's (0) and the goal's (1): below the
first of the levels, the second, …"""
LEVELS = (0.03, 0.15, 0.4, 0.75)


def expectations(
    agent: "VariBADAgent", problem: Problem, params: Params, rounds: int, key: PRNGKeyArray
) -> list[dict[str, Float[np.ndarray, "size size"]]]:
    """Return, for each task in `params` (`[tasks, …]`), what the agent expects of every cell (x,
    y), between elsewhere's reward (0) and the goal's (1), by moment: at the beginning, in the
    middle of the first episode, and after the first and the last but one."""
    family = problem.target
    context = jax.vmap(lambda p: problem.context(family, p))(params)
    expected = np.asarray(_play(agent, family, params, context, key, rounds)[2])
    low, horizon = family.env.elsewhere, family.horizon  # pyright: ignore[reportAttributeAccessIssue]
    moments = {
        "at first": 0,
        f"after {horizon // 2} steps": horizon // 2,
        "after 1 episode": horizon,
        f"after {rounds - 1} episodes": horizon * (rounds - 1),
    }
    moments = {title: step for title, step in moments.items() if step < expected.shape[1]}
    shares = (expected - low) / (1.0 - low)
    return [{title: values[step] for title, step in moments.items()} for values in shares]


def shades(cells: Float[np.ndarray, "size size"]) -> list[str]:
    """Return cells (x, y) between 0 and 1 as lines of text, the highest y first."""
    shade = np.searchsorted(LEVELS, cells)
    return [" ".join(SHADES[i] for i in row) for row in shade.T[::-1]]


def belief_map(searches: Mapping[str, Walk], path: str | Path) -> Path:
    """Draw searches of one goal as a PNG: a row for each, and one for Bayes' rule on the way of the
    first. Return the path.

    The first episode is shown every few steps, then the first step of each later one. A cell is
    coloured by the reward that is expected of it; the way so far is drawn, and the goal is
    outlined.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    first = next(iter(searches.values()))
    horizon, size = first.horizon, first.expected.shape[1]
    episodes = len(first.cells) // horizon
    moments = [*range(0, horizon, 2), *(horizon * e for e in range(1, episodes))]
    rows = [(f"{name}", s, s.expected) for name, s in searches.items()]
    rows.append(("exact", first, first.exact))
    figure = Figure(figsize=(1.15 * len(moments) + 1, 1.45 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(moments), squeeze=False)
    image = None
    for line, (name, one, values) in zip(panels, rows, strict=True):
        for panel, moment in zip(line, moments, strict=True):
            image = panel.imshow(
                # By the root, so that one in twenty can be told from none.
                values[moment].T,
                origin="lower",
                cmap="viridis",
                norm=PowerNorm(0.5, -0.1, 1.0, clip=True),
            )
            begin = moment - moment % horizon
            way = one.cells[begin : moment + 1]
            panel.plot(*way.T, color="white", lw=1)
            panel.plot(*way[-1], "o", color="white", ms=4)
            x, y = one.goal
            outline = np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]]) * 0.47
            panel.plot(x + outline[0], y + outline[1], color="red", lw=1.2)
            panel.set(xlim=(-0.5, size - 0.5), ylim=(-0.5, size - 0.5), xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=7)
    for panel, moment in zip(panels[0], moments, strict=True):
        episode, step = divmod(moment, horizon)
        panel.set_title(f"episode {episode + 1}\nstep {step}", fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=panels.ravel().tolist(), label="expected reward", shrink=0.8)
    path = Path(path)
    figure.savefig(path, format="png", dpi=130)
    return path


def _exact(
    family: GridNavi, reached: Int[np.ndarray, "steps 2"], goal: Int[np.ndarray, "2"]
) -> Float[np.ndarray, "steps size size"]:
    """What Bayes' rule expects of each cell before each step of an agent whose steps `reached` these."""
    possible = np.zeros((family.size,) * 2, bool)
    possible[tuple(np.asarray(family.goals("train")).T)] = True
    low, rows = family.env.elsewhere, []
    for cell in reached:
        rows.append(low + (1.0 - low) * possible / possible.sum())
        if (cell == goal).all():
            possible[:] = False
            possible[tuple(goal)] = True
        else:
            possible[tuple(cell)] = False
    return np.stack(rows)
