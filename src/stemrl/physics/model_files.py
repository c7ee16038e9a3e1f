"""The files that a MuJoCo model is made of: its own, those that it includes, meshes, height fields."""

import hashlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

_FOLDERS = ("meshdir", "texturedir", "assetdir")
"""Where a model's compiler section says that its other files are."""
_MODELS = (".xml", ".mjcf", ".urdf")


def parts_of_model(path: Path) -> list[Path]:
    """Return the file at `path` and every file that it is made of, read from the model's source.
    What is not there is left out: to miss it is for MuJoCo to say."""
    models, named, folders = [path], [], [path.parent]
    for model in models:  # grows as models are found that others include
        if model.parent not in folders:
            folders.append(model.parent)
        try:
            tree = ElementTree.parse(model)
        except (OSError, ValueError, ElementTree.ParseError):
            continue
        for element in tree.iter():
            if element.tag == "compiler":
                given = [element.get(name) for name in _FOLDERS]
                folders += [path.parent / folder for folder in given if folder]
            # `file`, `fileright` and the like; URDF's `filename`.
            files = [value for name, value in element.items() if name.startswith("file")]
            named += files
            for file in files:
                inner = _first(file, folders) if file.lower().endswith(_MODELS) else None
                if inner is not None and inner not in models:
                    models.append(inner)
    others = [_first(file, folders) for file in named]
    return list(dict.fromkeys([*models, *(file for file in others if file is not None)]))


def _first(file: str, folders: list[Path]) -> Path | None:
    """Where a file is; with its last name alone too, since a model may have folders stripped off."""
    tried = (folder / name for name in (file, Path(file).name) for folder in folders)
    return next((path.resolve() for path in tried if path.is_file()), None)


_known: dict[Path, tuple[dict[Path, tuple[int, int]], str]] = {}
"""By model: the files that it was made of, when each was changed and its size; and their digest."""


def digest_of_model(path: Path) -> str:
    """Return what stands for the contents of all of them; of a model in one file, a digest of that.
    Raises `OSError` where one of them cannot be read."""
    if path in _known:
        ages, digest = _known[path]
        if all(file.is_file() and _age(file) == age for file, age in ages.items()):
            return digest
    ages = {file: _age(file) for file in parts_of_model(path)}
    content = hashlib.sha256(path.read_bytes())
    for file in ages:
        if file != path:
            content.update(hashlib.sha256(file.read_bytes()).digest())
    _known[path] = ages, content.hexdigest()[:16]
    return _known[path][1]


def _age(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
