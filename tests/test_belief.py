"""A latent task that is inferred: KL and ELBO by hand, the optimum of a probe in which the task is hidden,
and that it is reached through the latent alone and by what teaches it. `variational-rnn` and `varibad`."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probes import HiddenArm, Picture
from stemrl.core import AbstractLearner, Problem, UserError
from stemrl.meta import VariationalRNN, VariBAD
from stemrl.meta.belief import belief_kl
from stemrl.meta.varibad import Decoder, Decoders, same_trial
from stemrl.networks import MLP, Linear
from stemrl.report import Walk, belief_map
from stemrl.report.belief_map import _exact
from stemrl.rl import DiagonalGaussian, play
from stemrl.tasks.gridnavi import GridNavi
from test_rl2 import FarNumber

SMALL: dict[str, Any] = {
    "latent_size": 3,
    "hidden_size": 16,
    "hidden": (16,),
    "batch_steps": 900,
    "minibatches": 2,
    "learning_rate": 5e-3,
}
DECODER = {"decoder_hidden": (16,), "vae_learning_rate": 5e-3}


# ---- by hand ----


def test_the_kl_of_successive_posteriors():
    """One lane, one entry; the trial's second step is N(2, 1) after N(1, e²); then a trial begins."""
    belief = DiagonalGaussian(
        jnp.array([[[1.0], [2.0], [0.0]]]), jnp.array([[[1.0], [0.0], [0.0]]])
    )
    first = DiagonalGaussian(jnp.array([[1.0]]), jnp.array([[1.0]]))
    reset = jnp.array([[False, False, True]])
    # KL(N(2, 1) ‖ N(1, e²)) = ½ (e⁻² + e⁻² − 1 + 2)
    found = belief_kl(belief, first, reset, "previous")
    np.testing.assert_allclose(found, [[0.0, 0.5 * (2 * np.exp(-2) + 1), 0.0]], atol=1e-6)
    # KL(N(1, e²) ‖ N(0, 1)) = ½ (e² + 1 − 1 − 2), KL(N(2, 1) ‖ N(0, 1)) = 2
    found = belief_kl(belief, first, reset, "standard")
    np.testing.assert_allclose(found, [[0.5 * (np.exp(2) - 2), 2.0, 0.0]], rtol=1e-6)


def linear(weight: Any, bias: Any) -> MLP:
    """One layer of these numbers."""
    weight, bias = jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)
    layer = Linear(*weight.shape, key=jax.random.key(0))
    layer = eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, bias))
    return eqx.tree_at(lambda x: x.layers, MLP(1, 1, (), key=jax.random.key(0)), (layer,))


def test_a_decoder_is_a_product():
    """f(x) = 2x, g(m) = (m, 1): r̂ = (2x·m + 1) / √2 for each m and each x."""
    decoder = Decoder(linear([[2.0]], [0.0]), linear([[1.0, 0.0]], [0.0, 1.0]), 1)
    found = decoder(jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [1.0]]))
    np.testing.assert_allclose(found[..., 0], np.array([[1, 1], [3, 7]]) / 2**0.5, rtol=1e-6)


class Told(NamedTuple):
    """An encoder that is told its posteriors."""

    belief: DiagonalGaussian

    def beliefs(self, lanes: Any) -> DiagonalGaussian:
        return self.belief


class Reset(NamedTuple):
    reset: Any


class Given(NamedTuple):
    lanes: Reset
    prior: DiagonalGaussian
    noise: Any
    step: Any
    reward: Any
    taken: Any
    change: Any


