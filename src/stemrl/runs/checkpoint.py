"""Checkpoints: the whole state of learning as safetensors, beside a manifest that vouches for it.

A checkpoint is a folder named by the environment steps at which it was taken. It is written to the
side, synced and renamed, so that it is there whole or not at all. Reading trusts nothing: names,
shapes and dtypes are compared with what the learner's own `init` would make, before any array is
read, and no name in a checkpoint is ever used as a path. Nothing is pickled.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from safetensors import SafetensorError
from safetensors.numpy import load as decode
from safetensors.numpy import save as encode

from ..errors import UserError
from ..machine import refuse_beyond_memory, versions
from ..reading import open_regular
from .files import sync_folder, writing

SCHEMA = 1
STATE, MANIFEST = "state.safetensors", "manifest.json"
HEADER_LIMIT = 2**24
"""Bytes that a manifest or a header may take; a state has some hundred leaves of 100 bytes."""


class Damaged(Exception):
    """A checkpoint that is not what was written: another one may be whole."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself."""

    update: int
    """Updates done."""
    steps: int
    """Environment steps done, per seed."""
    seconds: float
    """Wall-clock seconds of training until then."""
    identity: str
    """Of the family trained in."""
    method: str
    score: float | None
    """What held-out tasks gave (see `Run`), where this checkpoint was evaluated."""
    trained_with: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The settings that training depends on (see `RunConfig.trained_with`)."""


def name_of(steps: int) -> str:
    """Return the folder of a checkpoint, so that names sort as steps do."""
    return f"{steps:012d}"


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first, damaged ones included. Raises `UserError`
    if the folder is a link."""
    if not _is_own(folder):
        return []
    return sorted(
        p for p in folder.iterdir() if p.name.isascii() and p.name.isdecimal() and p.is_dir()
    )


def _is_own(folder: Path) -> bool:
    """Whether the folder is there. Refuses a link: it could lead to another run's checkpoints, of
    which the old ones would be deleted."""
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a link, and checkpoints must lie in the run's own folder; move the whole"
            " run and link that"
        )
    return folder.is_dir()


def save(folder: Path, state: PyTree[Array], manifest: Manifest) -> Path:
    """Write a checkpoint of `state`. Raises `UserError`, with older checkpoints intact, if the
    disk is full or the folder may not be written."""
    final = folder / name_of(manifest.steps)
    side, old = folder / f".writing-{final.name}", folder / f".replaced-{final.name}"
    arrays = {name: _stored(leaf) for name, leaf in _named(state).items()}
    content = encode(arrays)
    about: dict[str, Any] = {
        "format": "stemrl checkpoint",
        "schema": SCHEMA,
        "versions": versions(),
        **dataclasses.asdict(manifest),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "leaves": _described(state),
    }
    about["manifest_sha256"] = _digest(about)
    try:
        with writing(final):
            folder.mkdir(parents=True, exist_ok=True)
            tidy(folder)
            side.mkdir()
            _write(side / STATE, content)
            _write(side / MANIFEST, json.dumps(about, indent=1).encode())
            sync_folder(side)
            if final.exists():
                final.rename(old)
            side.rename(final)
            sync_folder(folder)
            shutil.rmtree(old, ignore_errors=True)
    except UserError:
        with contextlib.suppress(UserError):
            tidy(folder)
        raise
    return final


