"""RL²: the optimum over a trial, only by remembering; exact recomputation; trial units."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probes import AbstractProbe, Corridor, HiddenArm, Picture
from stemrl.core import Box, Problem, UserError
from stemrl.meta.history import HistoryAgent
from stemrl.meta.rl2 import RL2, evaluate_lanes, rl2_loss
from stemrl.meta.trials import trial_advantages
from stemrl.rl import play

OTHERS = ("lstm", "delta", "snail", "transformer", "ttt")


def small(**settings):
    return RL2(**{"hidden_size": 16, "batch_steps": 400, "minibatches": 2, **settings})


@eqx.filter_jit
def update(learner, problem, state):
    return learner.update(problem, state)


def train(learner, problem, updates, seed=0):
    state = eqx.filter_jit(learner.init)(problem, jax.random.key(seed))
    for _ in range(updates):
        state, _ = update(learner, problem, state)
    return state


def trial_return(agent, problem, episodes):
    """Mean over 100 tasks of a whole trial's return."""
    params = problem.target.tasks(jax.random.key(11), "test", 100)
    trials = eqx.filter_jit(play)(agent, problem.target, params, None, jax.random.key(12), episodes)
    return float(trials.returns.sum(axis=(1, 2)).mean())


class Forgetful(HistoryAgent):
    """The same agent, its memory cleared after every episode."""

    def adapt(self, memory, carries, episodes, key):
        return self.start(memory.context, key)


def forgetful(agent):
    return Forgetful(**{f.name: getattr(agent, f.name) for f in dataclasses.fields(agent)})


# `test_memories.py` holds what looks back to the contract of what reads step by step, and `make long`
# to the same optimum.
@pytest.mark.parametrize(
    "cell", ("gru", *(pytest.param(c, marks=pytest.mark.long) for c in OTHERS))
)
def test_the_optimum_over_a_trial_and_only_by_remembering(cell):
    """5.5 of 6; cleared between episodes, every episode costs a guess: 4.5."""
    problem = Problem.of(HiddenArm())
    learner = small(cell=cell, batch_steps=900, learning_rate=5e-3)
    agent = learner.agent(problem, train(learner, problem, 25))
    assert trial_return(agent, problem, 3) == pytest.approx(5.5, abs=0.2)
    assert trial_return(forgetful(agent), problem, 3) < 4.9


class FarNumber(AbstractProbe):
    """Continuous actions, episodes that end by themselves after a random number of steps."""

    name: ClassVar[str] = "probe-far-number"
    actions: ClassVar[Box] = Box((2,), -2.0, 2.0)
    horizon: int = eqx.field(static=True, default=6)

    def first(self, key, params):
        return jax.random.uniform(key)

    def move(self, key, state, action, params):
        return state + action[0], -jnp.abs(state), jax.random.bernoulli(key, 0.3)


@pytest.mark.parametrize(
    ("family", "cell", "settings"),
    (
        (Corridor(), "lstm", {"previous_observation": True, "head_hidden_size": 8}),
        (FarNumber(), "transformer", {"layers": 1}),
        # The same contract of cells, which `test_memories.py` tests without a policy around them.
        pytest.param(FarNumber(), "snail", {}, marks=pytest.mark.long),
        pytest.param(FarNumber(), "ttt", {}, marks=pytest.mark.long),
        (FarNumber(), "gru", {"previous_observation": True, "chrono_span": 9}),
        pytest.param(Picture(), "gru", {"head_hidden_size": 8}, marks=pytest.mark.long),
    ),
)
def test_learning_recomputes_what_acting_computed(family, cell, settings):
    """Ratios of 1 at the first step, in later chunks too, which start in the middle of trials."""
    # The context is read as well, where there is one.
    problem = Problem.of(family, "context" if cell == "lstm" else "nothing")
    learner = small(cell=cell, batch_steps=160, **settings)

    @eqx.filter_jit
    def collect_and_recompute(state):
        state, chunk = learner.collect(problem, state)
        lanes, value = learner.lanes_of(problem, state, chunk, chunk.rollout.transitions.reward)
        log_prob, _, again = evaluate_lanes(state.networks, lanes)
        _, metrics = rl2_loss(state.networks, lanes, 0.2, 0.5, 0.0)
        return state, (lanes.log_prob - log_prob.T, value - again.T, metrics["kl"], lanes.reset)

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    for chunk in range(2):
        # Whole trials end with a chunk only where all episodes are of one length.
        assert bool(jnp.all(state.rollout_state.fresh)) == (
            chunk == 0 or isinstance(family, Picture)
        )
        state, (log_ratio, difference, kl, reset) = collect_and_recompute(state)
        np.testing.assert_allclose(log_ratio, 0.0, atol=1e-5)
        np.testing.assert_allclose(difference, 0.0, atol=1e-4)
        assert float(kl) < 1e-8
        assert bool(reset[:, 1:].any())


