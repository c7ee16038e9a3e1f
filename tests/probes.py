"""Probe families: the smallest worlds that fail if one part of a method is broken.

Each has an optimum that is known exactly; its docstring says which. They follow the idea of the
probe environments that rejax and others test with: rule out the value, the discount, the policy,
the memory, the adaptation, one after another.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from stemrl.core import AbstractFamily, Box, Discrete, Params, Space, Split, UserError
from stemrl.tasks.grid_wall import GridWall, GridWallEnv, WalkerState


class ProbeEnv(eqx.Module):
    """The environment of a probe: its four functions in the environment's terms."""

    probe: "AbstractProbe"

    def reset(self, key: PRNGKeyArray, params: Params):
        state = self.probe.first(key, params)
        return self.probe.see(state), state

    def step(self, key: PRNGKeyArray, state: Any, action: Array, params: Params):
        state, reward, terminated = self.probe.move(key, state, action, params)
        return (
            self.probe.see(state),
            state,
            jnp.asarray(reward, jnp.float32),
            jnp.asarray(terminated, bool),
            jnp.asarray(False),
            {},
        )

    def observation_space(self, params: Params | None = None) -> Space:
        return self.probe.observations

    def action_space(self, params: Params | None = None) -> Space:
        return self.probe.actions


class AbstractProbe(AbstractFamily):
    """A family whose environment is four functions; by default of a single task."""

    observations: ClassVar[Space] = Box((1,))
    actions: ClassVar[Space] = Discrete(2)

    @property
    def env(self) -> ProbeEnv:
        return ProbeEnv(self)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return {"task": jnp.zeros(1)}

    def context(self, params: Params) -> Array:
        return params["task"]

    @abc.abstractmethod
    def first(self, key: PRNGKeyArray, params: Params) -> Array:
        """The first state."""

    def see(self, state: Array) -> Array:
        """The observation of a state."""
        return state[None]

    @abc.abstractmethod
    def move(self, key: PRNGKeyArray, state: Array, action: Array, params: Params):
        """`(state, reward, terminated)`."""


class ConstantReward(AbstractProbe):
    """Reward 1, then the end: V = 1, return 1."""

    name: ClassVar[str] = "probe-constant"
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        return state, 1.0, True


class ObservedReward(AbstractProbe):
    """The reward is the observation, −1 or 1 at random: V(obs) = obs."""

    name: ClassVar[str] = "probe-observed"
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jax.random.rademacher(key, (), dtype=jnp.float32)

    def move(self, key, state, action, params):
        return state, state, True


class DelayedReward(AbstractProbe):
    """Two steps, obs 0 with reward 0, obs 1 with reward 1: V(0) = γ, V(1) = 1."""

    name: ClassVar[str] = "probe-delayed"
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        return state + 1, state, state >= 1


class Forever(AbstractProbe):
    """Reward 1 at every step, never the end, cut at the horizon: V = 1 / (1 − γ) everywhere.

    A learner that takes the cut for an end finds a smaller value."""

    name: ClassVar[str] = "probe-forever"
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        return state, 1.0, False


class Countdown(AbstractProbe):
    """Reward 1 at each of `length` steps, then the end; obs: steps left / length.

    V(k steps left) = (1 − γᵏ) / (1 − γ); the return is `length`."""

    name: ClassVar[str] = "probe-countdown"
    length: int = eqx.field(static=True, default=5)
    horizon: int = eqx.field(static=True, default=10)

    def first(self, key, params):
        return jnp.full((), float(self.length))

    def see(self, state):
        return state[None] / self.length

    def move(self, key, state, action, params):
        return state - 1, 1.0, state <= 1


class ChooseSide(AbstractProbe):
    """Obs −1 or 1; action 0 or 1 must name the sign: reward 1, else 0. Optimal return 1."""

    name: ClassVar[str] = "probe-choose"
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jax.random.rademacher(key, (), dtype=jnp.float32)

    def move(self, key, state, action, params):
        return state, action == (state > 0), True


class MatchNumber(AbstractProbe):
    """Obs o is −1 or 1, actions in [−2, 2], reward −(a − o)²: optimal return 0.

    In an agent's units, [−1, 1], the best action is o / 2."""

    name: ClassVar[str] = "probe-match"
    actions: ClassVar[Space] = Box((1,), -2.0, 2.0)
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jax.random.rademacher(key, (), dtype=jnp.float32)

    def move(self, key, state, action, params):
        return state, -((action[0] - state) ** 2), True


class Corridor(AbstractProbe):
    """Cells 0 … length − 1 from 0; action 1 goes right, 0 left; reaching the last cell pays 1 and
    ends it, every step costs 0.1. Optimal return 1 − 0.1 (length − 1), by always going right."""

    name: ClassVar[str] = "probe-corridor"
    length: int = eqx.field(static=True, default=5)
    horizon: int = eqx.field(static=True, default=20)

    def first(self, key, params):
        return jnp.zeros(())

    def see(self, state):
        return state[None] / self.length

    def move(self, key, state, action, params):
        state = jnp.clip(state + 2 * action - 1, 0, self.length - 1).astype(jnp.float32)
        done = state >= self.length - 1
        return state, done - 0.1, done


