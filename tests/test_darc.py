"""DARC: Δr is the log-ratio, whatever the policies, and sees where a world ends; it is not capped; the
budget holds; the wall is walked round."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.cli import main
from stemrl.core import Logged, Problem, UserError
from stemrl.report import correction_map
from stemrl.rl import PPO, SAC, play
from stemrl.rl.replay import Replay
from stemrl.runs import Run, RunConfig, train
from stemrl.tasks.grid_wall import ACTIONS, GridWall, GridWallEnv, WalkerState, log_ratio
from stemrl.transfer import DARC, Classifiers, DARCState, Step, correction_table, visits
from stemrl.transfer.classifiers import (
    classifier_loss,
    diagnosed,
    importance_weights,
    miscalibration,
)

KEY = jax.random.key(0)
SOURCE, TARGET = GridWall(size=3, slip=0.6), GridWall(wall=True, size=3, slip=0.6)
TINY: dict[str, Any] = {"num_envs": 4, "rollout_length": 20, "hidden": (8,)}
TINY_PPO = PPO(**TINY, epochs=1, minibatches=2)
# Fewer gradient steps than one for all the steps of a visit: it does not learn there.
TINY_SAC = SAC(**TINY, batch_size=8, capacity=400, warm_up_steps=80, update_to_data=0.02)
QUICK: dict[str, Any] = {"warm_up_steps": 0, "classifier_gradient_steps": 2, "capacity": 400}


@eqx.filter_jit
def updates(learner: Any, problem: Problem, state: Any, n: int) -> tuple[Any, dict[str, Any]]:
    """The state after `n` updates, and the last one's metrics."""
    state, metrics = jax.lax.scan(lambda s, _: learner.update(problem, s), state, None, length=n)
    return state, jax.tree.map(lambda x: x[-1], metrics)


def begin(learner: Any, problem: Problem) -> Any:
    return eqx.filter_jit(learner.init)(problem, KEY)


# ---- the family ----


