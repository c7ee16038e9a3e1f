"""Runs: the training loop, checkpoints, configuration and metrics."""

from .compilation_cache import enable_compilation_cache, forget_programs
from .config import RunConfig
from .export import export
from .launch import resume, train
from .loop import Interrupted, NonFinite
from .run import Run

__all__ = [
    "Interrupted",
    "NonFinite",
    "Run",
    "RunConfig",
    "enable_compilation_cache",
    "export",
    "forget_programs",
    "resume",
    "train",
]