@pytest.mark.parametrize("transitions", (False, True))
def test_the_elbo_at_every_step_decodes_its_whole_trial(transitions: bool):
    """Two steps of one trial, then one of another. r̂ = m, whatever the step; m = μ + σ·ε."""
    zero = jnp.zeros((1, 3, 1))
    belief = DiagonalGaussian(jnp.array([[[1.0], [2.0], [3.0]]]), zero)
    reset = jnp.array([[True, False, True]])
    trial: Any = Given(
        lanes=Reset(reset),
        prior=DiagonalGaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1))),
        noise=jnp.array([[[0.0], [1.0], [0.0]]]),  # m = 1, 3, 3
        step=zero,
        reward=jnp.array([[1.0, 2.0, 5.0]]),
        taken=zero,
        change=jnp.array([[[1.0], [1.0], [1.0]]]),
    )
    same_m = Decoder(linear([[0.0]], [0.0]), linear([[0.0, 2**0.5]], [0.0, 0.0]), 1)
    decoders = Decoders(same_m, same_m if transitions else None)
    learner = VariBAD(kl_weight=0.1, reward_weight=2.0, transition_weight=3.0)
    loss, metrics = learner.vae_loss(Told(belief), decoders, trial)  # pyright: ignore
    # Rewards: ½ [(1−1)² + (1−2)²], ½ [(3−1)² + (3−2)²], ½ (3−5)²
    rewards = (0.5 + 2.5 + 2.0) / 3
    # KL: of N(1, 1) to N(0, 1), N(2, 1) to N(1, 1), N(3, 1) to N(0, 1)
    kl = (0.5 + 0.5 + 4.5) / 3
    changes = (0.0 + 2 * 0.5 * 4 + 0.5 * 4) / 3 if transitions else 0.0
    np.testing.assert_allclose(loss, 2 * rewards + 0.1 * kl + 3 * changes, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss/reward"], rewards / (5 / 3), rtol=1e-6)
    np.testing.assert_allclose(metrics["latent/kl"], kl, rtol=1e-6)
    np.testing.assert_allclose(same_trial(reset)[0], [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


# ---- what acts is what is learned from ----


def test_the_first_ratio_is_one():
    """Episodes end early, so that later chunks begin in the middle of trials; ω is drawn as it was."""
    problem = Problem.of(FarNumber())
    learner = VariationalRNN(**{**SMALL, "batch_steps": 160})

    @eqx.filter_jit
    def collect(state: Any):
        state, chunk = learner.collect(problem, state)
        lanes, _ = learner.lanes_of(problem, state, chunk, chunk.rollout.transitions.reward)
        return state, learner.loss(state.networks, learner.sampled(lanes, chunk), 0.0)[1]

    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    for _ in range(2):
        state, metrics = collect(state)
        assert float(metrics["kl"]) < 1e-8 and float(metrics["latent/kl"]) > 0.0
    assert not bool(jnp.all(state.rollout_state.fresh))


# ---- learning, and what it is due to ----


def train(learner: AbstractLearner, switch: str, updates: int) -> dict[float, tuple[Any, Any]]:
    """Agents and metrics with a switch at 1 and at 0, by one compiled program."""
    problem = Problem.of(HiddenArm())

    @eqx.filter_jit
    def update(mine: Any, state: Any):
        return mine.update(problem, state)

    def run(value: float) -> tuple[Any, Any]:
        mine: Any = eqx.tree_at(lambda x: getattr(x, switch), learner, jnp.asarray(value))
        state, metrics = eqx.filter_jit(learner.init)(problem, jax.random.key(0)), {}
        for _ in range(updates):
            state, metrics = update(mine, state)
        return mine.agent(problem, state), metrics

    return {value: run(value) for value in (1.0, 0.0)}


@functools.cache
def trained(method: str) -> dict[float, tuple[Any, Any]]:
    """Once for all tests of a method."""
    if method == "varibad":
        return train(VariBAD(**SMALL, **DECODER), "reward_weight", 20)
    return train(VariationalRNN(**SMALL), "encode", 20)


@eqx.filter_jit
def played(agent: Any):
    problem = Problem.of(HiddenArm())
    tasks = problem.source.tasks(jax.random.key(1), "test", 200)
    return play(agent, problem.source, tasks, None, jax.random.key(2), 3)


def total(agent: Any) -> float:
    return float(played(agent).returns.sum(axis=(1, 2)).mean())


@pytest.mark.parametrize("method", ("variational-rnn", "varibad"))
def test_the_optimum_only_through_the_latent_and_what_teaches_it(method: str):
    """5.5 of 6. Without the policy's gradient, or without the decoder, the KL alone is left and the
    latent says next to nothing (VariBAD's policy, which is shown it without noise, still makes out
    traces). With what it says cleared, 3."""
    (agent, metrics), (blind, collapsed) = trained(method)[1.0], trained(method)[0.0]
    assert total(agent) == pytest.approx(5.5, abs=0.15)
    assert float(metrics["latent/kl"]) > 0.3
    assert total(blind) < 5.0
    assert float(collapsed["latent/kl"]) < 0.05
    cleared = eqx.tree_at(lambda a: a.networks.posterior.weight, agent, replace_fn=jnp.zeros_like)
    assert total(cleared) == pytest.approx(3.0, abs=0.5)


def test_a_belief_narrows_and_predicts_the_rewards():
    agent, _ = trained("varibad")[1.0]
    trials = played(agent)
    belief = trials.transitions.info["belief"]
    std = jnp.exp(belief.log_std).mean(axis=(0, 1, 2, 4))  # of first and second step, [time]
    assert float(std[1]) < float(std[0])
    # After the last step, what every step of the trial has paid.
    last = jax.tree.map(lambda x: x[:, -1, 0, -1], belief)
    steps = jax.tree.map(lambda x: x.reshape(200, 6, *x.shape[4:]), trials.transitions)
    found = jax.vmap(agent.expect)(last, steps.obs, steps.action, steps.next_obs)
    np.testing.assert_allclose(found.mean(0), steps.reward.mean(0), atol=0.15)
    assert float(jnp.mean((found - steps.reward) ** 2)) < 0.05


def test_what_bayes_expects_of_a_grid(tmp_path: Any):
    """Two cells looked at, the goal found with the third step; drawn from plain numbers."""
    family, goal = GridNavi(size=3, horizon=2), np.array([2, 1])
    reached = np.array([[1, 0], [2, 0], [2, 1], [2, 1]])
    exact = _exact(family, reached, goal)
    # Five goals: all but the four cells next to the start.
    np.testing.assert_allclose(exact[0].T.ravel(), [-0.1, -0.1, 0.12, -0.1, -0.1, *[0.12] * 4])
    assert exact[1, 2, 0] == pytest.approx(0.12) and exact[2, 2, 0] == pytest.approx(-0.1)
    np.testing.assert_allclose(exact[2][2, 1], -0.1 + 1.1 / 4)
    np.testing.assert_allclose((exact[3][2, 1], exact[3].sum()), (1.0, 1.0 - 0.8))
    walk = Walk(np.array([[0, 0], *reached[:-1]]), exact, exact, goal, 2)
    assert belief_map({"a": walk}, tmp_path / "belief.png").stat().st_size > 1000


def test_refusals():
    with pytest.raises(UserError, match="prior must be one of"):
        VariBAD(prior="uniform")  # pyright: ignore
    with pytest.raises(UserError, match="reward_inputs must be one of"):
        VariBAD(reward_inputs="action")  # pyright: ignore
    with pytest.raises(UserError, match="vae_minibatches"):
        VariBAD(vae_minibatches=0)
    with pytest.raises(UserError, match="cannot decode images"):
        VariBAD().init(Problem.of(Picture()), jax.random.key(0))
