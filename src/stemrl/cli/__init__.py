"""The command line: `stemrl COMMAND …`.

Each command is a module with `run(arguments) -> exit status`; it imports JAX when it needs it, not
before. Answers go to stdout, all else to stderr. A `UserError` is one line and status 2. What nobody
foresaw is one line too, and status 1; its traceback goes into a file that the line names, or to stderr
with `--traceback`.
"""

import contextlib
import errno
import importlib
import io
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from .. import __version__
from ..errors import UserError, nearest, simulating, unforeseen
from ..machine import missing_device
from ..reading import at_home

COMMANDS = {
    "train": ("train", "train a method on a family of tasks"),
    "evaluate": ("evaluate", "score a run, or a classical agent, on tasks that it has not met"),
    "adapt": ("adapt", "watch what was learned adapt to a task"),
    "compare": ("compare", "several runs of one family, side by side"),
    "plot": ("plot", "learning or adaptation curves of several runs in one figure"),
    "report": ("report", "runs as an HTML page with curves and animations"),
    "export": ("export", "a run's agents to share, or its animation as GIF or MP4"),
    "reproduce": ("reproduce", "a published result: the paper's numbers beside ours"),
    "trust": ("trust", "let a run from elsewhere import the code that it names"),
    "demo": ("demo", "train, adapt and report in a few minutes"),
    "list": (
        "listing",
        "the methods, families, cards, reference agents and trained agents there are",
    ),
    "doctor": ("doctor", "what this machine has, how fast it steps, what is missing"),
}


TRACEBACK = "--traceback"
SMALLER = "take smaller networks, fewer tasks or seeds, or a smaller replay"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for what nobody foresaw, 2 for a user's mistake,
    130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    shown = TRACEBACK in words
    words = [word for word in words if word != TRACEBACK]
    with _streams() as closed:
        status = _answer(words, shown)
        if closed and status == 0:
            return _refuse("the answer went nowhere: standard output is closed")
        return status


def _answer(words: list[str], shown: bool) -> int:
    """The exit status of a command; whatever goes wrong is said in one line."""
    try:
        return _run(words)
    except UserError as error:
        if shown:
            traceback.print_exc()
        return _refuse(str(error))
    except KeyboardInterrupt as interrupt:
        # A training that was stopped has already said how to go on, and which status to leave.
        if not hasattr(interrupt, "exit_status"):
            print("stemrl: interrupted", file=sys.stderr)
        return getattr(interrupt, "exit_status", 130)
    except Exception as error:
        if "jax" in sys.modules and (line := missing_device()):
            return _refuse(line)
        if shown:
            traceback.print_exc()
        _refuse(unforeseen(error, f"stemrl {__version__}: stemrl {shlex.join(words)}", not shown))
        return 1


def _run(words: list[str]) -> int:
    """Run a command. What the system refuses is said in one line, as far as it is known."""
    if any("\0" in word for word in words):
        raise UserError(f"a NUL byte can stand in no argument: {' '.join(map(ascii, words))}")
    try:
        with simulating(), warnings.catch_warnings():
            warnings.showwarning = _Warnings()
            status = _dispatch([_at_home(word) for word in words])
        sys.stdout.flush()  # now, while what goes wrong can still be said
        return status
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _refuse(f"there is not enough memory; {SMALLER}")
    except RuntimeError as error:
        # JAX's own, known by its words: this module does without JAX.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).partition("\n")[0].rpartition("RESOURCE_EXHAUSTED: ")[2]
        return _refuse(f"there is not enough memory ({first}); {SMALLER}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO):
            raise
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refuse(f"cannot write the answer: {error.strerror}")


@contextlib.contextmanager
def _streams() -> Iterator[bool]:
    """Streams that can be written to, whatever they were given to us as; yields whether stdout is
    closed. What an encoding has no character for is a question mark. A file that we open must not
    become descriptor 1 or 2, which libraries write to without asking."""
    before = sys.stdout, sys.stderr
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (stream or nowhere for stream in before)
        for stream in before:
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="replace")
        try:
            yield before[0] is None
        finally:
            sys.stdout, sys.stderr = before


def _at_home(word: str) -> str:
    """`--flag=~/x` as a shell leaves it, with the home folder written out."""
    flag, equals, value = word.partition("=")
    return f"{flag}={at_home(value)}" if equals and flag.startswith("--") else word


class _Warnings:
    """Warnings in one line each, as all that is said beside an answer, and none of them twice."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, message: Warning | str, *_: Any) -> None:
        line = f"stemrl: warning: {' '.join(str(message).split())}"
        if line not in self.said:
            print(line, file=sys.stderr)
        self.said.add(line)


def _refuse(line: str) -> int:
    print(f"stemrl: {' '.join(line.split())}", file=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"stemrl {__version__}")
        return 0
    command = words[0]
    if command not in COMMANDS:
        raise UserError(f"unknown command '{command}'{nearest(command, COMMANDS)}")
    module = importlib.import_module(f".{COMMANDS[command][0]}", __name__)
    return module.run(words[1:])


def _help() -> str:
    lines = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: stemrl COMMAND …",
            "",
            "Transfer, multi-task and meta reinforcement learning in JAX.",
            "",
            *lines,
            "",
            "`stemrl COMMAND --help` says more; `stemrl adapt rl2-gridnavi` is a start.",
            f"With {TRACEBACK} a command that fails shows where.",
        ]
    )
