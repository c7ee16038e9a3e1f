"""Mazes in the plane: walls that hold, three ways of which one can be shut, goals that relabel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import UserError
from stemrl.tasks.point_maze import (
    LAYOUTS,
    WAYS,
    PointMaze,
    PointMazeGoals,
    PointMazeState,
    slide,
    world_of,
)

KEY = jax.random.key(0)


def walk(family, waypoints, steps=60):
    """The episode of a walker that heads for one waypoint after the other: positions, rewards, ends
    and events, as long as it lasts."""
    env, params = family.env, family.sample(KEY, "test")
    cell = env.world.cell
    state = PointMazeState(jnp.asarray(env.world.start))
    step = jax.jit(lambda s, a: env.step(KEY, s, a, params))
    rows = []
    todo = [np.asarray(w) for w in waypoints]
    for _ in range(steps):
        here = np.asarray(state.position)
        while len(todo) > 1 and np.linalg.norm(todo[0] - here) < 0.3 * cell:
            todo.pop(0)
        obs, state, reward, end, _, events = step(state, jnp.asarray(todo[0] - here))
        rows.append((obs, float(reward), bool(end), {k: v.item() for k, v in events.items()}))
        if end:
            break
    return rows


def through(way):
    """Waypoints from the left hall through a gate to the goal."""
    world = world_of("ways")
    gate = world.gate[WAYS.index(way)]
    off = np.asarray([1.7 * world.cell, 0.0])
    return [gate - off, gate + off, world.goal] if way != "middle" else [world.goal]


def test_the_middle_way_is_the_shortest_and_each_can_be_shut():
    open_all = {way: walk(PointMaze(), through(way)) for way in WAYS}
    lengths = {way: len(rows) for way, rows in open_all.items()}
    for way, rows in open_all.items():
        assert rows[-1][2] and rows[-1][3]["success"]
        assert {r[3]["way"] for r in rows} == {-1, WAYS.index(way)}
        assert [r[1] for r in rows] == [-1.0] * (len(rows) - 1) + [0.0]
        shut = walk(PointMaze(closed=way), through(way))
        assert not shut[-1][2] and len(shut) == 60 and shut[-1][3]["blocked"]
        other = WAYS[(WAYS.index(way) + 1) % 3]
        assert len(walk(PointMaze(closed=way), through(other))) == lengths[other]
    # 8 cells less 0.75, a cell a step: 8 steps; round the corners of the others, 9 or 10.
    assert lengths["middle"] == 8
    assert 9 <= lengths["upper"] == lengths["lower"] <= 10


def test_dense_reward_is_the_distance():
    rows = walk(PointMaze(reward_type="dense"), through("middle"))
    goal = world_of("ways").goal
    for obs, reward, _, _ in rows:
        assert reward == pytest.approx(-float(np.linalg.norm(obs - goal)), abs=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_walls_hold(layout):
    """Whatever the step, long ones too, nobody gets into a wall, and nobody out of the maze."""
    world = world_of(layout)
    blocks = jnp.asarray(world.blocks)
    solid = jnp.ones(len(blocks), bool)
    solid = solid.at[len(blocks) - world.gates :].set(False)
    starts = jnp.asarray(world.free)

    @jax.jit
    def wander(key):
        def step(position, key):
            move = 3 * world.cell * jax.random.normal(key, position.shape)
            # Now and then along an axis alone, so that it runs into seams between blocks.
            move = move * (jax.random.uniform(key, position.shape) > 0.3)
            after = jax.vmap(lambda p, m: slide(p, m, blocks, solid))(position, move)
            return after, after

        return jax.lax.scan(step, starts, jax.random.split(key, 400))[1]

    seen = np.asarray(wander(KEY)).reshape(-1, 2)
    low, high = (
        world.blocks[: len(blocks) - world.gates, :2],
        world.blocks[: len(blocks) - world.gates, 2:],
    )
    inside = (seen[:, None] > low) & (seen[:, None] < high)
    assert not np.any(inside.all(-1))
    rows = LAYOUTS[layout]
    where = np.floor((seen + world.extent) / world.cell).astype(int)
    marks = {rows[len(rows) - 1 - y][x] for x, y in {tuple(w) for w in where.tolist()}}
    assert "#" not in marks
    cells = {tuple(w) for w in where.tolist()}
    assert len(cells) > 0.85 * len(world.free)


def test_slide_by_hand():
    blocks = jnp.asarray([[1.0, 0.0, 2.0, 1.0]])
    solid = jnp.asarray([True])

    def after(x, y, dx, dy):
        return np.asarray(slide(jnp.asarray([x, y]), jnp.asarray([dx, dy]), blocks, solid)).tolist()

    assert after(0.5, 0.5, 5.0, 0.0) == [1.0, 0.5]  # no jumping over
    assert after(0.5, 0.5, 5.0, 0.25) == [1.0, 0.75]  # along the face
    assert after(2.5, 0.5, -9.0, 0.0) == [2.0, 0.5]
    assert after(1.5, 2.0, 0.0, -9.0) == [1.5, 1.0]
    assert after(0.5, 1.0, 5.0, 0.0) == [5.5, 1.0]  # just past the corner
    assert np.asarray(
        slide(jnp.asarray([0.5, 0.5]), jnp.asarray([5.0, 0.0]), blocks, ~solid)
    ).tolist() == [5.5, 0.5]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reward_type", ("sparse", "dense"))
def test_goals_relabel(layout, reward_type):
    """What `reward` says of a stored step under any goal is what `step` says."""
    family = PointMazeGoals(layout=layout, reward_type=reward_type, anywhere=True)

    @jax.jit
    @jax.vmap
    def both(key):
        a, b, c, d = jax.random.split(key, 4)
        params = family.sample(a, "train")
        obs, state = family.env.reset(b, params)
        action = family.action_space.sample(c)
        goal = obs + 0.3 * family.env.world.cell * jax.random.normal(d, (2,))
        relabelled = family.with_goal(params, goal)
        out = family.env.step(a, state, action, relabelled)
        judged = family.reward(obs, action, out[0], relabelled)
        reached = family.reward(
            obs, action, out[0], family.with_goal(params, family.achieved(out[0]))
        )
        return out[2:4], judged, reached, family.context(params), params["goal"]

    said, judged, reached, context, goal = both(jax.random.split(KEY, 200))
    np.testing.assert_array_equal(said[0], judged[0])
    np.testing.assert_array_equal(said[1], judged[1])
    assert 0 < np.mean(judged[1]) < 1 and np.all(reached[1])
    np.testing.assert_array_equal(reached[0], np.zeros(200))
    np.testing.assert_array_equal(context, goal)
    # Goals lie all over the free cells.
    drawn = np.asarray(family.tasks(KEY, "train", 2000)["goal"])
    cells = np.floor((drawn + family.env.world.extent) / family.env.world.cell)
    assert len(np.unique(cells, axis=0)) > 0.95 * len(family.env.world.free)


@pytest.mark.parametrize(
    "family", (PointMaze(closed="middle"), PointMazeGoals(), PointMazeGoals(layout="u"))
)
def test_contract_and_picture(family):
    params = family.sample(KEY, "train")
    stacked = family.tasks(KEY, "test", 3)
    assert jax.tree.map(lambda x: (3, *x.shape), params) == jax.tree.map(np.shape, stacked)
    obs, state = family.env.reset(KEY, params)
    out = family.env.step(KEY, state, family.action_space.sample(KEY), params)
    assert obs.shape == out[0].shape == (2,) and family.context(params).ndim == 1
    with pytest.raises(UserError, match="no split 'ood'"):
        family.sample(KEY, "ood")
    states = jax.tree.map(lambda x: np.stack([x, x]), state)
    scene = family.draw(jax.tree.map(np.asarray, params), states)
    assert scene.frames == 2
    walls = sum(row.count("#") for row in LAYOUTS[family.env.layout])
    assert len([s for s in scene.shapes if s.role == "wall"]) == walls
    assert len([s for s in scene.shapes if s.role == "far"]) == ("closed" in params) * int(
        np.sum(params.get("closed", 0))
    )


def test_bad_settings():
    for settings in ({"closed": "left"}, {"reward_type": "big"}):
        with pytest.raises(UserError, match=next(iter(settings))):
            PointMaze(**settings)
    with pytest.raises(UserError, match="layout"):
        PointMazeGoals(layout="cave")
