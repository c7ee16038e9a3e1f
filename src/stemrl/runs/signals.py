"""SIGINT and SIGTERM as a wish to stop, heard even while compiled code runs.

Python's own handlers wait until compiled code returns, and fold two signals into one meanwhile.
The C-level wake-up pipe does not: a thread reads it, notes the first signal, and ends the process
at the second.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which the first SIGINT or SIGTERM is noted in `received` and the second ends
    the process at once. Does nothing outside the main thread, where Python allows no handlers."""

    def __init__(self, announce: Callable[[signal.Signals], None]):
        """**Arguments:** `announce` is called once, in another thread, with the first signal."""
        self.received: signal.Signals | None = None
        self._announce = announce
        self._handlers: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._previous_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, _ignore)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._handlers.items():
            # None: set by something other than Python, which signal.signal cannot bring back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        os.close(self._write)  # ends the thread
        self._thread.join()
        os.close(self._read)

    def _listen(self) -> None:
        while numbers := os.read(self._read, 1):
            if numbers[0] not in SIGNALS:
                continue
            if self.received is not None:
                os._exit(128 + numbers[0])
            self.received = signal.Signals(numbers[0])
            self._announce(self.received)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A Python-level handler must exist for the wake-up pipe to be written."""
