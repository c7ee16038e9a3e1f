"""SAC and its replay: by hand, on probes, and that nothing large is copied."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.networks import MLP
from stemrl.rl import SAC, Replay, SACState
from stemrl.rl.sac import Row, continuous_losses
from stemrl.rl.soft_networks import Critics, SoftPolicy

SMALL: dict[str, Any] = {
    "num_envs": 8,
    "rollout_length": 8,
    "hidden": (32, 32),
    "learning_rate": 3e-3,
    "batch_size": 64,
    "capacity": 2048,
    "warm_up_steps": 256,
    "target_rate": 0.05,
    "discount": 0.9,
}
KEY = jax.random.key(0)
SPACES = probes.MatchNumber().observation_space, probes.MatchNumber().action_space


def train(learner: SAC, problem: Problem, updates: int) -> tuple[SACState, dict[str, float], int]:
    """The state and metrics after some updates, and how often the update was traced."""
    traces = []

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple[SAC, Problem], state: SACState):
        traces.append(1)
        return fixed[0].update(fixed[1], state)

    # A key of its own: those who check that none is used twice call this too.
    state = eqx.filter_jit(learner.init)(problem, jax.random.key(0))
    metrics = {}
    for _ in range(updates):
        state, metrics = update((learner, problem), state)
    return state, {k: float(v) for k, v in metrics.items()}, len(traces)


# ---- replay ----


def test_the_ring_overwrites_the_oldest():
    replay = Replay.of({"x": jnp.zeros(()), "y": jnp.zeros((2,), jnp.int32)}, capacity=6)
    sizes = []
    for i in range(4):
        x = jnp.arange(2 * i, 2 * i + 2)
        replay = replay.add({"x": x.astype(jnp.float32), "y": jnp.stack([x, x], 1)})
        sizes.append(int(replay.size))
    assert sizes == [2, 4, 6, 6]
    assert sorted(replay.rows["x"].tolist()) == [2, 3, 4, 5, 6, 7]
    assert (replay.rows["x"] == replay.rows["y"][:, 1]).all()


def test_rows_are_drawn_uniformly_from_those_held():
    replay = Replay.of(jnp.zeros(()), capacity=100).add(jnp.arange(1.0, 11.0))
    drawn = np.asarray(replay.steps(KEY, (50, 40)))
    counts = np.bincount(drawn.ravel().astype(int), minlength=11)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 200) < 60).all()


def test_a_chunk_must_divide_the_ring():
    with pytest.raises(ValueError, match="do not divide"):
        Replay.of(jnp.zeros(()), capacity=10).add(jnp.zeros(3))


def test_an_update_with_a_donated_state_copies_no_replay():
    """The program's own memory is far smaller than the replay, which is aliased to the output."""
    learner = SAC(**SMALL | {"capacity": 2**21})
    problem = Problem.of(probes.MatchNumber())
    state = eqx.filter_eval_shape(learner.init, problem, KEY)
    leaves, structure = jax.tree.flatten(state)

    def update(leaves):
        return jax.tree.leaves(learner.update(problem, jax.tree.unflatten(structure, leaves))[0])

    compiled = jax.jit(update, donate_argnums=0).lower(leaves).compile()
    memory = compiled.memory_analysis()
    replay = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.replay))
    assert replay > 40e6
    assert memory.alias_size_in_bytes >= replay
    assert memory.temp_size_in_bytes < replay / 10


# ---- the critics and the losses ----


def small_networks(hidden: tuple[int, ...] = (8, 8)):
    learner = SAC(**SMALL | {"hidden": hidden})
    problem = Problem.of(probes.MatchNumber())
    state = eqx.filter_jit(learner.init)(problem, KEY)
    return problem, eqx.tree_at(
        lambda n: n.policy.network.body.layers[-1].weight,
        state.learned.networks,
        jax.random.normal(jax.random.key(5), (hidden[-1], 2)),
    )


def test_two_actions_at_once_are_each_on_its_own():
    _, networks = small_networks()
    a, b, obs = jax.random.normal(KEY, (3, 5, 1))
    both = networks.critics(obs, None, a, b)
    alone = [networks.critics(obs, None, x) for x in (a, b)]
    np.testing.assert_allclose(both, jnp.concatenate(alone, axis=1), rtol=1e-5, atol=1e-6)


def test_a_critic_is_the_multilayer_perceptron_it_was_made_of():
    critics = Critics(*SPACES, 0, (8, 8), key=KEY)
    keys = jax.random.split(jax.random.split(KEY)[1])
    x = jax.random.normal(jax.random.key(1), (5, 2))
    for i, key in enumerate(keys):
        mlp = MLP(2, 1, (8, 8), "relu", key=key)
        np.testing.assert_allclose(critics(x[:, :1], None, x[:, 1:])[i], mlp(x), rtol=1e-5)


