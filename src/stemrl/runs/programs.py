"""The compiled programs of a run: `begin`, `advance`, `collect` and `learn`.

Jitted once, here, with learner and problem as arguments. The state is donated: whoever calls these
must not use the old one again. `advance` runs a chunk of updates of a family in pure JAX as one
loop whose length is an argument, so that neither the length of a chunk nor where a run was resumed
changes the program, and with it a single bit. Families that call a simulator have their learning
compiled apart from their collecting: where a simulator could only be called by an address (see
`physics.foreign`), the compilation cache keeps the one and not the other.
"""

import functools
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from ..core import AbstractLearner, Problem, State, Transition
from ..rl.devices import everywhere
from ..rl.experience import like, strong

CHUNK = 512
"""Updates that one call of `advance` can do at most: the length of its buffer of metrics."""

WATCHED = 2**20
"""Leaves of the state with at most this many entries are looked over after every update. Larger
ones (replay) would cost more than they tell: what is wrong in them shows in the loss."""

_TRAINING = 0x57E6
"""Folded into every seed's key, so that training shares no key with whoever else takes
`jax.random.key(seed)` and splits it."""


class Learns(Protocol):
    """All that `begin` and `advance` ask of a learner: an `AbstractLearner` has it with a `Problem`,
    an `AbstractSupervisedLearner` with a `SupervisedProblem`."""

    def init(self, problem: Any, key: PRNGKeyArray, /) -> State: ...
    def update(self, problem: Any, state: Any, /) -> tuple[State, dict[str, Array]]: ...


def seed_keys(first: int, seeds: int) -> PRNGKeyArray:
    """Return the key that each seed's training starts from: `[]` for one seed, else `[seeds]`."""
    keys = [jax.random.fold_in(jax.random.key(first + i), _TRAINING) for i in range(seeds)]
    return keys[0] if seeds == 1 else jnp.stack(keys)


def _begin(learner: Learns, problem: Any, keys: PRNGKeyArray) -> State:
    def init(key: PRNGKeyArray) -> State:
        return strong(learner.init(problem, key))

    return init(keys) if keys.ndim == 0 else jax.lax.map(init, keys)


@eqx.filter_jit
def begin(learner: Learns, problem: Any, keys: PRNGKeyArray) -> State:
    """Return the first state. Compiled, so that no two leaves share a buffer, which could not be
    donated twice."""
    return _begin(learner, problem, keys)


def shape_of_state(learner: Learns, problem: Any, keys: PRNGKeyArray) -> PyTree[Any]:
    """Return the state as `jax.ShapeDtypeStruct`s: what a checkpoint is compared with. By `begin` itself,
    which traces the first state once for all who ask, and for the training."""
    return eqx.filter_eval_shape(begin, learner, problem, keys)


@eqx.filter_jit(donate="all-except-first")
def advance(
    fixed: tuple[Learns, Any, Bool[Array, " leaves"], Int[Array, ""], bool],
    state: State,
) -> tuple[State, Int[Array, ""], dict[str, Array], Int[Array, "..."]]:
    """Do up to `CHUNK` updates.

    **Arguments:** `fixed` is learner, problem, the leaves that may be infinite (see `exempt`), the
    number of updates and whether the state has a leading dimension of seeds.

    **Returns:** the state, the updates done (fewer than asked for if the last of them gave
    something that is not finite), metrics `[CHUNK, …]` and where which quantity is not finite (see
    `not_finite`).
    """
    learner, problem, exempt, updates, seeded = fixed

    def one(state: State):
        new, metrics, experience = _update(learner, problem, state)
        return _checked(state, new, metrics, experience, exempt)

    # Inlined, so that it is traced once, for the shapes, and stands in the loop as if it were traced there.
    @functools.partial(jax.jit, inline=True)
    def update(state: State):
        return eqx.filter_vmap(one)(state) if seeded else one(state)

    shapes = jax.eval_shape(update, state)[1:]
    rows, bad = jax.tree.map(lambda x: jnp.zeros((CHUNK, *x.shape), x.dtype), shapes[0]), shapes[1]

    def going(loop):
        index, _, _, bad = loop
        return (index < updates) & jnp.all(bad < 0)

    def body(loop):
        index, state, rows, _ = loop
        state, metrics, bad = update(state)
        rows = {k: lax.dynamic_update_index_in_dim(rows[k], metrics[k], index, 0) for k in rows}
        return index + 1, state, rows, bad

    start = (jnp.zeros((), jnp.int32), state, rows, jnp.full(bad.shape, -1, jnp.int32))
    index, state, rows, bad = lax.while_loop(going, body, start)
    return state, index, rows, bad


def _update(learner: Learns, problem: Any, state: State) -> tuple[State, dict[str, Array], Any]:
    """`learner.update`, with divergences counted where anything is simulated, and the experience."""
    if not isinstance(learner, AbstractLearner):
        return *learner.update(problem, state), None
    new, experience = learner.collect(problem, state)
    new, metrics = learner.learn(problem, new, experience)
    return new, metrics | _diverged(experience), experience


def _collect(fixed: tuple[AbstractLearner, Problem], state: State) -> tuple[State, Any]:
    learner, problem = fixed
    new, experience = learner.collect(problem, state)
    return everywhere(like(new, state)), experience


collect = eqx.filter_jit(_collect, donate="all-except-first")
"""The collecting half of an update; `fixed` is learner and problem."""


def _learn(
    fixed: tuple[AbstractLearner, Problem, Any, Bool[Array, " leaves"]], state: State
) -> tuple[State, dict[str, Array], Int[Array, "quantities 4"]]:
    learner, problem, experience, exempt = fixed
    new, metrics = learner.learn(problem, state, experience)
    return _checked(state, new, metrics | _diverged(experience), experience, exempt)


