"""Visits of the target: the ratio that was asked for, the budget, and whoever explores."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.rl import PPO, SAC
from stemrl.rl.visits import Schedule, begin_visits, visit
from stemrl.tasks.grid_wall import GridWall
from stemrl.transfer import DARC

KEY = jax.random.key(0)


def played(schedule: Schedule, updates: int) -> int:
    """Steps in the target, one update after another."""
    spent = 0
    for update in range(updates):
        if spent * schedule.source_to_target <= update * schedule.source_steps:
            spent += schedule.steps
    return spent


@pytest.mark.parametrize("envs, length", [(4, 16), (1, 1), (16, 64), (32, 128), (3, 7), (2, 10)])
def test_ten_source_steps_for_each_target_step(envs: int, length: int):
    schedule = Schedule.of(envs * length, 10, envs, length)
    for updates in (0, 1, 2, 9, 10, 11, 37, 1000):
        assert schedule.total(updates) == played(schedule, updates)
    assert schedule.total(1000) == pytest.approx(100 * envs * length, abs=schedule.steps)


def test_sac_by_default_takes_the_steps_that_were_asked_for():
    learner, problem = DARC(learner="sac"), Problem(GridWall(), GridWall(wall=True), 10**6)
    updates = 1000
    steps = updates * learner.steps_per_update(problem)
    assert learner.target_steps(problem, updates) == pytest.approx(steps / 10, abs=8)


def test_sac_that_learns_seldom_may_visit():
    """With a step in 50 there is no gradient step to a visit: none is taken there."""
    DARC(learner=SAC(update_to_data=0.02))


def test_the_visits_are_counted_and_within_the_budget():
    family = probes.ChooseSide()
    problem = Problem(family, family, 20)
    learner = PPO(num_envs=2, rollout_length=15, epochs=1, minibatches=1, hidden=(4,))
    schedule = Schedule.of(30, 10, 2, 15)
    assert schedule.steps == 4
    agent = learner.explorer(problem, learner.init(problem, KEY))

    @eqx.filter_jit
    def all_of_it(problem: Problem) -> Any:
        def update(carry, index):
            visits, key = carry
            key, visit_key = jax.random.split(key)
            visits, seen = visit(agent, problem, visits, schedule, 30 * index, visit_key)
            return (visits, key), (seen.taken, jnp.sum(seen.transitions.valid), visits.spent)

        visits = begin_visits(agent, problem, schedule, KEY)
        return jax.lax.scan(update, (visits, KEY), jnp.arange(12))[1]

    taken, valid, spent = map(np.asarray, all_of_it(problem))
    # 3 target steps are due an update: visits of 4, at three updates of four, until 20 are spent.
    np.testing.assert_array_equal(taken, [1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    assert spent[-1] == 20 == valid.sum()
    np.testing.assert_array_equal(valid, 4 * taken)
    np.testing.assert_array_equal(np.diff(spent, prepend=0), 4 * taken)


def test_a_budget_without_a_visit_is_refused():
    family = probes.ChooseSide()
    learner = PPO(num_envs=2, rollout_length=15, epochs=1, minibatches=1, hidden=(4,))
    problem = Problem(family, family, 3)
    agent = learner.agent(problem, learner.init(problem, KEY))
    with pytest.raises(UserError, match="takes 4 steps and the budget is 3; name a target"):
        begin_visits(agent, problem, Schedule.of(30, 10, 2, 15), KEY)


def test_sac_explores_at_random_while_it_warms_up():
    family = probes.MatchNumber()
    problem = Problem(family, family)
    learner = SAC(num_envs=2, rollout_length=4, warm_up_steps=16, hidden=(4,), capacity=8)
    state = learner.init(problem, KEY)
    obs = family.env.reset(KEY, family.sample(KEY, "train"))[0]

    def actions(state):
        agent = learner.explorer(problem, state)
        act = lambda key: agent.act(None, (), obs, key)[0]  # noqa: E731
        return jax.vmap(act)(jax.random.split(KEY, 500))

    warming = actions(state)
    assert float(warming.std()) == pytest.approx(3**-0.5, rel=0.1)
    warm = eqx.tree_at(lambda s: s.collected, state, jnp.asarray(16))
    assert not jnp.allclose(actions(warm), warming)
