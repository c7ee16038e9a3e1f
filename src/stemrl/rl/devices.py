"""One run on several devices: its tasks are shared out, its agent is on all of them.

Inside `sharing(mesh_of(n))` the rollouts and the learners that go task by task give each of `n` devices its
share of the tasks (or lanes), through `share`: one `shard_map`, so that a callback to a simulator
is each device's own. What learns from minibatches keeps one program, whose batches `spread` divides
and whose sums the compiler completes across devices. Every task and minibatch has the random keys
that it has on one device, and all means are over all tasks: the numbers are those of one device, up
to the order of sums.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..core import UserError, count

AXIS = "tasks"
ALL, DIVIDED = PartitionSpec(), PartitionSpec(AXIS)


def sharing(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """Divide what is compiled and called inside among the devices of `mesh`; nothing is divided
    where that is `None`."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def mesh_of(devices: int) -> Mesh:
    """Return the first `devices` devices, in a row. Raises `UserError` if there are not so many, or
    if there are several processes and it is not all of their devices."""
    found = jax.devices()
    if jax.process_count() > 1 and devices != len(found):
        raise UserError(
            f"the {jax.process_count()} processes have {len(found)} devices in all, which all take"
            f" part; set devices to that, not {devices}"
        )
    if len(found) < devices:
        hint = (
            f"; a CPU counts as several with XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
            if found[0].platform == "cpu"
            else ""
        )
        raise UserError(f"there are {len(found)} devices here, not {devices}{hint}")
    return jax.make_mesh((devices,), (AXIS,), (AxisType.Auto,), devices=found[:devices])


def parts() -> int:
    """Return how many devices are to share what follows; 1 outside `sharing`, and within a share."""
    mesh = jax.sharding.get_abstract_mesh()
    divided = AXIS in mesh.axis_names and AXIS not in mesh.manual_axes
    return mesh.shape[AXIS] if divided else 1


def share(
    function: Callable[[Any, Any], Any], everyone: PyTree, tasks: PyTree, out: Any = DIVIDED
) -> Any:
    """Return `function(everyone, tasks)`, each device with all of the one and its share of the
    other.

    **Arguments:** leaves of `tasks` are `[tasks, …]`; `out` says for the result, or for each of its
    parts, whether it is divided in the same way or, after `mean`, the same `ALL` over.

    Raises `UserError` if the shares are not equal.
    """
    number = parts()
    if number == 1:
        return function(everyone, tasks)
    if count(tasks) % number:
        raise UserError(
            f"{count(tasks)} tasks or lanes cannot be shared equally among {number} devices;"
            " change one of the two numbers"
        )
    arrays, fixed = eqx.partition(everyone, eqx.is_array)

    def mine(arrays: PyTree, tasks: PyTree) -> Any:
        return function(eqx.combine(arrays, fixed), tasks)

    # Without the check of what varies between devices: every loop's first carry would need a cast.
    return jax.shard_map(mine, in_specs=(ALL, DIVIDED), out_specs=out, check_vma=False)(
        arrays, tasks
    )


def split(key: PRNGKeyArray, shape: tuple[int, ...], axis: int = 0) -> PRNGKeyArray:
    """Return `jax.random.split` into `shape`, the tasks at `axis`; within a share, the keys that
    these tasks would have if all were on one device."""
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.manual_axes:
        return jax.random.split(key, shape)
    mine = shape[axis]
    whole = (*shape[:axis], mine * mesh.shape[AXIS], *shape[axis + 1 :])
    keys = jax.random.split(key, whole)
    return lax.dynamic_slice_in_dim(keys, lax.axis_index(AXIS) * mine, mine, axis)


def mean(tree: PyTree[Array]) -> Any:
    """Return the mean over all devices, within a share, of what is each one's own mean over its
    tasks."""
    within = AXIS in jax.sharding.get_abstract_mesh().manual_axes
    return lax.pmean(tree, AXIS) if within else tree


def spread(batch: PyTree[Array]) -> Any:
    """Return a minibatch `[rows, …]`, divided among the devices where that can be done equally."""
    number = parts()
    if number == 1 or count(batch) % number:
        return batch
    return jax.tree.map(lambda x: lax.with_sharding_constraint(x, DIVIDED), batch)


def everywhere(tree: PyTree[Array]) -> Any:
    """Return the same, whole on every device."""
    if parts() == 1:
        return tree
    return jax.tree.map(lambda x: lax.with_sharding_constraint(x, ALL), tree)


def placed(tree: PyTree[Array], mesh: Mesh | None) -> Any:
    """Put arrays of one device, the same in every process, on all devices of the mesh."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, ALL)
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def leaf(x: Array) -> Array:
        # `device_put` takes no array to the devices of another process; NumPy's it would.
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                leaf(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        mine = np.array(x)
        return jax.make_array_from_callback(mine.shape, whole, lambda index: mine[index])

    return jax.tree.map(leaf, tree)


def here(tree: PyTree[Array], mesh: Mesh | None) -> Any:
    """Return the copy on this process's first device of what is whole everywhere."""
    return tree if mesh is None else jax.tree.map(lambda x: x.addressable_data(0), tree)
