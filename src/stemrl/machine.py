"""What stands beside every number: where it was measured, and with which versions."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

from .errors import UserError

PACKAGES = ("stemrl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco")
"""Those that numbers depend on."""
CORES = "STEMRL_CORES"
"""An environment variable: of how many cores stemrl may make use, where not all are for it."""
XLA_THREADS = "PJRT_NPROC"
"""An environment variable of XLA's: how many threads its programs for the CPU share their work among."""


def machine() -> dict[str, Any]:
    """Return processor, cores this process may use, memory in GiB, accelerators, system and Python."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            processor = next(s.split(":")[1].strip() for s in file if s.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = physical_memory()
    return {
        "processor": processor,
        "cores": cores(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "devices": _devices(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Return the cores that this process may use: `STEMRL_CORES`, where that is set to a number."""
    limit = os.environ.get(CORES, "")
    if limit.isascii() and limit.isdecimal() and int(limit):
        return int(limit)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Return the bytes of memory in this machine, if the system says it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def refuse_beyond_memory(what: str, size: int, advice: str) -> None:
    """Raise `UserError` where `size` bytes, which `what` would take, are more than this machine has."""
    here = physical_memory()
    if here is not None and size > here:
        raise UserError(
            f"{what} would take {size / 2**30:,.1f} GiB of memory, and this machine has"
            f" {here / 2**30:,.1f}; {advice}"
        )


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of `packages`; `unknown` for one that is not installed as a
    package."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


_forked = False


def _after_fork() -> None:
    global _forked
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    used = getattr(bridge, "backends_are_initialized", lambda: False)
    _forked = _forked or bool(used())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def refuse_forked() -> None:
    """Raise `UserError` in a process that was forked after JAX had been used, whose threads did not come
    along, so that the first computation would wait for ever."""
    if _forked:
        raise UserError(
            "this process was forked after JAX had been used in its parent, and would wait for ever; begin"
            " it anew instead: multiprocessing.get_context('spawn')"
        )


def missing_device() -> str:
    """Return a line that says so, where JAX can compute on nothing that it was told to; else empty."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        why = " ".join(str(error).split()) or "there is no such device, or its plugin is missing"
        return (
            f"JAX cannot compute on '{wanted}' (JAX_PLATFORMS): {why}; unset JAX_PLATFORMS to take"
            " what there is"
        )
    return ""


def refuse_no_device() -> None:
    """Raise `UserError` where this process cannot compute: forked, or told to use what is not there."""
    refuse_forked()
    if line := missing_device():
        raise UserError(line)


def _devices() -> list[str]:
    import jax

    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
