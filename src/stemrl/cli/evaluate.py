"""`stemrl evaluate RUN`."""

from typing import Any

from .output import as_json, number, only_answers, remark, table
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Score a run's agent on tasks of a split, at every point at which it has adapted."""
    parser = Parser(
        "evaluate",
        "Let what a run has learned adapt to held-out tasks, and print the return at every point at"
        " which it has adapted, the first before any adaptation.",
        "RUN [flags]",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or a trained agent")
    add_evaluation_flags(parser)
    parser.add_switch("--json", "print an object; see the documentation for its fields")
    options = parser.parse(arguments)
    with only_answers():
        from ..api import evaluate, load
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        opened = load(options.run)
        result = evaluate(opened, **evaluation_options(options))
    if options.json:
        about = {
            "run": str(opened.path),
            "checkpoint": options.checkpoint,
            "training_seeds": [opened.config.seed + i for i in range(opened.config.seeds)],
        }
        print(as_json({**result.as_dict(), **about}))
        return 0
    if result.train_is_test:
        remark(finite_note(result.family))
    print(
        f"{short_name(result.method)} on {result.tasks} {result.split} tasks of {result.family},"
        f" {result.actions} actions"
        + (f", {result.agents} training seeds" if result.agents > 1 else "")
    )
    print(points_table(result.points))
    return 0


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
    parser.add_argument(
        "--checkpoint",
        choices=("last", "best"),
        default="last",
        help="last or best, by the evaluations while training (default: last)",
    )


def evaluation_options(options: Any) -> dict[str, Any]:
    """What was given by `add_evaluation_flags`, as `api.evaluate` takes it."""
    return {
        "split": options.split,
        "tasks": options.tasks,
        "episodes": options.episodes,
        "seed": options.seed,
        "most_likely": options.most_likely,
        "which": options.checkpoint,
    }


def points_table(points: list[dict[str, float]]) -> str:
    """The adaptation curve."""
    rows = [
        (
            str(point["episodes_used"]),
            number(point["steps_used"]),
            number(point["mean"]),
            number(point["iqm"]),
            interval(point),
        )
        for point in points
    ]
    return table(("episodes used", "steps used", "mean", "iqm", "95% interval of the iqm"), rows)


def interval(point: dict[str, float]) -> str:
    """`[low, high]`."""
    return f"[{number(point['low'])}, {number(point['high'])}]"


def short_name(method: str) -> str:
    """A method's name; of one's own, `file.py:Class`, the class."""
    return method.rpartition(":")[2]


def finite_note(family: str) -> str:
    """What must be said of every result on a finite family."""
    return f"note: {family} is finite, its test tasks are its training tasks"
