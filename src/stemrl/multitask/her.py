"""Hindsight experience replay (Andrychowicz et al. 2017, 1707.01495).

The problem: where only the goal pays, a learner that never reaches it learns nothing. The idea: an
episode that missed its goal g is a perfect example of how to reach whatever it did reach. A value
function that is told the goal, Q(s, a, g), can be taught with any goal g′, for it is known what the
same step would have earned under it; with deep Q-learning:

    r′ = r(s, a, s′; g′),   y = clip(r′ + γ maxₐ′ Q̄(s′, a′, g′), −1/(1 − γ), 0)
    L  = ½ E[(Q(s, a, g′) − y)²]

where g′ is, k times in k + 1, something that the episode reached later (`future`), and else the goal
that was pursued. A cycle (one update) plays a few episodes, each with a goal of its own, and takes a
few gradient steps. Any learner with a replay will do in the middle, for it only sees other rows:
deep Q-learning for discrete actions, TD3 (as the paper's DDPG) and SAC for continuous ones. The goal
is part of the task's parameters, and the policy sees it as the revealed context.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import registry
from ..core import (
    AbstractAgent,
    AbstractGoalFamily,
    AbstractLearner,
    Action,
    Carry,
    Context,
    Info,
    Memory,
    Obs,
    Params,
    Problem,
    UserError,
)
from ..naming import named_settings
from ..rl.experience import Trials
from ..rl.fitting import require_positive
from ..rl.normalize import CoarseNormalizer
from ..rl.off_policy import AbstractOffPolicy, Explorer, ValueRange, seen
from ..rl.play import play
from ..rl.policy import context_size, flatten, observation_size
from ..rl.replay import Episode, Replay, Row
from ..rl.returns import lowest_value
from .relabel import Strategy, draw_relabelled

SHARED = ("learning_rate", "discount", "target_rate", "hidden", "batch_size", "double")
"""Settings of HER that are the learner's, where it has them."""
WITHOUT_EFFECT = ("num_envs", "rollout_length", "update_to_data", "warm_up_steps")
"""Settings of a learner that plays by itself."""
AFTER_ANOTHER = ("tune", "updates_per_layer")
"""Settings of a learner that begins with what another training learned."""
PER_TASK = ("heads", "gradient_surgery")
"""Settings of a learner of a few tasks: goals are many."""


class Played(NamedTuple):
    """The episodes of a cycle, and their goals."""

    params: Params
    """`[episodes, …]`"""
    trials: Trials
    """One episode a task: `[episodes, 1, 1, time, …]`."""


class Scales(NamedTuple):
    """What networks see observations and goals by."""

    obs: CoarseNormalizer
    goal: CoarseNormalizer


class ScaledGoal(AbstractAgent):
    """An agent that is told its goal by the running mean and deviation of goals; its memory is the
    goal as it is."""

    policy: AbstractAgent
    goals: CoarseNormalizer
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return self.policy.begin(memory, key)

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        policy = dataclasses.replace(self.policy, greedy=self.greedy)
        return policy.act(self.goals(memory), carry, obs, key)


class HERState(eqx.Module):
    """Everything that HER knows."""

    learned: Any
    """What the inner learner has learned."""
    replay: Replay
    """Whole episodes."""
    scales: Scales | None
    """`None` where nothing is normalized."""
    key: PRNGKeyArray


