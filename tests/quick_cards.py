"""Every card at its small scale, by the command line, two at a time: `make cards`.

A process runs several of them, since one that ran a card has most of what the next needs to start.
"""

import contextlib
import io
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

# What it says to the compiler, and where it lets stemrl keep things, holds for cards as for tests.
import conftest as conftest

TOGETHER = 5
"""Cards of one process. A new one takes its place, for it holds all that it compiled."""


def run(card: str) -> tuple[str, bool]:
    """Run a card and return what it says and whether it succeeded."""
    from stemrl.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["reproduce", card, "--scale", "quick"])
    return said.getvalue(), status == 0


if __name__ == "__main__":
    from stemrl.registry import CARDS

    names = [name for name, entry in CARDS.items() if not entry.missing]
    failed = []
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawning, max_tasks_per_child=TOGETHER) as pool:
        for name, (said, well) in zip(names, pool.map(run, names), strict=True):
            print(said, flush=True)
            failed += [] if well else [name]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
