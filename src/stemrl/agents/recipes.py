"""How the trained agents of this package were made."""

import shutil
from pathlib import Path

from ..report.demo import configuration
from ..runs import Run, RunConfig, export, train
from . import folder

RECIPES: dict[str, RunConfig] = {
    "rl2-gridnavi": RunConfig("rl2", "gridnavi", steps=6_000_000, evaluate_every=1_000_000),
    "varibad-gridnavi": RunConfig(
        "varibad", "gridnavi",
        {
            "latent_size": 16, "kl_weight": 0.1, "reward_inputs": "next_state",
            "batch_steps": 2_400, "epochs": 4, "learning_rate": 1e-3, "entropy_weight": 0.01,
            "activation": "relu", "decoder_hidden": (64, 64), "decoder_features": 64,
            "vae_minibatches": 2, "vae_epochs": 3, "anneal_updates": 1_667,
        },
        steps=4_000_000, evaluate_every=1_000_000,
    ),
    # The card's recipe.
    "pearl-point-sparse": RunConfig(
        "pearl", "point-sparse",
        {
            "latent_size": 2, "collect_tasks": 10, "prior_episodes": 20, "posterior_episodes": 20,
            "posterior_context": False, "recent_episodes": 40, "capacity": 320,
            "exploration_episodes": 1, "until_paid": True, "gradient_steps": 200,
            "batch_size": 32, "context_batch_size": 400, "discount": 0.9, "reward_scale": 10.0,
            "kl_weight": 0.3, "learn_temperature": False, "learning_rate": 1e-3,
            "hidden": (64, 64), "encoder_hidden": (64, 64),
        },
        steps=1_024_000, evaluate_every=256_000, evaluate_episodes=19,
    ),
    "maml-point-2d": RunConfig(
        "maml", "point-2d", {"inner_learning_rate": 0.5}, steps=8_000_000, evaluate_every=1_000_000
    ),
    # Fewer bits than in the paper, and a smaller network: a picture of 10 bits, and 30 kB.
    "her-bit-flip": RunConfig(
        "her", "bit-flip", {"hidden": (64,)}, {"bits": 10},
        reveal="context", steps=32_000, evaluate_every=8_000,
    ),
    # The demo's.
    "maml-half-cheetah-vel": configuration(),
}  # fmt: skip


def make(name: str, work: str | Path = "runs/agents", out: str | Path | None = None) -> Run:
    """Train the agent called `name` in the folder `work`, or go on with its training there, and
    write it to `out`, by default into this package in place of the one that it has."""
    training = Path(work) / name
    run = train(RECIPES[name], training, resume=(training / "config.json").exists())
    target = folder() / name if out is None else Path(out)
    side = target.with_name(f".{target.name}.writing")
    shutil.rmtree(side, ignore_errors=True)
    export(run, side)
    shutil.rmtree(target, ignore_errors=True)
    side.rename(target)
    return Run.open(target)
