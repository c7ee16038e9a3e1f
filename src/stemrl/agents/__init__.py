"""Trained agents that come with the package, so that `stemrl adapt NAME` shows something at once.

Each is an exported run (see `stemrl.runs.export`) in a folder of this package, named in
`stemrl.registry` and made from its recipe in `recipes.py`: `python -m stemrl.agents` trains and
writes them all, in a few minutes on two cores.
"""

from importlib.resources import files
from pathlib import Path

from .. import registry
from ..runs import Run


def open_agent(name: str) -> Run:
    """Return the trained agent called `name`, as the run that it was exported from. Raises
    `UserError` for a name that there is not."""
    registry.find("agents", name)
    return Run.open(folder() / name)


def folder() -> Path:
    """Return where the agents are."""
    return Path(str(files(__name__)))
