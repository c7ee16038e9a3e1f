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


class Turns:
    """The same for code that has a training loop of its own: called once an iteration, it holds the
    loop until it is that side's turn.

    From here on standard output is for this talk alone; what the loop prints goes to standard error.
    """

    def __init__(self, warm_up: int):
        """`warm_up`: iterations before `ready`."""
        self.answers, sys.stdout = sys.stdout, sys.stderr
        self.left, self.started = warm_up, None

    def __call__(self) -> None:
        """Count an iteration; after the last of a turn, answer and wait for the next."""
        self.left -= 1
        if self.left > 0:
            return
        told = "ready" if self.started is None else time.perf_counter() - self.started
        print(told, file=self.answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self.left, self.started = int(line), time.perf_counter()
