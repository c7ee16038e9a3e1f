"""Does RL² come to act as if it had a model, in Daw's two-step task (Wang et al. 2018; 1611.05763, §3.2.2)?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..core import AbstractAgent
from ..evaluation import draw_tasks
from ..optimal import (
    StayProbabilities,
    choice_regression,
    reference_agent,
    stay_probabilities,
)
from ..registry import make
from ..rl import play
from ..tasks.two_step import TwoStep
from .card import Card, Measure
from .workshop import Workshop

STEPS = 2_000_000
EPISODES = 300
"""Frozen test episodes, as in the paper."""
SETTINGS: dict[str, Any] = {
    "cell": "lstm",
    "hidden_size": 48,
    "discount": 0.9,
    "batch_steps": 12_000,
    "epochs": 4,
    "learning_rate": 3e-3,
    "anneal_updates": STEPS // 12_000,
    "entropy_weight": 0.05,
    "anneal_entropy": True,
}
KINDS = ("rewarded, common", "rewarded, rare", "unrewarded, common", "unrewarded, rare")
BESIDE = {"model-based": "model-based agent", "model-free": "model-free agent"}
"""Simulated agents that stand beside ours."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Each seed plays the frozen test episodes; so do the simulated agents."""
    family: TwoStep = make("families", "two-step", trials=workshop.pick(100, 20))
    trained = workshop.train(
        "rl2",
        "rl2",
        "two-step",
        steps=workshop.pick(STEPS, 800),
        settings=SETTINGS
        | workshop.pick({}, {"batch_steps": 400, "epochs": 1, "hidden_size": 8, "minibatches": 2}),
        family_settings=family.settings(),
    )
    episodes = workshop.pick(EPISODES, 20)
    beside = {
        title: _events(reference_agent(name, family), family, episodes)
        for name, title in BESIDE.items()
    }
    optimal = _events(reference_agent("bayes-optimal", family), family, episodes)
    ours = [_events(agent, family, episodes) for agent in trained.agents]
    pulls = [choice_regression(events) for events in ours]
    positive = [float(pull.reward_by_transition > 0) for pull in pulls]
    rows = [
        Measure("seeds whose coefficient of reward × transition is positive", positive, bar=1.0,
                proportion=True),
        Measure("RL²: reward × transition, regression", [p.reward_by_transition for p in pulls],
                low_bar=0.0, must=False),
        Measure("RL²: reward, regression", [p.reward for p in pulls]),
        Measure("RL²: interaction of stay probabilities",
                [float(np.nanmean(stay_probabilities(e).interaction)) for e in ours]),
        Measure("RL²: paid trials", [_paid(e) for e in ours]),
    ]  # fmt: skip
    for title, events in beside.items():
        pull = choice_regression(events)
        stays = stay_probabilities(events)
        rows += [
            Measure(f"{title}: reward × transition, regression", [pull.reward_by_transition]),
            Measure(f"{title}: reward, regression", [pull.reward]),
            Measure(
                f"{title}: interaction of stay probabilities",
                [float(np.nanmean(stays.interaction))],
            ),
        ]
    rows.append(Measure("Bayes-optimal agent: paid trials", [_paid(optimal)]))
    drawn = {"RL²": [_means(stay_probabilities(events)) for events in ours]}
    drawn |= {title: [_means(stay_probabilities(events))] for title, events in beside.items()}
    _draw(drawn, workshop.picture("stay"))
    return rows


@eqx.filter_jit
def _play(agent: AbstractAgent, family: TwoStep, params: Any, key: Any) -> Any:
    events = play(agent, family, params, None, key, 1).transitions.events
    return {name: events[name][:, 0, 0] for name in ("stage1_action", "common", "rewarded")}


def _events(agent: AbstractAgent, family: TwoStep, episodes: int) -> Mapping[str, np.ndarray]:
    """What happened in test episodes, `[episodes, steps]`; the same tasks for every agent."""
    params, key = draw_tasks(family, "test", episodes, 0)
    return jax.tree.map(np.asarray, _play(agent, family, params, key))


def _paid(events: Mapping[str, np.ndarray]) -> float:
    """Share of trials."""
    return float(2 * np.mean(events["rewarded"]))


def _means(stays: StayProbabilities) -> list[float]:
    """Over episodes, in the order of `KINDS`."""
    order = (
        stays.common_rewarded,
        stays.rare_rewarded,
        stays.common_unrewarded,
        stays.rare_unrewarded,
    )
    return [float(np.nanmean(kind)) for kind in order]


def _draw(agents: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Stay probabilities as Daw et al. draw them: four bars an agent, by reward and transition, and a
    dot for each seed."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9.0, 3.2), layout="constrained")
    for index, (name, seeds) in enumerate(agents.items()):
        axes = picture.add_subplot(1, len(agents), index + 1)
        means = np.mean(np.asarray(seeds), axis=0)
        places, colors = np.array([0.0, 1.0, 2.5, 3.5]), ["C0", "C3"] * 2
        axes.bar(places, means, color=colors, width=0.8)
        if len(seeds) > 1:
            for one in seeds:
                axes.plot(places, one, "k.", markersize=3)
        axes.set_ylim(min(0.5, float(np.min(seeds)) - 0.05), 1.0)
        axes.set_xticks([0.5, 3.0], ["rewarded", "unrewarded"])
        axes.set_title(name, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        if index == 0:
            axes.set_ylabel("stay probability")
            axes.bar([0], [0], color="C0", label="common")
            axes.bar([0], [0], color="C3", label="rare")
            axes.legend(frameon=False, fontsize="small")
    picture.savefig(path, dpi=130)


CARD = Card(
    name="two-step",
    title="Trained without a model, RL² chooses in the two-step task as if it had one",
    source="Wang et al. 2018 and 1611.05763, §3.2.2, after Daw et al. 2011; they publish bars, no numbers",
    run=run,
    seeds=8,
    note=(
        "The bar is on a regression of choices on the five trials before (Miller, Botvinick and Brody"
        " 2017): its coefficient of reward × transition is that of a model-based agent and about 0 for a"
        " model-free one. Plain stay probabilities, which the papers draw, are in the picture, but do not"
        " decide: where rewards last, an agent that already chooses well sees more common rewarded trials"
        " and stays after them anyway, so that even the simulated model-free agent shows a positive"
        " interaction there."
    ),
    differs=(
        "By PPO, where the paper has A2C; LSTM of 48, γ = 0.9, 10,000 episodes of 100 trials and 300 frozen"
        " test episodes are the paper's.",
        "The entropy's weight begins at the paper's 0.05 and falls to 0.",
    ),
)
