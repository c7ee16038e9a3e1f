"""Networks: pytrees of arrays that take any leading dimensions."""

from .attention import Attention
from .cells import Cell, memory_cell
from .fast_weights import DeltaMemory
from .memory import AbstractMemoryCell, MemoryState
from .mlp import MLP, Activation, ConvEncoder, LayerNorm, Linear, RowEncoder, activate
from .recurrent import GRU, LSTM
from .snail import SNAIL
from .stack import ResidualStack
from .ttt import TTTLinear

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "SNAIL",
    "AbstractMemoryCell",
    "Activation",
    "Attention",
    "Cell",
    "ConvEncoder",
    "DeltaMemory",
    "LayerNorm",
    "Linear",
    "MemoryState",
    "ResidualStack",
    "RowEncoder",
    "TTTLinear",
    "activate",
    "memory_cell",
]
