"""Playing whole rounds of episodes: the evaluator, and on-policy collection in trials.

`play` lets an agent meet tasks: per task, `rounds` rounds of `agent.episodes_per_round` episodes, with an
adaptation after each. Everything is padded to the family's horizon, and everything of an episode
that has ended (state, carry, reward) stands still until its round is over.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..core import (
    AbstractAgent,
    AbstractFamily,
    Carry,
    Context,
    Environment,
    Memory,
    Params,
    Transition,
    count,
    unscale_action,
)
from .devices import share, split
from .experience import Trials, like, only_if, over, select, strong, tracing
from .host import play_on_host


def play(
    agent: AbstractAgent,
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    rounds: int,
    *,
    adapt_last: bool = False,
    task_batch: int | None = None,
) -> Trials:
    """Play `rounds` rounds of each task in `params`, adapting in between.

    **Arguments:**

    - `params`, `context`: the tasks, every leaf `[tasks, …]` (`context` may be `None`).
    - `rounds`: rounds of `agent.episodes_per_round` episodes each; at least 1.
    - `adapt_last`: also adapt after the last round; needed only where `Trials.memory` is.
    - `task_batch`: adapt this many tasks at once (all of them by default). On few cores a small
      number is faster for agents whose adaptation takes gradients.

    Compile it together with what uses its result; only outside of any program does it jit itself.
    Inside `sharing` every device plays its share of the tasks.
    """
    if family.stepping == "host":
        return play_on_host(agent, family, params, context, key, rounds, adapt_last=adapt_last)

    def mine(everyone, tasks):
        (agent, key), (params, context) = everyone, tasks
        # Outside of any program, as beside a target on the host: compiled once, not at every call.
        run = _play if tracing(key) else _play_compiled
        return run(agent, family, params, context, key, rounds, adapt_last, task_batch)

    return share(mine, (agent, key), (strong(params), context))


def _play(
    agent: AbstractAgent,
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    rounds: int,
    adapt_last: bool,
    task_batch: int | None,
) -> Trials:
    """`play` on one device."""
    tasks = count(params)
    start_key, rounds_key = jax.random.split(key)
    memory = strong(jax.vmap(agent.start)(context, split(start_key, (tasks,))))

    def play_round(memory: Memory, indexed_key):
        index, key = indexed_key
        episodes_key, adapt_key = jax.random.split(key)
        carries, episodes = play_episodes(agent, family, memory, params, episodes_key)

        def adapt(memory: Memory) -> Memory:
            # A memory without arrays has nothing to adapt, and nothing that a loop could return.
            if not jax.tree.leaves(memory):
                return memory

            def one(task):
                return agent.adapt(*task)

            args = (memory, carries, episodes, split(adapt_key, (tasks,)))
            adapted = (
                jax.vmap(one)(args)
                if task_batch is None
                else lax.map(one, args, batch_size=task_batch)
            )
            return like(adapted, memory)

        last = index == rounds - 1
        if rounds == 1:
            memory = adapt(memory) if adapt_last else memory
        elif adapt_last:
            memory = adapt(memory)
        else:
            memory = lax.cond(last, lambda m: m, adapt, memory)
        return memory, (carries, episodes)

    round_keys = jax.random.split(rounds_key, rounds)
    if rounds == 1:
        memory, (carries, episodes) = play_round(memory, (0, round_keys[0]))
        carries, episodes = jax.tree.map(lambda x: x[:, None], (carries, episodes))
    else:
        memory, (carries, episodes) = lax.scan(play_round, memory, (jnp.arange(rounds), round_keys))
        carries, episodes = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), (carries, episodes))
    return Trials(episodes, carries, memory)


_play_compiled = eqx.filter_jit(_play)


def play_episodes(
    agent: AbstractAgent,
    family: AbstractFamily,
    memory: Memory,
    params: Params,
    key: PRNGKeyArray,
) -> tuple[Carry, Transition]:
    """Return one round of every task: last carries `[tasks, episodes, …]`, transitions
    `[tasks, episodes, time, …]`."""
    env, horizon = family.seen_env, family.horizon
    batch = (count(params), agent.episodes_per_round)
    begin_key, reset_key, steps_key = jax.random.split(key, 3)
    carry = strong(over(agent.begin, "t-", memory, split(begin_key, batch)))
    obs, state = strong(over(env.reset, "-t", split(reset_key, batch), params))

    def step(loop, indexed_key):
        time, key = indexed_key

        def playing(loop):
            alive, carry, obs, state = loop
            keys = split(key, (2, *batch), axis=1)
            acted, transition, stepped = batched_step(
                agent, env, memory, carry, obs, state, params, keys
            )
            cut = ~transition.terminated & (transition.truncated | (time == horizon - 1))
            transition = transition._replace(
                reward=jnp.where(alive, transition.reward, 0.0),
                terminated=alive & transition.terminated,
                truncated=alive & cut,
                valid=alive,
            )
            observed = over(agent.observe, "tee", memory, acted, transition)
            new = like((observed, transition.next_obs, stepped), (carry, obs, state))
            kept = select(alive, new, (carry, obs, state))
            return (alive & ~transition.ended, *kept), transition

        return only_if(jnp.any(loop[0]), playing, loop)

    (_, carry, _, _), transitions = lax.scan(
        step,
        (jnp.ones(batch, bool), carry, obs, state),
        (jnp.arange(horizon), jax.random.split(steps_key, horizon)),
    )
    return carry, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), transitions)


def batched_step(
    agent: AbstractAgent,
    env: Environment,
    memory: Memory,
    carry: Carry,
    obs: PyTree[Array],
    state: PyTree[Array],
    params: Params,
    keys: PRNGKeyArray,
) -> tuple[Carry, Transition, PyTree[Array]]:
    """Act and step, `[tasks, episodes]` at once: the carry after acting, the transition (all of it
    valid, with the environment's own truncation) and the next state. `keys` is
    `[2, tasks, episodes]`."""
    action, acted, info = over(agent.act, "teee", memory, carry, obs, keys[0])
    next_obs, stepped, reward, terminated, truncated, events = over(
        env.step, "eeet", keys[1], state, unscale_action(env.action_space(), action), params
    )
    reward = jnp.asarray(reward, float)
    terminated = jnp.asarray(terminated, bool)
    truncated = jnp.asarray(truncated, bool) & ~terminated
    valid = jnp.ones(reward.shape, bool)
    transition = Transition(
        obs, action, reward, terminated, truncated, next_obs, valid, info, events
    )
    return acted, transition, stepped
