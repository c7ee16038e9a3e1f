"""EPOpt: which episodes count, that all of them make PPO, and that the worst make it careful."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.rl import PPO
from stemrl.transfer import EPOpt
from stemrl.transfer.epopt import worst

KEY = jax.random.key(0)


class Gamble(probes.AbstractProbe):
    """One choice: 0.3 for certain, or a gamble that pays 1 in four worlds of five and −1 in the fifth:
    the gamble is better on average (0.6), and worse in the worst fifth (−1)."""

    name: ClassVar[str] = "probe-gamble"
    horizon: int = eqx.field(static=True, default=2)

    def sample(self, key, split):
        return {"task": jax.random.bernoulli(key, 0.8, (1,)).astype(jnp.float32)}

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        pays = jnp.where(params["task"][0] > 0, 1.0, -1.0)
        return state, jnp.where(action == 1, pays, 0.3), True


def test_the_worst_part_by_hand():
    returns = jnp.asarray([3.0, 1.0, 2.0, 5.0, 4.0])
    np.testing.assert_array_equal(worst(returns, 0.25), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(worst(returns, 1.0), np.ones(5))
    np.testing.assert_array_equal(worst(returns, 1e-6), worst(returns, 0.25))
    # Equal returns are equally bad.
    assert worst(jnp.zeros(4), 0.1).sum() == 4


INNER = PPO(hidden=(8,), epochs=4, minibatches=2, learning_rate=2e-2, discount=1.0)


@pytest.fixture(scope="module")
def learned() -> dict[float, tuple[float, dict]]:
    """The probability of the gamble after training, by ε; both in one program."""
    problem = Problem.of(Gamble())

    @eqx.filter_jit
    def train(epsilon, key):
        learner = dataclasses.replace(EPOpt(INNER, episodes=60, warm_up_updates=5), epsilon=epsilon)
        state = learner.init(problem, key)
        state, metrics = jax.lax.scan(lambda s, _: learner.update(problem, s), state, length=60)
        logits = state.networks.policy(state.normalizer(jnp.zeros((1, 1)))).logits
        return jax.nn.softmax(logits)[0, 1], metrics

    return {e: train(jnp.asarray(e), KEY) for e in (0.2, 1.0)}


def test_it_prefers_what_is_best_in_the_worst_worlds(learned):
    gamble, metrics = learned[0.2]
    assert gamble < 0.15
    assert float(metrics["return/worst"][-1]) > 0.2
    np.testing.assert_allclose(metrics["epsilon"][:6], [1, 1, 1, 1, 1, 0.2])


def test_on_all_episodes_it_gambles(learned):
    """The ablation: ε = 1 maximizes the mean."""
    assert learned[1.0][0] > 0.85


def test_with_epsilon_1_it_is_ppo():
    problem = Problem.of(Gamble())
    learner = EPOpt(INNER, episodes=8, epsilon=1.0)
    inner = learner.inner(problem)

    @eqx.filter_jit
    def both(learner, inner):
        state = learner.init(problem, KEY)
        state, trials = learner.collect(problem, state)
        ours, _ = learner.learn(problem, state, trials)
        steps = jax.tree.map(lambda x: jnp.swapaxes(x[:, 0, 0], 0, 1), trials.transitions)
        _, key = jax.random.split(state.key)
        prepared, rows, _ = inner.prepare(problem, state, steps)
        plain, _, _ = inner.improve(
            inner.loss, prepared.networks, prepared.optimizer, rows, prepared.updates, key
        )
        return ours.networks, plain

    for one, other in zip(*map(jax.tree.leaves, both(learner, inner)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon": 0.0}, "epsilon must be in"),
        ({"epsilon": 1.5}, "epsilon must be in"),
        ({"epsilon": 0.1, "episodes": 5}, "at least one episode"),
        ({"warm_up_updates": -1}, "warm_up_updates must be at least 0"),
        ({"learner": "sac"}, "'sac' cannot learn inside 'epopt'"),
        ({"episodes": 0}, "episodes must be at least 1"),
    ],
)
def test_refusals(settings, says):
    with pytest.raises(UserError, match=says):
        EPOpt(**settings)
