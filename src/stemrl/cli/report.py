"""`stemrl report RUN…`."""

from .evaluate import add_evaluation_flags, evaluation_options
from .output import as_json, only_answers
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Write runs as an HTML page, and print where it is."""
    parser = Parser(
        "report",
        "Evaluate runs of one family on the same tasks, beside the untrained method, and write one"
        " HTML page with curves, tables and animations.",
        "RUN… [--out FILE] [flags]",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a trained agent")
    parser.add_argument(
        "--out",
        default=None,
        metavar="FILE",
        help="the page (default: report.html in the first run's folder; NAME.html for an agent)",
    )
    parser.add_argument("--title", default=None, metavar="TEXT", help="default: method and family")
    add_evaluation_flags(parser, tasks=40)
    parser.add_switch("--json", "print an object with the page's path")
    options = parser.parse(arguments)
    with only_answers():
        from ..api import load
        from ..report import report
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        opened = [load(path) for path in options.runs]
        wanted = evaluation_options(options)
        path = report(opened, options.out, title=options.title, **wanted)
    print(as_json({"report": str(path)}) if options.json else path)
    return 0
