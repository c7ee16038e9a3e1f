"""The Bayesian update of the source distribution finds a hidden mass (Rajeswaran et al. 1610.01283, §3.3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..report.source_picture import draw_source, source_history
from .card import Card, Measure
from .workshop import Trained, Workshop

TORSO = 6.0 / 3.6651914
"""The authors' mean mass of the torso (kg), as a factor on Gymnasium's."""
LOOKS = 10
"""Episodes of the target."""

PLACES: dict[str, dict[str, Any]] = {
    "cart-pole": {
        "family": "cart-pole", "settings": {"spread": "nominal"}, "name": "mass",
        "address": "mass", "prior": "0.05:0.5", "hidden": 0.4, "horizon": 200, "unit": "kg",
    },
    "hopper": {
        "family": "hopper-params", "settings": {}, "name": "body_mass:torso",
        "address": "body_mass:torso",
        "prior": ":".join(f"{TORSO * x / 6.0:.4f}" for x in (6.0, 1.5, 3.0, 9.0)),
        "hidden": round(TORSO * 8.0 / 6.0, 4), "horizon": 200, "unit": "times Gymnasium's",
    },
}  # fmt: skip
"""Where a mass is hidden: the prior is uniform, or (the authors') normal and cut off."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """EPOpt with ten episodes of a target whose mass it is not told."""
    trained = {name: _train(workshop, name, place) for name, place in PLACES.items()}
    rows: list[Measure] = []
    for name, place in PLACES.items():
        found = [
            source_history(run, run.config.seed + i)
            for run in trained[name].runs
            for i in range(run.config.seeds)
        ]
        key, hidden = place["name"], place["hidden"]
        first = [h[f"source/std/{key}"][0] for h in found]
        off = [abs(h[f"source/mean/{key}"][-1] - hidden) for h in found]
        draw_source(found[0], workshop.picture(name), truth={key: hidden})
        looks = [(h["source/rounds"], np.abs(h[f"source/mean/{key}"] - hidden)) for h in found]
        ways = [
            [error[rounds <= r][-1] / f for r in range(int(rounds.max()) + 1)]
            for (rounds, error), f in zip(looks, first, strict=True)
        ]
        shortest = min(map(len, ways))
        workshop.curve(
            name, "distance of the mean", range(shortest), [w[:shortest] for w in ways],
            x_label="episodes of the target", y_label="in first deviations",
        )  # fmt: skip
        distance = [o / f for o, f in zip(off, first, strict=True)]
        bar = None if workshop.quick else 0.25
        rows += [
            Measure(
                f"{name}: distance of the mean from the hidden mass, in first deviations",
                distance, None, bar, "at most",
            ),
            Measure(f"{name}: the same before", [w[0] for w in ways]),
            Measure(
                f"{name}: deviation after, in first ones",
                [h[f"source/std/{key}"][-1] / f for h, f in zip(found, first, strict=True)],
                direction="at most",
            ),
            Measure(f"{name}: steps taken in the target", [h["target_steps"][-1] for h in found]),
        ]  # fmt: skip
    return rows


def _train(workshop: Workshop, name: str, place: dict[str, Any]) -> Trained:
    looks, episodes, warm_up = workshop.pick((LOOKS, 30, 20), (2, 2, 1))
    particles = workshop.pick(200, 8)
    horizon = workshop.pick(place["horizon"], 10)
    every = workshop.pick(3, 1)
    updates = warm_up + (looks - 1) * every + 1
    ranges = {"ranges": f"{place['address']}={place['prior']}", "horizon": horizon}
    truth = {"ranges": f"{place['address']}={place['hidden']}", "horizon": horizon}
    return workshop.train(
        name,
        "epopt",
        place["family"],
        steps=updates * episodes * horizon,
        settings={
            "learner": "ppo hidden=32,32 learning_rate=1e-3 epochs=4 minibatches=8",
            "episodes": episodes,
            "epsilon": 0.5,
            "warm_up_updates": warm_up,
            "updates_per_round": every,
            "particles": particles,
            "likelihood_steps": workshop.pick(100, 5),
        },
        family_settings=place["settings"] | ranges,
        target=place["family"],
        target_settings=place["settings"] | truth,
        budget=looks * horizon,
    )


CARD = Card(
    name="epopt-adapt",
    title="Ten episodes of a target, and the source distribution stands on its hidden mass",
    source="Rajeswaran et al. 2016 (1610.01283), §3.3 and figure 4; no number published",
    run=run,
    differs=(
        "A quarter of a first deviation, after ten episodes of the target, is our bar.",
        "The likelihood is tempered so that a fifth of the particles keep weight.",
    ),
)
