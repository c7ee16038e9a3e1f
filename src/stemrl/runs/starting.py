"""What `--start RUN` and `--start RUN@STEPS` name: the run to begin from, and its checkpoint."""

from pathlib import Path

from ..reading import at_home
from . import checkpoint


def split_start(text: str) -> tuple[Path, int | None]:
    """Return the folder and, if one is named, the steps of its checkpoint."""
    text = at_home(text)
    path, at, steps = text.rpartition("@")
    if at and steps.replace("_", "").isdigit():
        return Path(path), int(steps)
    return Path(text), None


def resolved(text: str) -> str:
    """Return the same from any folder, and of a checkpoint that does not change if that run goes
    on; as it is where the run is gone."""
    path, steps = split_start(text)
    path = path.resolve()
    saved = checkpoint.saved(path / "checkpoints")
    if steps is None and saved:
        steps = int(saved[-1].name)
    return str(path) if steps is None else f"{path}@{steps}"
