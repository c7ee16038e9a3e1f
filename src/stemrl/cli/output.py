"""Answers: JSON for programs, plain tables for people, remarks on stderr."""

import contextlib
import json
import math
import sys
import time
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


class Waiting:
    """Called with what is done of all: says on stderr how far a long answer is and what it will still
    take. Nothing where little is left to do; else a line at once, and then one every few seconds."""

    LITTLE, BETWEEN = 10.0, 10.0
    """Seconds."""

    def __init__(self, what: str = "tasks"):
        self._what = what
        self._first = 0
        self._began = time.monotonic()
        self._said = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done <= self._first or not self._first:
            # The first part was compiled as well: from the second on, the speed is that without.
            left = (now - self._began) / done * (total - done)
            self._first, self._began = done, now
        else:
            left = (now - self._began) / (done - self._first) * (total - done)
        if left > self.LITTLE and now - self._said > self.BETWEEN:
            self._said = now
            minutes = f"{left / 60:,.0f} min" if left > 100 else f"{left:.0f} s"
            remark(f"{done:,} of {total:,} {self._what} played, about {minutes} left")


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
