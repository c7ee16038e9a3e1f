"""What a user sees while training: a bar on a terminal, plain lines elsewhere, on stderr."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
"""Between two plain lines."""


class ProgressDisplay:
    """Steps done of steps wanted, with speed, return and the time that is left.

    Silent if not `shown`, save for what is said with `warn`.
    """

    def __init__(self, total: int, done: int, shown: bool, unit: str = "steps"):
        """**Arguments:** environment steps (or what `unit` names) wanted and done already."""
        self._unit = unit
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._shown, self._total, self._start = shown, total, done
        self._line_at = self._began = 0.0
        self._bar: Progress | None = None
        if shown and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=False,
            )
            self._task = self._bar.add_task("compiling", total=total, completed=done, numbers="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        elif self._shown:
            self.say("compiling; the first update takes a while")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def doing(self, what: str) -> None:
        """One word for what is going on: training, evaluating, …"""
        if self._bar is not None:
            self._bar.update(self._task, description=what)

    def advance(self, done: int, rate: float | None, watched: tuple[str, float] | None) -> None:
        """After a chunk: steps done, steps a second (`None` if it was compiled as well), and a
        number to watch with its name."""
        numbers = [] if rate is None else [f"{_short(rate)} {self._unit}/s"]
        if watched is not None:
            numbers.append(f"{watched[0]} {watched[1]:.4g}")
        if self._bar is not None:
            shown = " · ".join(numbers)
            self._bar.update(self._task, completed=done, description="training", numbers=shown)
            return
        now = time.monotonic()
        if rate is None:
            self._began, self._start = now, done
        if self._shown and (now - self._line_at >= LINE_SECONDS or done >= self._total):
            self._line_at = now
            share = (
                f"{_short(done)} of {_short(self._total)} {self._unit} ({done / self._total:.0%})"
            )
            if rate is not None:
                speed = (done - self._start) / max(now - self._began, 1e-9)
                numbers.append(f"{_clock((self._total - done) / max(speed, 1e-9))} left")
            self.say(" · ".join([share, *numbers]))

    def say(self, line: str) -> None:
        """A line that stays, if anything is shown."""
        if self._shown:
            self._console.print(line, markup=False)

    def warn(self, line: str) -> None:
        """A line that is shown in any case."""
        self._console.print(line, markup=False)


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
