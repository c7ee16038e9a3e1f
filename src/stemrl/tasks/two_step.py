"""The two-step task (Daw et al. 2011), as Wang et al. play it with a recurrent network (2018, "Prefrontal
cortex as a meta-reinforcement learning system"; 1611.05763, §3.2.2).

At stage one an action is chosen; each action leads to its own stage-two state with probability 0.8
(a *common* transition) and to the other one with 0.2 (a *rare* one). One of the two stage-two states
pays with probability 0.9, the other with 0.1, and before each trial they change places with
probability 0.025. After a rare transition that paid, an agent that knows the transitions takes the
*other* action next; one that only repeats what was rewarded takes the same one. Stay probabilities
therefore show which of the two an agent is.

The places that the rewards have changed to last from trial to trial, so all trials are one episode.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ..core import AbstractFamily, Box, Discrete, Params, Split, UserError

COMMON = 0.8
"""Probability of an action's common transition."""
PAYS = 0.9
"""Probability that the better stage-two state pays; the other one pays with 1 − this."""


class TwoStepState(eqx.Module):
    """Where the trial stands, and which stage-two state pays at present."""

    place: Int[Array, ""]
    """0 at stage one; 1 or 2: at that stage-two state."""
    good: Int[Array, ""]
    """The stage-two state that pays: 0 for the first, 1 for the second."""
    action: Int[Array, ""]
    """What was chosen at stage one of this trial."""


class TwoStepEnv(eqx.Module):
    """The task; params `{"good": int, "swapped": bool}`: the stage-two state that pays first, and
    whether action 0 leads commonly to the second one instead of the first. The observation is the
    place, one-hot: stage one, first and second stage-two state. There are two actions; at stage two
    either leads back to stage one."""

    reversal: float = eqx.field(static=True)
    """Probability that the rewards change places before a trial."""

    def reset(self, key: PRNGKeyArray, params: Params):
        """Begin at stage one, observed as float32 `[3]`; nothing is random."""
        zero = jnp.zeros((), jnp.int32)
        return _one_hot(zero), TwoStepState(zero, jnp.asarray(params["good"], jnp.int32), zero)

    def step(self, key: PRNGKeyArray, state: TwoStepState, action: Array, params: Params):
        """Choose (stage one, no reward), or be paid 0 or 1 and go back (stage two).

        The events tell of the trial that ends with this step, where `trial_end` is true:
        `stage1_action` (0 or 1), `common` (whether its transition was the common one) and
        `rewarded`. They are 0 and false at other steps.
        """
        rare_key, pay_key, reverse_key = jax.random.split(key, 3)
        choosing = state.place == 0
        common = jax.random.bernoulli(rare_key, COMMON)
        led_to = leads_to(action, params["swapped"])
        arrived = jnp.where(common, led_to, 1 - led_to)
        second = state.place - 1
        chance = jnp.where(second == state.good, PAYS, 1.0 - PAYS)
        paid = ~choosing & jax.random.bernoulli(pay_key, chance)
        reverse = ~choosing & jax.random.bernoulli(reverse_key, self.reversal)
        after = TwoStepState(
            place=jnp.where(choosing, arrived + 1, 0).astype(jnp.int32),
            good=jnp.where(reverse, 1 - state.good, state.good),
            action=jnp.where(choosing, action, state.action).astype(jnp.int32),
        )
        events = {
            "trial_end": ~choosing,
            "stage1_action": jnp.where(choosing, 0, state.action),
            "common": ~choosing & (second == leads_to(state.action, params["swapped"])),
            "rewarded": paid,
        }
        no = jnp.asarray(False)
        return _one_hot(after.place), after, paid.astype(jnp.float32), no, no, events

    def observation_space(self, params: Params | None = None) -> Box:
        """Return the space of the place, one-hot, `[3]`."""
        return Box((3,), 0.0, 1.0)

    def action_space(self, params: Params | None = None) -> Discrete:
        """Return the space of the two actions."""
        return Discrete(2)


class TwoStep(AbstractFamily):
    """Daw's two-step task (Wang et al. 2018): 100 trials in one episode, rewards that change places.
    Two tasks, by which stage-two state pays first, so the test tasks are the training tasks."""

    name: ClassVar[str] = "two-step"
    finite: ClassVar[bool] = True

    trials: int = eqx.field(static=True, default=100)
    """Trials an episode; each takes two steps."""
    reversal: float = eqx.field(static=True, default=0.025)
    """Probability that the rewards change places before a trial."""

    def __check_init__(self):
        if self.trials < 1:
            raise UserError(f"two-step needs at least 1 trial, not trials={self.trials}")
        if not 0.0 <= self.reversal <= 1.0:
            raise UserError(f"reversal is a probability from 0 to 1, not {self.reversal:g}")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Two steps a trial."""
        return 2 * self.trials

    @property
    def trial_episodes(self) -> int:
        """1: the whole of a task is one episode."""
        return 1

    @property
    def env(self) -> TwoStepEnv:
        return TwoStepEnv(self.reversal)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw which state pays first, each as likely; `ood`: with the transitions of the two
        actions swapped, which never happens in training."""
        return _task(jax.random.randint(key, (), 0, 2), split)

    def tasks(self, key: PRNGKeyArray, split: Split, n: int) -> Params:
        """Return both tasks in turns, `n` in all."""
        first = jax.random.randint(key, (), 0, 2)
        return jax.vmap(lambda good: _task(good, split))((first + jnp.arange(n)) % 2)

    def context(self, params: Params) -> Array:
        """Return which state pays first and whether the transitions are swapped, `[2]` (0 or 1)."""
        return jnp.stack([params["good"], params["swapped"]]).astype(jnp.float32)


def leads_to(action: Array, swapped: Bool[Array, ""] | bool) -> Array:
    """Return the stage-two state (0 or 1) to which `action` leads commonly."""
    return jnp.where(swapped, 1 - action, action)


def _task(good: Array, split: Split) -> Params:
    return {"good": good.astype(jnp.int32), "swapped": jnp.asarray(split == "ood")}


def _one_hot(place: Array) -> Array:
    return jax.nn.one_hot(place, 3)
