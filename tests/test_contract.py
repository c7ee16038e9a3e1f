"""Mistakes in a family, a method or an agent of one's own are found before anything is compiled."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stemrl
from stemrl.cli import main
from stemrl.core import Box, Discrete, Problem, check_agent, check_family, check_learner
from stemrl.errors import UserError
from stemrl.tasks.point import Point2D
from tiny import Tiny


class World(eqx.Module):
    """Two numbers to move, and whatever is to be wrong with it."""

    obs: Any = (2,)
    state: Any = (2,)
    next_state: Any = (2,)
    reward: Any = ()
    values: int = 6
    space: Any = Box((2,))
    events: Any = dataclasses.field(default_factory=dict)

    def reset(self, key, params):
        return jnp.zeros((2,)), jnp.zeros(self.state)

    def step(self, key, state, action, params):
        no = jnp.zeros((), bool)
        reward = jnp.zeros(self.reward)
        result = (jnp.zeros(self.obs), jnp.zeros(self.next_state), reward, no, no, self.events)
        return result[: self.values]

    def observation_space(self, params=None):
        return self.space

    def action_space(self, params=None):
        return Discrete(2)


class Mistaken(stemrl.AbstractFamily):
    """A family of one world, and its own mistakes."""

    name = "mistaken"
    world: World = eqx.field(default_factory=World)
    horizon: int = 5
    parameters: Any = (1.0,)

    @property
    def env(self):
        return self.world

    def sample(self, key, split):
        return jax.tree.map(jnp.asarray, self.parameters)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Mistaken(World(obs=(3,))), r"step returns an observation of shape \(3,\), its space says \(2,\)"),
        (Mistaken(World(next_state=(3,))), r"step returns another state than reset: it has the shape \(2,\) there and \(3,\) here"),
        (Mistaken(World(reward=(1,))), r"step returns a reward of shape \(1,\); it is one number"),
        (Mistaken(World(values=5)), r"step returns 5 values, not \(observation, state, reward"),
        (Mistaken(World(events=())), r"the last value of step is a tuple, not a dictionary"),
        (Mistaken(World(space="wide")), r"observation_space is a builtins.str, not a space of stemrl's"),
        (Mistaken(World(space=Discrete(2))), r"reset returns an observation of shape \(2,\), its space says \(\)"),
        (Mistaken(parameters={}), "sample returns no array"),
        (Mistaken(horizon=0), "horizon is 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_family_is_named(family: Mistaken, message: str):
    with pytest.raises(UserError, match=f"family 'mistaken': {message}"):
        check_family(family)


def test_what_is_right_is_let_through():
    check_family(Mistaken())
    check_family(Point2D())
    problem = Problem.of(Point2D())
    check_learner(Tiny(), problem)


def test_what_raises_is_said_with_its_place():
    class Raising(Mistaken):
        def sample(self, key, split):
            raise KeyError("wind")

    with pytest.raises(
        UserError, match=r"sample failed: KeyError: 'wind' \(.*test_contract.py, line"
    ):
        check_family(Raising())


RNG = np.random.default_rng(0)


class Drawn(World):
    """What is drawn by NumPy at this place is drawn once, when it is compiled."""

    by: str = "nothing"

    def reset(self, key, params):
        start = jnp.asarray(RNG.normal(size=2)) if self.by == "reset" else jnp.zeros(2)
        return start, start

    def step(self, key, state, action, params):
        _, state, reward, *rest = super().step(key, state, action, params)
        inner = jax.jit(lambda x: x + jnp.asarray(RNG.normal(size=2)).sum())
        reward = inner(reward) if self.by == "step" else reward + jnp.asarray([jnp.nan, 1.0])[1]
        return state, state, reward, *rest


@pytest.mark.parametrize("by", ["sample", "reset", "step"])
def test_numbers_that_are_drawn_by_numpy_are_not_frozen_in_silence(by: str):
    class Frozen(Mistaken):
        def sample(self, key, split):
            return jnp.asarray(RNG.uniform(size=3)) if by == "sample" else jnp.ones(3)

    with pytest.raises(UserError, match=f"{by} has other numbers each time it is compiled"):
        check_family(Frozen(Drawn(by=by)))
    check_family(Mistaken(Drawn()))


def test_a_mistake_in_a_method_or_agent_is_named():
    problem = Problem.of(Point2D())

    class Silent(Tiny):
        def learn(self, problem, state, experience):
            return state, {}

    class Growing(Tiny):
        def learn(self, problem, state, experience):
            new, metrics = super().learn(problem, state, experience)
            return (new, new), metrics

    with pytest.raises(UserError, match="no metric 'return'"):
        check_learner(Silent(), problem)
    with pytest.raises(UserError, match="learn returns another state than init"):
        check_learner(Growing(), problem)
    state = Tiny().init(problem, jax.random.key(0))
    agent = Tiny().agent(problem, state)

    class Twisted(type(agent)):
        def act(self, memory, carry, obs, key):
            return jnp.zeros((7,)), carry, {}

    fields = {f.name: getattr(agent, f.name) for f in dataclasses.fields(agent)}
    with pytest.raises(UserError, match=r"act returns an action of shape \(7,\), the space of"):
        check_agent(Twisted(**fields), problem)

    class Curt(type(agent)):
        def act(self, memory, carry, obs, key):
            return jnp.zeros(2), carry

    class Hasty(Tiny):
        def agent(self, problem, state):
            return Curt(**fields)

    # It is the agent's mistake, and not of what plays it.
    with pytest.raises(UserError, match=r"agent Curt: act returns 2 values, not \(action"):
        check_learner(Hasty(), problem)


UNFINISHED = """
import stemrl


def made():
    class Inner(stemrl.AbstractFamily):
        horizon: int = 3

    return Inner


Unfinished = made()
"""


def test_what_a_class_lacks_is_said_and_a_class_from_a_function_is_found(tmp_path: Path, capsys):
    (tmp_path / "unfinished.py").write_text(UNFINISHED)
    assert main(["train", "ppo", f"{tmp_path}/unfinished.py:Unfinished", "--steps", "1"]) == 2
    said = capsys.readouterr().err
    assert "lacks env, name, sample, which every family has" in said and said.count("\n") == 1
