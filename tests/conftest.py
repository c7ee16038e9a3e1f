"""Before JAX is imported: tests compile much and run little, so the compiler tries less hard, without
XLA's newer emitters, which take twice as long, and each program in one piece, which saves a tenth; Python
looks for garbage less often, which saves a twentieth; and what stemrl keeps for its user (see
`stemrl.runs.trust`) is kept elsewhere."""

import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
gc.set_threshold(50_000, 50, 100)
_config = tempfile.TemporaryDirectory(prefix="stemrl-config-")
os.environ["XDG_CONFIG_HOME"] = _config.name

HELD = 6_000
"""Mappings of memory beyond which a file's programs are let go: little of them is of use to the next, and all
of them together take six gigabytes a worker."""


@pytest.fixture(scope="module", autouse=True)
def _forgets_programs() -> Iterator[None]:
    """Lets go of what a file compiled, of the suite's ten thousand programs."""
    yield
    if "jax" in sys.modules:
        from stemrl.runs import forget_programs

        forget_programs(HELD)


CPU: dict[str, float] = {}
"""CPU seconds that each test and each file of them took, the processes that they began included."""


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        for name in (item.path.name, f"{item.path.name}::{item.name}"):
            CPU[name] = CPU.get(name, 0.0) + cpu_seconds() - before


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cpu"] = dict(CPU)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    CPU.update(getattr(node, "workeroutput", {}).get("cpu", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("CPU seconds, less the start of the workers")
    tests, whole = ({k: v for k, v in CPU.items() if ("::" in k) == one} for one in (True, False))
    for seconds in (tests, whole):
        for name in sorted(seconds, key=lambda name: -seconds[name])[:30]:
            terminalreporter.write_line(f"{seconds[name]:7.1f} {name}")
    terminalreporter.write_line(f"{sum(whole.values()):7.1f} in all")
