"""What all benchmarks share: where they ran, and how their numbers are printed and written.

A benchmark measures both sides in one process, alternating, and hands rows to `write`:

    write("physics", [row("rollout over bare rollout", ours=49_000, theirs=55_000, bar=0.85)])
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from stemrl.machine import PACKAGES, machine, versions

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
_STARTED = time.perf_counter()


def alternate(sides: dict[str, Callable[[], float]], repeats: int = 5) -> dict[str, float]:
    """Median of what each side returns, run in turns so that a busy machine hits all alike."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            figures[name].append(run())
    return {name: statistics.median(values) for name, values in figures.items()}


def peer(python: str, script: str, *arguments: str) -> Callable[[int], float]:
    """Seconds that another library takes for so many steps, in a process of its own that is idle
    between its turns. `script`, beside this file, prints `ready` once it is warm, then reads a
    number of steps a line and answers with the seconds they took."""
    process = subprocess.Popen(
        [python, str(Path(__file__).with_name(script)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    questions, answers = process.stdin, process.stdout
    if answers.readline().strip() != "ready":
        raise SystemExit(f"{script} did not start in {python}; its message is above")

    def seconds(steps: int) -> float:
        questions.write(f"{steps}\n")
        questions.flush()
        return float(answers.readline())

    return seconds


def products() -> Callable[[], float]:
    """Floating-point operations a second of 256³ matrix products in a compiled loop."""
    x, w = jax.random.normal(jax.random.key(0), (2, 256, 256))

    @jax.jit
    def run(x, w):
        return jax.lax.scan(lambda x, _: (1e-2 * (x @ w), None), x, None, length=500)[0]

    jax.block_until_ready(run(x, w))

    def once() -> float:
        started = time.perf_counter()
        jax.block_until_ready(run(x, w))
        return 500 * 2 * 256**3 / (time.perf_counter() - started)

    return once


def row(
    name: str,
    ours: float,
    theirs: float,
    bar: float | None,
    *,
    lower: bool = False,
    unit: str = "steps/s",
) -> dict[str, Any]:
    """One comparison. The ratio is how many times better ours is: ours / theirs, or theirs / ours
    where `lower` numbers are better; it should be at least `bar`, if there is one."""
    ratio = theirs / ours if lower else ours / theirs
    return {"name": name, "ours": ours, "theirs": theirs, "ratio": ratio, "bar": bar, "unit": unit}


def write(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Print `rows` and write them to `results/benchmarks/<name>.json`, with the machine, the
    versions, the seconds since the benchmark started and whatever `more` says of the setting."""
    for r in rows:
        told = ""
        if r["bar"] is not None:
            mark = "meets" if r["ratio"] >= r["bar"] else "MISSES"
            told = f", {mark} the bar of {r['bar']:g}"
        unit = r.get("unit", "")
        print(
            f"{r['name']}: {r['ours']:,.4g} against {r['theirs']:,.4g} {unit},"
            f" ratio {r['ratio']:.2f}{told}"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    seconds = round(time.perf_counter() - _STARTED, 1)
    content = {
        "benchmark": name,
        "rows": rows,
        **more,
        "machine": machine(),
        "versions": versions((*PACKAGES, "gymnasium")),
        "seconds": seconds,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
