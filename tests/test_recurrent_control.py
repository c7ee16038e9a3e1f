"""RDPG and RSVG(0): a trial in the replay by hand, gradients through time, the optimum by remembering."""

import dataclasses
import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probes import AbstractProbe, HiddenArm
from stemrl.core import Box, Problem, Transition, UserError
from stemrl.meta import RDPG, RSVG
from stemrl.meta.stories import Story
from stemrl.rl import play

KEY = jax.random.key(0)


class Recall(AbstractProbe):
    """A cue of ±0.8 is shown at first and never again; each step pays −(a − cue)². The best with memory
    has 0, the best without has −0.64 a step but the first."""

    name: ClassVar[str] = "probe-recall"
    observations = Box((1,))
    actions = Box((1,), -1.0, 1.0)
    horizon: int = eqx.field(static=True, default=4)

    def first(self, key, params):
        return jnp.stack([jnp.where(jax.random.bernoulli(key), 0.8, -0.8), 0.0])

    def see(self, state):
        return jnp.where(state[1] == 0, state[:1], 0.0)

    def move(self, key, state, action, params):
        return state.at[1].add(1.0), -((action[0] - state[0]) ** 2), False


SMALL = dict(
    hidden_size=16, hidden=(32,), num_envs=16, gradient_steps=24, batch_size=32, warm_up_steps=200,
    learning_rate=3e-3, discount=0.9, target_rate=0.02,
)  # fmt: skip
LEARNERS = {"rdpg": RDPG(**SMALL), "rsvg": RSVG(**SMALL)}
PROBLEM = Problem.of(Recall())


@eqx.filter_jit
def updated(learner):
    """The agent after 40 updates, and the metrics."""
    state = eqx.filter_jit(learner.init)(PROBLEM, KEY)
    state, metrics = jax.lax.scan(lambda s, _: learner.update(PROBLEM, s), state, None, length=40)
    return learner.agent(PROBLEM, state), metrics


@functools.cache
def begun(name):
    """A learner's first state, its agent and some trials."""

    @eqx.filter_jit
    def begin(learner):
        state = learner.init(PROBLEM, KEY)
        return state, learner.agent(PROBLEM, state), learner.collect(PROBLEM, state)[1][1]

    return begin(LEARNERS[name])


def mean_return(agent, problem):
    params = problem.target.tasks(KEY, "test", 64)
    trials = eqx.filter_jit(play)(agent, problem.target, params, None, KEY, 1)
    return float(trials.returns.mean())


@pytest.mark.parametrize("name", LEARNERS)
def test_it_recalls_a_cue_and_only_by_its_memory(name: str):
    """The same program with and without what the memory says."""
    learner, returns = LEARNERS[name], {}
    for memory in (1.0, 0.0):
        told = eqx.tree_at(lambda x: x.memory, learner, jnp.asarray(memory))
        agent, metrics = updated(told)
        assert np.isfinite(metrics["loss/value"]).all()
        returns[memory] = mean_return(dataclasses.replace(agent, greedy=True), PROBLEM)
    assert returns[1.0] > -0.2
    assert returns[0.0] < -1.7  # three steps of −0.64


def steps_of(reward, valid, terminated, episodes):
    """Transitions `[episodes, 1, time]` of one number each."""
    shape = (episodes, 1, len(reward) // episodes)
    leaf = lambda x: jnp.asarray(x, jnp.float32).reshape(shape)  # noqa: E731
    number = jnp.arange(len(reward), dtype=jnp.float32).reshape(shape)
    flags = [leaf(x).astype(bool) for x in (terminated, np.zeros(len(reward)), valid)]
    terminated, truncated, valid = flags
    return Transition(
        number[..., None], 0.1 * number[..., None], leaf(reward), terminated, truncated,
        number[..., None] + 0.5, valid, {"previous": jnp.zeros((*shape, 3))}, {},
    )  # fmt: skip


def test_a_trial_in_the_replay_by_hand():
    """Two episodes of up to three steps, of which the first ends after two."""
    agent = begun("rdpg")[1]
    steps = steps_of([1, 2, 0, 4, 5, 6], [1, 1, 0, 1, 1, 1], [0, 1, 0, 0, 0, 0], 2)
    story = eqx.filter_jit(lambda steps: Story.of(agent, steps, None))
    told = story(steps)
    assert told.following.tolist() == [1, 3, 3, 4, 5, 6]
    assert told.carries_on.tolist() == [1, 1, 1, 1, 1, 0]  # the trial's end alone
    assert told.valid.tolist() == [True, True, False, True, True, True, True]
    assert told.obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 5.5]
    np.testing.assert_allclose(told.previous[-1], [0.5, 6, 0], atol=1e-6)
    # Of one episode, its own end counts, and a time limit does not.
    alone = story(steps_of([1, 2, 0], [1, 1, 0], [0, 1, 0], 1))
    assert alone.carries_on.tolist() == [1, 0, 1] and alone.following.tolist() == [1, 3, 3]
    cut = steps_of([1, 2, 3], [1, 1, 1], [0, 0, 0], 1)
    cut = story(cut._replace(truncated=cut.truncated.at[..., 2].set(True)))
    assert cut.carries_on.tolist() == [1, 1, 1]
    # What is read after the limit looks like any other input: no step has learned what an end means.
    np.testing.assert_allclose(cut.previous[-1], [0.2, 3, 0], atol=1e-6)


