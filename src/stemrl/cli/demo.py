"""`stemrl demo`."""

from .output import as_json, only_answers
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Train, adapt, report; print what came out in three lines."""
    parser = Parser(
        "demo",
        "Meta-train MAML on a half-cheetah, let it adapt to speeds that it never saw, and write a"
        " report. A few minutes on two cores; one that was stopped goes on.",
        "[--out DIR] [flags]",
    )
    parser.add_argument(
        "--out", default="runs/demo", metavar="DIR", help="the run's folder (default: runs/demo)"
    )
    parser.add_whole("--seed", 0, 0, "of the training")
    parser.add_switch("--quick", "sizes that learn nothing: does everything run?")
    parser.add_switch("--quiet", "no progress")
    parser.add_switch("--json", "print an object with the run, the report and their numbers")
    options = parser.parse(arguments)
    with only_answers():
        from ..report.demo import demo

        done = demo(options.out, quick=options.quick, seed=options.seed, progress=not options.quiet)
    if options.json:
        evaluations = [subject["evaluation"] for subject in done.story["subjects"]]
        about = {"run": str(done.run.path), "report": str(done.path)}
        print(as_json({**about, "evaluations": evaluations}))
    else:
        print(done.summary)
    return 0
