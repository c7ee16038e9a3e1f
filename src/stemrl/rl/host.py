"""Playing in worlds that are Python objects: `play`, `begin_rollout` and `rollout` for host families.

The agent's part (`start`, `begin`, `act`, `observe`, `adapt`) is compiled once and batched over all
episodes, as everywhere; the stepping is Python, one `gymnasium.Env` an episode. Keys are split as
in the compiled rollouts, so the same world written both ways gives the same experience.

A world cannot be saved (see `worlds.py`). Where a state meets a process that does not know its
world, or knows it at another step (a run was resumed, or an old state was gone back to), that lane
starts a new trial: a resumed run is sound, but not bit-identical to the uninterrupted one.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    Carry,
    Context,
    Memory,
    Obs,
    Params,
    Problem,
    Transition,
    count,
    unscale_action,
)
from .experience import Rollout, RolloutState, Trials, like, over, select, strong
from .worlds import World, WorldState, borrow, free, give_back, lost, open_worlds

# ---- the compiled part: every function takes the agent as an argument and is compiled once -----


@eqx.filter_jit
def _start(agent: AbstractAgent, context: Context, keys: PRNGKeyArray) -> Memory:
    return strong(jax.vmap(agent.start)(context, keys))


@eqx.filter_jit
def _begin(agent: AbstractAgent, memory: Memory, keys: PRNGKeyArray) -> Carry:
    return strong(over(agent.begin, "t-", memory, keys))


@eqx.filter_jit
def _act(
    agent: AbstractAgent,
    family: AbstractFamily,
    memory: Memory,
    carry: Carry,
    obs: Obs,
    keys: PRNGKeyArray,
    time: np.int32,
    renewing: bool,
):
    """Actions of the agent and of the world, the carries after acting and what `act` noted. Leaves
    of carry and observation are `[tasks, episodes, …]`; `keys` are the steps'."""
    key = jax.random.split(keys[time])[0] if renewing else keys[time]
    keys = jax.random.split(key, (2, *jax.tree.leaves(obs)[0].shape[:2]))[0]
    action, acted, info = over(agent.act, "teee", memory, carry, obs, keys)
    return action, unscale_action(family.action_space, action), acted, info


@eqx.filter_jit
def _observe(
    agent: AbstractAgent, memory: Memory, acted: Carry, old: Carry, transition: Transition
) -> Carry:
    """Carries after the step; those of ended episodes stay as they were."""
    observed = like(over(agent.observe, "tee", memory, acted, transition), old)
    return select(transition.valid, observed, old)


@eqx.filter_jit
def _adapt(
    agent: AbstractAgent, memory: Memory, carries: Carry, episodes: Any, keys: PRNGKeyArray
) -> Memory:
    return like(jax.vmap(agent.adapt)(memory, carries, episodes, keys), memory)


def _seeds(keys: PRNGKeyArray) -> Int[Array, "..."]:
    """A seed from each key, 0 to 2³¹ − 1."""
    return (jax.random.bits(keys, dtype=jnp.uint32) >> 1).astype(jnp.int32)


_seeds_of = jax.jit(lambda keys: jax.vmap(_seeds)(keys.reshape(-1)).reshape(keys.shape))


# ---- whole rounds ------------------------------------------------------------------------------


