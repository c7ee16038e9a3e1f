"""Reports: what runs have learned, as one HTML file that needs nothing else."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from ..core import AbstractAgent, UserError
from ..evaluation import Evaluation, draw_tasks, evaluate, refuse_acting, refuse_examples
from ..machine import versions
from ..runs import Run
from ..runs.files import write_whole, writing
from ..runs.run import Which
from ..transfer.finetune import FineTune
from .beliefs import beliefs
from .few_shot import few_shot_page
from .labels import described, labels
from .page import page
from .story import Subject, curves, shows, tell

PACKAGE = Path(__file__).resolve().parents[1]
"""Whose folders, of trained agents, are not written to."""

BELIEFS = 3
"""Tasks of which a report shows what the agent believes."""
SCRATCH = (
    "PPO from newly initialized networks, on each task alone: on the same episodes, as many at a"
    " time"
)


def report(
    runs: Sequence[Run],
    out: str | Path | None = None,
    *,
    split: str = "test",
    tasks: int = 40,
    episodes: int | None = None,
    seed: int = 0,
    most_likely: bool = False,
    which: Which = "last",
    comparisons: Sequence[Subject] | None = None,
    title: str | None = None,
    shots: int | None = None,
    gradient_steps: int | None = None,
) -> Path:
    """Evaluate the runs on the same tasks and write what came out as one HTML page.

    **Arguments:**

    - `runs`: at least one; the first is the one that the report is about. All must have been made
      for the same target.
    - `out`: the file; by default `report.html` in the first run's folder, and for a trained agent
      that comes with the package `NAME.html` in the working directory.
    - `split`, `tasks`, `episodes`, `seed`, `most_likely`: of the evaluation, see `evaluate`.
    - `which`: the `last` checkpoint, the `best`, or that of so many environment steps.
    - `comparisons`: what to set beside the runs; by default PPO from scratch on the same number
      of episodes.
    - `title`: by default method and family.
    - `shots`, `gradient_steps`: of supervised runs, see `stemrl.evaluation.evaluate_few_shot`.

    Returns the file's path. Raises `UserError` for runs that cannot be compared.
    """
    if not runs:
        raise UserError("a report needs at least one run")
    first = runs[0].path
    of_package = PACKAGE in first.resolve().parents
    default = Path(f"{first.name}.html") if of_package else first / "report.html"
    path = default if out is None else Path(out)
    if runs[0].supervised:
        refuse_acting(str(runs[0].path), episodes=episodes, most_likely=most_likely)
        return _write(
            path,
            few_shot_page(
                runs,
                split=split,
                tasks=tasks,
                shots=shots,
                gradient_steps=gradient_steps,
                seed=seed,
                which=which,
                title=title,
            ),
        )
    refuse_examples(str(runs[0].path), shots=shots, gradient_steps=gradient_steps)
    story, shown = gather(
        runs,
        split=split,
        tasks=tasks,
        episodes=episodes,
        seed=seed,
        most_likely=most_likely,
        which=which,
        comparisons=comparisons,
        title=title,
    )
    return write(path, story, shown)


def write(path: Path, story: dict[str, Any], shown: list[dict[str, Any]]) -> Path:
    """Return the page of a story, at `path`, whole or not at all."""
    return _write(path, page(story, shown))


def _write(path: Path, text: str) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


def gather(
    runs: Sequence[Run],
    *,
    split: str = "test",
    tasks: int = 40,
    episodes: int | None = None,
    seed: int = 0,
    most_likely: bool = False,
    which: Which = "last",
    comparisons: Sequence[Subject] | None = None,
    title: str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what `report` writes, as plain data: the story and the animations (see `tell`,
    `shows`)."""
    if not runs:
        raise UserError("a report needs at least one run")
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = first.problem.target.identity, run.problem.target.identity
        if ours != theirs:
            raise UserError(f"{first.path} and {run.path} differ in their family: {ours}, {theirs}")

    def judge(run: Run, agent: AbstractAgent, method: str) -> Evaluation:
        return evaluate(
            agent,
            run.problem,
            split=split,
            tasks=tasks,
            episodes=episodes,
            seed=seed,
            most_likely=most_likely,
            method=method,
        )

    def judge_all(run: Run) -> Evaluation:
        """All of a run's seeds, on the same tasks."""
        agents = [run.agent(which, index) for index in range(run.config.seeds)]
        parts = [judge(run, agent, run.config.method) for agent in agents]
        return Evaluation.together(parts) if len(parts) > 1 else parts[0]

    subjects = [
        subject(run, judge_all(run), label) for run, label in zip(runs, labels(runs), strict=True)
    ]
    if comparisons is None:
        comparisons = [
            Subject("from scratch", judge(first, from_scratch(first), "from scratch"), note=SCRATCH)
        ]
    family = first.problem.target
    evaluated, _ = draw_tasks(family, split, tasks, seed)
    title = title or f"{first.config.method} on {family.name}"
    story = tell(title, [*subjects, *comparisons], evaluated, versions(), family.parameter_names())
    agent = dataclasses.replace(first.agent(which), greedy=most_likely)
    rounds = len(subjects[0].evaluation.points)
    few, key = draw_tasks(family, split, min(tasks, BELIEFS), seed)
    story["beliefs"] = beliefs(agent, first.problem, few, rounds, key)
    return story, shows(agent, first.problem, evaluated, rounds, seed=seed)


def from_scratch(run: Run) -> AbstractAgent:
    """Return what knows nothing of the run's tasks, and learns by PPO on as many episodes at a time
    as the run's own agent adapts on."""
    learner = FineTune(episodes_per_round=run.agent().episodes_per_round)
    return learner.from_scratch(run.problem, jax.random.key(run.config.seed))


def subject(run: Run, evaluation: Evaluation, label: str | None = None, note: str = "") -> Subject:
    """Return a run in a report."""
    config = run.config.as_dict()
    values = config.pop("settings")
    config.pop("versions")
    return Subject(
        label or run.config.method,
        evaluation,
        curves(run.metrics(), evaluation.adapts),
        config,
        described(run, values),
        note,
    )
