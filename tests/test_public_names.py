"""Every public name is documented, and every package with public names has an API page: what the
documentation's build asks before it writes a page."""

import importlib.util
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


@pytest.mark.parametrize("package", hooks.packages())
def test_every_public_name_is_documented(package: str):
    assert hooks.undocumented(package) == []


@pytest.mark.parametrize("package", hooks.packages())
def test_every_package_has_an_api_page(package: str):
    assert hooks.unlisted(package) is None


def test_the_build_fails_on_what_is_missing(tmp_path, monkeypatch):
    """A function, a method and a constant without a word, and no page."""
    mkdocs = pytest.importorskip("mkdocs.exceptions")
    package = tmp_path / "nameless"
    package.mkdir()
    (package / "inner.py").write_text(
        '"""Some module."""\n'
        "LIMIT = 3\n"
        'KNOWN = 4\n"""This one is."""\n'
        "def nothing(): return 0\n"
        'class Told:\n    """This one is."""\n    def method(self): return 0\n'
    )
    names = ["LIMIT", "KNOWN", "nothing", "Told"]
    (package / "__init__.py").write_text(
        f"from .inner import {', '.join(names)}\n__all__ = {names}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hooks, "packages", lambda: ["nameless"])
    with pytest.raises(mkdocs.PluginError) as failure:
        hooks.on_pre_build(types.SimpleNamespace())
    said = str(failure.value).splitlines()[1:]
    assert said[:3] == [
        "nameless.LIMIT has no docstring",
        "nameless.nothing has no docstring",
        "nameless.Told.method has no docstring",
    ]
    assert said[3].startswith("write docs/api/nameless.md") and len(said) == 4
