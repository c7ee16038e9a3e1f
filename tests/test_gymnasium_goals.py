"""Dictionary observations as Gymnasium-Robotics has them: by a world of the same form, and, where it is
installed (`make robotics`), by its own."""

import dataclasses
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.cards import reproduce
from stemrl.core import Problem, UserError
from stemrl.multitask import HER
from stemrl.registry import CARDS
from stemrl.rl import Network, play, worlds
from stemrl.rl.td3 import DeterministicAgent, DeterministicPolicy
from stemrl.tasks.gymnasium_goals import GymnasiumGoals

KEY = jax.random.key(0)


class Reach(gymnasium.Env):
    """A hand in a plane that moves by a tenth of its action; of the form of Gymnasium-Robotics."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    distance_threshold = 0.05
    rule = "sparse"
    without = ""

    def __init__(self, **settings: Any):
        vars(self).update(settings)
        box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        names = {"observation", "achieved_goal", "desired_goal"} - {self.without}
        self.observation_space = gymnasium.spaces.Dict(dict.fromkeys(sorted(names), box))

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        distance = np.linalg.norm(achieved - desired, axis=-1)
        if self.rule == "sparse":
            return -(distance > self.distance_threshold).astype(np.float32)
        return {"dense": -distance, "squared": -(distance**2)}[self.rule]

    def _observe(self) -> dict[str, Any]:
        return {
            "observation": 2.0 * self.hand, "achieved_goal": self.hand.copy(),
            "desired_goal": self.goal.copy(),
        }  # fmt: skip

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.hand = np.zeros(2)
        self.goal = self.np_random.uniform(-0.3, 0.3, 2)
        return self._observe(), {}

    def step(self, action: Any):
        self.hand = self.hand + 0.1 * np.clip(action, -1.0, 1.0)
        reward = float(self.compute_reward(self.hand, self.goal, {}))
        near = np.linalg.norm(self.hand - self.goal) < self.distance_threshold
        return self._observe(), reward, False, False, {"is_success": bool(near)}


for name, settings in {
    "": {}, "Dense": {"rule": "dense"}, "Squared": {"rule": "squared"},
    "Blind": {"without": "achieved_goal"},
}.items():  # fmt: skip
    gymnasium.register(f"Fake{name}Reach-v0", entry_point=Reach, kwargs=settings)

FAMILY = GymnasiumGoals(environment="FakeReach-v0", table=40, horizon=6)
PROBLEM = Problem.of(FAMILY, "context")


def test_goals_are_the_environments_own_and_rewards_are_those_it_pays():
    """Each step's reward is what `reward` says of it, and under another goal what `compute_reward` does."""
    params = FAMILY.tasks(KEY, "train", 3)
    drawn = {tuple(g) for g in FAMILY.known.goals[:30].tolist()}
    assert {tuple(g) for g in np.asarray(params["goal"]).tolist()} <= drawn
    held = FAMILY.tasks(KEY, "test", 5)["goal"].tolist()
    assert not {tuple(g) for g in held} & drawn
    learner = HER(learner="td3", episodes=3, hidden=(8,), gradient_steps=1, exploration=1.0)
    state = learner.init(PROBLEM, KEY)
    steps = play(
        learner.explorer(PROBLEM, state), FAMILY, params, params["goal"], KEY, 1
    ).transitions
    steps = jax.tree.map(lambda x: np.asarray(x)[:, 0, 0], steps)
    assert steps.obs.shape == (3, 6, 4) and steps.valid.all()
    np.testing.assert_allclose(steps.obs[..., :2], 2.0 * steps.obs[..., 2:], rtol=1e-5)
    np.testing.assert_array_equal(FAMILY.achieved(steps.next_obs), steps.next_obs[..., 2:])
    for goal in (np.asarray(params["goal"])[:, None], steps.next_obs[:, 3:4, 2:]):
        said, ended = FAMILY.reward(None, None, steps.next_obs, {"goal": goal})  # pyright: ignore
        paid = Reach().compute_reward(steps.next_obs[..., 2:], goal, {})
        np.testing.assert_array_equal(said, paid)
        assert not ended
    own = FAMILY.reward(None, None, steps.next_obs, {"goal": np.asarray(params["goal"])[:, None]})[
        0
    ]  # pyright: ignore
    np.testing.assert_array_equal(own, steps.reward)
    np.testing.assert_array_equal(steps.events["success"], steps.reward == 0)


def test_a_dense_reward_is_recognized():
    dense = GymnasiumGoals(environment="FakeDenseReach-v0", table=4)
    assert dense.known.threshold is None and FAMILY.known.threshold == 0.05
    reward, _ = dense.reward(None, None, jnp.array([0, 0, 3.0, 4.0]), {"goal": jnp.zeros(2)})  # pyright: ignore
    assert reward == pytest.approx(-5.0)


