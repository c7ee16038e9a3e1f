"""`stemrl evaluate RUN [FAMILY]` and `stemrl evaluate REFERENCE FAMILY`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import UserError
from ..naming import named_settings
from ..settings import read, settings_of
from .output import Waiting, as_json, number, only_answers, refuse_table, remark, table, write_table
from .parser import Parser, given

if TYPE_CHECKING:
    from ..evaluation import Evaluation, FewShotEvaluation

SWITCHES = ("--most-likely", "--most_likely", "--json", "--help")
REFERENCES = {
    "bayes_optimal": "Bayes-optimal",
    "known_task": "optimum of the known task",
    "oracle": "oracle",
}


def run(arguments: list[str]) -> int:
    """Score a run's agent, or a reference agent, on tasks of a split, at every point at which it has
    adapted."""
    names, flags = _split(arguments)
    options = _parser(names).parse([*names, *flags])
    refuse_table(options.out)
    no_run = options.run not in registry.AGENTS and not Path(options.run).exists()
    # A name that is nothing at all, before a family, is that of a reference agent, misspelt.
    meant = options.family is not None and Path(options.run).name == options.run
    reference = no_run and (options.run in registry.REFERENCE_AGENTS or meant)
    if reference and options.family is None:
        raise UserError(f"name a family: stemrl evaluate {quote(options.run)} FAMILY")
    with only_answers():
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        result, about = _of_reference(options) if reference else _of_run(options)
    if options.out is not None:
        write_table(options.out, records(result))
    if options.json:
        print(as_json({**result.as_dict(), **about}))
        return 0
    if hasattr(result, "shots"):
        print(few_shot_text(result))
        return 0
    if result.train_is_test:
        remark(finite_note(result.family))
    print(
        f"{short_name(result.method)} on {result.tasks} {result.split} tasks of {result.family},"
        f" {result.actions} actions"
        + (f", {result.agents} training seeds" if result.agents > 1 else "")
    )
    print(points_table(result.points, result.gaps))
    if broken := int(result.diverged.sum()):
        print(f"{broken} of {result.diverged.size} episodes ended because the simulation diverged")
    for name, gap in result.gaps.items():
        print(_of_trial(result, name, gap["trial"]))
    return 0


def _of_run(options: Any) -> "tuple[Evaluation, dict[str, Any]]":
    from ..api import evaluate, load

    opened = load(options.run)
    family = None
    if options.family is not None:
        if opened.supervised:
            raise UserError("another FAMILY is for agents that act; leave it out")
        family = _family(options)
    result = evaluate(
        opened, family, oracle=options.oracle, progress=Waiting(), **evaluation_options(options)
    )
    return result, {
        "run": str(opened.path),
        "oracle": options.oracle,
        "checkpoint": options.checkpoint,
        "training_seeds": [opened.config.seed + i for i in range(opened.config.seeds)],
    }


def _of_reference(options: Any) -> "tuple[Evaluation, dict[str, Any]]":
    from ..api import evaluate
    from ..optimal import problem_of, reference_agent

    family = _family(options)
    episodes = None if options.episodes is None else options.episodes + 1
    agent = reference_agent(options.run, family, episodes=episodes)
    problem = problem_of(options.run, family)
    result = evaluate(
        agent,
        problem,
        oracle=options.oracle,
        method=options.run,
        progress=Waiting(),
        **evaluation_options(options),
    )
    return result, {"reference_agent": options.run, "oracle": options.oracle}


def _family(options: Any) -> Any:
    """The family that was named, with its settings."""
    from ..api import make_family

    name, typed = named_settings("families", options.family)
    return make_family(name, **{**typed, **given(options, "family")})


def _parser(names: list[str]) -> Parser:
    parser = Parser(
        "evaluate",
        "Let what a run has learned adapt to held-out tasks, and print the return at every point at"
        " which it has adapted, the first before any adaptation. Or let a classical agent do so"
        " ('stemrl list reference-agents'): stemrl evaluate thompson bandit. Where a family has an exact"
        " optimum, the gap to it is printed too.",
        "RUN [FAMILY] | REFERENCE FAMILY [flags]",
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder, a trained agent, or a reference agent"
    )
    parser.add_argument(
        "family",
        nargs="?",
        default=None,
        metavar="FAMILY",
        help="what a reference agent is to play, or a run in place of its own family",
    )
    add_evaluation_flags(parser)
    parser.add_argument(
        "--oracle",
        default=None,
        metavar="RUN",
        help="print the gap to this run or trained agent too, of the same family and trained with"
        " --reveal context",
    )
    add_table_flag(parser)
    parser.add_switch("--json", "print an object; see the documentation for its fields")
    if len(names) == 2:
        name, _ = named_settings("families", names[1])
        entry = registry.find("families", name)
        parser.add_settings(
            f"settings of {name}",
            settings_of(entry.path),
            group="family",
            preset=entry.preset,
        )
    return parser


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The names, which may stand anywhere, and everything else."""
    names, rest, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            names.append(word)
            continue
        rest.append(word)
        if word.startswith("--") and "=" not in word and word not in SWITCHES and words:
            rest.append(words.pop(0))
    return names, rest


def _of_trial(result: "Evaluation", name: str, gap: dict[str, Any]) -> str:
    reached = "" if gap["fraction"] is None else f", {gap['fraction']:.1%} of it"
    mean = number(result.scores.mean(2).sum(1).mean() * result.episodes_per_round)
    return (
        f"whole trial: {mean}; {REFERENCES[name]} {number(gap['value'])}, gap {number(gap['gap'])}"
        f" {interval(gap)}{reached}"
    )


