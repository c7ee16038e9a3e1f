"""PPO and EPOpt on cart-pole by the protocol of Packer et al. (1810.12282)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Problem
from ..tasks.cart_pole import SOLVED, CartPole
from .card import Card, Measure, differences
from .workshop import Trained, Workshop

EPISODES, UPDATES = 60, 250
PPO = "ppo hidden=32,32 epochs=4 minibatches=16 learning_rate=1e-3 entropy_weight=0.01"
PUBLISHED = {
    "PPO": {"default": 1.0, "interpolation": 1.0, "extrapolation": 0.862},
    "EPOpt": {"default": 0.9998, "interpolation": 0.995, "extrapolation": 0.736},
}
"""Packer et al., table of feed-forward policies on cart-pole, as shares."""


def train_pole(workshop: Workshop, spread: str, epsilon: float) -> Trained:
    """A policy for the nominal pole or for random ones; ε = 1 is PPO, on whole episodes."""
    updates, episodes = workshop.pick((UPDATES, EPISODES), (6, 4))
    inner = PPO if not workshop.quick else f"{PPO} hidden=4".replace("hidden=32,32 ", "")
    settings: dict[str, Any] = {
        "learner": inner, "episodes": episodes, "epsilon": epsilon,
        "warm_up_updates": updates // 3 if epsilon < 1 else 0,
    }  # fmt: skip
    if workshop.quick:
        settings["epsilon"] = max(epsilon, 0.5)
    horizon = CartPole().horizon
    return workshop.train(
        f"{'ppo' if epsilon == 1 else 'epopt'}-{spread}",
        "epopt",
        "cart-pole",
        steps=updates * episodes * horizon,
        settings=settings,
        family_settings={"spread": spread},
    )


def returns(
    workshop: Workshop, trained: Trained, spread: str, split: str = "test"
) -> list[np.ndarray]:
    """Of each seed's policy, acting as it is most likely to: the return on each of the same tasks."""
    problem, tasks = Problem.of(CartPole(spread)), workshop.pick(1000, 10)  # pyright: ignore
    found = workshop.judge(
        trained.agents, problem, tasks=tasks, split=split, episodes=0, most_likely=True
    )
    return [e.scores[:, 0].mean(axis=-1) for e in found]


def worst_tenth(values: np.ndarray) -> float:
    """The mean over the worst 10% of the tasks."""
    return float(np.sort(values)[: max(1, len(values) // 10)].mean())


def run(workshop: Workshop) -> Sequence[Measure]:
    """Both methods trained on the default pole (D) and on random ones (R), tried on D, R and the poles
    outside of R (E)."""
    trained = {
        (name, spread): train_pole(workshop, spread, epsilon)
        for name, epsilon in (("PPO", 1.0), ("EPOpt", 0.1))
        for spread in ("nominal", "random")
    }
    rows: list[Measure] = []
    tenth: dict[str, list[float]] = {}
    for name in ("PPO", "EPOpt"):
        on = {spread: trained[name, spread] for spread in ("nominal", "random")}
        where = {
            "DD": returns(workshop, on["nominal"], "nominal"),
            "DR": returns(workshop, on["nominal"], "random"),
            "DE": returns(workshop, on["nominal"], "random", "ood"),
            "RR": returns(workshop, on["random"], "random"),
            "RE": returns(workshop, on["random"], "random", "ood"),
        }
        solved = {k: np.array([(r >= SOLVED).mean() for r in v]) for k, v in where.items()}
        beyond = np.cbrt(solved["DR"] * solved["DE"] * solved["RE"])
        found = {"default": solved["DD"], "interpolation": solved["RR"], "extrapolation": beyond}
        rows += [
            Measure(f"success, {what}, {name}", v, PUBLISHED[name][what], proportion=True)
            for what, v in found.items()
        ]
        tenth |= {f"{name} {k}": [*map(worst_tenth, where[k])] for k in ("RR", "RE")}
        rows += [
            Measure(f"return in the worst 10% of random poles, {name}", tenth[f"{name} RR"]),
            Measure(f"the same outside of their range, {name}", tenth[f"{name} RE"]),
        ]
    return [
        *rows,
        Measure(
            "worst 10% of random poles: EPOpt − PPO (paired)",
            differences(tenth["EPOpt RR"], tenth["PPO RR"]), low_bar=0.0, must=False,
        ),
        Measure(
            "worst 10% outside of the range: EPOpt − PPO (paired)",
            differences(tenth["EPOpt RE"], tenth["PPO RE"]), low_bar=0.0, must=False,
        ),
    ]  # fmt: skip


CARD = Card(
    name="epopt-cartpole",
    title="PPO and EPOpt on poles inside and outside of what they have seen",
    source="Packer et al. 2018 (1810.12282): feed-forward PPO and EPOpt-PPO on cart-pole",
    run=run,
    seeds=5,
    note=(
        "Both columns are the same to the last digit: by the time that ε falls, every training episode"
        " already stands for all of its 200 steps, so that the worst tenth of equal returns is all of"
        " them. On this task EPOpt has nothing to choose from."
    ),
    differs=(
        "Plain PPO is EPOpt with ε = 1, which is PPO update for update: both play the same number of"
        " whole episodes.",
        "250 updates of 60 episodes (15,000, as published), ε = 0.1 after the first third.",
        "Policies act as they are most likely to.",
    ),
)
