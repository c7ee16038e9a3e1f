"""A replay buffer, as part of a learner's state, and what goes into it: steps, or whole episodes.

An episode is stored padded to the horizon, beside its length, so that a step can be drawn from it
with everything that the episode knows: its task, what it reached later. Padding is never drawn.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..core import AbstractFamily, Box, Context, Info, Params, Transition
from .experience import zeros_of


class Row(NamedTuple):
    """One step in the replay; with leading dimensions, many. All values are raw."""

    obs: Array
    context: Context
    action: Array
    reward: Float[Array, "..."]
    carries_on: Float[Array, "..."]
    """0 after a termination, else 1: a truncation bootstraps."""
    next_obs: Array

    @property
    def terminated(self) -> Bool[Array, "..."]:
        """Whether the task itself ended here, as `Transition.terminated` says it."""
        return self.carries_on == 0.0


class Episode(NamedTuple):
    """An episode in the replay, `[time, …]`; with leading dimensions, many. All values are raw."""

    params: Params
    """The task that was played, without a time dimension; `()` if it is not kept."""
    obs: Array
    action: Array
    """In the agent's units."""
    reward: Float[Array, "... time"]
    carries_on: Float[Array, "... time"]
    """0 where the task itself ended with the step, else 1."""
    next_obs: Array
    events: Info
    """Further values that are kept of each step, by name."""
    length: Int[Array, "..."]
    """The number of its steps; what lies beyond them is padding."""

    @classmethod
    def empty(
        cls, family: AbstractFamily, params: bool = True, events: Mapping[str, Any] | None = None
    ) -> "Episode":
        """Return an episode without steps, as a template for episodes of `family`. `events` are
        examples of what a step keeps, if it keeps anything."""
        task: Any = ()
        if params:
            task = zeros_of(lambda: family.sample(jax.random.key(0), "train"))
        steps = (family.horizon,)
        space = family.action_space
        obs = jnp.zeros((*steps, *family.observation_space.shape), family.observation_space.dtype)
        action = jnp.zeros(
            (*steps, *space.shape), jnp.float32 if isinstance(space, Box) else jnp.int32
        )
        kept = {name: jnp.zeros((*steps, *x.shape), x.dtype) for name, x in (events or {}).items()}
        zero = jnp.zeros(steps)
        return cls(task, obs, action, zero, zero, obs, kept, jnp.zeros((), jnp.int32))

    @classmethod
    def of(cls, params: Params, steps: Transition, events: tuple[str, ...] = ()) -> "Episode":
        """Make episodes of transitions `[…, time, …]` that were played; `params` have the same
        leading dimensions."""
        return cls(
            params,
            steps.obs,
            steps.action,
            steps.reward,
            1.0 - steps.terminated.astype(jnp.float32),
            steps.next_obs,
            {name: steps.events[name] for name in events},
            jnp.sum(steps.valid, axis=-1),
        )

    def at(self, *index: Array) -> "Episode":
        """Return single steps. The last index is the time, the others name the episode."""
        params, length = jax.tree.map(lambda x: x[index[:-1]], (self.params, self.length))
        steps = jax.tree.map(lambda x: x[index], self._replace(params=(), length=()))
        return steps._replace(params=params, length=length)


def draw_steps(
    length: Int[Array, "..."],
    key: PRNGKeyArray,
    shape: int | tuple[int, ...],
    of: Int[Array, "..."] | None = None,
) -> tuple[Int[Array, "..."], Int[Array, "..."]]:
    """Draw steps, every stored one as likely as the others. Return the number of the episode and of
    the step in it, both of this shape.

    - `length`: of every episode, `[episodes]`; with `of`, `[groups, episodes]`.
    - `of`: the group that each draw is from, broadcast to `shape`. The group must hold a step. The
      number of the episode is then that within the group.
    """
    ends = jnp.cumsum(length)
    if of is None:
        first, last = jnp.zeros((), ends.dtype), ends[-1]
    else:
        held = length.shape[-1]
        last = ends[held * of + held - 1]
        first = last - jnp.sum(length, axis=-1)[of]
    shape = (shape,) if isinstance(shape, int) else shape
    row = jax.random.randint(key, shape, first, last)
    episode = jnp.searchsorted(ends, row, side="right")
    time = row - (ends - length.reshape(-1))[episode]
    return episode if of is None else episode - length.shape[-1] * of, time


