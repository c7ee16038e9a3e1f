"""Every card at its small scale, two at a time, since one keeps no second core busy: `make cards`.

They compile much and run little, so the compiler tries less hard, and without XLA's newer emitters, which
take twice as long. Should a program wait for ever, as those with two batched QR decompositions did (see
`stemrl.networks.orthogonal`), its card is run again with them after `PATIENCE`, and says so.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stemrl.registry import CARDS

USUAL = "--xla_backend_optimization_level=0"
FAST = f"{USUAL} --xla_cpu_use_fusion_emitters=false"
PATIENCE = 150
"""Seconds; on two idle cores all of them together take four minutes."""
STEMRL = Path(sys.executable).with_name("stemrl")


def reproduce(card: str, flags: str, patience: float | None) -> subprocess.CompletedProcess[str]:
    """Run a card with these flags of XLA's. Raises `subprocess.TimeoutExpired`."""
    return subprocess.run(
        [STEMRL, "reproduce", card, "--scale", "quick"],
        env={**os.environ, "XLA_FLAGS": f"{flags} {os.environ.get('XLA_FLAGS', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
    )


def run(card: str) -> bool:
    """Run a card, print what it says, and return whether it succeeded."""
    try:
        done = reproduce(card, FAST, PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"{card} had not ended after {PATIENCE} s and is run again", flush=True)
        done = reproduce(card, USUAL, None)
    print(done.stdout, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    names = [name for name, entry in CARDS.items() if not entry.missing]
    with ThreadPoolExecutor(2) as pool:
        failed = [name for name, well in zip(names, pool.map(run, names), strict=True) if not well]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
