"""RL² with every memory on one budget: bandits, against the exact Bayes optimum (1707.03141, Table 1)."""

from collections.abc import Sequence
from typing import Any, get_args

from ..networks import Cell
from ..optimal import bayes_optimal_value
from ..tasks.bandit import Bandit
from .baselines import classical, exact
from .card import Card, Measure
from .workshop import Workshop, trial_totals

SHARE = 0.97
"""Of the exact Bayes-optimal value, to be reached by every memory."""
TITLES: dict[Cell, str] = {
    "gru": "GRU",
    "lstm": "LSTM",
    "delta": "fast weights, delta rule",
    "snail": "SNAIL",
    "transformer": "causal Transformer",
    "ttt": "TTT-Linear",
}
PUBLISHED = {"gru": 6.7, "snail": 6.6}
"""RL²'s (a GRU) and SNAIL's."""
ARMS, PULLS = 5, 10
STEPS = 1_500_000
SETTINGS: dict[str, Any] = {
    "batch_steps": 6_000,
    "epochs": 4,
    "learning_rate": 2e-3,
    "anneal_updates": STEPS // 6_000,
    "gae_lambda": 0.3,
}
TRIALS = 50_000
"""Of an evaluation."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """The same training for each memory; all play the same bandits."""
    family = Bandit(arms=ARMS, pulls=workshop.pick(PULLS, 5))
    cells = workshop.pick(get_args(Cell), ("gru", "snail"))
    settings = SETTINGS | workshop.pick({}, {"batch_steps": 100, "epochs": 1, "hidden_size": 8})
    trained = {
        cell: workshop.train(
            cell,
            "rl2",
            "bandit",
            steps=workshop.pick(STEPS, 200),
            settings=settings | {"cell": cell},
            family_settings=family.settings(),
        )
        for cell in cells
    }
    trials = workshop.pick(TRIALS, 50)
    beside = exact(family) + classical(workshop, family, {"greedy": 6.6}, trials=trials)
    bar = SHARE * bayes_optimal_value(family.arms, family.pulls)
    rows, costs = [], []
    for cell, agents in trained.items():
        name = TITLES[cell]
        totals = trial_totals(workshop.evaluate(agents, tasks=trials))
        rows.append(Measure(f"RL², {name}", totals, PUBLISHED.get(cell), bar))
        costs += [
            Measure(f"{name}: seconds of training", agents.seconds),
            Measure(f"{name}: peak memory of an update (MiB)", [agents.peak_memory()]),
        ]
    return [*rows, *beside, *costs]


CARD = Card(
    name="memories",
    title="Six memories for RL² on one budget, against the exact optimum of bandits",
    source="Mishra et al. 2018 (1707.03141), Table 1, ten pulls of five arms; the optimum is exact",
    run=run,
    note=(
        "Wall-clock is a training's, without compiling its first update, beside whatever else this machine"
        " trained; memory is what XLA plans for an update's state and temporaries."
    ),
    differs=(
        "By PPO, on 1.5M steps; the same settings for all memories, which are the GRU's.",
        "A hundred pulls of ten arms, and random decision processes, were not run for all six: on two cores the"
        " GRU alone takes twenty minutes a hundred pulls (`rl2-bandit`), and what looks back over a trial an order"
        " more.",
    ),
)
