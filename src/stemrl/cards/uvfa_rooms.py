"""UVFA in four rooms (after Schaul et al. 2015, §5): how much of the optimum a product of two embeddings
keeps, how fast it is fitted, and what it knows of goals that it was never taught."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import Problem
from ..multitask import UVFA
from ..optimal import optimal_goal_values, policy_quality
from ..tasks import GoalGrid
from .card import Card, Measure
from .speed import reached
from .workshop import Workshop

RANK, DISCOUNT, SIZE = 7, 0.95, 7
GOOD = 0.8
"""Policy quality that both ways to fit a table are raced to."""
LEARNED = 0.9
"""Policy quality at which one new goal counts as learned."""
UPDATES, POINTS = 2000, 50
SETTINGS: dict[str, Any] = {
    "rank": RANK, "discount": DISCOUNT, "hidden": (64, 64), "batch_size": 128, "learning_rate": 2e-3,
}  # fmt: skip
FEW: dict[str, Any] = {"form": "bootstrapped", "num_envs": 4, "rollout_length": 16}
"""Of learning one goal from experience: 64 steps an update."""


class Rooms(GoalGrid):
    """Four rooms, and where `only` is given, with that one goal."""

    name: ClassVar[str] = "rooms"

    only: Int[Array, ""] | None = None
    """A cell's number, as an array, so that each seed of a batch may have another."""

    def sample(self, key: Any, split: Any) -> Any:
        return super().sample(key, split) if self.only is None else {"goal": self.only}


def rooms(withheld: str, only: Any = None) -> Rooms:
    """The rooms, all at the same size and slip."""
    return Rooms(size=SIZE, layout="rooms", withheld=withheld, observed="position", only=only)  # pyright: ignore[reportArgumentType]


def run(workshop: Workshop) -> Sequence[Measure]:
    """Exact factors of each rank; both ways to fit them, where goals all over the rooms are withheld; then
    where a whole room is, and one goal in it learned from experience, from there and from scratch."""
    by_rank = {rank: _exact(rooms("scattered"), rank) for rank in (3, 5, RANK, 10)}
    known, unseen = _goals(rooms("scattered"))
    fitted = {
        form: _fitted(workshop, form, UVFA(form=form, **SETTINGS), "scattered")  # pyright: ignore
        for form in ("two-stage", "end-to-end")
    }
    quality = {form: found["quality"] for form, found in fitted.items()}
    entries = workshop.settings["two-stage"]["examples"] / POINTS
    needed = {
        form: entries * reached(q[:, :, known].mean(-1), GOOD)
        for form, q in quality.items()
    }  # fmt: skip
    last = quality["two-stage"][:, -1]
    rows = [
        Measure(
            f"policy quality, rank {RANK}, two stages", last[:, known].mean(-1), None, 0.85, aim=0.9
        ),
        Measure("the same, end to end", quality["end-to-end"][:, -1][:, known].mean(-1)),
        *(
            Measure(f"of the best table of rank {rank}, exact", [value])
            for rank, value in by_rank.items()
        ),
        *(
            Measure(f"entries of the table until {GOOD}, {form}", n)
            for form, n in needed.items()
        ),
        Measure("how many times fewer two stages need", needed["end-to-end"] / needed["two-stage"], 10.0),
        Measure("policy quality, goals never trained on", last[:, unseen].mean(-1)),
        *_new_room(workshop),
    ]  # fmt: skip
    _draw(workshop, fitted["two-stage"]["values"][0], workshop.picture("values"))
    return rows


def _new_room(workshop: Workshop) -> list[Measure]:
    """A room whose cells were never goals, and one goal there that is learned."""
    known, room = _goals(rooms("room"))
    donor = _fitted(workshop, "room-withheld", UVFA(**SETTINGS), "room")
    quality = donor["quality"][:, -1]
    # Each seed has another of the room's cells.
    chosen = np.resize(room, len(workshop.seeds))
    few = UVFA(**SETTINGS | FEW)
    needed = {}
    for name, start in (("from-there", donor), ("from-scratch", None)):
        found = _fitted(workshop, name, few, "room", only=chosen, start=start)["quality"]
        of_goal = np.stack([q[:, goal] for q, goal in zip(found, chosen, strict=True)])
        steps = workshop.settings[name]["examples"] / POINTS
        needed[name] = steps * reached(of_goal, LEARNED)
        workshop.curve(
            "new-goal", name.replace("-", " "), steps * np.arange(of_goal.shape[1]), of_goal,
            y_label="policy quality",
        )  # fmt: skip
    gained = needed["from-scratch"] - needed["from-there"]
    return [
        Measure("policy quality, where a room was withheld: the other rooms", quality[:, known].mean(-1)),
        Measure("goals in the room that was never trained on", quality[:, room].mean(-1), 0.24),
        Measure(f"steps until {LEARNED} on a goal there, from there", needed["from-there"]),
        Measure("the same from scratch", needed["from-scratch"]),
        Measure("steps saved (paired)", gained),
    ]  # fmt: skip


