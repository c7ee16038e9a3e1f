"""Several worlds as one process whose first action chooses: what it is worth, and what it does not help."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import Problem
from ..optimal.tabular import optimal_action_values
from ..rl import PPO
from ..tasks import RandomMDP, WorldChoice
from .card import Card, Measure
from .speed import Tasks, learning_curves, reached
from .workshop import Workshop

UPDATES, POINTS = 120, 40
NEAR = 0.9
"""Of the way from a policy at random to the optimum: when a world counts as learned."""
SETTINGS: dict[str, Any] = {
    "rollout_length": 20, "learning_rate": 2e-3, "epochs": 4, "hidden": (64,), "entropy_weight": 0.01,
    "discount": 1.0,
}  # fmt: skip


class OneMDP(RandomMDP):
    """One random process, always the same."""

    name: ClassVar[str] = "one-random-mdp"
    finite: ClassVar[bool] = True

    drawn: int = eqx.field(static=True, default=0)
    """Which."""

    def sample(self, key: Any, split: Any) -> Any:
        return jax.tree.map(jnp.asarray, _drawn(self.states, self.actions, self.drawn))


@functools.cache
def _drawn(states: int, actions: int, number: int) -> Any:
    """As constants: drawing is long to compile, and would be compiled into every reset."""
    with jax.ensure_compile_time_eval():
        task = RandomMDP(states, actions).sample(jax.random.key(number), "train")
        return jax.tree.map(np.asarray, task)


FIRST, SECOND = OneMDP(drawn=0), OneMDP(drawn=8)
"""Worth 17.7 and 23.5."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Exact values, then PPO that chooses; then two worlds drawn by chance against each alone, with the
    same steps in each: two that share nothing, and one that is there twice."""
    values = [_value(world) for world in (FIRST, SECOND)]
    choice = _value_of_choice((FIRST, SECOND))
    chosen = _curves(workshop, "choosing", WorldChoice((FIRST, SECOND)), {})  # pyright: ignore
    worth = chosen["all"][:, -3:].mean(1)
    rows = [
        Measure("|value of the choice − the best world's|, exact", [abs(choice - max(values))], None, 1e-4, "at most"),
        Measure("return of PPO that chooses, as a share of the best world's value", worth / max(values), None, 0.95),
        Measure("the other world's value, as that share", [min(values) / max(values)]),
    ]  # fmt: skip
    for label, worlds, bar in (
        ("nothing shared", (FIRST, SECOND), (1.1, "at most")),
        ("everything shared", (FIRST, FIRST), ()),
    ):
        family = WorldChoice(worlds, chooser="chance")  # pyright: ignore[reportArgumentType]
        together = _curves(workshop, f"together, {label}", family, {"lanes": 2})
        ratios = []
        for i, world in enumerate(worlds):
            alone = _curves(workshop, f"alone, {world.drawn}", world, {})["all"]
            threshold = _random(world) + NEAR * (_value(world) - _random(world))
            ratios.append(reached(alone, threshold) / reached(together[str(i)], threshold))
        rows.append(
            Measure(
                f"speed-up of learning both together, {label}",
                np.exp(np.mean(np.log(ratios), 0)), None, *bar,  # pyright: ignore[reportArgumentType]
                ratio=True,
            )
        )  # fmt: skip
    return rows


def _curves(workshop: Workshop, label: str, family: Any, options: dict[str, int]) -> Any:
    """PPO with as many lanes for each world, and minibatches of one size."""
    lanes = options.get("lanes", 1)
    updates, points = workshop.pick((UPDATES, POINTS), (4, 2))
    learner = PPO(**SETTINGS, num_envs=16 * lanes, minibatches=4 * lanes)
    task = jax.tree.map(lambda x: x[0], family.tasks(jax.random.key(0), "test", 1))
    tasks: dict[str, Any] = {"all": (family, task)}
    if lanes > 1:
        tasks = {str(i): (family, task | {"which": jnp.int32(i)}) for i in range(lanes)}
    judged: Tasks = tasks
    found = learning_curves(
        workshop, label, learner, Problem.of(family), judged,
        updates=updates, points=points, episodes=workshop.pick(400, 8),
    )  # fmt: skip
    for name, curve in found.items():
        per_world = learner.steps_per_update(Problem.of(family)) / lanes * updates / points
        line = label if name == "all" else f"{label}, world {name}"
        workshop.curve(
            "speed", line, per_world * np.arange(points + 1), curve, x_label="steps in the world"
        )
    return found


def _process(world: OneMDP) -> tuple[Any, Any]:
    task = world.sample(jax.random.key(0), "test")
    return task["transition"], task["reward"]


def _value(world: OneMDP) -> float:
    """The optimum, from the first state."""
    return float(optimal_action_values(*_process(world), world.horizon)[0, 0].max())


def _random(world: OneMDP) -> float:
    """What actions at random are worth."""
    transition, reward = _process(world)
    value = jnp.zeros(world.states)
    for _ in range(world.horizon):
        value = (reward + transition @ value).mean(1)
    return float(value[0])


def _value_of_choice(worlds: Sequence[OneMDP]) -> float:
    """The optimum of the one process that is made of all: its states are one before the choice, then
    every world's own."""
    states, actions = worlds[0].states, worlds[0].actions
    size = 1 + states * len(worlds)
    transition, reward = np.zeros((size, actions, size)), np.zeros((size, actions))
    for i, world in enumerate(worlds):
        own = slice(1 + i * states, 1 + (i + 1) * states)
        transition[own, :, own], reward[own] = _process(world)
    for action in range(actions):
        transition[0, action, 1 + min(action, len(worlds) - 1) * states] = 1.0
    q = optimal_action_values(
        jnp.asarray(transition, jnp.float32),
        jnp.asarray(reward, jnp.float32),
        worlds[0].horizon + 1,
    )
    return float(q[0, 0].max())


CARD = Card(
    name="world-choice",
    title="A choice among worlds is worth the best one, and what they do not share is learned no faster",
    source="The lecture's remark on several tasks as one process; the values are exact",
    run=run,
    seeds=10,
    note=(
        "Worlds are random decision processes of 10 states and 5 actions. A world counts as learned at 0.9 of the"
        " way from actions at random to its optimum. A speed-up is the steps needed alone over the steps"
        " needed in that world when both are learned together, the geometric mean of both worlds and of seeds; where one world is"
        " there twice, it shows what the measurement can see."
    ),
)
