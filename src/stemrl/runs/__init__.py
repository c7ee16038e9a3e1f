"""Runs: the training loop, checkpoints, configuration and metrics."""

from .compilation import enable_compilation_cache
from .config import RunConfig
from .export import export
from .loop import Interrupted, NonFinite
from .run import Run
from .supervised import SupervisedRun, train_supervised
from .training import resume, train

__all__ = [
    "Interrupted",
    "NonFinite",
    "Run",
    "RunConfig",
    "SupervisedRun",
    "enable_compilation_cache",
    "export",
    "resume",
    "train",
    "train_supervised",
]
