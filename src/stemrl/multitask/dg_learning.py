"""DG-learning: learning to achieve goals (Kaelbling 1993, IJCAI).

The problem: an agent is sent to one goal after another. Q-learning that is told the goal learns of
each step only what it means for the goal pursued. The idea: where a step led does not depend on
what was wanted, so it is experience for *every* goal. With DG(s, a, g) the expected number of steps
to g from s by a, at each transition (s, a, s′), for all g:

    DG(s, a, g) ← (1 − α) DG(s, a, g) + α (1 + [s′ ≠ g] minₐ′ DG(s′, a′, g))

And distances obey a triangle: to go by way of i is one way to go. *Relaxation* tightens the estimate
with a few intermediate states i, drawn anew at each step:

    DG(s, a, g) ← min(DG(s, a, g), DG(s, a, i) + minₐ′ DG(i, a′, g) + margin)

(The margin is ours: estimates are noisy where moves are, the minimum over many finds the errors, and
without it the table ends up too optimistic to act by.)

The table starts at a distance larger than any, so that what is not known is never a shortcut. The
alternatives that the paper argues against are here too, by `goals`: `current` is Q-learning on the
goal pursued, `hindsight` adds some goals that the same chunk of experience reached later (HER in a
table).
"""

from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractGoalFamily,
    AbstractLearner,
    Action,
    Carry,
    Context,
    Discrete,
    Info,
    Memory,
    Obs,
    Problem,
    UserError,
)
from ..rl.experience import Rollout, RolloutState
from ..rl.fitting import require_positive
from ..rl.rollout import begin_rollout, rollout

Goals = Literal["all", "current", "hindsight"]
"""Which goals a step teaches: all (DG-learning), the one pursued (Q-learning), or that one and some
reached later (hindsight)."""


class DistanceAgent(AbstractAgent):
    """An agent that takes the action with the shortest estimated way to the goal; among equals,
    each with the same probability. With probability `exploration` it takes any action. Its memory
    is the goal's number."""

    table: Float[Array, "goals states actions"]
    exploration: Float[Array, ""]
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return jnp.argmax(context).astype(jnp.int32)

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        distance = self.table[memory, obs]
        if self.greedy:
            return jnp.argmin(distance).astype(jnp.int32), carry, {"goal": memory}
        tie_key, explore_key, action_key = jax.random.split(key, 3)
        equal = jnp.where(distance <= jnp.min(distance), 0.0, -jnp.inf)
        best = jax.random.categorical(tie_key, equal)
        anything = jax.random.randint(action_key, (), 0, distance.shape[0])
        explore = jax.random.bernoulli(explore_key, self.exploration)
        return jnp.where(explore, anything, best).astype(jnp.int32), carry, {"goal": memory}


class DGState(eqx.Module):
    """Everything that DG-learning knows."""

    table: Float[Array, "goals states actions"]
    """DG(s, a, g), expected steps."""
    rollout_state: RolloutState
    key: PRNGKeyArray


class Step(eqx.Module):
    """A transition as the table sees it, int32 scalars, or with leading dimensions many."""

    state: Int[Array, "..."]
    action: Int[Array, "..."]
    next_state: Int[Array, "..."]
    goals: Int[Array, "... taught"] | None
    """Which goals it teaches; all if none."""
    through: Int[Array, "... intermediates"]
    """The states that a way may lead through."""


