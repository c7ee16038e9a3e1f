"""The small families: distributions, dynamics, and optima that are known exactly."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl import registry, tasks
from stemrl.core import UserError
from stemrl.registry import make
from stemrl.tasks.bandit import Bandit
from stemrl.tasks.gridnavi import MOVES, GridNavi
from stemrl.tasks.random_mdp import RandomMDP

FAMILIES = ("bandit", "random-mdp", "gridnavi", "point-2d", "point-sparse")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", ("train", "test", "ood"))
def test_contract(name, split):
    """One step on a task of every split, with the shapes and dtypes that the spaces promise."""
    family = make("families", name)
    keys = jax.random.split(jax.random.key(0), 5)
    params = family.sample(keys[0], split)
    stacked = family.tasks(keys[1], split, 7)
    assert jax.tree.map(lambda x: (7, *x.shape), params) == jax.tree.map(np.shape, stacked)
    obs, state = family.env.reset(keys[2], params)
    action = family.action_space.sample(keys[3])
    out = family.env.step(keys[4], state, action, params)
    for inputs in (obs, out[0]):
        assert inputs.shape == family.observation_space.shape
        assert inputs.dtype == family.observation_space.dtype
    assert jax.tree.map(jnp.shape, out[1]) == jax.tree.map(jnp.shape, state)
    assert out[2].shape == out[3].shape == out[4].shape == ()
    assert family.context(params).ndim == 1
    assert family.name in family.identity and "@1(" in family.identity
    assert family.trial_episodes >= 1


def test_the_package_is_cheap_to_import_and_needs_no_extra():
    """Nothing heavy is imported before its name is used; gymnax's not before its family is made."""
    script = """
import sys
sys.modules["gymnax"] = None
import stemrl.tasks
assert not {"jax", "equinox", "gymnasium"} & set(sys.modules)
assert set(stemrl.tasks.__all__) <= set(dir(stemrl.tasks))
stemrl.tasks.Bandit
assert "gymnasium" not in sys.modules
from stemrl.tasks import *
assert all(name in globals() for name in stemrl.tasks.__all__)
try:
    stemrl.tasks.Bandits
except AttributeError as error:
    assert "'Bandits'" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_names_every_family_of_its_own():
    """What the registry finds in a module is also a public name of the package."""
    paths = [entry.path.split(":") for entry in registry.FAMILIES.values()]
    found = {name for module, name in paths if module.startswith("stemrl.tasks.")}
    assert found and found <= set(tasks.__all__)


def test_bandit_pays_its_probability():
    family = Bandit(arms=3, pulls=4)
    assert (family.horizon, family.trial_episodes) == (1, 4)
    params = {"probability": jnp.array([0.0, 0.3, 1.0])}
    _, state = family.env.reset(jax.random.key(0), params)

    def pull(key, arm):
        return family.env.step(key, state, arm, params)[2]

    keys = jax.random.split(jax.random.key(1), 2000)
    means = [float(jnp.mean(jax.vmap(pull, (0, None))(keys, arm))) for arm in range(3)]
    # Three standard errors of the middle arm: 3·√(0.3·0.7/2000) = 0.031.
    np.testing.assert_allclose(means, [0.0, 0.3, 1.0], atol=0.031)


def test_bandit_best_arm():
    """The best of k arms of U(0, 1) pays k/(k + 1) on average, of U(0, ½) half of that."""
    family = Bandit()
    for split, best in (("test", 5 / 6), ("ood", 5 / 12)):
        drawn = family.tasks(jax.random.key(2), split, 4000)["probability"]
        assert abs(float(drawn.max(axis=1).mean()) - best) < 0.01


def optimum(transition: np.ndarray, reward: np.ndarray, horizon: int) -> np.ndarray:
    """Best expected return from every state: V ← maxₐ (r + P V), `horizon` times; of one process or many."""
    value = np.zeros(reward.shape[:-1])
    for _ in range(horizon):
        value = (reward + (transition @ value[..., None, :, None])[..., 0]).max(axis=-1)
    return value


@pytest.mark.long  # as `test_optimal.py` has it of 300 processes, with a bound as much wider
def test_random_mdp_optimum():
    """Published: about 21.77 an episode (recomputed here over 2,000 processes)."""
    family = RandomMDP()
    drawn = jax.device_get(family.tasks(jax.random.key(3), "test", 2000))
    best = optimum(drawn["transition"].astype(float), drawn["reward"].astype(float), 10)[:, 0]
    # The optima's deviation is about 3.1: three standard errors are 0.21.
    assert abs(np.mean(best) - 21.77) < 0.21


def test_random_mdp_moves_and_pays_as_its_tables():
    family = RandomMDP(states=3, actions=2)
    params = family.sample(jax.random.key(4), "train")
    _, state = family.env.reset(jax.random.key(0), params)

    def step(key):
        return family.env.step(key, state, jnp.int32(1), params)[:3:2]

    position, reward = jax.vmap(step)(jax.random.split(jax.random.key(5), 4000))
    shares = np.bincount(position, minlength=3) / 4000
    np.testing.assert_allclose(shares, params["transition"][0, 1], atol=0.03)
    assert abs(float(reward.mean()) - float(params["reward"][0, 1])) < 0.05
    assert abs(float(reward.std()) - 1.0) < 0.05


def test_gridnavi_optimum_where_the_goal_is_known():
    """11.071 on average, by dynamic programming over the environment's own step."""
    family = GridNavi()
    goals = np.asarray(family.goals("train"))
    assert len(goals) == 21

    def step(cell, action, goal):
        state = type(family.env.reset(jax.random.key(0), {"goal": goal})[1])(cell)
        out = family.env.step(jax.random.key(0), state, action, {"goal": goal})
        return out[1].position, out[2]

    cells = jnp.asarray([(x, y) for x in range(5) for y in range(5)], jnp.int32)
    actions = jnp.arange(len(MOVES))
    every = jax.jit(
        jax.vmap(jax.vmap(jax.vmap(step, (None, 0, None)), (0, None, None)), (None, None, 0))
    )
    after, reward = jax.device_get(every(cells, actions, jnp.asarray(goals)))
    transition = np.eye(25)[after[..., 0] * 5 + after[..., 1]]
    best = [optimum(p, r, 15)[0] for p, r in zip(transition, reward.astype(float), strict=True)]
    assert np.mean(best) == pytest.approx(11.0714, abs=1e-4)
    distance = goals.sum(axis=1)
    np.testing.assert_allclose(best, 16.1 - 1.1 * distance, rtol=1e-6)


def test_gridnavi_enumerates():
    family = GridNavi()
    assert family.finite
    every = {tuple(goal) for goal in np.asarray(family.goals("test")).tolist()}
    assert every == {tuple(goal) for goal in np.asarray(family.goals("train")).tolist()}
    for n, times in ((5, {0, 1}), (21, {1}), (42, {2}), (50, {2, 3})):
        drawn = np.asarray(family.tasks(jax.random.key(n), "train", n)["goal"]).tolist()
        counts = [sum(tuple(goal) == one for goal in drawn) for one in every]
        assert sum(counts) == n and set(map(int, counts)) == times
    near = np.asarray(family.goals("ood")).tolist()
    assert sorted(map(tuple, near)) == [(0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("name", "settings"),
    (("bandit", {"arms": 1}), ("random-mdp", {"states": 0}), ("gridnavi", {"size": 2})),
)
def test_bad_settings(name, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        make("families", name, **settings)
