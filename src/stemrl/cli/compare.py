"""`stemrl compare RUN…`."""

from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .evaluate import (
    add_evaluation_flags,
    add_table_flag,
    evaluation_options,
    finite_note,
    interval,
    records,
    short_name,
)
from .output import Waiting, as_json, number, only_answers, refuse_table, remark, table, write_table
from .parser import Parser

if TYPE_CHECKING:
    from ..evaluation import Evaluation, Retention, Transfer
    from ..runs import Run

MOST_POINTS = 6


def run(arguments: list[str]) -> int:
    """Evaluate runs on the same tasks, and print their adaptation curves together."""
    parser = Parser(
        "compare",
        "Evaluate runs of one family on the same tasks. An agent that adapts after every n episodes"
        " uses as many of --episodes as make whole rounds.",
        "RUN RUN… [flags]",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a trained agent")
    add_evaluation_flags(parser)
    add_table_flag(parser)
    parser.add_switch("--json", "print an object with the runs' evaluations")
    options, text = parser.parse(arguments), ""
    refuse_table(options.out)
    with only_answers():
        from ..api import load
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        opened = [load(path) for path in options.runs]
        few_shot = opened[0].supervised
        text = ""
        if few_shot:
            text = _few_shot(opened, options)
    if few_shot:
        print(text)
        return 0
    with only_answers():
        results = evaluate_together(opened, evaluation_options(options))
        better = _improvements(results)
        gains = _transfers(results)
        kept = [_retention(run, results[0], options.checkpoint) for run in opened]
    if options.out is not None:
        write_table(options.out, _records(opened, results))
    if options.json:
        first = results[0].as_dict()
        common = ("family", "identity", "split", "tasks", "seed", "actions", "train_is_test")
        print(
            as_json(
                {
                    **{name: first[name] for name in common},
                    "runs": [
                        {
                            "run": str(run.path),
                            "checkpoint": options.checkpoint,
                            "improvement_over_first": improvement,
                            "transfer_over_first": gain.as_dict() if gain else None,
                            "retention_in_source": retained.as_dict() if retained else None,
                            **{k: v for k, v in result.as_dict().items() if k not in common},
                        }
                        for run, result, improvement, gain, retained in zip(
                            opened, results, better, gains, kept, strict=True
                        )
                    ],
                }
            )
        )
        return 0
    if results[0].train_is_test:
        remark(finite_note(results[0].family))
    print(
        f"{results[0].tasks} {results[0].split} tasks of {results[0].identity},"
        f" {results[0].actions} actions"
    )
    print(_table(opened, results, better))
    for run, gain in zip(opened, gains, strict=True):
        if gain:
            print(_told(str(run.path), gain))
    for run, retained in zip(opened, kept, strict=True):
        if retained:
            before, after, change = retained
            band = interval({"low": change.low, "high": change.high})
            print(
                f"{run.path} in the world of the run it began from: {number(before.value)} before,"
                f" {number(after.value)} now ({number(change.value)} {band})"
            )
    return 0


def _few_shot(runs: "list[Run]", options: Any) -> str:
    """Supervised runs on the same tasks and examples."""
    from ..evaluation import improvement_interval, probability_of_improvement

    results = evaluate_alike(runs, evaluation_options(options))
    if options.out is not None:
        write_table(options.out, _records(runs, results))
    first = results[0]
    sign = -1 if first.lower_is_better else 1
    better: list[dict[str, float] | None] = [None]
    for result in results[1:]:
        ours, theirs = (sign * one.scores[:, -1] for one in (result, first))
        low, high = improvement_interval(ours, theirs)
        better.append(
            {"probability": probability_of_improvement(ours, theirs), "low": low, "high": high}
        )
    if options.json:
        common = ("family", "identity", "split", "tasks", "seed", "score_name", "train_is_test")
        about = first.as_dict()
        return as_json(
            {
                **{name: about[name] for name in common},
                "runs": [
                    {
                        "run": str(run.path),
                        "checkpoint": options.checkpoint,
                        "improvement_over_first": one,
                        **{k: v for k, v in result.as_dict().items() if k not in common},
                    }
                    for run, result, one in zip(runs, results, better, strict=True)
                ],
            }
        )
    rows = []
    for run, result, one in zip(runs, results, better, strict=True):
        for index, point in enumerate(result.points):
            last = index == len(result.points) - 1
            beats = f"{one['probability']:.0%} {_percent(one)}" if one and last else ""
            rows.append(
                (
                    str(run.path) if not index else "",
                    short_name(result.method) if not index else "",
                    str(point["shots"]),
                    number(point["mean"]),
                    interval(point),
                    beats,
                )
            )
    head = ("run", "method", "shots", first.score_name, "95% interval", "beats first")
    title = f"{first.tasks} {first.split} tasks of {first.identity}"
    return f"{title}\n{table(head, rows)}"


def _records(runs: "list[Run]", results: "list[Any]") -> list[dict[str, Any]]:
    """The rows of all runs, with those references that all of them have."""
    rows = [
        {"run": str(run.path), **record}
        for run, result in zip(runs, results, strict=True)
        for record in records(result)
    ]
    return [{name: row[name] for name in row if all(name in r for r in rows)} for row in rows]


def evaluate_alike(runs: "list[Run]", options: dict[str, Any]) -> "list[Any]":
    """Each run, supervised or not, on the same tasks. Refuses runs whose families differ."""
    from ..api import evaluate

    if not runs[0].supervised:
        return evaluate_together(runs, options)
    refuse_different(runs)
    shots = options["shots"]
    if shots is None:
        shots = max(run.learner.shots for run in runs)
    return [evaluate(run, **{**options, "shots": shots}) for run in runs]


def evaluate_together(runs: "list[Run]", options: dict[str, Any]) -> "list[Evaluation]":
    """Each run on the same tasks, with about the same number of episodes to adapt on. Refuses runs
    whose families differ."""
    from ..api import evaluate
    from ..evaluation import episodes_to_adapt

    refuse_different(runs)
    rounds = [run.agent(options["which"]).episodes_per_round for run in runs]
    episodes = options["episodes"]
    if episodes is None:
        target = runs[0].problem.target
        episodes = max(
            episodes_to_adapt(episodes_per_round, target, None) for episodes_per_round in rounds
        )
    return [
        evaluate(
            run,
            progress=Waiting(),
            **{**options, "episodes": episodes // episodes_per_round * episodes_per_round},
        )
        for run, episodes_per_round in zip(runs, rounds, strict=True)
    ]


def refuse_different(runs: "list[Run]") -> None:
    """Raise `UserError` unless all runs are judged on the same family with the same settings."""
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = (one.problem.target.identity for one in (first, run))
        if ours != theirs:
            raise UserError(
                f"{first.path} and {run.path} cannot be compared: one is of {ours}, the other of"
                f" {theirs}; compare runs of one family with the same settings"
            )


def _improvements(results: "list[Evaluation]") -> list[dict[str, float] | None]:
    """How probable it is that a run beats the first after adaptation, episode against episode on
    the same task; nothing for the first itself."""
    from ..evaluation import improvement_interval, probability_of_improvement

    found: list[dict[str, float] | None] = [None]
    theirs = results[0].scores[:, -1]
    for result in results[1:]:
        ours = result.scores[:, -1]
        low, high = improvement_interval(ours, theirs, result.strata)
        probability = probability_of_improvement(ours, theirs)
        found.append({"probability": probability, "low": low, "high": high})
    return found


def _transfers(results: "list[Evaluation]") -> "list[Transfer | None]":
    """What each run gains over the first; nothing for the first itself, and for one that adapts at
    other points."""
    from ..evaluation import transfer

    def alike(result: "Evaluation") -> bool:
        first = results[0]
        return (result.episodes_per_round, result.scores.shape[1]) == (
            first.episodes_per_round,
            first.scores.shape[1],
        )

    gains = [transfer(r, results[0]) if alike(r) else None for r in results[1:]]
    return [None, *gains]


def _retention(run: "Run", result: "Evaluation", which: Any) -> "Retention | None":
    """What a run that began from another one has kept of that one's world: both on its tasks; nothing
    for a run that began from none, or from one that is gone or of other spaces."""
    from ..core import Problem
    from ..evaluation import evaluate, retention
    from ..runs.run import Run
    from ..runs.starting import split_start

    if not run.config.start:
        return None
    path, steps = split_start(run.config.start)
    try:
        donor = Run.open(path)
        world = donor.problem.target
        Problem(world, run.problem.target)  # refuses other spaces
        problem = Problem(world, world, reveal=run.problem.reveal)
        agents = donor.agent("last" if steps is None else steps), run.agent(which)
        played = [
            evaluate(a, problem, tasks=result.tasks, seed=result.seed, episodes=0) for a in agents
        ]
    except UserError:
        return None
    return retention(*played)


def _told(path: str, gain: "Transfer") -> str:
    """Transfer in words."""

    def signed(name: str) -> str:
        value, low, high = getattr(gain, name)
        sign = "+" if value >= 0 else ""
        return f"{sign}{number(value)} {interval({'low': low, 'high': high})}"

    negative = gain.negative
    return (
        f"{path} against the first: jump-start {signed('jump_start')}, asymptote"
        f" {signed('asymptote')}; {number(gain.budget.value)} steps to {number(gain.threshold)},"
        f" not {number(gain.scratch_budget.value)}; worse on {negative.value:.0%}"
        f" {_percent(negative.as_dict())} of the tasks"
    )


def _table(
    runs: "list[Run]", results: "list[Evaluation]", better: list[dict[str, float] | None]
) -> str:
    head = (
        "run",
        "method",
        "episodes used",
        "steps used",
        "mean",
        "95% interval",
        "iqm",
        "beats first",
    )
    rows = []
    for run, result, improvement in zip(runs, results, better, strict=True):
        points = result.points
        shown = _spread(len(points))
        for index in shown:
            point = points[index]
            first, last = index == shown[0], index == shown[-1]
            rows.append(
                (
                    str(run.path) if first else "",
                    short_name(result.method) if first else "",
                    str(point["episodes_used"]),
                    number(point["steps_used"]),
                    number(point["mean"]),
                    interval({"low": point["mean_low"], "high": point["mean_high"]}),
                    number(point["iqm"]),
                    f"{improvement['probability']:.0%} {_percent(improvement)}"
                    if improvement and last
                    else "",
                )
            )
    return table(head, rows)


def _percent(improvement: dict[str, float]) -> str:
    return f"[{improvement['low']:.0%}, {improvement['high']:.0%}]"


def _spread(points: int) -> list[int]:
    """The first, the last and a few in between."""
    shown = min(points, MOST_POINTS)
    return sorted({round(i * (points - 1) / max(shown - 1, 1)) for i in range(shown)})
