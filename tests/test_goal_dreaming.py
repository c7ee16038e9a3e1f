"""Dreamed goals: the density by hand, what is dreamed of, what one pays oneself, and that a maze without
any reward is explored further than by goals from a box, by common goals or by chance."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Problem, UserError
from stemrl.multitask import Dreamer, GoalDreaming, HERState, kernel_density
from stemrl.multitask.goal_dreaming import Aim, Aimless, near
from stemrl.rl import play
from stemrl.tasks.bit_flip import BitFlip
from stemrl.tasks.point import Point2D
from stemrl.tasks.point_maze import PointMazeGoals

KEY = jax.random.key(0)
MAZE = Problem.of(PointMazeGoals(layout="spiral"), "context")
SMALL: dict[str, Any] = {
    "learner": "sac initial_temperature=0.1 learn_temperature=false",
    "gradient_steps": 100,
    "hidden": (64, 64),
    "target_rate": 0.02,
    "tolerance": 0.08,
    "capacity": 1600,
}


def test_a_density_by_hand():
    """Two in one place, one far away, of which one within a width: exp(−½) of the others."""
    places = jnp.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [9.5, 0.0]])
    e = np.exp(-0.5)
    expected = np.array([2.0, 2.0, 1.0 + e, 1.0 + e]) / 4
    np.testing.assert_allclose(kernel_density(places, 0.5), expected, rtol=1e-5)
    assert not near(jnp.zeros(2), jnp.array([0.6, 0.8]), 1.0)
    assert near(jnp.zeros(2), jnp.array([0.6, 0.79]), 1.0)


def visited(learner: GoalDreaming, places: Any) -> HERState:
    """A state whose replay holds one episode that was at these places."""
    state = eqx.filter_jit(learner.init)(MAZE, KEY)
    n = len(places)
    at = jnp.asarray(places, jnp.float32)
    return eqx.tree_at(
        lambda s: (s.replay.rows.next_obs, s.replay.rows.length, s.replay.size),
        state,
        (
            state.replay.rows.next_obs.at[0, :n].set(at),
            state.replay.rows.length.at[0].set(n),
            jnp.asarray(1),
        ),
    )


def test_dreams_favour_the_rare_and_are_of_what_was_reached():
    """Nine visits here, one there: half of the dreams are of there."""
    learner = GoalDreaming(**SMALL | {"episodes": 2000, "capacity": 2000})
    here, there = [0.0, 0.0], [0.5, 0.5]
    state = visited(learner, [here] * 9 + [there])

    def share(skew: float, dreamed: float = 1.0) -> tuple[float, float, float]:
        mine = eqx.tree_at(lambda x: (x.skew, x.dreamed), learner, (skew, dreamed))
        goals, apart = mine.dream(MAZE, state, KEY)
        is_here, is_there = (jnp.all(goals == jnp.array(x), axis=1).mean() for x in (here, there))
        return float(is_here), float(is_there), float(apart)

    one, other, apart = share(1.0)
    assert one + other == pytest.approx(1.0)
    assert other == pytest.approx(0.5, abs=0.05) and apart == pytest.approx(2.0, rel=0.02)
    assert share(0.0)[1] == pytest.approx(0.1, abs=0.04)
    assert share(1.0, dreamed=0.0)[:2] == (0.0, 0.0)
    nothing = eqx.tree_at(lambda s: s.replay.size, state, jnp.asarray(0))
    box, _ = learner.dream(MAZE, nothing, KEY)
    assert jnp.abs(box).max() > 0.9


def test_one_pays_oneself_and_the_environment_pays_nothing():
    learner = GoalDreaming(**SMALL | {"strategy": "none"})
    state = visited(learner, [[0.1, 0.0], [0.3, 0.0]])
    told = state.replay.rows.params
    goal = told[1].at[0].set(jnp.array([0.3, 0.05]))
    rows = learner.draw(MAZE, state.replay.rows._replace(params=(told[0], goal)), KEY, 200)
    there = rows.next_obs[:, 0] > 0.2
    assert there.any() and not there.all()
    np.testing.assert_array_equal(rows.reward, jnp.where(there, 0.0, -1.0))
    np.testing.assert_array_equal(rows.carries_on, jnp.where(there, 0.0, 1.0))
    np.testing.assert_allclose(rows.context, jnp.broadcast_to(goal[0], (200, 2)))


def test_a_dreamer_wanders_once_it_was_there():
    learner = GoalDreaming(**SMALL)
    state = eqx.filter_jit(learner.init)(MAZE, KEY)
    family: Any = MAZE.source
    explorer = eqx.tree_at(lambda x: x.random, learner.explorer(MAZE, state), jnp.zeros(()))
    agent = Dreamer(explorer, jnp.asarray(0.1), jnp.ones(()), family)
    aim = Aim(jnp.zeros(2), jnp.zeros(2))
    keys = jax.random.split(KEY, 300)

    def spread(reached: bool) -> float:
        act = jax.vmap(lambda k: agent.act(aim, ((), jnp.asarray(reached)), jnp.zeros(2), k)[0])
        # Uniform: 0.58. A fresh policy's tanh of a normal: 0.63, so compare by its edges.
        return float(jnp.mean(jnp.abs(act(keys)) > 0.95))

    assert spread(True) == pytest.approx(0.05, abs=0.03) and spread(False) > 0.05


def test_an_episode_does_not_end_at_the_environments_own_goal():
    family: Any = MAZE.source
    world = Aimless(family=family)  # pyright: ignore[reportCallIssue]
    params = family.sample(KEY, "train")
    obs, state = world.env.reset(KEY, params)
    params = family.with_goal(params, obs)
    ends = [env.step(KEY, s, jnp.zeros(2), params)[3] for env, s in (
        (family.env, family.env.reset(KEY, params)[1]), (world.env, state),
    )]  # fmt: skip
    assert bool(ends[0]) and not bool(ends[1])


@pytest.mark.long
def test_dreams_reach_further_than_a_box_common_goals_or_chance():
    """The cells of a spiral that were visited, and the goals in it that are reached on demand, after
    the same number of steps by the same program."""
    learner = GoalDreaming(**SMALL)
    family: Any = MAZE.source

    @eqx.filter_jit(donate="all-except-first")
    def update(fixed: GoalDreaming, state: HERState):
        return fixed.update(MAZE, state)

    @eqx.filter_jit
    def reached(agent: Any) -> Any:
        tasks = family.tasks(jax.random.key(1), "test", 300)
        context = jax.vmap(family.context)(tasks)
        steps = play(agent, family, tasks, context, jax.random.key(2), 1).transitions
        return jnp.any(steps.events["success"] & steps.valid, axis=-1).mean()

    def explored(**changes: float) -> tuple[int, float]:
        names = ("skew", "dreamed", "exploration")
        values = tuple(jnp.asarray(changes.get(n, getattr(learner, n))) for n in names)
        mine = eqx.tree_at(lambda x: tuple(getattr(x, n) for n in names), learner, values)
        state = eqx.filter_jit(learner.init)(MAZE, jax.random.key(0))
        for _ in range(80):
            state, metrics = update(mine, state)
        assert set(metrics) >= {"return", "reached", "goals"}
        obs = np.asarray(state.replay.rows.next_obs)[: int(state.replay.size)]
        world = family.env.world
        cells = np.floor((obs.reshape(-1, 2) + np.array(world.extent)) / world.cell)
        return len(np.unique(cells, axis=0)), float(reached(learner.agent(MAZE, state)))

    cells, on_demand = explored()
    print(cells, on_demand)
    for changes in ({"dreamed": 0.0}, {"skew": 0.0}, {"exploration": 1.0}):
        fewer, less = explored(**changes)
        print(changes, fewer, less)
        assert cells >= fewer + 2 and on_demand > less + 0.05


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: GoalDreaming(candidates=1), "candidates must be at least 2"),
    (lambda: GoalDreaming(tolerance=0.0).init(MAZE, KEY), "tolerance must be above 0"),
    (lambda: GoalDreaming().init(Problem.of(BitFlip()), KEY), "reveal 'context'"),
    (lambda: GoalDreaming().init(Problem.of(Point2D(), "context"), KEY), "needs a family with goals"),
])  # fmt: skip
def test_mistakes_are_said_in_one_line(wrong: Any, message: str):
    with pytest.raises(UserError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
