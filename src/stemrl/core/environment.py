"""Contract one: the environment, and the transition that playing in it leaves behind."""

from typing import Any, NamedTuple, Protocol

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from .spaces import AnySpace, Space, as_seen, see

# Pytrees whose every leaf is an array, and never a random key.
Obs = PyTree[Array]
"""An observation, as the environment's `observation_space` describes it."""
EnvState = PyTree[Array]
"""What an environment remembers between two steps of an episode."""
Params = PyTree[Array]
"""A task: the parameters of an environment."""
Action = Array
"""An action. An agent's continuous actions are in [−1, 1]; an environment takes them in its own
units."""
Info = dict[str, Any]
"""Named arrays, the same names at every step."""


class Environment(Protocol):
    """A Markov decision process whose parameters are the task: pure functions of one episode.

    The names are gymnax's (≥ 1.0), with one difference on which everything rests: `step` NEVER
    resets by itself. No method sees a batch dimension: the rollout batches them.
    """

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, EnvState]:
        """Return the first observation and the first state of an episode of the task `params`."""
        ...

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Action, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        """Take one step and return `(next_obs, next_state, reward, terminated, truncated, events)`.

        - `action` is in the units of `action_space`, inside its bounds.
        - `terminated` is the end of the task itself. `truncated` is a time limit of the
          environment's own, if it has one; the family's `horizon` is applied by the rollout.
        - `events` are named scalars that say what else happened (`success`, `diverged`, …), with
          the same names at every step.
        """
        ...

    def observation_space(self, params: Params | None = None) -> AnySpace:
        """Return the space of observations, which is the same for every task."""
        ...

    def action_space(self, params: Params | None = None) -> Space:
        """Return the space of actions, which is the same for every task."""
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
    """One step of an episode; with leading dimensions, many steps. All values are raw: nothing in
    it is normalized."""

    obs: Obs
    """What the agent saw."""
    action: Action
    """What the agent returned: continuous actions in the agent's units, not yet clipped to
    [−1, 1] (see `unscale_action`)."""
    reward: Float[Array, "..."]
    """0 where not valid."""
    terminated: Bool[Array, "..."]
    """Whether the task itself ended here: what follows is worth nothing."""
    truncated: Bool[Array, "..."]
    """Whether a time limit cut the episode here: what follows would have been worth something. It
    is never true together with `terminated`."""
    next_obs: Obs
    """The observation that truly followed, never the first one of another episode."""
    valid: Bool[Array, "..."]
    """Whether this is a step; it is false on the padding past an episode's end."""
    info: Info
    """What `act` returned beside the action, such as the log-probability and the value."""
    events: Info
    """What `step` returned beside the reward, such as `success` and `diverged`."""

    @property
    def ended(self) -> Bool[Array, "..."]:
        """Whether the episode ended with this step, by termination or by truncation."""
        return self.terminated | self.truncated
