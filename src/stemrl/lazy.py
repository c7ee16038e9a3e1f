"""What is imported with its first use: names of a package, so that importing it takes no time, and pandas,
which need not be installed."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import UserError


def importer(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`. `homes`: the names that each of its modules gives.

    What it returns raises `AttributeError` for a name that no module gives.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{home[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


def data_frame(columns: Any) -> Any:
    """Return a pandas DataFrame of rows, or of columns by name. Raises `UserError` where pandas is
    not installed."""
    try:
        import pandas
    except ImportError:
        raise UserError("a frame needs pandas: pip install pandas") from None
    return pandas.DataFrame(columns)
