"""Writing so that a crash, a full disk or a second process leaves no half of anything, and so that
a link in a folder from elsewhere cannot have us truncate a file outside of it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError

LOCK = ".lock"


def open_here(path: Path, mode: str, buffering: int = -1) -> BinaryIO:
    """Return a file of a run, opened for writing (`wb`, `ab`, `a+b`), never through a link."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    try:
        return open(path, mode, buffering, opener=opener)  # pyright: ignore[reportReturnType]
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which could lead anywhere") from None
        raise


def unfinished(name: str) -> str:
    """Return what a file is called while `write_whole` writes it."""
    return f".{name}.writing"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file to the side, sync it, and rename it into place."""
    side = path.with_name(unfinished(path.name))
    with writing(path):
        with open_here(side, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(side, path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or a forbidden folder into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes this run. The system lets go of the lock when the process
    ends, however it ends, so that a lock file left behind locks nothing."""
    path = folder / LOCK
    with writing(path):
        file = open_here(path, "a+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(64).decode(errors="replace").strip()
            raise UserError(
                f"another process{f' ({holder})' if holder else ''} is writing {folder};"
                " wait for it or choose another folder"
            ) from None
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror}") from None
        if not os.fstat(file.fileno()).st_nlink:
            raise UserError(f"another process has just given up {folder}; try again")
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()}".encode())
            file.flush()
        yield


def refuse_full(folder: Path) -> None:
    """Raise `UserError` unless a folder is new or empty."""
    with writing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is in the way; give a new folder")
