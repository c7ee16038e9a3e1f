"""Reports: what runs have learned, as one HTML file that needs nothing else."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from .. import registry
from ..core import AbstractAgent, UserError
from ..evaluate import Evaluation, draw_tasks, evaluate
from ..machine import versions
from ..runs import Run
from ..runs.files import write_whole, writing
from ..runs.run import Which
from ..settings import settings_of
from ..transfer.finetune import FineTune
from .page import page
from .story import Subject, curves, shows, tell

PACKAGE = Path(__file__).resolve().parents[1]
"""Whose folders, of trained agents, are not written to."""

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

    Returns the file's path. Raises `UserError` for runs that cannot be compared.
    """
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
    first = runs[0].path
    of_package = PACKAGE in first.resolve().parents
    default = Path(f"{first.name}.html") if of_package else first / "report.html"
    return write(default if out is None else Path(out), story, shown)


def write(path: Path, story: dict[str, Any], shown: list[dict[str, Any]]) -> Path:
    """The page of a story, at `path`, whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(story, shown).encode())
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
    """What `report` writes, as plain data: the story and the animations (see `tell`, `shows`)."""
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
    story = tell(title, [*subjects, *comparisons], evaluated, versions())
    agent = dataclasses.replace(first.agent(which), greedy=most_likely)
    rounds = len(subjects[0].evaluation.points)
    return story, shows(agent, first.problem, evaluated, rounds, seed=seed)


def from_scratch(run: Run) -> AbstractAgent:
    """What knows nothing of the run's tasks, and learns by PPO on as many episodes at a time as the
    run's own agent adapts on."""
    learner = FineTune(episodes_per_round=run.agent().episodes_per_round)
    return learner.from_scratch(run.problem, jax.random.key(run.config.seed))


def subject(run: Run, evaluation: Evaluation, label: str | None = None, note: str = "") -> Subject:
    """A run in a report."""
    config = run.config.as_dict()
    values = config.pop("settings")
    config.pop("versions")
    return Subject(
        label or run.config.method,
        evaluation,
        curves(run.metrics()),
        config,
        described(run, values),
        note,
    )


def described(run: Run, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's hyper-parameters with their defaults and meanings."""
    learner = run.learner
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(learner)
        if f.default is not dataclasses.MISSING
    }
    entry = registry.find("methods", run.config.method)
    meanings = {setting.name: setting.documentation for setting in settings_of(entry.path)}
    return [
        {
            "name": name,
            "value": value,
            "default": _plain(defaults.get(name)),
            "meaning": meanings.get(name, ""),
        }
        for name, value in values.items()
    ]


def labels(runs: Sequence[Run]) -> list[str]:
    """Each run's method; with its folder where two runs share a method."""
    methods = [run.config.method for run in runs]
    if len(set(methods)) == len(methods):
        return methods
    return [f"{run.config.method} ({run.path.name})" for run in runs]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
