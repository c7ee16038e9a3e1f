"""Python functions called from compiled programs by name."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.physics import foreign


def scaled_sum(arguments, results):
    """x · s and the sum over its last dimension."""
    x, s = arguments
    results[0][...] = x * s
    results[1][...] = (x * s).sum(-1)


def call(name: str, x, s):
    shapes = (jax.ShapeDtypeStruct((3,), x.dtype), jax.ShapeDtypeStruct((), x.dtype))
    return foreign.call(name, shapes, x, s)


def test_a_function_is_one_call_for_any_batch():
    name, sizes = "test_scaled_sum", []

    def counted(arguments, results):
        sizes.append(arguments[0].shape)
        scaled_sum(arguments, results)

    name = foreign.bind(name, counted)
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    s = np.asarray([[1.0], [2.0]], np.float32)
    program = jax.jit(jax.vmap(jax.vmap(lambda x, s: call(name, x, s), (0, None)), (0, 0)))
    product, total = program(x, s)
    assert sizes == [(2, 4, 3)]
    np.testing.assert_array_equal(product, x * s[:, None])
    np.testing.assert_array_equal(total, (x * s[:, None]).sum(-1))


def test_inside_a_loop():
    name = foreign.bind("test_scaled_sum_loop", scaled_sum)
    two = jnp.full(1, 2, jnp.int32)
    start = jnp.ones(3, jnp.int32)
    last, sums = jax.lax.scan(lambda x, _: call(name, x, two), start, length=4)
    assert last.tolist() == [16] * 3 and sums.tolist() == [6, 12, 24, 48]


def test_a_name_that_is_taken_gets_a_number():
    def other(arguments, results):
        results[0][...] = 7

    first = foreign.bind("test_taken", scaled_sum)
    assert foreign.bind("test_taken", scaled_sum) == first
    second = foreign.bind("test_taken", other)
    assert second != first and foreign.bind("test_taken", other) == second


def test_an_error_stops_the_program_with_its_cause():
    def broken(arguments, results):
        raise RuntimeError("the arm fell off")

    name = foreign.bind("test_broken", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RuntimeError: the arm fell off"):
        jax.block_until_ready(call(name, jnp.ones(3), jnp.ones(1)))


PROGRAM = """
import sys
import jax, jax.numpy as jnp
from stemrl.physics import HalfCheetahDir
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
engine = HalfCheetahDir().env.engine
state = engine.start(engine.nominal.qpos0, jnp.zeros(engine.nominal.nv))
control = jnp.ones(engine.nominal.nu)
hits.clear()
step = jax.jit(engine.step).lower(state, control).compile()
found = hits.count("/jax/compilation_cache/cache_hits")
print(float(step(state, control)[1].moved.sum()), found)
"""


def test_another_process_finds_the_program_in_the_cache(tmp_path: Path):
    told = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.split()[-2:]
        for _ in range(2)
    ]
    (moved, cold), (again, warm) = told
    assert moved == again != "0.0"
    assert (cold, warm) == ("0", "1")
