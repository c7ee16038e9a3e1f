"""MAESN beside MAML on a half-circle of goals that pay only when they are reached (1802.07245)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..rl.experience import Trials
from ..rl.play import play
from ..tasks.point import PointSemicircle
from .card import Card, Measure, differences
from .workshop import Workshop

SETTINGS: dict[str, Any] = {"inner_episodes": 20, "learning_rate": 1e-2}
OF_METHOD: dict[str, dict[str, Any]] = {
    "maesn": {
        "train_tasks": 20,
        "latent_gradient": "score",
        "adapt_policy": False,
        "kl_weight": 0.01,
    },
    "maml": {"meta_batch_size": 20, "learned_inner_rate": True},
}
"""Tasks of an update, and what MAESN has and MAML can have too: step sizes that are learned."""
NAMES = {"maesn": "MAESN", "maml": "MAML"}
UPDATES = 150
GOALS = 30
"""Held out."""
STEPS = 10
"""Gradient steps of adaptation at test."""
AIM = 0.9
"""Goals solved in so many steps."""
TRIED = (
    (
        "the latent moved through the actions that it leads to, the policy's parameters too, KL weight 0.1, no smaller"
        " later steps: goals solved after 10, MAESN − MAML, seeds 0 to 4",
        "0.22 [−0.08, 0.52]: MAESN 0.49, MAML 0.27",
    ),
    ("that, as what follows: one seed", "touched 0.73, solved 0.47 and 0.33"),
    ("KL weight 0.01", "0.70, 0.70 and 0.60"),
    ("a trust region of 0.1", "0.77, 0.60 and 0.37"),
    (
        "a trust region of 0.03 and KL weight 0.01",
        "0.73, 0.70 and 0.43; another seed 0.10 throughout",
    ),
    ("PPO outside", "0.40, 0.40 and 0.43"),
    ("PPO outside, KL weight 0.01", "0.53, 0.53 and 0.40"),
    (
        "only the latent adapted, a trust region of 0.03, KL weight 0.01",
        "0.97, 0.40 and 0.40: the latents of the training goals say where these are, and cover the half-circle,"
        " but then nothing is left for adaptation to learn",
    ),
    ("the same, KL weight 0.1", "0.43, 0.40 and 0.40"),
    (
        "another seed: the same; latents whose means begin apart (deviation 1); that and the latent alone adapted; that"
        " and KL weight 0.01 (KL in the end: 0.00; 0.01; 0.11; 1.01)",
        "0.37, 0.37 and 0.37; 0.33, 0.33 and 0.33; 0.67, 0.33 and 0.33; 0.33, 0.33 and 0.33",
    ),
    (
        "the latent alone, moved by the likelihood of z, that seed: KL weight 0.1; 0.01; after 10 steps of full size and"
        " of half the size",
        "0.67, 0.43 and 0.20; 0.60, 0.40 and 0.63; 0.00 and 0.27; 0.30 and 0.57",
    ),
    (
        "that with half steps after the first, yet another seed: KL weight 0.1; 0.01; after 10",
        "0.63, 0.63 and 0.63; 0.73, 0.63 and 0.67; 0.53 and 0.77",
    ),
)
"""One seed each, on goals as in training: those that 20 episodes touch before any gradient step, and those
solved after 1 and 5. In most the latents of the training goals stay near the prior (means of 0.05 to 0.1)
after 150 updates: it is the policy's step that adapts."""
DRAWN = 4
"""Goals whose episodes are drawn."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Meta-train both on the dense reward, adapt both on the sparse one, to the same goals."""
    family = {"horizon": workshop.pick(40, 8)}
    settings = SETTINGS | workshop.pick({}, {"inner_episodes": 4, "hidden": (8,)})
    episodes, updates = settings["inner_episodes"], workshop.pick(UPDATES, 2)
    few = {"maesn": {"train_tasks": 2}, "maml": {"meta_batch_size": 2}}
    trained = {
        method: workshop.train(
            method,
            method,
            "point-semicircle",
            steps=updates * workshop.pick(20, 2) * 2 * episodes * family["horizon"],
            settings=settings | OF_METHOD[method] | workshop.pick({}, few[method]),
            family_settings=family | {"dense": True},
            target="point-semicircle",
            target_settings=family,
        )
        for method in NAMES
    }
    target = PointSemicircle(**family)
    goals = target.tasks(jax.random.key(1), "test", workshop.pick(GOALS, 2))
    steps = workshop.pick(STEPS, 2)

    @eqx.filter_jit
    def played(agent: Any, key: Any) -> Trials:
        return play(agent, target, goals, None, key, steps + 1, task_batch=1)

    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    pictures = {}
    for method, name in NAMES.items():
        trials = [
            jax.tree.map(np.asarray, played(agent, jax.random.key(100 + seed)).transitions)
            for seed, agent in zip(workshop.seeds, trained[method].agents, strict=True)
        ]
        # [seeds, goals, rounds, episodes]
        hits = np.stack([steps.events["success"].any(-1) for steps in trials])
        solved = (hits.mean(-1) >= 0.5).mean(1)  # [seeds, rounds]
        pictures[name] = trials[0]
        count = np.arange(steps + 1)
        for line, values in (
            (name, solved),
            (f"{name}: episodes that reach it", hits.mean((1, 3))),
        ):
            workshop.curve(
                "solved", line, count, values,
                x_label="gradient steps on a held-out goal", y_label="goals solved",
            )  # fmt: skip
        rows[name] = [
            (f"goals solved after {steps} gradient steps", solved[:, -1]),
            ("goals solved after 1 gradient step", solved[:, 1]),
            ("goals solved before any", solved[:, 0]),
            (f"goals reached in any of {episodes} episodes before any", hits[:, :, 0].any(-1).mean(1)),
            ("episodes that reach the goal, before any", hits[:, :, 0].mean((1, 2))),
            (f"episodes that reach the goal, after {steps}", hits[:, :, -1].mean((1, 2))),
        ]  # fmt: skip
    _paths(pictures, np.asarray(goals["goal"]), target.radius, workshop.picture("paths"))
    ours, theirs = (dict(rows[name]) for name in NAMES.values())
    last = f"goals solved after {steps} gradient steps"
    return [
        Measure(f"{last}, MAESN − MAML (paired)", differences(ours[last], theirs[last]), low_bar=0.0),
        *(
            Measure(f"{what}, MAESN − MAML (paired)", differences(ours[what], theirs[what]))
            for what in (
                "goals solved after 1 gradient step",
                f"goals reached in any of {episodes} episodes before any",
            )
        ),
        *(
            Measure(
                f"{name}: {what}", values, proportion=True,
                aim=AIM if name == "MAESN" and what == last else None,
            )
            for name, found in rows.items()
            for what, values in found
        ),
    ]  # fmt: skip


