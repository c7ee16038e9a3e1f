"""Fine-tuning: pretraining helps, adapting improves, and neither is the other."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import probes
from stemrl.core import AbstractAgent, Problem, UserError
from stemrl.rl import play
from stemrl.rl.tuning import layer_depths
from stemrl.transfer import FineTune

SMALL: dict[str, Any] = {
    "episodes_per_round": 64,
    "adapt_epochs": 4,
    "adapt_minibatches": 4,
    "adapt_learning_rate": 1e-2,
    "num_envs": 64,
    "rollout_length": 4,
    "minibatches": 4,
    "hidden": (16,),
    "initial_std": 0.3,
    "learning_rate": 3e-3,
}
FAMILY = probes.HiddenNumber(size=0.25)
PROBLEM = Problem.of(FAMILY)
TASK = {"task": jnp.array([[0.75], [0.75]])}


@eqx.filter_jit
def scores(agent: AbstractAgent) -> jax.Array:
    """Mean return of each of 6 rounds on a task far from the training tasks, around 0."""
    trials = play(agent, FAMILY, TASK, None, jax.random.key(1), 6, task_batch=1)
    return jnp.mean(trials.returns, axis=(0, 2))


def test_adapting_from_pretraining_improves_and_starts_where_pretraining_ended():
    learner = FineTune(**SMALL)
    state = eqx.filter_jit(learner.init)(PROBLEM, jax.random.key(0))
    update = eqx.filter_jit(learner.update)
    metrics = {}
    for _ in range(10):
        state, metrics = update(PROBLEM, state)
    # The best without knowing the task: mean 0, −size²/3 − σ², σ ≤ 0.3.
    assert float(metrics["return"]) > -0.15

    adapted = scores(learner.agent(PROBLEM, state))
    assert float(adapted[0]) == pytest.approx(-(0.75**2), abs=0.15)
    assert float(adapted[-1]) > float(adapted[0]) + 0.2
    still = scores(
        eqx.tree_at(lambda a: a.learning_rate, learner.agent(PROBLEM, state), jnp.zeros(()))
    )
    assert float(still[-1]) == pytest.approx(float(adapted[0]), abs=0.1)

    # From scratch is the same program from other networks.
    scratch = scores(eqx.filter_jit(learner.from_scratch)(PROBLEM, jax.random.key(2)))
    assert float(scratch[-1]) > float(scratch[0]) + 0.1


def test_the_optimizer_starts_afresh_or_goes_on():
    def moments(reset: bool):
        learner = FineTune(**SMALL | {"reset_optimizer": reset})
        state = learner.init(PROBLEM, jax.random.key(0))
        worn = jax.tree.map(lambda x: x + 1, state.optimizer)
        state = eqx.tree_at(lambda s: s.optimizer, state, worn)
        return jax.tree.leaves(learner.agent(PROBLEM, state).optimizer)

    assert not any(jnp.any(x != 0) for x in moments(reset=True))
    assert all(jnp.all(x == 1) for x in moments(reset=False))


def test_layers_unfreeze_from_the_first_adaptation_on():
    """Whatever number of steps pretraining took, whose moments Adam goes on with."""
    learner = FineTune(**SMALL | {"tune": "gradual", "reset_optimizer": False})
    state = learner.init(PROBLEM, jax.random.key(0))
    worn = jax.tree.map(lambda x: x + 1000 if x.dtype == jnp.int32 else x, state.optimizer)
    agent = learner.agent(PROBLEM, eqx.tree_at(lambda s: s.optimizer, state, worn))
    depths = jax.tree.leaves(layer_depths(agent.networks))

    @eqx.filter_jit
    def moved(rounds: int) -> list[jax.Array]:
        trials = play(agent, FAMILY, TASK, None, jax.random.key(1), rounds, adapt_last=True)
        pairs = zip(*map(jax.tree.leaves, (agent.networks, trials.memory.networks)), strict=True)
        return [(before != after[0]).any() for before, after in pairs]

    one, two = (
        {depth for depth, at in zip(depths, moved(rounds), strict=True) if at} for rounds in (1, 2)
    )
    assert one == {0} and two == {0, 1}


def test_wrong_settings_are_said_in_one_line():
    for wrong in ({"episodes_per_round": 0}, {"num_envs": 0}):
        with pytest.raises(UserError, match="at least 1"):
            FineTune(**wrong)
