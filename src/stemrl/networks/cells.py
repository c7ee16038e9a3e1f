"""The memories there are, by name."""

from typing import Literal, get_args

import jax
from jaxtyping import PRNGKeyArray

from .attention import Attention
from .fast_weights import DeltaMemory
from .memory import AbstractMemoryCell
from .recurrent import GRU, LSTM
from .snail import SNAIL
from .stack import ResidualStack
from .ttt import TTTLinear

Cell = Literal["gru", "lstm", "delta", "snail", "transformer", "ttt"]
"""The memories there are; see `memory_cell`."""


def memory_cell(
    cell: Cell,
    inputs: int,
    size: int,
    *,
    length: int = 1,
    layers: int = 0,
    chrono_span: int = 0,
    key: PRNGKeyArray,
) -> AbstractMemoryCell:
    """Return a fresh memory of the kind `cell`.

    - `inputs`, `size`: entries of an input and of the output.
    - `length`: inputs of a trial. What looks back (`snail`, `transformer`) keeps that many; in a
      longer trial it sees the last so many.
    - `layers`: how many memories stand above one another; 0: one of gru, lstm and delta, two of the
      others. Several of gru, lstm or delta stand in a residual stack, as those of transformer and
      ttt always do.
    - `chrono_span`: the entries of a gru or lstm begin by forgetting within 1 to `chrono_span`
      steps, each in a time of its own (Tallec and Ollivier 1804.11188); with 0, within one or two.
      The others forget nothing by themselves, or everything after `length` steps.
    """
    if cell not in get_args(Cell):
        raise ValueError(f"unknown memory cell {cell!r}; known: {', '.join(get_args(Cell))}")
    layers = layers or (1 if cell in RECURRENT else 2)
    if cell == "snail":
        return SNAIL(inputs, size, length, layers=layers, key=key)
    if cell in RECURRENT and layers == 1:
        return _memory(cell, inputs, size, length, 1.0, chrono_span, key)
    stack_key, *keys = jax.random.split(key, layers + 1)
    scale = layers**-0.5
    memories = [_memory(cell, size, size, length, scale, chrono_span, k) for k in keys]
    return ResidualStack(inputs, tuple(memories), key=stack_key)


RECURRENT = ("gru", "lstm", "delta")
"""Memories whose state is of one size, whatever the trial's length, and which read step by step."""


def _memory(
    cell: Cell,
    inputs: int,
    size: int,
    length: int,
    final_scale: float,
    chrono_span: int,
    key: PRNGKeyArray,
) -> AbstractMemoryCell:
    """One layer's memory."""
    if cell == "gru":
        return GRU(inputs, size, chrono_span=chrono_span, key=key)
    if cell == "lstm":
        return LSTM(inputs, size, chrono_span=chrono_span, key=key)
    if cell == "delta":
        return DeltaMemory(inputs, size, key=key)
    if cell == "transformer":
        return Attention(inputs, size, length, final_scale=final_scale, key=key)
    return TTTLinear(inputs, size, final_scale=final_scale, key=key)