@pytest.mark.parametrize("family", [SOURCE, TARGET])
def test_the_stated_probabilities_are_those_of_the_steps(family: GridWall):
    env, n = family.env, 2000
    params = family.sample(KEY, "train")
    cells = [(x, y) for y in range(3) for x in range(3)]
    start = env.reset(KEY, params)[1]

    def one(key, cell, action):
        state = eqx.tree_at(lambda s: s.position, start, cell)
        return env.step(key, state, action, params)[0]

    over = jax.vmap(jax.vmap(jax.vmap(one, (0, None, None)), (None, None, 0)), (None, 0, None))
    reached = jax.jit(over)(jax.random.split(KEY, n), jnp.asarray(cells), jnp.arange(ACTIONS))
    frequency = (np.asarray(reached)[..., None] == np.arange(9)).mean(2)
    expected = np.asarray(family.transition_probabilities())
    np.testing.assert_allclose(expected.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(frequency, expected, atol=5 * 0.5 / np.sqrt(n))


def test_only_the_wall_makes_a_difference():
    ratio = np.asarray(log_ratio(GridWall(), GridWall(wall=True)))
    right, left = 1, 3
    # Cell 1 is left of the wall on the bottom row, cell 2 right of it; 21 and 22 are in the gap.
    assert ratio[1, right, 2] == -np.inf and ratio[2, left, 1] == -np.inf
    # Staying: 0.75 + 2 · 0.05 against 0.05 to the right; slipping: 2 · 0.05 + 0.05 (the edge).
    assert ratio[1, right, 1] == pytest.approx(np.log(0.9 / 0.1), rel=1e-4)
    assert ratio[6, right, 6] == pytest.approx(np.log(0.85 / 0.05), rel=1e-4)
    assert ratio[21, right, 22] == pytest.approx(0, abs=1e-6)
    away = ratio[[x + 5 * y for x in (0, 3, 4) for y in range(5)]]
    assert np.abs(away[np.isfinite(away)]).max() < 1e-6


def test_train_starts_anywhere_but_the_goal_and_tests_in_the_corner():
    env, keys = GridWall().env, jax.random.split(KEY, 2000)
    starts = {
        split: set(
            np.asarray(jax.vmap(env.reset, (0, None))(keys, GridWall().sample(KEY, split))[0])
        )
        for split in ("train", "test")
    }
    assert starts == {"train": set(range(25)) - {4}, "test": {0}}
    with pytest.raises(UserError, match="no split 'ood'"):
        GridWall().sample(KEY, "ood")


# ---- Δr ----


SHARES = jnp.asarray([[1, 2, 0, 1, 2, 1, 2, 1, 2], [2, 1, 0, 2, 1, 1, 1, 2, 2]]) / 12
"""How often each cell is met in the source and in the target."""


@pytest.fixture(scope="module")
def begun() -> tuple[DARC, Problem, DARCState]:
    """A learner before its first update."""
    learner, problem = DARC(learner=TINY_PPO, **QUICK), Problem(SOURCE, TARGET, 20)
    return learner, problem, begin(learner, problem)


def walked(family: GridWall, share: jax.Array, seed: int) -> Step:
    """Steps from cells that are met so often, in any direction."""
    return _walked(family.env, family.sample(KEY, "train"), share, jax.random.key(seed), 400_000)


@eqx.filter_jit
def _walked(env: GridWallEnv, params: Any, share: jax.Array, key: jax.Array, n: int) -> Step:
    cells, moves, steps = jax.random.split(key, 3)
    cell = jax.random.choice(cells, 9, (n,), p=share)
    state = WalkerState(jnp.stack([cell % 3, cell // 3], 1))
    action = jax.random.randint(moves, (n,), 0, ACTIONS)
    step = jax.vmap(env.step, (0, 0, 0, None))
    after, _, _, terminated, *_ = step(jax.random.split(steps, n), state, action, params)
    return Step(cell, action, after, terminated)


@eqx.filter_jit
def shown(learner: DARC, problem: Problem, state: DARCState, steps: tuple[Step, Step]) -> DARCState:
    """The state whose classifiers have learned from these steps of the source and the target."""
    n = len(steps[0].obs)
    held = [Replay.of(Step.empty(problem), n, chunk=n).add(s) for s in steps]
    state = eqx.tree_at(lambda s: (s.source_steps, s.target_steps), state, held)

    def phase(state: DARCState, now: tuple[jax.Array, jax.Array]) -> tuple[DARCState, None]:
        slower = dataclasses.replace(learner, classifier_learning_rate=now[0])
        return slower._classify(problem, state, now[1])[0], None

    phases = jnp.geomspace(2e-2, 1e-4, 12), jax.random.split(KEY, 12)
    return jax.lax.scan(phase, state, phases)[0]


STUDENT = DARC(
    learner=TINY_PPO,
    classifier_noise=0.0,
    classifier_gradient_steps=200,
    classifier_batch_size=512,
)
"""Whose classifiers learn much at once."""


@pytest.fixture(scope="module")
def surveyed(begun) -> tuple[DARC, Problem, DARCState]:
    """Classifiers of steps of both grids, each of whose cells is met more often in one of them."""
    steps = walked(SOURCE, SHARES[0], 0), walked(TARGET, SHARES[1], 1)
    return STUDENT, begun[1], shown(STUDENT, *begun[1:], steps)


def met(state: DARCState, least: int) -> np.ndarray:
    """Where the source and the target both have so much data."""
    counts = (visits(r, 9, ACTIONS) for r in (state.source_steps, state.target_steps))
    return np.minimum(*map(np.asarray, counts)) >= least


def test_the_correction_is_the_log_ratio_where_both_have_data(surveyed):
    learned = np.asarray(correction_table(*surveyed, TARGET.terminal()))
    exact = np.asarray(log_ratio(SOURCE, TARGET))
    both = met(surveyed[2], 500)
    assert both.sum() > 100 and (np.abs(exact[both]) > 0.2).sum() >= 10
    assert np.abs(learned - exact)[both].max() < 0.2


def test_what_the_target_cannot_do_costs_more_than_a_softmax_of_a_softmax_can_say(surveyed):
    learned = np.asarray(correction_table(*surveyed, TARGET.terminal()))
    exact = np.asarray(log_ratio(SOURCE, TARGET))
    known = np.asarray(visits(surveyed[2].source_steps, 9, ACTIONS)) > 200
    impossible = np.isneginf(exact) & known
    assert impossible.sum() >= 4
    assert learned[impossible].max() < -3.0


def test_how_often_a_state_is_met_cancels_but_for_the_ablations(surveyed):
    """Where the dynamics are the same, Δr is 0, and without the (s, a) term it is how much oftener the
    target's cell is met; the one classifier of (s, a) says that everywhere."""
    learner, problem, state = surveyed
    tables = {
        correction: np.asarray(
            correction_table(
                dataclasses.replace(learner, correction=correction),
                problem,
                state,
                TARGET.terminal(),
            )
        )
        for correction in ("dynamics", "transition", "state-action")
    }
    oftener = np.broadcast_to(np.log(SHARES[1] / SHARES[0])[:, None, None], (9, ACTIONS, 9))
    for cell in (0, 1, 3, 4, 5, 6, 7, 8):  # but the goal's, from which no step is taken
        np.testing.assert_allclose(tables["state-action"][cell], oftener[cell], atol=0.1)
    same = met(state, 500) & (np.abs(log_ratio(SOURCE, TARGET)) < 1e-3)
    assert (np.abs(oftener)[same] > 0.69).sum() > 30
    np.testing.assert_allclose(tables["dynamics"][same], 0.0, atol=0.2)
    np.testing.assert_allclose(tables["transition"][same], oftener[same], atol=0.2)


# ---- where a world ends ----


@pytest.fixture(scope="module")
def fallen(begun) -> tuple[tuple[Step, Step], np.ndarray]:
    """Steps of a world without a ledge and of one with it, which differ in nothing else; and Δr of steps
    that go on, once the classifiers have learned from them."""
    family = probes.Ledge(size=3, slip=0.6)
    steps = walked(SOURCE, SHARES[0], 2), walked(family, SHARES[1], 3)
    state = shown(STUDENT, *begun[1:], steps)
    return steps, np.asarray(correction_table(STUDENT, begun[1], state, SOURCE.terminal()))


FALLS = np.zeros((9, ACTIONS, 9), bool)
FALLS[(6, 7, 8), :, (6, 7, 8)] = True
"""The steps that are the last ones over the ledge."""


def test_a_step_that_ends_the_target_alone_costs_and_no_other_does(fallen):
    """The same happens in both, but that who stays in the top row is out of the target's world."""
    (source, target), correction = fallen
    on_ledge = FALLS[target.obs, target.action, target.next_obs]
    np.testing.assert_array_equal(target.terminated, on_ledge | (target.next_obs == 2))
    np.testing.assert_array_equal(source.terminated, source.next_obs == 2)
    assert correction[FALLS].max() < -3.0
    possible = np.asarray(SOURCE.transition_probabilities()) > 0.1
    possible[2] = False  # the goal, from which no step is taken
    assert possible[~FALLS].sum() > 40
    assert np.abs(correction[possible & ~FALLS]).max() < 0.2


def test_without_the_end_nothing_tells_of_it(begun, fallen):
    """The ablation is the same program, which is told of no end."""
    unaware = tuple(s._replace(terminated=jnp.zeros_like(s.terminated)) for s in fallen[0])
    state = shown(STUDENT, *begun[1:], unaware)
    correction = np.asarray(correction_table(STUDENT, begun[1], state))
    assert np.abs(correction[FALLS]).max() < 0.2


def test_the_correction_is_not_capped(begun):
    learner, problem, state = begun
    certain = eqx.tree_at(
        lambda s: s.classifiers.advantage.layers[-1].bias, state, jnp.asarray([25.0])
    )
    change = correction_table(learner, problem, certain) - correction_table(learner, problem, state)
    np.testing.assert_allclose(change, 25.0, rtol=1e-4)
    # What a softmax of a softmax would make of the same certainty: each difference of logs is at most 1.
    twice = lambda log_odds: jax.nn.log_softmax(jax.nn.softmax(jnp.asarray([0.0, log_odds])))  # noqa: E731
    capped = [float(twice(x)[1] - twice(x)[0]) for x in (25.0, -25.0)]
    assert abs(capped[0]) <= 1.0 and abs(capped[1]) <= 1.0
    assert capped[0] - capped[1] <= 2.0 < float(change.max())


def test_noise_is_for_training_only():
    problem = Problem(SOURCE, TARGET)
    classifiers = jax.jit(
        lambda: jax.tree.map(lambda x: 10 * x, Classifiers.of(problem, (16,), key=KEY))
    )()
    pair, after, target = jnp.ones((6, 13)), jnp.ones((6, 10)), jnp.arange(6) < 3

    def loss(classifiers: Classifiers, noise: float, seed: int = 0) -> float:
        key = jax.random.key(seed)
        return float(classifier_loss(classifiers, pair, after, target, noise, key)[0])

    plain, once, again = (loss(classifiers, *x) for x in ((0.0, 0), (1.0, 0), (1.0, 1)))
    assert plain != once != again
    assert plain == loss(classifiers, 0.0)
    # None is on whether the step terminated: with 0 or 1, noise of 1 would be all that is left.
    first = lambda c: (c.state_action.layers[0].weight, c.advantage.layers[0].weight)  # noqa: E731
    only = [jnp.zeros_like(first(classifiers)[0]), first(classifiers)[1].at[:-1].set(0.0)]
    by_the_end = eqx.tree_at(first, classifiers, only)
    assert loss(by_the_end, 0.0) == loss(by_the_end, 1.0) != plain


# ---- learning ----


QUICK_PPO = PPO(
    num_envs=16, rollout_length=32, hidden=(32,), learning_rate=3e-3, epochs=4, minibatches=4,
    entropy_weight=0.02, discount=0.95,
)  # fmt: skip
CARD_PPO = PPO(
    num_envs=16, rollout_length=64, hidden=(64,), learning_rate=1e-3, epochs=4, minibatches=8,
    entropy_weight=0.03, discount=0.97,
)  # fmt: skip


def recorded(family: GridWall, steps: int) -> Logged:
    """Steps of somebody who goes at random, from any cell."""
    keys = jax.random.split(KEY, (3, steps))
    params = family.sample(KEY, "train")
    action = jax.vmap(family.action_space.sample)(keys[0])
    obs, state = jax.vmap(family.env.reset, (0, None))(keys[1], params)
    after, _, _, ended, *_ = jax.vmap(family.env.step, (0, 0, 0, None))(
        keys[2], state, action, params
    )
    columns = {
        "observations": obs, "actions": action, "next_observations": after, "terminations": ended,
    }  # fmt: skip
    return Logged.of(columns, family.observation_space, family.action_space)


@eqx.filter_jit
def by_the_top(agent: Any, family: GridWall, params: Any) -> Any:
    """Share of episodes that come by the top row."""
    steps = play(agent, family, params, None, jax.random.key(1), 1).transitions
    return jnp.any((steps.obs >= family.size * (family.size - 1)) & steps.valid, axis=-1).mean()


@eqx.filter_jit
def success(agent: Any, family: GridWall, params: Any) -> Any:
    """Share of episodes that reach the goal."""
    steps = play(agent, family, params, None, jax.random.key(1), 1).transitions
    return jnp.any(steps.events["success"] & steps.valid, axis=-1).mean()


@pytest.mark.parametrize(
    ("size", "ppo", "settings", "budget", "length", "lost"),
    [
        ({"size": 3, "slip": 0.1}, QUICK_PPO, {"warm_up_steps": 2_000}, 10_000, 30, 0.3),
        # The grid of the card `darc-grid`, of which the small one says the same.
        pytest.param({}, CARD_PPO, {}, 13_312, 130, 0.1, marks=pytest.mark.long),
    ],
    ids=["small", "the card's"],
)
def test_darc_goes_round_a_wall_and_only_with_its_correction(
    size, ppo, settings, budget, length, lost
):
    """The ablation is the same program, whose warm-up never ends: the source alone."""
    source, target = GridWall(**size), GridWall(**size, wall=True)
    problem = Problem(source, target, budget)
    learner = DARC(
        learner=ppo,
        classifier_noise=0.0,
        classifier_hidden=(64,),
        classifier_learning_rate=3e-3,
        **settings,
    )
    state = begin(learner, problem)
    learned, metrics = updates(learner, problem, state, length)
    assert metrics["target_steps"] == learner.target_steps(problem, length) <= problem.budget
    assert metrics["correction/lowest"] < -2
    # In the target's grid with or without its wall, from the corner.
    blocked, free = (f.tasks(KEY, "test", 200) for f in (target, source))
    assert success(learner.agent(problem, learned), target, blocked) >= 0.9

    state = eqx.tree_at(lambda s: s.collected, state, jnp.asarray(-(10**9), jnp.int32))
    agent = learner.agent(problem, updates(learner, problem, state, length)[0])
    assert success(agent, target, blocked) <= lost and success(agent, target, free) >= 0.9


def test_sac_draws_rewards_anew_and_keeps_the_true_ones(monkeypatch: pytest.MonkeyPatch):
    family = probes.MatchNumber()
    problem = Problem(family, family, 100)
    learner = DARC(learner=TINY_SAC, correction_scale=3.0, **QUICK)
    original, corrected = SAC.learn, []

    def learn(self, problem, state, experience, reward):
        def recorded(rows):
            corrected.append(rows)
            return reward(rows)

        state, metrics = original(self, problem, state, experience, recorded)
        # The same row, as one that goes on and as one that ends.
        row = jax.tree.map(lambda x: x[:1], state.replay.rows)
        goes_on, ends = (row._replace(carries_on=jnp.full(1, x)) for x in (1.0, 0.0))
        changes = {"goes on": reward(goes_on) - row.reward, "ends": reward(ends) - row.reward}
        return state, {**metrics, **{name: x[0] for name, x in changes.items()}}

    monkeypatch.setattr(SAC, "learn", learn)
    # Δr = 2 for steps that end the task, 1 for others.
    monkeypatch.setattr(
        DARC,
        "correct",
        lambda self, problem, state, step: 1.0 + step.terminated,
    )
    state, metrics = updates(learner, problem, begin(learner, problem), 3)
    assert np.isfinite(list(metrics.values())).all()
    assert len(corrected) > 0
    np.testing.assert_allclose([metrics["goes on"], metrics["ends"]], [3.0, 6.0], rtol=1e-5)
    rows = jax.tree.map(
        lambda x: x[:240, 0], (state.learner.replay.rows.obs, state.learner.replay.rows.action)
    )
    action = 2 * jnp.clip(rows[1], -1, 1)
    np.testing.assert_allclose(
        state.learner.replay.rows.reward[:240], -((action - rows[0]) ** 2), atol=1e-5
    )


@pytest.mark.long
def test_from_a_file_of_steps_in_the_target():
    """The wall is gone round by what 3,000 recorded steps tell of it, with none taken there; and
    those of a target without a wall tell of none."""
    source, target = GridWall(size=3), GridWall(size=3, wall=True)
    learner = DARC(
        learner=QUICK_PPO,
        classifier_noise=0.0,
        classifier_hidden=(64,),
        classifier_learning_rate=3e-3,
        warm_up_steps=2_000,
    )
    blocked = target.tasks(KEY, "test", 200)
    for family, low, high in ((target, 0.9, 1.0), (source, 0.0, 0.3)):
        logged = recorded(family, 3_000)
        problem = Problem(source, source, logged=logged)
        assert learner.target_steps(problem, 100) == 0
        state, metrics = updates(learner, problem, begin(learner, problem), 60)
        assert metrics["target_steps"] == 3_000 and np.isfinite(list(metrics.values())).all()
        assert low <= success(learner.agent(problem, state), target, blocked) <= high


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((), "no column 'actions', which 'darc' needs"),
        (
            ("actions", "next_observations"),
            r"no column 'terminations', which 'darc' needs \(1 where a step ended the task itself, else 0;"
            r" zeros where episodes never terminate\); it has: observations, actions",
        ),
    ],
)
def test_a_file_without_a_column_is_refused(columns: tuple[str, ...], message: str):
    family = GridWall(size=3)
    held = {name: np.arange(9) % ACTIONS for name in ("observations", *columns)}
    logged = Logged.of(held, family.observation_space, family.action_space)
    with pytest.raises(UserError, match=message):
        DARC(learner=TINY_PPO).init(Problem(family, family, logged=logged), KEY)


@pytest.mark.long
def test_in_reverse_it_takes_the_long_way():
    """The wall stands in the source, and the target is free: nothing in the source shows that one may
    go straight. A policy of the target does."""
    source, target = GridWall(size=3, wall=True, slip=0.1), GridWall(size=3, slip=0.1)
    problem = Problem(source, target, 10_000)
    learner = DARC(
        learner=QUICK_PPO,
        classifier_noise=0.0,
        classifier_hidden=(64,),
        classifier_learning_rate=3e-3,
        warm_up_steps=2_000,
    )
    state, _ = updates(learner, problem, begin(learner, problem), 60)
    own = Problem.of(target)
    state_there, _ = updates(QUICK_PPO, own, begin(QUICK_PPO, own), 60)
    free = target.tasks(KEY, "test", 200)
    ways = []
    for agent in (learner.agent(problem, state), QUICK_PPO.agent(own, state_there)):
        assert success(agent, target, free) > 0.95
        ways.append(by_the_top(agent, target, free))
    assert ways[0] >= 0.9 and ways[1] <= 0.1


def test_an_ablation_without_the_state_action_term(begun):
    learner, problem, state = begun
    state = eqx.tree_at(
        lambda s: s.classifiers, state, jax.tree.map(lambda x: 5 * x, state.classifiers)
    )
    tables = {
        correction: correction_table(
            dataclasses.replace(learner, correction=correction), problem, state
        )
        for correction in ("dynamics", "transition", "state-action")
    }
    whole = tables["dynamics"] + tables["state-action"]
    np.testing.assert_allclose(tables["transition"], whole, atol=1e-5)
    assert jnp.abs(tables["transition"] - tables["dynamics"]).max() > 1e-3


def test_importance_weights_are_the_ratios_over_their_mean():
    ratios, valid = np.array([[1.0, 3.0], [0.5, 7.0]]), np.array([[True, True], [True, False]])
    expected = np.array([[2 / 3, 2], [1 / 3, 0]])  # over the mean of 1, 3 and 0.5
    for shift in (0.0, 200.0):
        found = importance_weights(jnp.asarray(np.log(ratios) + shift), jnp.asarray(valid))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_with_weights_rewards_stay_and_each_row_has_its_own(begun, monkeypatch: pytest.MonkeyPatch):
    learner, problem, state = begun
    learner = dataclasses.replace(learner, apply_to="weight")
    # Δr = 1 for steps in the lower row, 0 elsewhere: they count e times as much.
    monkeypatch.setattr(
        DARC,
        "correct",
        lambda self, problem, state, step: 1.0 * (step.obs < 3),
    )

    def improve(self, loss, networks, optimizer, rows, updates, key):
        return networks, optimizer, {"rows": rows}

    monkeypatch.setattr(PPO, "improve", improve)
    rows: Any = eqx.filter_jit(learner.update)(problem, state)[1]["rows"]
    counts = np.where(np.argmax(rows.inputs, -1) < 3, np.e, 1.0)
    assert len(set(counts)) == 2
    np.testing.assert_allclose(rows.weight, counts / counts.mean(), rtol=1e-5)
    np.testing.assert_array_equal(rows.policy_weight, rows.weight)


# ---- when to trust it ----


def test_calibration_is_how_far_probabilities_are_from_frequencies():
    # Of four steps at 73%, two are the target's; of two at 5%, none is.
    log_odds = jnp.asarray([1.0, 1.0, 1.0, 1.0, -3.0, -3.0])
    is_target = jnp.asarray([True, True, False, False, False, False])
    expected = (4 * (1 / (1 + np.exp(-1)) - 0.5) + 2 / (1 + np.exp(3))) / 6
    np.testing.assert_allclose(miscalibration(log_odds, is_target), expected, rtol=1e-5)


def test_the_correction_in_a_few_numbers():
    told = diagnosed(jnp.asarray([-20.0, -4.0, 0.0, 0.5, 2.0]))
    assert told["correction/50%"] == 0.0 and told["correction/lowest"] == -20.0
    np.testing.assert_allclose(told["correction/beyond_1"], 0.6)
    np.testing.assert_allclose(told["correction/beyond_3"], 0.4)
    np.testing.assert_allclose(told["correction/saturated"], 0.2)


# ---- the budget ----


def test_no_step_is_taken_beyond_the_budget_and_each_is_kept_as_it_was(begun):
    learner, problem, state = begun
    assert (learner.steps_per_update(problem), learner.target_steps(problem, 1)) == (80, 8)
    state, metrics = updates(learner, problem, state, 4)
    assert metrics["target_steps"] == state.visits.spent == state.target_steps.size == 16
    assert state.collected == state.source_steps.size == 320
    # What ends an episode of a grid is the goal, the last that is seen of it: no next one begins there.
    for held in (state.source_steps, state.target_steps):
        rows = jax.tree.map(lambda x, held=held: x[: held.size], held.rows)
        np.testing.assert_array_equal(rows.terminated, rows.next_obs == 2)
        assert not (rows.obs == 2).any()
    assert 0 < state.source_steps.rows.terminated.sum() < 320


def test_the_run_loop_refuses_what_the_budget_does_not_allow(tmp_path: Path):
    settings = {"learner": "ppo num_envs=4 rollout_length=20 minibatches=2", "capacity": 400}
    config = RunConfig("darc", "grid-wall", settings=settings, steps=240, evaluate_every=0,
                       target="grid-wall", target_settings={"wall": True}, budget=20)  # fmt: skip
    with pytest.raises(
        UserError, match=r"24 steps in the target, the budget is 20; lower steps to 160"
    ):
        train(config, tmp_path, progress=False)
    with pytest.raises(UserError, match=r"takes 8 steps and the budget is 0; .*give --budget"):
        eqx.filter_eval_shape(DARC(learner=TINY_PPO).init, Problem(SOURCE, TARGET), KEY)


@pytest.mark.long  # the matrix of tests trains it by every verb
def test_from_the_command_line(tmp_path: Path):
    words = (
        f"train darc grid-wall --target grid-wall --target.wall --budget 16 --steps 160 --quiet"
        f" --capacity 400 --classifier-gradient-steps 2 --out {tmp_path / 'run'}"
    ).split()
    assert main([*words, "--learner", "ppo num_envs=4 rollout_length=20 minibatches=2"]) == 0
    run = Run.open(tmp_path / "run")
    assert run.problem.target == GridWall(wall=True) and run.problem.source == GridWall()
    assert run.metrics()[-1]["score"] is not None or run.metrics()[-1]["kind"] == "update"
    assert run.state().visits.spent == 16


# ---- what is refused ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learner": "maml"}, "'maml' cannot learn in the source"),
        ({"learner": "darc"}, "'darc' cannot learn in the source"),
        ({"learner": "pppo"}, "unknown method 'pppo'"),
        ({"learner": "ppo lane=3"}, "'ppo' has no setting 'lane'"),
        ({"learner": "ppo num_envs=many"}, "num_envs must be INT, not 'many'"),
        ({"correction": "both"}, "must be one of dynamics, transition, state-action"),
        ({"correction_scale": 0.0}, "correction_scale must be above 0, not 0"),
        ({"correction_scale": 2.0, "apply_to": "weight"}, "correction_scale is of rewards"),
        ({"capacity": 0}, "capacity must be at least 1"),
        ({"apply_to": "value"}, "apply_to must be reward or weight, not 'value'"),
        ({"apply_to": "weight", "learner": "sac"}, "'sac' cannot weight its steps"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        DARC(**settings)


def test_a_map_is_drawn(tmp_path: Path):
    tables = {"exact": np.asarray(log_ratio(GridWall(), GridWall(wall=True)))}
    path = correction_map(GridWall(wall=True), tables, tmp_path / "map.png")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    with pytest.raises(UserError, match="must be a table of"):
        correction_map(GridWall(size=4), tables, tmp_path / "map.png")
