"""Every card at its small scale, by the command line, several in a process, since one that ran a card has
most of what the next needs to start: `make cards`. With names, those alone."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# What it says to the compiler, and where it lets stemrl keep things, holds for cards as for tests.
import conftest as conftest
from stemrl.cli import main
from stemrl.registry import CARDS

TOGETHER = 5
"""Cards of one process, which holds all that it compiles. Two go on at once: one keeps no second core busy."""


def failed(cards: list[str]) -> list[str]:
    """Run these cards and return those that failed."""
    return [card for card in cards if main(["reproduce", card, "--scale", "quick"])]


def run(cards: list[str]) -> bool:
    """Run these cards in a process of their own, print what it says, and return whether all went well."""
    done = subprocess.run(
        [sys.executable, __file__, *cards],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    if sys.argv[1:]:
        if these := failed(sys.argv[1:]):
            sys.exit(f"failed: {', '.join(these)}")
    else:
        names = [name for name, entry in CARDS.items() if not entry.missing]
        groups = [names[i : i + TOGETHER] for i in range(0, len(names), TOGETHER)]
        with ThreadPoolExecutor(2) as pool:
            sys.exit(not all(list(pool.map(run, groups))))
