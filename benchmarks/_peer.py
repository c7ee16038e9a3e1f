"""What the other libraries' sides share: they train when asked to, for as many steps."""

import sys
import time
from typing import Any


def serve(model: Any, warm_up: int) -> None:
    """Train for `warm_up` steps and print `ready`; then, for each line with a number of steps, train
    for as many and print the seconds they took."""
    model.learn(warm_up)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        model.learn(int(line), reset_num_timesteps=False)
        print(time.perf_counter() - started, flush=True)
