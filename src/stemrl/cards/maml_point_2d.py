"""MAML on navigation in the plane (Finn et al. 1703.03400, §5.3.1)."""

from collections.abc import Sequence

from .card import Card, Measure
from .workshop import Workshop, point_means

PUBLISHED = {
    "MAML": (-40.41, -11.68, -3.33, -3.23),
    "pretrained": (-82.66, -57.96, -53.84, -46.81),
}
"""Mean return after 0, 1, 2 and 3 gradient steps: the authors' raw results."""
BARS = (-45.0, -11.7, -3.4, -3.3)
ORACLE = -2.29
"""Theirs, of a policy that is told its goal."""

# The authors' code: 40 tasks, 20 episodes of 100 steps, inner rate 0.5, TRPO with 0.01, 100
# iterations, 100-100 ReLU.
SETTINGS = {
    "meta_batch_size": 40,
    "inner_episodes": 20,
    "inner_learning_rate": 0.5,
    "hidden": (100, 100),
}
# PPO on as many steps, in large batches.
PLAIN = {
    "lanes": 160, "steps_per_update": 100, "epochs": 4, "minibatches": 16, "learning_rate": 1e-3,
}  # fmt: skip
ITERATIONS = 100
STEPS = 3


def run(workshop: Workshop) -> Sequence[Measure]:
    """Meta-train, then adapt to goals that were never met; beside it PPO pretrained on all goals
    and fine-tuned, on as many steps, and PPO that is told its goal."""
    tasks = workshop.pick(400, 8)
    settings = SETTINGS | workshop.pick({}, {"meta_batch_size": 2, "inner_episodes": 4})
    width, iterations = settings["inner_episodes"], workshop.pick(ITERATIONS, 2)
    family = {"horizon": workshop.pick(100, 20)}
    steps = iterations * settings["meta_batch_size"] * 2 * width * family["horizon"]
    episodes = STEPS * width

    def points(label: str, method: str, settings: dict, **options) -> list[list[float]]:
        trained = workshop.train(
            label,
            method,
            "point-2d",
            **{"steps": steps, "settings": settings, "family_settings": family, **options},
        )
        found = workshop.evaluate(trained, tasks=tasks, episodes=episodes)
        return point_means(found).T.tolist()

    maml = points("maml", "maml", settings)
    plain_settings = {"width": width, **PLAIN} | workshop.pick({}, {"lanes": 2, "minibatches": 2})
    plain = points("pretrained", "finetune", plain_settings)
    oracle = points("oracle", "finetune", plain_settings, reveal="context", steps=-(-steps // 4))
    after = [f"after {i} gradient step{'s' * (i != 1)}" for i in range(STEPS + 1)]
    return [
        *(
            Measure(f"MAML {after[i]}", maml[i], PUBLISHED["MAML"][i], BARS[i])
            for i in range(STEPS + 1)
        ),
        *(
            Measure(f"pretrained on all goals, {after[i]}", plain[i], PUBLISHED["pretrained"][i])
            for i in range(STEPS + 1)
        ),
        Measure("told its goal", oracle[0], ORACLE),
    ]


CARD = Card(
    name="maml-point-2d",
    title="MAML finds goals in the plane after one gradient step and more",
    source="Finn et al. 2017 (1703.03400), §5.3.1; numbers of the authors' raw results",
    run=run,
)
