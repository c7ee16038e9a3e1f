"""`stemrl adapt RUN`."""

from typing import Any

from ..errors import UserError
from .evaluate import add_evaluation_flags, evaluation_options, finite_note
from .output import as_json, number, only_answers, remark, table
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Print the return of every round while a run's agent adapts, task by task."""
    parser = Parser(
        "adapt",
        "Let what a run has learned adapt to held-out tasks, or to the task that --task describes,"
        " and print the mean return of every round of episodes.",
        "RUN [--task NAME=VALUE …] [flags]",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the task, say goal=0.3,-0.1; those not given are drawn",
    )
    add_evaluation_flags(parser, tasks=3)
    parser.add_whole("--member", 0, 0, "which of a run's seeds, counted from 0")
    parser.add_switch("--json", "print an object")
    options = parser.parse(arguments)
    task = dict(map(_assignment, options.task))
    with only_answers():
        import numpy as np

        from ..api import adapt, load, named_parameters
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        opened = load(options.run)
        wanted = evaluation_options(options)
        params, returns = adapt(opened, task, member=options.member, **wanted)
        family = opened.problem.target
        leaves = {name: np.asarray(leaf) for name, leaf in named_parameters(params).items()}
    width = returns.shape[2]
    tasks: list[dict[str, Any]] = [
        {
            "parameters": {name: leaf[index].tolist() for name, leaf in leaves.items()},
            "rounds": [
                {
                    "episodes_used": number_ * width,
                    "mean": float(row.mean()),
                    "returns": row.tolist(),
                }
                for number_, row in enumerate(returns[index])
            ],
        }
        for index in range(len(returns))
    ]
    if options.json:
        about = {"run": str(opened.path), "family": family.name, "method": opened.config.method}
        print(as_json({**about, "tasks": tasks}))
        return 0
    if family.finite:
        remark(finite_note(family.name))
    for one in tasks:
        print("task " + "  ".join(f"{k}={_short(v)}" for k, v in one["parameters"].items()))
        rows = [(str(row["episodes_used"]), number(row["mean"])) for row in one["rounds"]]
        print(table(("episodes used", "mean return"), rows), end="\n\n")
    return 0


def _assignment(text: str) -> tuple[str, Any]:
    """`name=1,2` to a name and a number or list of them."""
    name, equals, value = text.partition("=")
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        equals = ""
        numbers = []
    if not equals or not name:
        raise UserError(f"--task takes NAME=NUMBER or NAME=NUMBER,NUMBER,…, not '{text}'")
    return name, numbers[0] if len(numbers) == 1 else numbers


def _short(value: Any) -> str:
    if isinstance(value, list):
        shown = [_short(one) for one in value[:6]]
        return f"{','.join(shown)}{',…' if len(value) > 6 else ''}"
    return number(float(value))
