"""PEARL: its posterior by hand, that order does not matter and data narrow it, where gradients go, and
that the latent is what solves probes in which the task is hidden."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Box, Discrete, Problem, UserError
from stemrl.meta import PEARL, PEARLState
from stemrl.meta.pearl_agent import Belief, Encoder, Factors, PEARLAgent, prior_kl
from stemrl.report.beliefs import SAMPLES, belief_svg, belief_text, beliefs
from stemrl.rl import Trials, play
from stemrl.tasks.point import PointSparse

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {
    "latent_size": 2,
    "prior_episodes": 1,
    "posterior_episodes": 2,
    "gradient_steps": 40,
    "meta_batch_size": 4,
    "batch_size": 32,
    "context_batch_size": 8,
    "capacity": 150,
    "hidden": (32, 32),
    "encoder_hidden": (32,),
    "learning_rate": 3e-3,
    "discount": 0.5,
    "target_rate": 0.05,
    "kl_weight": 0.01,
    "reward_scale": 5.0,
    "learn_temperature": False,
    "initial_temperature": 0.1,
}


def train(learner: PEARL, problem: Problem, updates: int, *switches: float) -> list[PEARLState]:
    """A state for each value of `encode`, all by one compiled program."""
    traces = []

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple[PEARL, Problem], state: PEARLState):
        traces.append(1)
        return fixed[0].update(fixed[1], state)

    states = []
    for switch in switches:
        state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
        mine = eqx.tree_at(lambda x: x.encode, learner, jnp.asarray(switch))
        for _ in range(updates):
            state, metrics = update((mine, problem), state)
        assert all(np.isfinite(x) for x in metrics.values())  # pyright: ignore
        states.append(state)
    assert len(traces) == 1
    return states


def after_one_update(learner: PEARL, problem: Problem) -> PEARLState:
    return eqx.filter_jit(lambda k: learner.update(problem, learner.init(problem, k))[0])(KEY)


def trials(learner: PEARL, problem: Problem, state: PEARLState, rounds: int = 5) -> Trials:
    """200 test tasks, adapted to after the last episode too."""
    tasks = problem.source.tasks(jax.random.key(1), "test", 200)
    agent = learner.agent(problem, state)
    return eqx.filter_jit(play)(
        agent, problem.source, tasks, None, jax.random.key(2), rounds, adapt_last=True
    )


# ---- the posterior ----


def test_a_product_of_gaussians_by_hand():
    """Of N(1, 1/2) and N(4, 1): precision 2 + 1, mean (2·1 + 1·4) / 3; before any, the prior."""
    one, other = Factors(jnp.array([2.0]), jnp.array([2.0])), Factors(jnp.ones(1), jnp.full(1, 4.0))
    mean, variance = Factors(*(a + b for a, b in zip(one, other, strict=True))).posterior()
    assert float(mean[0]) == pytest.approx(2.0) and float(variance[0]) == pytest.approx(1 / 3)
    mean, variance = Factors(jnp.zeros(3), jnp.zeros(3)).posterior()
    assert mean.tolist() == [0, 0, 0] and variance.tolist() == [1, 1, 1]
    # ½ (σ² + μ² − 1 − log σ²), summed
    kl = prior_kl(jnp.array([1.0, 0.0]), jnp.array([1.0, np.e]))
    assert float(kl) == pytest.approx(0.5 + 0.5 * (np.e - 2.0))
    assert float(prior_kl(jnp.zeros(4), jnp.ones(4))) == 0.0


@pytest.mark.parametrize("actions", [Box((2,), -1.0, 1.0), Discrete(3)])
def test_the_encoder_multiplies_in_any_order_and_more_data_narrow(actions: Any):
    encoder = Encoder(Box((4,)), actions, 3, (16,), key=KEY)
    keys = jax.random.split(KEY, 3)
    obs, reward = jax.random.normal(keys[0], (10, 4)), jax.random.normal(keys[1], (10,))
    action = jax.vmap(actions.sample)(jax.random.split(keys[2], 10))
    whole = encoder(obs, action, reward)
    order = jax.random.permutation(KEY, 10)
    for a, b in zip(whole, encoder(obs[order], action[order], reward[order]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # The first half and the second add up to the whole; padding counts for nothing.
    first = encoder(obs[:5], action[:5], reward[:5])
    padded = encoder(obs, action, reward, (jnp.arange(10) < 5).astype(jnp.float32))
    second = encoder(obs[5:], action[5:], reward[5:])
    for a, b, c, d in zip(whole, first, second, padded, strict=True):
        np.testing.assert_allclose(a, b + c, rtol=1e-5)
        np.testing.assert_allclose(b, d, rtol=1e-5)
    assert (whole.posterior()[1] < first.posterior()[1]).all()


def test_the_first_episodes_are_played_on_the_prior():
    learner = PEARL(**SMALL | {"prior_episodes": 2})
    problem = Problem.of(probes.HiddenArm())
    agent = learner.agent(problem, eqx.filter_jit(learner.init)(problem, KEY))
    assert isinstance(agent, PEARLAgent)
    known = Factors(jnp.full(2, 1e8), jnp.full(2, 3e8))  # certain of z = 3
    keys = jax.random.split(KEY, 500)
    for episodes, mean, std in ((0, 0.0, 1.0), (1, 0.0, 1.0), (2, 3.0, 0.0)):
        belief = Belief(known, jnp.asarray(episodes), jnp.asarray(True))
        z = jax.vmap(lambda k, b=belief: agent.begin(b, k))(keys)
        assert np.allclose(z.mean(0), mean, atol=0.2) and np.allclose(z.std(0), std, atol=0.1)
    # Or all of them, until a reward is met.
    waiting = dataclasses.replace(agent, until_paid=True)
    for paid, mean in ((False, 0.0), (True, 3.0)):
        belief = Belief(known, jnp.asarray(2), jnp.asarray(paid))
        z = jax.vmap(lambda k, b=belief: waiting.begin(b, k))(keys)
        assert np.allclose(z.mean(0), mean, atol=0.2)


# ---- learning ----


def test_the_critics_and_the_kl_teach_the_encoder_and_nothing_else_does():
    """With `encode` at 0 the encoder's gradient is that of the KL; the networks' stays as it is."""
    problem = Problem.of(probes.HiddenNumber(horizon=3))
    learner = PEARL(**SMALL | {"tasks": 4, "collect_tasks": 4, "gradient_steps": 1})
    state = after_one_update(learner, problem)

    @eqx.filter_jit
    def gradient(encode: Any, kl_weight: Any):
        mine = eqx.tree_at(lambda x: (x.encode, x.kl_weight), learner, (encode, kl_weight))
        context, batch = learner._draw(state.replay, problem, KEY)
        assert context.reward.shape == (4, 8) and batch.reward.shape == (4, 32)
        return jax.grad(mine.loss, has_aux=True)(
            state.learning, state.target, context, batch, jax.random.key(3)
        )[0]

    switches = ((1.0, 0.01), (0.0, 0.01), (0.0, 0.0))
    whole, cut, none = (gradient(*map(jnp.asarray, both)) for both in switches)
    for a, b in zip(*map(jax.tree.leaves, (whole.networks, cut.networks)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    size = [
        sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(g.encoder)) for g in (whole, cut, none)
    ]
    assert size[0] > 0 and 0 < size[1] < size[0] and size[2] == 0


@pytest.mark.long  # the second action space
def test_the_latent_is_what_finds_the_arm():
    """Discrete actions: once an episode is seen, the arm is known; by the KL alone it never is."""
    problem = Problem.of(probes.HiddenArm())
    learner = PEARL(**SMALL | {"tasks": 2, "collect_tasks": 2})
    learned, cut = (
        trials(learner, problem, state) for state in train(learner, problem, 30, 1.0, 0.0)
    )
    by_episode = learned.returns.mean((0, 2))
    assert by_episode[0] == pytest.approx(1.0, abs=0.3) and by_episode[2:].min() > 1.85
    assert cut.returns[:, 2:].mean() < 1.3


def test_the_latent_is_what_finds_the_number():
    """Continuous actions, and tasks that it has not met. A guess that knows nothing is worth −¼."""
    problem = Problem.of(probes.HiddenNumber(horizon=3))
    learner = PEARL(**SMALL | {"tasks": 16, "collect_tasks": 4})
    with jax.debug_key_reuse(True):
        states = train(learner, problem, 60, 1.0, 0.0)
    learned, cut = (trials(learner, problem, state) for state in states)
    late = learned.returns[:, -1].mean()
    assert late > -0.12 and late > learned.returns[:, 0].mean() + 0.2
    assert cut.returns[:, -1].mean() < -0.2
    # What is believed of one task does not help on another.
    agent = learner.agent(problem, states[0])
    swapped = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), learned.memory)

    def once(memory, task, key):
        z = agent.begin(memory, key)
        action, _, _ = agent.act(memory, z, jnp.zeros(1), key)
        return -((action[0] - task[0]) ** 2)

    tasks = problem.source.tasks(jax.random.key(1), "test", 200)["task"]
    keys = jax.random.split(KEY, 200)
    own, others = (jax.vmap(once)(m, tasks, keys).mean() for m in (learned.memory, swapped))
    assert own > -0.05 and others < own - 0.1


def test_sac_learns_from_the_dense_reward_and_the_context_holds_the_sparse_one():
    problem = Problem.of(PointSparse(horizon=4))
    learner = PEARL(**SMALL | {"tasks": 3, "collect_tasks": 3, "gradient_steps": 1})
    state = after_one_update(learner, problem)
    draw = eqx.filter_jit(lambda learner, replay: learner._draw(replay, problem, KEY))
    context, batch = draw(learner, state.replay)
    goal = np.asarray(state.params["goal"])
    context, batch = jax.tree.map(np.asarray, (context, batch))
    assert not context.reward.any() and (batch.reward < 0).all()
    distance = np.linalg.norm(batch.next_obs[:, :, None] - goal, axis=-1).min(-1)
    assert (batch.reward / 5.0 <= -distance + 1e-5).all()
    # Of exploration alone: an update plays one episode with z from the prior, then two from the posterior.
    kind = jnp.arange(state.replay.capacity) % 3
    rows = eqx.tree_at(
        lambda r: r.rows.reward, state.replay, 0.0 * state.replay.rows.reward + kind[:, None]
    )
    for posterior_context, rewards in ((True, {0.0, 1.0, 2.0}), (False, {0.0})):
        picky = dataclasses.replace(learner, posterior_context=posterior_context)
        assert set(draw(picky, rows)[0].reward.ravel().tolist()) == rewards
    plain = PEARL(**SMALL | {"tasks": 3, "collect_tasks": 3, "dense_reward": False})
    assert not eqx.filter_eval_shape(plain.init, problem, KEY).replay.rows.events


def test_what_it_believes_is_drawn():
    problem = Problem.of(PointSparse(horizon=4))
    learner = PEARL(tasks=2, collect_tasks=1, capacity=5, hidden=(4,), encoder_hidden=(4,))
    agent = learner.agent(problem, eqx.filter_jit(learner.init)(problem, KEY))
    params = problem.source.tasks(KEY, "test", 2)
    found = beliefs(agent, problem, params, 2, KEY)
    assert len(found) == 2 and found[1]["goal"] == pytest.approx(params["goal"][1].tolist())
    before, after = found[1]["moments"]
    assert np.shape(before["ways"]) == np.shape(after["ways"]) == (SAMPLES, 5, 2)
    assert after["title"] == "after 2 episodes" and before["ways"] != after["ways"]
    assert "●" in belief_text(found[0]) and belief_svg(found[0]).count("<polyline") == 2 * SAMPLES
    assert not beliefs(None, problem, params, 2, KEY)


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: PEARL(tasks=5, collect_tasks=2), "collect_tasks must divide tasks"),
    (lambda: PEARL(posterior_episodes=0), "posterior_episodes must be at least 1"),
    (lambda: PEARL(posterior_context=False, prior_episodes=0), "without posterior_context"),
    (lambda: PEARL(posterior_context=False, recent_episodes=3), "must be above posterior_episodes"),
    (lambda: PEARL(prior_episodes=-1), "prior_episodes must not be negative"),
    (lambda: PEARL().init(Problem.of(probes.Picture()), KEY), "cannot look at images"),
    (lambda: PEARL().init(Problem.of(probes.HiddenArm(), "context"), KEY), "reveal 'nothing'"),
])  # fmt: skip
def test_mistakes_are_said_in_one_line(wrong: Any, message: str):
    with pytest.raises(UserError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
