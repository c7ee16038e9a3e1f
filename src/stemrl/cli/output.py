"""Answers: JSON for programs, plain tables for people, remarks on stderr."""

import contextlib
import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

TABLES = (".csv", ".tex")


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
        elif done == total and math.isfinite(self._said):
            remark(f"all {total:,} {self._what} played; their intervals are being computed")


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


def refuse_table(path: Path | None) -> None:
    """Raise `UserError` for a name whose ending is not that of a table."""
    if path is not None and path.suffix.lower() not in TABLES:
        raise UserError(f"cannot write {path.name}: a table is {' or '.join(TABLES)}")


def write_table(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Rows of equal names as a file: CSV with every digit, or a LaTeX `tabular` (it needs the package
    booktabs) with four, where `NAME`, `NAME_low`, `NAME_high` are one column with its interval."""
    refuse_table(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() == ".tex":
                file.write(_latex(records))
                return
            writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _latex(records: Sequence[dict[str, Any]]) -> str:
    names = [n for n in records[0] if not n.endswith(("_low", "_high"))]
    numeric = [all(not isinstance(r[n], str) for r in records) for n in names]

    def cell(record: dict[str, Any], name: str) -> str:
        value = record[name]
        if isinstance(value, str) or value is None:
            return _escaped(value or "")
        shown = number(value).replace("−", "-")
        if f"{name}_low" in record:
            low, high = (number(record[f"{name}_{end}"]) for end in ("low", "high"))
            return f"${shown}$ $[{low}, {high}]$"
        return f"${shown}$"

    lines = [
        f"\\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
        "\\toprule",
        " & ".join(_escaped(name.replace("_", " ")) for name in names) + r" \\",
        "\\midrule",
        *(" & ".join(cell(record, name) for name in names) + r" \\" for record in records),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(rf"\{c}" if c in "&%$#_{}" else c for c in text.replace("\\", "/"))


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
