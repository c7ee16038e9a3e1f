"""MAESN: its latent by hand, its meta-gradient, and that exploration comes from the latent."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from stemrl.core import Problem, UserError
from stemrl.meta import MAESN
from stemrl.meta.maesn import Gaussian, Round, Tasks
from stemrl.rl import play
from stemrl.tasks.point import PointSemicircle

KEY = jax.random.key(0)
NEAR = {"distance": 1.0, "radius": 0.5, "horizon": 16}


def test_the_divergence_from_the_prior_by_hand():
    latent = Gaussian(jnp.asarray([1.0, 0.0]), jnp.log(jnp.asarray([1.0, 0.5])))
    # ½ (1 + 1 − 1 − 0) + ½ (0.25 − 1 + 2 log 2)
    np.testing.assert_allclose(latent.kl_to_standard(), 0.5 + 0.5 * (0.25 - 1 + 2 * np.log(2)))
    assert Gaussian.standard(3).kl_to_standard() == 0


def test_the_likelihood_of_a_latent_agrees_with_scipy():
    latent = Gaussian(jnp.asarray([1.0, -0.5]), jnp.log(jnp.asarray([2.0, 0.5])))
    expected = stats.norm([1.0, -0.5], [2.0, 0.5]).logpdf([0.3, 0.2]).sum()
    np.testing.assert_allclose(latent.log_prob(jnp.asarray([0.3, 0.2])), expected, rtol=1e-6)


@pytest.mark.parametrize(("inner_steps", "latent_gradient"), [(1, "path"), (2, "score")])
def test_meta_gradient_agrees_with_finite_differences(inner_steps: int, latent_gradient: Any):
    with jax.enable_x64(True):
        problem = Problem.of(PointSemicircle(horizon=5))
        learner = MAESN(
            train_tasks=2, inner_episodes=3, inner_steps=inner_steps, hidden=(6,), activation="tanh",
            latent_gradient=latent_gradient,
        )  # fmt: skip
        values = np.random.default_rng(0)

        def draw(x):
            return jnp.asarray(0.3 * values.standard_normal(x.shape))

        shapes = jax.eval_shape(lambda k: learner.init(problem, k), KEY)
        parameters = jax.tree.map(draw, shapes.parameters)
        agent = learner._agent(problem, parameters, parameters.latents)
        steps = 15

        def batch(*leading: int) -> Round:
            x, action, log_prob, advantage, noise, z, likely, score = (
                jnp.asarray(values.standard_normal((*leading, steps, *shape)))
                for shape in ((2,), (2,), (), (), (2,), (2,), (), ())
            )
            weight = jnp.full_like(advantage, 1 / steps)
            old, drawn = -2.0 + 0.1 * log_prob, -2.0 + 0.1 * likely
            return Round(x, action, old, advantage, weight, noise, z, drawn, score)

        task = Tasks(jnp.asarray(1), None, batch(inner_steps), batch())
        phi, unflatten = ravel_pytree(parameters)
        direction = jnp.asarray(values.standard_normal(phi.shape))

        @jax.jit
        def both(phi):
            def objective(v):
                return learner.objective(agent, unflatten(v), task)

            h = 1e-5
            ahead, behind = jax.lax.map(
                objective, jnp.stack([phi + h * direction, phi - h * direction])
            )
            return jax.grad(objective)(phi), (ahead - behind) / (2 * h)

        gradient, numeric = both(phi)
        np.testing.assert_allclose(gradient @ direction, numeric, rtol=1e-6)
        moved = unflatten(gradient)
        # Only the latent of the task at hand learns from it; rates and policy do as well.
        assert jnp.all(moved.latents.mean[0] == 0) and jnp.any(moved.latents.mean[1] != 0)
        assert jnp.any(moved.rates.latent.mean != 0) and jnp.any(moved.rates.policy.log_std != 0)


def test_both_gradients_of_the_latent_point_the_same_way():
    """Of what an episode is paid, −‖z − 1‖², when its only action is z itself: in the mean over many episodes
    both move μ towards 1, and the second needs no action to say so."""
    episodes = 4_000
    agent = MAESN(inner_episodes=episodes, hidden=(), initial_std=0.5, activation="tanh")
    problem = Problem.of(PointSemicircle(horizon=1))
    agent = agent.agent(problem, jax.jit(lambda: agent.init(problem, KEY))())
    # The action's mean is z: nothing of the observation, and z as it is.
    layer = agent.policy.network.body.layers[0]
    weight = jnp.concatenate([jnp.zeros((2, 2)), jnp.eye(2)]).reshape(layer.weight.shape)
    agent = eqx.tree_at(lambda a: a.policy.network.body.layers[0].weight, agent, weight)
    memory = agent.start(None)
    keys = jax.random.split(KEY, (2, episodes))
    noise = jax.vmap(agent.begin, (None, 0))(memory, keys[0])
    obs = jnp.zeros((episodes, 2))
    action, _, info = jax.vmap(agent.act, (None, 0, 0, 0))(memory, noise, obs, keys[1])
    paid = -jnp.sum((action - 1.0) ** 2, -1)
    ones = jnp.ones(episodes)
    standard = (paid - paid.mean()) / paid.std()
    batch = Round(obs, action, info["log_prob"], standard, ones / episodes, noise,
                  info["latent"], info["latent_log_prob"], standard)  # fmt: skip
    moved = {}
    for way in ("path", "score"):
        now = dataclasses.replace(agent, latent_gradient=way)
        moved[way] = now.step(memory, batch).adapted.latent.mean
        assert (moved[way] > 0).all()
    np.testing.assert_allclose(moved["path"], moved["score"], rtol=0.2)


def trained(learner: MAESN, problem: Problem, updates: int):
    """The state after training, and the metrics of every update."""

    @eqx.filter_jit
    def train(learner, problem):
        state = learner.init(problem, KEY)
        return jax.lax.scan(lambda s, _: learner.update(problem, s), state, length=updates)

    return train(learner, problem)


def test_it_learns_to_adapt_to_dense_rewards():
    problem = Problem.of(PointSemicircle(dense=True, **NEAR | {"horizon": 10}))
    learner = MAESN(train_tasks=8, inner_episodes=8, hidden=(16,), initial_std=0.5, max_kl=0.03)
    _, metrics = trained(learner, problem, 60)
    before, after = (metrics[f"return/{x}"] for x in ("before", "after"))
    assert after[-5:].mean() > before[-5:].mean() + 1.5
    assert after[-5:].mean() > after[:5].mean() + 1.5


@pytest.fixture(scope="module")
def learned():
    """The agent after training on dense rewards with a latent that alone is adapted, and a way to play
    it on sparse ones."""
    problem = Problem(PointSemicircle(dense=True, **NEAR), PointSemicircle(**NEAR))
    learner = MAESN(
        train_tasks=12, inner_episodes=12, hidden=(32,), initial_std=0.3, max_kl=0.03,
        kl_weight=0.01, adapt_policy=False,
    )  # fmt: skip
    state, _ = trained(learner, problem, 80)
    tasks = problem.target.tasks(jax.random.key(1), "test", 24)

    @eqx.filter_jit
    def explored(agent):
        """Of a round of 12 episodes before any adaptation: how far apart they end (length units), and
        the share of goals that any of them touches."""
        steps = play(agent, problem.target, tasks, None, jax.random.key(2), 1).transitions
        found = jnp.any(steps.events["success"] & steps.valid, (-1, -2))
        ends = steps.next_obs[:, 0, :, -1]
        return jnp.sqrt(jnp.mean(jnp.sum(jnp.var(ends, axis=1), -1))), jnp.mean(found)

    return learner.agent(problem, state), explored


def test_episodes_go_different_ways_only_by_the_latent(learned):
    """The ablation is the same policy on latents that are all alike. Of five seeds, the episodes of the
    whole ended 0.17 to 0.38 apart, those of the ablation 0.04 to 0.07; which goals lie on the way is
    more a matter of luck."""
    agent, explored = learned

    class Still(type(agent)):
        def begin(self, memory, key):
            return jnp.zeros(self.latent_size)

    still = Still(**{name: getattr(agent, name) for name in agent.__dataclass_fields__})
    apart, touched = explored(agent)
    assert touched > 0.25
    assert explored(still)[0] < 0.5 * apart


def test_refusals():
    for settings, says in (
        ({"train_tasks": 0}, "train_tasks must be at least 1"),
        ({"outer": "sgd"}, "outer must be one of trpo, ppo"),
        ({"surrogate": "none"}, "surrogate must be one of"),
    ):
        with pytest.raises(UserError, match=says):
            MAESN(**settings)
    with pytest.raises(UserError, match="radius must be between"):
        PointSemicircle(radius=3.0)
