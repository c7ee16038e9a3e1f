"""Seconds from `stemrl train maml half-cheetah-vel` to its first update, on a machine that has run
it before: the bar is 10 s. The first ever run, with an empty compilation cache, stands beside it.

    python benchmarks/start_up.py [METHOD FAMILY]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import row, write

LIMIT = 10.0
"""Seconds."""
REPEATS = 3


def seconds_to_first_update(method: str, family: str, out: Path, cache: Path) -> float:
    """Start the command, wait for the first row of its metrics, end it."""
    program = Path(sys.executable).with_name("stemrl")
    command = [str(program), "train", method, family, "--out", str(out)]
    environment = os.environ | {"STEMRL_CACHE": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    metrics = out / "metrics.jsonl"
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(process.communicate()[1])
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        process.kill()
    return seconds


def main(method: str = "maml", family: str = "half-cheetah-vel") -> None:
    """Once with an empty cache, then warm."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inputs = [
            seconds_to_first_update(method, family, place / str(i), place / "cache")
            for i in range(REPEATS + 1)
        ]
    first, *warm = inputs
    print(f"first ever run: {first:.1f} s; later ones: {', '.join(f'{s:.1f}' for s in warm)} s")
    name = f"{method} on {family}, seconds to the first update, against the limit"
    rows = [row(name, statistics.median(warm), LIMIT, 1.0, lower=True, unit="s")]
    write("start_up", rows, first_ever_run=first, later_runs=warm)


if __name__ == "__main__":
    main(*sys.argv[1:])
