"""Several worlds as one: whoever acts chooses a world first, or chance does.

Any number of decision processes are one, with a first action that says which: s₀ is before all worlds,
a₀ leads into one of them, and from there on it is that world's process. Its optimal value is the best
world's, maxᵢ Vᵢ. It is a play on words: what the worlds have in common is no easier to find in it. It is
here so that this can be seen. Where the world is drawn instead, the policy that solves the one process
is a contextual one for all of them.
"""

from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import (
    AbstractFamily,
    Box,
    Discrete,
    EnvState,
    Info,
    MultiDiscrete,
    Params,
    Space,
    Split,
    UserError,
    flatten,
    is_image,
    observation_size,
    unscale_action,
)
from .ranges import in_turn
from .transforms import named_family

Chooser = Literal["agent", "chance"]


class WorldState(eqx.Module):
    """Which world it is, and how all of them stand."""

    which: Int[Array, ""]
    """The world's number; −1 before the choice."""
    elapsed: Int[Array, ""]
    """Steps taken in it."""
    inner: tuple[EnvState, ...]
    """A state for each world; the others' stay at their start."""


class WorldChoiceEnv(eqx.Module):
    """The worlds of `families`, and the choice of one. Params: `{"worlds": (a task of each, …)}`, and
    where chance chooses `"which"`, int32.

    The observation is the number of the world, one-hot (zeros before the choice), then the world's own
    observation, flattened, with zeros behind it where others have more. Discrete actions are numbers
    up to the largest that any world has, and larger ones than a world has are its last; continuous
    ones are in [−1, 1] in each of the most dimensions that a world has, of which it takes its own.
    The first action chooses: a discrete one by its number, a continuous one by where the first of its
    numbers lies between −1 and 1. It pays nothing. Each world ends after its own horizon.
    """

    families: tuple[AbstractFamily, ...] = eqx.field(static=True)
    chooser: Chooser = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Array, WorldState]:
        """Begin before the choice; or, where chance has chosen, in the chosen world."""
        keys = jax.random.split(key, len(self.families))
        begun = [
            family.seen_env.reset(k, task)
            for family, k, task in zip(self.families, keys, params["worlds"], strict=True)
        ]
        inner = tuple(_strong(state) for _, state in begun)
        zero = jnp.zeros((), jnp.int32)
        if self.chooser == "chance":
            which = params["which"]
            seen = jnp.stack([self._see(i, obs) for i, (obs, _) in enumerate(begun)])
            return seen[which], WorldState(which, zero, inner)
        return jnp.zeros(self.observation_space().shape), WorldState(zero - 1, zero, inner)

    def step(
        self, key: PRNGKeyArray, state: WorldState, action: Array, params: Params
    ) -> tuple[Array, WorldState, Array, Array, Array, Info]:
        """Make the choice, or take a step in the chosen world.

        Events: `world` (its number), and whatever any world reports, zeros where another is played.
        """
        if self.chooser == "chance":
            return self._play(key, state, action, params)
        key, begin_key = jax.random.split(key)
        obs, after, reward, terminated, truncated, events = self._play(
            key, eqx.tree_at(lambda s: s.which, state, jnp.maximum(state.which, 0)), action, params
        )
        # The step before the choice is thrown away; the chosen world begins.
        chosen = self.chosen(action)
        first, begun = self._begin(begin_key, chosen, state, params)
        choosing = state.which < 0

        def select(a: Array, b: Array) -> Array:
            return jnp.where(choosing, a, b)

        no = jnp.asarray(False)
        events = {name: select(jnp.zeros_like(x), x) for name, x in events.items()}
        events["world"] = select(chosen, after.which)
        return (
            select(first, obs),
            jax.tree.map(select, begun, after),
            select(jnp.zeros(()), reward),
            select(no, terminated),
            select(no, truncated),
            events,
        )

    def chosen(self, action: Array) -> Int[Array, ""]:
        """Return the world that a first action chooses."""
        worlds = len(self.families)
        if isinstance(self.action_space(), Discrete):
            return jnp.minimum(action, worlds - 1).astype(jnp.int32)
        place = jnp.floor((action.ravel()[0] + 1.0) / 2.0 * worlds)
        return jnp.clip(place, 0, worlds - 1).astype(jnp.int32)

    def _begin(
        self, key: PRNGKeyArray, which: Array, state: WorldState, params: Params
    ) -> tuple[Array, WorldState]:
        """The chosen world's first observation. (Its episode begins anew: what an observation was is
        not in the state.)"""
        branches = []
        for i, (family, task) in enumerate(zip(self.families, params["worlds"], strict=True)):

            def begin(key: PRNGKeyArray, i=i, family=family, task=task) -> tuple[Array, Any]:
                obs, inner = family.seen_env.reset(key, task)
                return self._see(i, obs), (*state.inner[:i], _strong(inner), *state.inner[i + 1 :])

            branches.append(begin)
        obs, inner = jax.lax.switch(which, branches, key)
        return obs, WorldState(which, jnp.zeros((), jnp.int32), inner)

    def _play(
        self, key: PRNGKeyArray, state: WorldState, action: Array, params: Params
    ) -> tuple[Array, WorldState, Array, Array, Array, Info]:
        """A step in the world that the state is in."""
        reported = self._reported(params)
        branches = []
        for i, (family, task) in enumerate(zip(self.families, params["worlds"], strict=True)):

            def play(key: PRNGKeyArray, i=i, family=family, task=task):
                obs, inner, reward, terminated, truncated, events = family.seen_env.step(
                    key, state.inner[i], _own_action(family.action_space, action), task
                )
                truncated = truncated | (state.elapsed + 1 >= family.horizon)
                events = {
                    name: jnp.asarray(events[name])
                    if name in events
                    else jnp.zeros(x.shape, x.dtype)
                    for name, x in reported.items()
                }
                inner = (*state.inner[:i], _strong(inner), *state.inner[i + 1 :])
                reward = jnp.asarray(reward, jnp.float32)
                return self._see(i, obs), inner, reward, terminated, truncated & ~terminated, events

            branches.append(play)
        obs, inner, *rest, events = jax.lax.switch(state.which, branches, key)
        after = WorldState(state.which, state.elapsed + 1, inner)
        return obs, after, *rest, {**events, "world": state.which}

    def _reported(self, params: Params) -> dict[str, jax.ShapeDtypeStruct]:
        """The events of all worlds, by name; of two of one name but another shape, the first's."""
        found: dict[str, jax.ShapeDtypeStruct] = {}
        for family, task in zip(self.families, params["worlds"], strict=True):
            key = jax.random.key(0)

            def events(task: Params, family=family, key=key) -> Info:
                state = family.seen_env.reset(key, task)[1]
                action = jnp.zeros(family.action_space.shape, family.action_space.dtype)
                return jax.tree.map(jnp.asarray, family.seen_env.step(key, state, action, task)[5])

            for name, shape in jax.eval_shape(events, task).items():
                if found.setdefault(name, shape) != shape:
                    raise UserError(
                        f"the worlds report '{name}' in different forms: {found[name]}, {shape}"
                    )
        return found

    def _see(self, i: int, obs: Any) -> Array:
        """What is shown of world `i`."""
        worlds, size = len(self.families), self.observation_space().shape[0]
        own = flatten(self.families[i].observation_space, obs)
        seen = jnp.zeros(size).at[i].set(1.0)
        return seen.at[worlds : worlds + own.shape[0]].set(own)

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space, without bounds, of `[worlds + the most numbers that a world shows]`."""
        most = max(observation_size(family.observation_space) for family in self.families)
        return Box((len(self.families) + most,))

    def action_space(self, params: Params | None = None) -> Space:
        """Return a discrete space if the worlds' are discrete; otherwise one of entries in [−1, 1]."""
        spaces = [family.action_space for family in self.families]
        worlds = len(spaces) if self.chooser == "agent" else 1
        discrete = [space.n for space in spaces if isinstance(space, Discrete)]
        if discrete:
            return Discrete(max(worlds, *discrete))
        sizes = [space.size for space in spaces if isinstance(space, Box)]
        return Box((max(sizes),), -1.0, 1.0)