def _paths(trials: dict[str, Any], goals: np.ndarray, radius: float, path: Path) -> None:
    """Draw the first seed's episodes before and after one gradient step, a row of goals a method; the
    first column has the episodes before any update, of all goals, around the whole half-circle."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    drawn = min(DRAWN, len(goals))
    # Goals spread over the half-circle.
    order = np.argsort(np.arctan2(goals[:, 1], goals[:, 0]))
    chosen = order[np.linspace(0, len(goals) - 1, drawn).astype(int)]
    picture = Figure(figsize=(2.3 * (1 + drawn), 1.6 * len(trials)), layout="constrained")
    grid = picture.subplots(len(trials), 1 + drawn, squeeze=False)
    for row, (name, steps) in zip(grid, trials.items(), strict=True):
        walks = np.concatenate([steps.obs[..., :1, :], steps.next_obs], axis=-2)
        for goal in goals:
            row[0].add_patch(Circle(tuple(goal), 0.06, color="tab:green", linewidth=0))
        for walk in walks[:drawn, 0].reshape(-1, *walks.shape[-2:]):
            row[0].plot(*walk.T, color="0.4", linewidth=0.6, alpha=0.6)
        row[0].set_title(f"{name}: before any update", fontsize="small")
        for axes, i in zip(row[1:], chosen, strict=True):
            axes.add_patch(
                Circle(tuple(goals[i]), radius, color="tab:green", alpha=0.3, linewidth=0)
            )
            for which, color in ((0, "0.7"), (1, "tab:blue")):
                for walk in walks[i, which]:
                    axes.plot(*walk.T, color=color, linewidth=0.6, alpha=0.7)
            axes.set_title("before, and after one step", fontsize="small")
        for axes in row:
            axes.set(xlim=(-3.2, 3.2), ylim=(-1.2, 3.2), xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_visible(False)
    picture.savefig(path, dpi=130)


CARD = Card(
    name="maesn-point",
    title="MAESN's noise lasts an episode, and finds goals where MAML's does not",
    source="Gupta et al. 2018 (1802.07245), §5.1; a curve there",
    run=run,
    seeds=5,
    first_seed=5,
    note=(
        "Goals on a half-circle at distance 2, 40 steps an episode. Both are trained on the dense reward and"
        " adapt on the sparse one, 20 episodes a gradient step. A goal is *solved* where at least half of the"
        " round's episodes come within 0.8 of it. The picture has one seed's episodes: *grey* before any"
        " gradient step, *blue* after one."
    ),
    differs=(
        "Step sizes are learned one for each tensor, not for each entry; MAML's are learned as well, so that the"
        " latent is what differs. The sparse reward is 1 − distance.",
        "KL weight 0.01 (the authors: 0.1 to 0.5); means of the latents begin at 0, the authors' at random.",
        "20 training goals for MAESN, which needs a latent for each; MAML draws 20 anew in each update.",
    ),
    tried=TRIED,
    revised=(
        "After the bar was missed MAESN's inner step became the authors': the likelihood of z, the latent alone, and the"
        " smaller later steps that MAML had. KL weight was chosen on goals of training, with two other seeds; it is"
        " judged on seeds that had not run."
    ),
)
