"""Opening what may come from elsewhere: never a wait, never more bytes than were bargained for.

A named pipe would keep us waiting for ever, a device would never end, and a sparse file of a
terabyte costs whoever sends it nothing.
"""

import ast
import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

CONFIGURATION_LIMIT = 2**20
"""Bytes that a `config.json` may have."""


_parsing = threading.Lock()


def syntax_tree(source: str) -> ast.Module:
    """Return the tree of Python source. Raises `SyntaxError` and `ValueError`. One at a time: until
    Python 3.12 two threads that build trees count the depth of their recursion in one number, and
    one of them fails (CPython's issue 106905). So does this one if another thread builds its own meanwhile, as
    NumPy does of a file's header: then it tries again."""
    with _parsing:
        for _ in range(10):
            with contextlib.suppress(SystemError):
                return ast.parse(source)
        return ast.parse(source)


def open_regular(path: Path, follow: bool = True) -> BinaryIO:
    """Return a regular file, opened for reading; without `follow` not through a link. Raises
    `OSError`, also for a pipe, a device or a path that can be none, and never waits."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL byte
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_configuration(path: Path) -> Any:
    """Return what a `config.json` holds, not yet believed. Raises `UserError`."""
    try:
        with open_regular(path) as file:
            text = file.read(CONFIGURATION_LIMIT + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > CONFIGURATION_LIMIT:
        raise UserError(f"{path} is too large to be a run's configuration")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, it is not JSON: {error}") from None


def digest_of(what: bytes | Path) -> str:
    """Return sixteen hexadecimal digits that stand for these bytes or the contents of a file; empty
    where the file cannot be read."""
    if isinstance(what, Path):
        try:
            with open_regular(what) as file:
                what = file.read()
        except OSError:
            return ""
    return hashlib.sha256(what).hexdigest()[:16]


def at_home(text: str) -> str:
    """Return `~/x` and `~someone/x` with the home folder written out, as a shell does it where the
    path stands alone; any other text as it is. Raises `UserError` where nobody knows that home, and
    for what can be no path."""
    if "\0" in text:
        raise UserError(f"a NUL byte can stand in no path: {text!r}")
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        raise UserError(f"nobody knows which folder ~ is in {text}; write it out") from None
