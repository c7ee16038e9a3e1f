"""DARC on a half-cheetah with a dead motor in the target (Eysenbach et al. 2006.13916, §6, Figure 6)."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..core import Problem
from ..core.spaces import unscale_action
from ..physics.off_dynamics import HalfCheetahBroken
from ..rl import play
from ..transfer import DARC
from .card import Card, Measure, differences
from .workshop import Trained, Workshop, steps_of_target, words

STEPS = 400_000
PPO: dict[str, Any] = {
    "num_envs": 16, "rollout_length": 128, "learning_rate": 5e-4, "epochs": 6, "minibatches": 8,
}  # fmt: skip
CLASSIFIERS: dict[str, Any] = {
    "classifier_hidden": (32,), "classifier_noise": 1.0, "classifier_gradient_steps": 64,
    "warm_up_steps": 40_000,
}  # fmt: skip
HORIZON = 200
"""Steps an episode; the robot's own are 1,000."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO in the source, DARC with a tenth as many steps of the target, DARC from a file of as many;
    and what these steps are worth to one who only learns there, afresh or from the source."""
    steps, tasks = workshop.pick((STEPS, 20), (80, 2))
    tiny = {"num_envs": 2, "rollout_length": 10, "epochs": 1, "minibatches": 1, "hidden": (4,)}
    ppo = PPO | workshop.pick({}, tiny)
    horizon = {"horizon": workshop.pick(HORIZON, 20)}
    broken: dict[str, Any] = {"broken": True, **horizon}
    darc = CLASSIFIERS | {"learner": words("ppo", ppo)} | workshop.pick({}, {"warm_up_steps": 20})
    ends = HalfCheetahBroken(**horizon), HalfCheetahBroken(**broken)
    few = steps_of_target(DARC(**darc), *ends, steps)
    into: dict[str, Any] = {
        "family_settings": horizon, "target": "half-cheetah-broken", "target_settings": broken,
    }  # fmt: skip

    def train(label: str, method: str, settings: dict[str, Any], **options: Any) -> Trained:
        options = {"steps": steps, **into, **options}
        return workshop.train(label, method, "half-cheetah-broken", settings=settings, **options)

    there = {"steps": few, "family_settings": broken, "target": None, "target_settings": {}}
    source = train("source-only", "ppo", ppo)
    runs = {
        "DARC": train("darc", "darc", darc, budget=few),
        "source only": source,
        "trained there on DARC's target steps alone": train(
            "few-target-steps", "ppo", ppo, **there
        ),
    }
    file = recorded(workshop, source, HalfCheetahBroken(**broken), few)
    runs["DARC from a file"] = train("darc-file", "darc", darc, target_data=file)
    runs["fine-tuned there on DARC's target steps"] = train(
        "fine-tuned", "ppo", ppo, start=source, **there
    )

    def played(one: Trained) -> list[float]:
        return [float(e.scores.mean()) for e in workshop.evaluate(one, tasks=tasks, episodes=0)]

    returns = {name: played(one) for name, one in runs.items()}
    home = Problem.of(HalfCheetahBroken(**horizon))
    in_source = [
        float(e.scores.mean()) for e in workshop.judge(source.agents, home, tasks=tasks, episodes=0)
    ]
    edge: dict[str, Any] = {} if workshop.quick else {"low_bar": 0.0}
    return [
        Measure(
            "return in the target: DARC − source only (paired)",
            differences(returns["DARC"], returns["source only"]), **edge,
        ),
        *(Measure(f"return in the target, {name}", values) for name, values in returns.items()),
        Measure("return in the source, source only", in_source),
    ]  # fmt: skip


def recorded(workshop: Workshop, source: Trained, target: Any, rows: int) -> str:
    """A file of so many transitions of the target, as what was learned in the source makes them there."""

    def record() -> dict[str, np.ndarray]:
        key = jax.random.key(11)
        params = target.tasks(key, "train", -(-rows // target.horizon))
        steps = play(source.agents[0], target, params, None, key, 1).transitions
        valid = np.asarray(steps.valid).reshape(-1)
        # A file holds actions in the space's own units.
        actions = unscale_action(target.action_space, steps.action)
        columns = {
            "observations": steps.obs, "actions": actions, "next_observations": steps.next_obs,
            "terminations": steps.terminated,
        }  # fmt: skip
        return {
            k: np.asarray(x).reshape(-1, *x.shape[4:])[valid][:rows] for k, x in columns.items()
        }

    workshop.kept("recorded", record)
    return str((workshop.folder / "recorded.npz").resolve())


CARD = Card(
    name="darc-half-cheetah-broken",
    title="DARC learns to run without the motor that is dead in the target alone",
    source="Eysenbach et al. 2021 (2006.13916), §6, Figure 6; no numbers are published as a table",
    run=run,
    seeds=10,
    first_seed=5,
    heavy=True,
    note=(
        "Of the target DARC sees a tenth as many steps as of the source, and no reward of it. The file holds as many:"
        " what the first seed's finished source policy does in the target, the same for all seeds. Where other policies"
        " would go it says nothing."
    ),
    differs=(
        "PPO instead of SAC, 400,000 steps of the source instead of a million and more, episodes of 200.",
    ),
    tried=(
        (
            "seeds 0 to 4, twice: before and after the classifiers saw what terminated, which nothing does here: DARC −"
            " source only",
            "180 [−13, 374] and 178 [18, 338]: five seeds are near the bar, on either side",
        ),
    ),
    revised=(
        "The number of seeds, not the recipe. Five gave a miss, and the same five again a hit, by chance alone. So ten"
        " others, 5 to 14, decide, which were named before any of them ran."
    ),
)
