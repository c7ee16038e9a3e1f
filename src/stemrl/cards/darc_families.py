"""DARC on its paper's other robots, in one table (Eysenbach et al. 2006.13916, §6)."""

from collections.abc import Sequence
from typing import Any

from ..registry import make
from ..transfer import DARC
from .card import Card, Measure, differences
from .darc_half_cheetah_broken import CLASSIFIERS, PPO
from .workshop import Trained, Workshop, steps_of_target, words

STEPS = 200_000
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ant-broken": ({"horizon": 200}, {"broken": True}),
    "hopper-falling": ({"step_reward": 1.0}, {"falls": True}),
    "half-cheetah-wall": ({"horizon": 200}, {"wall": True}),
}
"""Settings of both domains, and of the target."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO in the source, DARC, and PPO in the target on as many steps, for each family."""
    steps, tasks = workshop.pick((STEPS, 20), (40, 2))
    tiny = {"num_envs": 2, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": (4,)}
    ppo = PPO | workshop.pick({}, tiny)
    darc = CLASSIFIERS | {"warm_up_steps": workshop.pick(20_000, 10), "learner": words("ppo", ppo)}
    rows: dict[str, dict[str, Trained]] = {}
    for family, (both, changed) in list(FAMILIES.items())[: workshop.pick(None, 1)]:
        both = both | workshop.pick({}, {"horizon": 20})
        there = both | changed
        ends = make("families", family, **both), make("families", family, **there)
        into: dict[str, Any] = {
            "family_settings": both, "target": family, "target_settings": there, "steps": steps,
        }  # fmt: skip
        few = steps_of_target(DARC(**darc), *ends, steps)
        rows[family] = {
            "source only": workshop.train(f"{family}-source", "ppo", family, settings=ppo, **into),
            "DARC": workshop.train(
                f"{family}-darc", "darc", family, settings=darc, budget=few, **into
            ),
            "trained there on all steps": workshop.train(
                f"{family}-target", "ppo", family, settings=ppo, family_settings=there, steps=steps
            ),
        }
    measures = []
    for family, runs in rows.items():
        returns = {
            name: [float(e.scores.mean()) for e in workshop.evaluate(one, tasks=tasks, episodes=0)]
            for name, one in runs.items()
        }
        measures += [Measure(f"{family}: {name}", values) for name, values in returns.items()]
        measures.append(
            Measure(
                f"{family}: DARC − source only (paired)",
                differences(returns["DARC"], returns["source only"]),
            )
        )
    return measures


CARD = Card(
    name="darc-families",
    title="DARC on an ant with a dead motor, a hopper that may not fall and a half-cheetah before a wall",
    source="Eysenbach et al. 2021 (2006.13916), §6",
    run=run,
    seeds=3,
    note=(
        "Returns in the target, each of 200,000 steps of the source, a tenth as many of the target. The hopper"
        " is paid 1 a step here, so that its return counts the steps until it falls. The ant walks in none of the"
        " three within these steps (trained there it has nothing either): its row says nothing of DARC."
    ),
    differs=(
        "PPO instead of SAC, far fewer steps than the paper's, episodes of 200 (hopper: 300).",
    ),
)
