"""A checkpoint is there whole or not at all, and reading one trusts nothing in it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.errors import UserError
from stemrl.runs import checkpoint
from stemrl.runs.checkpoint import MANIFEST, STATE, Damaged, Manifest


class Inner(eqx.Module):
    weight: Any
    size: int = eqx.field(static=True, default=3)


def make(seed: int = 0) -> dict[str, Any]:
    """Every kind of leaf that a state may have."""
    key = jax.random.key(seed)
    return {
        "network": Inner(jax.random.normal(key, (3, 4))),
        "transposed": jnp.arange(6.0).reshape(2, 3).T,
        "scalar": jnp.float32(seed),
        "flag": jnp.array([True, False]),
        "count": jnp.int32(7),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "empty": jnp.zeros((0, 2)),
        "keys": jax.random.split(key, 3),
        "pair": (jnp.uint8(3), jax.random.key(5, impl="rbg")),
    }


def about(steps: int = 10, score: float | None = None) -> Manifest:
    return Manifest(
        update=steps, steps=steps, seconds=1.0, identity="f@1()", method="m", score=score
    )


def template() -> Any:
    return eqx.filter_eval_shape(make)


def bits(tree: Any) -> list[np.ndarray]:
    def one(x: Any) -> np.ndarray:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return [one(x) for x in jax.tree.leaves(tree)]


def test_a_state_comes_back_bit_for_bit(tmp_path: Path):
    state = make()
    path = checkpoint.save(tmp_path, state, about(score=1.5))
    restored, manifest = checkpoint.load(path, template())
    assert manifest == about(score=1.5)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        assert old.dtype == new.dtype and not new.aval.weak_type
    for old, new in zip(bits(state), bits(restored), strict=True):
        np.testing.assert_array_equal(old, new)
    jax.jit(lambda s: s, donate_argnums=0)(restored)  # every leaf owns its buffer


def test_a_second_one_of_the_same_step_replaces_the_first(tmp_path: Path):
    checkpoint.save(tmp_path, make(0), about())
    path = checkpoint.save(tmp_path, make(1), about(score=2.0))
    restored, manifest = checkpoint.load(path, template())
    assert manifest.score == 2.0 and float(restored["scalar"]) == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["000000000010"]


@pytest.mark.parametrize("name", [STATE, MANIFEST])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.999])
def test_a_flipped_byte_is_noticed(tmp_path: Path, name: str, where: float):
    path = checkpoint.save(tmp_path, make(), about())
    content = bytearray((path / name).read_bytes())
    content[int(where * len(content))] ^= 4
    (path / name).write_bytes(content)
    with pytest.raises(Damaged):
        checkpoint.load(path, template())


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_a_missing_cut_or_linked_file_is_noticed(tmp_path: Path, name: str):
    path = checkpoint.save(tmp_path, make(), about())
    file, content = path / name, (path / name).read_bytes()
    for change in ("cut", "longer", "link", "missing"):
        file.unlink(missing_ok=True)
        if change == "cut":
            file.write_bytes(content[:-7])
        elif change == "longer":
            file.write_bytes(content + b" x")
        elif change == "link":
            elsewhere = tmp_path / "elsewhere"
            elsewhere.write_bytes(content)
            file.symlink_to(elsewhere)
        with pytest.raises(Damaged):
            checkpoint.load(path, template())


def test_another_learners_state_is_refused_in_one_line(tmp_path: Path):
    path = checkpoint.save(tmp_path, make(), about())
    other = template()
    other["count"] = jax.ShapeDtypeStruct((4,), jnp.int32)
    with pytest.raises(UserError, match=r"'count' is int32\[\] there and int32\[4\] here"):
        checkpoint.load(path, other)
    other = template() | {"more": jax.ShapeDtypeStruct((), jnp.float32)}
    with pytest.raises(UserError, match="'more' is missing there"):
        checkpoint.load(path, other)


def forge(path: Path, header: dict[str, Any], data: bytes, **changes: Any) -> None:
    """A checkpoint whose checksums are right and whose claims are not."""
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    (path / STATE).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text()) | changes
    manifest |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del manifest["manifest_sha256"]
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["manifest_sha256"] = hashlib.sha256(text).hexdigest()
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_a_forged_checkpoint_gets_nothing_read_or_allocated(tmp_path: Path):
    state = {"x": jnp.zeros(4)}
    shape = eqx.filter_eval_shape(lambda: state)
    path = checkpoint.save(tmp_path, state, about())

    def entry(dtype: str = "F32", shape: Any = (4,), end: int = 16) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}

    forge(path, {"x": entry()}, bytes(16))
    checkpoint.load(path, shape)  # the forger's tools work
    for header, data in [
        ({"x": entry(shape=(2**40,), end=2**42)}, bytes(16)),
        ({"../x": entry()}, bytes(16)),
        ({"x": entry(), "y": entry()}, bytes(16)),
        ({"x": entry("F64", end=32)}, bytes(32)),
        ({"x": entry("U8", end=4)}, bytes(16)),
        ({"x": entry(end=8)}, bytes(16)),
        ({"x": [4]}, bytes(16)),
    ]:
        forge(path, header, data)
        with pytest.raises(Damaged):
            checkpoint.load(path, shape)
    for claim in [{"leaves": []}, {"score": "high"}, {"steps": None}]:
        forge(path, {"x": entry()}, bytes(16), **claim)
        with pytest.raises(Damaged):
            checkpoint.load(path, shape)
    large = {"dtype": "float32", "shape": [2**40], "stored_shape": [2**40], "bytes": 2**42}
    claim = {"leaves": {"x": large}, "score": None, "steps": 10}
    forge(path, {"x": entry()}, bytes(16), **claim)
    with pytest.raises(UserError, match="does not fit"):
        checkpoint.load(path, shape)


def test_another_schema_is_said_to_be_one(tmp_path: Path):
    path = checkpoint.save(tmp_path, make(), about())
    forge(path, {}, b"", schema=99)
    with pytest.raises(UserError, match=r"schema 99, written by stemrl .* reads schema 1"):
        checkpoint.load(path, template())


def test_last_best_and_every_nth_are_kept(tmp_path: Path):
    scores = {40: 5.0, 80: 3.0}
    for steps in range(10, 130, 10):
        checkpoint.save(tmp_path, {"x": jnp.zeros(1)}, about(steps, scores.get(steps)))
        checkpoint.prune(tmp_path, keep_every=25)
    kept = [int(path.name) for path in checkpoint.saved(tmp_path)]
    assert kept == [30, 40, 50, 80, 100, 110, 120]
