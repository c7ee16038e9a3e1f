"""Opening what may come from elsewhere: never a wait, never more bytes than were bargained for.

A named pipe would keep us waiting for ever, a device would never end, and a sparse file of a
terabyte costs whoever sends it nothing.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

CONFIGURATION_LIMIT = 2**20
"""Bytes that a `config.json` may have."""


def open_regular(path: Path, follow: bool = True) -> BinaryIO:
    """A regular file, opened for reading; without `follow` not through a link. Raises `OSError`,
    also for a pipe or a device, and never waits."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_configuration(path: Path) -> Any:
    """What a `config.json` holds, not yet believed. Raises `UserError`."""
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
