"""Recording an agent at work: the states of its episodes before and after it adapts.

Rollouts keep transitions, not states. An environment wrapped here reports its own states among
the events of a step, which the rollout keeps; nothing else changes, so what is recorded is what
would have been played.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractFamily,
    AnySpace,
    Context,
    Environment,
    EnvState,
    Info,
    Obs,
    Params,
    Problem,
    Space,
    Split,
)
from ..rl import play
from ..rl.experience import Trials


class RecordedEnv(eqx.Module):
    """An environment whose events hold the states before and after the step."""

    env: Environment

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, EnvState]:
        """Return the environment's own."""
        return self.env.reset(key, params)

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Array, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        """Return the environment's own, with `before` and `after` among the events."""
        *stepped, events = self.env.step(key, state, action, params)
        events = {**events, "before": state, "after": stepped[1]}
        return (*stepped, events)  # pyright: ignore[reportReturnType]

    def observation_space(self, params: Params | None = None) -> AnySpace:
        """Return the space of the environment's own."""
        return self.env.observation_space(params)

    def action_space(self, params: Params | None = None) -> Space:
        """Return the space of the environment's own."""
        return self.env.action_space(params)


class RecordedFamily(AbstractFamily):
    """A family whose environment reports its states (not for families stepped on the host)."""

    name: ClassVar[str] = "recorded"

    family: AbstractFamily
    horizon: int = eqx.field(static=True)

    @property
    def env(self) -> RecordedEnv:
        """The family's own, wrapped."""
        return RecordedEnv(self.family.env)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw the family's own."""
        return self.family.sample(key, split)


@dataclass(frozen=True)
class Recording:
    """Episodes of a few tasks, with the states they went through (NumPy leaves)."""

    params: Params
    """`[tasks, …]`."""
    before: EnvState
    """`[tasks, rounds, episodes, time, …]`: the state before each step."""
    after: EnvState
    """`[tasks, rounds, episodes, time, …]`: the state after each step."""
    diverged: Bool[np.ndarray, "tasks rounds episodes time"]
    """Where a simulation left what numbers can say: the state after that step is not one."""
    scores: Float[np.ndarray, "tasks rounds episodes"]
    lengths: Int[np.ndarray, "tasks rounds episodes"]

    def episode(self, task: int, round: int) -> tuple[Params, EnvState, float]:
        """Return the task's parameters, and the states `[steps + 1, …]` and return of the episode
        whose return is the round's median: neither luck nor mishap."""
        scores = self.scores[task, round]
        chosen = int(np.argsort(scores, kind="stable")[(len(scores) - 1) // 2])
        steps = int(self.lengths[task, round, chosen])
        at = (task, round, chosen)
        last = steps - 1 if self.diverged[at][steps - 1] else steps
        states = jax.tree.map(
            lambda before, after: np.concatenate([before[at][:steps], after[at][steps - 1 : last]]),
            self.before,
            self.after,
        )
        return jax.tree.map(lambda x: x[task], self.params), states, float(scores[chosen])


def record(
    agent: AbstractAgent, problem: Problem, params: Params, rounds: int, *, key: PRNGKeyArray
) -> Recording | None:
    """Play `rounds` rounds of each task in `params` (`[tasks, …]`) in the problem's target, and
    return the recording; `None` for a family that is stepped on the host, whose states are not
    arrays."""
    family = problem.target
    if family.stepping == "host":
        return None
    context = jax.vmap(lambda p: problem.context(family, p))(params)
    # One task after another: a few are shown, and gradients take less memory so.
    trials: Trials = _play(
        agent,
        RecordedFamily(family=family, horizon=family.horizon),
        params,
        context,
        key,
        rounds,
    )
    events = trials.transitions.events
    diverged = events.get("diverged", np.zeros(trials.transitions.valid.shape, bool))
    to_numpy = lambda tree: jax.tree.map(np.asarray, tree)  # noqa: E731
    return Recording(
        to_numpy(params),
        to_numpy(events["before"]),
        to_numpy(events["after"]),
        np.asarray(diverged, bool),
        np.asarray(trials.returns, float),
        np.asarray(trials.lengths),
    )


@eqx.filter_jit
def _play(
    agent: AbstractAgent,
    family: AbstractFamily,
    params: Params,
    context: Context,
    key: PRNGKeyArray,
    rounds: int,
) -> Any:
    return play(agent, family, params, context, key, rounds, task_batch=1)
