"""Weak motors, noisy sensors, late actions: imperfections that any family can be given.

Dynamics randomization (Peng et al., 1710.06537, §IV) varies, besides masses and friction, what lies
between a policy and its robot. Here that is a transform of any family with three more parameters a
task: a factor on each actuator, the deviation of noise on the observation, and a delay of the actions.
What is set to zero is left out of the program, so that nothing at all changes.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..core import (
    AbstractFamily,
    Box,
    EnvState,
    Info,
    Obs,
    Params,
    Space,
    Split,
    UserError,
    is_image,
)
from .ranges import draw
from .transforms import AbstractTransform, has_split, refuse_host

BEYOND = 1.5
"""How many times as far the ood split reaches."""


class ImperfectState(eqx.Module):
    """The inner state, and the actions that have not arrived yet."""

    inner: EnvState
    pending: Array
    """The last actions, the newest first, `[delay, *action]`."""


class ImperfectEnv(eqx.Module):
    """The family's environment behind imperfect motors and sensors. Params: `{"inner", "actuators":
    [actions], "noise": [], "delay": int32}`, the last three where they are drawn."""

    family: AbstractFamily = eqx.field(static=True)
    noisy: bool = eqx.field(static=True)
    """Whether there is noise."""
    weak: bool = eqx.field(static=True)
    """Whether actuators differ."""
    longest: int = eqx.field(static=True)
    """The longest delay (steps)."""

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, ImperfectState]:
        """Return what the family's own reset returns. No action is under way yet: those pending are
        zero."""
        space = self.family.action_space
        pending = jnp.zeros((self.longest, *space.shape), space.dtype)
        if not self.noisy:
            obs, inner = self.family.seen_env.reset(key, params["inner"])
            return obs, ImperfectState(inner, pending)
        key, noise_key = jax.random.split(key)
        obs, inner = self.family.seen_env.reset(key, params["inner"])
        return self._sense(obs, noise_key, params), ImperfectState(inner, pending)

    def step(
        self, key: PRNGKeyArray, state: ImperfectState, action: Array, params: Params
    ) -> tuple[Obs, ImperfectState, Array, Array, Array, Info]:
        """Take the family's own step with the action of `delay` steps ago, times the actuators'
        factors."""
        recent = jnp.concatenate([jnp.asarray(action)[None], state.pending])
        arriving = recent[params["delay"]] if self.longest else action
        if self.weak:
            arriving = arriving * params["actuators"].reshape(arriving.shape)
            bounds: Any = self.family.action_space
            arriving = jnp.clip(arriving, *bounds.limits())
        noise_key = key
        if self.noisy:
            key, noise_key = jax.random.split(key)
        obs, inner, reward, terminated, truncated, events = self.family.seen_env.step(
            key, state.inner, arriving, params["inner"]
        )
        if self.noisy:
            obs = self._sense(obs, noise_key, params)
        after = ImperfectState(inner, recent[: self.longest])
        return obs, after, reward, terminated, truncated, events

    def _sense(self, obs: Array, key: PRNGKeyArray, params: Params) -> Array:
        return obs + params["noise"] * jax.random.normal(key, obs.shape, obs.dtype)

    def observation_space(self, params: Params | None = None) -> Space:
        """Return the family's own space, without bounds where there is noise."""
        space = self.family.observation_space
        return Box(space.shape) if self.noisy else space

    def action_space(self, params: Params | None = None) -> Space:
        """Return the family's own space."""
        return self.family.action_space


class Imperfect(AbstractTransform):
    """Any family with weak motors, noisy sensors and late actions, which differ from task to task and
    are not told (Peng et al., 1710.06537). `randomized` around it draws them anew for every episode."""

    name: ClassVar[str] = "imperfect"
    version: ClassVar[int] = 2

    family: str | AbstractFamily = eqx.field(static=True, default="hopper-params")
    """The family that is made imperfect: its name, with settings after it (`hopper-params width=1`), or,
    in Python, the family. It must not be stepped on the host."""
    actuator_width: float = eqx.field(static=True, default=0.2)
    """The factor on each actuator is uniform in 1 ± this. A strong one reaches its bound sooner, and never
    goes beyond it."""
    sensor_noise: float = eqx.field(static=True, default=0.02)
    """The deviation of the noise on every entry of the observation, in its own units, is uniform
    between 0 and this."""
    delay: int = eqx.field(static=True, default=1)
    """Actions arrive up to this many steps late, each number as likely."""

    def __check_init__(self):
        refuse_host(self, "made imperfect")
        if not 0.0 <= self.actuator_width <= 1.0 / BEYOND:
            limit = f"{1.0 / BEYOND:.2f}, so that no factor is negative"
            raise UserError(f"actuator_width must be from 0 to {limit}, not {self.actuator_width}")
        if self.sensor_noise < 0.0 or self.delay < 0:
            raise UserError(
                f"sensor_noise and delay must not be negative: {self.sensor_noise}, {self.delay}"
            )
        if self.actuator_width and not isinstance(self.inner.action_space, Box):
            raise UserError(
                f"'{self.inner.name}' has discrete actions, which have no strength; set"
                " actuator_width to 0"
            )
        seen = self.inner.observation_space
        if self.sensor_noise and (not isinstance(seen, Box) or is_image(seen)):
            raise UserError(
                f"'{self.inner.name}' is not observed in numbers that noise can be added to; set"
                " sensor_noise to 0"
            )

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own."""
        return self.inner.horizon

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the family's own, where nothing else is drawn."""
        return self.inner.finite and not (self.actuator_width or self.sensor_noise or self.delay)

    @property
    def env(self) -> ImperfectEnv:
        longest = self.delay and self.delay + 1  # the ood split is one step later
        return ImperfectEnv(self.inner, self.sensor_noise > 0, self.actuator_width > 0, longest)

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw a task of the family and its imperfections, all independent; `ood`: actuators in the
        shell around the training range, up to half as wide again, noise up to half as strong again,
        and one step more of delay, on a task of the family's own ood split if it has one."""
        inner_key, actuator_key, noise_key, delay_key = jax.random.split(key, 4)
        changes = self.actuator_width or self.sensor_noise or self.delay
        lacks = split == "ood" and changes and not has_split(self.inner, "ood")
        params = {"inner": self.inner.sample(inner_key, "train" if lacks else split)}
        if self.actuator_width:
            size = self.inner.action_space.size  # pyright: ignore[reportAttributeAccessIssue]
            place = draw(actuator_key, split, size, BEYOND)
            params["actuators"] = 1.0 + self.actuator_width * place
        if self.sensor_noise:
            low, high = (1.0, BEYOND) if split == "ood" else (0.0, 1.0)
            place = jax.random.uniform(noise_key, (), minval=low, maxval=high)
            params["noise"] = self.sensor_noise * place
        if self.delay:
            late = jax.random.randint(delay_key, (), 0, self.delay + 1)
            params["delay"] = jnp.full_like(late, self.delay + 1) if split == "ood" else late
        return params

    def context(self, params: Params) -> Array:
        """Return the family's own context, followed by those of actuators (factor − 1), noise and
        delay that there are."""
        own = [params[name] for name in ("actuators", "noise", "delay") if name in params]
        own[:1] = [own[0] - 1.0] if "actuators" in params else own[:1]
        parts = [self.inner.context(params["inner"]), *own]
        return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in parts])

    def inside(self, params: Params, states: Any) -> tuple[AbstractFamily, Params, Any]:
        """Return the episode as one of the inner family, by which reports draw it."""
        return self.inner, params["inner"], states.inner
