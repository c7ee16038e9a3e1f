"""`python -m stemrl.agents [NAME…]`: train the agents that come with the package, all or some."""

import sys

from ..registry import AGENTS
from .recipes import make

if __name__ == "__main__":
    for name in sys.argv[1:] or AGENTS:
        made = make(name)
        size = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file())
        score = made.summary["score"]
        print(f"{made.path}: {size / 1000:.0f} kB, mean return {score:.4g} on held-out tasks")
