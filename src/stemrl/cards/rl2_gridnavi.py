"""RL² on the hidden goal of a 5×5 grid, against the exact Bayes optimum (VariBAD 1910.08348, §5.1)."""

from collections.abc import Sequence

import numpy as np

from ..optimal import best_search
from ..tasks.gridnavi import GridNavi
from .baselines import classical, exact, finetuning
from .card import Card, Measure
from .workshop import Workshop, trial_totals

SHARE = 0.9
"""Of the Bayes-optimal total, to be reached."""
STEPS = 6_000_000
SETTINGS = {
    "hidden_size": 64,
    "batch_steps": 12_000,
    "learning_rate": 2e-3,
    "anneal_updates": STEPS // 12_000,
    "entropy_weight": 0.01,
}


def run(workshop: Workshop) -> Sequence[Measure]:
    """Trials of four episodes; each seed plays every goal many times."""
    family = GridNavi()
    steps = workshop.pick(STEPS, 2_000)
    settings = SETTINGS | workshop.pick({}, {"batch_steps": 600, "epochs": 1, "hidden_size": 8})
    trained = workshop.train("rl2", "rl2", "gridnavi", steps=steps, settings=settings)
    plain = finetuning(
        workshop,
        "gridnavi",
        steps=steps,
        tasks=workshop.pick(21 * 10, 21),
        episodes_per_round=1,
        settings=workshop.pick({}, {"num_envs": 4, "rollout_length": 15}),
    )
    # Before the trained agents are asked for: these can play while those learn.
    references = {"random": None, "psrl": None}
    others = classical(workshop, family, references, trials=workshop.pick(2_000, 21))
    optimum = best_search(family.size, family.horizon, family.trial_episodes)
    found = workshop.evaluate(trained, tasks=workshop.pick(21 * 50, 21))
    episodes = np.stack([e.scores.mean((0, 2)) for e in found]).T
    return [
        Measure("RL² total", trial_totals(found), bar=SHARE * optimum.value),
        *(Measure(f"RL², episode {i + 1}", values.tolist()) for i, values in enumerate(episodes)),
        *exact(family),
        *others,
        plain(),
    ]


CARD = Card(
    name="rl2-gridnavi",
    title="RL² searches a grid nearly as the Bayes-optimal agent does",
    source="GridNavi of VariBAD (Zintgraf et al. 2020, 1910.08348), §5.1; the optimum is exact",
    run=run,
    note=(
        "What is published of this grid is a curve; the bar is a share of the exact optimum. PSRL plays"
        " as if the goal were one drawn from its posterior."
    ),
)
