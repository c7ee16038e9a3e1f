"""Hindsight on Gymnasium-Robotics' FetchPush (Andrychowicz et al. 1707.01495, §4), as far as an hour brings
it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .card import Card, Measure
from .fetch import HORIZON, require_robotics, success
from .workshop import Workshop

HOUR = 45 * 60
"""Seconds after which no further stage is begun."""
STAGE, MOST = 20_000, 1_000_000
"""Environment steps between two looks at the agent, and in all."""
EPISODES = 16
SETTINGS: dict[str, Any] = {
    "learner": "td3 exploration_noise=0.2 action_penalty=1.0", "normalize_observations": True,
    "exploration": 0.3, "episodes": EPISODES, "gradient_steps": EPISODES * HORIZON * 2 // 5,
    "hidden": (256, 256), "batch_size": 256, "target_rate": 0.02,
}  # fmt: skip


def run(workshop: Workshop) -> Sequence[Measure]:
    """TD3 with hindsight, stage after stage until the time is up."""
    require_robotics("her-fetch-push")
    small = workshop.pick(
        {}, {"episodes": 2, "gradient_steps": 2, "hidden": (8,), "batch_size": 8, "capacity": 4}
    )

    def stage(steps: int) -> dict[str, np.ndarray]:
        trained = workshop.train(
            "training", "her", "gymnasium-goals", steps=steps, settings=SETTINGS | small,
            reveal="context",
            family_settings={
                "environment": "FetchPush-v4", "horizon": HORIZON, "table": workshop.pick(800, 8),
            },
        )  # fmt: skip
        found = success(workshop, trained, 100)
        workshop.say(f"{steps:,} steps: {found}")
        return {"success": np.asarray(found)}

    done, found = [], []
    for steps in workshop.pick(range(STAGE, MOST + 1, STAGE), (1,)):
        found.append(workshop.kept(f"after-{steps}", lambda steps=steps: stage(steps))["success"])
        done.append(steps)
        if workshop.seconds > HOUR:
            break
    workshop.curve(
        "success", "HER (TD3, future, k = 4)", done, np.stack(found, axis=1),
        y_label="test episodes that end at the goal",
    )  # fmt: skip
    return [
        Measure("success when the time is up", found[-1], 1.0, proportion=True),
        Measure("environment steps by then", [float(done[-1])]),
    ]


CARD = Card(
    name="her-fetch-push",
    title="How far hindsight teaches a robot's arm to push a block within an hour",
    source="",
    run=run,
    seeds=1,
    heavy=True,
)
