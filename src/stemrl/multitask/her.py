"""Hindsight experience replay (Andrychowicz et al. 2017, 1707.01495), with deep Q-learning.

The problem: where only the goal pays, a learner that never reaches it learns nothing. The idea: an
episode that missed its goal g is a perfect example of how to reach whatever it did reach. A value
function that is told the goal, Q(s, a, g), can be taught with any goal g′, for it is known what the
same step would have earned under it:

    r′ = r(s, a, s′; g′),   y = clip(r′ + γ maxₐ′ Q̄(s′, a′, g′), −1/(1 − γ), 0)
    L  = ½ E[(Q(s, a, g′) − y)²]

where g′ is, k times in k + 1, something that the episode reached later (`future`), and else the goal
that was pursued. A cycle (one update) plays a few episodes, each with a goal of its own, takes a few
gradient steps and moves Q̄ a little (the appendix). The goal is part of the task's parameters, and
the policy sees it as the revealed context.
"""

from typing import ClassVar, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, AbstractLearner, Params, Problem, UserError
from ..rl.dqn import QAgent, bellman_targets, q_loss, q_network
from ..rl.fitting import descend, require_positive
from ..rl.play import Trials, play
from ..rl.policy import Network, perceive
from ..rl.replay import Replay, Row
from .relabel import Episode, Strategy, draw_relabelled


class Played(NamedTuple):
    """The episodes of a cycle, and their goals."""

    params: Params
    """`[episodes, …]`"""
    trials: Trials
    """One episode a task: `[episodes, 1, 1, time, …]`."""


class HERState(eqx.Module):
    """Everything that HER knows."""

    network: Network
    """Q(s, ·, g)."""
    target: Network
    """Its slow copy, Q̄."""
    optimizer: optax.OptState
    replay: Replay
    """Of whole episodes."""
    key: PRNGKeyArray


class HER(AbstractLearner):
    """DQN with hindsight, on families with goals and discrete actions; reveal must be `context`."""

    name: ClassVar[str] = "her"

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
    """How far the target network moves towards the network after each update."""
    exploration: float = 0.2
    """Probability of a random action while collecting."""
    clip_targets: bool = eqx.field(static=True, default=True)
    """Whether targets are kept in [−1/(1 − γ), 0]: where rewards are −1 and 0, they can only be
    there."""
    double: bool = eqx.field(static=True, default=False)
    """Whether the network chooses the next action whose value the target network gives."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256,))
    """Hidden layers (ReLU)."""

    def __check_init__(self):
        require_positive(self, "episodes", "gradient_steps", "batch_size", "capacity")
        require_positive(self, "hindsight_goals")
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise UserError(f"strategy must be one of {known}, not {self.strategy!r}")

    def init(self, problem: Problem, key: PRNGKeyArray) -> HERState:
        _require_goals(self, problem)
        network_key, key = jax.random.split(key)
        network = q_network(self, problem, self.hidden, key=network_key)
        return HERState(
            network=network,
            target=network,
            optimizer=optax.scale_by_adam().init(network),  # pyright: ignore[reportArgumentType]
            replay=Replay.of(
                Episode.empty(problem), -(-self.capacity // self.episodes) * self.episodes
            ),
            key=key,
        )

    def collect(self, problem: Problem, state: HERState) -> tuple[HERState, Played]:
        key, task_key, play_key = jax.random.split(state.key, 3)
        family = problem.source
        params = family.tasks(task_key, "train", self.episodes)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        explorer = self._agent(problem, state, self.exploration)
        trials = play(explorer, family, params, context, play_key, 1)
        return eqx.tree_at(lambda s: s.key, state, key), Played(params, trials)

    def learn(
        self, problem: Problem, state: HERState, experience: Played
    ) -> tuple[HERState, dict[str, Array]]:
        key, draw_key = jax.random.split(state.key)
        replay = state.replay.add(Episode.played(*experience))

        # The target network stands still within an update, so all that the loop needs is drawn and
        # valued at once.
        shape = (self.gradient_steps, self.batch_size)
        rows = draw_relabelled(
            problem,
            replay.rows,
            draw_key,
            shape[0] * shape[1],
            self.strategy,
            self.hindsight_goals,
        )
        space = problem.source.observation_space
        rows = rows._replace(
            obs=perceive(space, None, rows.obs), next_obs=perceive(space, None, rows.next_obs)
        )
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), rows)
        # Batch by batch, for the layers of all of them together would not fit the cache.
        next_values = lax.map(lambda b: state.target(b.next_obs, b.context), batches)
        (network, optimizer_state), metrics = lax.scan(
            self._step, (state.network, state.optimizer), (batches, next_values)
        )
        target = jax.tree.map(
            lambda slow, now: slow + self.target_rate * (now - slow), state.target, network
        )
        state = HERState(
            network=network, target=target, optimizer=optimizer_state, replay=replay, key=key
        )
        trials = experience.trials
        solved = trials.transitions.events.get("success")
        if solved is not None:
            ever = jnp.any(solved & trials.transitions.valid, axis=-1)
            metrics |= {"success": ever.astype(jnp.float32)}
        return state, {"return": jnp.mean(trials.returns)} | jax.tree.map(jnp.mean, metrics)

    def _step(self, carry: tuple, batch: tuple[Row, Float[Array, "batch actions"]]):
        """One gradient step."""
        network, optimizer_state = carry
        rows, next_values = batch
        chosen_by = network(rows.next_obs, rows.context) if self.double else None
        target = bellman_targets(
            rows.reward, rows.carries_on, next_values, self.discount, chosen_by
        )
        if self.clip_targets:
            target = jnp.clip(target, -1.0 / (1.0 - self.discount), 0.0)
        loss, gradient = jax.value_and_grad(
            lambda network: q_loss(network(rows.obs, rows.context), rows.action, target)
        )(network)
        network, optimizer_state = descend(
            optax.scale_by_adam(), gradient, optimizer_state, network, self.learning_rate
        )
        return (network, optimizer_state), {"loss/value": loss, "value": jnp.mean(target)}

    def agent(self, problem: Problem, state: HERState) -> QAgent:
        return self._agent(problem, state, 0.0)

    def _agent(self, problem: Problem, state: HERState, exploration: float | Array) -> QAgent:
        return QAgent(
            network=state.network,
            exploration=jnp.asarray(exploration, jnp.float32),
            space=problem.source.observation_space,
        )

    def steps_per_update(self, problem: Problem) -> int:
        return self.episodes * problem.source.horizon


def _require_goals(learner: AbstractLearner, problem: Problem) -> None:
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
