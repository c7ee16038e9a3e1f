"""The smallest learner, and points stepped in each of the three ways: for tests of the run loop.

`Tiny` is REINFORCE with a linear Gaussian policy. It can be told to go wrong at an update.
"""

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from stemrl.core import AbstractAgent, AbstractFamily, AbstractLearner, Box, Params, Problem, Split
from stemrl.core.family import Stepping
from stemrl.rl import play
from stemrl.tasks.point import Point2D, PointEnv, PointState


class TinyAgent(AbstractAgent):
    """a = W o + b + noise; learns nothing while acting."""

    weight: Float[Array, "actions observations"]
    bias: Float[Array, " actions"]
    episodes_per_round: int = eqx.field(static=True, default=2)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Any, key: PRNGKeyArray):
        return ()

    def begin(self, memory: Any, key: PRNGKeyArray):
        return ()

    def act(self, memory: Any, carry: Any, obs: Array, key: PRNGKeyArray):
        noise = jax.random.normal(key, self.bias.shape)
        return self.weight @ obs + self.bias + 0.3 * noise, carry, {"noise": noise}


class TinyState(eqx.Module):
    """Everything that `Tiny` knows."""

    weight: Float[Array, "actions observations"]
    bias: Float[Array, " actions"]
    lowest: Float[Array, ""]
    """Infinite at first, on purpose."""
    updates: Int[Array, ""]
    half: Array
    """A type that NumPy lacks."""
    key: PRNGKeyArray


class Tiny(AbstractLearner):
    """REINFORCE with a linear policy."""

    name: ClassVar[str] = "tiny"
    budget_units = ("steps",)

    learning_rate: float = 0.1
    """Step size."""
    tasks: int = eqx.field(static=True, default=3)
    """Tasks an update,"""
    episodes_per_round: int = eqx.field(static=True, default=2)
    """and episodes in each of them."""
    poison: Literal["nothing", "loss", "parameter"] = eqx.field(static=True, default="nothing")
    """What stops being finite,"""
    poison_at: int = eqx.field(static=True, default=5)
    """in this update."""
    target_steps_taken: int = eqx.field(static=True, default=0)
    """What it claims to take in the target."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(2, 2))
    """Unused: a tuple, to survive JSON."""

    def init(self, problem: Problem, key: PRNGKeyArray) -> TinyState:
        weight_key, key = jax.random.split(key)
        source = problem.source
        actions, inputs = source.action_space.shape[0], source.observation_space.shape[0]
        return TinyState(
            0.1 * jax.random.normal(weight_key, (actions, inputs)),
            jnp.zeros(actions),
            jnp.asarray(jnp.inf),
            jnp.zeros((), jnp.int32),
            jnp.zeros(3, jnp.bfloat16),
            key,
        )

    def agent(self, problem: Problem, state: TinyState) -> TinyAgent:
        return TinyAgent(state.weight, state.bias, self.episodes_per_round)

    def steps_per_update(self, problem: Problem) -> int:
        return self.tasks * self.episodes_per_round * problem.source.horizon

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        return updates * self.target_steps_taken

    def collect(self, problem: Problem, state: TinyState):
        task_key, play_key, key = jax.random.split(state.key, 3)
        params = problem.source.tasks(task_key, "train", self.tasks)
        trials = play(self.agent(problem, state), problem.source, params, None, play_key, 1)
        return eqx.tree_at(lambda s: s.key, state, key), trials

    def learn(self, problem: Problem, state: TinyState, experience: Any):
        steps, returns = experience.transitions, experience.returns
        advantage = (returns - returns.mean())[..., None] * steps.valid
        noise = steps.info["noise"] * advantage[..., None]
        updates = state.updates + 1
        bad = jnp.where(updates == self.poison_at, jnp.nan, 0.0)
        scale = self.learning_rate / advantage.size
        slope = jnp.einsum("trwsi,trwsj->ij", noise, steps.obs)
        state = TinyState(
            state.weight + scale * slope + (bad if self.poison == "parameter" else 0.0),
            state.bias + scale * noise.sum((0, 1, 2, 3)),
            jnp.minimum(state.lowest, returns.min()),
            updates,
            state.half + 1,
            state.key,
        )
        loss = -jnp.mean(advantage) + (bad if self.poison == "loss" else 0.0)
        return state, {"return": returns.mean(), "loss/policy": loss, "undefined": jnp.inf}


class CallbackPointEnv(eqx.Module):
    """The point, moved by NumPy that compiled code calls."""

    inner: PointEnv = eqx.field(static=True, default=PointEnv(step_size=0.1))

    def reset(self, key: PRNGKeyArray, params: Params):
        return self.inner.reset(key, params)

    def step(self, key: PRNGKeyArray, state: PointState, action: Array, params: Params):
        shape = jax.ShapeDtypeStruct((2,), jnp.float32)
        position = jax.pure_callback(
            lambda p, a: (np.asarray(p) + np.asarray(a)).astype(np.float32),
            shape, state.position, action, vmap_method="broadcast_all",
        )  # fmt: skip
        reward = -jnp.linalg.norm(position - params["goal"])
        no = jnp.asarray(False)
        return position, PointState(position), reward, no, no, {}

    def observation_space(self, params: Params | None = None) -> Box:
        return self.inner.observation_space(params)

    def action_space(self, params: Params | None = None) -> Box:
        return self.inner.action_space(params)


class CallbackPoint(AbstractFamily):
    """`point-2d` whose steps a simulator takes."""

    name: ClassVar[str] = "callback-point"
    stepping: ClassVar[Stepping] = "callback"

    horizon: int = eqx.field(static=True, default=5)
    """Steps an episode."""

    @property
    def env(self) -> CallbackPointEnv:
        return CallbackPointEnv()

    def sample(self, key: PRNGKeyArray, split: Split) -> Params:
        return Point2D().sample(key, split)
