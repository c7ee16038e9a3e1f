"""Networks: pytrees of arrays that take any leading dimensions."""

from .cells import Cell, memory_cell
from .fast_weights import DeltaMemory
from .memory import AbstractMemoryCell, MemoryState
from .mlp import MLP, Activation, ConvEncoder, Linear, activate
from .recurrent import GRU, LSTM

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "AbstractMemoryCell",
    "Activation",
    "Cell",
    "ConvEncoder",
    "DeltaMemory",
    "Linear",
    "MemoryState",
    "activate",
    "memory_cell",
]