def test_one_gradient_is_that_of_three_losses():
    """Of the joint loss with its shared pass, against each loss written out by itself."""
    _, networks = small_networks()
    target = Critics(*SPACES, 0, (8, 8), key=jax.random.key(7))
    keys = jax.random.split(KEY, 6)
    obs, next_obs = jax.random.normal(keys[0], (2, 6, 1))
    action, noise = (
        jnp.tanh(jax.random.normal(keys[1], (6, 1))),
        jax.random.normal(keys[2], (2, 6, 1)),
    )
    reward, carries_on = jax.random.normal(keys[3], (6,)), jnp.array([1.0, 1, 0, 1, 0, 1])
    batch = Row(obs, None, action, reward, carries_on, next_obs)
    gradient = jax.jit(jax.grad(continuous_losses, has_aux=True))
    joint, _ = gradient(networks, target, batch, noise, 0.9, -1.0)
    alpha = jnp.exp(networks.log_temperature)

    def sampled(policy: SoftPolicy, obs, noise):
        return policy(obs).from_noise(noise)  # pyright: ignore

    def critic_loss(critics):
        a, log_prob = sampled(networks.policy, next_obs, noise[0])
        q = jnp.min(target(next_obs, None, a)[..., 0], axis=0) - alpha * log_prob
        error = critics(obs, None, action)[..., 0] - (reward + 0.9 * carries_on * q)
        return 0.5 * jnp.sum(jnp.mean(error**2, axis=1))

    def policy_loss(policy):
        a, log_prob = sampled(policy, obs, noise[1])
        return jnp.mean(alpha * log_prob - jnp.min(networks.critics(obs, None, a)[..., 0], axis=0))

    def temperature_loss(log_alpha):
        log_prob = sampled(networks.policy, obs, noise[1])[1]
        return -log_alpha * jnp.mean(log_prob - 1.0)

    for got, expected in (
        (joint.critics, jax.jit(jax.grad(critic_loss))(networks.critics)),
        (joint.policy, jax.jit(jax.grad(policy_loss))(networks.policy)),
        (joint.log_temperature, jax.jit(jax.grad(temperature_loss))(networks.log_temperature)),
    ):
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert jnp.any(y != 0)
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"hidden": ()}, {"update_to_data": 0.001}])
def test_wrong_settings_are_said_in_one_line(wrong: dict[str, Any]):
    with pytest.raises(UserError) as caught:
        SAC(**wrong)
    assert "\n" not in str(caught.value)


# ---- probes ----


def test_values_bootstrap_through_truncation_and_warming_up_is_random():
    learner = SAC(**SMALL | {"initial_temperature": 1e-3, "learn_temperature": False})
    problem = Problem.of(probes.Forever())
    state, metrics, traces = train(learner, problem, 3)
    assert metrics["loss/value"] == 0.0
    assert abs(float(jnp.mean(state.replay.rows.action[: int(state.replay.size)])) - 0.5) < 0.2
    assert int(state.collected) == 192
    state, metrics, traces = train(learner, problem, 100)
    assert traces == 1
    q = state.learned.networks.critics(jnp.zeros((1, 1)), None)
    assert float(q.min(0).max()) == pytest.approx(10.0, abs=0.5)


@pytest.mark.long  # the second action space
def test_discrete_actions_reach_a_goal_and_values_end_there():
    learner = SAC(**SMALL | {"initial_temperature": 1e-2, "learn_temperature": False})
    problem = Problem.of(probes.Corridor())
    state, metrics, _ = train(learner, problem, 40)
    assert metrics["return"] == pytest.approx(0.6, abs=0.05)
    first = state.learned.networks.critics(jnp.zeros((1, 1)), None).min(0)
    # −0.1 (1 + γ + γ² + γ³) + γ³
    assert float(first[0, 1]) == pytest.approx(0.3851, abs=0.05)


def test_continuous_actions_find_the_optimum_and_entropy_its_target():
    learner = SAC(**SMALL | {"target_entropy": -1.5})
    problem = Problem.of(probes.MatchNumber())
    state, metrics, _ = train(learner, problem, 60)
    assert metrics["return"] > -0.1
    assert metrics["entropy"] == pytest.approx(-1.5, abs=0.3)
    mode = learner.agent(problem, state).policy(jnp.array([[-1.0], [1.0]])).mode()
    assert mode[:, 0].tolist() == pytest.approx([-0.5, 0.5], abs=0.1)


def test_a_revealed_context_tells_the_task():
    problem = Problem.of(probes.HiddenArm(), "context")
    with jax.debug_key_reuse(True):
        _, metrics, _ = train(SAC(**SMALL | {"normalize_observations": True}), problem, 40)
    assert metrics["return"] > 1.6
