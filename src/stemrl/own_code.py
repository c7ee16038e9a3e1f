"""Code that users wrote: how it is found and imported, and what a run must know of it.

A method or family of one's own is named by `file.py:Class` or `package.module:Class`. A file may
import what lies beside it. Which files that was, and what was in them, is remembered, so that a run can
say that its code has changed, or find it again in a folder that was moved.
"""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import UserError
from .reading import digest_of, syntax_tree

being_read: list[str] = []
"""Users' files that are being imported for a class in them; nothing may train meanwhile."""

refused: list[str] = []
"""Why code by its path may not be imported now: a configuration that nobody has vouched for is
being read (see `runs/trust.py`)."""


def may_import(name: str) -> None:
    """Raise `UserError` where code called `name` may not be imported."""
    if refused:
        raise UserError(f"'{name}' {refused[-1]}")


imported: dict[str, dict[str, str]] = {}
"""What was imported and is not stemrl's: under the path or the module by which it was asked for,
every file that it is made of, neighbors included, with a digest of it as it was imported."""


def module(name: str) -> ModuleType:
    """Return the module `package.module`, or that of a `file.py`. Raises `UserError` where there is
    none."""
    if name.endswith(".py"):
        file = Path(name).resolve()
        loaded, name = _from_file(file), str(file)
    else:
        loaded = _from_package(name)
    where = getattr(loaded, "__file__", None)
    ours = name.startswith("stemrl.") or name in imported
    if not ours and isinstance(where, str) and where.endswith(".py"):
        path = Path(where).resolve()
        imported[name] = {str(one): digest_of(one) for one in (path, *neighbors(path))}
    return loaded


def behind(text: str) -> dict[str, str]:
    """Return the files behind what a setting names as code, with their digests when they were
    imported; none for a text that names nothing that was imported."""
    found: dict[str, str] = {}
    for name, files in imported.items():
        if f"{name}:" in text:
            found |= files
    return found


def neighbors(file: Path) -> list[Path]:
    """Return the Python files that `file` imports from the folder in which it lies, and what those
    import from there, read from their source."""
    folder, found, left = file.parent, [], [file]
    while left:
        for one in _imported_from(left.pop(), folder):
            if one != file and one not in found:
                found.append(one)
                left.append(one)
    return sorted(found)


def _imported_from(file: Path, folder: Path) -> list[Path]:
    """The files under `folder` that one file imports."""
    try:
        tree = syntax_tree(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    found = []
    for node in ast.walk(tree):
        modules: list[tuple[Path, str]] = []
        if isinstance(node, ast.Import):
            modules = [(folder, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else folder
            name = node.module or ""
            inner = [f"{name}.{alias.name}".strip(".") for alias in node.names]
            modules = [(base, one) for one in (name, *inner)]
        for base, module in modules:
            parts = module.split(".")
            if not base.is_relative_to(folder) or parts[0] in sys.stdlib_module_names:
                continue
            for depth in range(1, len(parts) + 1):
                path = base.joinpath(*parts[:depth])
                tried = (path.with_name(f"{path.name}.py"), path / "__init__.py")
                found += [one for one in tried if path.name and one.is_file()]
    return found


_own_folders: list[str] = []
"""Folders of users' files, which are looked for modules after all others."""


def neighbors_importable(file: Path) -> None:
    """Let `file`, and functions in it that are called later, import what lies beside it, as
    `python file.py` would. What is installed comes first; a module of the same name that lies beside
    another user's file is read anew."""
    folder = str(file.parent)
    if folder in _own_folders:
        _own_folders.remove(folder)
        sys.path.remove(folder)
    elif folder in sys.path:
        return  # it is there by itself, the folder of the script that runs
    sys.path.insert(len(sys.path) - len(_own_folders), folder)
    _own_folders.insert(0, folder)
    for name in {
        one.relative_to(file.parent).parts[0].removesuffix(".py") for one in neighbors(file)
    }:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(loaded, str) and any(
            Path(loaded).is_relative_to(other) for other in _own_folders[1:]
        ):
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]


def _from_package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module '{name}'; give a file as path/to/file.py:Class"
            ) from None
        raise


def _from_file(file: Path) -> ModuleType:
    """A user's file as a module: once, so that its classes stay the same ones, and never a second
    time the very script that runs."""
    for loaded in list(sys.modules.values()):
        where = getattr(loaded, "__file__", None)
        if isinstance(where, str) and where.endswith(file.name) and Path(where).resolve() == file:
            return loaded
    name = f"stemrl_user_{file.stem}_{digest_of(str(file).encode())[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UserError(f"there is no Python file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    being_read.append(str(file))
    neighbors_importable(file)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        being_read.pop()
    return module
