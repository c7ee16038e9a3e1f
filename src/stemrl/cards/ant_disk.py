"""An ant that learned on an endless plane, on a disk that it can fall from (after 2006.13916, §4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..physics.off_dynamics import AntDisk
from ..rl import play
from ..transfer import DARC
from .card import Card, Measure, differences
from .darc_half_cheetah_broken import CLASSIFIERS, PPO
from .workshop import Workshop, steps_of_target, words

STEPS, MORE = 1_000_000, 300_000
"""Until the ant walks on the plane, and from there on."""

RECIPE: dict[str, Any] = CLASSIFIERS | {"correction_scale": 10.0}
"""Who runs on beyond the edge earns 2.5 a step for a hundred steps, which a penalty of ten nats, once, does
not outweigh."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO on the plane until the ant walks; from there on DARC with a tenth as many steps on the disk,
    PPO on the plane, and PPO on the disk itself."""
    steps, more, episodes = workshop.pick((STEPS, MORE, 50), (40, 40, 3))
    tiny = {"num_envs": 2, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": (4,)}
    ppo = PPO | workshop.pick({}, tiny)
    common = {"warm_up_steps": workshop.pick(20_000, 10), "learner": words("ppo", ppo)}
    darc = RECIPE | common
    both: dict[str, Any] = {"horizon": workshop.pick(200, 20)}
    disk: dict[str, Any] = both | {"disk": True}
    into: dict[str, Any] = {
        "family_settings": both, "target": "ant-disk", "target_settings": disk,
    }  # fmt: skip
    few = steps_of_target(DARC(**darc), AntDisk(**both), AntDisk(**disk), more)
    walks = workshop.train("walks", "ppo", "ant-disk", settings=ppo, steps=steps, **into)
    after: dict[str, Any] = {"steps": more, "start": walks}
    runs = {
        "source only": workshop.train(
            "source-only", "ppo", "ant-disk", settings=ppo, **after, **into
        ),
        "DARC": workshop.train(
            "darc", "darc", "ant-disk", settings=darc, budget=few, **after, **into
        ),
        "trained there on as many steps": workshop.train(
            "target", "ppo", "ant-disk", settings=ppo, family_settings=disk, **after
        ),
    }
    family = AntDisk(**disk)
    played = {
        name: [_played(a, family, episodes) for a in one.agents] for name, one in runs.items()
    }
    stays = {name: [float(p["stays"].mean()) for p in ones] for name, ones in played.items()}
    falls = {name: [float(p["falls"].mean()) for p in ones] for name, ones in played.items()}
    uses = {
        name: [float(np.mean(p["reach"] >= 0.6)) for p in ones] for name, ones in played.items()
    }
    good = {
        name: [float(np.mean(p["stays"] & (p["reach"] >= 0.6))) for p in ones]
        for name, ones in played.items()
    }
    _by_distance(workshop, played)
    _draw(workshop.picture("paths"), played, family.radius)
    edge: dict[str, Any] = {} if workshop.quick else {"low_bar": 0.0}
    return [
        Measure(
            "episodes that stay on the disk: DARC − source only (paired)",
            differences(stays["DARC"], stays["source only"]), **edge,
        ),
        Measure(
            "episodes that stay and reach 60% of the radius, DARC", good["DARC"], bar=0.8, must=False,
            proportion=True,
        ),
        Measure(
            "the same: DARC − source only (paired)", differences(good["DARC"], good["source only"])
        ),
        Measure(
            "the same, trained there on as many steps", good["trained there on as many steps"],
            proportion=True,
        ),
        *(Measure(f"episodes that end in a fall, {n}", v, proportion=True) for n, v in falls.items()),
        *(Measure(f"episodes that stay on the disk, {n}", v, proportion=True) for n, v in stays.items()),
        *(Measure(f"episodes that reach 60% of the radius, {n}", v, proportion=True) for n, v in uses.items()),
        *(
            Measure(f"mean speed (m/s), {n}", [float(p["mean_speed"]) for p in ones])
            for n, ones in played.items()
        ),
    ]  # fmt: skip


def _played(agent: Any, family: AntDisk, episodes: int) -> dict[str, np.ndarray]:
    """Of every episode whether it stayed, and how much of the radius it used; of its steps distance,
    speed and place."""
    params = family.tasks(jax.random.key(1), "test", episodes)
    steps = play(agent, family, params, None, jax.random.key(2), 1).transitions
    valid = np.asarray(steps.valid)[:, 0, 0]
    distance = np.where(valid, np.asarray(steps.events["distance"])[:, 0, 0], 0.0)
    speed = np.where(valid, np.asarray(steps.events["speed"])[:, 0, 0], 0.0)
    on_disk = np.asarray(steps.events["on_disk"])[:, 0, 0]
    return {
        # A fall ends an episode on the disk: that is not to stay.
        "stays": np.asarray(valid.all(1) & on_disk.all(1)),
        "falls": np.asarray(~valid.all(1) & (on_disk | ~valid).all(1)),
        "reach": np.minimum(distance.max(1) / family.radius, 1.0),
        "mean_speed": np.asarray(speed.sum() / valid.sum()),
        "distance": distance,
        "speed": speed,
        "valid": valid,
        "path": np.asarray(steps.obs)[:, 0, 0, :, :2],
    }


def _by_distance(workshop: Workshop, played: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Speed against the distance to the edge: who hesitates there?"""
    edges = np.linspace(0.0, AntDisk().radius, 7)
    middle = AntDisk().radius - (edges[:-1] + edges[1:]) / 2
    for name, ones in played.items():
        rows = []
        for p in ones:
            speed, distance = p["speed"][p["valid"]], p["distance"][p["valid"]]
            place = np.digitize(distance, edges[1:-1])
            found = [speed[place == k].mean() if (place == k).any() else np.nan for k in range(6)]
            rows.append(found)
        means = np.asarray(rows)
        seen = np.isfinite(means).all(0)
        if seen.any():
            workshop.curve(
                "speed", name, middle[seen], means[:, seen],
                x_label="distance to the edge (m)", y_label="speed (m/s)",
            )  # fmt: skip


