"""Environment steps a second of whole trainings, with the one thread that the command line gives XLA's
programs, against the threads that XLA would take: one for each core.

    python benchmarks/threads.py

Simulators have all cores on both sides. No bar: this is where the default comes from.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import alternate, row, write
from stemrl.machine import XLA_THREADS, cores

TRAININGS = {
    "ppo on hopper-params": "ppo hopper-params --lanes 64 --steps-per-update 128 --steps 60_000",
    "maml on half-cheetah-vel": "maml half-cheetah-vel --family.horizon 100 --steps 250_000",
    "maml on point-2d": "maml point-2d --steps 2_000_000",
    "rl2 on bandit": "rl2 bandit --family.arms 10 --family.pulls 100 --batch-steps 48_000 --steps 300_000",
    "her on bit-flip": "her bit-flip --family.bits 15 --reveal context --steps 3_000",
}
REPEATS = 3


def speed(words: str, threads: int) -> float:
    """Steps a second from the second update (the first compiles) to the last."""
    program = Path(sys.executable).with_name("stemrl")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            program,
            "train",
            *words.split(),
            "--evaluate-every",
            "0",
            "--out",
            out,
            "--quiet",
        ]
        subprocess.run(command, check=True, env=os.environ | {XLA_THREADS: str(threads)})
        lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    first, *_, last = map(json.loads, lines)
    return (last["steps"] - first["steps"]) / (last["wall/seconds"] - first["wall/seconds"])


def main() -> None:
    """Each training in turns with one thread and with all."""
    rows = []
    for name, words in TRAININGS.items():
        found = alternate(
            {"one": lambda w=words: speed(w, 1), "all": lambda w=words: speed(w, cores())},
            REPEATS,
        )
        rows.append(row(name, found["one"], found["all"], None))
    write("threads", rows, theirs=f"the same with {cores()} threads for XLA's programs")


if __name__ == "__main__":
    main()
