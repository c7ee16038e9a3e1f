"""A family of one's own from an MJCF file: its tasks are factors on named model parameters.

A subclass names the file, the ranges and the reward; see `docs/own-mjcf.md`.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import Box, EnvState, Info, Obs, Params, Space, Split, UserError, nearest
from ..reading import at_home
from ..tasks.ranges import Interval, draw_in, parse
from .engine import Motion, State
from .model_files import parts_of_model
from .mujoco_env import AbstractMujocoFamily, Forward, MujocoEnv, Robot
from .parameters import ModelParameters, refuse_factors, remark_wide


class AbstractMjcfFamily(AbstractMujocoFamily):
    """A family made of a model in a file, a reward, and a choice of the model's parameters that
    differ from task to task.

    Define `name`, the fields below, and `reward`, or `step_reward` if a reward needs more than
    positions and velocities; `terminated`, `start` and `observe` if the defaults do not fit. Raise
    `version` whenever you change one of them. Params are `{"values": [P]}`, factors on the nominal
    values. The contents of the file, of all files that it includes and of its meshes are part of
    the identity.
    """

    paths: ClassVar[tuple[str, ...]] = ("file",)

    file: eqx.AbstractVar[str]
    """The MJCF file; relative to the Python file of the class, or else to where you are."""
    ranges: eqx.AbstractVar[str]
    """Factors on the nominal model by address, `body_mass:torso=0.5:2,gravity=0.8:1.2` (see
    `stemrl.physics.parameters.KINDS`), drawn log-uniformly; `=mean:std:low:high` for a normal
    distribution that is cut off. Empty: one task."""
    frame_skip: eqx.AbstractVar[int]
    """Simulator steps in a control step."""
    keyframe: str = eqx.field(static=True, default="", kw_only=True)
    """The model's keyframe, by its name or number, at which `start` begins; none: the positions that the
    model's own bodies have, at rest."""

    def step_reward(self, step: "ControlStep") -> Float[Array, ""]:
        """Return the reward of a control step, given all that can be seen of it. Override this in
        place of `reward`, which it calls, to use the task's parameters, sensors, positions of
        bodies or the centre of mass. They cost another evaluation of the model in every control
        step."""
        return self.reward(step.qpos, step.qvel, step.action, step.next_qpos, step.next_qvel)

    def reward(
        self,
        qpos: Float[Array, " nq"],
        qvel: Float[Array, " nv"],
        action: Float[Array, " nu"],
        next_qpos: Float[Array, " nq"],
        next_qvel: Float[Array, " nv"],
    ) -> Float[Array, ""]:
        """Return the reward of a control step. It raises `NotImplementedError` unless a family
        defines it; a family that defines `step_reward` does not need it."""
        raise NotImplementedError

    def terminated(self, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> Bool[Array, ""]:
        """Return whether the state after a step ends the episode. By default it never does."""
        return jnp.asarray(False)

    def start(
        self, key: PRNGKeyArray, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]
    ) -> tuple[Float[Array, " nq"], Float[Array, " nv"]]:
        """Return the first positions and velocities of an episode, given the model's own or those
        of the keyframe. By default both are within ±0.01 of them."""
        noise = 0.01 * jax.random.uniform(key, (len(qpos) + len(qvel),), minval=-1.0, maxval=1.0)
        return qpos + noise[: len(qpos)], qvel + noise[len(qpos) :]

    def observe(
        self, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]
    ) -> Float[Array, " observation"]:
        """Return the observation. By default it is positions and velocities."""
        return jnp.concatenate([qpos, qvel])

    def observed_state(
        self, obs: Float[Array, " observation"]
    ) -> tuple[Float[Array, " nq"], Float[Array, " nv"]]:
        """Return positions and velocities that are observed as `obs`; what is not seen of them may be
        anything that no motion depends on. Methods that play recorded steps again need it (`epopt` with a
        target). By default it is the inverse of the default `observe`; whoever observes in another way gives
        it too. Raises `UserError` where that is missing."""
        if type(self).observe is not AbstractMjcfFamily.observe:
            raise UserError(
                f"'{self.name}' observes in its own way: give it observed_state(obs), the positions and"
                " velocities that are observed so"
            )
        nq = self.robot.engine.nominal.nq
        return obs[:nq], obs[nq:]

    @property
    def factors(self) -> dict[str, Interval]:
        """The ranges by address. Raises `UserError` if they cannot be read, or could make a mass
        negative."""
        return parse(self.ranges, above=0.0)

    @property
    def robot(self) -> MujocoEnv:
        """The model as an environment that is never played; it has the spaces, the parts and the
        simulator."""
        parameters = ModelParameters(tuple(self.factors))
        sensing = type(self).step_reward is not AbstractMjcfFamily.step_reward
        robot = Robot(str(self.place(self.file)), self.frame_skip, sensing=sensing)
        return MujocoEnv(robot, Forward(), parameters if self.factors else None, self.engine)

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether there are no ranges, so that there is one task, which is the one that is trained
        on."""
        return not self.factors

    def settings(self) -> dict[str, Any]:
        """Return the fields by name. `keyframe` is left out where it is empty, so that identities
        that were written before it existed stay as they were."""
        settings = super().settings()
        if not self.keyframe:
            del settings["keyframe"]
        return settings

    @property
    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at which `start` begins, `[nq]` and `[nv]`. Raises `UserError`
        for a keyframe that the model does not have."""
        model: Any = self.robot.engine.nominal
        if not self.keyframe:
            return np.asarray(model.qpos0, np.float32), np.zeros(model.nv, np.float32)
        names = [model.key(i).name or str(i) for i in range(model.nkey)]
        known = {str(i): i for i in range(model.nkey)} | {name: i for i, name in enumerate(names)}
        if self.keyframe not in known:
            has = nearest(self.keyframe, names) if names else "; it has none at all"
            raise UserError(f"{self.file} has no keyframe '{self.keyframe}'{has}")
        at = known[self.keyframe]
        return model.key_qpos[at].astype(np.float32), model.key_qvel[at].astype(np.float32)

    @classmethod
    def place(cls, path: str) -> Path:
        """Return the whole path of a file that a setting names: beside the Python file of the
        class, or else from the working folder."""
        beside = Path(inspect.getfile(cls)).resolve().parent / at_home(path)
        return beside if beside.is_file() else super().place(path)

    def files(self) -> list[Path]:
        """Return the file of the model, and all files that it includes."""
        return parts_of_model(self.place(self.file))

    @property
    def env(self) -> "MjcfEnv":
        return MjcfEnv(self)

    @property
    def stepping(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "jax" if self.engine == "mjx" and not self.factors else "callback"

    @property
    def identity(self) -> str:
        return f"{super().identity[:-1]},model={self.robot.engine.digest})"

    def __check_init__(self):
        robot = self.robot
        if not robot.engine.nominal.nu:
            raise UserError(f"the model of '{self.name}' has no actuators; give it an <actuator>")
        if robot.apply is not None:
            robot.apply.check(robot.engine.nominal)  # pyright: ignore[reportFunctionMemberAccess]
            remark_wide(self.factors)
        _ = self.first
        own, base = type(self), AbstractMjcfFamily
        if own.reward is base.reward and own.step_reward is base.step_reward:
            raise UserError(f"'{self.name}' lacks reward, what a control step is worth")

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw factors as their ranges say; `ood`: in a shell around them, half as wide again, so
        that at least one factor is outside its range."""
        drawn = draw_in(key, split, self.factors, log=True)
        return {"values": jnp.stack([*drawn.values()]) if drawn else jnp.zeros(0)}

    def parameter_names(self) -> dict[str, tuple[str, ...]]:
        """Return the addresses of the factors."""
        return {"values": tuple(self.factors)}

    def refuse_tasks(self, params: Params) -> None:
        """Raise `UserError` for a factor that is not above 0."""
        refuse_factors(self.parameter_names()["values"], params["values"])

    def context(self, params: Params) -> Float[Array, " P"]:
        """Return the logarithms of the factors."""
        return jnp.log(params["values"])


class ControlStep(NamedTuple):
    """A control step, as `AbstractMjcfFamily.step_reward` is given it."""

    qpos: Float[Array, " nq"]
    """Generalized positions before the step."""
    qvel: Float[Array, " nv"]
    """Generalized velocities before the step."""
    action: Float[Array, " nu"]
    """The control that was held."""
    next_qpos: Float[Array, " nq"]
    """Generalized positions after it."""
    next_qvel: Float[Array, " nv"]
    """Generalized velocities after it."""
    params: Params
    """The task's parameters, `{"values": [P]}`: factors in the order of `ranges`."""
    sensors: Mapping[str, Float[Array, " n"]]
    """What each of the model's sensors measures in the state after the step, by its name."""
    bodies: Mapping[str, Float[Array, "3"]]
    """Where the frame of each body is after the step (metres), by its name."""
    center_of_mass: Float[Array, "3"]
    """The centre of mass of all bodies after the step (metres)."""

    @classmethod
    def of(cls, model: Any, before: "MjcfState", motion: Motion, params: Params) -> "ControlStep":
        """Make it of what an engine returns that is `sensing`."""
        assert motion.seen is not None
        ends = [model.nsensordata, model.nsensordata + 3 * model.nbody]
        sensed, placed, middle = jnp.split(motion.seen, ends)
        sensors = {}
        for i in range(model.nsensor):
            at, width = int(model.sensor_adr[i]), int(model.sensor_dim[i])
            sensors[model.sensor(i).name or f"#{i}"] = sensed[at : at + width]
        places = placed.reshape(model.nbody, 3)
        bodies = {model.body(i).name or f"#{i}": places[i] for i in range(model.nbody)}
        return cls(
            *(before.qpos, before.qvel, motion.action, motion.qpos, motion.qvel),
            *(params, sensors, bodies, middle),
        )


class MjcfState(eqx.Module):
    """The simulator's state, and what a reward sees of it."""

    physics: State
    qpos: Float[Array, " nq"]
    qvel: Float[Array, " nv"]


class MjcfEnv(eqx.Module):
    """The family's model with the family's reward."""

    family: AbstractMjcfFamily

    @property
    def engine(self) -> Any:
        """What steps the model, as `MujocoEnv` has it."""
        return self.family.robot.engine

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Obs, MjcfState]:
        engine = self.family.robot.engine
        qpos, qvel = self.family.start(key, *map(jnp.asarray, self.family.first))
        values = None if engine.apply is None else params["values"]
        physics = engine.start(qpos, qvel, values)
        return self.family.observe(qpos, qvel), MjcfState(physics, qpos, qvel)

    def state_of(self, obs: Array, params: Params) -> MjcfState:
        """Return a state that is seen as `obs`, at rest in what is neither position nor velocity."""
        engine = self.family.robot.engine
        qpos, qvel = self.family.observed_state(obs)
        values = None if engine.apply is None else params["values"]
        return MjcfState(engine.start(qpos, qvel, values), qpos, qvel)

    def step(
        self, key: PRNGKeyArray, state: MjcfState, action: Array, params: Params
    ) -> tuple[Obs, EnvState, Array, Array, Array, Info]:
        robot = self.family.robot
        values = None if robot.apply is None else params["values"]
        physics, motion = robot.engine.step(state.physics, action, values)
        if motion.seen is None:
            reward = self.family.reward(state.qpos, state.qvel, action, motion.qpos, motion.qvel)
        else:
            step = ControlStep.of(robot.engine.nominal, state, motion, params)
            reward = self.family.step_reward(step)
        # Of a step that diverged nothing is sensed: there is nothing to be paid for.
        reward = jnp.where(motion.diverged, 0.0, reward)
        terminated = self.family.terminated(motion.qpos, motion.qvel) | motion.diverged
        obs = self.family.observe(motion.qpos, motion.qvel)
        after = MjcfState(physics, motion.qpos, motion.qvel)
        events = {"diverged": motion.diverged}
        return obs, after, jnp.asarray(reward), terminated, jnp.asarray(False), events

    def observation_space(self, params: Params | None = None) -> Box:
        model = self.family.robot.engine.nominal
        shape = jax.eval_shape(self.family.observe, jnp.zeros(model.nq), jnp.zeros(model.nv)).shape
        return Box(tuple(shape))

    def action_space(self, params: Params | None = None) -> Space:
        return self.family.robot.action_space()

    def poses(self, params: Params, states: MjcfState) -> np.ndarray:
        """See `MujocoEnv.poses`."""
        return self.family.robot.poses(params, states.physics)

    def skeleton(self, params: Params) -> Any:
        """See `MujocoEnv.skeleton`."""
        return self.family.robot.skeleton(params)
