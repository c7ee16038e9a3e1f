"""`metrics.jsonl`: one JSON object a line, appended while training, cut back when resumed.

Rows of kind `update` hold an update's metrics, one row a seed; rows of kind `evaluation` what
held-out tasks gave. Everything but the keys that begin with `wall/` repeats bit for bit.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from .files import writing


class MetricsFile:
    """Rows appended to a file that is open for the length of a run."""

    def __init__(self, path: Path, update: int, evaluated: bool):
        """Open for appending after the rows of `update` updates, and of the evaluation that
        followed them if it was `evaluated`; later ones are cut off."""
        self.path = path
        with writing(path):
            end = _end_of(path, update, evaluated)
            self._file = open(path, "ab")  # noqa: SIM115
            self._file.truncate(end)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, and hand them to the system at once."""
        lines = (json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)
        with writing(self.path):
            self._file.write("".join(lines).encode())
            self._file.flush()

    def sync(self) -> None:
        """Make what was appended last; before a checkpoint that relies on it."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with writing(self.path):
            self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        row = _parse(line)
        if row is None:
            raise UserError(f"{path} is damaged in line {number}; remove that line")
        rows.append(row)
    return rows


def _end_of(path: Path, update: int, evaluated: bool) -> int:
    """Bytes until the first row that is to be written again, or is no row."""
    if not path.exists():
        return 0
    end = 0
    with open(path, "rb") as file:
        for line in file:
            row = _parse(line)
            if not line.endswith(b"\n") or row is None or row["update"] > update:
                break
            if row["kind"] == "evaluation" and row["update"] == update and not evaluated:
                break
            end += len(line)
    return end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(row, dict) and isinstance(row.get("update"), int) and "kind" in row
    return row if good else None


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
