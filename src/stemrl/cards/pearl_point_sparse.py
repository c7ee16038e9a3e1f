"""PEARL on the half-circle of goals that pay only when they are reached (1903.08254, §6.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..rl import play
from ..rl.experience import Trials
from ..tasks.point import PointSparse
from .card import Card, Measure, differences
from .workshop import Workshop

EPISODES = 20
"""Of a held-out goal, as the authors play it."""
UPDATES = 128
PEARL: dict[str, Any] = {
    "latent_size": 2,
    "tasks": 80,
    "collect_tasks": 10,
    "prior_episodes": 20,
    "posterior_episodes": 20,
    # The exploration of the latest turn, no other.
    "posterior_context": False,
    "recent_episodes": 40,
    "capacity": 320,
    "exploration_episodes": 1,
    "until_paid": True,
    "gradient_steps": 200,
    "meta_batch_size": 16,
    "batch_size": 32,
    "context_batch_size": 400,
    "discount": 0.9,
    "reward_scale": 10.0,
    "kl_weight": 0.3,
    "learn_temperature": False,
    "learning_rate": 1e-3,
    "hidden": (64, 64),
    "encoder_hidden": (64, 64),
}
TINY = {
    "tasks": 2,
    "collect_tasks": 1,
    "prior_episodes": 1,
    "posterior_episodes": 1,
    "capacity": 12,
    "gradient_steps": 2,
    "meta_batch_size": 2,
    "batch_size": 4,
    "context_batch_size": 4,
    "hidden": (8,),
    "encoder_hidden": (8,),
}
REACHED, AIM = 0.8, 0.9
"""Share of held-out goals."""
TRIED = (
    (
        "context of all recent episodes, two of five from the prior, entropy learned, latent 5, KL weight 0.01",
        "0.02 reached within 20",
    ),
    ("the same, 5 of 50 episodes from the prior", "0.13"),
    ("the same with a fixed temperature of 1 and KL weight 0.1", "0.32"),
    ("latent 2, KL weight 1, all episodes recent", "0.28"),
    (
        "1 of 40 episodes from the prior, KL weight 0.3, learning only from tasks with a reward in their context",
        "0.34, falling from 0.47",
    ),
    ("this recipe after 64, 96 and 128 updates", "0.77, 0.85, 0.91"),
    ("the same, z from the prior for 10 episodes and then from the posterior, after 128", "0.85"),
    ("the same recipe, learning only from tasks with a reward in their context, after 112", "0.78"),
)
"""One seed each, on goals as in training."""
DRAWN = 4
"""Goals whose episodes are drawn."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Twenty episodes on each of the held-out goals, with z from the prior until one paid."""
    settings = PEARL | workshop.pick({}, TINY)
    per_update = settings["collect_tasks"] * 20
    per_update *= settings["prior_episodes"] + settings["posterior_episodes"]
    trained = workshop.train(
        "pearl",
        "pearl",
        "point-sparse",
        steps=workshop.pick(UPDATES, 3) * per_update,
        settings=settings,
    )
    family, tasks = PointSparse(), workshop.pick(200, 4)
    params = family.tasks(jax.random.key(1), "test", tasks)

    @eqx.filter_jit
    def played(agent: Any) -> Trials:
        return play(agent, family, params, None, jax.random.key(2), EPISODES)

    trials = [jax.tree.map(np.asarray, played(agent)) for agent in trained.agents]
    returns = np.stack([t.returns[:, :, 0].mean(0) for t in trials])  # [seeds, episodes]
    hits = np.stack([t.transitions.events["success"][:, :, 0].any(-1) for t in trials])
    now = hits.mean(1)
    ever = (np.cumsum(hits, axis=2) > 0).mean(1)
    count = np.arange(1, EPISODES + 1)
    axis = "episode on a held-out goal"
    workshop.curve("returns", "PEARL", count, returns, x_label=axis)
    for line, values in (("in this episode", now), ("in any until then", ever)):
        workshop.curve("reached", line, count, values, x_label=axis, y_label="goals reached")
    _paths(trials[0], np.asarray(params["goal"]), family.radius, workshop.picture("paths"))
    first, last = returns[:, 0], returns[:, -1]
    return [
        Measure("return, last episode − first (paired)", differences(last, first), low_bar=0.0),
        Measure(
            f"held-out goals reached within {EPISODES} episodes", ever[:, -1], None, REACHED,
            aim=AIM, proportion=True,
        ),
        Measure(f"held-out goals reached in episode {EPISODES}", now[:, -1], proportion=True),
        Measure("held-out goals reached within 5 episodes", ever[:, 4], proportion=True),
        Measure("return, episode 1", first),
        Measure("return, episode 5", returns[:, 4]),
        Measure(f"return, episode {EPISODES}", last),
    ]  # fmt: skip


def _paths(trials: Trials, goals: np.ndarray, radius: float, path: Path) -> None:
    """Draw the first seed's episodes: those with z from the prior, and from the posterior since one paid."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    steps = trials.transitions
    walks = np.concatenate([steps.obs[:, :, 0, :1], steps.next_obs[:, :, 0]], axis=2)
    picture = Figure(figsize=(2.6 * DRAWN, 2.2), layout="constrained")
    angle = np.linspace(0, np.pi, 100)
    for i, axes in enumerate(picture.subplots(1, DRAWN)):
        axes.plot(np.cos(angle), np.sin(angle), color="0.85", linewidth=1)
        axes.add_patch(Circle(goals[i], radius, color="tab:green", alpha=0.35, linewidth=0))
        paid = steps.events["success"][i, :, 0].any(-1)
        for episode in range(EPISODES):
            color = "tab:blue" if paid[:episode].any() else "tab:gray"
            axes.plot(*walks[i, episode].T, color=color, linewidth=1.2, alpha=0.7)
        axes.set(xlim=(-1.4, 1.4), ylim=(-0.4, 1.4), xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
        axes.set_title(f"goal {i + 1}", fontsize="small")
    picture.savefig(path, dpi=130)


CARD = Card(
    name="pearl-point-sparse",
    title="PEARL finds goals that pay only when they are reached",
    source="Rakelly et al. 2019 (1903.08254), §6.3, in the setting of the authors' code; a curve there",
    run=run,
    seeds=5,
    note=(
        "Goals on the half-circle of radius 1, reached within 0.2. SAC learns from the dense reward in"
        " meta-training, the context holds the sparse one. The picture has the twenty episodes of one seed on"
        " each of four held-out goals (green): *gray* with z from the prior, *blue* from the posterior."
    ),
    differs=(
        "Episodes start within 0.1 of the origin, not at it.",
        "At test z is from the prior until a reward is met (the authors': for a fixed number of episodes).",
        "A latent of 2, not 5; networks of 64 × 64; batches of 32 steps a task and a context of 400 steps, of 20"
        " episodes; about 25,000 gradient steps; rewards times 10, not 100, and a KL weight of 0.3.",
    ),
    tried=TRIED,
    revised=(
        "`posterior_context` came after the bar was missed: the context of training is of exploration alone, as the"
        " authors have it on tasks of dense rewards (on this one, nine tenths of it come from the posterior)."
        " Chosen on training goals, one seed."
    ),
)
