"""What MkDocs runs: no page is written while a public name is undocumented, and cards' pictures come
along.

The tests ask the same functions (`tests/test_public_names.py`).
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import stemrl

API = Path(__file__).parent / "api"
"""One page for each package."""
PICTURES = "results/cards"
"""Where cards leave pictures beside their results, seen from the repository's root."""


def packages() -> list[str]:
    """The packages of stemrl whose face names something."""
    found = []
    for module in pkgutil.iter_modules(stemrl.__path__, "stemrl."):
        if module.ispkg and getattr(importlib.import_module(module.name), "__all__", []):
            found.append(module.name)
    return found


def undocumented(package: str) -> list[str]:
    """Public names of a package, and public methods defined on its public classes, that have no
    docstring of their own or of what they implement. The docstring of a type or a constant is the
    string below it."""
    face = importlib.import_module(package)
    missing = []
    for name in face.__all__:
        # A cached function is an object around a function.
        thing = inspect.unwrap(getattr(face, name))
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            if not _string_below(face, name):
                missing.append(f"{package}.{name}")
            continue
        if not inspect.getdoc(thing):
            missing.append(f"{package}.{name}")
        if not inspect.isclass(thing):
            continue
        for attribute, value in vars(thing).items():
            public = not attribute.startswith("_")
            callable_ = inspect.isfunction(value) or isinstance(value, property | classmethod)
            if public and callable_ and not inspect.getdoc(getattr(thing, attribute, value)):
                missing.append(f"{package}.{name}.{attribute}")
    return missing


def unlisted(package: str, folder: Path = API) -> str | None:
    """What is wrong with the API page of a package; `None` if nothing is."""
    page = folder / f"{package.removeprefix('stemrl.')}.md"
    if not page.exists() or f"::: {package}\n" not in page.read_text(encoding="utf-8"):
        return f"write docs/api/{page.name}: '# {package}' and '::: {package}'"
    return None


def _string_below(face: ModuleType, name: str) -> str:
    """The string below an assignment, followed through the imports of a package's face."""
    source = ast.parse(inspect.getsource(face))
    for statement, below in zip(source.body, [*source.body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    module = "." * statement.level + (statement.module or "")
                    home = importlib.import_module(module, face.__package__)
                    return _string_below(home, alias.name)
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            text = below.value if isinstance(below, ast.Expr) else None
            return str(text.value) if isinstance(text, ast.Constant) else ""
    return ""


def on_pre_build(config: Any) -> None:
    """MkDocs' event: fail with one line for each thing that is missing."""
    from mkdocs.exceptions import PluginError

    known = packages()
    missing = [f"{name} has no docstring" for package in known for name in undocumented(package)]
    missing += [wrong for package in known if (wrong := unlisted(package))]
    if missing:
        raise PluginError("\n".join(["the public interface is not documented:", *missing]))


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' event: cards' pictures, which lie outside the documentation's folder, are pages' files
    too."""
    from mkdocs.structure.files import File

    for picture in sorted((API.parent.parent / PICTURES).glob("*.png")):
        name = f"images/cards/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs' event: the results' page finds them there."""
    return markdown.replace(f"](../{PICTURES}/", "](images/cards/")
