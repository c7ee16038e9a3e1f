"""Python functions as named targets of compiled programs, so that those programs can be cached.

`jax.pure_callback` puts the address of a Python object into the program, which therefore means
nothing to another process and is never written to the persistent compilation cache. A target of
XLA's foreign function interface is a *name* that every process binds for itself. Its binary
interface is stable and versioned (`xla/ffi/api/c_api.h`, which comes with JAX), and small enough
to be spoken with `ctypes`: nothing is compiled at installation.

The function gets the program's own buffers as NumPy arrays and writes its results into them, which
also saves what a callback spends on copies. It must not call JAX.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..errors import noted

VERSION = (0, 3)
"""Of the interface that the structures below are written after; XLA supports those of the past."""

INTERNAL = 13
"""`XLA_FFI_Error_Code_INTERNAL`."""
METADATA = 1
"""`XLA_FFI_Extension_Metadata`."""

TYPES = {
    1: np.bool_, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.uint8, 7: np.uint16,
    8: np.uint32, 9: np.uint64, 10: np.float16, 11: np.float32, 12: np.float64,
}  # fmt: skip
"""`XLA_FFI_DataType`, as far as NumPy has it."""

Function = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], None]
"""`function(arguments, results)`: reads the former, which it must not change, fills the latter."""


class _Base(ctypes.Structure):
    """What all structures begin with."""

    _fields_ = (("struct_size", ctypes.c_size_t), ("extension", ctypes.c_void_p))


class _Extension(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.c_void_p),
    )


class _Version(_Base):
    _fields_ = (("major", ctypes.c_int), ("minor", ctypes.c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("version", _Version),
        ("traits", ctypes.c_uint32),
    )


class _ErrorArguments(_Base):
    _fields_ = (("message", ctypes.c_char_p), ("code", ctypes.c_int))


_CREATE_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_ErrorArguments))


class _Api(_Base):
    _fields_ = (
        ("version", _Version),
        ("internal", ctypes.c_void_p),
        ("create_error", _CREATE_ERROR),
    )


class _Buffer(_Base):
    _fields_ = (
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
    )


class _Buffers(_Base):
    """Arguments or results."""

    _fields_ = (
        ("size", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    )


class _Frame(_Base):
    """Of a call; its attributes, which follow, are not used."""

    _fields_ = (
        ("api", ctypes.POINTER(_Api)),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
    )


_HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Frame))

_bound: dict[str, tuple[Function, Any]] = {}
"""By name, for the life of the process: what XLA may call at any time must not be collected."""
_lock = threading.Lock()


def bind(name: str, function: Function) -> str:
    """Give `function` a name in this process's programs for the CPU; returns the name, with a
    number behind it if another function has it already. To be called before such a program is
    compiled or loaded."""
    with _lock:
        taken, wanted = 1, name
        while name in _bound and _bound[name][0] != function:
            taken += 1
            name = f"{wanted}_{taken}"
        if name not in _bound:
            handler = _HANDLER(lambda frame: _handle(function, frame.contents))
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
            _bound[name] = function, handler
        return name


def call(name: str, results: Any, *arguments: jax.Array) -> Any:
    """Call a bound function from a program: `results` as for `jax.pure_callback`. Under `vmap`,
    however deep, it is one call with leading dimensions."""
    return jax.ffi.ffi_call(name, results, vmap_method="broadcast_all")(*arguments)


def _handle(function: Function, frame: _Frame) -> int | None:
    """A call from XLA: `None` or the address of an error."""
    if frame.extension:
        extension = _Extension.from_address(frame.extension)
        if extension.type == METADATA:
            # Asked at registration, not for a result.
            told = _Metadata.from_address(extension.metadata)
            told.version.major, told.version.minor = VERSION
            told.traits = 0
            return None
    try:
        function(_arrays(frame.arguments), _arrays(frame.results))
    except BaseException as error:
        noted(error)
        message = f"{type(error).__name__}: {error}".encode(errors="replace")
        size = ctypes.sizeof(_ErrorArguments)
        return frame.api.contents.create_error(_ErrorArguments(size, None, message, INTERNAL))
    return None


def _arrays(buffers: _Buffers) -> list[np.ndarray]:
    """XLA's buffers as arrays, without a copy."""
    return [_array(buffers.buffers[i].contents) for i in range(buffers.size)]


def _array(buffer: _Buffer) -> np.ndarray:
    shape = tuple(buffer.dims[: buffer.rank])
    dtype = np.dtype(TYPES[buffer.dtype])
    count = dtype.itemsize
    for length in shape:
        count *= length
    if not count:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * count).from_address(buffer.data)
    return np.frombuffer(memory, dtype).reshape(shape)
