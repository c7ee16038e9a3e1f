"""What an agent expects of every cell of a grid while it searches: its belief as it narrows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..rl import play
from ..tasks.gridnavi import GridNavi

if TYPE_CHECKING:
    from ..meta import VariBADAgent


class Walk(NamedTuple):
    """A trial on a grid, step by step."""

    cells: Int[np.ndarray, "steps 2"]
    """Where the agent stood, episode after episode, before each action."""
    expected: Float[np.ndarray, "steps size size"]
    """The reward that it expected of each cell (x, y) then."""
    exact: Float[np.ndarray, "steps size size"]
    """The same by Bayes' rule: the goal is, each as likely, where it has not been looked for."""
    goal: Int[np.ndarray, "2"]
    horizon: int


def believed_rewards(
    agent: "VariBADAgent", family: GridNavi, goal: Sequence[int], key: PRNGKeyArray, episodes: int
) -> Walk:
    """Play a trial of so many episodes on one goal, and ask the belief before each step what every cell
    pays."""
    side = jnp.arange(family.size, dtype=jnp.float32)
    cells = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    stay = jnp.zeros(len(cells), jnp.int32)

    @eqx.filter_jit
    def run(agent: "VariBADAgent", goal: Array) -> tuple[Array, Array, Array]:
        steps = play(agent, family, {"goal": goal[None]}, None, key, episodes).transitions
        expected = agent.expect(steps.info["belief"], cells, stay, cells)
        expected = expected.reshape(-1, family.size, family.size)
        return steps.obs.reshape(-1, 2), steps.next_obs.reshape(-1, 2), expected

    left, reached, expected = map(np.asarray, run(agent, jnp.asarray(goal, jnp.int32)))
    return Walk(
        cells=left.round().astype(int),
        expected=expected,
        exact=_exact(family, reached.round().astype(int), np.asarray(goal)),
        goal=np.asarray(goal),
        horizon=family.horizon,
    )


def belief_map(searches: Mapping[str, Walk], path: str | Path) -> Path:
    """Draw searches of one goal as a PNG, a row for each and one for Bayes' rule on the way of the
    first; returns the path.

    The first episode is shown every few steps, then the first step of each later one: coloured by the
    reward that is expected of a cell, with the way so far, and the goal outlined.
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
