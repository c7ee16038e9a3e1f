"""The evaluator on families and agents whose every return is known."""

import dataclasses
import json
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import AbstractAgent, AbstractFamily, Box, Problem, UserError
from stemrl.evaluation import evaluate, playing
from stemrl.optimal import Optima, known_optima


class EchoEnv(eqx.Module):
    """The reward is the action times the task's level; ends after the task's length."""

    def reset(self, key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(self, key, state, action, params):
        state = state + 1
        ended = state >= params["length"]
        return jnp.zeros(1), state, action[0] * params["level"], ended, jnp.asarray(False), {}

    def observation_space(self, params=None):
        return Box((1,))

    def action_space(self, params=None):
        return Box((1,))


class Echo(AbstractFamily):
    """Levels uniform in [1, 2]; every task has its own length, 1 to 4 steps."""

    name: ClassVar[str] = "echo"
    horizon: int = eqx.field(static=True, default=6)

    @property
    def env(self):
        return EchoEnv()

    @property
    def trial_episodes(self):
        return 4

    def sample(self, key, split):
        if split == "ood":
            raise UserError("the family 'echo' has no split 'ood'; take train or test")
        level_key, length_key = jax.random.split(key)
        return {
            "level": jax.random.uniform(level_key, (), minval=1.0, maxval=2.0),
            "length": jax.random.randint(length_key, (), 1, 5),
        }

    def context(self, params):
        return params["level"][None]


class FiniteEcho(Echo):
    """Two tasks: levels 0 and 10, one step each."""

    name: ClassVar[str] = "finite-echo"
    finite: ClassVar[bool] = True
    horizon: int = eqx.field(static=True, default=6)

    def tasks(self, key, split, n):
        index = jnp.arange(n) % 2
        return {"level": 10.0 * index, "length": jnp.ones(n, jnp.int32)}


class KnownEcho(Echo):
    """The same, with an optimum that is known."""

    name: ClassVar[str] = "known-echo"
    horizon: int = eqx.field(static=True, default=6)


class Counter(AbstractAgent):
    """Acts 1 + the number of adaptations, plus noise unless greedy; or the context if told."""

    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)
    noise: float = 0.0

    def start(self, context, key):
        return jnp.ones(1) if context is None else context

    def begin(self, memory, key):
        return ()

    def act(self, memory, carry, obs, key):
        noise = 0.0 if self.greedy else self.noise * jax.random.normal(key, (1,))
        return memory + noise, (), {}

    def adapt(self, memory, carries, episodes, key):
        return memory + 1


