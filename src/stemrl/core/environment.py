"""Contract one: the environment, and the transition that playing in it leaves behind."""

from typing import Any, NamedTuple, Protocol

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from .spaces import AnySpace, Space, as_seen, see

# Pytrees whose every leaf is an array, and never a random key.
Obs = PyTree[Array]
"""An observation, as `observation_space` describes it."""
EnvState = PyTree[Array]
"""What an environment knows in the middle of an episode."""
Params = PyTree[Array]
"""A task: the parameters of an environment."""
Action = Array
"""An action: continuous ones by an agent in [−1, 1], by an environment in its own units."""
Info = dict[str, Any]
"""Named arrays, the same names at every step."""


class Environment(Protocol):
    """A Markov decision process whose parameters are the task: pure functions of one episode.

    The names are gymnax's (≥ 1.0), with one difference that everything rests on: `step` NEVER
    resets by itself. Batching is the rollout's: no method sees a batch dimension.
    """

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, EnvState]:
        """The first observation and state of an episode of the task `params`."""
        ...

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Action, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        """`(next_obs, next_state, reward, terminated, truncated, events)`.

        `action` is in the units of `action_space`, inside its bounds. `truncated` is the
        environment's own time limit, if it has one; the family's horizon is the rollout's matter.
        `events` says what else happened (`success`, `diverged`, …), the same keys at every step.
        """
        ...

    def observation_space(self, params: Params | None = None) -> AnySpace:
        """The space of `obs`; the same for every task."""
        ...

    def action_space(self, params: Params | None = None) -> Space:
        """The space of `action`; the same for every task."""
        ...


class FlatEnv(eqx.Module):
    """An environment whose observations are as agents see them (see `stemrl.core.spaces.see`)."""

    env: Any

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, EnvState]:
        """The environment's own."""
        obs, state = self.env.reset(key, params)
        return see(self.env.observation_space(), obs), state

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Action, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        """The environment's own."""
        obs, *rest = self.env.step(key, state, action, params)
        return (see(self.env.observation_space(), obs), *rest)  # pyright: ignore[reportReturnType]

    def observation_space(self, params: Params | None = None) -> Space:
        """As agents see it."""
        return as_seen(self.env.observation_space())

    def action_space(self, params: Params | None = None) -> Space:
        """The environment's own."""
        return self.env.action_space()


class Transition(NamedTuple):
    """One step, or with leading dimensions many. Raw: nothing in it is normalized."""

    obs: Obs
    """What the agent saw."""
    action: Action
    """What the agent returned: continuous actions in the agent's units, not yet clipped to
    [−1, 1] (see `unscale_action`)."""
    reward: Float[Array, "..."]
    """0 where not valid."""
    terminated: Bool[Array, "..."]
    """The task's own end: what follows is worth nothing."""
    truncated: Bool[Array, "..."]
    """Cut by a time limit: what follows is worth what it would have been. Never both."""
    next_obs: Obs
    """The true next observation, never one of a reset."""
    valid: Bool[Array, "..."]
    """False on padding past the episode's end."""
    info: Info
    """What `act` returned besides: log-probability, value, network input."""
    events: Info
    """What `step` returned besides: `success`, `diverged`."""

    @property
    def ended(self) -> Bool[Array, "..."]:
        """Whether the episode ended with this step, either way."""
        return self.terminated | self.truncated