def _draw(path: Path, played: dict[str, list[dict[str, np.ndarray]]], radius: float) -> None:
    """Twenty episodes of the first seed of each, from above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(played), 3.6), layout="constrained")
    panels = figure.subplots(1, len(played), squeeze=False)[0]
    circle = np.linspace(0, 2 * np.pi, 97)
    for axes, (name, ones) in zip(panels, played.items(), strict=True):
        axes.plot(radius * np.cos(circle), radius * np.sin(circle), color="0.3", lw=1)
        for places, there in zip(ones[0]["path"][:20], ones[0]["valid"], strict=False):
            axes.plot(*places[there].T, lw=0.8, alpha=0.6)
        axes.set(title=name, aspect="equal")
        axes.set_axis_off()
    figure.savefig(path, dpi=120, bbox_inches="tight")


CARD = Card(
    name="ant-disk",
    title="An ant that may fall off its disk, trained on an endless plane",
    source="After Eysenbach et al. 2021 (2006.13916), §4: the ant on a disk; no code is published",
    run=run,
    seeds=8,
    first_seed=13,
    heavy=True,
    note=(
        "Whether it hesitates and turns back: the figure of its speed by the distance to the edge, and the"
        " paths from above. `stemrl report` animates a run's episodes. The step over the edge is the same in both"
        " worlds but that it ends the target's episode. DARC's classifiers see that, and where it happens as sharply as"
        " their noise lets them (`classifier_noise` 1, in standard deviations of what they see): what is paid for is"
        " being near the edge. To stay is to last all 200 steps on the disk: an ant that falls over ends its episode"
        " on the disk too, and falls are counted by themselves. Seeds differ widely."
    ),
    differs=(
        "PPO instead of SAC; a disk of 3 m, episodes of 200 steps.",
        "A nat of Δr is worth 10 of reward (`correction_scale`).",
        "All go on for 300,000 steps from one policy that has learned to walk on the plane in a million: DARC, too,"
        " begins with it.",
    ),
    revised=(
        "Three times. The ends that classifiers see and the worth of a nat came after the bar was missed; the worth of a"
        " nat was chosen on seeds 0 and 1. Then sharp classifiers were the recipe, judged on seeds 5 to 12: reached, while"
        " an episode counted as one that stays also where the ant fell over; the same runs, counted rightly, missed it, and"
        " blurred classifiers, an ablation there, did better. They are judged here on seeds that were named beforehand, 13"
        " to 20."
    ),
    tried=(
        (
            "all from scratch, 200,000 steps (as in `darc-families`)",
            "the ant does not walk; after a million steps on the plane it does (return 554, one seed; standing has 200)",
        ),
        (
            "classifiers that are not shown whether a step terminated, with noise of 1: episodes that stay, DARC −"
            " source only, five seeds",
            "−0.008 [−0.036, 0.020]",
        ),
        (
            "shown it, with noise of 0.02, and Δr added to the reward as it is: the same difference",
            "0.012 [−0.026, 0.050]: the step over the edge costs ten or twenty nats, once, and running on beyond it"
            " earns 250",
        ),
        (
            "a nat worth 10, 30 and 100 of reward on seed 0, and 30 on seed 1: episodes that stay",
            "0.84, 0.84, 0.90 and 0.58; 10 was taken, which changes the rewards least",
        ),
        (
            "a nat worth 10, with sharp classifiers, on seeds 0 to 4: DARC − source only; without seed 0. Then eight seeds from 5 on were"
            " decided on, before any was run",
            "0.55 [0.15, 0.96]; 0.48 [−0.04, 1.0], with falls counted as staying",
        ),
        (
            "sharp classifiers (noise of 0.02, two layers of 64 units) on seeds 5 to 12, falls apart: episodes that stay,"
            " DARC − source only; falls; and the same with blurred classifiers",
            "0.20 [−0.10, 0.49]; 0.30; 0.39 stay and 0.04 fall",
        ),
    ),
)
