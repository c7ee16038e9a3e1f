"""The memories there are, by name."""

from typing import Literal, get_args

from jaxtyping import PRNGKeyArray

from .fast_weights import DeltaMemory
from .memory import AbstractMemoryCell
from .recurrent import GRU, LSTM

Cell = Literal["gru", "lstm", "delta"]
"""The memories there are; see `memory_cell`."""


def memory_cell(
    cell: Cell, inputs: int, size: int, *, chrono_span: int = 0, key: PRNGKeyArray
) -> AbstractMemoryCell:
    """The memory called `cell`, of `inputs` entries read and `size` entries said.

    With `chrono_span`, the entries of a recurrent one start out forgetting in 1 to `chrono_span` steps, each in a
    time of its own (Tallec and Ollivier 1804.11188); without, in one or two. The delta rule forgets
    nothing by itself.
    """
    if cell == "gru":
        return GRU(inputs, size, chrono_span=chrono_span, key=key)
    if cell == "lstm":
        return LSTM(inputs, size, chrono_span=chrono_span, key=key)
    if cell == "delta":
        return DeltaMemory(inputs, size, key=key)
    raise ValueError(f"unknown memory cell {cell!r}; known: {', '.join(get_args(Cell))}")