def play_on_host(
    agent: AbstractAgent,
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    rounds: int,
    *,
    adapt_last: bool = False,
) -> Trials:
    """Return `play` for a host family; it opens `tasks × episodes_per_round` worlds at once,
    and gives them back."""
    tasks, episodes_per_round = count(params), agent.episodes_per_round
    start_key, rounds_key = jax.random.split(key)
    memory = _start(agent, context, jax.random.split(start_key, tasks))
    tables = jax.device_get(params)
    worlds: list[World] = []
    played = []
    try:
        for task in range(tasks):
            one = jax.tree.map(lambda x, task=task: x[task], tables)
            worlds += [borrow(family, one) for _ in range(episodes_per_round)]
        for index, round_key in enumerate(jax.random.split(rounds_key, rounds)):
            episodes_key, adapt_key = jax.random.split(round_key)
            carries, episodes = _play_episodes(agent, family, memory, worlds, episodes_key)
            if adapt_last or index < rounds - 1:
                keys = jax.random.split(adapt_key, tasks)
                memory = _adapt(agent, memory, carries, episodes, keys)
            played.append((carries, episodes))
    except BaseException:
        for world in worlds:
            world.close()
        raise
    give_back(worlds)
    carries, episodes = jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *played)
    return Trials(episodes, carries, memory)


def _play_episodes(
    agent: AbstractAgent,
    family: AbstractFamily,
    memory: Memory,
    worlds: list[World],
    key: PRNGKeyArray,
) -> tuple[Carry, Transition]:
    """One round of every task, shapes as in `play_episodes`."""
    horizon, episodes_per_round = family.horizon, agent.episodes_per_round
    batch = (len(worlds) // episodes_per_round, episodes_per_round)
    begin_key, reset_key, steps_key = jax.random.split(key, 3)
    carry = _begin(agent, memory, jax.random.split(begin_key, batch))
    seeds = np.asarray(_seeds_of(jax.random.split(reset_key, batch))).ravel()
    obs = np.stack([w.reset(int(s)) for w, s in zip(worlds, seeds, strict=True)])
    alive = np.ones(len(worlds), bool)
    rows: list[Transition] = []
    keys = jax.random.split(steps_key, horizon)
    for time in range(horizon):
        if not alive.any():
            break
        shaped = obs.reshape(*batch, *obs.shape[1:])
        action, taken, acted, info = _act(
            agent, family, memory, carry, shaped, keys, np.int32(time), False
        )
        action, info = jax.device_get((action, info))
        stepped = _step(
            worlds, np.asarray(taken).reshape(len(worlds), *taken.shape[2:]), obs, alive
        )
        transition = _transition(obs, stepped, alive, time == horizon - 1)
        transition = jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), transition)
        transition = transition._replace(action=action, info=info)
        carry = _observe(agent, memory, acted, carry, transition)
        obs = obs.copy()
        obs[alive] = stepped.next_obs[alive]
        alive = alive & ~transition.ended.ravel()
        rows.append(transition)
    episodes = jax.tree.map(lambda *r: _padded(r, horizon), *rows)
    return carry, episodes


def _padded(rows: tuple[np.ndarray, ...], horizon: int) -> Array:
    """Rows `[tasks, episodes, …]` as `[tasks, episodes, horizon, …]`, zero after the last."""
    stacked = np.stack(rows, axis=2)
    missing = [(0, 0)] * stacked.ndim
    missing[2] = (0, horizon - len(rows))
    return jnp.asarray(np.pad(stacked, missing))


class _Stepped(NamedTuple):
    """What the worlds answered, every leaf a NumPy array `[worlds, …]`."""

    next_obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    events: dict[str, Any]


def _step(worlds: list[World], actions: np.ndarray, obs: np.ndarray, alive: np.ndarray) -> _Stepped:
    """Step the worlds whose episode is alive; the others answer nothing."""
    success = bool(worlds[0].family.success_key)
    idle = (0.0, False, False, {"success": False} if success else {})
    answers = [
        world.step(action) if on else (last, *idle)
        for world, action, last, on in zip(worlds, actions, obs, alive, strict=True)
    ]
    next_obs, reward, terminated, truncated, events = zip(*answers, strict=True)
    return _Stepped(
        np.stack(next_obs),
        np.asarray(reward, np.float32),
        np.asarray(terminated, bool),
        np.asarray(truncated, bool),
        {name: np.asarray([event[name] for event in events]) for name in events[0]},
    )


