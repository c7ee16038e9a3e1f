"""A hopper whose torso grows heavier than it was in training (Rajeswaran et al. 1610.01283, figure 2)."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..physics.randomized import HopperParams
from ..rl import play
from .card import Card, Measure, differences
from .epopt_cartpole import worst_tenth
from .workshop import Trained, Workshop

KG = 1.0 / 3.6651914
"""A kilogram of torso, as a factor on Gymnasium's."""
TABLE = {
    "body_mass:torso": tuple(KG * x for x in (6.0, 1.5, 3.0, 9.0)),
    "geom_friction:foot_geom:0": tuple(x / 2.0 for x in (2.0, 0.25, 1.5, 2.5)),
    "joint_damping:*": (2.5, 1.0, 1.0, 4.0),
    "joint_armature:*": (1.0, 0.25, 0.5, 1.5),
}
"""The authors' table 1 (mean, deviation, low, high), as factors on Gymnasium's hopper."""
NOMINAL = tuple(mean for mean, *_ in TABLE.values())
MASSES = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
EPISODES, UPDATES, HORIZON = 60, 250, 250
INNER = "ppo hidden=64,64 epochs=6 minibatches=16 learning_rate=7e-4"


def run(workshop: Workshop) -> Sequence[Measure]:
    """EPOpt, plain randomization (ε = 1) and the nominal hopper alone, on as many whole episodes; the
    torso's mass from 3 to 9 kg, all else nominal."""
    trained = {
        "nominal only": _train(workshop, "nominal", 1.0, {a: v[:1] * 2 for a, v in TABLE.items()}),
        "randomized": _train(workshop, "randomized", 1.0, TABLE),
        "EPOpt": _train(workshop, "epopt", 0.1, TABLE),
    }
    family = HopperParams(ranges=TABLE, horizon=workshop.pick(HORIZON, 20))  # pyright: ignore
    each = workshop.pick(20, 2)
    values = np.array([NOMINAL] * len(MASSES) * each, np.float32)
    values[:, 0] = np.repeat(MASSES, each) * KG
    drawn = family.tasks(jax.random.key(7), "test", workshop.pick(200, 10))

    @eqx.filter_jit
    def played(agent: Any, params: Any, key: Any) -> Any:
        return play(agent, family, params, None, key, 1).returns[:, 0, 0]

    by_mass: dict[str, np.ndarray] = {}
    tenth: dict[str, list[float]] = {}
    for name, one in trained.items():
        agents = one.agents
        found = [
            played(a, {"values": jnp.asarray(values)}, jax.random.key(5)).reshape(len(MASSES), -1)
            for a in agents
        ]
        by_mass[name] = np.stack([np.asarray(f).mean(axis=1) for f in found])
        tenth[name] = [worst_tenth(np.asarray(played(a, drawn, jax.random.key(6)))) for a in agents]
        workshop.curve("mass", name, MASSES, by_mass[name], x_label="mass of the torso (kg)")
    at = MASSES.index(6.0)
    loss = {name: 1.0 - r[:, -2:].mean(axis=1) / r[:, at] for name, r in by_mass.items()}
    rows = []
    for name, found in by_mass.items():
        rows += [
            Measure(f"return at 6 kg, {name}", found[:, at]),
            Measure(f"return at 8 and 9 kg, {name}", found[:, -2:].mean(axis=1)),
        ]
    rows += [
        Measure(f"share of it lost at 8 and 9 kg, {n}", v, direction="at most")
        for n, v in loss.items()
    ]
    rows.append(
        Measure(
            "nominal only loses at least half when heavy", loss["nominal only"], bar=0.5, must=False
        )
    )
    rows += [
        Measure(
            f"share lost when heavy: nominal only − {name} (paired)",
            differences(loss["nominal only"], loss[name]),  # pyright: ignore
            low_bar=None if workshop.quick else 0.0,
        )
        for name in ("randomized", "EPOpt")
    ]
    rows += [Measure(f"return in the worst 10% of hoppers, {n}", v) for n, v in tenth.items()]
    return [
        *rows,
        Measure(
            "worst 10% of hoppers: EPOpt − randomized (paired)",
            differences(tenth["EPOpt"], tenth["randomized"]), low_bar=0.0, must=False,
        ),
    ]  # fmt: skip


def _train(workshop: Workshop, label: str, epsilon: float, ranges: dict[str, tuple]) -> Trained:
    updates, episodes, horizon = workshop.pick((UPDATES, EPISODES, HORIZON), (3, 4, 20))
    text = ",".join(f"{a}={':'.join(f'{x:.5g}' for x in v)}" for a, v in ranges.items())
    return workshop.train(
        label,
        "epopt",
        "hopper-params",
        steps=updates * episodes * horizon,
        settings={
            "learner": INNER,
            "episodes": episodes,
            "epsilon": max(epsilon, workshop.pick(0.0, 0.5)),
            "warm_up_updates": updates // 2 if epsilon < 1 else 0,
        },
        family_settings={"ranges": text, "horizon": horizon},
    )


CARD = Card(
    name="epopt-hopper",
    title="A hopper whose torso grows heavy: of the nominal body, of many, of the worst of many",
    source="Rajeswaran et al. 2016 (1610.01283), table 1 and figure 2; TRPO there",
    run=run,
    seeds=5,
    heavy=True,
    differs=(
        "PPO in place of TRPO, 60 episodes an update in place of 240, 250 steps an episode in place of 1000.",
        "Gymnasium's hopper with the torso, friction, damping and armature of the authors' table.",
        "The first half of EPOpt's updates take all episodes.",
    ),
)
