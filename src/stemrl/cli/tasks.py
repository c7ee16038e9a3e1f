"""The flag that describes a task."""

from typing import Any

from ..errors import UserError
from .parser import Parser


def add_task_flag(parser: Parser) -> None:
    """`--task NAME=VALUE`, several times."""
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the task, say goal=0.3,-0.1; those not given are drawn",
    )


def described_task(options: Any) -> dict[str, Any]:
    """What was given by `add_task_flag`."""
    return dict(map(_assignment, options.task))


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
