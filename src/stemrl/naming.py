"""A name with settings after it, `hopper-params width=1`: how one thing is made of another.

Wherever a method or family names another one (the learner inside `darc`, the family inside
`randomized`), and on the command line wherever a name is asked for, settings may follow the name. A
value with spaces in it stands in quotes, and so names nest:
`randomized family="point-2d size=1 horizon=20"`.
"""

import functools
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from . import registry
from .errors import UserError, nearest
from .reading import at_home
from .settings import metavar, read, refuse_out_of_range, settings_of

_SETTING = re.compile(r"""(?:^|\s)([A-Za-z_][\w-]*)=("[^"]*"|'[^']*'|\S*)""")


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Return a name, and the settings that follow it as they were typed. Raises `UserError` for
    words between settings that are none."""
    first = re.search(r"\s[A-Za-z_][\w-]*=", text)
    if first is None:
        return text.strip(), {}
    name, rest = text[: first.start()].strip(), text[first.start() :]
    settings = {
        found[1].replace("-", "_"): found[2].strip("\"'") for found in _SETTING.finditer(rest)
    }
    left = _SETTING.sub(" ", rest).split()
    if left:
        raise UserError(
            f"'{left[0]}' after '{name}' is not setting=value (quote values with spaces)"
        )
    return name, settings


def named_settings(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a method or family, and the settings that follow it in their types. Raises
    `UserError` for a setting that it does not have, or a value of the wrong kind."""
    name, typed = split_name(text)
    if not typed:
        return name, {}
    known = settings_of(registry.find(kind, name).path)
    kinds = {setting.name: setting.kind for setting in known}
    settings = {}
    for key, word in typed.items():
        if key not in kinds:
            raise UserError(f"'{name}' has no setting '{key}'{nearest(key, kinds)}")
        value = read(word, kinds[key])
        if isinstance(value, str) and not _may_be_text(kinds[key], value):
            raise UserError(f"'{name}': {key} must be {metavar(kinds[key])}, not '{word}'")
        settings[key] = tuple(value) if isinstance(value, list) else value
    refuse_out_of_range(settings, known, name)
    return name, settings


@functools.cache
def make_named(kind: str, text: str) -> Any:
    """Return what a name with settings stands for, made. The same object each time, so that nothing
    is compiled twice for it."""
    name, settings = named_settings(kind, text)
    return registry.make(kind, name, **settings)


def located(text: str) -> str:
    """Return a name with settings as it is, but with the whole path of every `file.py` in a
    `file.py:Class` and of every file that a family's setting names, also in names within it, so
    that all of it is found from any other folder."""
    first = re.search(r"\s[A-Za-z_][\w-]*=", text)
    end = len(text) if first is None else first.start()
    file, colon, thing = text[:end].rpartition(":")
    if colon and file.endswith(".py"):
        name = f"{Path(at_home(file)).resolve()}:{thing}"
    else:
        name = text[:end]

    def placed(found: re.Match[str]) -> str:
        value = found[2].strip("\"'")
        whole = located(value) if ":" in value else value
        if found[1] in _paths(name):
            whole = str(registry.class_of("families", name.strip()).place(value))  # pyright: ignore
        if whole == value:
            return found[0]
        quote = found[2][:1] if found[2][:1] in ("'", '"') else ('"' if " " in whole else "")
        return found[0].replace(found[2], f"{quote}{whole}{quote}")

    return name + _SETTING.sub(placed, text[end:])


def _paths(name: str) -> tuple[str, ...]:
    """Settings of a family that name files; none of what is no family."""
    name = name.strip()
    if name not in registry.FAMILIES and ":" not in name:
        return ()
    try:
        return getattr(registry.class_of("families", name), "paths", ())
    except UserError:
        return ()


def _may_be_text(kind: Any, value: str) -> bool:
    """Whether text is among the kinds of values that a setting takes."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_may_be_text(k, value) for k in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return kind is str or kind is None
