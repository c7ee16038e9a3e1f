"""Meta-reinforcement learning as one partially observed process (Duan et al. 2016, 1611.02779, §2.2;
Zintgraf et al. 2020, 1910.08348, §2).

Not to know the task is not to see a part of the state that stays as it is. So any family becomes one
process: its episode is a whole trial of several episodes on one task, which `reset` draws and the
state holds, and its observation carries what the last action brought. What solves it is an agent with
a memory, trained by any method for partially observed processes, which need know nothing of tasks.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ..core import (
    AbstractFamily,
    Box,
    EnvState,
    Info,
    Obs,
    Params,
    Space,
    UserError,
    any_anywhere,
    flatten,
    is_image,
    observation_size,
    scale_action,
)
from .transforms import AbstractHiddenTask, draw_hidden, refuse_host


class TrialState(eqx.Module):
    """The task, which is hidden, and how the trial stands."""

    params: Params
    inner: EnvState
    """The inner environment's state in the present episode."""
    episode: Int[Array, ""]
    """Episodes finished."""
    elapsed: Int[Array, ""]
    """Steps taken in the present one."""


class TrialEnv(eqx.Module):
    """A trial of `episodes` episodes of a task of `family` as one episode; params `{"split": int}`,
    the split to draw the task from, in the order of `SPLITS`.

    The observation is the inner one, flattened, then the previous action (one-hot; a continuous one
    in [−1, 1]), the reward that it brought and whether an inner episode ended with it: zeros at the
    trial's start. The trial's end is terminal.
    """

    family: AbstractFamily = eqx.field(static=True)
    episodes: int = eqx.field(static=True)

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, TrialState]:
        """Draw the trial's task and begin its first episode."""
        draw_key, reset_key = jax.random.split(key)
        drawn = draw_hidden(self.family, draw_key, params["split"])
        obs, inner = self.family.seen_env.reset(reset_key, drawn)
        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.zeros(observation_size(self.family.action_space) + 2)
        return self._see(obs, nothing), TrialState(drawn, inner, zero, zero)

    def step(
        self, key: PRNGKeyArray, state: TrialState, action: Array, params: Params
    ) -> tuple[Obs, TrialState, Array, Array, Array, Info]:
        """Take the inner step; where it ends an inner episode other than the last, the next one
        begins and its first observation is returned.

        Events: the inner ones, `episode` (the inner episode's number, from 0) and `episode_end`
        (whether it ended with this step).
        """
        env, space = self.family.seen_env, self.family.action_space
        step_key, reset_key = jax.random.split(key)
        obs, inner, reward, terminated, truncated, events = env.step(
            step_key, state.inner, action, state.params
        )
        elapsed = state.elapsed + 1
        ended = terminated | truncated | (elapsed >= self.family.horizon)
        trial_end = ended & (state.episode + 1 >= self.episodes)

        def begin(present: tuple[Obs, EnvState]) -> tuple[Obs, EnvState]:
            first = env.reset(reset_key, state.params)
            return jax.tree.map(
                lambda new, old: jnp.where(ended & ~trial_end, jnp.asarray(new, old.dtype), old),
                first,
                present,
            )

        present = jax.tree.map(jnp.asarray, (obs, inner))
        obs, inner = jax.lax.cond(any_anywhere(ended), begin, lambda now: now, present)
        previous = jnp.concatenate(
            [
                flatten(space, scale_action(space, action)),
                jnp.stack([reward, ended]).astype(jnp.float32),
            ]
        )
        events = {**events, "episode": state.episode, "episode_end": ended}
        after = TrialState(
            params=state.params,
            inner=inner,
            episode=state.episode + ended,
            elapsed=jnp.where(ended, 0, elapsed),
        )
        no: Bool[Array, ""] = jnp.asarray(False)
        return self._see(obs, previous), after, reward, trial_end, no, events

    def observation_space(self, params: Params | None = None) -> Space:
        """Return the space of what `step` says, without bounds."""
        inner = observation_size(self.family.observation_space)
        return Box((inner + observation_size(self.family.action_space) + 2,))

    def action_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.action_space

    def _see(self, obs: Obs, previous: Array) -> Array:
        seen = flatten(self.family.observation_space, obs)
        if is_image(self.family.observation_space):
            seen = seen.reshape(-1) / 255.0  # `flatten` gives images on the scale of bytes
        return jnp.concatenate([seen, previous])


class TrialPOMDP(AbstractHiddenTask):
    """Any family as one partially observed process (1611.02779, §2.2): an episode is a whole trial, the
    task is hidden in its state, and the previous action, reward and end are observed."""

    name: ClassVar[str] = "trial-pomdp"

    family: str | AbstractFamily = eqx.field(static=True, default="gridnavi")
    """The family whose trials are played: its name, with settings after it (`point-2d size=1`), or, in
    Python, the family. It must not be stepped on the host."""
    episodes: int = eqx.field(static=True, default=0)
    """Inner episodes of a trial; 0: as many as the family says."""

    def __check_init__(self):
        if self.episodes < 0:
            raise UserError(f"episodes must be 0 (as the family says) or more, not {self.episodes}")
        refuse_host(self, "made one process")

    @property
    def inner_episodes(self) -> int:
        """Inner episodes of a trial."""
        return self.episodes or self.inner.trial_episodes

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of all the inner episodes together."""
        return self.inner_episodes * self.inner.horizon

    @property
    def trial_episodes(self) -> int:
        """1: an episode is a trial."""
        return 1

    @property
    def env(self) -> TrialEnv:
        return TrialEnv(self.inner, self.inner_episodes)


def inner_returns(transitions: Any, episodes: int) -> Array:
    """Compute the return of every inner episode, `[…, episodes]`, of steps of a `TrialPOMDP`, `[…, time]`."""
    number = transitions.events["episode"][..., None] == jnp.arange(episodes)
    counted = jnp.where(transitions.valid, transitions.reward, 0.0)[..., None]
    return jnp.sum(counted * number, axis=-2)
