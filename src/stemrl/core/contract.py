"""Whether a class of one's own keeps to the contracts, found before anything is compiled.

Functions are traced on shapes alone, which takes a moment and runs nothing. What the library ships
is not looked over: its tests do that.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError, said
from .agent import AbstractAgent
from .environment import Transition
from .family import AbstractFamily
from .learner import AbstractLearner, Problem
from .spaces import AnySpace, Box, Dict, Discrete, MultiDiscrete, Space, Tuple


def check_family(family: AbstractFamily) -> None:
    """Raise `UserError` if a family of one's own does not do what `AbstractFamily` asks for, such
    as "family 'boat': step returns an observation of shape (3,), its space says (2,)". Nothing is
    compiled or run: shapes are evaluated abstractly."""
    if _ours(family):
        return
    try:
        known = (type(family), hash(family))
    except TypeError:  # a field that cannot be hashed, as a dictionary
        known = None
    if known is None or known not in _sound:
        _check_family(family)
        _sound.add(known)


def check_learner(learner: AbstractLearner, problem: Problem) -> None:
    """Raise `UserError` if a learner of one's own, or the agent that it makes, does not do what
    `AbstractLearner` and `AbstractAgent` ask for."""
    if not _ours(learner):
        _check_learner(learner, problem)


def check_agent(agent: AbstractAgent, problem: Problem) -> None:
    """Raise `UserError` if an agent of one's own does not do what `AbstractAgent` asks for. It is
    checked once for all agents of the same shape."""
    if _ours(agent):
        return
    leaves, structure = jax.tree.flatten((agent, problem))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    if (structure, shapes) not in _sound:
        _check_agent(agent, problem)
        _sound.add((structure, shapes))


_sound: set[Any] = set()
"""Structures and shapes of agents and problems that have been looked over."""


def _ours(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] == "stemrl"


def _check_family(family: AbstractFamily) -> None:
    who = f"family '{getattr(family, 'name', '')}'"
    if not isinstance(getattr(family, "name", None), str):
        raise UserError(f'the family {type(family).__name__} has no name; write name = "…" in it')
    horizon = family.horizon
    if not isinstance(horizon, int | np.integer) or horizon < 1:
        raise UserError(
            f"{who}: horizon is {horizon!r}; it is how many steps an episode has at most"
        )
    spaces: list[Space] = []
    for what in ("observation_space", "action_space"):
        space = _attempt(f"{who}: {what}", lambda what=what: getattr(family, what))
        if not isinstance(space, Box | Discrete | MultiDiscrete):
            raise UserError(
                f"{who}: {what} is a {type(space).__module__}.{_kind(space)}, not a space of stemrl's;"
                " give a stemrl.core.Box, Discrete or MultiDiscrete (or, of observations, a Dict or"
                " Tuple of them)"
            )
        spaces.append(space)
    key = jax.random.key(0)
    params = _traced(f"{who}: sample", lambda k: family.sample(k, "train"), key)
    if not jax.tree.leaves(params):
        raise UserError(f"{who}: sample returns no array; give the family at least one parameter")
    if family.stepping == "host":
        return
    _refuse_frozen(f"{who}: sample", "task", lambda k: family.sample(k, "train"), key)
    env, acted = family.env, spaces[1]
    seen = env.observation_space()
    first = _traced(f"{who}: reset", env.reset, key, params)
    if not isinstance(first, tuple) or len(first) != 2:
        raise UserError(f"{who}: reset returns {several(first)}, not (observation, state)")
    obs, state = first
    _as_space(f"{who}: reset returns an observation", obs, seen)
    action = jax.ShapeDtypeStruct(acted.shape, acted.dtype)
    result = _traced(f"{who}: step", env.step, key, state, action, params)
    if not isinstance(result, tuple) or len(result) != 6:
        raise UserError(
            f"{who}: step returns {several(result)}, not (observation, state, reward, terminated,"
            " truncated, events)"
        )
    _refuse_frozen(f"{who}: reset", "episode", env.reset, key, params)
    _refuse_frozen(f"{who}: step", "step", env.step, key, state, action, params)
    next_obs, next_state, *signals, events = result
    _as_space(f"{who}: step returns an observation", next_obs, seen)
    if difference := _difference(state, next_state):
        raise UserError(f"{who}: step returns another state than reset: {difference}")
    for what, value in zip(("reward", "terminated", "truncated"), signals, strict=True):
        if getattr(value, "shape", ()) != ():
            raise UserError(
                f"{who}: step returns a {what} of shape {value.shape}; it is one number"
            )
    if not isinstance(events, dict):
        raise UserError(
            f"{who}: the last value of step is a {_kind(events)}, not a dictionary of events"
            " (an empty one, {}, if there are none)"
        )


def _check_learner(learner: AbstractLearner, problem: Problem) -> None:
    who = f"method '{getattr(learner, 'name', type(learner).__name__)}'"
    state = _traced(f"{who}: init", lambda k: learner.init(problem, k), jax.random.key(0))
    # Before all that plays it: what is wrong in an agent is then said of the agent.
    _check_agent(_traced(f"{who}: agent", lambda s: learner.agent(problem, s), state), problem)
    if "host" in (problem.source.stepping, problem.target.stepping):
        return
    collected = _traced(f"{who}: collect", lambda s: learner.collect(problem, s), state)
    if not isinstance(collected, tuple) or len(collected) != 2:
        raise UserError(f"{who}: collect returns {several(collected)}, not (state, experience)")
    after, experience = collected
    learned = _traced(f"{who}: learn", lambda s, e: learner.learn(problem, s, e), after, experience)
    if not isinstance(learned, tuple) or len(learned) != 2 or not isinstance(learned[1], dict):
        raise UserError(f"{who}: learn returns {several(learned)}, not (state, metrics)")
    new, metrics = learned
    for where, other in (("collect", after), ("learn", new)):
        if difference := _difference(state, other):
            raise UserError(f"{who}: {where} returns another state than init: {difference}")
    for name, value in metrics.items():
        if getattr(value, "shape", ()) != ():
            raise UserError(
                f"{who}: the metric '{name}' is of shape {value.shape}; it is one number"
            )
    if "return" not in metrics:
        raise UserError(f"{who}: learn gives no metric 'return', the mean over the episodes")


def _check_agent(agent: AbstractAgent, problem: Problem) -> None:
    who, family, key = f"agent {type(agent).__name__}", problem.target, jax.random.key(0)
    if not isinstance(agent, AbstractAgent):
        raise UserError(f"what the method makes is a {_kind(agent)}, not an AbstractAgent")
    episodes = agent.episodes_per_round
    if not isinstance(episodes, int) or episodes < 1:
        raise UserError(f"{who}: episodes_per_round is {episodes!r}, not a whole number from 1")
    params = _traced(f"{family.name}: sample", lambda k: family.sample(k, "train"), key)
    told = _traced("the context", lambda p: problem.context(family, p), params)
    memory = _traced(f"{who}: start", lambda a, c, k: a.start(c, k), agent, told, key)
    carry = _traced(f"{who}: begin", lambda a, m, k: a.begin(m, k), agent, memory, key)
    space = family.observation_space
    obs = jax.ShapeDtypeStruct(space.shape, space.dtype)
    acted = _traced(
        f"{who}: act", lambda a, m, c, o, k: a.act(m, c, o, k), agent, memory, carry, obs, key
    )
    if not isinstance(acted, tuple) or len(acted) != 3 or not isinstance(acted[2], dict):
        raise UserError(f"{who}: act returns {several(acted)}, not (action, carry, info)")
    action, after, info = acted
    if action.shape != family.action_space.shape:
        raise UserError(
            f"{who}: act returns an action of shape {action.shape}, the space of '{family.name}'"
            f" says {family.action_space.shape}"
        )
    if difference := _difference(carry, after):
        raise UserError(f"{who}: act returns another carry than begin: {difference}")
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    flag: Any = jax.ShapeDtypeStruct((), jnp.bool_)
    step = Transition(obs, action, number, flag, flag, obs, flag, info, {})
    seen = _traced(
        f"{who}: observe", lambda a, m, c, t: a.observe(m, c, t), agent, memory, after, step
    )
    if difference := _difference(carry, seen):
        raise UserError(f"{who}: observe returns another carry than begin: {difference}")


def _attempt(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} failed: {said(error)}") from error


def _traced(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    return _attempt(what, lambda: eqx.filter_eval_shape(function, *arguments))


def _refuse_frozen(what: str, unit: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Raise `UserError` for a function that is another one each time it is traced: it draws by
    NumPy, say, whose numbers are drawn once, when it is compiled, and never again."""

    def constants_of(closed: Any) -> Iterator[Any]:
        """Those of the functions inside too, which a program is printed without."""
        yield from closed.consts
        for eqn in closed.jaxpr.eqns:
            for value in jax.tree.leaves(eqn.params, is_leaf=lambda one: hasattr(one, "consts")):
                if hasattr(value, "consts") and hasattr(value, "jaxpr"):
                    yield from constants_of(value)

    def traced() -> tuple[str, list[Any]]:
        dynamic, static = eqx.partition(arguments, _is_array)
        closed = jax.make_jaxpr(lambda given: _arrays(function(*eqx.combine(given, static))))(
            dynamic
        )
        # Names of Python objects hold where they are in memory.
        return re.sub("0x[0-9a-f]+", "", str(closed.jaxpr)), [*constants_of(closed)]

    (program, constants), (other, others) = traced(), traced()
    same = program == other and len(constants) == len(others)
    if not same or not all(map(_alike, constants, others)):
        raise UserError(
            f"{what} has other numbers each time it is compiled, and the same ones ever after: it draws by"
            f" something else than its key (NumPy, random, the clock), so every {unit} would be alike; draw by"
            " jax.random with the key"
        )


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _arrays(tree: Any) -> Any:
    return eqx.filter(tree, lambda leaf: eqx.is_array_like(leaf))


