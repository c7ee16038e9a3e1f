"""Beginning from another run: what learns then, what must fit, and what it is worth."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.rl import DQN, PPO, SAC, TD3, TRPO, play
from stemrl.rl.normalize import Normalizer
from stemrl.rl.tuning import layer_depths, tuned
from stemrl.tasks import PointMaze
from stemrl.tasks.cart_pole import CartPole
from stemrl.tasks.point import Point2D
from stemrl.transfer import FineTune

KEY = jax.random.key(0)
PROBLEM = Problem.of(Point2D(horizon=4))
SMALL: dict[str, Any] = {"num_envs": 2, "rollout_length": 4, "hidden": (4, 4)}
SMALL_PPO = PPO(**SMALL, epochs=1, minibatches=2, learning_rate=0.1)
SMALL_SAC = SAC(**SMALL, batch_size=4, capacity=40, warm_up_steps=0, learning_rate=0.1)
SMALL_TRPO = TRPO(**SMALL, epochs=1, minibatches=2, learning_rate=0.1, backtracks=30)
OFF: dict[str, Any] = {**SMALL, "batch_size": 4, "capacity": 40, "warm_up_steps": 0}
SMALL_TD3 = TD3(**OFF, learning_rate=0.1, policy_delay=1)
SMALL_DQN = DQN(**OFF, learning_rate=0.1)


def networks_of(state: Any) -> Any:
    if not hasattr(state, "learned"):
        return state.networks
    found = state.learned
    for name in ("networks", "network"):
        if hasattr(found, name):
            return getattr(found, name)
    return found.policy, found.critics


# TRPO's update and TD3's networks are taken in hand as PPO's and SAC's are.
LIKE_OTHERS = [pytest.param(x, marks=pytest.mark.long) for x in (SMALL_TRPO, SMALL_TD3)]


@pytest.mark.parametrize("learner", [SMALL_PPO, SMALL_SAC, SMALL_DQN, *LIKE_OTHERS])
def test_only_what_is_unfrozen_moves(learner):
    problem = PROBLEM if learner is not SMALL_DQN else Problem.of(CartPole(horizon=4))

    def after(tune: str, updates: int) -> list[bool]:
        one = dataclasses.replace(learner, tune=tune, updates_per_layer=1)
        first = one.init(problem, KEY)
        state, _ = jax.lax.scan(lambda s, _: one.update(problem, s), first, length=updates)
        pairs = zip(*map(jax.tree.leaves, (networks_of(first), networks_of(state))), strict=True)
        return [jnp.any(a != b) for a, b in pairs]

    depths = jax.tree.leaves(layer_depths(networks_of(eqx.filter_jit(learner.init)(problem, KEY))))
    assert set(depths) == {0, 1, 2}

    @jax.jit
    def moved():
        return {"head": after("head", 2), "gradual": after("gradual", 2)}

    reach = {"head": 0, "gradual": 1}
    for name, leaves in moved().items():
        assert [bool(m) for m in leaves] == [d <= reach[name] for d in depths], name


def test_layers_count_from_the_head():
    networks = eqx.filter_jit(SMALL_PPO.init)(PROBLEM, KEY).networks
    factors = tuned(networks, "gradual", 1)
    assert factors is not None and tuned(networks, "all") is None
    np.testing.assert_array_equal(
        [layer.weight for layer in factors.policy.network.body.layers], [0, 1, 1]
    )
    assert factors.policy.log_std == 1


def test_the_head_may_be_new_and_nothing_else():
    """Another number of actions leaves the head fresh; another observation is refused for the head."""
    donor = eqx.filter_jit(SMALL_PPO.init)(Problem.of(CartPole()), KEY)
    head = dataclasses.replace(SMALL_PPO, tune="head")

    def left(learner: Any, problem: Problem) -> list[str]:
        state = learner.init(problem, jax.random.key(1))
        return learner.inherit(problem, state, SMALL_PPO, donor)[1]

    other_actions = Problem.of(PointMaze())  # two entries, two continuous actions
    with pytest.raises(UserError, match=r"tune is 'head', and .*layers/0/weight does not fit"):
        left(head, other_actions)
    assert left(head, Problem.of(CartPole())) == []
    assert "networks/policy/network/body/layers/0/weight" in left(SMALL_PPO, other_actions)


def test_another_activation_is_refused():
    donor = eqx.filter_jit(SMALL_SAC.init)(PROBLEM, KEY)
    state = eqx.filter_jit(SMALL_PPO.init)(PROBLEM, KEY)
    with pytest.raises(UserError, match="networks with relu, these have tanh; set activation"):
        SMALL_PPO.inherit(PROBLEM, state, SMALL_SAC, donor)
    relu = dataclasses.replace(SMALL_PPO, activation="relu")
    begun, _ = relu.inherit(PROBLEM, eqx.filter_jit(relu.init)(PROBLEM, KEY), SMALL_SAC, donor)
    ours, theirs = (s.policy.network.body.layers[0] for s in map(networks_of, (begun, donor)))
    np.testing.assert_array_equal(ours.weight, theirs.weight)


class Around(eqx.Module):
    """A learner around another, with inputs of its own that it scales, as DARC is."""

    learner: Any
    normalizer: Normalizer


@pytest.mark.parametrize("learner", [SMALL_SAC, SMALL_PPO])
def test_networks_come_with_what_they_saw_by(learner):
    donor = eqx.filter_jit(learner.init)(PROBLEM, KEY)
    own = Normalizer.of(2).update(jnp.asarray([[1.0, 2.0], [3.0, 5.0]]))
    donor = dataclasses.replace(donor, normalizer=own)
    around = Around(donor, Normalizer.of(2).update(jnp.full((9, 2), 7.0)))
    fresh = eqx.filter_jit(learner.init)(PROBLEM, jax.random.key(1))
    begun, left = learner.inherit(PROBLEM, fresh, learner, around)
    assert not left
    np.testing.assert_array_equal(begun.normalizer.mean, own.mean)


def test_gradual_tuning_counts_from_its_own_beginning():
    donor = eqx.filter_jit(SMALL_TD3.init)(PROBLEM, KEY)
    donor = eqx.tree_at(lambda s: s.learned.steps, donor, jnp.int32(100_000))
    fresh = eqx.filter_jit(SMALL_TD3.init)(PROBLEM, jax.random.key(1))
    begun, left = SMALL_TD3.inherit(PROBLEM, fresh, SMALL_TD3, donor)
    assert begun.learned.steps == 0 and not left


def test_a_fine_tuner_of_the_head_still_adapts():
    """And without a step it does not: the same program."""
    family = probes.HiddenNumber(size=0.25)
    problem = Problem.of(family)
    learner = FineTune(
        episodes_per_round=64, adapt_epochs=4, adapt_minibatches=4, hidden=(8,), tune="head",
        num_envs=4, rollout_length=4, initial_std=0.3,
    )  # fmt: skip

    @eqx.filter_jit
    def last(rate):
        agent = learner.agent(problem, learner.init(problem, KEY))
        agent = eqx.tree_at(lambda a: a.learning_rate, agent, rate)
        trials = play(agent, family, {"task": jnp.array([[0.75]])}, None, KEY, 6)
        return jnp.mean(trials.returns, axis=(0, 2))

    still, moving = last(jnp.zeros(())), last(jnp.asarray(1e-2))
    assert moving[-1] > still[-1] + 0.1


@pytest.mark.parametrize("make", [PPO, SAC, TRPO, TD3, DQN, FineTune])
def test_mistakes_get_one_line(make):
    with pytest.raises(UserError, match="tune must be one of all, head, gradual, not 'tail'"):
        make(tune="tail")
