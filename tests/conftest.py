"""Before JAX is imported: tests compile much and run little, so the compiler tries less hard; and
what stemrl keeps for its user (see `stemrl.runs.trust`) is kept elsewhere."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
_config = tempfile.TemporaryDirectory(prefix="stemrl-config-")
os.environ["XDG_CONFIG_HOME"] = _config.name


MAPPINGS = 20_000
"""Of memory, which a worker may hold before it forgets its programs. Linux allows a process 65,530; a
compiled program takes three, the suite compiles ten thousand, and beyond the limit XLA dies loading one."""


def forget_programs() -> None:
    """Let go of all compiled programs, if there are many."""
    mappings = Path("/proc/self/maps")
    if mappings.exists() and len(mappings.read_bytes().splitlines()) > MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _forgets_programs() -> Iterator[None]:
    yield
    forget_programs()
