"""Where the files are that a run depends on, and where they went when its folder was moved.

A configuration names files: the code of a family, what that imports, models, recorded data, the run that
it began from. `depends_on` in `config.json` lists them by their whole path, and `folder` says where the
run itself was. What is not where it was, but as near to the run as ever, has moved along with it.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .reading import digest_of

_FIELDS = (
    *("method", "family", "target", "settings", "family_settings", "target_settings"),
    *("target_data", "start", "depends_on"),
)
"""Fields of a configuration that may name files."""

_END = r"""(?=$|@\d+$|["']|\s+[A-Za-z_][\w-]*=)"""


def files_of(content: Any) -> dict[str, str]:
    """Return what a configuration says that it depends on: paths, and a digest of each that is
    code."""
    found = content.get("depends_on") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, str)}


def digests_of_code(content: Any) -> dict[str, str]:
    """Return the digests of the Python files alone."""
    return {name: digest for name, digest in files_of(content).items() if name.endswith(".py")}


def relocated(content: Any, path: Path) -> tuple[Any, list[str]]:
    """Return a configuration, read from `path`, with files that were moved along with its folder
    where they are now, and which those are. Nothing is opened."""
    was = content.get("folder") if isinstance(content, dict) else None
    here = path.parent.resolve()
    if not isinstance(was, str) or not os.path.isabs(was) or was == str(here):
        return content, []
    places = {}
    for file in files_of(content):
        if os.path.isabs(file) and "\0" not in file and not os.path.exists(file):
            new = os.path.normpath(here / os.path.relpath(file, was))
            if os.path.exists(new):
                places[file] = new
    if not places:
        return content, []
    # Whole paths alone: code before its colon, anything else where a setting ends. So no file that
    # is no code, and of which nothing was signed, can change which code is meant.
    either = "|".join(
        re.escape(file) + ("(?=:|$)" if file.endswith(".py") else _END)
        for file in sorted(places, key=len, reverse=True)
    )
    pattern = re.compile(rf"(?<![^=\"'])(?:{either})")

    def moved(text: str) -> str:
        return pattern.sub(lambda found: places[found[0]], text)

    replaced = {name: _each(content[name], moved) for name in _FIELDS if name in content}
    return content | replaced | {"folder": str(here)}, sorted(places.values())


def changed_since(content: Any) -> list[str]:
    """Return the code files that are not what they were when the run was begun."""
    then = digests_of_code(content)
    return [name for name, digest in then.items() if digest and digest_of(Path(name)) != digest]


def without_folders(value: Any, files: dict[str, str]) -> Any:
    """Return a setting with every one of `files` in it by its last name alone: what stays the same
    where they are moved."""
    for file in sorted(files, key=len, reverse=True):
        value = _each(value, lambda text, file=file: text.replace(file, Path(file).name))
    return value


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Every text in a tree of JSON, names of entries included, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each(k, change): _each(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value
