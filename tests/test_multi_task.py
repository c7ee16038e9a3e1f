"""Heads and gradient surgery: projections by hand, whose head it is, what is refused."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Problem, UserError
from stemrl.rl import PPO, SAC, play
from stemrl.rl.multi_task import own_head, project_conflicts
from stemrl.rl.ppo import ppo_loss
from stemrl.rl.replay import Row
from stemrl.tasks import Point2D, PointConflict

KEY = jax.random.key(0)
PROBLEM = Problem.of(PointConflict(horizon=10), "context")
SMALL = PPO(
    num_envs=8, rollout_length=20, hidden=(16,), epochs=4, minibatches=2, learning_rate=5e-3
)


def test_projections_by_hand():
    """Two that conflict lose what they have against each other; two that agree are averaged."""
    conflict = project_conflicts(jnp.array([[1.0, 0.0], [-1.0, 1.0]]))
    # g₁ − (g₁·g₂/2) g₂ = (½, ½); g₂ − (g₁·g₂) g₁ = (0, 1); their mean.
    np.testing.assert_allclose(conflict, [0.25, 0.75], atol=1e-6)
    agree = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(project_conflicts(agree), agree.mean(0))
    three = jnp.array([[1.0, 0, 0], [-1, 1, 0], [0, -1, 1]])
    assert (three @ project_conflicts(three) >= -1e-6).all()


def test_the_context_takes_its_own_head():
    out = jnp.arange(12.0).reshape(2, 6)
    context = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    assert own_head(out, context, 2).tolist() == [[3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(
    "learner", [SMALL, SAC(num_envs=2, rollout_length=4, hidden=(8,))], ids=lambda x: x.name
)
def test_what_a_head_does_is_nothing_to_the_others(learner):
    """A change of one task's head changes what is done in that task alone."""
    learner = dataclasses.replace(learner, heads=True)
    state = eqx.filter_jit(learner.init)(PROBLEM, KEY)
    networks = state.networks if isinstance(learner, PPO) else state.learned.networks
    inputs, contexts = jnp.ones((2, 2)), jnp.eye(2)

    def mean(policy):
        return policy(inputs, contexts).mean

    policy = networks.policy
    size = policy.network.body.layers[-1].bias.size // 2
    changed = eqx.tree_at(
        lambda p: p.network.body.layers[-1].bias, policy,
        replace_fn=lambda b: b.at[:size].add(1.0),
    )  # fmt: skip
    difference = np.abs(mean(changed) - mean(policy)).sum(1)
    assert difference[0] > 0.5 and difference[1] == 0
    if isinstance(learner, SAC):
        action = jnp.zeros((2, 2))
        q = networks.critics(inputs, contexts, action, action)
        assert q.shape == (2, 4, 1)
        bias = lambda c: c.biases[-1]  # noqa: E731
        other = eqx.tree_at(bias, networks.critics, replace_fn=lambda b: b.at[..., 1].add(1.0))
        moved = np.asarray(other(inputs, contexts, action, action) - q)[..., 0]
        np.testing.assert_allclose(moved, [[0, 1, 0, 1]] * 2, atol=1e-5)


def test_surgery_descends_what_both_tasks_allow():
    """Off it is the plain gradient; on, with opposite goals, no task's loss goes up to first order."""
    learner = dataclasses.replace(SMALL, gradient_surgery=True)

    @eqx.filter_jit
    def gradients(learner):
        state = learner.init(PROBLEM, KEY)
        state, experience = learner.collect(PROBLEM, state)
        _, rows, _ = learner.prepare(PROBLEM, state, experience.transitions)
        from stemrl.rl.multi_task import surgical_gradient

        loss = lambda n, r: ppo_loss(n, r, 0.2, 0.5, 0.0)  # noqa: E731
        surgical = surgical_gradient(loss, state.networks, rows)[0]
        each = []
        for task in jnp.eye(2):
            mine = rows.context @ task
            own = rows._replace(weight=rows.weight * mine, policy_weight=rows.policy_weight * mine)
            each.append(jax.grad(lambda n, own=own: loss(n, own)[0])(state.networks))
        return surgical, each

    surgical, each = gradients(learner)
    flat = lambda tree: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])  # noqa: E731
    first, second = map(flat, each)
    np.testing.assert_allclose(
        flat(surgical), project_conflicts(jnp.stack([first, second])), atol=1e-5
    )
    assert (flat(surgical) @ first >= -1e-6) and (flat(surgical) @ second >= -1e-6)


