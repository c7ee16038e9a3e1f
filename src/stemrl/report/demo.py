"""The demo: meta-train a half-cheetah, let it adapt to speeds that it never saw, and report.

A few minutes on two cores. Stopped half-way, it goes on where it was when it is started again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import Interrupted, Run, RunConfig, enable_compilation_cache, train
from .gather import gather, write
from .svg import number

FAMILY, METHOD = "half-cheetah-vel", "maml"

# What adapts visibly within minutes; not what is best. Normalized observations matter most: without
# them the cheetah has not begun to run when the demo ends, or learning breaks down.
SETTINGS: dict[str, Any] = {
    "meta_batch_size": 10,
    "inner_episodes": 10,
    "outer": "ppo",
    "epochs": 8,
    "gae_lambda": 0.95,
    "normalize_observations": True,
    "surrogate": "likelihood_ratio",
    "learned_inner_rate": True,
    "initial_std": 0.5,
}
FAMILY_SETTINGS: dict[str, Any] = {"horizon": 100}
UPDATES, TASKS, ROUNDS = 300, 40, 2

# Of the same shape, and good for nothing but to see that everything runs.
QUICK_SETTINGS: dict[str, Any] = {
    **SETTINGS, "meta_batch_size": 2, "inner_episodes": 2, "epochs": 1, "hidden": (8,),
}  # fmt: skip
QUICK_FAMILY_SETTINGS: dict[str, Any] = {"horizon": 10}
QUICK_UPDATES, QUICK_TASKS = 2, 4


@dataclass(frozen=True)
class Demo:
    """What the demo found."""

    run: Run
    story: dict[str, Any]
    """What the report tells, as plain data."""
    shows: list[dict[str, Any]]
    """The animations."""
    path: Path
    """The report."""

    @property
    def summary(self) -> str:
        """Three lines."""
        ours, scratch = (subject["evaluation"] for subject in self.story["subjects"])
        before, after, alone = ours["episodes"][0], ours["episodes"][-1], scratch["episodes"][-1]
        return (
            f"{METHOD} at {ours['tasks']} speeds it never saw: return {_words(before)} before"
            f" adaptation, {_words(after)} after {after['episodes_used']} episodes\n"
            f"training from scratch on the same {alone['episodes_used']} episodes:"
            f" {_words(alone)} (means, 95% intervals)\n"
            f"report: {self.path}"
        )


def demo(
    out: str | Path = "runs/demo", *, quick: bool = False, seed: int = 0, progress: bool = True
) -> Demo:
    """Train, adapt, compare and write the report to `out/report.html`.

    A demo that was stopped in `out` is gone on with; one that has finished is only reported anew.

    **Arguments:**

    - `quick`: sizes that learn nothing, to see in seconds whether everything runs.
    - `seed`: of the training.

    Raises `UserError` if `out` holds something else, `runs.Interrupted` after SIGINT.
    """
    enable_compilation_cache()
    out = Path(out)
    config = configuration(quick, seed)
    began = (out / "config.json").exists()
    _say(progress, f"meta-training {METHOD} on {FAMILY} in {out}" + (", going on" if began else ""))
    try:
        run = train(config, out, resume=began, progress=progress)
    except Interrupted:
        _say(progress, "or start the demo again: it goes on from there, to the report")
        raise
    _say(progress, "adapting to held-out speeds, and training from scratch on the same episodes")
    story, shown = gather(
        [run],
        tasks=QUICK_TASKS if quick else TASKS,
        episodes=ROUNDS * run.agent().episodes_per_round,
        title="A half-cheetah adapts to speeds that it never saw",
    )
    return Demo(run, story, shown, write(out / "report.html", story, shown))


def configuration(quick: bool = False, seed: int = 0) -> RunConfig:
    """Return the demo's run."""
    settings = QUICK_SETTINGS if quick else SETTINGS
    family_settings = QUICK_FAMILY_SETTINGS if quick else FAMILY_SETTINGS
    made = RunConfig(METHOD, FAMILY, settings, family_settings, seed=seed)
    updates = QUICK_UPDATES if quick else UPDATES
    steps = updates * made.learner().steps_per_update(made.problem())
    return RunConfig(
        METHOD,
        FAMILY,
        settings,
        family_settings,
        seed=seed,
        steps=steps,
        evaluate_every=steps // 4,
        # As many as in the end, so that the evaluator is compiled once.
        evaluate_tasks=QUICK_TASKS if quick else TASKS,
    )


def _words(point: dict[str, float]) -> str:
    """`−31.2 [−35.0, −28.1]`."""
    return f"{number(point['mean'])} [{number(point['mean_low'])}, {number(point['mean_high'])}]"


def _say(shown: bool, text: str) -> None:
    if shown:
        print(text, file=sys.stderr, flush=True)
