"""Card `glyphs-all`: characters that nobody has seen, told apart from one or five drawings of each."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Examples, FewShotAgent
from ..evaluate import draw_few_shot, evaluate_few_shot
from ..meta.supervised import (
    CNP,
    AbstractFewShotLearner,
    LearnedOptimizer,
    RNNSupervised,
    SNAILSupervised,
    SupervisedMAML,
)
from ..tasks.glyphs import Glyphs
from .card import Card, Measure, differences
from .workshop import Trained, Workshop

SHOTS = (1, 5)
"""Drawings of each of the five characters."""
AIMS = {1: 0.90, 5: 0.97}
"""Of MAML without convolutions on Omniglot, 0.897 and 0.975 (Finn et al. 1703.03400, Table 1)."""
QUERIES = 50
"""Other drawings, by which a predictor is judged."""
SEED = 0
"""Of the tasks of the test."""
DRAWN = 10
"""Drawings that are shown with the class that they were given."""

LEARNERS: dict[str, tuple[AbstractFewShotLearner, int]] = {
    "MAML": (SupervisedMAML(hidden=(64, 64), inner_steps=2, inner_learning_rate=0.3), 3_000),
    "RNN hypernetwork": (RNNSupervised(features=(64, 32), hidden=()), 3_000),
    "SNAIL": (SNAILSupervised(features=(64,)), 3_000),
    "CNP": (CNP(features=(64,), by_class=True), 3_000),
    "learned optimizer": (LearnedOptimizer(), 3_000),
}
"""What is trained, and for how many updates."""


def run(workshop: Workshop) -> list[Measure]:
    """Train all of them on one alphabet, and let them meet characters of another."""
    family = Glyphs()
    tasks, queries = workshop.pick((1_000, QUERIES), (4, 5))
    shots = workshop.pick(SHOTS, SHOTS[:1])
    workshop.settings["test"] = {"tasks": tasks, "queries": queries, "shots": list(shots)}

    def trained(label: str, shots: int) -> Trained:
        learner, updates = LEARNERS[label]
        updates = workshop.pick(updates, 3)
        learner = dataclasses.replace(learner, shots=shots, decay_updates=updates)
        name = f"{label}, {shots} shot{'s' * (shots > 1)}"
        return workshop.train_supervised(name, learner, family, updates=updates)

    # With a crew they are trained beside one another, so all begin before one is asked for.
    runs = {label: {n: trained(label, n) for n in shots} for label in LEARNERS}
    rows: list[Measure] = []
    for n in shots:
        _, train, test = draw_few_shot(family, "test", tasks, n, queries, SEED)
        pixels = float(np.mean(nearest_neighbour(train, test) == np.asarray(test.y).argmax(-1)))
        for label in LEARNERS:
            options: dict[str, Any] = {"tasks": tasks, "queries": queries, "seed": SEED}
            found = [
                float(evaluate_few_shot(agent, **options).scores[:, -1].mean())
                for agent in runs[label][n].agents
            ]
            name = f"{n} shot{'s' * (n > 1)}"
            rows.append(Measure(f"{label}, {name}", found, aim=AIMS[n], proportion=True))
            gain = differences(found, [pixels] * len(found))
            rows.append(Measure(f"{label} − nearest neighbour, {name}", gain, low_bar=0.0))
        rows.append(Measure(f"nearest neighbour in pixels, {name}", [pixels], proportion=True))
    first = {label: runs[label][shots[0]].agents[0] for label in LEARNERS}
    draw_predictions(family, first, workshop.picture("predictions"))
    return rows


def nearest_neighbour(train: Examples, test: Examples) -> np.ndarray:
    """The class of the nearest drawing of the training set, by the squared distance of their pixels:
    `[tasks, queries]`."""
    x, y, asked = (np.asarray(a) for a in (train.x, train.y, test.x))
    # |a − b|² = |a|² − 2 a·b + |b|², of which |a|² decides nothing.
    distance = np.sum(x**2, -1)[:, None] - 2.0 * asked @ x.transpose(0, 2, 1)
    return np.take_along_axis(y.argmax(-1), distance.argmin(-1), axis=1)


def draw_predictions(family: Glyphs, agents: dict[str, FewShotAgent], path: Path) -> None:
    """One task: its training set of one drawing of each character, and for every learner the same
    other drawings with the class that they were given."""
    from matplotlib.figure import Figure

    _, train, test = draw_few_shot(family, "test", 1, 1, DRAWN, SEED + 1)
    train, test = (Examples(examples.x[0], examples.y[0]) for examples in (train, test))
    order = np.argsort(np.asarray(train.y).argmax(-1))
    figure = Figure(figsize=(7.6, 0.95 * (len(agents) + 1)), layout="constrained")
    axes = figure.subplots(len(agents) + 1, DRAWN)
    for place in axes.ravel():
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)

    def show(place: Any, image: Any, said: str, color: str) -> None:
        place.imshow(np.asarray(image).reshape(family.image_shape), cmap="gray_r", vmin=0, vmax=1)
        place.set_title(said, fontsize="small", color=color, pad=2)

    for column, index in enumerate(order):
        show(axes[0, column], train.x[index], str(column + 1), "black")
    axes[0, 0].set_ylabel("given", fontsize="x-small")
    true = np.asarray(test.y).argmax(-1)
    for row, (label, agent) in enumerate(agents.items(), 1):
        given = np.asarray(agent.fit(train)(test.x)).argmax(-1)
        for column in range(DRAWN):
            right = given[column] == true[column]
            color = "seagreen" if right else "firebrick"
            show(axes[row, column], test.x[column], str(given[column] + 1), color)
        axes[row, 0].set_ylabel(label.replace(" ", "\n"), fontsize="x-small")
    figure.savefig(path, dpi=130)


CARD = Card(
    name="glyphs-all",
    title="Five characters that nobody has seen, told apart from one or five drawings of each",
    source=(
        "The form of Omniglot's five-way test; the aims are MAML's without convolutions there"
        " (Finn et al. 2017, 1703.03400, Table 1), rounded"
    ),
    run=run,
    seeds=5,
    note=(
        "The characters are drawn here and are not Omniglot's, so nothing published is comparable but"
        " the task's form. Test characters are in no training task. Differences are of one seed's mean"
        " accuracy and nearest neighbour's on the same drawings."
    ),
)
