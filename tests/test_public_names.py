"""Every public name is documented, and every package with public names has an API page: what the
documentation's build asks before it writes a page."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "docs" / "hooks.py"


def load_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("documentation_hooks", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


@pytest.mark.parametrize("module", hooks.modules())
def test_every_public_name_is_documented(module: str):
    assert hooks.undocumented(module) == []


@pytest.mark.parametrize("package", hooks.packages())
def test_every_package_has_an_api_page(package: str):
    assert hooks.unlisted(package) is None


def test_internal_packages_exist_and_name_nothing():
    """So that the list of them does not outlive them."""
    for package in hooks.INTERNAL:
        assert not hasattr(importlib.import_module(package), "__all__")


@pytest.fixture
def package_of(tmp_path, monkeypatch):
    """Write the package `nameless`, of one module, whose face imports `names` from it."""
    folder = tmp_path / "nameless"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str, names: list[str]) -> str:
        (folder / "inner.py").write_text(source)
        (folder / "__init__.py").write_text(
            f"from .inner import {', '.join(names)}\n__all__ = {names}\n"
        )
        return folder.name

    yield write
    for module in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[module]


def test_the_build_fails_on_what_is_missing(package_of, monkeypatch):
    """A function, a method and a constant without a word, and no page."""
    mkdocs = pytest.importorskip("mkdocs.exceptions")
    source = (
        '"""Some module."""\n'
        "LIMIT = 3\n"
        'KNOWN = 4\n"""This one is."""\n'
        "def nothing(): return 0\n"
        'class Told:\n    """This one is."""\n    def method(self): return 0\n'
    )
    package = package_of(source, ["LIMIT", "KNOWN", "nothing", "Told"])
    monkeypatch.setattr(hooks, "packages", lambda: [package])
    monkeypatch.setattr(hooks, "modules", lambda: [package])
    with pytest.raises(mkdocs.PluginError) as failure:
        hooks.on_pre_build(types.SimpleNamespace())
    said = str(failure.value).splitlines()[1:]
    assert said[:3] == [
        "nameless.LIMIT has no docstring",
        "nameless.nothing has no docstring",
        "nameless.Told.method has no docstring",
    ]
    assert said[3].startswith("write docs/api/nameless.md") and len(said) == 4


BASE = """
import dataclasses, functools, typing
import equinox as eqx

class Base:
    "It is documented."
    def told(self):
        "So is this."
    def silent(self): ...
"""


@pytest.mark.parametrize(
    ("definition", "missing"),
    [
        ("@dataclasses.dataclass\nclass Thing:\n    x: int", "Thing"),
        ("class Thing(typing.NamedTuple):\n    x: int", "Thing"),
        ("class Thing(eqx.Module):\n    x: int", "Thing"),
        ("class Thing(Base):\n    pass", "Thing"),
        ("class Thing(Exception):\n    pass", "Thing"),
        ("class Thing:\n    'Told.'\n    def method(self): ...", "Thing.method"),
        ("class Thing:\n    'Told.'\n    @property\n    def part(self): ...", "Thing.part"),
        ("class Thing:\n    'Told.'\n    @staticmethod\n    def of(): ...", "Thing.of"),
        ("class Thing(eqx.Module):\n    'Told.'\n    def step(self): ...", "Thing.step"),
        # No more is said of what is overridden there.
        ("class Thing(Base):\n    'Told.'\n    def silent(self): ...", "Thing.silent"),
        # Somebody else's base class is no contract of ours.
        ("class Thing(dict):\n    'Told.'\n    def keys(self): ...", "Thing.keys"),
        ("@functools.cache\ndef Thing(): ...", "Thing"),
        ("Thing = dict[str, int]", "Thing"),
        ("class Thing(Base):\n    'Told.'\n    def told(self): ...", None),
        ("class Thing(eqx.Module):\n    'Told.'\n    def _own(self): ...", None),
        ("Thing = dict[str, int]\n'Told.'", None),
    ],
)
def test_a_docstring_is_one_that_somebody_wrote(definition: str, missing: str | None, package_of):
    """Neither what Python makes up for dataclasses, named tuples and modules, nor what a subclass
    has from its base."""
    package = package_of(f"{BASE}\n{definition}\n", ["Thing"])
    assert hooks.undocumented(package) == ([f"nameless.{missing}"] if missing else [])


def test_a_lazy_face_is_followed(tmp_path, package_of):
    """Names that are imported for type checkers alone, and with their first use."""
    package = package_of("def nothing(): ...\n", ["nothing"])
    (tmp_path / package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from .inner import nothing\n"
        "__all__ = ['nothing']\n"
    )
    assert hooks.undocumented(package) == ["nameless.nothing"]


def test_a_package_that_names_nothing_is_an_error(tmp_path, package_of):
    package = package_of("def nothing(): ...\n", ["nothing"])
    (tmp_path / package / "__init__.py").write_text("from .inner import nothing\n")
    assert hooks.unlisted(package).startswith("nameless has no __all__")
