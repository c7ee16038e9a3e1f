"""Hindsight: bits that flip, goals put in afterwards, targets by hand, and that it is what learns."""

import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.multitask import HER, HERState, draw_relabelled, hindsight
from stemrl.multitask.relabel import judge
from stemrl.rl import DQN, Episode, Network, ValueRange, draw_steps, play
from stemrl.rl.dqn import QAgent, bellman_targets, q_loss
from stemrl.rl.replay import Row
from stemrl.rl.td3 import DeterministicAgent
from stemrl.runs import RunConfig, resume, train
from stemrl.tasks.bit_flip import BitFlip
from stemrl.tasks.point import Point2D
from stemrl.tasks.point_maze import PointMazeGoals
from test_runs import StopAt, files, rows, stopping

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"episodes": 4, "gradient_steps": 2, "batch_size": 8, "hidden": (8,)}


def problem(bits: int) -> Problem:
    return Problem.of(BitFlip(bits=bits), "context")


@functools.cache
def episodes() -> Episode:
    """64 episodes of a random agent; 4 bits are short enough for some to reach their goal."""
    bits, n = 4, 64
    family = BitFlip(bits=bits)
    network = Network(family.observation_space, bits, bits, (4,), key=KEY)
    agent = QAgent(network, jnp.ones(()), family.observation_space)
    params = family.tasks(jax.random.key(1), "train", n)
    trials = eqx.filter_jit(play)(agent, family, params, params["goal"], jax.random.key(2), 1)
    return Episode.of(params, jax.tree.map(lambda x: x[:, 0, 0], trials.transitions))


def fit(
    learner: HER, problem: Problem, updates: int
) -> tuple[HERState, dict[str, float], list[float]]:
    """State and last metrics after `updates`, and the share of late episodes that were solved.
    The update is traced once."""
    traces, solved = [], []

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: tuple[HER, Problem], state: HERState):
        traces.append(1)
        return fixed[0].update(fixed[1], state)

    state = eqx.filter_jit(learner.init)(problem, KEY)
    metrics = {}
    for _ in range(updates):
        state, metrics = update((learner, problem), state)
        solved.append(float(metrics["success"]))
    assert len(traces) == 1
    return state, {k: float(v) for k, v in metrics.items()}, solved[-10:]


# ---- the family ----


def test_a_flip_costs_one_until_the_goal_is_reached():
    family = BitFlip(bits=3)
    params, state = {"goal": jnp.array([1.0, 0, 1])}, jnp.array([0.0, 0, 0])
    inputs = []
    for action in (0, 1, 1, 2):
        obs, state, reward, terminated, truncated, events = family.env.step(
            KEY, state, jnp.asarray(action), params
        )
        inputs.append((obs.tolist(), float(reward), bool(terminated), bool(events["success"])))
        assert not truncated
    assert inputs == [
        ([1, 0, 0], -1, False, False),
        ([1, 1, 0], -1, False, False),
        ([1, 0, 0], -1, False, False),
        ([1, 0, 1], 0, True, True),
    ]


def test_starts_and_goals_are_drawn_anew():
    family = BitFlip(bits=4)
    goals = family.tasks(KEY, "test", 400)["goal"]
    starts = jax.vmap(lambda k: family.env.reset(k, {"goal": goals[0]})[0])(
        jax.random.split(KEY, 400)
    )
    for drawn in (goals, starts):
        assert len(np.unique(drawn, axis=0)) == 16
    assert family.horizon == 4 and family.goal_space == family.observation_space
    with pytest.raises(UserError, match="no split 'ood'"):
        family.sample(KEY, "ood")


# ---- relabelling ----


def test_relabelled_steps_are_those_of_the_world_with_that_goal():
    family, played = BitFlip(bits=4), episodes()
    n = 500
    episode, time = draw_steps(played.length, KEY, n)
    other = hindsight("episode", played.length, episode, time, jax.random.key(3))
    obs, action, next_obs = (x[episode, time] for x in (played.obs, played.action, played.next_obs))
    params = jax.vmap(family.with_goal)(
        {"goal": played.params["goal"][episode]}, jax.vmap(family.achieved)(played.next_obs[other])
    )
    reward, carries_on = judge(family, obs, action, next_obs, params)
    # In this family the state is the observation.
    true_next, _, true_reward, terminated, _, _ = jax.vmap(
        family.env.step, in_axes=(None, 0, 0, 0)
    )(KEY, obs, action, params)
    np.testing.assert_array_equal(next_obs, true_next)
    np.testing.assert_array_equal(reward, true_reward)
    np.testing.assert_array_equal(carries_on, 1.0 - terminated)
    assert 0.1 < float(jnp.mean(terminated)) < 0.9