class WorldChoice(AbstractFamily):
    """Several families as one whose first action chooses the world, or whose world is drawn: multi-task
    learning as one decision process. Not families stepped on the host."""

    name: ClassVar[str] = "world-choice"

    families: tuple[str, ...] = eqx.field(static=True, default=("point-2d", "point-sparse"))
    """The worlds: families' names, with settings after each (`grid-wall size=3`), or, in Python,
    families."""
    chooser: Chooser = eqx.field(static=True, default="agent")
    """Who chooses the world: agent, by its first action, or chance, for each task."""

    def __check_init__(self):
        if self.chooser not in get_args(Chooser):
            raise UserError(f"{self.name}: chooser must be agent or chance, not {self.chooser!r}")
        if len(self.families) < 2:
            raise UserError(f"{self.name} needs at least two families, not {len(self.families)}")
        for family in self.inner:
            if family.stepping == "host":
                raise UserError(f"'{family.name}' is stepped on the host and cannot be a world")
            space = family.observation_space
            if isinstance(space, Box) and is_image(space):
                raise UserError(f"'{family.name}' is seen as pictures and cannot be a world")
            if isinstance(family.action_space, MultiDiscrete):
                raise UserError(
                    f"'{family.name}' has several choices at once and cannot be a world"
                )
        kinds = {type(family.action_space).__name__ for family in self.inner}
        if len(kinds) > 1:
            raise UserError(
                f"{self.name}: some of the families have discrete actions, some continuous ones"
            )

    @property
    def inner(self) -> tuple[AbstractFamily, ...]:
        """The worlds."""
        return tuple(
            named_family(family) if isinstance(family, str) else family for family in self.families
        )

    @property
    def stepping(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """`callback` if a world calls a simulator."""
        kinds = {family.stepping for family in self.inner}
        return "callback" if "callback" in kinds else "jax"

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where all worlds are."""
        return all(family.finite for family in self.inner)

    @property
    def identity(self) -> str:
        """This transform's name and version around the worlds' identities."""
        inner = ",".join(family.identity for family in self.inner)
        return f"{self.name}@{self.version}({inner},chooser={self.chooser!r})"

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The longest of the worlds' own, and a step more if an action chooses."""
        return max(family.horizon for family in self.inner) + (self.chooser == "agent")

    @property
    def env(self) -> WorldChoiceEnv:
        return WorldChoiceEnv(self.inner, self.chooser)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a task of each world's own split, and where chance chooses one of the worlds, each
        as likely."""
        return jax.tree.map(lambda x: x[0], self.tasks(key, split, 1))

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return `n` tasks, one of each world in turn."""
        which_key, *keys = jax.random.split(key, len(self.inner) + 1)
        worlds = tuple(
            family.tasks(k, split, n) for family, k in zip(self.inner, keys, strict=True)
        )
        if self.chooser == "agent":
            return {"worlds": worlds}
        which = in_turn(which_key, jnp.arange(len(self.inner), dtype=jnp.int32), n)
        return {"worlds": worlds, "which": which}

    @property
    def worlds(self) -> int:
        """How many there are, where the context says which; 0 where the agent chooses."""
        return len(self.inner) if self.chooser == "chance" else 0

    def context(self, params: Params) -> Array:
        """Return which world it is, one-hot, where chance chooses."""
        if self.chooser == "agent":
            return super().context(params)
        return jax.nn.one_hot(params["which"], len(self.inner))

    def inside(self, params: Params, states: Any) -> tuple[AbstractFamily, Params, Any]:
        """Return the episode as one of the world that was chosen, for drawing."""
        which = int(states.which[-1])
        return self.inner[which], params["worlds"][which], states.inner[which]


def _own_action(space: Space, action: Array) -> Array:
    """The action as a world of this space takes it."""
    if isinstance(space, Discrete):
        return unscale_action(space, jnp.minimum(action, space.n - 1))
    assert isinstance(space, Box)
    return unscale_action(space, action[: space.size].reshape(space.shape))


def _strong(tree: Any) -> Any:
    """Without weak types, which the branches of a switch might not share."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)
