"""DARC on a grid whose target has a wall (after Eysenbach et al. 2006.13916, §4 and Figure 2)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import Problem
from ..report import correction_map
from ..rl import PPO
from ..tasks.grid_wall import ACTIONS, GridWall, log_ratio
from ..transfer import DARC, correction_table, visits
from .card import Card, Measure
from .workshop import Trained, Workshop, steps_of_target, words

SOURCE, TARGET = GridWall(), GridWall(wall=True)
ENOUGH = 1_000
"""Visits of (s, a, s′) in each domain that count as data: the sampling error of the log-ratio is
then about 0.04, a fifth of the bar."""
DIFFERENT = 0.2
"""Entries whose log-ratio is larger are judged on their own: most entries are the same in both
domains, and there Δr = 0 would do."""
UPDATES = 130
LEARNER = {
    "num_envs": 16, "rollout_length": 64, "hidden": (64,), "learning_rate": 1e-3, "epochs": 4,
    "minibatches": 8, "entropy_weight": 0.03, "discount": 0.97,
}  # fmt: skip
CLASSIFIERS = {
    "classifier_noise": 0.0, "classifier_hidden": (64,), "classifier_learning_rate": 3e-3,
}  # fmt: skip

ABLATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("state-action", "one classifier on (s, a)", {"correction": "state-action"}),
    ("transition", "without the (s, a) term", {"correction": "transition"}),
    ("noise-0.1", "with noise of 0.1 on the classifiers' inputs", {"classifier_noise": 0.1}),
    ("noise-1", "with noise of 1", {"classifier_noise": 1.0}),
    ("importance-weights", "importance weighting in its place", {"apply_to": "weight"}),
]
"""What DARC is without one of its parts, or with the paper's input noise; and the paper's baseline, which
counts steps by exp(Δr)."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Δr against the analytic log-ratio, then transfer with it and without."""
    success = _transfer(workshop)
    return [*_accuracy(workshop), *success()]


def _accuracy(workshop: Workshop) -> list[Measure]:
    """The classifiers alone: a policy that never learns walks both grids at random."""
    num_envs, capacity = workshop.pick((256, 4_000_000), (8, 2_000))
    phases = workshop.pick((1e-2, 1e-3, 1e-4), (1e-2,))
    updates = workshop.pick(40, 2)
    walker = PPO(
        num_envs=num_envs,
        rollout_length=128,
        hidden=(8,),
        learning_rate=0.0,
        epochs=1,
        minibatches=1,
    )
    learner = DARC(
        learner=walker,
        source_to_target=1,
        warm_up_steps=2**31 - 1,
        classifier_noise=0.0,
        classifier_hidden=(128,),
        classifier_gradient_steps=workshop.pick(200, 5),
        classifier_batch_size=1024,
        capacity=capacity,
    )
    problem = Problem(SOURCE, TARGET, 10**8)
    workshop.settings["accuracy"] = {
        "steps of each domain": updates * len(phases) * learner.steps_per_update(problem),
        "classifier_hidden": [128],
        "classifier learning rates": list(phases),
        "visits that count as data": ENOUGH,
    }
    exact = np.asarray(log_ratio(SOURCE, TARGET))
    cells = TARGET.size**2

    @eqx.filter_jit
    def learn(fixed: tuple, state: Any) -> Any:
        return jax.lax.scan(
            lambda s, _: (fixed[0].update(fixed[1], s)[0], None), state, None, length=updates
        )[0]

    errors, of_different, tables = [], [], []
    for seed in workshop.seeds:
        workshop.say(f"accuracy of Δr, seed {seed}")

        def compute(seed: int = seed) -> dict[str, np.ndarray]:
            state = eqx.filter_jit(learner.init)(problem, jax.random.key(seed))
            for rate in jnp.asarray(phases):
                # As arrays, which are not compiled in.
                now = dataclasses.replace(learner, classifier_learning_rate=rate)
                state = learn((now, problem), state)
            replays: tuple[Any, ...] = (state.source_steps, state.target_steps)
            visited = [visits(r, cells, ACTIONS) for r in replays]
            return {
                "learned": np.asarray(correction_table(learner, problem, state, TARGET.terminal())),
                "visited": np.minimum(*map(np.asarray, visited)),
            }

        found = workshop.kept(f"accuracy-seed{seed}", compute)
        both = found["visited"] >= workshop.pick(ENOUGH, 1)
        different = both & (np.abs(exact) > DIFFERENT)
        error = np.abs(found["learned"] - exact)
        errors.append(error[both])
        # At the quick scale there may be none.
        of_different.append(error[different] if different.any() else np.zeros(1))
        tables.append(found["learned"])
        workshop.settings["accuracy"] |= {
            "entries with data in both": int(both.sum()),
            "of these with a log-ratio beyond 0.2": int(different.sum()),
        }
    workshop.pictures.mkdir(parents=True, exist_ok=True)
    correction_map(
        TARGET,
        {"log p_target / p_source, exact": exact, "Δr, learned": tables[0]},
        workshop.pictures / "darc-grid.png",
    )
    return [
        Measure("largest error of Δr (nats)", [e.max() for e in errors], None, 0.2, "at most"),
        Measure(
            "the same where the log-ratio is beyond 0.2", [e.max() for e in of_different],
            None, 0.2, "at most",
        ),
        Measure("mean error of Δr (nats)", [e.mean() for e in errors], direction="at most"),
    ]  # fmt: skip


def _transfer(workshop: Workshop) -> Callable[[], list[Measure]]:
    """From the corner to the goal: the short way is walled in the target only. Begins to train;
    what it returns gives the rows."""
    updates, tasks = workshop.pick(UPDATES, 12), workshop.pick(500, 20)
    steps = updates * LEARNER["num_envs"] * LEARNER["rollout_length"]
    into: dict[str, Any] = {"target": "grid-wall", "target_settings": {"wall": True}}
    darc = {"learner": words("ppo", LEARNER), **CLASSIFIERS}
    few = steps_of_target(DARC(**darc), SOURCE, TARGET, steps)
    walled: dict[str, Any] = {"family_settings": {"wall": True}}

    def train(label: str, method: str, settings: dict[str, Any], **options: Any) -> Trained:
        options = {"steps": steps, **options}
        return workshop.train(label, method, "grid-wall", settings=settings, **options)

    rows: list[tuple[Trained, str, tuple]] = [
        (train("darc", "darc", darc, budget=few, **into), "DARC", (0.9,)),
        (train("source-only", "ppo", LEARNER, **into), "source only", (0.1, "at most")),
        *(
            (train(label, "darc", darc | changes, budget=few, **into), name, ())
            for label, name, changes in ABLATIONS[: workshop.pick(None, 1)]
        ),
        (
            train("few-target-steps", "ppo", LEARNER, steps=few, **walled),
            "trained there on DARC's target steps alone",
            (),
        ),
        (train("target", "ppo", LEARNER, **walled), "trained there on all steps", ()),
    ]

    def success(trained: Trained) -> list[float]:
        # The goal pays 1 and a step costs 0.02: only an episode that found it pays more than 0.
        found = workshop.evaluate(trained, tasks=tasks, episodes=0)
        return [float((e.scores > 0).mean()) for e in found]

    return lambda: [
        Measure(f"success in the target, {name}", success(trained), None, *bar, proportion=True)
        for trained, name, bar in rows
    ]


CARD = Card(
    name="darc-grid",
    title="DARC walks round a wall that its source does not have",
    source="After Eysenbach et al. 2021 (2006.13916), §4; the log-ratio is exact",
    run=run,
)
