"""Whole trials as a replay holds them, to be read again from the start by a memory.

A trial's episodes stand one after another, each with its padding, so that all trials have the same
length. A memory passes over the padding; where an episode has ended before its time, what follows its
last step is the next episode's first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core import Context, Problem, Transition
from ..rl import outputs_for
from ..rl.experience import zeros_of
from .history import History, HistoryAgent, action_taken


class Story(NamedTuple):
    """A trial in the replay: its episodes one after another with their padding, `[time, …]`. What
    is read also after the last step is `[time + 1, …]`. With leading dimensions, many. All values
    are raw."""

    obs: Array
    """`[time + 1, …]`; the last one followed the last step."""
    previous: Float[Array, "... time1 previous"]
    """What came of the step before, in the form of `History.previous`."""
    valid: Bool[Array, "... time1"]
    """False on padding."""
    action: Float[Array, "... time actions"]
    """The action in the form in which the world took it."""
    reward: Float[Array, "... time"]
    carries_on: Float[Array, "... time"]
    """0 where what follows the step is worth nothing, otherwise 1."""
    following: Int[Array, "... time"]
    """The time at which the next input is read: that of the next step that is no padding, or the
    end."""
    context: Context

    @classmethod
    def empty(cls, problem: Problem, episodes: int) -> "Story":
        """Return a trial of zeros, as a template for trials of `episodes` episodes."""
        family = problem.source
        time, space = episodes * family.horizon, family.observation_space
        actions = outputs_for(family.action_space)
        return cls(
            obs=jnp.zeros((time + 1, *space.shape), space.dtype),
            previous=jnp.zeros((time + 1, actions + 2)),
            valid=jnp.zeros(time + 1, bool),
            action=jnp.zeros((time, actions)),
            reward=jnp.zeros(time),
            carries_on=jnp.zeros(time),
            following=jnp.zeros(time, jnp.int32),
            context=zeros_of(
                lambda: problem.context(family, family.sample(jax.random.key(0), "train"))
            ),
        )

    @classmethod
    def of(cls, agent: HistoryAgent, steps: Transition, context: Context) -> "Story":
        """Make a trial of the steps `[episodes, 1, time, …]` that `agent` played.

        With one episode a trial, its own end is the trial's, and a time limit cuts without ending:
        what is read after it says nothing of an end, which no step of such a trial ever reads. With
        several, nothing ends before the last one does, and that is the end of all."""
        episodes = steps.reward.shape[0]
        steps = jax.tree.map(lambda x: x[:, 0].reshape(-1, *x.shape[3:]), steps)
        time = jnp.arange(steps.reward.shape[0])
        later = lax.cummin(jnp.where(steps.valid, time, time.size), reverse=True)
        following = jnp.append(later[1:], time.size)
        last = jnp.max(jnp.where(steps.valid, time, 0))
        end = jax.tree.map(lambda x: x[last], steps)
        if episodes == 1:
            end = end._replace(truncated=jnp.zeros_like(end.truncated))
        told = agent.observe(None, History(None, end.info["previous"]), end)  # pyright: ignore
        over = steps.terminated if episodes == 1 else time == last
        return cls(
            obs=jnp.concatenate([steps.obs, end.next_obs[None]]),
            previous=jnp.concatenate([steps.info["previous"], told.previous[None]]),
            valid=jnp.append(steps.valid, True),
            action=action_taken(agent.action_space, steps.action),
            reward=steps.reward,
            carries_on=1.0 - over.astype(jnp.float32),
            following=following,
            context=context,
        )
