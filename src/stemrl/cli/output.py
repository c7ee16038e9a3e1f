"""Answers: JSON for programs, plain tables for people, remarks on stderr."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def only_answers() -> Iterator[None]:
    """Whatever prints while something is computed prints to stderr: stdout is for the answer."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def remark(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> str:
    """JSON proper: what is not finite is null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: the first ones as they are, those of numbers to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def number(value: float | None) -> str:
    """Four significant digits, thousands apart; below 10⁻⁶ is 0."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    if abs(value) < 1e-6:
        # What float32 leaves of a return of nothing, or of a difference between equal ones.
        return "0"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell.replace(",", "").replace("–", "0"))
        return True
    return cell.startswith("[")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
