"""What an agent believes of a task, drawn: where it goes by samples of its posterior, or what it expects
that every cell of a grid pays.

`beliefs` gives plain data, `belief_text` draws them in a terminal and `belief_svg` on a page.
"""

from html import escape
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..core import AbstractFamily, Context, Memory, Params, Problem, count
from ..meta.pearl_agent import PEARLAgent
from ..rl import play
from ..tasks.gridnavi import GridEnv
from ..tasks.point import PointEnv
from .belief_map import expectations, shades
from .text import columns, ways_in_plane

SAMPLES = 8
"""Of a posterior, each held for an episode."""


class Imagining(PEARLAgent):
    """Plays by samples of what it is told to believe: its context is that memory."""

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context


def beliefs(
    agent: Any, problem: Problem, params: Params, rounds: int, key: PRNGKeyArray
) -> list[dict[str, Any]]:
    """Return, for each task in `params` (`[tasks, …]`), what the agent believes of it at a few
    moments.

    Of PEARL in the plane `{"goal", "radius", "moments": [{"title", "ways": [samples, time, 2]}]}`: where it
    goes by samples of z, before anything and after the last round. Of an agent that predicts rewards, on
    a grid, `{"goal", "moments": [{"title", "cells": [size, size]}]}`: shares between what is paid elsewhere
    (0) and at the goal (1). Empty for any other. With the key that `sketches` is given, the beliefs are of
    the episodes that it draws.
    """
    family = problem.target
    if family.stepping != "jax":
        return []
    # The very episodes of `sketches`, which has used this key up.
    key = jax.random.split(jax.random.clone(key), 1)[0]
    if isinstance(agent, PEARLAgent) and isinstance(family.env, PointEnv):
        if not (isinstance(params, dict) and "goal" in params):
            return []
        titles = ("before any episode", f"after {rounds} episode{'s' * (rounds != 1)}")
        ways = np.asarray(_ways(agent, family, params, key, rounds))
        goals = np.asarray(params["goal"])
        return [
            {
                "goal": goal.tolist(),
                "radius": family.env.radius or 0.0,
                "moments": [
                    {"title": title, "ways": way.round(4).tolist()}
                    for title, way in zip(titles, moments, strict=True)
                ],
            }
            for goal, moments in zip(goals, ways, strict=True)
        ]
    if not hasattr(agent, "expect") or not isinstance(family.env, GridEnv):
        return []
    goals = np.asarray(params["goal"])
    expected = expectations(agent, problem, params, rounds, key)  # pyright: ignore[reportArgumentType]
    return [
        {
            "goal": goal.tolist(),
            "moments": [
                {"title": title, "cells": cells.round(4).tolist()}
                for title, cells in moments.items()
            ],
        }
        for goal, moments in zip(goals, expected, strict=True)
    ]


@eqx.filter_jit
def _ways(
    agent: PEARLAgent, family: AbstractFamily, params: Params, key: PRNGKeyArray, rounds: int
) -> Array:
    """By samples of what is believed before anything and after so many rounds, `[tasks, 2, samples,
    time + 1, 2]`; an episode that has ended stays where it is."""
    fields = {name: getattr(agent, name) for name in agent.__dataclass_fields__}
    imagining = Imagining(**{**fields, "episodes_per_round": SAMPLES})
    tasks = count(params)
    start_key, samples_key = jax.random.split(jax.random.clone(key))
    fresh = agent.start(None, start_key)
    fresh = jax.tree.map(lambda x: jnp.broadcast_to(x, (tasks, *x.shape)), fresh)
    learned = play(agent, family, params, None, key, rounds, task_batch=1, adapt_last=True).memory
    ways = []
    for memory in (fresh, learned):
        # The same noise both times, so that they differ by what was learned.
        steps = play(
            imagining, family, params, memory, jax.random.clone(samples_key), 1
        ).transitions
        way = jnp.concatenate([steps.obs[:, 0, :, :1], steps.next_obs[:, 0]], axis=2)
        last = jnp.sum(steps.valid[:, 0], axis=-1)[..., None, None]
        at = jnp.minimum(jnp.arange(way.shape[2])[:, None], last)
        ways.append(jnp.take_along_axis(way, at, axis=2))
    return jnp.stack(ways, axis=1)


def belief_text(belief: dict[str, Any]) -> str:
    """Return one task's, for a terminal: its moments side by side."""
    moments = belief["moments"]
    if "cells" in moments[0]:
        said = "what it predicts that every cell pays"
        panels = [[m["title"], *shades(np.asarray(m["cells"]))] for m in moments]
        return f"{said}:\n{columns(panels, 16)}"
    ways = [np.asarray(m["ways"]) for m in moments]
    drawn = ways_in_plane(ways, np.asarray(belief["goal"]), belief["radius"])
    panels = [[m["title"], *lines] for m, lines in zip(moments, drawn, strict=True)]
    return f"where it goes by {SAMPLES} samples of its posterior:\n{columns(panels)}"


def belief_svg(belief: dict[str, Any]) -> str:
    """Return one task's, for a page: its moments side by side."""
    return "".join(
        f'<figure class="belief"><svg viewBox="{_window(belief)}" role="img"'
        f' xmlns="http://www.w3.org/2000/svg" aria-label="{escape(moment["title"])}">'
        f"{_cells(belief, moment) if 'cells' in moment else _lines(belief, moment)}</svg>"
        f"<figcaption>{escape(moment['title'])}</figcaption></figure>"
        for moment in belief["moments"]
    )


def _window(belief: dict[str, Any]) -> str:
    if "cells" in belief["moments"][0]:
        size = len(belief["moments"][0]["cells"])
        return f"-0.5 {0.5 - size:g} {size:g} {size:g}"
    ways = [np.asarray(moment["ways"]).reshape(-1, 2) for moment in belief["moments"]]
    points = np.concatenate([*ways, [belief["goal"]]])
    half = 1.1 * (float(np.abs(points).max()) + belief["radius"])
    return f"{-half:.3g} {-half:.3g} {2 * half:.3g} {2 * half:.3g}"


def _cells(belief: dict[str, Any], moment: dict[str, Any]) -> str:
    cells = [
        f'<rect x="{x - 0.47:g}" y="{-y - 0.47:g}" width="0.94" height="0.94" fill="var(--s0)"'
        f' fill-opacity="{min(max(value, 0.0), 1.0) ** 0.5:.2f}" stroke="var(--edge)" stroke-width="0.03"/>'
        for x, row in enumerate(moment["cells"])
        for y, value in enumerate(row)
    ]
    x, y = belief["goal"]
    goal = (
        f'<rect x="{x - 0.47:g}" y="{-y - 0.47:g}" width="0.94" height="0.94" fill="none"'
        ' stroke="var(--goal)" stroke-width="0.08"/>'
    )
    return "".join(cells) + goal


def _lines(belief: dict[str, Any], moment: dict[str, Any]) -> str:
    x, y = belief["goal"]
    radius = belief["radius"] or 0.04
    goal = f'<circle cx="{x:g}" cy="{-y:g}" r="{radius:g}" fill="var(--goal)" fill-opacity="0.35"/>'
    ways = [
        f'<polyline points="{" ".join(f"{a:g},{-b:g}" for a, b in way)}" fill="none"'
        ' stroke="var(--s0)" stroke-width="0.03" stroke-opacity="0.7"/>'
        for way in moment["ways"]
    ]
    return goal + "".join(ways)
