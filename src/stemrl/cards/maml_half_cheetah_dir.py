"""MAML on a half-cheetah that must run forward or backward (Finn et al. 1703.03400, §5.3.2)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..evaluation import Evaluation
from .card import Card, Measure
from .workshop import Trained, Workshop, point_means

STEPS = 8_000_000
# 20 tasks × 20 episodes × 100 steps, one inner step; the rest is what it takes here (see the note).
SETTINGS: dict[str, Any] = {
    "meta_batch_size": 20,
    "inner_episodes": 20,
    "outer": "ppo",
    "epochs": 8,
    "gae_lambda": 0.95,
    "normalize_observations": True,
    "surrogate": "likelihood_ratio",
    "learned_inner_rate": True,
    "initial_std": 0.5,
    "min_std": 0.25,
}
# Many lanes, so that a simulator's call is large.
PPO: dict[str, Any] = {
    "num_envs": 400, "rollout_length": 100, "epochs": 4, "minibatches": 16, "learning_rate": 5e-4,
}  # fmt: skip
POINTS = 4
"""Of adaptation: 0 to 3 gradient steps."""
PUBLISHED = {
    "MAML": (-50.69, 293.19, 313.48, 315.65),
    "pretrained": (-43.0, -24.8, -12.9, 19.6),
}
"""The authors' raw results, of another model (rllab's), with 200 steps an episode."""
PLAIN_RATES = (5.0, 2.0, 0.5, 0.1, 0.02)
"""What the step size of pretraining at test is chosen from, on training tasks."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Meta-train, then adapt to each direction. Beside it the same with an inner rate of 0, which is
    pretraining on both, and an oracle that is told the direction."""
    settings = SETTINGS | workshop.pick(
        {}, {"meta_batch_size": 2, "inner_episodes": 2, "epochs": 1}
    )
    family = {"horizon": workshop.pick(100, 10)}
    episodes_per_round = settings["inner_episodes"]
    per_update = settings["meta_batch_size"] * 2 * episodes_per_round * family["horizon"]
    steps, tasks = workshop.pick((STEPS, 40), (2 * per_update, 2))

    def train(label: str, method: str, settings: dict[str, Any], **options: Any) -> Trained:
        fixed = {"steps": steps, "settings": settings, "family_settings": family}
        return workshop.train(label, method, "half-cheetah-dir", **{**fixed, **options})

    # What only stands beside is of one seed.
    first = {"seeds": workshop.seeds[:1]}
    meta = train("maml", "maml", settings)
    plain_settings = settings | {"learned_inner_rate": False, "inner_learning_rate": 0.0}
    pretrained = train("pretrained", "maml", plain_settings, **first)
    ppo = PPO | workshop.pick({}, {"num_envs": 2, "rollout_length": 20, "minibatches": 2})
    informed = train(
        "oracle",
        "finetune",
        ppo | {"episodes_per_round": episodes_per_round},
        reveal="context",
        **first,
    )

    rounds = {"tasks": tasks, "episodes": (POINTS - 1) * episodes_per_round}
    maml = workshop.evaluate(meta, **rounds)
    oracle = workshop.evaluate(informed, tasks=tasks, episodes=0)

    def plain(rate: float, split: str) -> np.ndarray:
        """Mean return of pretraining with this step size, `[points, seeds]`."""
        changes = {"inner_learning_rate": jnp.asarray(rate)}
        agents = [dataclasses.replace(agent, **changes) for agent in pretrained.agents]
        return point_means(workshop.judge(agents, meta.problem, split=split, **rounds)).T

    rate = workshop.best(PLAIN_RATES, lambda rate: plain(rate, "train")[1:].mean())
    workshop.settings["pretrained"]["rate_at_test"] = rate
    adapted = plain(rate, "test")

    after = [f"after {i} gradient step{'s' * (i != 1)}" for i in range(POINTS)]
    means = point_means(maml).T
    worst = [min(by_direction(e, 1)) for e in maml]
    return [
        Measure("|MAML before adaptation|", np.abs(means[0]), None, 60.0, "at most"),
        Measure(f"MAML {after[1]}", means[1], PUBLISHED["MAML"][1], 200.0),
        Measure(f"MAML {after[1]}, the worse direction", worst, None, 100.0),
        Measure(f"MAML {after[0]}", means[0], PUBLISHED["MAML"][0]),
        *(Measure(f"MAML {after[i]}", means[i], PUBLISHED["MAML"][i]) for i in range(2, POINTS)),
        Measure("oracle, told its direction", point_means(oracle)[:, 0], 442.69),
        *(
            Measure(f"pretrained on both, {after[i]}", adapted[i], PUBLISHED["pretrained"][i])
            for i in range(POINTS)
        ),
    ]


def by_direction(evaluation: Evaluation, point: int) -> list[float]:
    """Mean return of each task of a finite family at a point of adaptation."""
    returns = evaluation.scores[:, point].mean(1)
    return [float(returns[evaluation.strata == s].mean()) for s in np.unique(evaluation.strata)]


CARD = Card(
    name="maml-half-cheetah-dir",
    title="MAML turns a half-cheetah either way after one gradient step",
    source="Finn et al. 2017 (1703.03400), §5.3.2; numbers of the authors' raw results",
    run=run,
    heavy=True,
    note=(
        "With TRPO, fixed inner rates and observations as they are, exploration dies: the deviation"
        " shrinks while only backward pays, and one inner step then hardly moves the policy and shows"
        " it nothing of the other direction. The oracle is PPO that is told its direction; pretraining"
        " is MAML with an inner rate of 0, on the same steps, and its step size at test is chosen on"
        " training tasks. These two, which only stand beside, are of one seed."
    ),
    differs=(
        "20 tasks × 20 episodes × 100 steps; the published numbers are of another model of the robot"
        " and of 200 steps an episode.",
        "Observations are normalized.",
        "GAE with λ = 0.95: the baseline is fitted on one round.",
        "The inner surrogate is the likelihood ratio, the inner rates are learned.",
        "The outer step is PPO's.",
        "A floor of 0.25 under the deviation keeps both directions in every round.",
    ),
    tried=(("the paper's settings", "stalls near 85: backward 170, forward 0"),),
)