class DGLearning(AbstractLearner):
    """Tabular distances to every goal, on families with numbered states that are the goals; reveal
    must be `context`."""

    name: ClassVar[str] = "dg-learning"

    goals: Goals = eqx.field(static=True, default="all")
    """Which goals a step teaches: all, current or hindsight."""
    intermediates: int = eqx.field(static=True, default=0)
    """Intermediate states with which a step's distances are relaxed; 0: no relaxation."""
    relaxation_margin: float = 5.0
    """Steps by which a way through an intermediate state must be shorter before it counts."""
    hindsight_goals: int = eqx.field(static=True, default=4)
    """With hindsight: goals reached later that a step teaches, beside the one pursued."""
    num_envs: int = eqx.field(static=True, default=1)
    """Environments side by side."""
    rollout_length: int = eqx.field(static=True, default=20)
    """Steps in each environment between two updates of the table."""
    learning_rate: float = 0.1
    """α."""
    exploration: float = 0.2
    """Probability of a random action while collecting."""
    initial_distance: float = 100.0
    """What the table starts at, in steps: more than any true distance, for relaxation takes what is
    small to be known."""

    def __check_init__(self):
        require_positive(self, "num_envs", "rollout_length", "hindsight_goals")
        if self.goals not in get_args(Goals):
            raise UserError(
                f"goals must be one of {', '.join(get_args(Goals))}, not {self.goals!r}"
            )
        if self.intermediates < 0:
            raise UserError(f"intermediates must be at least 0, not {self.intermediates}")

    def init(self, problem: Problem, key: PRNGKeyArray) -> DGState:
        states, actions = _table_size(self, problem)
        rollout_key, key = jax.random.split(key)
        table = jnp.full((states, states, actions), self.initial_distance, jnp.float32)
        return DGState(
            table=table,
            rollout_state=begin_rollout(
                self._agent(table, 1.0), problem, problem.source, rollout_key, self.num_envs
            ),
            key=key,
        )

    def collect(self, problem: Problem, state: DGState) -> tuple[DGState, Rollout]:
        key, rollout_key = jax.random.split(state.key)
        rollout_state, experience = rollout(
            self._agent(state.table, self.exploration),
            problem,
            problem.source,
            state.rollout_state,
            rollout_key,
            self.rollout_length,
        )
        return DGState(state.table, rollout_state, key), experience

    def learn(
        self, problem: Problem, state: DGState, experience: Rollout
    ) -> tuple[DGState, dict[str, Array]]:
        key, goal_key, through_key = jax.random.split(state.key, 3)
        steps = experience.transitions
        shape, states = steps.action.shape, state.table.shape[0]
        taught = steps.info["goal"][..., None]
        if self.goals == "hindsight":
            later = _reached_later(steps.next_obs, steps.ended, goal_key, self.hindsight_goals)
            taught = jnp.concatenate([taught, later], axis=-1)
        through = jax.random.randint(through_key, (*shape, self.intermediates), 0, states)
        rows = Step(
            steps.obs,
            steps.action,
            steps.next_obs,
            None if self.goals == "all" else taught,
            through,
        )
        # One after another, as they were taken: what a step has taught serves the next.
        rows = jax.tree.map(lambda x: x.reshape(steps.action.size, *x.shape[2:]), rows)
        # (Not `self._step` itself, which is hashed with the learner, and a float of it may be traced.)
        table, errors = lax.scan(lambda t, row: self._step(t, row), state.table, rows)
        metrics = {"return": experience.mean_return(), "loss/distance": jnp.mean(errors)}
        return DGState(table, state.rollout_state, key), metrics

    def _step(self, table: Array, step: Step) -> tuple[Array, Array]:
        """What one transition teaches."""
        goals = jnp.arange(table.shape[0]) if step.goals is None else step.goals
        onwards = jnp.min(table[goals, step.next_state], axis=-1)
        target = 1.0 + jnp.where(goals == step.next_state, 0.0, onwards)
        old = table[goals, step.state, step.action]
        new = old + self.learning_rate * (target - old)
        if step.through.shape[-1]:
            via = step.through
            first = table[via, step.state, step.action][:, None]
            rest = jnp.min(table[goals[None, :], via[:, None]], axis=-1)
            # Through the goal itself leads only the estimate that is being learned.
            rest = jnp.where(via[:, None] == goals[None, :], jnp.inf, rest)
            # A minimum over noisy estimates finds the errors among them; hence the margin.
            new = jnp.minimum(new, jnp.min(first + rest, axis=0) + self.relaxation_margin)
        return table.at[goals, step.state, step.action].set(new), jnp.mean(jnp.abs(target - old))

    def agent(self, problem: Problem, state: DGState) -> DistanceAgent:
        return self._agent(state.table, 0.0)

    def _agent(self, table: Array, exploration: float | Array) -> DistanceAgent:
        return DistanceAgent(table=table, exploration=jnp.asarray(exploration, jnp.float32))

    def steps_per_update(self, problem: Problem) -> int:
        return self.num_envs * self.rollout_length


def _reached_later(
    reached: Int[Array, "time envs"], ended: Array, key: PRNGKeyArray, n: int
) -> Int[Array, "time envs n"]:
    """States reached at or after each step within its episode, as far as this chunk holds it: `n`
    draws each."""
    time = jnp.arange(reached.shape[0])[:, None]
    # The last step of the episode that each step belongs to.
    last = lax.cummin(jnp.where(ended, time, reached.shape[0] - 1), axis=0, reverse=True)
    drawn = jax.random.uniform(key, (*reached.shape, n))
    at = time[..., None] + (drawn * (last - time + 1)[..., None]).astype(jnp.int32)
    return jnp.take_along_axis(reached[..., None], jnp.minimum(at, last[..., None]), axis=0)


def _table_size(learner: AbstractLearner, problem: Problem) -> tuple[int, int]:
    """States and actions. Raises `UserError` where the family has no table of goals."""
    family = problem.source
    states, actions = family.observation_space, family.action_space
    if not isinstance(family, AbstractGoalFamily) or not (
        isinstance(states, Discrete)
        and isinstance(actions, Discrete)
        and family.goal_space == states
    ):
        raise UserError(
            f"'{learner.name}' needs numbered states that are the goals, as 'goal-grid' has;"
            f" '{family.name}' has none"
        )
    if problem.reveal != "context":
        raise UserError(
            f"the policy of '{learner.name}' must be told its goal: train with reveal 'context'"
        )
    return states.n, actions.n
