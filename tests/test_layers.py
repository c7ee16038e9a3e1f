"""Imports point down the layers of `docs/architecture.md`, and never in a circle. Read from the
source's syntax trees; nothing is run."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import stemrl

SOURCE = Path(stemrl.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS = (
    ("cli",),
    ("__init__", "api"),
    ("cards",),
    ("agents",),
    ("report", "portable"),
    ("runs",),
    ("evaluation",),
    ("transfer", "multitask", "meta"),
    ("optimal",),
    ("rl",),
    ("physics",),
    ("networks", "tasks"),
    ("core",),
    # Plain data and small helpers, beside the layers. `registry` finds classes by their names, at
    # run time, and imports none of them.
    (
        *("registry", "settings", "errors", "lazy", "naming", "reading", "drawing", "machine"),
        *("own_code", "places"),
    ),
)
"""From the top: what a package or module imports stands in its own layer or below."""

DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}


def home(file: Path) -> str:
    """The package or module of stemrl that a file belongs to."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every package or module of stemrl that a file imports, late imports inside
    functions too; not its own."""
    package = ("stemrl", *file.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            names = [(*base, alias.name) for alias in node.names]
        for root, *rest in names:
            # A name of the package's own face, `from stemrl import play`, counts as the face.
            if root == "stemrl":
                there = rest[0] if rest and rest[0] in DEPTH else "__init__"
                if there != home(file):
                    yield node.lineno, there


def test_everything_has_its_layer():
    assert {home(file) for file in FILES} <= DEPTH.keys()


def test_the_page_shows_these_layers():
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = page.partition("```text\n")[2].partition("```")[0].splitlines()
    *layers, beside = LAYERS
    names = [re.split(r"\s{2,}", line)[0].replace(".py", "").split() for line in drawn]
    assert [{*line} for line in names] == [{*layer} - {"__init__"} for layer in layers]
    assert [name for name in beside if f"`{name}.py`" not in page] == []


def test_imports_point_down():
    wrong = [
        f"{file.relative_to(SOURCE)}:{line}: {home(file)} imports {there}"
        for file in FILES
        for line, there in imported(file)
        if DEPTH[there] < DEPTH[home(file)]
    ]
    assert wrong == []


def test_no_two_packages_need_each_other():
    needs: dict[str, set[str]] = {}
    for file in FILES:
        here = home(file)
        needs.setdefault(here, set()).update(there for _, there in imported(file))
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError


def modules() -> dict[str, Path]:
    """Every file by its name, `rl.play`; a package's own file by the package's, the face's `""`."""
    found = {}
    for file in FILES:
        parts = file.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def needed(name: str, known: dict[str, Path]) -> Iterator[str]:
    """The files that a file imports, late imports inside functions too; not those for types alone."""
    file = known[name]
    package = ("stemrl", *file.relative_to(SOURCE).parent.parts)
    left: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        left += ast.iter_child_nodes(node)
        found: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            found = [(*base, alias.name) for alias in node.names]
        for root, *rest in found:
            there = next((".".join(rest[:n]) for n in (len(rest), len(rest) - 1)
                          if n > 0 and ".".join(rest[:n]) in known), "")  # fmt: skip
            if root == "stemrl" and there and there != name:
                yield there


def test_no_two_files_need_each_other():
    known = modules()
    needs = {name: set(needed(name, known)) for name in known if name}
    assert {"rl.host", "rl.experience"} <= needs["rl.play"]
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError


def test_an_import_upwards_is_seen(tmp_path, monkeypatch):
    file = tmp_path / "core" / "wrong.py"
    file.parent.mkdir()
    file.write_text("from ..rl.play import play\n\ndef f():\n    import stemrl.meta.maml\n")
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    assert list(imported(file)) == [(1, "rl"), (4, "meta")]
