"""Runs: the training loop, checkpoints, configuration and metrics."""

from .compilation_cache import enable_compilation_cache
from .config import RunConfig
from .export import export
from .launch import resume, train
from .loop import Interrupted, NonFinite
from .run import Run
from .supervised import SupervisedRun, train_supervised

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
