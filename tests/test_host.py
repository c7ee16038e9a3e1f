"""Worlds that are Python objects: they give what the compiled rollouts give, learn, and fail loudly."""

import contextlib
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probes import HiddenArm
from stemrl.cli import main
from stemrl.core import Problem, UserError
from stemrl.errors import SimulatorError
from stemrl.meta.rl2 import RL2
from stemrl.registry import make
from stemrl.rl import Normalizer, begin_rollout, play, rollout, worlds
from stemrl.rl.ppo import PPO
from stemrl.tasks.gridnavi import MOVES, GridNavi
from stemrl.tasks.gymnasium import AbstractGymnasiumFamily, GymnasiumFamily

SIZE, HORIZON = 3, 5


class PythonGrid(gymnasium.Env):
    """GridNavi's world in Python; on the goal it ends if `stops`, in cell (1, 1) it breaks if
    `breaks`."""

    observation_space = gymnasium.spaces.Box(0.0, SIZE - 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(len(MOVES))
    open_worlds = 0

    def __init__(self, goal, breaks):
        self.goal, self.breaks, self.cell = goal, breaks, np.zeros(2, int)
        PythonGrid.open_worlds += 1

    def reset(self, *, seed=None, options=None):
        self.cell = np.zeros(2, int)
        return self.cell.astype(np.float32), {}

    def step(self, action):
        self.cell = np.clip(self.cell + MOVES[action], 0, SIZE - 1)
        if self.breaks and (self.cell == 1).all():
            raise ZeroDivisionError("the floor gave way")
        found = bool((self.cell == self.goal).all())
        return self.cell.astype(np.float32), 1.0 if found else -0.1, False, False, {"found": found}

    def close(self):
        PythonGrid.open_worlds -= 1


class HostGrid(AbstractGymnasiumFamily):
    """GridNavi on the host."""

    name: ClassVar[str] = "host-grid"
    success_key: ClassVar[str] = "found"
    horizon: int = eqx.field(static=True, default=HORIZON)
    breaks: bool = eqx.field(static=True, default=False)

    def sample(self, key, split):
        return GridNavi(size=SIZE).sample(key, split)

    def tasks(self, key, split, n):
        return GridNavi(size=SIZE).tasks(key, split, n)

    def context(self, params):
        return params["goal"].astype(jnp.float32)

    def make(self, params):
        return PythonGrid(params["goal"], self.breaks)


class PythonArm(gymnasium.Env):
    """HiddenArm's world; terminates at its second step, so that the horizon is not what ends it."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, arm):
        self.arm, self.pulls = arm, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pulls = 0
        return np.zeros(1), {}

    def step(self, action):
        self.pulls += 1
        return np.zeros(1), float(action == self.arm), self.pulls == 2, False, {}


class HostArm(AbstractGymnasiumFamily):
    """HiddenArm on the host: 5.5 a trial of 3 episodes at best, 3 without memory."""

    name: ClassVar[str] = "host-arm"
    horizon: int = eqx.field(static=True, default=4)

    @property
    def trial_episodes(self):
        return 3

    def sample(self, key, split):
        return HiddenArm().sample(key, split)

    def tasks(self, key, split, n):
        return HiddenArm().tasks(key, split, n)

    def make(self, params):
        return PythonArm(int(params["task"][0]))


def rl2(**settings):
    return RL2(**{"hidden_size": 8, "batch_steps": 40, "minibatches": 2, "epochs": 2, **settings})


def agent_for(family):
    """An RL² agent with random networks."""
    problem = Problem.of(family)
    learner = rl2()
    return problem, learner.agent(problem, learner.init(problem, jax.random.key(0)))


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_play_gives_what_the_compiled_player_gives():
    compiled, host = GridNavi(size=SIZE, horizon=HORIZON), HostGrid()
    _, agent = agent_for(compiled)
    params = compiled.tasks(jax.random.key(1), "train", 4)
    before = PythonGrid.open_worlds
    arguments = (params, None, jax.random.key(2), 3)
    assert_same(
        play(agent, host, *arguments, adapt_last=True),
        eqx.filter_jit(play)(agent, compiled, *arguments, adapt_last=True),
    )
    assert PythonGrid.open_worlds == before


def test_stream_gives_what_the_compiled_player_gives():
    """Over two chunks, in trials of two episodes, with a task drawn anew in the middle."""
    compiled, host = GridNavi(size=SIZE, horizon=HORIZON), HostGrid()
    problem, agent = agent_for(compiled)
    problems = {compiled: problem, host: Problem.of(host)}
    chunks = {}
    for family, problem in problems.items():
        rollout_state = begin_rollout(agent, problem, family, jax.random.key(3), 3)
        run = rollout if family is host else eqx.filter_jit(rollout)
        rollout_state, first = run(agent, problem, family, rollout_state, jax.random.key(4), 7, 2)
        rollout_state, second = run(agent, problem, family, rollout_state, jax.random.key(5), 7, 2)
        chunks[family] = (first, second, rollout_state._replace(state=None))
    assert_same(chunks[host], chunks[compiled])
    starts = np.concatenate([chunk.trial_start for chunk in chunks[host][:2]])
    assert starts[[0, 10]].all() and starts.sum() == 6


def test_an_episode_that_ends_early():
    """Padding after it: not valid, no reward, and the zeros of the compiled rollout at the end."""
    problem, agent = agent_for(HostArm())
    params = problem.source.tasks(jax.random.key(0), "test", 2)
    trials = play(agent, problem.source, params, None, jax.random.key(1), 2)
    steps = trials.transitions
    assert steps.valid.shape == (2, 2, 1, 4)
    np.testing.assert_array_equal(trials.lengths, 2)
    assert steps.terminated[..., 1].all() and not steps.truncated.any()
    assert not steps.reward[..., 2:].any()
    # Float64 observations arrive as the space says.
    assert steps.obs.dtype == jnp.float32


def test_a_world_that_is_gone_starts_a_new_trial():
    host = HostGrid()
    problem, agent = agent_for(host)
    rollout_state = begin_rollout(agent, problem, host, jax.random.key(3), 3)
    rollout_state, _ = rollout(agent, problem, host, rollout_state, jax.random.key(4), 3, 2)
    worlds.drop(int(rollout_state.state.number[1]))
    _, chunk = rollout(agent, problem, host, rollout_state, jax.random.key(5), 2, 2)
    np.testing.assert_array_equal(chunk.trial_start[0], [False, True, False])
    np.testing.assert_array_equal(chunk.transitions.obs[0, 1], [0, 0])
    np.testing.assert_array_equal(chunk.transitions.obs[0, 0], rollout_state.obs[0])
    # The worlds have gone on since: going back to the old state may not go on in them.
    _, again = rollout(agent, problem, host, rollout_state, jax.random.key(5), 2, 2)
    assert again.trial_start[0].all()


class ChangingGrid(HostGrid):
    """One whose worlds can be given another goal."""

    made: ClassVar[list[int]] = []

    def make(self, params):
        self.made.append(1)
        return super().make(params)

    def change(self, env, params):
        env.goal = params["goal"]
        return True


class RemadeGrid(ChangingGrid):
    """What makes its worlds in another way than what changes them is made anew."""

    def make(self, params):
        return super().make(params)


def test_worlds_that_can_be_changed_are_not_made_anew():
    chunks, before = [], PythonGrid.open_worlds
    for family, makes in ((HostGrid(), 0), (ChangingGrid(), 3), (RemadeGrid(), 9)):
        problem, agent = agent_for(family)
        rollout_state = begin_rollout(agent, problem, family, jax.random.key(3), 3)
        ChangingGrid.made.clear()  # of worlds that were asked for their spaces
        _, chunk = rollout(agent, problem, family, rollout_state, jax.random.key(4), 12)
        chunks.append(chunk)
        assert len(ChangingGrid.made) == makes
    assert_same(chunks[0], chunks[1])
    assert_same(chunks[0], chunks[2])
    assert PythonGrid.open_worlds - before == 9


@pytest.mark.parametrize("how", ("play", "rollout"))
def test_an_error_in_a_world_stops_the_run_with_its_cause(how):
    host = HostGrid(breaks=True)
    problem, agent = agent_for(host)
    before = PythonGrid.open_worlds
    with pytest.raises(
        SimulatorError, match=r"host-grid.*step.*floor gave way.*line \d+"
    ) as caught:
        if how == "play":
            play(agent, host, host.tasks(jax.random.key(0), "test", 8), None, jax.random.key(1), 9)
        else:
            rollout_state = begin_rollout(agent, problem, host, jax.random.key(0), 8)
            rollout(agent, problem, host, rollout_state, jax.random.key(1), 60)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    if how == "play":
        assert PythonGrid.open_worlds == before


class OddGrid(HostGrid):
    """A host family whose environment answers as none of Gymnasium's does."""

    answer: str = eqx.field(static=True, default="four")

    def make(self, params):
        world = super().make(params)
        whole = world.step

        def step(action):
            obs, reward, *rest = whole(action)
            if self.answer == "four":
                return obs, reward, rest[0], {}
            return obs, np.full(2 if self.answer == "two" else 1, reward), *rest

        world.step = step
        return world


@pytest.mark.parametrize(("answer", "message"), [
    ("four", "'host-grid': step gave 4 values, not"),
    ("two", r"'host-grid': step gave a reward of shape \(2,\); it is one number"),
    ("one", None),
])  # fmt: skip
def test_an_answer_that_is_none_of_gymnasium_s_is_one_line(answer, message):
    host = OddGrid(answer=answer)
    _, agent = agent_for(host)
    tasks = host.tasks(jax.random.key(0), "test", 1)
    playing = contextlib.nullcontext()
    if message:
        playing = pytest.raises(SimulatorError, match=message)
    with playing:
        play(agent, host, tasks, None, jax.random.key(1), 1)


FLOOR = """
import sys
from multiprocessing.connection import Connection
pipe, steps = Connection(int(sys.argv[1])), int(sys.argv[2])
while steps:
    steps -= 1
    try:
        pipe.send(pipe.recv())
    except EOFError:
        break
"""


class GridElsewhere(PythonGrid):
    """PythonGrid whose floor is another process, which dies after two steps if it breaks."""

    def __init__(self, goal, breaks):
        super().__init__(goal, False)
        self.pipe, theirs = multiprocessing.Pipe()
        words = [sys.executable, "-c", FLOOR, str(theirs.fileno()), "2" if breaks else "-1"]
        self.floor = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        theirs.close()

    def step(self, action):
        self.pipe.send("may I?")
        assert self.pipe.recv() == "may I?"
        return super().step(action)

    def close(self):
        super().close()
        self.pipe.close()
        self.floor.wait()


class HostGridElsewhere(HostGrid):
    """HostGrid whose worlds live in processes of their own."""

    name: ClassVar[str] = "host-grid-elsewhere"

    def make(self, params):
        return GridElsewhere(params["goal"], self.breaks)


@pytest.mark.parametrize(
    ("method", "family", "cause"),
    (
        ("rl2", "HostGrid", "ZeroDivisionError: the floor gave way"),
        ("ppo", "HostGridElsewhere", "failed in step 3:"),
        ("ppo", "HostGridElsewhere", "so the process that it lives in is dead"),
    ),
)
def test_a_run_whose_world_breaks_ends_at_once_with_one_line(
    method, family, cause, tmp_path, capsys
):
    settings = {
        "rl2": ["--batch-steps", "400"],
        "ppo": ["--num-envs", "2", "--rollout-length", "50"],
    }
    name = f"{Path(__file__).resolve()}:{family}"
    command = ["train", method, name, "--family.breaks", *settings[method], "--quiet"]
    before = PythonGrid.open_worlds
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("stemrl: stopped after update 0: 'host-grid")
    assert cause in said and "its task was" in said
    assert "\n" not in said
    # What is still open is closed before the process ends, or children could keep it from ending.
    worlds._drop_all()
    assert PythonGrid.open_worlds <= before


def test_worlds_in_processes_of_their_own_play_as_others():
    _, agent = agent_for(HostGrid())
    params = HostGrid().tasks(jax.random.key(1), "train", 2)
    arguments = (params, None, jax.random.key(2), 1)
    assert_same(play(agent, HostGridElsewhere(), *arguments), play(agent, HostGrid(), *arguments))


def train(learner, problem, updates):
    """State and the metrics of some updates, as the run loop takes them for host families."""
    learn = eqx.filter_jit(learner.learn)
    state = learner.init(problem, jax.random.key(0))
    rows = []
    for _ in range(updates):
        state, experience = learner.collect(problem, state)
        state, metrics = learn(problem, state, experience)
        rows.append(metrics)
    return state, rows


def test_rl2_learns_on_the_host():
    problem = Problem.of(HostArm())
    learner = rl2(hidden_size=16, batch_steps=200, learning_rate=5e-3, epochs=8)
    state, _ = train(learner, problem, 14)
    params = problem.source.tasks(jax.random.key(0), "test", 20)
    agent = learner.agent(problem, state)
    trials = play(agent, problem.source, params, None, jax.random.key(1), 3)
    assert float(trials.returns.sum(axis=(1, 2)).mean()) > 4.8


def test_ppo_learns_on_the_host():
    """Told the goal, in a corridor of the grid: better within a few updates."""
    problem = Problem.of(HostGrid(), "context")
    learner = PPO(num_envs=8, rollout_length=20, minibatches=4, learning_rate=3e-3, hidden=(32,))
    _, rows = train(learner, problem, 10)
    assert float(rows[-1]["return"]) > float(rows[0]["return"]) + 0.5


def test_an_attribute_that_changes_nothing_is_said():
    with pytest.warns(UserWarning, match="'masscart' changes nothing in 50 random steps") as told:
        _ = make("families", "gymnasium", ranges="gravity=5:15,masscart=0.5:2").env
    assert len(told) == 1


def test_any_gymnasium_environment_by_its_attributes():
    family = make("families", "gymnasium", ranges={"length": (0.25, 0.75)}, horizon=20)
    assert family == GymnasiumFamily(ranges="length=0.25:0.75", horizon=20)
    assert family.observation_space.shape == (4,) and family.action_space.n == 2
    params = family.tasks(jax.random.key(0), "ood", 3)
    world = family.make(jax.tree.map(lambda x: np.asarray(x[0]), params))
    assert world.unwrapped.length == pytest.approx(float(params["length"][0]))
    world.close()
    problem, agent = agent_for(family)
    # A traced caller may ask for the spaces, and a template may be made of a state.
    template = eqx.filter_eval_shape(rl2().init, problem, jax.random.key(0))
    assert jax.tree.structure(template) == jax.tree.structure(
        rl2().init(problem, jax.random.key(0))
    )
    trials = play(agent, family, params, None, jax.random.key(1), 1)
    assert int(trials.lengths.min()) > 5
    assert isinstance(agent.observations, Normalizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"environment": "CartPole-v99"}, "CartPole-v99"),
        ({"ranges": "lenght=1:2"}, "no attribute 'lenght'"),
        ({"horizon": 0}, "horizon"),
    ),
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        _ = GymnasiumFamily(**settings).observation_space