def test_advantages_in_units_of_trials():
    """By hand, γ = ½, λ = ½. An episode ends after the first step, the trial after the third."""
    reward = jnp.array([1.0, 2.0, 3.0, 4.0])
    value = jnp.array([1.0, 2.0, 4.0, 8.0])
    trial_end = jnp.array([False, False, True, False])
    advantage = trial_advantages(reward, value, jnp.float32(16.0), trial_end, 0.5, 0.5)
    # δ = 1 + ½·2 − 1, 2 + ½·4 − 2, 3 + 0 − 4, 4 + ½·16 − 8
    np.testing.assert_allclose(advantage, [1 + 0.25 * 1.75, 2 - 0.25, -1.0, 4.0])


def test_memory_outlives_the_episode_and_stands_still_after_it():
    """After rounds that ended early: the memory is what a plain loop over real steps gives."""
    family = FarNumber()
    problem = Problem.of(family)
    learner = small()
    agent = learner.agent(problem, eqx.filter_jit(learner.init)(problem, jax.random.key(0)))
    act, observe = eqx.filter_jit(agent.act), eqx.filter_jit(agent.observe)
    params = family.tasks(jax.random.key(0), "test", 3)
    trials = eqx.filter_jit(play)(
        agent, family, params, None, jax.random.key(1), 3, adapt_last=True
    )
    assert int(trials.lengths.min()) < 6
    for task in range(3):
        memory = agent.start(None, jax.random.key(0))
        carry = memory.history
        for episode in range(3):
            steps = jax.tree.map(lambda x, at=(task, episode): x[at][0], trials.transitions)
            for time in range(int(steps.valid.sum())):
                step = jax.tree.map(lambda x, time=time: x[time], steps)
                _, carry, info = act(memory, carry, step.obs, jax.random.key(0))
                np.testing.assert_allclose(info["value"], step.info["value"], atol=1e-5)
                carry = observe(memory, carry, step)
        np.testing.assert_allclose(trials.memory.history.hidden[task], carry.hidden, atol=1e-5)
        np.testing.assert_allclose(trials.memory.history.previous[task], carry.previous, atol=1e-6)
        assert carry.previous[-1] == 1.0


def test_nothing_is_compiled_twice_and_no_key_is_used_twice():
    problem = Problem.of(HiddenArm())
    learner = small(batch_steps=60, epochs=1)
    once = eqx.filter_jit(eqx.debug.assert_max_traces(learner.update, max_traces=1))
    with jax.debug_key_reuse(True):
        state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
        for _ in range(3):
            state, metrics = once(problem, state)
    expected = {"return", "return/first", "return/last", "loss/policy", "loss/value", "entropy"}
    assert expected <= set(metrics) and all(jnp.isfinite(v) for v in metrics.values())


def test_an_update_is_made_of_whole_trials():
    problem = Problem.of(HiddenArm())
    learner = small(batch_steps=100, trials=2)
    assert learner.shape(problem) == (12, 8)
    assert learner.steps_per_update(problem) == 96
    assert small(episodes=5).trial_episodes(problem) == 5


def test_the_previous_observation_is_read_again():
    """Flattened and normalized as the present one is; pictures are refused."""
    problem = Problem.of(FarNumber())
    learner = small(previous_observation=True)
    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    state = eqx.tree_at(
        lambda s: s.observations, state, state.observations.update(jnp.eye(4)[:, :1])
    )
    agent = learner.agent(problem, state)
    memory = agent.start(None, jax.random.key(0))
    params = FarNumber().sample(jax.random.key(0), "train")
    trials = play(
        agent, FarNumber(), jax.tree.map(lambda x: x[None], params), None, jax.random.key(1), 1
    )
    step = jax.tree.map(lambda x: x[0, 0, 0, 0], trials.transitions)
    carry = agent.observe(memory, memory.history, step)
    np.testing.assert_allclose(carry.previous[-1], step.obs.reshape(()), rtol=1e-6)
    inputs = agent.perceive_previous(carry.previous)
    np.testing.assert_allclose(inputs[-1:], agent.observations(step.obs.reshape(1)), rtol=1e-6)
    with pytest.raises(UserError, match="previous_observation is for vectors"):
        learner.init(Problem.of(Picture()), jax.random.key(0))


@pytest.mark.parametrize(
    "settings",
    (
        {"hidden_size": 0},
        {"batch_steps": 0},
        {"cell": "ntm"},
        {"episodes": -1},
        {"chrono_span": -1},
        {"chrono_span": 9, "cell": "delta"},
    ),
)
def test_bad_settings(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        RL2(**settings)
