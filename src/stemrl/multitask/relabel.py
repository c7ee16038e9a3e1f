"""Goals put into stored episodes afterwards.

A stored step says nothing of its goal but through the task's parameters, so it serves any goal:
`with_goal` puts one in, `reward` says what the step would have earned and whether it would have
ended the episode. All of it happens when a minibatch is drawn, as pure functions of what is stored.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractGoalFamily, Params, Problem, unscale_action
from ..rl.experience import like, select
from ..rl.replay import Episode, Row, draw_steps

Strategy = Literal["final", "future", "episode", "random", "none"]
"""Which reached goals are put in (1707.01495, §4.5): the episode's last, one that is reached later
in it, one from anywhere in it, one from any episode, or none."""


def hindsight(
    strategy: Strategy,
    length: Int[Array, " episodes"],
    episode: Int[Array, " n"],
    time: Int[Array, " n"],
    key: PRNGKeyArray,
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Choose, for each step `time` of `episode`, the stored step whose `next_obs` becomes its goal
    (§4.5). Return that step's episode and time.

    `final`: the episode's last step; `future`: this step or a later one of the same episode;
    `episode`: any step of the same episode; `random`: any step of all.
    """
    if strategy == "random":
        return draw_steps(length, key, episode.shape[0])
    last = length[episode]
    if strategy == "final":
        return episode, last - 1
    first = time if strategy == "future" else jnp.zeros_like(time)
    return episode, jax.random.randint(key, time.shape, first, last)


def draw_relabelled(
    problem: Problem,
    episodes: Episode,
    key: PRNGKeyArray,
    n: int,
    strategy: Strategy,
    hindsight_goals: int,
) -> Row:
    """Draw `n` steps, each of the stored steps `[episodes, time, …]` as likely as the others. On
    average, all but one of `hindsight_goals` + 1 get another goal, chosen by `strategy`. Rewards,
    terminations and contexts are those under the goal that the step then has."""
    family = problem.source
    assert isinstance(family, AbstractGoalFamily)
    draw_key, goal_key, choice_key = jax.random.split(key, 3)
    episode, time = draw_steps(episodes.length, draw_key, n)
    params = jax.tree.map(lambda x: x[episode], episodes.params)
    if strategy != "none":
        goal = jax.vmap(family.achieved)(
            episodes.next_obs[hindsight(strategy, episodes.length, episode, time, goal_key)]
        )
        relabelled = like(jax.vmap(family.with_goal)(params, goal), params)
        share = hindsight_goals / (hindsight_goals + 1)
        params = select(jax.random.bernoulli(choice_key, share, (n,)), relabelled, params)
    obs, action, next_obs = (
        x[episode, time] for x in (episodes.obs, episodes.action, episodes.next_obs)
    )
    reward, carries_on = judge(family, obs, action, next_obs, params)
    context = jax.vmap(lambda p: problem.context(family, p))(params)
    return Row(obs, context, action, reward, carries_on, next_obs)


def judge(
    family: AbstractGoalFamily, obs: Array, action: Array, next_obs: Array, params: Params
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Return the rewards of `n` steps under the goals in `params`, and where the episode carries
    on."""
    action = jax.vmap(lambda a: unscale_action(family.action_space, a))(action)
    reward, terminated = jax.vmap(family.reward)(obs, action, next_obs, params)
    return jnp.asarray(reward, jnp.float32), 1.0 - terminated.astype(jnp.float32)
