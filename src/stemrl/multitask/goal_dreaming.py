"""Goals of one's own: the policy dreams them from what it has reached, favouring the rare
(after Pong et al. 2020, Skew-Fit, 1903.03698; the wandering after Ecoffet et al. 2019, 1901.10995).

The problem: a world with no reward at all, in which one shall be able to go wherever one can go. Goals
drawn from a box are mostly out of reach, and what is far away is never reached by chance. The idea:
draw goals from what was reached, but so that rare ones come up as often as common ones,

    g ~ p(g) ∝ p̂(g)^{1−skew},   p̂: density of what was reached (by kernels as wide as the tolerance)

pay oneself for reaching them, r(s′, g) = 1[s′ is g] − 1 and nothing from the environment, and once
there act at random: the frontier grows by what is found beyond it, and being rare that is dreamed of
next. With `skew` = 1 dreams are uniform over all that was reached, however seldom: the fixed point is
the uniform distribution over what can be reached. Learning is that of hindsight experience replay.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    AbstractGoalFamily,
    Action,
    Carry,
    Context,
    EnvState,
    Info,
    Memory,
    Obs,
    Params,
    Problem,
    Space,
    Split,
    Transition,
    UserError,
)
from ..core.family import Goal
from ..rl.experience import like, select
from ..rl.off_policy import Explorer
from ..rl.play import play
from ..rl.replay import Episode, Row, draw_steps
from ..tasks.transforms import AbstractTransform
from .her import HER, HERState, Played, require_goals
from .relabel import hindsight


class Aim(NamedTuple):
    """What a dreaming agent is told: its goal, and how the policy sees it."""

    goal: Goal
    context: Context


class AimlessState(NamedTuple):
    """The environment's own state, and what was seen of it."""

    inner: EnvState
    obs: Obs


class AimlessEnv(eqx.Module):
    """A family's environment in which reaching its own goal ends nothing. That goal is one that nobody is
    told, and it would cut short the longest ways most often."""

    family: AbstractGoalFamily = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, AimlessState]:
        """Return what the family's own reset returns."""
        obs, inner = self.family.seen_env.reset(key, params)
        return obs, AimlessState(inner, obs)

    def step(
        self, key: PRNGKeyArray, state: AimlessState, action: Action, params: Params
    ) -> tuple[Obs, AimlessState, Array, Array, Array, Info]:
        """Take the family's own step."""
        obs, inner, reward, terminated, truncated, events = self.family.seen_env.step(
            key, state.inner, action, params
        )
        _, at_goal = self.family.reward(state.obs, action, obs, params)
        over = jnp.asarray(terminated, bool) & ~jnp.asarray(at_goal, bool)
        return obs, AimlessState(inner, obs), reward, over, truncated, events

    def observation_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.observation_space

    def action_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.action_space