def _fitted(
    workshop: Workshop,
    label: str,
    learner: UVFA,
    withheld: str,
    only: np.ndarray | None = None,
    start: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Train every seed at once: the policy quality on each free cell as a goal before the training and
    after each of its parts, `[seeds, points + 1, goals]`, the values at the end, `[seeds, goals,
    states, actions]`, and the networks (`leaf0`, …). `only`, of each seed, is the one goal, as an
    index into the free cells; a training can `start` from another's networks."""
    updates = workshop.pick(UPDATES, 4) // workshop.pick(POINTS, 2)
    points = workshop.pick(POINTS, 2)
    family = rooms(withheld)
    goals = None if only is None else jnp.asarray(family.free[only])
    examples = POINTS * updates * learner.steps_per_update(Problem.of(family, "context"))
    workshop.settings[label] = {
        "method": "uvfa", "form": learner.form, "family": family.identity, "examples": examples,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in SETTINGS.items()},
    }  # fmt: skip
    transition = _transition(family)

    def begin(key: Any, goal: Any, leaves: Any) -> Any:
        state = learner.init(Problem.of(rooms(withheld, goal), "context"), key)
        if leaves is not None:
            network = jax.tree.unflatten(jax.tree.structure(state.network), leaves)
            state = eqx.tree_at(lambda s: (s.network, s.target), state, (network, network))
        return state

    def advance(state: Any, goal: Any) -> Any:
        problem = Problem.of(rooms(withheld, goal), "context")
        return jax.lax.scan(
            lambda s, _: (learner.update(problem, s)[0], None), state, None, length=updates
        )[0]

    def judge(state: Any) -> tuple[Array, Array]:
        values = _values(state.network, family)
        return values, policy_quality(values, transition, DISCOUNT)

    def compute() -> dict[str, np.ndarray]:
        workshop.say(f"{label}: {len(workshop.seeds)} seeds")
        keys = jax.vmap(jax.random.key)(jnp.asarray(workshop.seeds))
        leaves = None
        if start is not None:
            leaves = [jnp.asarray(start[f"leaf{i}"]) for i in range(_leaves(start))]
        state = jax.jit(jax.vmap(begin))(keys, goals, leaves)
        judged, step = jax.jit(jax.vmap(judge)), jax.jit(jax.vmap(advance))
        values, quality = judged(state)
        rows = [quality]
        for _ in range(points):
            state = step(state, goals)
            values, quality = judged(state)
            rows.append(quality)
        networks = {f"leaf{i}": x for i, x in enumerate(jax.tree.leaves(state.network))}
        return {"quality": np.stack(rows, 1), "values": values, **networks}

    return workshop.kept(label, compute)


def _leaves(found: dict[str, np.ndarray]) -> int:
    return sum(name.startswith("leaf") for name in found)


def _goals(family: Rooms) -> tuple[Int[np.ndarray, " known"], Int[np.ndarray, " unseen"]]:
    """The goals that training assigns and those that it does not, as indices into the free cells."""
    known, unseen = (np.searchsorted(family.free, cells) for cells in family.assigned)
    return known, unseen


def _transition(family: Rooms) -> Float[Array, "free actions free"]:
    free = jnp.asarray(family.free)
    return family.transition_probabilities()[free][:, :, free]


def _values(network: Any, family: Rooms) -> Float[Array, "goals states actions"]:
    places = family.observation_of(jnp.asarray(family.free))
    return network(places[None], places[:, None])


def _exact(family: Rooms, rank: int) -> float:
    """The mean policy quality of the exact values' best approximation of this rank, on the goals that
    are assigned."""
    transition, (known, _) = _transition(family), _goals(family)
    values = np.asarray(optimal_goal_values(transition, DISCOUNT))
    u, s, v = np.linalg.svd(values.reshape(len(values), -1)[known], full_matrices=False)
    values = values.copy()
    values[known] = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(values[known].shape)
    return float(policy_quality(jnp.asarray(values), transition, DISCOUNT)[known].mean())


def _draw(workshop: Workshop, values: np.ndarray, file: Path) -> None:
    """The value of every cell, exact above and fitted below, for two goals trained on and two that
    were not."""
    from matplotlib.figure import Figure

    family = rooms("scattered")
    known, unseen = _goals(family)
    exact = np.asarray(optimal_goal_values(_transition(family), DISCOUNT))
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    panels = figure.subplots(2, 4)
    shown = [(g, "trained on") for g in known[[0, -1]]] + [(g, "unseen") for g in unseen[[0, -1]]]
    for column, (goal, what) in enumerate(shown):
        for row, (table, name) in enumerate(((exact, "exact"), (values, "fitted"))):
            cells = np.full(family.states, np.nan)
            cells[family.free] = table[goal].max(-1)
            axes = panels[row, column]
            grid = cells.reshape(SIZE, SIZE)
            axes.imshow(grid, origin="lower", vmin=exact.max(-1).min(), vmax=0.0)
            at = family.free[goal]
            axes.plot(at % SIZE, at // SIZE, "r*", markersize=11)
            axes.set_title(f"{what}, {name}", fontsize=9)
            axes.set_axis_off()
    figure.savefig(file, dpi=130)


CARD = Card(
    name="uvfa-rooms",
    title="A product of two embeddings of rank 7 holds the values of all goals in four rooms",
    source=(
        "Schaul et al. 2015 (PMLR 37), §5; 'about 10 times' and '24% ± 8%' (an unseen room) are the paper's"
    ),
    run=run,
    seeds=5,
    note=(
        "Policy quality is 1 for the optimum and 0 for chance, exact, over all free cells. Every third goal is"
        " withheld in the first part, a whole room in the second. In the third one goal of that room is"
        " learned from experience, by bootstrapping, with all of the network free."
    ),
    differs=(
        "Rooms of 7 × 7 cells in all, with slipping and a cost for each step, in place of a world with lava;"
        " states are seen as positions, not as pictures.",
    ),
)  # fmt: skip
