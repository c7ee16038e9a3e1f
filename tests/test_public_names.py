"""Every public name is documented, and every package with public names has an API page."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import stemrl

DOCS = Path(__file__).parent.parent / "docs" / "api"


def packages() -> list[str]:
    """The packages of stemrl whose face names something."""
    found = []
    for module in pkgutil.iter_modules(stemrl.__path__, "stemrl."):
        if module.ispkg and getattr(importlib.import_module(module.name), "__all__", []):
            found.append(module.name)
    return found


def undocumented(package: str) -> list[str]:
    """Public names, and public methods defined on public classes, without a docstring of their
    own or of what they implement."""
    face = importlib.import_module(package)
    missing = []
    for name in face.__all__:
        thing = getattr(face, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
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


@pytest.mark.parametrize("package", packages())
def test_every_public_name_is_documented(package: str):
    assert undocumented(package) == []


@pytest.mark.parametrize("package", packages())
def test_every_package_has_an_api_page(package: str):
    page = DOCS / f"{package.removeprefix('stemrl.')}.md"
    assert page.exists(), f"write {page.name}: '# {package}' and '::: {package}'"
    assert f"::: {package}" in page.read_text()