class HER(AbstractLearner):
    """A learner with a replay to which hindsight is added, on families with goals; reveal must be
    `context`."""

    name: ClassVar[str] = "her"

    learner: str = eqx.field(static=True, default="dqn")
    """The method that learns: dqn for discrete actions, td3 for continuous ones, sac for both; with
    hyper-parameters after it that are none of those below (`td3 exploration_noise=0.2`)."""
    episodes: int = eqx.field(static=True, default=16)
    """Episodes an update, each with a goal of its own."""
    gradient_steps: int = eqx.field(static=True, default=40)
    """Gradient steps an update."""
    batch_size: int = eqx.field(static=True, default=128)
    """Stored steps in a gradient step."""
    strategy: Strategy = eqx.field(static=True, default="future")
    """Which reached goals are put in: final, future, episode, random or none."""
    hindsight_goals: int = eqx.field(static=True, default=4)
    """Steps with a goal put in for each step with the goal pursued, k."""
    capacity: int = eqx.field(static=True, default=10_000)
    """Episodes in the replay, rounded up to whole updates; a checkpoint holds them all."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    discount: float = 0.98
    """Discount factor γ."""
    target_rate: float = 0.05
    """How far slow copies of networks move towards them: once an update with dqn, at each gradient
    step with sac, at each of the policy's with td3."""
    exploration: float = 0.2
    """Probability of a random action while collecting."""
    clip_targets: bool = eqx.field(static=True, default=True)
    """Whether targets are kept in [−1/(1 − γ), 0]: where rewards are −1 and 0, they can only be
    there. (Not with sac, whose values hold entropy too.)"""
    double: bool = eqx.field(static=True, default=False)
    """Whether the network chooses the next action whose value the target network gives (dqn)."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256,))
    """Hidden layers (ReLU)."""
    normalize_observations: bool = eqx.field(static=True, default=False)
    """Whether networks see observations and goals by their running mean and deviation."""

    def __check_init__(self):
        require_positive(self, "episodes", "gradient_steps", "batch_size", "capacity")
        require_positive(self, "hindsight_goals")
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise UserError(f"strategy must be one of {known}, not {self.strategy!r}")
        _ = self.inner

    @property
    def inner(self) -> AbstractOffPolicy:
        """The learner to which hindsight is added."""
        name, other = named_settings("methods", self.learner)
        kind = registry.class_of("methods", name)
        if not issubclass(kind, AbstractOffPolicy):
            raise UserError(f"learner must be 'dqn', 'td3' or 'sac', not '{name}'")
        shared = {key: getattr(self, key) for key in SHARED if key in kind.__dataclass_fields__}
        ours = {field.name for field in dataclasses.fields(self)}
        if twice := sorted(other.keys() & ours):
            raise UserError(f"'{twice[0]}' is a setting of '{self.name}' itself: give it there")
        for idle in sorted(other.keys() & {*WITHOUT_EFFECT, *PER_TASK, *AFTER_ANOTHER}):
            why = f"'{self.name}' plays by itself"
            if idle in PER_TASK:
                why = "a goal is one of many"
            if idle in AFTER_ANOTHER:
                why = f"'{self.name}' begins with nothing that was learned before"
            raise UserError(f"'{idle}' of '{name}' has no place in '{self.name}': {why}")
        return kind(**shared, **other)

    def init(self, problem: Problem, key: PRNGKeyArray) -> HERState:
        require_goals(self, problem)
        learned_key, key = jax.random.split(key)
        family, goal_size = problem.source, context_size(problem)
        sizes = observation_size(family.observation_space), goal_size
        scales = Scales(*map(CoarseNormalizer.of, sizes)) if self.normalize_observations else None
        return HERState(
            learned=self.inner.begin(
                family.observation_space, family.action_space, goal_size, learned_key
            ),
            replay=Replay.of(Episode.empty(family), self.capacity, chunk=self.episodes),
            scales=scales,
            key=key,
        )

    def collect(self, problem: Problem, state: HERState) -> tuple[HERState, Played]:
        key, task_key, play_key = jax.random.split(state.key, 3)
        family = problem.source
        params = family.tasks(task_key, "train", self.episodes)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        trials = play(self.explorer(problem, state), family, params, context, play_key, 1)
        return eqx.tree_at(lambda s: s.key, state, key), Played(params, trials)

    def learn(
        self, problem: Problem, state: HERState, experience: Played
    ) -> tuple[HERState, dict[str, Array]]:
        key, draw_key, fit_key = jax.random.split(state.key, 3)
        trials = experience.trials
        steps = jax.tree.map(lambda x: x[:, 0, 0], trials.transitions)
        replay = state.replay.add(Episode.of(experience.params, steps))

        # All that the loop needs is drawn at once.
        shape = (self.gradient_steps, self.batch_size)
        rows = self.draw(problem, replay.rows, draw_key, shape[0] * shape[1])
        space, scales = problem.source.observation_space, state.scales
        if scales is not None:
            scales = Scales(
                scales.obs.update(flatten(space, steps.obs), steps.valid),
                scales.goal.update(rows.context),
            )
            rows = rows._replace(context=scales.goal(rows.context))
        rows = seen(space, scales and scales.obs, rows)
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), rows)
        possible = ValueRange(lowest_value(self.discount), 0.0) if self.clip_targets else None
        learned, metrics = self.inner.fit(state.learned, batches, fit_key, possible)

        state = HERState(learned=learned, replay=replay, scales=scales, key=key)
        return state, {**metrics, **self.outcome(problem, state, experience)}

    def draw(self, problem: Problem, episodes: Episode, key: PRNGKeyArray, n: int) -> Row:
        """Draw `n` of the stored steps, most of them with another goal put in."""
        return draw_relabelled(problem, episodes, key, n, self.strategy, self.hindsight_goals)

    def outcome(
        self, problem: Problem, state: HERState, experience: Played
    ) -> dict[str, Float[Array, ""]]:
        """Return metrics on how the episodes of this update went."""
        trials = experience.trials
        metrics = {"return": jnp.mean(trials.returns)}
        solved = trials.transitions.events.get("success")
        if solved is not None:
            ever = jnp.any(solved & trials.transitions.valid, axis=-1)
            metrics["success"] = jnp.mean(ever.astype(jnp.float32))
        return metrics

    def explorer(self, problem: Problem, state: HERState) -> Explorer:
        return Explorer(
            policy=self._policy(problem, state, exploring=True),
            random=jnp.asarray(self.exploration, jnp.float32),
            actions=problem.source.action_space,
        )

    def agent(self, problem: Problem, state: HERState) -> AbstractAgent:
        return self._policy(problem, state, exploring=False)

    def _policy(self, problem: Problem, state: HERState, exploring: bool) -> AbstractAgent:
        space, scales = problem.source.observation_space, state.scales
        policy = self.inner.policy(state.learned, space, scales and scales.obs, exploring)
        return policy if scales is None else ScaledGoal(policy=policy, goals=scales.goal)

    def steps_per_update(self, problem: Problem) -> int:
        return self.episodes * problem.source.horizon


def require_goals(learner: AbstractLearner, problem: Problem) -> None:
    """Raises `UserError` unless the family has goals and the policy sees them."""
    if not isinstance(problem.source, AbstractGoalFamily):
        raise UserError(
            f"'{learner.name}' needs a family with goals, such as 'bit-flip';"
            f" '{problem.source.name}' has none"
        )
    if problem.reveal != "context":
        raise UserError(
            f"the policy of '{learner.name}' must be told its goal: train with reveal 'context'"
        )