class Aimless(AbstractTransform):
    """A family whose episodes do not end at its own goal; never drawn from, only played."""

    family: AbstractGoalFamily = eqx.field(static=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The family's own."""
        return self.family.name

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The family's own."""
        return self.family.horizon

    @property
    def env(self) -> AimlessEnv:
        return AimlessEnv(self.family)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a task of the family."""
        return self.family.sample(key, split)

    def inside(self, params: Params, states: Any) -> tuple[AbstractFamily, Params, Any]:
        """Return the family, its task and its states."""
        return self.family, params, states.inner


class Dreamer(AbstractAgent):
    """An agent that goes for a goal, and wanders about at random once it has been there."""

    explorer: Explorer
    tolerance: Float[Array, ""]
    wander: Float[Array, ""]
    """Probability of a random action after the goal was reached."""
    family: AbstractGoalFamily = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Aim, key: PRNGKeyArray) -> Carry:
        return self.explorer.begin(memory.context, key), jnp.zeros((), bool)

    def act(
        self, memory: Aim, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        inner, reached = carry
        random = jnp.where(reached, self.wander, self.explorer.random)
        explorer = dataclasses.replace(self.explorer, random=random)
        action, inner, _ = explorer.act(memory.context, inner, obs, key)
        return action, (inner, reached), {}

    def observe(self, memory: Aim, carry: Carry, transition: Transition) -> Carry:
        inner, reached = carry
        now = near(self.family.achieved(transition.next_obs), memory.goal, self.tolerance)
        return inner, reached | now


class GoalDreaming(HER):
    """Learns to reach what can be reached, by goals of its own, without any reward from the
    environment; on families with goals; reveal must be `context`."""

    name: ClassVar[str] = "goal-dreaming"

    learner: str = eqx.field(static=True, default="sac")
    """The method that learns: dqn for discrete actions, td3 for continuous ones, sac for both; with
    hyper-parameters after it that are none of those below (`td3 exploration_noise=0.2`)."""
    tolerance: float = 0.1
    """How near to a goal is there, and how far apart two goals are different ones (the goal's units)."""
    skew: float = 1.0
    """How much the rare is favoured: 0 draws goals as often as they were reached, 1 uniformly over all
    that was reached."""
    dreamed: float = 1.0
    """Share of goals that are dreamed; the others are drawn uniformly from the box of all goals."""
    wander: float = 1.0
    """Probability of a random action once the goal was reached, up to the episode's end."""
    candidates: int = eqx.field(static=True, default=512)
    """Reached goals that dreams are drawn from, and whose density is estimated, in an update."""

    def __check_init__(self):
        if self.candidates < 2:
            raise UserError(f"candidates must be at least 2, not {self.candidates}")

    def init(self, problem: Problem, key: PRNGKeyArray) -> HERState:
        require_goals(self, problem)
        if isinstance(self.tolerance, float) and self.tolerance <= 0:
            raise UserError(f"tolerance must be above 0, not {self.tolerance}")
        state = super().init(problem, key)
        family = problem.source
        assert isinstance(family, AbstractGoalFamily)
        shape = jax.eval_shape(family.achieved, state.replay.rows.obs[0, 0])
        goals = jax.tree.map(lambda x: jnp.zeros((state.replay.capacity, *x.shape), x.dtype), shape)
        return eqx.tree_at(lambda s: s.replay.rows.params, state, (state.replay.rows.params, goals))

    def collect(self, problem: Problem, state: HERState) -> tuple[HERState, Played]:
        key, task_key, dream_key, play_key = jax.random.split(state.key, 4)
        family = problem.source
        assert isinstance(family, AbstractGoalFamily)
        goals, _ = self.dream(problem, state, dream_key)
        # The environment is not told the goal; what it pays, and its own goal, are no matter. (Worlds on the
        # host end as they please.)
        params = family.tasks(task_key, "train", self.episodes)
        told = like(jax.vmap(family.with_goal)(params, goals), params)
        context = jax.vmap(lambda p: problem.context(family, p))(told)
        agent = Dreamer(
            explorer=self.explorer(problem, state),
            tolerance=jnp.asarray(self.tolerance, jnp.float32),
            wander=jnp.asarray(self.wander, jnp.float32),
            family=family,
        )
        world = family if family.stepping == "host" else Aimless(family=family)  # pyright: ignore[reportCallIssue]
        trials = play(agent, world, params, Aim(goals, context), play_key, 1)
        return eqx.tree_at(lambda s: s.key, state, key), Played((told, goals), trials)

    def dream(
        self, problem: Problem, state: HERState, key: PRNGKeyArray
    ) -> tuple[Goal, Float[Array, ""]]:
        """Draw a goal for each episode of an update, `[episodes, …]`. Return them, and how many
        different goals there are among those that were reached; two within the tolerance count as
        one."""
        draw_key, dream_key, box_key, choice_key = jax.random.split(key, 4)
        family, episodes = problem.source, state.replay.rows
        assert isinstance(family, AbstractGoalFamily)
        episode, time = draw_steps(episodes.length, draw_key, self.candidates)
        reached = jax.vmap(family.achieved)(episodes.next_obs[episode, time])
        density = kernel_density(vectors(reached), self.tolerance)
        index = jax.random.categorical(
            dream_key, -self.skew * jnp.log(density), shape=(self.episodes,)
        )
        dreams = jax.tree.map(lambda x: x[index], reached)
        box = jax.vmap(family.goal_space.sample)(jax.random.split(box_key, self.episodes))
        chosen = jax.random.bernoulli(choice_key, self.dreamed, (self.episodes,))
        # Before anything was reached there is nothing to dream of.
        chosen &= state.replay.size > 0
        return select(chosen, dreams, like(box, dreams)), jnp.mean(1.0 / density)

    def draw(self, problem: Problem, episodes: Episode, key: PRNGKeyArray, n: int) -> Row:
        """Draw `n` of the stored steps, most of them with another goal put in, with the reward that
        the learner pays itself."""
        family = problem.source
        assert isinstance(family, AbstractGoalFamily)
        draw_key, goal_key, choice_key = jax.random.split(key, 3)
        episode, time = draw_steps(episodes.length, draw_key, n)
        (params, goal), obs, action, next_obs = (
            jax.tree.map(lambda x: x[episode], episodes.params),
            *(x[episode, time] for x in (episodes.obs, episodes.action, episodes.next_obs)),
        )
        if self.strategy != "none":
            other = hindsight(self.strategy, episodes.length, episode, time, goal_key)
            put_in = jax.vmap(family.achieved)(episodes.next_obs[other])
            share = self.hindsight_goals / (self.hindsight_goals + 1)
            goal = select(jax.random.bernoulli(choice_key, share, (n,)), put_in, goal)
        params = like(jax.vmap(family.with_goal)(params, goal), params)
        there = jax.vmap(lambda o, g: near(family.achieved(o), g, self.tolerance))(next_obs, goal)
        there = there.astype(jnp.float32)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        return Row(obs, context, action, there - 1.0, 1.0 - there, next_obs)

    def outcome(
        self, problem: Problem, state: HERState, experience: Played
    ) -> dict[str, Float[Array, ""]]:
        """Return metrics on how the episodes of this update went, with the learner's own reward, up
        to the goal."""
        family = problem.source
        assert isinstance(family, AbstractGoalFamily)
        steps = jax.tree.map(lambda x: x[:, 0, 0], experience.trials.transitions)
        goals: Any = experience.params[1]
        there = jax.vmap(
            lambda obs, goal: jax.vmap(lambda o: near(family.achieved(o), goal, self.tolerance))(
                obs
            )
        )(steps.next_obs, goals)
        there &= steps.valid
        before = steps.valid & (jnp.cumsum(there, axis=1) == 0)
        _, apart = self.dream(problem, state, jax.random.fold_in(state.key, 1))
        return {
            "return": -jnp.mean(jnp.sum(before, axis=1).astype(jnp.float32)),
            "reached": jnp.mean(jnp.any(there, axis=1).astype(jnp.float32)),
            "goals": apart,
        }


def vectors(goals: Goal) -> Float[Array, "n entries"]:
    """Return goals `[n, …]` as vectors of floats."""
    leaves = [x.reshape(x.shape[0], -1).astype(jnp.float32) for x in jax.tree.leaves(goals)]
    return jnp.concatenate(leaves, axis=-1)


def near(goal: Goal, other: Goal, tolerance: float | Array) -> Bool[Array, ""]:
    """Return whether two goals are within `tolerance` of each other (Euclidean)."""
    one, two = (vectors(jax.tree.map(lambda x: x[None], g))[0] for g in (goal, other))
    return jnp.sum((one - two) ** 2) < tolerance**2


def kernel_density(points: Float[Array, "n entries"], width: float | Array) -> Float[Array, " n"]:
    """Return for each point the share of all points that is near it: the mean over all of
    exp(−d²/2w²). It is 1 where all are in one place, and 1/n where each is alone."""
    squares = jnp.sum(points**2, axis=-1)
    distance = squares[:, None] + squares[None] - 2.0 * points @ points.T
    kernel = jnp.exp(-jnp.maximum(distance, 0.0) / (2.0 * width**2))
    # A point is where it is, whatever is lost to rounding.
    return jnp.mean(jnp.where(jnp.eye(points.shape[0], dtype=bool), 1.0, kernel), axis=-1)