def test_every_stored_step_is_as_likely_and_padding_is_never_drawn():
    length = jnp.array([3, 0, 5, 1, 0])
    episode, time = draw_steps(length, KEY, 9000)
    assert (time >= 0).all() and (time < length[episode]).all()
    counts = np.zeros((5, 5))
    np.add.at(counts, (np.asarray(episode), np.asarray(time)), 1)
    # Five standard deviations around 1000.
    assert np.abs(counts[counts > 0] - 1000).max() < 150 and (counts > 0).sum() == 9


@pytest.mark.parametrize("strategy", ["final", "future", "episode", "random"])
def test_where_goals_come_from(strategy: Any):
    length = jnp.array([3, 0, 5, 1])
    episode, time = draw_steps(length, KEY, 3000)
    source, when = hindsight(strategy, length, episode, time, jax.random.key(1))
    assert (when >= 0).all() and (when < length[source]).all()
    if strategy == "random":
        assert set(source.tolist()) == {0, 2, 3}
        return
    assert (source == episode).all()
    first = np.asarray(time)[np.asarray(episode) == 2] == 0
    picked = set(np.asarray(when)[np.asarray(episode) == 2][first].tolist())
    assert picked == ({4} if strategy == "final" else {0, 1, 2, 3, 4})
    assert bool((when >= time).all()) == (strategy in ("final", "future"))


def test_what_is_drawn_holds_its_own_goal_and_no_padding():
    """Padding is poisoned; four of five steps have a later state of their episode as goal."""
    played = episodes()
    padding = jnp.arange(4) >= played.length[:, None]
    assert padding.any()
    played = played._replace(
        obs=jnp.where(padding[..., None], jnp.nan, played.obs),
        next_obs=jnp.where(padding[..., None], jnp.nan, played.next_obs),
    )
    rows = draw_relabelled(problem(4), played, KEY, 4000, "future", 4)
    assert rows.context is not None
    for x in (rows.obs, rows.next_obs, rows.context):
        assert jnp.isfinite(x).all()
    reached = (rows.next_obs == rows.context).all(-1)
    np.testing.assert_array_equal(rows.reward, jnp.where(reached, 0.0, -1.0))
    np.testing.assert_array_equal(rows.carries_on, 1.0 - reached)
    plain = draw_relabelled(problem(4), played, KEY, 4000, "none", 4)
    np.testing.assert_array_equal(rows.obs, plain.obs)
    # Steps whose own goal came out changed; some goals put in happen to be the old one.
    changed = float(jnp.mean((rows.context != plain.context).any(-1)))
    assert 0.6 < changed < 0.8
    share = float(jnp.mean(reached)) - float(jnp.mean(plain.reward == 0))
    assert share > 0.2


# ---- deep Q-learning ----


def test_targets_by_hand():
    reward, carries_on = jnp.array([-1.0, -1.0, 0.0]), jnp.array([1.0, 1.0, 0.0])
    slow = jnp.array([[-2.0, -4.0], [-6.0, -3.0], [-9.0, -9.0]])
    assert bellman_targets(reward, carries_on, slow, 0.5).tolist() == [-2.0, -2.5, 0.0]
    chosen_by = jnp.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert bellman_targets(reward, carries_on, slow, 0.5, chosen_by).tolist() == [-3.0, -2.5, 0.0]
    assert float(q_loss(slow, jnp.array([0, 1, 0]), jnp.array([-1.0, -3.0, -9.0]))) == (
        pytest.approx(0.5 / 3)
    )


@pytest.mark.parametrize(("clip", "double", "expected"), [
    (True, False, (0.0 - 2.0 - 2.0) / 3),
    (False, False, (0.5 - 4.0 - 6.0) / 3),
    (True, True, (-2.0 - 2.0 - 2.0) / 3),
])  # fmt: skip
def test_targets_are_clipped_to_what_is_possible(clip: bool, double: bool, expected: float):
    """γ = ½: values are in [−2, 0]. The network prefers action 1 everywhere."""
    spaces = BitFlip(bits=2).observation_space, BitFlip(bits=2).action_space
    learner = DQN(discount=0.5, double=double, hidden=(8,))
    network = learner.begin(*spaces, 2, KEY).network
    network = eqx.tree_at(lambda n: n.body.layers[-1].bias, network, jnp.array([-99.0, 0.0]))
    bits = jnp.zeros((3, 2))
    batch = Row(bits, bits, jnp.zeros(3, jnp.int32), -jnp.ones(3), jnp.ones(3), bits)
    next_values = jnp.array([[3.0, -2.0], [-6.0, -9.0], [-10.0, -11.0]])
    possible = ValueRange(-2.0, 0.0) if clip else None
    targets = learner.targets(network, batch, next_values, possible)
    assert float(targets.mean()) == pytest.approx(expected)