def test_memory_lives_on_only_where_trials_have_several_episodes():
    key = jax.random.key(1)
    for episodes in (1, 2):
        learner = RDPG(**SMALL | {"episodes": episodes})
        agent = learner.agent(PROBLEM, jax.eval_shape(learner.init, PROBLEM, KEY))
        assert agent.across_episodes is (episodes == 2)
    agent = begun("rdpg")[1]
    memory = agent.start(None, key)
    carries = jax.tree.map(lambda x: x[None] + 1, agent.begin(memory, key))
    assert agent.adapt(memory, carries, None, key) is memory


def test_the_noise_that_it_explores_with_is_not_learned():
    learner = LEARNERS["rsvg"]
    state, agent, stories = begun("rsvg")
    slope = jax.jit(jax.grad(lambda n: learner.loss(n, state.slow, agent, stories, NOISE)[0]))
    assert slope(state.networks).actor.noise == 0.0


NOISE = jnp.zeros((2, 5, 16, 1))


def test_the_value_target_by_hand():
    learner = RDPG(**SMALL | {"reward_scale": 0.5})
    state, agent, stories = begun("rdpg")
    loss = jax.jit(lambda now, slow: learner.loss(now, slow, agent, stories, NOISE)[1])
    slow = jax.tree.map(lambda x: jnp.zeros_like(x), state.slow)
    # A critic of zeros values nothing: the target is the reward, scaled.
    zero = state.networks._replace(critic=slow.critic)
    metrics = loss(zero, slow)
    expected = np.mean((0.5 * np.asarray(stories.reward)) ** 2)  # two critics, a half each
    np.testing.assert_allclose(metrics["loss/value"], expected, rtol=1e-5)
    # One whose heads say 1 adds γ to all, since a time limit cuts without ending.
    one = eqx.tree_at(
        lambda n: [h.layers[-1].bias for h in n.critic.heads], slow, [jnp.ones(1)] * 2
    )
    metrics = loss(zero, one)
    expected = np.mean((0.5 * np.asarray(stories.reward) + 0.9) ** 2)
    np.testing.assert_allclose(metrics["loss/value"], expected, rtol=1e-5)


def test_gradients_run_back_to_the_first_step():
    """The policy's loss at the last step alone, against a change of the first observation's weight."""
    learner = LEARNERS["rsvg"]
    state, agent, stories = begun("rsvg")
    only = stories._replace(valid=stories.valid.at[:, 1:-2].set(True))

    def policy_loss(obs):
        changed = only._replace(obs=obs)
        return learner.loss(state.networks, state.slow, agent, changed, NOISE)[1]["loss/policy"]

    slope = jax.jit(jax.grad(policy_loss))(only.obs)
    assert (np.abs(slope[:, 0]) > 0).any()

    # The memory's own weights, by finite differences.
    def by_weight(scale):
        networks = eqx.tree_at(
            lambda n: n.actor.cell.recurrent, state.networks, replace_fn=lambda w: w * scale
        )
        return learner.loss(networks, state.slow, agent, only, NOISE)[1]["loss/policy"]

    exact = jax.jit(jax.grad(by_weight))(1.0)
    numeric = (jax.jit(by_weight)(1.03) - jax.jit(by_weight)(0.97)) / 0.06
    np.testing.assert_allclose(exact, numeric, rtol=0.05, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="needs continuous actions"):
        RDPG().init(Problem.of(HiddenArm()), KEY)
    with pytest.raises(UserError, match="cell must be one of"):
        RSVG(cell="rnn")