def _transition(obs: Any, stepped: _Stepped, alive: Any, late: Any) -> Transition:
    """The transition but for `action` and `info`; `late` where the horizon is reached."""
    cut = alive & ~stepped.terminated & (stepped.truncated | late)
    return Transition(
        obs=obs,
        action=None,  # pyright: ignore[reportArgumentType]
        reward=stepped.reward,
        terminated=stepped.terminated,
        truncated=cut,
        next_obs=stepped.next_obs,
        valid=alive,
        info={},
        events=stepped.events,
    )


# ---- packed lanes ------------------------------------------------------------------------------


def begin_rollout_on_host(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    key: PRNGKeyArray,
    lanes: int,
) -> RolloutState:
    """Return `begin_rollout` for a host family. It makes no world yet (`rollout_on_host` does), so
    it may be traced; until then `RolloutState.obs` is zero."""
    return _new_trials(agent, problem, family, jax.random.split(key, lanes))


@eqx.filter_jit
def _new_trials(
    agent: AbstractAgent, problem: Problem, family: AbstractFamily, keys: PRNGKeyArray
) -> RolloutState:
    """New tasks for as many lanes as there are keys, in worlds yet to be made."""
    space = family.observation_space

    def one(key: PRNGKeyArray) -> RolloutState:
        task_key, start_key, begin_key, reset_key = jax.random.split(key, 4)
        params = strong(family.sample(task_key, "train"))
        context = problem.context(family, params)
        memory = agent.start(context, start_key)
        zero = jnp.zeros((), jnp.int32)
        return strong(
            RolloutState(
                params=params,
                context=context,
                memory=memory,
                carry=agent.begin(memory, begin_key),
                obs=jnp.zeros(space.shape, space.dtype),
                state=WorldState(zero, zero, _seeds(reset_key)),
                elapsed=zero,
                episode=zero,
                score=jnp.zeros(()),
                fresh=jnp.ones((), bool),
            )
        )

    return jax.vmap(one)(keys)


@eqx.filter_jit
def _new_episodes(
    agent: AbstractAgent, rollout_state: RolloutState, keys: PRNGKeyArray
) -> tuple[Memory, Carry, Int[Array, " lanes"]]:
    """Memory and carry of the same tasks' next episodes, and seeds to reset with."""

    def one(lane: RolloutState, key: PRNGKeyArray):
        adapt_key, begin_key, reset_key = jax.random.split(key, 3)
        carries = jax.tree.map(lambda x: x[None], lane.carry)
        memory = like(agent.adapt(lane.memory, carries, None, adapt_key), lane.memory)
        return memory, like(agent.begin(memory, begin_key), lane.carry), _seeds(reset_key)

    return jax.vmap(one)(rollout_state, keys)


_select = jax.jit(select)


@eqx.filter_jit
def _renewal_keys(
    keys: PRNGKeyArray, time: np.int32, lanes: int
) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Keys of a step's new episodes and new trials."""
    episode_keys, trial_keys = jax.random.split(jax.random.split(keys[time])[1], (2, lanes))
    return episode_keys, trial_keys


def _renewed(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    rollout_state: RolloutState,
    mask: Any,
    keys: PRNGKeyArray,
) -> RolloutState:
    """A new trial in the lanes of `mask`, in worlds yet to be made."""
    return _select(jnp.asarray(mask), _new_trials(agent, problem, family, keys), rollout_state)