def prune(folder: Path, keep_every: int) -> None:
    """Delete all but the last two (the newest may turn out to be damaged), the best, and the first
    at or after every multiple of `keep_every` steps."""
    readable = []
    for path in saved(folder):
        try:
            readable.append((path, read_manifest(path)))
        except (Damaged, UserError):
            continue
    kept = {path for path, _ in readable[-2:]} | {
        path for path, manifest in best_first(readable)[:1] if manifest.score is not None
    }
    period = -1
    for path, manifest in readable:
        if keep_every and manifest.steps // keep_every > max(period, 0):
            period = manifest.steps // keep_every
            kept.add(path)
    for path, _ in readable:
        if path not in kept:
            # Renamed first: half of one, should we be killed, must not pass for a damaged one.
            doomed = path.with_name(f".pruned-{path.name}")
            with contextlib.suppress(OSError):
                path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Clear away what a killed process left between two steps of saving or pruning: what was
    about to be replaced comes back, everything unfinished goes. Only for the one that writes."""
    if not _is_own(folder):
        return
    with writing(folder):
        for path in sorted(folder.iterdir()):
            what, _, name = path.name.partition("-")
            if what == ".replaced" and not (folder / name).exists():
                path.rename(folder / name)
            elif what in (".writing", ".replaced", ".pruned"):
                shutil.rmtree(path, ignore_errors=True)


def best_first(found: list[tuple[Path, Manifest]]) -> list[tuple[Path, Manifest]]:
    """Sort by score, the earlier one first where two are equal, those never evaluated last."""

    def order(item: tuple[Path, Manifest]) -> tuple[float, int]:
        score = item[1].score
        return (float("inf") if score is None else -score, item[1].steps)

    return sorted(found, key=order)


def read_manifest(path: Path) -> Manifest:
    """Return what the checkpoint at `path` says of itself, its own checksum verified."""
    return _manifest(_read_about(path))


def load(path: Path, template: PyTree[Any]) -> tuple[PyTree[Array], Manifest]:
    """Return the state at `path`, in the shape of `template` (of `jax.ShapeDtypeStruct`).

    Raises `Damaged` if it is not what was written, and `UserError` if it is whole but of another
    learner, family or version: then none of the run's checkpoints fits.
    """
    about = _read_about(path)
    expected = _described(template)
    _compare(path, about, expected)
    content = _read_content(path / STATE, about, expected)
    try:
        arrays = decode(content)
    except (SafetensorError, ValueError, TypeError) as error:
        raise Damaged(f"{STATE}: {error}") from None
    if any(arrays[name].nbytes != leaf["bytes"] for name, leaf in expected.items()):
        raise Damaged(f"{STATE} holds other types than its manifest says")
    structure = jax.tree.structure(template)
    leaves = [
        _restored(arrays[name], leaf)
        for name, leaf in zip(expected, jax.tree.leaves(template), strict=True)
    ]
    return jax.tree.unflatten(structure, leaves), _manifest(about)


def bytes_of(template: PyTree[Any]) -> int:
    """Return what a state of this shape takes."""
    return sum(leaf["bytes"] for leaf in _described(template).values())


def _manifest(about: dict[str, Any]) -> Manifest:
    return Manifest(**{f.name: about[f.name] for f in dataclasses.fields(Manifest)})


def _read_about(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if path.is_symlink():
        raise Damaged("it is a link")
    try:
        about = json.loads(_bounded(file, HEADER_LIMIT))
    except (ValueError, RecursionError):
        raise Damaged(f"{MANIFEST} is not JSON") from None
    if not isinstance(about, dict) or about.get("format") != "stemrl checkpoint":
        raise Damaged(f"{MANIFEST} is not one of stemrl's")
    # Checksum before schema: every schema has it, and a flipped bit must not pass for a new one.
    digest = about.pop("manifest_sha256", None)
    if digest != _digest(about):
        raise Damaged(f"{MANIFEST} does not match its checksum")
    if about.get("schema") != SCHEMA:
        by = about.get("versions")
        by = by.get("stemrl") if isinstance(by, dict) else None
        raise UserError(
            f"{path} is a checkpoint of schema {about.get('schema')!r}, written by stemrl {by};"
            f" this stemrl ({versions()['stemrl']}) reads schema {SCHEMA}"
        )
    about.setdefault("trained_with", {})  # older ones lack it
    kinds = {
        "trained_with": dict, "update": int, "steps": int, "seconds": float, "identity": str, "method": str,
        "score": float | None, "bytes": int, "sha256": str, "leaves": dict, "versions": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name not in about or not isinstance(about[name], kind):
            raise Damaged(f"{MANIFEST} lacks a proper '{name}'")
    counts = [about[name] for name in ("update", "steps", "seconds", "bytes")]
    if any(isinstance(n, bool) or not 0 <= n < 2**63 for n in counts):  # not NaN either
        raise Damaged(f"{MANIFEST} counts what cannot be counted")
    if about["score"] is not None and not math.isfinite(about["score"]):
        about["score"] = None  # nothing that is best
    return about


def _compare(path: Path, about: dict[str, Any], expected: dict[str, Any]) -> None:
    found = about["leaves"]
    by, here = about["versions"].get("stemrl"), versions()["stemrl"]
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            there, here_wide = (_bits(leaf) for leaf in (found.get(name), expected.get(name)))
            if {there, here_wide} == {32, 64}:
                raise UserError(
                    f"{path} was trained with {there}-bit numbers, and this process has {here_wide}-bit"
                    f" ones; set the environment variable JAX_ENABLE_X64={int(there == 64)}"
                )
            raise UserError(
                f"{path} does not fit this run's method: '{name}' is"
                f" {_words(found.get(name))} there and {_words(expected.get(name))} here"
                + (f" (written by stemrl {by}, this is {here})" if by != here else "")
            )


def _bits(leaf: Any) -> int:
    """32 or 64 for numbers of those sizes, else 0."""
    dtype = str(leaf.get("dtype")) if isinstance(leaf, dict) else ""
    plain = dtype.removesuffix("32").removesuffix("64") in ("float", "int", "uint", "complex")
    return int(dtype[-2:]) if plain and dtype[-2:] in ("32", "64") else 0


def _words(leaf: Any) -> str:
    if not isinstance(leaf, dict):
        return "missing"
    return f"{leaf.get('dtype')}{leaf.get('shape')}"


def _read_content(file: Path, about: dict[str, Any], expected: dict[str, Any]) -> bytes:
    """The file's bytes, never more of them than the template can fill."""
    data = sum(leaf["bytes"] for leaf in expected.values())
    refuse_beyond_memory(str(file.parent), data, "open it on a larger one")
    if about["bytes"] > data + HEADER_LIMIT:
        raise Damaged(f"{STATE} is said to be larger than its arrays")
    content = _bounded(file, about["bytes"])
    if len(content) != about["bytes"]:
        raise Damaged(f"{STATE} has {len(content)} bytes of {about['bytes']}")
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise Damaged(f"{STATE} does not match its checksum")
    # A manifest may be forged as well: what the header claims is compared, not believed.
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError):
        raise Damaged(f"{STATE} has no header") from None
    shapes = {k: v["stored_shape"] for k, v in expected.items()}
    if (
        not isinstance(header, dict)
        or {k: v.get("shape") if isinstance(v, dict) else v for k, v in header.items()} != shapes
        or 8 + size + data != len(content)
    ):
        raise Damaged(f"{STATE} holds other arrays than its manifest says")
    return content


