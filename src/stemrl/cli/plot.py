"""`stemrl plot RUN…`."""

from pathlib import Path

from .evaluate import add_evaluation_flags, evaluation_options, refuse_idle
from .output import only_answers
from .parser import Parser

AXES = ("steps", "updates", "seconds", "episodes")
OF_EVALUATIONS = (
    "split", "tasks", "episodes", "seed", "most_likely", "shots", "gradient_steps", "checkpoint",
)  # fmt: skip
"""Flags that say how runs are evaluated."""


def run(arguments: list[str]) -> int:
    """Draw curves of runs, and print where the figure is."""
    parser = Parser(
        "plot",
        "Draw runs in one figure: how a metric went while they trained, or with --adaptation the score"
        " on held-out tasks after more and more episodes. Of learning curves, runs that differ in their seed"
        " alone are one line with the 95% interval of its mean.",
        "RUN… [--metric NAME] [--adaptation] [--x AXIS] [--out FILE] [flags]",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a trained agent")
    parser.add_argument(
        "--metric",
        default=None,
        metavar="NAME",
        help="of metrics.jsonl, or score: that of held-out tasks while training (default: the return,"
        " after adaptation where that is measured)",
    )
    parser.add_switch("--adaptation", "evaluate the runs, and draw their adaptation curves")
    parser.add_argument(
        "--x",
        choices=AXES,
        default=None,
        help="steps, updates or seconds of training; with --adaptation episodes or steps on a task"
        " (default: steps; episodes)",
    )
    parser.add_argument(
        "--out",
        default=Path("curves.png"),
        type=Path,
        metavar="FILE",
        help="a figure, .png, .svg or .pdf, or the numbers behind it, .csv or .json (default: curves.png)",
    )
    add_evaluation_flags(parser)
    options = parser.parse(arguments)
    with only_answers():
        from ..api import load
        from ..errors import UserError
        from ..report import adaptation_curves, learning_curves, names_of, write_figure
        from ..report.curves import refuse_suffix
        from ..runs import enable_compilation_cache
        from .compare import evaluate_alike

        refuse_suffix(options.out)
        opened = [load(path) for path in options.runs]
        if options.adaptation:
            if options.metric is not None:
                raise UserError("--metric is of a learning curve; leave it out beside --adaptation")
            enable_compilation_cache()
            results = evaluate_alike(opened, evaluation_options(options))
            figure = adaptation_curves(names_of(opened), results, options.x or "episodes")
        else:
            refuse_idle(options, parser, OF_EVALUATIONS, "to a learning curve (see --adaptation)")
            figure = learning_curves(opened, options.metric, options.x or "steps")
        path = write_figure(figure, options.out)
    print(path)
    return 0
