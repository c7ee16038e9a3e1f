"""What runs are called in a report, and what their settings mean."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .. import registry
from ..runs import Run
from ..settings import settings_of


def described(run: Run, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the run's hyper-parameters with their defaults and meanings."""
    learner = run.learner
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(learner)
        if f.default is not dataclasses.MISSING
    }
    entry = registry.find("methods", run.config.method)
    meanings = {setting.name: setting.documentation for setting in settings_of(entry.path)}
    return [
        {
            "name": name,
            "value": value,
            "default": _plain(defaults.get(name)),
            "meaning": meanings.get(name, ""),
        }
        for name, value in values.items()
    ]


def labels(runs: Sequence[Run]) -> list[str]:
    """Return each run's method; with its folder where two runs share a method."""
    methods = [run.config.method for run in runs]
    if len(set(methods)) == len(methods):
        return methods
    return [f"{run.config.method} ({run.path.name})" for run in runs]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
