"""Gymnasium's goal environments as a family with goals: dictionary observations as they are.

Gymnasium-Robotics' worlds (and whatever keeps to their form) observe a dictionary of `observation`,
`achieved_goal` and `desired_goal`, keep the goal as the attribute `goal`, and say by
`compute_reward(achieved_goal, desired_goal, info)` what a step earns under any goal. Here the goal is the
task's parameter: a table of goals that the world itself drew at its resets, of which every task is one;
the observation is the first two entries side by side, and who is told the goal sees it as the context.

Hindsight asks for rewards by the hundred inside compiled code, where no Python can be called. So the rule is
recognized when the family is first used, by what `compute_reward` answers: −1 beyond `distance_threshold` and
0 within, or minus the distance. Another rule is refused; it needs a family of its own.
"""

import contextlib
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractGoalFamily, Box, Params, Split, UserError
from ..own_code import may_import
from .gymnasium import AbstractGymnasiumFamily

KEYS = ("observation", "achieved_goal", "desired_goal")


class GoalWorld(gymnasium.Wrapper):
    """A goal environment with one goal, which observes `[observation, achieved_goal]` as one vector."""

    def __init__(self, env: gymnasium.Env, name: str, goal: np.ndarray | None = None):
        """**Arguments:** the environment, what to call it, and the goal; the environment's own if none.
        Raises `UserError` if its observations have not the three entries."""
        super().__init__(env)
        self._name = name
        self._goal: np.ndarray | None = None
        if goal is not None:
            self.pursue(goal)
        space = env.observation_space
        found = list(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else []
        if missing := [key for key in KEYS if key not in found]:
            raise UserError(
                f"'{name}' is no goal environment: its observation has no '{missing[0]}' (it needs"
                f" {', '.join(KEYS)})"
            )
        assert isinstance(space, gymnasium.spaces.Dict)
        if not all(
            isinstance(s, gymnasium.spaces.Box) and len(s.shape or ()) == 1 for s in space.values()
        ):
            raise UserError(f"'{name}': the entries of its observation must be vectors")
        self.goal_size = int(np.prod(space["desired_goal"].shape or ()))
        size = self.goal_size + int(np.prod(space["observation"].shape or ()))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def pursue(self, goal: np.ndarray) -> None:
        """The goal from the next reset on."""
        self._goal = np.asarray(goal, float)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        obs, info = self.env.reset(seed=seed, options=options)
        if self._goal is not None:
            world: Any = self.env.unwrapped
            if not hasattr(world, "goal"):
                raise UserError(f"'{self._name}' keeps no goal: it has no attribute 'goal'")
            world.goal = self._goal.copy()
        return self._flat(obs), info

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._goal is not None and not np.allclose(obs["desired_goal"], self._goal, atol=1e-5):
            raise UserError(
                f"'{self._name}' does not keep the goal that its attribute 'goal' was given"
            )
        return self._flat(obs), reward, terminated, truncated, info

    def drawn(self, seed: int) -> np.ndarray:
        """Return the goal that the environment itself draws with this seed."""
        return np.asarray(self.env.reset(seed=seed)[0]["desired_goal"], np.float32)

    def _flat(self, obs: dict[str, Any]) -> np.ndarray:
        for key in KEYS:
            if key not in obs:
                raise UserError(f"'{self._name}' gave an observation without '{key}'")
        return np.concatenate([obs["observation"], obs["achieved_goal"]]).astype(np.float32)


class _Known(NamedTuple):
    """What was learned of an environment by asking it."""

    goals: np.ndarray
    """`[n, size]`"""
    threshold: float | None
    """Rewards are 0 within it and −1 beyond; minus the distance if none."""


class GymnasiumGoals(AbstractGymnasiumFamily, AbstractGoalFamily):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A goal environment of Gymnasium-Robotics, or any of its form: a dictionary observation, goals, and
    a reward for any of them (on the host)."""

    name: ClassVar[str] = "gymnasium-goals"
    success_key: ClassVar[str] = "is_success"

    environment: str = eqx.field(static=True, default="FetchReach-v4")
    """Gymnasium's name of the environment; Gymnasium-Robotics' need the extra `robotics`."""
    table: int = eqx.field(static=True, default=200)
    """Goals to be drawn by the environment and made tasks of, of which a quarter is for test alone; in
    [4, inf]."""
    horizon: int = eqx.field(static=True, default=50)
    """Steps an episode, at most."""

    def __check_init__(self):
        if self.table < 4:
            raise UserError(f"{self.name}: table must be at least 4, not {self.table}")
        if self.horizon < 1:
            raise UserError(f"{self.name}: horizon must be at least 1, not {self.horizon}")
        if ":" in self.environment:  # `module:Name-v0`, which Gymnasium imports
            may_import(self.environment)

    def make(self, params: Params) -> GoalWorld:
        """Return the environment with the task's goal."""
        return self._world(np.asarray(params["goal"]))

    def change(self, env: GoalWorld, params: Params) -> bool:
        """Return the same environment with another goal."""
        env.pursue(np.asarray(params["goal"]))
        return True

    def _world(self, goal: np.ndarray | None = None) -> GoalWorld:
        with contextlib.suppress(ImportError):
            import gymnasium_robotics  # pyright: ignore[reportMissingImports]

            gymnasium.register_envs(gymnasium_robotics)
        try:
            env = gymnasium.make(self.environment, disable_env_checker=True)
        except (gymnasium.error.UnregisteredEnv, ModuleNotFoundError) as error:
            raise UserError(
                f"Gymnasium cannot make '{self.environment}': {' '.join(str(error).split())}"
                " (Gymnasium-Robotics' environments need the extra: pip install 'stemrl[robotics]')"
            ) from None
        return GoalWorld(env, self.environment, goal)

    @property
    def known(self) -> _Known:
        """The goals and the rule of reward, asked once in the life of a process."""
        if self not in _known:
            world = self._world()
            try:
                goals = np.stack([world.drawn(seed) for seed in range(self.table)])
                _known[self] = _Known(goals, _threshold(self.environment, world, goals[0]))
            finally:
                world.close()
        return _known[self]

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        """Draw one of the goals that the environment drew, of the first three quarters in training
        and of the last in test."""
        if split == "ood":
            raise UserError(f"the family '{self.name}' has no split 'ood': its goals are its own")
        goals, first = self.known.goals, self.table * 3 // 4
        mine = jnp.asarray(goals[:first] if split == "train" else goals[first:])
        return {"goal": mine[jax.random.randint(key, (), 0, len(mine))]}

    def context(self, params: Params) -> Float[Array, " size"]:
        """Return the goal."""
        return params["goal"]

    @property
    def goal_space(self) -> Box:
        """The box around the goals that were drawn."""
        low, high = (f(self.known.goals, axis=0).tolist() for f in (np.min, np.max))
        return Box((len(low),), tuple(low), tuple(high))

    def achieved(self, obs: Float[Array, "... n"]) -> Float[Array, "... size"]:
        """Return `achieved_goal`."""
        return obs[..., -self.known.goals.shape[1] :]

    def with_goal(self, params: Params, goal: Float[Array, " size"]) -> Params:
        """Return a task with this goal; the parameters are the goal and nothing else."""
        return {"goal": goal}

    def reward(self, obs: Array, action: Array, next_obs: Array, params: Params):
        """Return the reward by the distance of `achieved_goal` to the goal; no goal ends an
        episode."""
        distance = jnp.sqrt(jnp.sum((self.achieved(next_obs) - params["goal"]) ** 2, axis=-1))
        threshold = self.known.threshold
        reward = -distance if threshold is None else -(distance > threshold).astype(jnp.float32)
        return reward, jnp.asarray(False)


_known: dict[GymnasiumGoals, _Known] = {}


def _threshold(name: str, world: GoalWorld, goal: np.ndarray) -> float | None:
    """Of the rule by which `compute_reward` pays: 0 within a distance and −1 beyond, or, `None`, minus the
    distance. Raises `UserError` if it is neither."""
    inner: Any = world.unwrapped
    if not hasattr(inner, "compute_reward"):
        raise UserError(
            f"'{name}' has no compute_reward, so nothing says what another goal had paid"
        )
    threshold = float(getattr(inner, "distance_threshold", 0.1))
    # Not at the threshold itself, where rounding decides.
    distances = threshold * np.linspace(0.05, 3.0, 24)
    way = np.random.default_rng(0).normal(size=(len(distances), len(goal)))
    way *= distances[:, None] / np.linalg.norm(way, axis=1, keepdims=True)
    wanted = goal.astype(float)
    paid = np.array([float(inner.compute_reward(wanted + w, wanted, {})) for w in way])
    if np.array_equal(paid, -(distances > threshold).astype(float)):
        return threshold
    if np.allclose(paid, -distances, rtol=1e-3):
        return None
    raise UserError(
        f"'{name}' pays neither −1 beyond its distance_threshold and 0 within nor minus the distance;"
        " write a family of your own, with its rule as `reward`"
    )