def expected(tasks: int, rounds: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[tasks, rounds]` and lengths `[tasks]` of `Counter` on `Echo`."""
    params = Echo().tasks(jax.random.split(jax.random.key(seed))[0], "test", tasks)
    level, length = np.asarray(params["level"]), np.asarray(params["length"])
    return (level * length)[:, None] * np.arange(1, rounds + 1), length


@pytest.mark.parametrize(("episodes_per_round", "rounds"), [(1, 4), (5, 3)])
def test_points_of_narrow_and_wide_agents(episodes_per_round: int, rounds: int):
    result = evaluate(
        Counter(episodes_per_round),
        Problem.of(Echo()),
        tasks=12,
        episodes=episodes_per_round * (rounds - 1),
    )
    returns, length = expected(12, rounds)
    assert result.scores.shape == (12, rounds, episodes_per_round)
    np.testing.assert_allclose(
        result.scores, np.repeat(returns[..., None], episodes_per_round, 2), rtol=1e-6
    )
    assert [p["episodes_used"] for p in result.points] == [
        episodes_per_round * k for k in range(rounds)
    ]
    np.testing.assert_allclose(
        [p["steps_used"] for p in result.points],
        [episodes_per_round * k * length.mean() for k in range(rounds)],
    )
    for k, point in enumerate(result.points):
        assert point["mean"] == pytest.approx(returns[:, k].mean())
        assert point["low"] < point["iqm"] < point["high"]


def test_default_number_of_episodes():
    narrow = evaluate(Counter(1), Problem.of(Echo()), tasks=2)
    wide = evaluate(Counter(5), Problem.of(Echo()), tasks=2)
    # The trial's fourth episode is measured after three have been used.
    assert [p["episodes_used"] for p in narrow.points] == [0, 1, 2, 3]
    assert [p["episodes_used"] for p in wide.points] == [0, 5, 10]
    alone = evaluate(Counter(5), Problem.of(Echo()), tasks=2, episodes=0)
    assert [p["episodes_used"] for p in alone.points] == [0]


def test_same_seed_same_numbers_and_other_seed_other_tasks():
    agent, problem = Counter(noise=0.5), Problem.of(Echo())
    one, two = (evaluate(agent, problem, tasks=5, seed=7) for _ in range(2))
    other = evaluate(agent, problem, tasks=5, seed=8)
    np.testing.assert_array_equal(one.scores, two.scores)
    assert not np.any(one.scores == other.scores)


def test_sampled_or_most_likely_is_stated():
    agent, problem = Counter(noise=3.0), Problem.of(Echo())
    sampled = evaluate(agent, problem, tasks=4)
    likely = evaluate(agent, problem, tasks=4, most_likely=True)
    assert (sampled.actions, likely.actions) == ("sampled", "most likely")
    np.testing.assert_allclose(likely.scores[..., 0], expected(4, 4)[0], rtol=1e-6)
    assert not np.allclose(sampled.scores, likely.scores)


def test_chunks_change_nothing_but_memory(monkeypatch):
    agent, problem = Counter(2), Problem.of(Echo())
    whole = evaluate(agent, problem, tasks=7)
    monkeypatch.setattr(playing, "MEMORY", 3 * playing._bytes(Echo(), 2))
    chunked = evaluate(agent, problem, tasks=7)
    np.testing.assert_allclose(chunked.scores, whole.scores, rtol=1e-6)
    np.testing.assert_array_equal(chunked.lengths, whole.lengths)


def test_context_only_as_the_problem_reveals():
    told = evaluate(Counter(), Problem.of(Echo(), "context"), tasks=3, episodes=0)
    returns, length = expected(3, 1)
    np.testing.assert_allclose(told.scores[:, 0, 0], returns[:, 0] ** 2 / length, rtol=1e-5)
    assert told.reveal == "context"


def test_finite_families_say_so_and_their_tasks_are_strata():
    result = evaluate(Counter(), Problem.of(FiniteEcho()), tasks=8, episodes=0)
    assert result.as_dict()["train_is_test"] is True
    assert len(set(result.strata)) == 2
    # The same two tasks would be played again: nothing is left to chance.
    (point,) = result.points
    assert point["low"] == point["iqm"] == point["high"] == 5.0
    assert not evaluate(Counter(), Problem.of(Echo()), tasks=2, episodes=0).train_is_test


def test_gaps_by_hand():
    told = evaluate(Counter(), Problem.of(FiniteEcho(), "context"), tasks=4, episodes=1)
    result = evaluate(Counter(), Problem.of(FiniteEcho()), tasks=4, episodes=1)
    assert result.gaps == {}
    reference = np.array([[1.0, 2.0], [12.0, 25.0]] * 2)
    gaps = result.against(reference)
    # Levels 0 and 10: returns (0, 0) and (10, 20).
    first, second = gaps["points"]
    assert (first["value"], first["gap"], second["gap"]) == (6.5, 1.5, 3.5)
    assert (first["low"], first["high"]) == (1.5, 1.5)
    assert second["fraction"] == pytest.approx(10 / 13.5)
    assert gaps["trial"]["value"] == 20.0 and gaps["trial"]["gap"] == 5.0
    assert result.against(0 * reference)["trial"]["fraction"] is None
    # Told the level it earns the level's square, and one episode later (level + 1) · level.
    beside = dataclasses.replace(result, oracle=told)
    values = [point["value"] for point in beside.gaps["oracle"]["points"]]
    assert values == [50.0, 55.0]
    wide = evaluate(Counter(2), Problem.of(FiniteEcho(), "context"), tasks=4, episodes=0)
    values = dataclasses.replace(result, oracle=wide).gaps["oracle"]["points"]
    assert [point["value"] for point in values] == [50.0, 50.0]


def test_optima_come_from_where_a_family_has_registered_them():
    @known_optima.register(KnownEcho)
    def _(family, params, split, episodes):
        best = np.repeat((params["level"] * params["length"])[:, None], episodes, axis=1)
        return Optima(best * np.arange(1, episodes + 1), best)

    narrow = evaluate(Counter(), Problem.of(KnownEcho()), tasks=5, episodes=3)
    assert narrow.gaps["known_task"]["trial"]["gap"] == pytest.approx(0.0, abs=1e-5)
    assert set(narrow.gaps) == {"bayes_optimal", "known_task"}
    # Its rounds begin after 0 and 2 episodes; the Bayes-optimal agent learns after every one.
    wide = evaluate(Counter(2), Problem.of(KnownEcho()), tasks=5, episodes=2)
    assert set(wide.gaps) == {"known_task"}
    means = wide.scores.mean((0, 2))
    values = [point["value"] for point in wide.gaps["known_task"]["points"]]
    np.testing.assert_allclose(values, [means[0], means[1] * 3 / 2], rtol=1e-5)


def test_as_dict_is_json_and_complete():
    result = evaluate(Counter(), Problem.of(Echo()), tasks=3, method="counter").as_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {"family", "identity", "method", "split", "tasks", "seed", "actions"} <= set(result)
    assert result["family"] == "echo"
    assert result["identity"] == "echo@1(horizon=6)"
    assert np.shape(result["per_task"]) == (3, 4)
    keys = {"episodes_used", "steps_used", "mean", "mean_low", "mean_high", "iqm", "low", "high"}
    assert all(set(point) == keys for point in result["episodes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'?"),
        ({"split": "ood"}, "no split 'ood'"),
        ({"tasks": 0}, "at least 1"),
        ({"episodes": -5}, "not be negative"),
        ({"episodes": 12}, "take 10 or 15"),
        ({"episodes": 3}, "take 0 or 5"),
    ],
)
def test_mistakes(arguments: dict, message: str):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        evaluate(Counter(5), Problem.of(Echo()), **arguments)


def test_one_compilation_for_agents_of_one_shape():
    traces = []

    class Traced(Counter):
        def start(self, context, key):
            traces.append(1)
            return super().start(context, key)

    problem = Problem.of(Echo())
    evaluate(Traced(noise=jnp.asarray(0.1)), problem, tasks=2)  # pyright: ignore[reportArgumentType]
    before = len(traces)
    evaluate(Traced(noise=jnp.asarray(0.2)), problem, tasks=2, seed=3)  # pyright: ignore[reportArgumentType]
    assert len(traces) == before
