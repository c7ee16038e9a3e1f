"""What stands beside every number: where it was measured, and with which versions."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from typing import Any

PACKAGES = ("stemrl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco")
"""Those that numbers depend on."""


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, accelerators, system and Python."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            processor = next(s.split(":")[1].strip() for s in file if s.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError, AttributeError):
        memory = None
    return {
        "processor": processor,
        "cores": cores(),
        "memory_gib": memory,
        "devices": _devices(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of `packages`; `unknown` for one that is not installed as a package."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _devices() -> list[str]:
    import jax

    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
