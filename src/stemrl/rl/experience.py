"""What rollouts leave behind and what they carry along, and how functions of one episode are batched:
what the compiled rollouts and those on the host both stand on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..core import Carry, Context, Memory, Params, Transition


class Trials(NamedTuple):
    """What `play` returns: the episodes of every task, and what became of its agent."""

    transitions: Transition
    """`[tasks, rounds, episodes, time, …]`, padded; see `valid`."""
    carries: Carry
    """The last carry of every episode, `[tasks, rounds, episodes, …]`."""
    memory: Memory
    """The memory of each task's agent after the last adaptation, `[tasks, …]`."""

    @property
    def returns(self) -> Float[Array, "tasks rounds episodes"]:
        """The undiscounted return of every episode."""
        return jnp.sum(self.transitions.reward, axis=-1)

    @property
    def lengths(self) -> Int[Array, "tasks rounds episodes"]:
        """The number of steps of every episode."""
        return jnp.sum(self.transitions.valid, axis=-1)


class RolloutState(NamedTuple):
    """Worlds in the middle of being played, one in each lane. Every leaf is `[lanes, …]`."""

    params: Params
    context: Context
    memory: Memory
    carry: Carry
    obs: PyTree[Array]
    state: PyTree[Array]
    elapsed: Int[Array, " lanes"]
    """Steps taken so far in this episode."""
    episode: Int[Array, " lanes"]
    """Episodes finished so far in this trial."""
    score: Float[Array, " lanes"]
    """This episode's return so far."""
    fresh: Bool[Array, " lanes"]
    """Whether the next step is a trial's first."""


class Rollout(NamedTuple):
    """A chunk of experience, every leaf `[time, lanes, …]`."""

    transitions: Transition
    trial_start: Bool[Array, "time lanes"]
    """Whether the step is the first of a trial, before which memory and carry were new."""
    trial_end: Bool[Array, "time lanes"]
    """Whether the step is the last of a trial."""
    episode: Int[Array, "time lanes"]
    """The number of the episode in its trial, from 0."""
    score: Float[Array, "time lanes"]
    """The return of the episode up to and with this step. Where `transitions.ended`, it is the
    episode's return."""

    def mean_return(self) -> Float[Array, ""]:
        """Return the mean return of the episodes that ended in this chunk; of the unfinished ones
        so far, if none did."""
        ended = self.transitions.ended
        finished = jnp.sum(self.score * ended) / jnp.maximum(jnp.sum(ended), 1)
        return jnp.where(jnp.any(ended), finished, jnp.mean(self.score[-1]))


def over(function: Any, axes: str, *args: Any) -> Any:
    """Return `function` for every task and episode. `axes` names each argument's leading
    dimensions: `e` or `-`, tasks and episodes; `t`, tasks only (shared by a task's episodes)."""
    inner = tuple(None if axis == "t" else 0 for axis in axes)
    return jax.vmap(jax.vmap(function, in_axes=inner))(*args)


def select(mask: Bool[Array, "..."], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """Return `new` where `mask`, else `old`; the mask's dimensions lead those of every leaf."""

    def leaf(n: Array, o: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (n.ndim - mask.ndim)), n, o)

    return jax.tree.map(leaf, new, old)


def zeros_of(function: Callable, *args: Any) -> Any:
    """Return zeros in the shapes of what `function(*args)` would return, without running it."""
    return _zeros(jax.eval_shape(function, *args))


def _zeros(shapes: PyTree[Any]) -> PyTree[Array]:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def only_if(ready: Bool[Array, ""], function: Callable[[Any], tuple], carry: Any) -> Any:
    """Return `function(carry)` if `ready`; otherwise the carry as it is, and zeros. Only one of the
    two is computed, unless `ready` is mapped over (`vmap`).

    - `function`: returns what becomes of the carry, in the same shapes, and then whatever else it has
      to tell (metrics, steps), which is zeros where it is not called.
    """

    told = []  # the shapes of what else there is, by which the function is traced once and not twice

    def go(carry: Any) -> tuple:
        carry, *rest = function(carry)
        told.append(jax.tree.map(jax.typeof, rest))
        return carry, *rest

    def wait(carry: Any) -> tuple:
        return carry, *(_zeros(told[0]) if told else zeros_of(lambda x: function(x)[1:], carry))

    return lax.cond(ready, go, wait, carry)


def strong(tree: PyTree[Array]) -> PyTree[Array]:
    """Return the same arrays without weak types, which would retrace a scan."""

    def leaf(x: Any) -> Array:
        x = jnp.asarray(x)
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.asarray(x, x.dtype)

    return jax.tree.map(leaf, tree)


def like(tree: PyTree[Array], template: PyTree[Array]) -> PyTree[Array]:
    """Return `tree` in the dtypes of `template`, so that it may be carried through a loop."""
    return jax.tree.map(lambda x, t: jnp.asarray(x, t.dtype), tree, template)


def tracing(x: Any) -> bool:
    """Return whether this runs inside a program that is being compiled, of which `x` is a part."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x))
