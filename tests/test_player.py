"""A player does step by step what the rollouts do all at once."""

from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

import stemrl
from stemrl.rl import Player

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "rl2": ("dark-room", {"hidden_size": 4}),
    "maml": ("point-2d", {"hidden": (4,), "inner_episodes": 2}),
}
TASKS, ROUNDS, HORIZON = 2, 2, 4


def fresh(method: str, family: str, **settings: Any) -> tuple[stemrl.Problem, Any]:
    """An agent that has learned nothing acts as one that has."""
    problem = stemrl.Problem.of(stemrl.make_family(family, horizon=HORIZON))
    learner = stemrl.make_learner(method, **settings)
    return problem, learner.agent(problem, learner.init(problem, jax.random.key(0)))


@pytest.mark.parametrize("method", SMALL)
def test_a_player_becomes_what_the_rollout_makes_of_the_agent(method: str):
    """Led through what the evaluator's rollout met, with its actions: with a memory, and with gradients.
    (That a plain policy acts as there is in `docs/recipes.md`, whose code is run.)"""
    family, settings = SMALL[method]
    problem, agent = fresh(method, family, **settings)
    params = problem.target.tasks(jax.random.key(1), "test", TASKS)
    trials = stemrl.play(
        agent, problem.target, params, None, jax.random.key(2), ROUNDS, adapt_last=True
    )
    steps, becomes = jax.tree.map(np.asarray, (trials.transitions, trials.memory))
    player = Player(agent, problem)
    for task in range(TASKS):
        player.reset()
        for episode in np.ndindex(ROUNDS, agent.episodes_per_round):
            assert player.adaptations == episode[0]
            for time in range(HORIZON):
                step = jax.tree.map(lambda x, at=(task, *episode, time): x[at], steps)
                player.act(step.obs)
                done = player._acted._replace(action=step.action, info=step.info)  # pyright: ignore
                player._acted = done
                over = player.observe(step.next_obs, step.reward, step.terminated)
            assert over  # by the horizon
        wanted = jax.tree.map(lambda x, task=task: x[task], becomes)
        assert jax.tree.all(
            jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-5), player.memory, wanted)
        )
        start = agent.start(None, jax.random.key(0))
        assert not jax.tree.all(jax.tree.map(np.allclose, player.memory, start))


def test_a_player_plays_gymnasium_s_own():
    """Whole numbers as actions; what an agent was trained on in JAX is played in the original."""
    problem, agent = fresh("ppo", "cart-pole", hidden=(4,))
    env = gymnasium.make("CartPole-v1")
    player = Player(agent, problem, env, horizon=500)
    returns = player.play(episodes=3)
    assert player.episodes == 3 and (returns >= 8).all() and (returns <= 500).all()
    assert Player(agent, problem, env, horizon=500).play(episodes=3).tolist() == returns.tolist()
    assert player.act(np.zeros(4)) in (0, 1)
    assert Player(agent, problem, env, horizon=5).play(episodes=1) == 5


def test_the_shipped_agents_are_played():
    """What is told its goal; what adapts by inference, with the next episode's z."""
    her = stemrl.load("her-bit-flip")
    goal = np.ones(10, np.float32)
    player = her.player(task={"goal": goal})
    bits = np.zeros(10, np.float32)
    for _ in range(10):
        bits[player.act(bits)] += 1
        player.observe(bits, -1.0, False)
    assert (bits == 1).all()
    pearl = stemrl.load("pearl-point-sparse").player()
    for _ in range(2 * pearl.horizon):
        pearl.act(np.zeros(2))
        pearl.observe(np.zeros(2), 0.0, False)
    assert pearl.adaptations == int(pearl.memory.episodes) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p, a: Player(a, p).act(np.zeros(3)), r"shape \(3,\).*'point-2d'.*shape \(2,\)"),
        (lambda p, a: Player(a, p).act({"x": 1}), "this agent sees numbers of shape"),
        (lambda p, a: Player(a, p).act(np.array([0, np.nan])), "observation holds .* not finite"),
        (lambda p, a: Player(a, p).observe(np.zeros(2), 0.0, False), "call act first"),
        (lambda p, a: Player(a, p, horizon=0), "horizon must be at least 1"),
        (lambda p, a: Player(a, p, gymnasium.make("CartPole-v1")), "another observation space"),
        (lambda p, a: Player(a, p, "CartPole-v1"), "a gymnasium.Env, not in 'CartPole-v1'"),
        (lambda p, a: Player(a, p).play(), "plays in a gymnasium.Env; give one"),
        (lambda p, a: Player(a, p, context=np.zeros(2)), "cannot be told"),
        (lambda p, a: Player(a, told(p)), "is told the task"),
        (lambda p, a: Player(a, told(p), task={"speed": 1}), "parameters goal, not speed"),
        (lambda p, a: Player(a, told(p), context=np.zeros(5)), r"shape \(5,\), not \(2,\)"),
    ],
)
def test_what_cannot_be_is_one_clear_line(wrong: Any, message: str):
    problem, agent = fresh("ppo", "point-2d", hidden=(4,))
    with pytest.raises(stemrl.UserError, match=message) as raised:
        wrong(problem, agent)
    assert "\n" not in str(raised.value)


def test_a_reading_that_is_not_a_number_leaves_no_trace():
    """In a memory it would be there for ever."""
    problem, agent = fresh("rl2", "point-2d", hidden_size=4)
    players = [Player(agent, problem, seed=3) for _ in range(2)]
    places = [np.zeros(2), np.ones(2)]
    for player in players:
        player.act(places[0])
    broken = players[0]
    for wrong in ((np.full(2, np.inf), 0.0), (places[1], np.nan)):
        with pytest.raises(stemrl.UserError, match=r"not .*finite number"):
            broken.observe(*wrong, False)
    for player in players:
        player.observe(places[1], 0.5, False)
    with pytest.raises(stemrl.UserError, match="not finite"):
        broken.act(np.full(2, np.nan))
    ours, theirs = (player.act(places[1]) for player in players)
    np.testing.assert_array_equal(ours, theirs)


def told(problem: stemrl.Problem) -> stemrl.Problem:
    return stemrl.Problem.of(problem.source, "context")


def test_who_learns_must_be_told_what_followed():
    problem, agent = fresh("maml", "point-2d", hidden=(4,), inner_episodes=2)
    player = Player(agent, problem)
    player.act(np.zeros(2))
    with pytest.raises(stemrl.UserError, match="after each act, call observe"):
        player.act(np.zeros(2))
    problem, agent = fresh("ppo", "point-2d", hidden=(4,))
    player = Player(agent, problem)
    assert [player.act(np.zeros(2)).shape for _ in range(3)] == [(2,)] * 3