def add_evaluation_flags(parser: Parser, tasks: int = 100) -> None:
    """The flags that say on what, and how, runs are evaluated."""
    parser.add_argument(
        "--split",
        choices=("train", "test", "ood"),
        default="test",
        help="tasks to draw: train, test or ood (default: test)",
    )
    parser.add_whole("--tasks", tasks, 1, "how many tasks")
    what = "real episodes of the target to adapt on"
    parser.add_whole("--episodes", None, 0, what, "what the method adapts in")
    parser.add_whole("--seed", 0, 0, "of the tasks and of playing them")
    parser.add_switch("--most-likely", "take the most likely actions, not sampled ones")
    what = "examples (of each class) to learn a task from, of a supervised run"
    parser.add_whole("--shots", None, 0, what, "as in training")
    what = "gradient steps on them, of a supervised run that takes any"
    parser.add_whole("--gradient-steps", None, 0, what, "as in training")
    parser.add_argument(
        "--checkpoint",
        type=_checkpoint,
        default="last",
        metavar="last|best|STEPS",
        help="the last, the best by the evaluations while training, or the one that was kept at so"
        " many environment steps (default: last)",
    )


def refuse_idle(options: Any, parser: Parser, names: Sequence[str], why: str) -> None:
    """Raise `UserError` for the first of these flags that was given: here it does nothing."""
    for name in names:
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name.replace('_', '-')} means nothing {why}; leave it out")


def add_table_flag(parser: Parser) -> None:
    """The flag that names a file for the table."""
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="write the table too, as .csv with every digit or as .tex",
    )


def records(result: "Evaluation | FewShotEvaluation") -> list[dict[str, Any]]:
    """The points of an adaptation curve as a table's rows, of equal names."""
    about = {"method": short_name(result.method), "family": result.family, "split": result.split}
    if not isinstance(gaps := getattr(result, "gaps", None), dict):
        renamed = {"mean": result.score_name.replace(" ", "_")}  # pyright: ignore[reportAttributeAccessIssue]
        name = renamed["mean"]
        return [
            {
                **about,
                "shots": p["shots"],
                name: p["mean"],
                f"{name}_low": p["low"],
                f"{name}_high": p["high"],
            }
            for p in result.points
        ]
    rows = []
    for index, point in enumerate(result.points):
        row = {**about, **{n: point[n] for n in ("episodes_used", "steps_used")}}
        row |= {n: point[n] for n in ("mean", "mean_low", "mean_high", "iqm")}
        row |= {"iqm_low": point["low"], "iqm_high": point["high"]}
        for name, gap in gaps.items():
            row[name] = gap["points"][index]["value"]
        rows.append(row)
    return rows


def _checkpoint(text: str) -> str | int:
    if text in ("last", "best"):
        return text
    steps = read(text, int)
    if not isinstance(steps, int):
        raise argparse.ArgumentTypeError(f"must be last, best or a number of steps, not '{text}'")
    return steps


def evaluation_options(options: Any) -> dict[str, Any]:
    """What was given by `add_evaluation_flags`, as `api.evaluate` takes it."""
    return {
        "split": options.split,
        "tasks": options.tasks,
        "episodes": options.episodes,
        "seed": options.seed,
        "most_likely": options.most_likely,
        "which": options.checkpoint,
        "shots": options.shots,
        "gradient_steps": options.gradient_steps,
    }


def few_shot_text(result: Any) -> str:
    """An evaluation of what learned from labelled examples, in words and a table."""
    steps = "" if result.gradient_steps is None else f", {result.gradient_steps} gradient steps"
    return "\n".join(
        [
            f"{short_name(result.method)} on {result.tasks} {result.split} tasks of"
            f" {result.family}{steps}"
            + (f", {result.agents} training seeds" if result.agents > 1 else ""),
            few_shot_table(result.points, result.score_name),
        ]
    )


def few_shot_table(points: list[dict[str, float]], score_name: str) -> str:
    """The score after ever more examples."""
    rows = [(str(p["shots"]), number(p["mean"]), interval(p)) for p in points]
    return table(("shots", score_name, "95% interval"), rows)


def points_table(
    points: list[dict[str, float]], gaps: dict[str, dict[str, Any]] | None = None
) -> str:
    """The adaptation curve, and beside it the references with the gaps to them."""
    gaps = gaps or {}
    head = ["episodes used", "steps used", "mean", "95% interval", "iqm", "95% interval"]
    for name in gaps:
        head += [REFERENCES[name], "gap"]
    rows = []
    for index, point in enumerate(points):
        row = [
            str(point["episodes_used"]),
            number(point["steps_used"]),
            number(point["mean"]),
            interval({"low": point["mean_low"], "high": point["mean_high"]}),
            number(point["iqm"]),
            interval(point),
        ]
        for gap in gaps.values():
            row += [number(gap["points"][index][key]) for key in ("value", "gap")]
        rows.append(row)
    return table(head, rows)


def interval(point: dict[str, Any]) -> str:
    """`[low, high]`."""
    return f"[{number(point['low'])}, {number(point['high'])}]"


def short_name(method: str) -> str:
    """A method's name; of one's own, `file.py:Class`, the class."""
    return method.rpartition(":")[2]


def finite_note(family: str) -> str:
    """What must be said of every result on a finite family."""
    return f"note: {family} is finite, its test tasks are its training tasks"
