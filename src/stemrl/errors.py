"""The one exception that means "the user can mend this"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for. Its message is one line: what is wrong and what to do.

    The command line prints the line and exits with status 2, without a traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A suffix for an "unknown name" message: `"; did you mean 'maml'?"`, or the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}"
