"""`stemrl trust RUN`."""

from pathlib import Path

from ..errors import UserError
from .output import as_json, only_answers
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Let a run from elsewhere import the Python code that it names."""
    parser = Parser(
        "trust",
        "Vouch for the Python code that a run from elsewhere names: from now on, opening the run"
        " imports it. Read that code first: it can do whatever you can.",
        "RUN",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_switch("--json", "print an object with what is trusted now")
    options = parser.parse(arguments)
    if not Path(options.run).is_dir():
        raise UserError(f"there is no run in {options.run}: it is no folder")
    with only_answers():
        from ..runs.trust import trust

        names = trust(options.run)
    if options.json:
        print(as_json({"run": options.run, "trusted": names}))
    elif names:
        print(f"{options.run} may now import: {', '.join(names)}")
    else:
        print(f"{options.run} names no code of its own: there is nothing to trust")
    return 0
