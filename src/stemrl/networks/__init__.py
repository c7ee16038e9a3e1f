"""Networks: pytrees of arrays that take any leading dimensions."""

from .cells import Cell, memory_cell
from .fast_weights import DeltaMemory
from .memory import AbstractMemoryCell, MemoryState
from .mlp import MLP, Activation, ConvEncoder, Linear, activate
from .recurrent import Gru, Lstm

__all__ = [
    "MLP",
    "AbstractMemoryCell",
    "Activation",
    "Cell",
    "ConvEncoder",
    "DeltaMemory",
    "Gru",
    "Linear",
    "Lstm",
    "MemoryState",
    "activate",
    "memory_cell",
]
