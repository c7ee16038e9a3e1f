"""Goals in a grid where all is known: exact values, DG-learning and UVFA, and what they are without
their idea."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probes
from stemrl.core import Problem, UserError
from stemrl.multitask import UVFA, DGLearning
from stemrl.multitask.dg_learning import Step, _reached_later
from stemrl.optimal import goal_policy_values, optimal_goal_values, policy_quality
from stemrl.tasks.goal_grid import GoalGrid
from stemrl.tasks.grid_wall import GridWall

KEY = jax.random.key(0)


def problem(**settings: Any) -> Problem:
    return Problem.of(GoalGrid(**settings), "context")


# ---- the family and its exact values ----


def test_distances_without_slipping_are_those_of_the_grid():
    family = GoalGrid(size=5, slip=0.0)
    value = jnp.max(optimal_goal_values(family.transition_probabilities(), 1.0), -1)
    x, y = np.arange(25) % 5, np.arange(25) // 5
    steps = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
    # The last step costs nothing; from the goal itself one must leave and come back (or bump).
    off = ~np.eye(25, dtype=bool)
    np.testing.assert_allclose(np.asarray(value)[off], 1.0 - steps[off], atol=1e-4)


def test_an_episode_costs_what_the_exact_value_says():
    """The optimal policy's mean return in the environment is its exact value."""
    family = GoalGrid(size=5, horizon=200)
    q = optimal_goal_values(family.transition_probabilities(), 1.0)
    goal = {"goal": jnp.asarray(7)}

    def episode(key):
        reset_key, key = jax.random.split(key)
        _, state = family.env.reset(reset_key, goal)

        def step(loop, key):
            state, done, total = loop
            _, after, reward, found, _, _ = family.env.step(
                key, state, jnp.argmax(q[7, state]), goal
            )
            return (jnp.where(done, state, after), done | found, total + reward * ~done), None

        keys = jax.random.split(key, 200)
        return jax.lax.scan(step, (state, jnp.asarray(False), jnp.zeros(())), keys)[0][2]

    found = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 4000))
    assert abs(found.mean() - jnp.max(q[7], -1).mean()) < 4 * found.std() / 4000**0.5


def test_walls_doors_and_withheld_goals():
    family = GoalGrid(size=11, layout="rooms", withheld="room", observed="position")
    assert family.walls.sum() == 21 - 4
    assert not np.any(family.walls[family.after[family.free]])
    trained, withheld = family.assigned
    assert len(withheld) == 25 and not set(trained.tolist()) & set(withheld.tolist())
    drawn = np.asarray(family.tasks(KEY, "ood", 50)["goal"])
    assert set(drawn.tolist()) <= set(withheld.tolist())
    cells = jnp.arange(family.states)
    back = jax.vmap(lambda c: family.achieved(family.observation_of(c)))(cells)
    np.testing.assert_array_equal(back, cells)
    # All is within reach of all.
    value = optimal_goal_values(family.transition_probabilities(), 1.0)[family.free][:, family.free]
    assert jnp.min(value) > -60


def test_policy_quality_is_one_at_the_optimum_and_less_below():
    family = GoalGrid(size=4)
    transition = family.transition_probabilities()
    exact = optimal_goal_values(transition, 0.9)
    np.testing.assert_allclose(policy_quality(exact, transition, 0.9), 1.0, atol=1e-3)
    assert float(policy_quality(-exact, transition, 0.9).mean()) < 0.0
    # Its linear systems against iteration.
    chance = jnp.full(exact.shape, 0.25)
    value = goal_policy_values(chance, transition, 0.9)
    onward = jnp.einsum("sat,gt->gsa", transition, (1 - jnp.eye(16)) * (0.9 * value - 1.0))
    np.testing.assert_allclose(value, onward.mean(-1), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 3}, "size at least 4"),
        ({"slip": 1.0}, "probability"),
        ({"layout": "maze"}, "layout must be one of open, rooms"),
        ({"withheld": "all"}, "withheld must be one of"),
    ],
)
def test_families_that_cannot_be(settings: dict[str, Any], says: str):
    with pytest.raises(UserError, match=says):
        GoalGrid(**settings)


# ---- DG-learning ----


def test_one_transition_by_hand():
    """A step teaches every goal, one where it led, the others by way of what is known from there."""
    learner = DGLearning(learning_rate=0.5)
    table = jnp.full((3, 3, 2), 10.0).at[2, 1].set(jnp.asarray([4.0, 6.0]))
    step = Step(*map(jnp.asarray, (0, 1, 1)), None, jnp.zeros(0, jnp.int32))
    new, _ = learner._step(table, step)
    # Goal 0: 1 + 10, goal 1: arrived, goal 2: 1 + min(4, 6).
    np.testing.assert_allclose(new[:, 0, 1], [10.5, 5.5, 7.5])
    assert jnp.sum(new != table) == 3
    only, _ = learner._step(
        table, eqx.tree_at(lambda s: s.goals, step, jnp.asarray([2]), is_leaf=lambda x: x is None)
    )
    assert jnp.sum(only != table) == 1 and only[2, 0, 1] == 7.5