def test_hindsight_learns_to_reach():
    """By nearly no reward but what it put in itself."""
    learner = HER(
        learner="td3 exploration_noise=0.3", episodes=8, hidden=(32, 32), gradient_steps=40,
        capacity=400, target_rate=0.05, learning_rate=3e-3,
    )  # fmt: skip
    state = learner.init(PROBLEM, KEY)
    learn = eqx.filter_jit(learner.learn)
    for _ in range(30):
        state, experience = learner.collect(PROBLEM, state)
        state, metrics = learn(PROBLEM, state, experience)
    assert set(metrics) >= {"return", "success"}
    params = FAMILY.tasks(KEY, "test", 20)
    steps = play(learner.agent(PROBLEM, state), FAMILY, params, params["goal"], KEY, 1).transitions
    assert np.asarray(steps.events["success"]).any(-1).mean() > 0.7


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GymnasiumGoals(environment="FakeBlindReach-v0").known, "has no 'achieved_goal'"),
        (lambda: GymnasiumGoals(environment="FakeSquaredReach-v0", table=4).known, "pays neither"),
        (lambda: GymnasiumGoals(environment="CartPole-v1").known, "is no goal environment"),
        (lambda: GymnasiumGoals(environment="NoSuchReach-v0").known, r"stemrl\[robotics\]"),
        (lambda: GymnasiumGoals(table=2), "table must be at least 4"),
        (lambda: FAMILY.sample(KEY, "ood"), "no split 'ood'"),
    ],
)
def test_refusals_are_one_line(call: Any, says: str):
    with pytest.raises(UserError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_worlds_of_whole_episodes_are_played_in_again():
    worlds._close_spare()
    agent = DeterministicAgent(
        DeterministicPolicy(Network(FAMILY.observation_space, 2, 2, (4,), key=KEY)),
        jnp.zeros(()), None, FAMILY.observation_space,
    )  # fmt: skip
    params = FAMILY.tasks(KEY, "test", 3)
    first = play(agent, FAMILY, params, params["goal"], KEY, 1)
    left = {id(world) for world in worlds._spare}
    again = play(agent, FAMILY, params, params["goal"], KEY, 1)
    assert len(left) == 3 and left == {id(world) for world in worlds._spare}
    np.testing.assert_array_equal(first.transitions.obs, again.transitions.obs)


def test_normalized_networks_see_goals_and_observations_alike():
    """What a goal is scaled by is in the agent, not in its memory: that is the goal as it is."""
    learner = HER(
        learner="td3", episodes=2, hidden=(4,), gradient_steps=1, batch_size=4, capacity=4,
        normalize_observations=True,
    )  # fmt: skip
    state, experience = learner.collect(PROBLEM, learner.init(PROBLEM, KEY))
    state, _ = learner.learn(PROBLEM, state, experience)
    obs, goal = experience.trials.transitions.obs[0, 0, 0, 0], experience.params["goal"][0]
    agent: Any = learner.agent(PROBLEM, state)
    memory = agent.start(goal, KEY)
    np.testing.assert_array_equal(memory, goal)
    action, _, _ = agent.act(memory, (), obs, KEY)
    seen = experience.trials.transitions.obs.reshape(-1, obs.size)
    std = np.maximum(np.std(seen, axis=0), 0.01)
    by_hand = np.clip((obs - np.mean(seen, axis=0)) / std, -5.0, 5.0)
    scales: Any = state.scales
    np.testing.assert_allclose(scales.obs(obs), by_hand, atol=1e-3)
    np.testing.assert_allclose(
        action, state.learned.policy(jnp.asarray(by_hand), scales.goal(goal)), atol=1e-3
    )


@pytest.mark.parametrize("card", ["her-fetch-reach", "her-fetch-push"])
def test_its_cards_say_what_they_need_and_are_no_part_of_all(tmp_path, monkeypatch, card: str):
    monkeypatch.chdir(tmp_path)
    entry = CARDS[card]
    assert not CARDS["her-reacher"].missing
    assert dataclasses.replace(entry, needs="no_such_package").missing
    if not entry.missing:
        pytest.skip("Gymnasium-Robotics is installed")
    with pytest.raises(UserError, match="make robotics"):
        reproduce(card, scale="quick")


def test_fetch_reach_as_it_is():
    pytest.importorskip(
        "gymnasium_robotics", reason="Gymnasium-Robotics is not installed: make robotics"
    )
    family = GymnasiumGoals(table=4, horizon=5)
    problem = Problem.of(family, "context")
    assert family.known.threshold == pytest.approx(0.05)
    learner = HER(
        learner="td3", episodes=2, hidden=(8,), gradient_steps=1, batch_size=4, capacity=4
    )
    state = learner.init(problem, KEY)
    for _ in range(2):
        state, experience = learner.collect(problem, state)
        state, metrics = eqx.filter_jit(learner.learn)(problem, state, experience)
    steps = experience.trials.transitions
    assert steps.obs.shape[-1] == 13 and np.isfinite(list(metrics.values())).all()
    reward, _ = jax.vmap(family.reward, (None, None, 0, None))(
        None, None, steps.next_obs[0, 0, 0], jax.tree.map(lambda x: x[0], experience.params)
    )
    np.testing.assert_array_equal(reward, steps.reward[0, 0, 0])
