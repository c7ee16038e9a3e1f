"""Networks: pytrees of arrays that take any leading dimensions."""

from .mlp import MLP, Activation, ConvEncoder, Linear, activate
from .recurrent import AbstractMemoryCell, Cell, Gru, Lstm, MemoryState, memory_cell

__all__ = [
    "MLP",
    "AbstractMemoryCell",
    "Activation",
    "Cell",
    "ConvEncoder",
    "Gru",
    "Linear",
    "Lstm",
    "MemoryState",
    "activate",
    "memory_cell",
]