def test_surgery_of_policy_and_critics_is_each_for_itself():
    """By the plain gradients of each task's rows alone; the temperature follows the mean."""
    learner = SAC(hidden=(8,), gradient_surgery=True)
    box = PROBLEM.source.observation_space, PROBLEM.source.action_space
    learned = eqx.filter_jit(learner.begin)(*box, 2, KEY)
    task = jnp.arange(12) % 3 == 0  # four of one, eight of the other
    keys = jax.random.split(KEY, 5)
    obs, action, after, noise = (
        jax.random.normal(k, s) for k, s in zip(keys, ((12, 2), (12, 2), (12, 2), (2, 12, 2)), strict=False)
    )  # fmt: skip
    context = jax.nn.one_hot(task.astype(int), 2)
    batch = Row(obs, context, jnp.tanh(action), jnp.where(task, 5.0, -5.0), jnp.ones(12), after)
    rows = [np.flatnonzero(context[:, i]) for i in (0, 1)]

    @jax.jit
    def gradients(learned):
        take = jax.grad(learner.loss, has_aux=True)

        def alone(rows):
            own = jax.tree.map(lambda x: x[rows], batch)
            return take(learned.networks, learned.target, own, noise[:, rows])[0]

        found, metrics = learner.gradient(learned.networks, learned.target, batch, noise)
        return [alone(mine) for mine in rows], found, metrics

    each, found, metrics = gradients(learned)
    flat = lambda tree: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])  # noqa: E731
    for part in ("policy", "critics"):
        ours = jnp.stack([flat(getattr(g, part)) for g in each])
        np.testing.assert_allclose(
            flat(getattr(found, part)), project_conflicts(ours), rtol=1e-3, atol=1e-4
        )
    mean = jnp.mean(jnp.stack([g.log_temperature for g in each]))
    np.testing.assert_allclose(found.log_temperature, mean, rtol=1e-4)
    assert np.isfinite(list(metrics.values())).all()


def test_both_tasks_are_learned_with_heads_and_surgery():
    learner = dataclasses.replace(
        SMALL, num_envs=32, hidden=(32, 32), learning_rate=1e-3, normalize_observations=False,
        heads=True, gradient_surgery=True,
    )  # fmt: skip

    @eqx.filter_jit
    def train(learner):
        state = learner.init(PROBLEM, KEY)
        state = jax.lax.fori_loop(0, 40, lambda _, s: learner.update(PROBLEM, s)[0], state)
        return learner.agent(PROBLEM, state)

    agent = train(learner)
    params = PROBLEM.target.tasks(KEY, "test", 20)
    context = jax.vmap(PROBLEM.target.context)(params)
    returns = eqx.filter_jit(play)(agent, PROBLEM.target, params, context, KEY, 1).returns
    # Straight there −4.5, standing still −10; the worse of both tasks.
    by_task = [float(returns[context[:, i] == 1].mean()) for i in (0, 1)]
    assert min(by_task) > -6.5


@pytest.mark.parametrize("learner", [SMALL, SAC()], ids=lambda x: x.name)
@pytest.mark.parametrize("setting", ["heads", "gradient_surgery"])
def test_what_does_not_fit_is_refused(setting: str, learner: Any):
    learner = dataclasses.replace(learner, **{setting: True})
    with pytest.raises(UserError, match=f"{setting} needs a few tasks.*'point-2d' has no"):
        learner.init(Problem.of(Point2D(), "context"), KEY)
    with pytest.raises(
        UserError, match=f"{setting} needs to know the task: train with --reveal context"
    ):
        learner.init(Problem.of(PointConflict()), KEY)
