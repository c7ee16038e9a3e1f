"""Randomization and context: what it is worth to see which hopper one is."""

from collections.abc import Sequence
from typing import Any

from .card import Card, Measure, differences
from .workshop import Trained, Workshop, point_means

STEPS = 1_000_000
SETTINGS: dict[str, Any] = {"num_envs": 64, "rollout_length": 128, "learning_rate": 5e-4}


def run(workshop: Workshop) -> Sequence[Measure]:
    """PPO three times on the same number of steps: told the body's parameters; told nothing, with a
    new body every episode; on the nominal body only. All are judged on the same bodies."""
    steps = workshop.pick(STEPS, 1)
    settings = SETTINGS | workshop.pick({}, {"num_envs": 2, "rollout_length": 8, "minibatches": 2})
    tasks = workshop.pick(400, 4)
    target: dict[str, Any] = {"target": "hopper-params"}

    def train(label: str, family: str, **options: Any) -> Trained:
        return workshop.train(label, "ppo", family, steps=steps, settings=settings, **options)

    trained = [
        train("told", "hopper-params", reveal="context"),
        train("randomized", "randomized", **target),
        train("nominal", "hopper-params", family_settings={"width": 0.0}, **target),
    ]

    def returns(trained: Trained) -> dict[str, list[float]]:
        return {
            split: point_means(workshop.evaluate(trained, tasks=tasks, episodes=0, split=split))[
                :, 0
            ].tolist()
            for split in ("test", "ood")
        }

    told, randomized, nominal = map(returns, trained)
    names = {
        "told the parameters": told,
        "not told, randomized per episode": randomized,
        "nominal hopper only": nominal,
    }
    return [
        *(Measure(f"return, {name}", found["test"]) for name, found in names.items()),
        Measure("told − not told (paired)", differences(told["test"], randomized["test"])),
        Measure("randomized − nominal (paired)", differences(randomized["test"], nominal["test"])),
        Measure(
            "beyond the range: told − nominal (paired)", differences(told["ood"], nominal["ood"])
        ),
        *(
            Measure(f"return beyond the range, {name}", found["ood"])
            for name, found in names.items()
        ),
    ]


CARD = Card(
    name="context-or-not",
    title="A policy that sees a hopper's body, one that does not, and one of the nominal hopper",
    source="The bodies are those of PEARL's rand-params tasks (1903.08254, §6.1); nothing published",
    run=run,
    note=(
        "Within the range three seeds of 1M steps do not tell the three apart: the bodies differ less than the"
        " seeds do. Beyond it, who is told has 24 [4, 43] more than who knows the nominal body alone (paired)."
    ),
)