class Replay(eqx.Module):
    """The last `capacity` rows, in a ring; or one ring for each of several groups (such as each
    task).

    A row is a step, or an `Episode`. Rows come in chunks of one size that divides the capacity, so
    that a chunk is one contiguous write. With a donated state this happens in place, and nothing is
    copied but the chunk.
    """

    rows: PyTree[Array]
    """Every leaf `[capacity, …]`, or `[groups, capacity, …]`."""
    position: Int[Array, "*groups"]
    """Where the next chunk goes."""
    size: Int[Array, "*groups"]
    """Rows held."""

    @classmethod
    def of(
        cls, row: PyTree[Array], capacity: int, groups: int | None = None, *, chunk: int = 1
    ) -> "Replay":
        """Return an empty replay for rows like `row` (without leading dimensions). With `groups`,
        it has that many rings of `capacity` rows each; the capacity is rounded up to whole chunks of
        `chunk` rows."""
        capacity = -(-capacity // chunk) * chunk
        leading = () if groups is None else (groups,)
        rows = jax.tree.map(lambda x: jnp.zeros((*leading, capacity, *x.shape), x.dtype), row)
        return cls(rows, jnp.zeros(leading, jnp.int32), jnp.zeros(leading, jnp.int32))

    @property
    def capacity(self) -> int:
        """The number of rows that it can hold, in each group."""
        return jax.tree.leaves(self.rows)[0].shape[self.position.ndim]

    @property
    def age(self) -> Int[Array, "*groups capacity"]:
        """How many rows were written after the one in each place of the ring."""
        return (self.position[..., None] - 1 - jnp.arange(self.capacity)) % self.capacity

    def add(self, chunk: PyTree[Array], into: Int[Array, " chunks"] | None = None) -> "Replay":
        """Return the replay with a chunk, every leaf `[n, …]`, written over the oldest rows. `n`
        must divide the capacity and be the same every time. In groups: with a chunk `[chunks, n,
        …]` for each of the groups `into`, no group twice."""
        n = jax.tree.leaves(chunk)[0].shape[0 if into is None else 1]
        if self.capacity % n:
            raise ValueError(f"chunks of {n} rows do not divide a capacity of {self.capacity}")

        def write(ring: Array, new: Array, position: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(ring, new.astype(ring.dtype), position, 0)

        if into is None:
            rows = jax.tree.map(lambda ring, new: write(ring, new, self.position), self.rows, chunk)
            position = (self.position + n) % self.capacity
            return Replay(rows, position, jnp.minimum(self.size + n, self.capacity))

        # One after another, so that each is written in place.
        def one(i: Int[Array, ""], rows: PyTree[Array]) -> PyTree[Array]:
            group, start = into[i], self.position[into[i]]

            def leaf(rings: Array, new: Array) -> Array:
                where = (group, start, *(jnp.zeros((), jnp.int32),) * (rings.ndim - 2))
                return jax.lax.dynamic_update_slice(rings, new[i][None].astype(rings.dtype), where)

            return jax.tree.map(leaf, rows, chunk)

        rows = jax.lax.fori_loop(0, into.shape[0], one, self.rows)
        position = self.position.at[into].set((self.position[into] + n) % self.capacity)
        size = self.size.at[into].set(jnp.minimum(self.size[into] + n, self.capacity))
        return Replay(rows, position, size)

    def steps(
        self,
        key: PRNGKeyArray,
        shape: tuple[int, ...],
        of: Int[Array, "..."] | None = None,
        recent: int | None = None,
        among: Bool[Array, " capacity"] | None = None,
    ) -> Any:
        """Return steps drawn uniformly with replacement from those held, every leaf `[*shape, …]`:
        rows, or, of a replay of episodes, an `Episode` without its time dimension.

        **Arguments:**

        - `of`: in groups, the group of each draw, broadcast to `shape`; it must not be empty.
        - `recent`: only from this many of the latest rows (of each group).
        - `among`: of a replay of episodes, only from those in these places of the ring.
        """
        if not isinstance(self.rows, Episode):
            return self.episodes(key, shape, of, recent)
        length = self.rows.length
        if recent is not None:
            length = jnp.where(self.age < recent, length, 0)
        if among is not None:
            length = jnp.where(among, length, 0)
        episode, time = draw_steps(length, key, shape, of)
        group = () if of is None else (jnp.broadcast_to(of, shape),)
        return self.rows.at(*group, episode, time)

    def episodes(
        self,
        key: PRNGKeyArray,
        shape: tuple[int, ...],
        of: Int[Array, "..."] | None = None,
        recent: int | None = None,
    ) -> Any:
        """Draw whole rows uniformly with replacement, `[*shape, …]`; in a replay of episodes these
        are whole episodes. See `steps` for the arguments."""
        size, position = (x if of is None else x[of] for x in (self.size, self.position))
        if recent is None:
            index = jax.random.randint(key, shape, 0, size)
        else:
            age = jax.random.randint(key, shape, 0, jnp.minimum(size, recent))
            index = (position - 1 - age) % self.capacity
        group = () if of is None else (jnp.broadcast_to(of, shape),)
        return jax.tree.map(lambda ring: ring[(*group, index)], self.rows)
