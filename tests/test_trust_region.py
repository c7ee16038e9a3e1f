"""TRPO as a learner: its step against the exact natural gradient, its bound, the optima of probes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from probes import ChooseSide, MatchNumber
from stemrl.core import Problem, UserError
from stemrl.rl import TRPO, play
from stemrl.rl.on_policy import ActorCritic, Rows

KEY = jax.random.key(0)
SMALL = TRPO(
    num_envs=16, rollout_length=16, hidden=(16,), epochs=2, minibatches=2, learning_rate=3e-3,
    max_kl=jnp.asarray(0.01),
)  # fmt: skip


@eqx.filter_jit
def trained(learner, problem):
    state = eqx.filter_jit(learner.init)(problem, KEY)
    state, metrics = jax.lax.scan(lambda s, _: learner.update(problem, s), state, None, length=40)
    return learner.agent(problem, state), metrics


def mean_return(agent, problem):
    params = problem.target.tasks(KEY, "test", 200)
    trials = eqx.filter_jit(play)(
        dataclasses.replace(agent, greedy=True), problem.target, params, None, KEY, 1
    )
    return float(trials.returns.mean())


@pytest.mark.parametrize(
    "family",
    [pytest.param(ChooseSide(), marks=pytest.mark.long), MatchNumber()],
    ids=lambda f: f.name,
)
def test_the_optimum_of_a_probe_inside_the_trust_region(family):
    """Both kinds of actions. Nearly every step is taken, and none leaves the region."""
    problem = Problem.of(family)
    agent, metrics = trained(SMALL, problem)
    best = 1.0 if isinstance(family, ChooseSide) else 0.0
    assert mean_return(agent, problem) == pytest.approx(best, abs=0.06)
    assert float(metrics["kl"].max()) <= 0.01 and float(metrics["accepted"].mean()) > 0.5
    # The bound is what keeps it: the same program with a wide one moves far in one update.
    wide = trained(eqx.tree_at(lambda x: x.max_kl, SMALL, jnp.asarray(1.0)), problem)[1]
    assert float(wide["kl"].max()) > 0.1


def test_the_step_is_the_exact_natural_gradient():
    """A softmax policy of a few weights: F by the outer products of scores under the policy itself."""
    learner = dataclasses.replace(SMALL, hidden=(3,), cg_iterations=40, damping=1e-4)
    problem = Problem.of(ChooseSide())
    networks = eqx.filter_jit(ActorCritic.of)(problem, (3,), "tanh", key=KEY)
    inputs = jnp.linspace(-1, 1, 8)[:, None]
    log_p = jax.nn.log_softmax(networks.policy(inputs, None).logits)
    action = jnp.arange(8) % 2
    weight = jnp.ones(8).at[-1].set(0.0)
    advantage = jnp.where(action == (inputs[:, 0] > 0), 1.0, -1.0)
    rows = Rows(
        inputs, None, action, log_p[jnp.arange(8), action], advantage, advantage, weight, weight
    )
    policy, told = eqx.filter_jit(learner.policy_step)(networks, rows)
    flat, unravel = ravel_pytree(networks.policy)
    moved = ravel_pytree(policy)[0] - flat

    def log_prob(flat, x, a):
        return jax.nn.log_softmax(unravel(flat)(x, None).logits)[a]

    @jax.jit
    def natural_gradient(flat):
        fisher = 1e-4 * jnp.eye(flat.size)
        scores = jax.vmap(jax.grad(log_prob), (None, 0, None))
        for a in (0, 1):
            score = scores(flat, inputs[:7], a)
            fisher = fisher + (jnp.exp(log_p[:7, a, None]) * score).T @ score / 7

        def surrogate(f):
            ratio = jnp.exp(jax.vmap(log_prob, (None, 0, 0))(f, inputs, action) - rows.log_prob)
            return jnp.mean((ratio * advantage)[:7])

        return jnp.linalg.solve(fisher, jax.grad(surrogate)(flat))

    exact = natural_gradient(flat)
    cosine = moved @ exact / (jnp.linalg.norm(moved) * jnp.linalg.norm(exact))
    assert float(cosine) > 0.99
    assert 0.0 < float(told["kl"]) <= 0.01 and float(told["improvement"]) > 0


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="backtracks must be at least 0"):
        TRPO(backtracks=-1)
    with pytest.raises(UserError, match="minibatches must be at most"):
        TRPO(num_envs=1, rollout_length=1)


def test_a_value_that_no_longer_learns_does_not_end_the_learning():
    assert TRPO(anneal_updates=5).learns_until is None