learn = eqx.filter_jit(_learn, donate="all-except-first")
"""The learning half: `fixed` is learner, problem, experience and the leaves that may be infinite;
returns the state, the metrics and where which quantity is not finite (see `not_finite`)."""

learn_keeping = eqx.filter_jit(_learn)
"""The same without donation, for a state whose leaves may share buffers: one that collecting on
the host has touched."""


def _transitions(experience: Any) -> list[Transition]:
    leaves = jax.tree.leaves(experience, is_leaf=lambda x: isinstance(x, Transition))
    return [leaf for leaf in leaves if isinstance(leaf, Transition)]


def _diverged(experience: Any) -> dict[str, Array]:
    """How many of the episodes that were just played ended because their simulation broke down;
    nothing where the environments do not tell."""
    counts = [
        jnp.sum(steps.events["diverged"] & steps.valid)
        for steps in _transitions(experience)
        if "diverged" in steps.events
    ]
    return {"diverged": sum(counts[1:], counts[0])} if counts else {}


def _checked(
    old: State,
    new: State,
    metrics: dict[str, Array],
    experience: Any,
    exempt: Bool[Array, " leaves"],
) -> tuple[State, dict[str, Array], Int[Array, "quantities 4"]]:
    """The new state in the old one's types, float metrics, and what of both, and of what was
    experienced, is not finite."""
    metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
    new, metrics = everywhere((like(new, old), metrics))
    leaves = [jnp.all(jnp.isfinite(x)) for x in _watched(new).values()]
    losses = [jnp.isfinite(metrics[name]) for name in _losses(metrics)]
    fine = jnp.stack(leaves) | exempt if leaves else exempt
    fine = jnp.concatenate([fine, jnp.asarray(losses, bool)])
    places = jnp.broadcast_to(jnp.where(fine, -1, 0)[:, None], (len(fine), 4)).astype(jnp.int32)
    return new, metrics, jnp.concatenate([_not_finite_steps(experience), places])


def _not_finite_steps(experience: Any) -> Int[Array, "3 4"]:
    """Of each of `EXPERIENCED`, the position of the first that is not finite, by the dimensions of
    a step from the left, filled up with −1; all of it −1 where there is none."""
    found = jnp.full((len(EXPERIENCED), 4), -1, jnp.int32)
    for steps in _transitions(experience):
        valid, dims = steps.valid, steps.valid.ndim
        if not 0 < dims <= 4:
            continue

        def bad(values: Any, valid: Array = valid, dims: int = dims) -> Array:
            wrong = jnp.zeros_like(valid)
            for leaf in jax.tree.leaves(values):
                if jnp.issubdtype(leaf.dtype, jnp.inexact):
                    axes = tuple(range(dims, leaf.ndim))
                    wrong = wrong | ~jnp.all(jnp.isfinite(leaf), axis=axes)
            return wrong & valid

        rows, action = [], bad(steps.action)
        # What comes of an action that is not finite is not the environment's fault; and an action
        # is none where an agent has learned from a reward or an observation that was none.
        for wrong in (
            bad((steps.obs, steps.next_obs)) & ~action,
            bad(steps.reward) & ~action,
            action,
        ):
            place = jnp.stack(jnp.unravel_index(jnp.argmax(wrong), wrong.shape))
            place = jnp.pad(place.astype(jnp.int32), (0, 4 - dims), constant_values=-1)
            rows.append(jnp.where(jnp.any(wrong), place, -1))
        found = jnp.where(found[:, :1] < 0, jnp.stack(rows), found)
    return found


def exempt(state: State, seeded: bool) -> np.ndarray:
    """Return which watched leaves are infinite from the start, on purpose, and so prove nothing."""
    watched = _watched(state, seeded).values()
    return np.array([not np.isfinite(np.asarray(x)).all() for x in watched], bool)


EXPERIENCED = ("observation", "reward", "action")
"""What of every step must be finite, in the order of blame."""
DIMENSIONS = {
    1: ("step",),
    2: ("step", "environment"),
    3: ("task", "episode", "step"),
    4: ("task", "round", "episode", "step"),
}
"""Of steps, by how many they are: a rollout's, whole episodes', a trial's."""


def not_finite(
    bad: Int[np.ndarray, "... 4"], state: State, metrics: dict[str, Any], seeded: bool
) -> tuple[int, str, str]:
    """Return what is not finite, of what `advance` and `learn` say: the first seed's, its name, and
    for one of `EXPERIENCED` where ('step 3 of environment 0'), else nothing."""
    names = [*EXPERIENCED, *_watched(state, seeded), *_losses(metrics)]
    bad = bad.reshape(-1, len(names), 4)
    seed, quantity = np.argwhere(bad[..., 0] >= 0)[0]
    place = [int(i) for i in bad[seed, quantity] if i >= 0]
    where = ""
    if quantity < len(EXPERIENCED):
        parts = [f"{name} {i}" for name, i in zip(DIMENSIONS[len(place)], place, strict=True)]
        where = " of ".join(parts if len(place) <= 2 else parts[::-1])
    return int(seed), names[quantity], where


def _watched(state: State, seeded: bool = False) -> dict[str, Any]:
    """The inexact leaves that are small enough to be looked over, by tree path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and (leaf[0] if seeded else leaf).size <= WATCHED
    }


def _losses(metrics: dict[str, Any]) -> list[str]:
    """Losses; and the returns, because a line search that rejects what is not a number would hide
    rewards that are none, and because not every learner learns from the target's rewards. (Returns
    by episode of a trial are not a number where no such episode ended.)"""
    returns = ("return", "return/target")
    return sorted(name for name in metrics if name.startswith("loss") or name in returns)
