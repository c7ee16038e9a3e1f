"""What MkDocs runs: no page is written while a public name is undocumented, cards' pictures come
along, and each page offers itself in the other language.

The tests ask the same functions (`tests/test_public_names.py`).
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import stemrl

API = Path(__file__).parent / "api"
"""One page for each package."""
INTERNAL = {
    "stemrl.agents": "trained agents as data and the script that makes them; `stemrl.load` opens them",
    "stemrl.cli": "the command line, documented by `stemrl --help`; the same in Python is `stemrl.api`",
}
"""Packages that name nothing for others, and why."""
PICTURES = "results/cards"
"""Where cards leave pictures beside their results, seen from the repository's root."""

LANGUAGES = {"en": "", "zh": "zh/"}
"""In which folder each language has its pages, by the same names."""

CHINESE = "中文"
"""The section of the menu with the Chinese pages."""


def packages() -> list[str]:
    """The packages of stemrl that others may use: all but the internal ones."""
    found = pkgutil.iter_modules(stemrl.__path__, "stemrl.")
    return [module.name for module in found if module.ispkg and module.name not in INTERNAL]


def modules() -> list[str]:
    """What must be documented: stemrl itself, its packages, and the single modules that API pages
    show beside them."""
    shown = {
        name
        for page in API.glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return sorted({"stemrl", *packages(), *shown})


def undocumented(module: str) -> list[str]:
    """Public names of a module or package, and public methods and properties defined on its public
    classes, that have no docstring.

    Docstrings are read from the source, as the pages are made from it: at run time dataclasses,
    named tuples and Equinox modules have one that Python made up from their fields, and every
    subclass has its base's. An override needs none of its own where one of the project's base
    classes documents what is overridden: there it is the contract's. The docstring of a type or a
    constant is the string below it; fields are not asked for theirs.
    """
    face = importlib.import_module(module)
    missing = []
    for name in _public(face):
        home, definition, text = _defined(face, name)
        if not text:
            missing.append(f"{module}.{name}")
        if isinstance(definition, ast.ClassDef):
            cls = getattr(home, definition.name)
            missing += [f"{module}.{name}.{member}" for member in _silent_members(cls)]
    return missing


def unlisted(package: str, folder: Path = API) -> str | None:
    """What is wrong with the face or the API page of a package; `None` if nothing is."""
    if not hasattr(importlib.import_module(package), "__all__"):
        return (
            f"{package} has no __all__: name what is public, or say in docs/hooks.py why nothing is"
        )
    page = folder / f"{package.removeprefix('stemrl.')}.md"
    if not page.exists() or f"::: {package}\n" not in page.read_text(encoding="utf-8"):
        return f"write docs/api/{page.name}: '# {package}' and '::: {package}'"
    return None


def language_of(page: str) -> str:
    """The language of a page, by its path below `docs/`."""
    return "zh" if page.startswith(LANGUAGES["zh"]) else "en"


def in_languages(page: str, pages: Collection[str]) -> dict[str, str]:
    """The same page in each language, by paths below `docs/`; the front page where there is none."""
    name = page.removeprefix(LANGUAGES[language_of(page)])
    return {
        language: folder + (name if folder + name in pages else "index.md")
        for language, folder in LANGUAGES.items()
    }


def _public(face: ModuleType) -> list[str]:
    """`__all__`, or the public functions, classes and constants that a module itself defines."""
    if hasattr(face, "__all__"):
        return list(face.__all__)
    names = [name for statement in _body(face) for name in _names(statement)]
    return [name for name in names if not name.startswith("_")]


def _defined(face: ModuleType, name: str) -> tuple[ModuleType, ast.stmt, str]:
    """Where a name is defined, followed through the imports of a package's face; by which statement;
    and the docstring there."""
    body = _body(face)
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if name in _names(statement):
            if isinstance(statement, ast.ClassDef | ast.FunctionDef):
                return face, statement, ast.get_docstring(statement) or ""
            text = below.value if isinstance(below, ast.Expr) else None
            return face, statement, str(text.value) if isinstance(text, ast.Constant) else ""
    # A lazy face imports its names under a condition, for type checkers alone.
    for statement in ast.walk(ast.Module(body, [])):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    module = "." * statement.level + (statement.module or "")
                    return _defined(importlib.import_module(module, face.__package__), alias.name)
    raise LookupError(f"{face.__name__} names '{name}', which nothing in it defines or imports")


def _silent_members(cls: type) -> list[str]:
    """Public methods and properties of a class that have no docstring, neither their own nor that of
    what they override."""
    root = cls.__module__.partition(".")[0]
    bases = [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] == root]
    return [
        name
        for name, told in _members(cls).items()
        if not told and not any(_members(base).get(name) for base in bases)
    ]