class Picture(AbstractProbe):
    """`ChooseSide` in an 8×8 image: the left or the right half is bright. Optimal return 1."""

    name: ClassVar[str] = "probe-picture"
    observations: ClassVar[Space] = Box((8, 8, 1), 0, 255, "uint8")
    horizon: int = eqx.field(static=True, default=5)

    def first(self, key, params):
        return jax.random.rademacher(key, (), dtype=jnp.float32)

    def see(self, state):
        right = jnp.arange(8) >= 4
        bright = jnp.where(state > 0, right, ~right)
        return jnp.broadcast_to(bright[None, :, None] * 255, (8, 8, 1)).astype(jnp.uint8)

    def move(self, key, state, action, params):
        return state, action == (state > 0), True


class HiddenArm(AbstractProbe):
    """Two arms, one pays 1 at every pull, the other 0; which one is the task (and is hidden).

    A trial of n steps is worth n − ½ to the best agent with memory (one guess, then it knows), n
    to one that is told the context, and n / 2 to any policy without memory. n = horizon × episodes
    a trial. The observation says nothing.
    """

    name: ClassVar[str] = "probe-hidden-arm"
    finite: ClassVar[bool] = True
    horizon: int = eqx.field(static=True, default=2)
    episodes: int = eqx.field(static=True, default=3)

    @property
    def trial_episodes(self) -> int:
        return self.episodes

    def sample(self, key, split):
        if split == "ood":
            raise UserError("the family 'probe-hidden-arm' has no split 'ood'")
        return {"task": jax.random.bernoulli(key, 0.5, (1,)).astype(jnp.float32)}

    def tasks(self, key, split, n):
        return {"task": (jnp.arange(n) % 2).astype(jnp.float32)[:, None]}

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        return state, action == params["task"][0], False


class HiddenNumber(AbstractProbe):
    """The task is a number t in [−size, size]; reward −(a − t)², a in [−1, 1], obs constant.

    Of all policies that do not know t the best mean is 0, worth −size²/3 − σ². One exact gradient
    step of the expected reward moves a Gaussian's mean m to m + 2α(t − m) at a horizon of 1: with
    α = ½ the adapted mean is t for *every* task, and the return is −σ².
    """

    name: ClassVar[str] = "probe-hidden-number"
    actions: ClassVar[Space] = Box((1,), -1.0, 1.0)
    size: float = eqx.field(static=True, default=0.5)
    horizon: int = eqx.field(static=True, default=1)

    def sample(self, key: PRNGKeyArray, split: Split) -> dict[str, Float[Array, "1"]]:
        low, high = (self.size, 2 * self.size) if split == "ood" else (-self.size, self.size)
        return {"task": jax.random.uniform(key, (1,), minval=low, maxval=high)}

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        return state, -((action[0] - params["task"][0]) ** 2), False


class TwoCues(AbstractProbe):
    """Which of two actions is right shows in two cues. The first is ±1 with some noise, the same in source
    and target; the second is three times as loud, and in the target always the same.
    Reward 1 for the right action, then the end: the optimum of both is about 1, and a policy that goes
    by the loud cue gets about 0.5 in the target."""

    name: ClassVar[str] = "probe-two-cues"
    observations: ClassVar[Space] = Box((2,))
    target: bool = eqx.field(static=True, default=False)
    horizon: int = eqx.field(static=True, default=1)

    def first(self, key: PRNGKeyArray, params: Params) -> Array:
        right_key, noise_key = jax.random.split(key)
        right = jnp.where(jax.random.bernoulli(right_key), 1.0, -1.0)
        noise = jax.random.normal(noise_key, (2,))
        loud = 1.5 if self.target else 1.5 * right
        return jnp.stack([right + 0.4 * noise[0], loud + 0.6 * noise[1], right])

    def see(self, state: Array) -> Array:
        return state[:2]

    def move(self, key: PRNGKeyArray, state: Array, action: Array, params: Params):
        return state, (2 * action - 1) * state[2] > 0, True


class LedgeEnv(GridWallEnv):
    """The grid, whose top row is a ledge: a step that leaves one where one was, there, ends the episode."""

    def step(self, key: PRNGKeyArray, state: WalkerState, action: Array, params: Params):
        obs, after, reward, found, no, events = super().step(key, state, action, params)
        on_ledge = state.position[1] == self.size - 1
        fallen = on_ledge & jnp.all(after.position == state.position)
        return obs, after, reward, found | fallen, no, events


class Ledge(GridWall):
    """`GridWall` in all that is seen and earned, but that whoever stays in the top row has fallen, which
    ends the episode. Beside a grid without a ledge, Δr of these steps is −∞ (if they go on), and 0 of all
    others that the goal does not follow."""

    name: ClassVar[str] = "probe-ledge"

    @property
    def env(self) -> LedgeEnv:
        return LedgeEnv(self.size, self.slip)