def test_relaxation_takes_a_way_that_is_known_to_be_short():
    learner = DGLearning(learning_rate=0.0, intermediates=1, relaxation_margin=1.0)
    table = jnp.full((4, 4, 1), 50.0).at[1, 0, 0].set(2.0).at[3, 1, 0].set(5.0)
    step = Step(*map(jnp.asarray, (0, 0, 2)), None, jnp.asarray([1]))
    new, _ = learner._step(table, step)
    # 0 → 1 → 3 takes 2 + 5 and the margin; the estimate of the way to 1 itself stays.
    np.testing.assert_allclose(new[:, 0, 0], [50.0, 2.0, 50.0, 8.0])


def test_what_is_reached_later_is_of_the_same_episode():
    reached = jnp.arange(12).reshape(6, 2)
    ended = jnp.zeros((6, 2), bool).at[2, 0].set(True).at[0, 1].set(True)
    later = np.asarray(_reached_later(reached, ended, KEY, 50))
    for env, last in ((0, [2, 2, 2, 5, 5, 5]), (1, [0, 5, 5, 5, 5, 5])):
        for time, end in enumerate(last):
            assert set(later[time, env].tolist()) <= {2 * t + env for t in range(time, end + 1)}
    assert set(later[0, 0].tolist()) == {0, 2, 4}


@pytest.fixture(scope="module")
def learned() -> dict[str, tuple[float, float]]:
    """Policy quality on assigned and on withheld goals after the same 10,000 steps."""
    found = {}
    for goals in ("all", "hindsight", "current"):
        p, learner = problem(size=6, horizon=30), DGLearning(goals=goals, rollout_length=50)

        @eqx.filter_jit
        def train(learner, p):
            state = learner.init(p, KEY)
            return jax.lax.scan(
                lambda s, _: (learner.update(p, s)[0], None), state, length=200, xs=None
            )[0].table

        family = p.source
        quality = policy_quality(-train(learner, p), family.transition_probabilities(), 0.99)
        found[goals] = tuple(float(quality[x].mean()) for x in family.assigned)
    return found


def test_every_goal_learns_from_every_step(learned):
    assert min(learned["all"]) > 0.9


def test_without_the_other_goals_it_learns_far_less(learned):
    """The ablation: the same learner, steps and table, one goal a step."""
    assert learned["current"][0] < learned["all"][0] - 0.3
    # Goals never assigned are never learned of, but with hindsight they are.
    assert learned["current"][1] < 0.2 < learned["hindsight"][1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: DGLearning(goals="some"), "goals must be one of"),  # pyright: ignore
        (lambda: DGLearning(intermediates=-1), "intermediates must be at least 0"),
        (lambda: DGLearning().init(Problem.of(GoalGrid()), KEY), "reveal 'context'"),
        (lambda: DGLearning().init(Problem.of(GridWall(), "context"), KEY), "numbered states"),
        (lambda: UVFA(form="three-stage"), "form must be one of"),  # pyright: ignore
        (lambda: UVFA().init(Problem.of(GoalGrid()), KEY), "reveal 'context'"),
        (lambda: UVFA().init(Problem.of(probes.Corridor(), "context"), KEY), "with goals"),
    ],
)
def test_refusals(call: Any, says: str):
    with pytest.raises(UserError, match=says):
        call()


# ---- UVFA ----


def test_the_factors_are_the_best_of_their_rank():
    p = problem(size=5, observed="position")
    table = eqx.filter_jit(UVFA(rank=3, hidden=(8,)).init)(p, KEY).table
    assert table is not None
    matrix = np.asarray(table.values).reshape(-1, table.goals.shape[0])
    product = np.asarray(table.left).reshape(-1, 3) @ np.asarray(table.right).T
    s = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(matrix - product), np.linalg.norm(s[3:]), rtol=1e-3)


@pytest.fixture(scope="module")
def fitted() -> dict[int, tuple[float, float]]:
    """Policy quality on assigned and withheld goals by rank."""
    p = problem(size=6, observed="position", slip=0.1)
    transition = p.source.transition_probabilities()
    found = {}
    for rank in (1, 7):
        learner = UVFA(rank=rank, hidden=(64,), batch_size=128, learning_rate=3e-3)

        @eqx.filter_jit
        def train(learner, p):
            state = learner.init(p, KEY)
            return jax.lax.scan(
                lambda s, _: (learner.update(p, s)[0], None), state, length=200, xs=None
            )[0]

        values = jnp.asarray(learner.values(p, train(learner, p)))
        quality = policy_quality(values, transition, learner.discount)
        found[rank] = tuple(float(quality[x].mean()) for x in p.source.assigned)
    return found


def test_two_stages_reach_goals_that_were_never_trained_on(fitted):
    assert fitted[7][0] > 0.8 and fitted[7][1] > 0.5


def test_one_number_for_a_goal_is_not_enough(fitted):
    """The ablation: with a rank of 1 all goals share one order of actions."""
    assert fitted[1][0] < 0.4


@pytest.mark.parametrize("form", ["end-to-end", "bootstrapped"])
def test_the_other_forms_learn(form: Any):
    p = problem(size=4, withheld="none", observed="number", slip=0.0, horizon=15)
    learner = UVFA(form=form, rank=16, hidden=(64,), discount=0.8, learning_rate=3e-3)

    @eqx.filter_jit
    def train(learner, p):
        state = learner.init(p, KEY)
        return jax.lax.scan(
            lambda s, _: (learner.update(p, s)[0], None), state, length=250, xs=None
        )[0]

    values = jnp.asarray(learner.values(p, train(learner, p)))
    quality = policy_quality(values, p.source.transition_probabilities(), 0.8)
    assert float(quality.mean()) > 0.8
