"""`metrics.jsonl`: one JSON object a line, appended while training, cut back when resumed.

Rows of kind `update` hold an update's metrics, one row a seed; rows of kind `evaluation` what
held-out tasks gave. Everything but the keys that begin with `wall/` repeats bit for bit. Rows
never go back: an update's come before the evaluation after it, and a seed's before the next one's.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..reading import open_regular
from .files import open_here, writing

LINE_LIMIT = 2**20
"""Bytes of a row at most: an evaluation of a thousand rounds takes a tenth of it."""


class MetricsFile:
    """Rows appended to a file that is open for the length of a run."""

    lost: int
    """Updates before the one to go on from, of which no row is left."""

    def __init__(self, path: Path, update: int, evaluated: bool, updates_per_row: int = 1):
        """Open for appending after the rows of `update` updates, and of the evaluation that
        followed them if it was `evaluated`; later ones are cut off. Raises `UserError` for a link and
        for damaged rows."""
        self.path = path
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, which could lead anywhere, and is not written to; put the file"
                " itself there, or link the whole run's folder"
            )
        with writing(path):
            end, self.lost = _end_of(path, update, evaluated, updates_per_row)
            # Unbuffered: what could not be written is not tried once more when the file is closed.
            self._file = open_here(path, "ab", buffering=0)
            self._file.truncate(end)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, and hand them to the system at once."""
        lines = (json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)
        with writing(self.path):
            left = memoryview("".join(lines).encode())
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Make what was appended last; before a checkpoint that relies on it."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with writing(self.path):
            self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows; a last line that a crash cut short is left out. Reads line by line, so that
    a file without any ends where the first is too long."""
    rows = []
    try:
        if not path.exists():
            return []
        with open_regular(path) as file:
            while line := file.readline(LINE_LIMIT):
                whole = line.endswith(b"\n")
                if not whole and not file.read(1):
                    break
                row = _parse(line)
                if (row is None or not whole) and path.is_symlink():
                    raise UserError(f"{path} is a link, to a file that is not a run's metrics")
                if row is None or not whole:
                    raise UserError(f"{path} is damaged in line {len(rows) + 1}; remove that line")
                if rows and _place(row) <= _place(rows[-1]):
                    raise UserError(_goes_back(path, len(rows) + 1))
                rows.append(row)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return rows


def last_row(path: Path) -> dict[str, Any] | None:
    """Return the last whole row, while somebody else may be writing; `None` if there is none that
    can be read."""
    try:
        with open_regular(path) as file:
            file.seek(0, os.SEEK_END)
            file.seek(-min(file.tell(), LINE_LIMIT), os.SEEK_END)
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return None
    return _parse(lines[-1]) if lines else None


def _place(row: dict[str, Any]) -> tuple[int, bool, int]:
    """Where a row stands among all."""
    return row["update"], row["kind"] == "evaluation", row["seed"]


def _goes_back(path: Path, line: int) -> str:
    return (
        f"{path} is damaged in line {line}: it repeats a row, or goes back to an earlier one; remove the"
        " lines that do not belong there"
    )


def _end_of(path: Path, update: int, evaluated: bool, updates_per_row: int) -> tuple[int, int]:
    """Bytes until the first row that is to be written again, or is no row; and how many updates before
    `update` no row tells of. Raises `UserError` for a damaged row among those to be kept, which would
    otherwise be cut off with all that follow."""
    if not path.exists():
        return 0, update
    end = number = reached = lost = 0
    last = (-1, False, 0)
    with open_regular(path, follow=False) as file:
        while line := file.readline(LINE_LIMIT):
            row, number = _parse(line), number + 1
            if row is None and reached < update and file.read(1):
                raise UserError(f"{path} is damaged in line {number}; remove that line")
            if not line.endswith(b"\n") or row is None or row["update"] > update:
                break
            if _place(row) <= last:
                raise UserError(_goes_back(path, number))
            last = _place(row)
            if row["kind"] == "update":
                lost += max(row["update"] - reached - updates_per_row, 0)
                reached = row["update"]
            if row["kind"] == "evaluation" and row["update"] == update and not evaluated:
                break
            end += len(line)
    return end, lost + update - reached


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    counted = all(type(row.get(name)) is int for name in ("update", "steps", "seed"))
    return row if counted and _is_row(row) else None


def _is_row(row: dict[str, Any]) -> bool:
    """Whether a row holds what its kind promises: a reader need not ask again."""
    if row.get("kind") == "update":
        return all(_is_number(value) for name, value in row.items() if name != "kind")
    points = row.get("points")
    return (
        row.get("kind") == "evaluation"
        and "score" in row
        and _is_number(row["score"])
        and isinstance(points, list)
        and all(
            isinstance(point, dict) and all(map(_is_number, point.values())) for point in points
        )
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