def test_an_agent_explores_as_often_as_it_should():
    network = Network(BitFlip(bits=4).observation_space, 4, 4, (4,), key=KEY)
    network = eqx.tree_at(lambda n: n.body.layers[-1].bias, network, 50.0 * jnp.arange(4))
    agent = QAgent(network, jnp.asarray(0.4), BitFlip(bits=4).observation_space)
    keys = jax.random.split(KEY, 2000)

    def share(agent: QAgent) -> float:
        action = jax.vmap(lambda k: agent.act(jnp.zeros(4), (), jnp.zeros(4), k)[0])(keys)
        return float(jnp.mean(action == 3))

    assert share(agent) == pytest.approx(0.7, abs=0.04)
    assert share(eqx.tree_at(lambda a: a.exploration, agent, jnp.zeros(()))) == 1.0
    assert share(QAgent(network, agent.exploration, agent.space, greedy=True)) == 1.0


# ---- the learner ----


def test_hindsight_is_what_solves_it():
    """Ten bits on the same small budget, with goals put in and without."""
    settings: dict[str, Any] = {"hidden": (128,), "capacity": 1600, "target_rate": 0.1}
    with jax.debug_key_reuse(True):
        _, metrics, solved = fit(HER(**settings), problem(10), 100)
    assert np.mean(solved) > 0.8
    assert metrics["return"] > -8
    _, _, unsolved = fit(HER(**settings, strategy="none"), problem(10), 100)
    assert np.mean(unsolved) < 0.2


@pytest.mark.long  # the second action space, by TD3, which has probes of its own
def test_continuous_actions_reach_goals_too():
    settings = {"hidden": (64, 64), "batch_size": 64, "capacity": 800}
    family = PointMazeGoals(layout="u", horizon=20)
    learner = HER(learner="td3 exploration_noise=0.2", **settings)
    state, _, reached = fit(learner, Problem.of(family, "context"), 45)
    assert np.mean(reached) > 0.8
    assert isinstance(learner.agent(Problem.of(family), state), DeterministicAgent)


def test_another_strategy_double_and_a_full_ring():
    learner = HER(**SMALL | {"capacity": 7, "double": True, "strategy": "random"})
    state, metrics, _ = fit(learner, problem(3), 5)
    assert state.replay.capacity == int(state.replay.size) == 8
    assert all(np.isfinite(v) for v in metrics.values())
    assert set(metrics) == {"return", "success", "loss/value", "value"}


def test_the_target_moves_once_an_update_and_the_state_is_arrays():
    learner = HER(**SMALL | {"target_rate": 0.25})
    before = eqx.filter_jit(learner.init)(problem(3), KEY)
    after, _ = eqx.filter_jit(learner.update)(problem(3), before)
    assert all(eqx.is_array(x) for x in jax.tree.leaves(after))
    for old, new, slow in zip(
        *(
            jax.tree.leaves(x)
            for x in (before.learned.target, after.learned.network, after.learned.target)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(slow, 0.75 * old + 0.25 * new, atol=1e-6)
    assert learner.steps_per_update(problem(3)) == 12


def test_resume_is_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = RunConfig(
        "her",
        "bit-flip",
        settings=SMALL,
        family_settings={"bits": 3},
        reveal="context",
        steps=8 * 12,
        evaluate_every=0,
        keep_every=3 * 12,
    )
    whole = train(config, tmp_path / "whole", progress=False)
    stopping(monkeypatch, 5, "crash")
    with pytest.raises(StopAt):
        train(config, tmp_path / "again", progress=False)
    again = resume(tmp_path / "again", progress=False)
    assert rows(again) == rows(whole)
    assert files(again)[max(files(whole))] == files(whole)[max(files(whole))]


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: HER(strategy="past"), "strategy must be one of"),  # pyright: ignore
    (lambda: HER(learner="ppo"), "learner must be 'dqn', 'td3' or 'sac', not 'ppo'"),
    (lambda: HER(learner="dqn discount=0.9"), "'discount' is a setting of 'her' itself"),
    (lambda: HER(learner="td3 exploration=0.5"), "'exploration' is a setting of 'her' itself"),
    (lambda: HER(learner="td3 warm_up_steps=5"), "no place in 'her': 'her' plays by itself"),
    (lambda: HER(learner="sac heads=true"), "no place in 'her': a goal is one of many"),
    (lambda: HER(learner="td3 tune=head"), "no place in 'her': 'her' begins with nothing that was"),
    (lambda: HER(learner="dqn speed=1"), "'dqn' has no setting 'speed'"),
    (lambda: HER(hindsight_goals=0), "hindsight_goals must be at least 1"),
    (lambda: BitFlip(bits=1), "at least 2 bits"),
    (lambda: HER().init(Problem.of(BitFlip()), KEY), "reveal 'context'"),
    (lambda: HER().init(Problem.of(Point2D(), "context"), KEY), "needs a family with goals"),
    (lambda: HER().init(Problem.of(probes.Corridor(), "context"), KEY), "needs a family with"),
])  # fmt: skip
def test_mistakes_are_said_in_one_line(wrong: Any, message: str):
    with pytest.raises(UserError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