def _bounded(file: Path, limit: int) -> bytes:
    """A regular file's content. Raises `Damaged` if it is missing, a link, a pipe or above
    `limit`, `UserError` if it is below, but memory is not enough."""
    try:
        with open_regular(file, follow=False) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size > limit:
                raise Damaged(f"{file.name} is larger than it may be")
            return opened.read(size)
    except OSError as error:
        raise Damaged(f"{file.name}: {error.strerror}") from None
    except MemoryError:
        raise UserError(f"there is not enough memory to read {file}") from None


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _named(tree: PyTree[Any]) -> dict[str, Any]:
    """Leaves by their tree path, `policy/network/body/layers/0/weight`, in the tree's order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves of the state have the same path; rename a field or key")
    return named


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _described(tree: PyTree[Any]) -> dict[str, dict[str, Any]]:
    """Shape and dtype of every leaf, and how it is stored, without touching its values."""
    described = {}
    for name, leaf in _named(tree).items():
        stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        described[name] = {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "stored_shape": list(stored.shape),
            "bytes": int(np.prod(stored.shape, dtype=np.int64)) * stored.dtype.itemsize,
        }
    return described


def _stored(leaf: Array) -> np.ndarray:
    """As safetensors takes it: contiguous; keys as their data; types that NumPy lacks as bits."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8")):
        array = array.view(f"u{array.dtype.itemsize}")
    return array


def _implementation(key: Any) -> Any:
    """The generator of a key of which only the type is known; JAX tells it of traced keys."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), key)
    return found[0]


def _restored(array: np.ndarray, leaf: Any) -> Array:
    if _is_key(leaf):
        return jax.random.wrap_key_data(_copied(array), impl=_implementation(leaf))
    dtype = np.dtype(leaf.dtype)
    return _copied(array if array.dtype == dtype else array.view(dtype))


def _copied(array: np.ndarray) -> Array:
    """On the device, in buffers that the state owns, so that it may be donated. (`jnp.array` would
    compile a program for each shape.)"""
    return jax.device_put(array, may_alias=False)
