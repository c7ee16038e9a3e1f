"""What off-policy learners share: replays of episodes in groups, networks told their sizes, TD3 and
DQN by hand and on probes, and that a latent learns from the critics alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Box, Discrete, MultiDiscrete, Problem, UserError
from stemrl.optimal.reference_agents import RandomAgent
from stemrl.rl import DQN, SAC, TD3, Episode, OffPolicyState, Replay, Row, ValueRange, draw_steps
from stemrl.rl.off_policy import Explorer
from stemrl.rl.td3 import critic_loss, policy_loss
from test_sac import SMALL, train

KEY = jax.random.key(0)
SEEN, MOVES, CHOICES = Box((3,)), Box((2,), -1.0, 1.0), Discrete(4)
LEARNERS = [(SAC, MOVES), (SAC, CHOICES), (TD3, MOVES), (DQN, CHOICES)]


# ---- replay ----


def stored(length: int, task: int, steps: int = 4) -> Episode:
    """An episode whose steps are numbered 100 task + time; its padding is poisoned."""
    x = jnp.where(jnp.arange(steps) < length, 100.0 * task + jnp.arange(steps), jnp.nan)
    return Episode((), x[:, None], x[:, None], x, x, x[:, None], {"dense": x}, jnp.asarray(length))


def test_steps_of_a_group_are_its_own_and_never_padding():
    empty = jax.tree.map(jnp.zeros_like, stored(0, 0))
    replay = Replay.of(empty, capacity=4, groups=3)
    lengths = {0: (1, 4), 2: (3, 2)}
    chunk = jax.tree.map(
        lambda *x: jnp.stack(x).reshape(2, 2, *x[0].shape),
        *(stored(n, task) for task, both in lengths.items() for n in both),
    )
    replay = replay.add(chunk, jnp.array([0, 2]))
    assert replay.size.tolist() == [2, 0, 2] and replay.capacity == 4
    of = jnp.array([2, 0])[:, None]
    drawn = jax.jit(lambda k: replay.steps(k, (2, 3000), of))(KEY)
    assert jnp.isfinite(drawn.reward).all() and drawn.obs.shape == (2, 3000, 1)
    np.testing.assert_array_equal(drawn.reward, drawn.events["dense"])
    values, counts = np.unique(np.asarray(drawn.reward[0]), return_counts=True)
    # 3 + 2 steps, of which the first two times occur in both episodes: as likely each.
    assert values.tolist() == [200.0, 201.0, 202.0]
    assert np.abs(counts - [1200, 1200, 600]).max() < 150
    assert set(np.asarray(drawn.reward[1]).tolist()) == {0.0, 1.0, 2.0, 3.0}
    whole = replay.episodes(KEY, (2, 5), of)
    assert whole.reward.shape == (2, 5, 4) and set(whole.length[0].tolist()) == {2, 3}


def test_recent_steps_are_those_of_the_latest_rows():
    replay = Replay.of(jnp.zeros(()), capacity=6)
    for i in range(4):
        replay = replay.add(jnp.array([2.0 * i, 2.0 * i + 1]))
    assert set(replay.steps(KEY, (200,), recent=3).tolist()) == {5.0, 6.0, 7.0}
    assert set(replay.steps(KEY, (200,), recent=99).tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    ring = Replay.of(jax.tree.map(jnp.zeros_like, stored(0, 0)), capacity=2, groups=1)
    for task in range(3):
        chunk = jax.tree.map(lambda x: x[None, None], stored(2, task))
        ring = ring.add(chunk, jnp.array([0]))
    of = jnp.zeros((), jnp.int32)
    assert set(ring.steps(KEY, (100,), of).reward.tolist()) == {100.0, 101.0, 200.0, 201.0}
    assert set(ring.steps(KEY, (100,), of, recent=1).reward.tolist()) == {200.0, 201.0}


def test_the_last_group_and_the_last_step_are_drawn_too():
    length = jnp.array([[0, 2], [1, 0]])
    of = jnp.array([0, 1] * 200)
    episode, time = draw_steps(length, KEY, (400,), of)
    assert set(zip(of.tolist(), episode.tolist(), time.tolist(), strict=True)) == {
        (0, 1, 0),
        (0, 1, 1),
        (1, 0, 0),
    }


# ---- the core ----


def batches(actions: Any, steps: int, context: int) -> Row:
    keys = jax.random.split(KEY, 5)
    shape = (steps, 16)
    action = (
        jax.random.randint(keys[0], shape, 0, actions.n)
        if isinstance(actions, Discrete)
        else jax.random.uniform(keys[0], (*shape, 2), minval=-1)
    )
    obs, next_obs = jax.random.normal(keys[1], (2, *shape, 3))
    told = jax.random.normal(keys[2], (*shape, context)) if context else None
    return Row(obs, told, action, jax.random.normal(keys[3], shape), jnp.ones(shape), next_obs)


@pytest.mark.parametrize(("kind", "actions"), LEARNERS)
def test_a_learner_fits_rows_that_somebody_else_drew(kind: Any, actions: Any):
    """With a context of a size that no family has said, and an agent of it."""
    learner = kind(hidden=(8,))
    learned = learner.begin(SEEN, actions, 5, KEY)
    new, metrics = jax.jit(learner.fit)(learned, batches(actions, 4, 5), KEY)
    assert jax.tree.structure(new) == jax.tree.structure(learned)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
    agent = learner.policy(new, SEEN, None, exploring=True)
    action, _, _ = agent.act(agent.start(jnp.ones(5), KEY), (), jnp.zeros(3), KEY)
    assert action.shape == actions.shape


@pytest.mark.parametrize("actions", [MOVES, CHOICES])
def test_a_latent_learns_from_the_critics_of_sac_alone(actions: Any):
    """The gradient of the whole loss is that of J_Q with its targets held fixed."""
    learner = SAC(hidden=(8,), initial_temperature=0.5)
    learned = learner.begin(SEEN, actions, 5, KEY)
    batch = jax.tree.map(lambda x: x[0], batches(actions, 1, 5))
    noise = learner.noise(learned.networks, batch.action, KEY)

    def whole(latent):
        loss, metrics = learner.loss(
            learned.networks, learned.target, batch._replace(context=latent), noise
        )
        return loss, metrics["loss/value"]

    def errors(latent):
        """Q(s, a) of the critics, to be differentiated against fixed targets."""
        q = learned.networks.critics(batch.obs, latent, *([] if noise is None else [batch.action]))
        if noise is None:
            return jnp.sum(q * jax.nn.one_hot(batch.action, 4), axis=-1)
        return q[..., 0]

    got, _ = jax.grad(whole, has_aux=True)(batch.context)
    # dJ_Q/dQ is the error; reading it off the loss at two rewards gives it without the target.
    q, pull = jax.vjp(errors, batch.context)
    loss = lambda r: learner.loss(  # noqa: E731
        learned.networks, learned.target, batch._replace(reward=r), noise
    )[1]["loss/value"]
    # J_Q = Σᵢ ½ mean (Qᵢ − r − …)²: its derivative by r is −Σᵢ errorᵢ / n; both errors differ by Q alone.
    total = -jax.grad(loss)(batch.reward) * 16
    first = 0.5 * (total + q[0] - q[1])
    (expected,) = pull(jnp.stack([first, total - first]) / 16)
    assert jnp.any(expected != 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_a_latent_learns_from_the_critics_of_td3_alone():
    learner = TD3(hidden=(8,))
    learned = learner.begin(SEEN, MOVES, 5, KEY)
    batch = jax.tree.map(lambda x: x[0], batches(MOVES, 1, 5))

    def of_policy(latent):
        return policy_loss(learned.policy, learned.critics, batch._replace(context=latent))

    def of_critics(latent):
        row = batch._replace(context=latent)
        target = learner.targets(learned, row, jnp.zeros_like(batch.action), None)
        return critic_loss(learned.critics, row, target)[0]

    assert not jnp.any(jax.grad(of_policy)(batch.context))
    assert jnp.any(jax.grad(of_critics)(batch.context))


# ---- TD3 ----


def test_td3_targets_by_hand():
    """y = r + γ c min Q̄(s′, clip(μ̄(s′) + clipped noise)), clipped to what is possible."""
    learner = TD3(hidden=(4,), discount=0.5, target_noise=0.2, target_noise_clip=0.3)
    learned = learner.begin(SEEN, MOVES, 0, KEY)
    learned = eqx.tree_at(
        lambda x: x.slow_policy.network.body.layers[-1].bias,
        learned,
        jnp.arctanh(jnp.array([0.9, -0.5])),
    )
    obs = jnp.zeros((2, 3))
    row = Row(obs, None, jnp.zeros((2, 2)), jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), obs)
    noise = jnp.array([[1.0, -9.0], [0.0, 0.0]])
    action = jnp.array([[1.0, -0.8]])  # 0.9 + 0.2, clipped; −0.5 − 0.3, the noise clipped
    q = jnp.min(learned.slow_critics(obs[:1], None, action)[..., 0])
    got = learner.targets(learned, row, noise, None)
    np.testing.assert_allclose(got, [1.0 + 0.5 * q, 2.0], rtol=1e-5)
    assert learner.targets(learned, row, noise, ValueRange(-1.0, 0.5)).max() == 0.5


def test_the_policy_and_the_slow_copies_wait_for_the_critics():
    learner = TD3(hidden=(4,), policy_delay=3)
    learned = learner.begin(SEEN, MOVES, 0, KEY)
    rows = batches(MOVES, 4, 0)

    def changed(old: Any, new: Any) -> bool:
        return any(
            bool(jnp.any(a != b)) for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)
        )

    fit = jax.jit(learner.fit)
    two, _ = fit(learned, jax.tree.map(lambda x: x[:2], rows), KEY)
    assert changed(two.critics, learned.critics)
    assert not changed((two.policy, two.slow_critics), (learned.policy, learned.slow_critics))
    four, _ = fit(two, jax.tree.map(lambda x: x[2:], rows), KEY)
    assert int(four.steps) == 4
    assert changed(four.policy, two.policy) and changed(four.slow_critics, two.slow_critics)


def test_td3_finds_the_optimum():
    learner = TD3(**SMALL)
    problem = Problem.of(probes.MatchNumber())
    with jax.debug_key_reuse(True):
        state, metrics, traces = train(learner, problem, 50)  # pyright: ignore
    # Its noise of 0.1 is 0.2 in the world's units.
    assert metrics["return"] == pytest.approx(-0.04, abs=0.05) and traces == 1
    agent = learner.agent(problem, state)
    for obs in (-1.0, 1.0):
        action, _, _ = agent.act(None, (), jnp.array([obs]), KEY)
        assert float(action[0]) == pytest.approx(obs / 2, abs=0.05)


# ---- DQN ----


def test_dqn_reaches_a_goal_and_values_end_there():
    problem = Problem.of(probes.Corridor())
    state: OffPolicyState
    state, _, _ = train(DQN(**SMALL | {"target_rate": 0.3}), problem, 60)  # pyright: ignore
    first = state.learned.network(jnp.zeros((1, 1)))
    # −0.1 (1 + γ + γ² + γ³) + γ³
    assert float(first[0, 1]) == pytest.approx(0.3851, abs=0.05)


@pytest.mark.parametrize("space", [Discrete(3, start=-1), MultiDiscrete((2, 3), (5, 0)), Box((2,))])
def test_random_actions_are_an_agents_whatever_the_space(space: Any):
    """They count from 0; the world adds its own start."""
    policy = RandomAgent(space)
    explorer = Explorer(policy=policy, random=jnp.ones(()), actions=space)
    drawn = jax.vmap(lambda k: explorer.act(None, (), jnp.zeros(1), k)[0])(
        jax.random.split(KEY, 99)
    )
    if isinstance(space, Box):
        assert (jnp.abs(drawn) < 1).all() and jnp.ptp(drawn) > 1.5
        return
    sizes = jnp.asarray(space.sizes if isinstance(space, MultiDiscrete) else space.n)
    assert jnp.issubdtype(drawn.dtype, jnp.integer)
    assert (drawn.min(0) == 0).all() and (drawn.max(0) == sizes - 1).all()


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: DQN().init(Problem.of(probes.MatchNumber()), KEY), "'dqn' chooses among discrete"),
    (lambda: TD3().init(Problem.of(probes.Corridor()), KEY), "'td3' learns continuous actions"),
    (lambda: TD3(policy_delay=0), "policy_delay must be at least 1"),
    (lambda: TD3(hidden=()), "hidden must name at least one layer"),
])  # fmt: skip
def test_mistakes_are_said_in_one_line(wrong: Any, message: str):
    with pytest.raises(UserError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
