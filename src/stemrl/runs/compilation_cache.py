"""JAX's persistent compilation cache, so that only the first run on a machine waits for XLA; and the
programs that a process holds, of which no number of runs must make too many."""

import contextlib
import gc
import os
from pathlib import Path

import jax

LIMIT = 2 * 2**30
"""Bytes above which the programs that were unused for longest are removed."""


MAPPINGS = 20_000
"""Of memory, which a process may hold before its programs are let go. Linux allows it 65,530; a compiled
program takes three and more, and beyond the limit XLA ends the process."""


def forget_programs(most: int | None = None) -> bool:
    """Let go of all compiled programs if the process holds more than `most` mappings of memory (by
    default `MAPPINGS`), and return whether that was done. A program that is needed again is
    compiled again, or read from the compilation cache."""
    try:
        with open("/proc/self/maps", "rb") as file:
            held = sum(1 for _ in file)
    except OSError:  # not Linux, which alone has the limit
        return False
    if held <= (MAPPINGS if most is None else most):
        return False
    jax.clear_caches()
    gc.collect()
    return True


def cache_folder() -> Path:
    """Return `STEMRL_CACHE` if set, else the user's cache folder."""
    if chosen := os.environ.get("STEMRL_CACHE"):
        return Path(chosen).expanduser() / "xla"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "stemrl" / "xla"


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs, small ones too, from one process to the next. Return the folder that
    is in use, or `None`.

    The command line calls this; in Python it is the user's choice. A folder that was set before
    (`JAX_COMPILATION_CACHE_DIR`) stays as it is. If the folder cannot be written, there is no
    cache.
    """
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if folder is None:
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            _evict(folder)
        except (OSError, RuntimeError):  # nobody's home
            return None
        if not os.access(folder, os.W_OK):
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Path(folder)


def _evict(folder: Path) -> None:
    """Remove the oldest programs beyond `LIMIT`."""
    found = []
    for file in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            about = file.stat()
            found.append((max(about.st_atime, about.st_mtime), about.st_size, file.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            break
        total -= size
        with contextlib.suppress(OSError):
            os.remove(path)