def _members(cls: type) -> dict[str, bool]:
    """Public methods and properties that a class itself defines, and whether one of a name's
    definitions (a property may have a setter too, a method overloads) has a docstring."""
    _, definition, _ = _defined(sys.modules[cls.__module__], cls.__name__)
    found: dict[str, bool] = {}
    for statement in definition.body if isinstance(definition, ast.ClassDef) else ():
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
            told = bool(ast.get_docstring(statement))
            found[statement.name] = told or found.get(statement.name, False)
    return found


@functools.cache
def _body(module: ModuleType) -> list[ast.stmt]:
    """The statements of a module."""
    return ast.parse(inspect.getsource(module)).body


def _names(statement: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def on_startup(command: str, dirty: bool) -> None:
    """MkDocs' event: jieba, which cuts Chinese for the search, does not tell how long it took to load."""
    import jieba

    jieba.setLogLevel("WARNING")


def on_pre_build(config: Any) -> None:
    """MkDocs' event: fail with one line for each thing that is missing."""
    from mkdocs.exceptions import PluginError

    missing = [f"{name} has no docstring" for module in modules() for name in undocumented(module)]
    missing += [wrong for package in packages() if (wrong := unlisted(package))]
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
    """MkDocs' event: pages find them there; and code that the tests are told not to run is code to the
    extension too, which knows no such word and took its end for the beginning of another."""
    markdown = re.sub(r"^```(\w+) no-run$", r"```\1", markdown, flags=re.MULTILINE)
    return re.sub(rf"\]\((\.\./)((?:\.\./)*){PICTURES}/", r"](\2images/cards/", markdown)


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """MkDocs' event: the theme's words and its menu are in the page's language, and the menu of
    languages leads to the same page."""
    urls = {known.file.src_uri: known.url for known in nav.pages}
    language = language_of(page.file.src_uri)
    there = in_languages(page.file.src_uri, urls)
    config.theme["language"] = language
    config.extra["alternate"] = [
        {**alternate, "link": urls[there[alternate["lang"]]] or "."}
        for alternate in config.extra["alternate"]
    ]
    return {**context, "nav": _menus(nav)[language]}


def on_post_page(output: str, page: Any, config: Any) -> str:
    """MkDocs' event: the theme's script takes each language for a site of its own and asks for a
    sitemap beside every `link` whose `rel` is `alternate` and nothing else; there is only one."""
    return output.replace('<link rel="alternate" ', '<link rel="alternate translation" ')


def _menus(nav: Any) -> dict[str, Any]:
    """What the menu shows on pages of each language: its own pages, and below the Chinese ones those
    that there are in English alone."""
    from mkdocs.structure.nav import Navigation, Section

    pages = {known.file.src_uri: known for known in nav.pages}

    def english_alone(items: Any) -> list[Any]:
        found = []
        for item in items:
            if item.is_section:
                below = english_alone(item.children)
                found += [Section(item.title, below)] if below else []
            elif in_languages(item.file.src_uri, pages)["zh"] == "zh/index.md":
                found += [] if item.file.src_uri == "index.md" else [item]
        return found

    chinese = next(item for item in nav.items if item.title == CHINESE)
    english = [item for item in nav.items if item is not chinese]
    menus = {
        "en": Navigation(english, nav.pages),
        "zh": Navigation([*chinese.children, *english_alone(english)], nav.pages),
    }
    menus["zh"].homepage = pages["zh/index.md"]
    return menus
