"""Playing in packed lanes: for learners that need no whole episodes.

A lane plays one episode after another, `episodes` of the same task (a trial), then draws a new
task. `[time, lanes]` is full of real steps, whatever the episodes' lengths; an episode that is
unfinished when a chunk ends goes on in the next.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    Problem,
    any_anywhere,
)
from .devices import AXIS, DIVIDED, share, split
from .experience import Rollout, RolloutState, like, select, strong, tracing
from .host import begin_rollout_on_host, rollout_on_host
from .play import batched_step


def begin_rollout(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    key: PRNGKeyArray,
    lanes: int,
) -> RolloutState:
    """Return the state of `lanes` lanes at the start of their first trial, on tasks of the family's
    `train` split."""
    if family.stepping == "host":
        return begin_rollout_on_host(agent, problem, family, key, lanes)
    return jax.vmap(lambda k: _new_trial(agent, problem, family, k))(jax.random.split(key, lanes))


def rollout(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    rollout_state: RolloutState,
    key: PRNGKeyArray,
    steps: int,
    episodes: int = 1,
) -> tuple[RolloutState, Rollout]:
    """Take `steps` steps in every lane, going on from `rollout_state`. Return the next state and
    the steps, `[time, lanes, …]`.

    The agent's `episodes_per_round` must be 1. After each of a trial's `episodes` episodes it
    adapts on its carry alone (`adapt` is given `None` for the episodes). The memory in
    `rollout_state` was made by the agent of an earlier update; only what the agent itself holds is
    always up to date. Inside `sharing` every device plays its share of the lanes.
    """
    if agent.episodes_per_round != 1:
        raise ValueError(
            f"rollout plays episode by episode; this agent's episodes_per_round is {agent.episodes_per_round}"
        )
    if family.stepping == "host":
        return rollout_on_host(agent, problem, family, rollout_state, key, steps, episodes)

    def mine(everyone, rollout_state):
        agent, key = everyone
        # Outside of any program, as beside a target on the host: compiled once, not at every call.
        run = _rollout if tracing(key) else _rollout_compiled
        return run(agent, problem, family, rollout_state, key, steps, episodes)

    by_lane = PartitionSpec(None, AXIS)
    return share(mine, (agent, key), strong(rollout_state), out=(DIVIDED, by_lane))


def _rollout(
    agent: AbstractAgent,
    problem: Problem,
    family: AbstractFamily,
    rollout_state: RolloutState,
    key: PRNGKeyArray,
    steps: int,
    episodes: int,
) -> tuple[RolloutState, Rollout]:
    """`rollout` on one device."""
    env, horizon = family.seen_env, family.horizon
    lanes = rollout_state.elapsed.shape[0]

    def step(rollout_state: RolloutState, key: PRNGKeyArray):
        step_key, renew_key = jax.random.split(key)
        keys = split(step_key, (2, lanes, 1), axis=1)
        # A lane is a task with a width of one.
        carry, obs, state = jax.tree.map(
            lambda x: x[:, None], (rollout_state.carry, rollout_state.obs, rollout_state.state)
        )
        acted, transition, stepped = batched_step(
            agent, env, rollout_state.memory, carry, obs, state, rollout_state.params, keys
        )
        acted, transition, stepped = jax.tree.map(lambda x: x[:, 0], (acted, transition, stepped))
        late = rollout_state.elapsed + 1 >= horizon
        transition = transition._replace(
            truncated=~transition.terminated & (transition.truncated | late)
        )
        observed = jax.vmap(agent.observe)(rollout_state.memory, acted, transition)
        ended = transition.ended
        trial_end = ended & (rollout_state.episode + 1 >= episodes)
        score = rollout_state.score + transition.reward
        row = Rollout(transition, rollout_state.fresh, trial_end, rollout_state.episode, score)
        rollout_state = rollout_state._replace(
            carry=like(observed, rollout_state.carry),
            obs=like(transition.next_obs, rollout_state.obs),
            state=like(stepped, rollout_state.state),
            elapsed=rollout_state.elapsed + 1,
            score=score,
            fresh=jnp.zeros(lanes, bool),
        )

        def renew(rollout_state: RolloutState) -> RolloutState:
            episode_keys, trial_keys = split(renew_key, (2, lanes), axis=1)
            episode = jax.vmap(lambda lane, k: _new_episode(agent, family, lane, k))
            trial = jax.vmap(lambda k: _new_trial(agent, problem, family, k))
            rollout_state = select(
                ended & ~trial_end,
                like(episode(rollout_state, episode_keys), rollout_state),
                rollout_state,
            )
            # Most episodes end no trial, and to draw a task can cost far more than to begin again.
            return lax.cond(
                any_anywhere(trial_end),
                lambda rollout_state: select(
                    trial_end, like(trial(trial_keys), rollout_state), rollout_state
                ),
                lambda rollout_state: rollout_state,
                rollout_state,
            )

        return lax.cond(
            any_anywhere(ended), renew, lambda rollout_state: rollout_state, rollout_state
        ), row

    return lax.scan(step, rollout_state, jax.random.split(key, steps))


_rollout_compiled = eqx.filter_jit(_rollout)


def _new_episode(
    agent: AbstractAgent, family: AbstractFamily, lane: RolloutState, key: PRNGKeyArray
) -> RolloutState:
    """The same task's next episode, after an adaptation on the last carry."""
    adapt_key, begin_key, reset_key = jax.random.split(key, 3)
    carries = jax.tree.map(lambda x: x[None], lane.carry)
    memory = agent.adapt(lane.memory, carries, None, adapt_key)
    obs, state = family.seen_env.reset(reset_key, lane.params)
    return lane._replace(
        memory=memory,
        carry=agent.begin(memory, begin_key),
        obs=obs,
        state=state,
        elapsed=jnp.zeros((), jnp.int32),
        episode=lane.episode + 1,
        score=jnp.zeros(()),
    )


def _new_trial(
    agent: AbstractAgent, problem: Problem, family: AbstractFamily, key: PRNGKeyArray
) -> RolloutState:
    """A new task, and its first episode."""
    task_key, start_key, begin_key, reset_key = jax.random.split(key, 4)
    params = strong(family.sample(task_key, "train"))
    context = problem.context(family, params)
    memory = agent.start(context, start_key)
    obs, state = family.seen_env.reset(reset_key, params)
    zero = jnp.zeros((), jnp.int32)
    return strong(
        RolloutState(
            params=params,
            context=context,
            memory=memory,
            carry=agent.begin(memory, begin_key),
            obs=obs,
            state=state,
            elapsed=zero,
            episode=zero,
            score=jnp.zeros(()),
            fresh=jnp.ones((), bool),
        )
    )