def rollout_on_host(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    rollout_state: RolloutState,
    key: PRNGKeyArray,
    steps: int,
    episodes: int = 1,
) -> tuple[RolloutState, Rollout]:
    """Return `rollout` for a host family."""
    lanes = rollout_state.elapsed.shape[0]
    gone = lost(rollout_state)
    if gone.any():
        gone_key, key = jax.random.split(key)
        rollout_state = _renewed(
            agent, problem, family, rollout_state, gone, jax.random.split(gone_key, lanes)
        )
    worlds, rollout_state = open_worlds(family, rollout_state)
    host = rollout_state._replace(
        elapsed=np.array(rollout_state.elapsed),
        episode=np.array(rollout_state.episode),
        score=np.array(rollout_state.score),
        fresh=np.array(rollout_state.fresh),
    )
    everyone = np.ones(lanes, bool)
    rows: list[Rollout] = []
    keys = jax.random.split(key, steps)
    for time in range(steps):
        host, row = _step_lanes(agent, family, host, worlds, keys, time, everyone, episodes)
        ended = row.transitions.ended
        if ended.any():
            trial_end = row.trial_end
            episode_keys, trial_keys = _renewal_keys(keys, np.int32(time), lanes)
            again = ended & ~trial_end
            if again.any():
                host = _next_episodes(agent, host, worlds, again, episode_keys)
            if trial_end.any():
                left = [free(int(number)) for number in host.state.number[trial_end]]
                rollout_state = _renewed(agent, problem, family, host, trial_end, trial_keys)
                worlds, rollout_state = open_worlds(family, rollout_state, left)
                host = jax.tree.map(np.array, rollout_state)
        rows.append(row)
    experience = jax.tree.map(lambda *r: jnp.asarray(np.stack(r)), *rows)
    return strong(host), experience


def _step_lanes(
    agent: AbstractAgent,
    family: AbstractFamily,
    rollout_state: RolloutState,
    worlds: list[World],
    keys: PRNGKeyArray,
    time: int,
    everyone: np.ndarray,
    episodes: int,
) -> tuple[RolloutState, Rollout]:
    """One step in every lane, before anything that ended is renewed. NumPy leaves."""
    carry = jax.tree.map(lambda x: x[:, None], rollout_state.carry)
    action, taken, acted, info = _act(
        agent,
        family,
        rollout_state.memory,
        carry,
        rollout_state.obs[:, None],
        keys,
        np.int32(time),
        True,
    )
    action, info, taken = jax.tree.map(lambda x: x[:, 0], jax.device_get((action, info, taken)))
    stepped = _step(worlds, taken, rollout_state.obs, everyone)
    transition = _transition(
        rollout_state.obs, stepped, everyone, rollout_state.elapsed + 1 >= family.horizon
    )
    transition = transition._replace(action=action, info=info)
    one = jax.tree.map(lambda x: x[:, None], transition)
    observed = _observe(agent, rollout_state.memory, acted, carry, one)
    score = rollout_state.score + transition.reward
    trial_end = transition.ended & (rollout_state.episode + 1 >= episodes)
    row = Rollout(transition, rollout_state.fresh, trial_end, rollout_state.episode, score)
    return rollout_state._replace(
        carry=jax.tree.map(lambda x: x[:, 0], observed),
        obs=stepped.next_obs,
        state=rollout_state.state._replace(steps=rollout_state.state.steps + 1),
        elapsed=rollout_state.elapsed + 1,
        score=score,
        fresh=np.zeros_like(rollout_state.fresh),
    ), row


def _next_episodes(
    agent: AbstractAgent,
    rollout_state: RolloutState,
    worlds: list[World],
    mask: Any,
    keys: PRNGKeyArray,
) -> RolloutState:
    """The same task's next episode in the lanes of `mask`."""
    memory, carry, seeds = _new_episodes(agent, rollout_state, keys)
    memory, carry = _select(
        jnp.asarray(mask), (memory, carry), (rollout_state.memory, rollout_state.carry)
    )
    obs, seeds = rollout_state.obs.copy(), np.asarray(seeds)
    for lane in np.flatnonzero(mask):
        obs[lane] = worlds[lane].reset(int(seeds[lane]))
    return rollout_state._replace(
        memory=memory,
        carry=carry,
        obs=obs,
        elapsed=np.where(mask, np.int32(0), rollout_state.elapsed),
        episode=np.where(mask, rollout_state.episode + 1, rollout_state.episode),
        score=np.where(mask, np.float32(0), rollout_state.score),
    )