def _alike(one: Any, other: Any) -> bool:
    if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    numbers = jnp.issubdtype(one.dtype, jnp.floating)
    one, other = (np.asarray(x, float if numbers else None) for x in (one, other))
    return np.array_equal(one, other, equal_nan=numbers)


def _as_space(what: str, value: Any, space: AnySpace) -> None:
    if isinstance(space, Dict | Tuple):
        names = [name for name, _ in space.spaces] if isinstance(space, Dict) else None
        alike = (
            isinstance(value, dict) and sorted(value) == names
            if names is not None
            else isinstance(value, tuple | list) and len(value) == len(space.spaces)
        )
        if not alike:
            named = f" with {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"{what} that is a {_kind(value)}{named}, its space says {space}")
        for part, own in space.parts(value):
            _as_space(what, own, part)
        return
    shape = getattr(value, "shape", None)
    if shape is None:
        raise UserError(f"{what} that is a {_kind(value)}, its space says {space}")
    if tuple(shape) != space.shape:
        raise UserError(f"{what} of shape {tuple(shape)}, its space says {space.shape}")
    whole = not jnp.issubdtype(value.dtype, jnp.inexact)
    if not isinstance(space, Box) and not whole:
        raise UserError(f"{what} of type {value.dtype}, its space says whole numbers ({space})")


def _difference(one: Any, other: Any) -> str:
    """Where two trees of shapes differ; nothing if they do not."""
    ours, theirs = (jax.tree_util.tree_flatten_with_path(tree) for tree in (one, other))
    if ours[1] != theirs[1]:
        return f"{_short(ours[1])} and {_short(theirs[1])}"
    for (path, a), (_, b) in zip(ours[0], theirs[0], strict=True):
        shapes = [getattr(leaf, "shape", ()) for leaf in (a, b)]
        if shapes[0] != shapes[1]:
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "it"
            return f"{name} has the shape {shapes[0]} there and {shapes[1]} here"
    return ""


def _short(structure: Any) -> str:
    text = str(structure).removeprefix("PyTreeDef(").removesuffix(")")
    return text if len(text) < 80 else f"{text[:77]}…"


def several(value: Any) -> str:
    """What a call gave in the place of a tuple of the right length, in words: "4 values"."""
    return f"{len(value)} values" if isinstance(value, tuple) else f"a {_kind(value)}"


def _kind(value: Any) -> str:
    return "single array" if isinstance(value, jax.ShapeDtypeStruct) else type(value).__name__
