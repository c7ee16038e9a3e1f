"""Agents in NumPy alone: they act, remember and adapt as `stemrl.Player` does, draw by draw."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import stemrl
from stemrl import registry
from stemrl.cli import main
from stemrl.core import COLUMNS, AbstractLearner, Logged
from stemrl.errors import UserError
from stemrl.portable import export_numpy
from stemrl.portable.numpy_agent import Agent, Program
from stemrl.portable.programs import Writer
from stemrl.runs import RunConfig, train


def agree(function: Any, *given: Any, atol: float = 1e-5) -> None:
    """A function gives in NumPy what it gives in JAX."""
    writer = Writer()
    program = Program(writer.write(function, *given), writer.arrays)
    found = program(*(np.asarray(leaf) for leaf in jax.tree.leaves(given)))
    wanted = jax.tree.leaves(jax.jit(function)(*given))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-5)


KEY = jnp.asarray([3, 5], jnp.uint32)
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def test_random_numbers_are_those_of_jax():
    agree(lambda k: jax.random.split(k, 3), KEY, atol=0)
    agree(lambda k: jax.random.fold_in(k, 70_000), KEY, atol=0)
    agree(lambda k: jax.random.bits(k, (5, 2)), KEY, atol=0)
    agree(lambda k: jax.random.randint(k, (7,), -3, 9), KEY, atol=0)
    agree(lambda k: jax.random.uniform(k, (4, 3)), KEY, atol=0)
    agree(lambda k: jax.random.normal(k, (100,)), KEY, atol=2e-6)
    agree(lambda k: jax.random.categorical(k, jnp.asarray(X), axis=-1), KEY, atol=0)
    agree(lambda k: jax.random.permutation(k, 9), KEY, atol=0)
    agree(lambda k: jax.vmap(jax.random.normal)(jax.random.split(k, 4)), KEY, atol=2e-6)


def test_operations_are_those_of_jax():
    square = X.T @ X + np.eye(3, dtype=np.float32)
    i = np.array([2, 0, 5], np.int32)  # 5 is beyond the end
    agree(lambda x: (jax.nn.relu(x), jax.nn.gelu(x), jax.nn.softmax(x), jax.nn.sigmoid(x)), X)
    agree(lambda x: (jnp.sort(x, 0), jnp.argsort(-x), jnp.cumsum(x, 1), lax.top_k(x, 2)), X)
    agree(lambda x: (x[:, ::2], x[::-1], jnp.pad(x, ((1, 0), (2, 1))), jnp.tile(x, (2, 1))), X)
    halves, ints = X.round() / 2, np.array([-7, 0, 5, -(2**31)], np.int32)
    big = np.array([1e12, np.nan, -1e12, 300.0, -5.0], np.float32)
    agree(
        lambda x: (lax.round(x), jnp.round(x), jax.nn.log_sigmoid(40 * x), jax.nn.sigmoid(40 * x)),
        halves,
    )
    agree(lambda x: tuple(x.astype(t) for t in ("int32", "uint8", "uint32", "bool")), big)
    agree(
        lambda i: (lax.div(i, i // 3), lax.rem(i, i // 3), lax.top_k(i.astype("uint32"), 2)), ints
    )
    agree(lambda x: lax.top_k(jnp.where(x > 1, jnp.nan, x), 3), X)
    agree(
        lambda x: (jax.nn.gelu(x, approximate=False), jax.nn.logsumexp(x, 1), lax.cumlogsumexp(x)),
        X,
    )
    agree(lambda x: jnp.linalg.cholesky(-jnp.eye(3) + 0 * x[0, 0]), X)
    agree(lambda i: lax.dot(i.astype("int8"), i.astype("int8"), preferred_element_type="int32"), i)
    agree(lambda x: (jnp.round(x), jnp.sign(x), x // 0.3, x % 0.7, jnp.trunc(x)), X)
    agree(lambda i: (i // 2, -i // 2, i % 3, i >> 1, i << 2, lax.shift_right_logical(-i, 3)), i)
    agree(
        lambda x, i: (x[i], jnp.take(x, i, 0, mode="clip"), jnp.take_along_axis(x, i[None], 1)),
        X,
        i,
    )
    agree(lambda x, i: (x.at[i].set(1.0), x.at[i, i].add(x[i, 0]), x.at[0].multiply(2.0)), X, i)
    agree(lambda x, i: lax.dynamic_update_slice(x, x[:2, :1], (i[0], i[2])), X, i)
    agree(
        lambda s, x: (jnp.linalg.cholesky(s), jax.scipy.linalg.solve(s, x.T, assume_a="pos")),
        square,
        X,
    )
    agree(lambda x: lax.while_loop(lambda s: s.sum() < 99.0, lambda s: s * 2.0, jnp.abs(x)), X)
    agree(lambda x, i: lax.switch(i[0], [jnp.sin, jnp.cos, jnp.tanh], x), X, i)
    agree(lambda x: lax.scan(lambda c, row: (c + row, c * row), x[0], x, reverse=True), X)
    agree(lambda x: jax.grad(lambda w: jnp.tanh(x @ w).sum())(jnp.ones((3, 2))), X)
    images, kernels = jnp.ones((2, 9, 8, 3)) * X[0], jnp.ones((3, 3, 3, 4)) * X[:, 0]
    for strides, padding in (((2, 2), "SAME"), ((1, 2), "VALID")):
        agree(
            lambda a, b, s=strides, p=padding: lax.conv_general_dilated(
                a, b, s, p, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            images,
            kernels,
            atol=1e-4,
        )


def alike(
    run: stemrl.Run, folder: Path, rounds: int, most_likely: bool = False, **told: Any
) -> Agent:
    """The exported agent, after it played beside the original what random numbers showed and paid."""
    assert export_numpy(run, folder, most_likely=most_likely).difference < 1e-4
    player = run.player(seed=5, most_likely=most_likely, **told)
    agent = Agent(folder, seed=5, **told)
    space, rng = player.observation_space, np.random.default_rng(0)
    for _ in range(rounds * agent.about["episodes_per_round"]):
        over, seen = False, np.zeros(space.shape)
        while not over:
            np.testing.assert_allclose(agent.act(seen), player.act(seen), atol=1e-4)
            # Whole places, which a grid has too.
            seen, paid = rng.integers(0, 2, space.shape), float(rng.normal())
            over = player.observe(seen, paid, False)
            assert agent.observe(seen, paid, False) == over
    assert agent.adaptations == player.adaptations and agent.episodes == player.episodes
    return agent


def test_a_memory_a_posterior_and_a_goal(tmp_path: Path):
    alike(stemrl.load("rl2-gridnavi"), tmp_path / "rl2", 3)
    agent = alike(stemrl.load("pearl-point-sparse"), tmp_path / "pearl", 2, horizon=9)
    assert agent.adaptations == 2
    agent.reset()
    assert agent.adaptations == agent.episodes == 0
    goal = {"goal": np.ones(10, np.int32)}
    alike(stemrl.load("her-bit-flip"), tmp_path / "her", 1, most_likely=True, task=goal)
    with pytest.raises(ValueError, match="give task, or context of shape"):
        Agent(tmp_path / "her")
    with pytest.raises(ValueError, match=r"'goal' has the shape \(5,\), not \(10,\)"):
        Agent(tmp_path / "her", task={"goal": np.ones(5)})
    for call, said in (
        (lambda: agent.act([1.0]), r"has the shape \(1,\), not \(2,\)"),
        (lambda: agent.act([np.nan, 0]), "not finite"),
        (lambda: agent.observe([0, 0], 0.0, False), "call act first"),
        (lambda: Agent(tmp_path / "pearl", task={"goal": 1}), "without being told"),
        (lambda: Agent(tmp_path / "pearl", horizon=1000), "of at most 20 steps"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.long  # the others act and adapt by the same operations
@pytest.mark.parametrize("method", registry.METHODS)
def test_every_method_that_acts(method: str, tmp_path: Path):
    config = RunConfig.tiny(method)
    if not isinstance(config.learner(), AbstractLearner):
        pytest.skip("it learns from labelled examples, and does not act")
    run = train(config, tmp_path / "run", progress=False)
    params = run.problem.target.sample(jax.random.key(3), "test")
    told = {} if run.problem.reveal == "nothing" else {"task": jax.device_get(params)}
    alike(run, tmp_path / "agent", 2, **told)


def test_a_gradient_step_where_there_is_neither_jax_nor_stemrl(tmp_path: Path, capsys):
    """MAML's, by the command line, in a process that can import nothing else."""
    folder = tmp_path / "maml"
    assert main(["export", "maml-point-2d", str(folder), "--format", "numpy"]) == 0
    told = capsys.readouterr()
    assert str(folder) in told.out and "agree with JAX's to" in told.err
    script = (
        "import sys; sys.modules['jax'] = sys.modules['stemrl'] = None\n"
        "import numpy as np; from numpy_agent import Agent\n"
        "agent = Agent('.', seed=5); returns = []\n"
        "while agent.adaptations < 2:\n"
        "    at, total, over = np.zeros(2, np.float32), 0.0, False\n"
        "    while not over:\n"
        "        at = at + agent.act(at)\n"
        "        far = float(np.linalg.norm(at - (-0.3, 0.4)))\n"
        "        total -= far; over = agent.observe(at, -far, far < 0.01)\n"
        "    returns.append(total)\n"
        "print(np.mean(returns[:20]), np.mean(returns[20:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=300
    )
    before, after = map(float, done.stdout.split())
    assert after > 0.6 * before, done.stderr


def test_what_was_played_is_recorded_as_target_data(tmp_path: Path):
    run = stemrl.load("maml-point-2d")
    export_numpy(run, tmp_path / "agent")
    family, files = run.problem.target, []
    for name, agent in (
        ("player", run.player(seed=1, horizon=3, record=True)),
        ("agent", Agent(tmp_path / "agent", seed=1, horizon=3, record=True)),
    ):
        with pytest.raises((ValueError, UserError), match="nothing was recorded"):
            agent.save(tmp_path / f"{name}.npz")
        at = np.zeros(2, np.float32)
        for step in range(5):
            action = agent.act(at)
            at += action  # the same array, filled again
            agent.observe(at, float(step), step == 1)
        assert agent.save(tmp_path / f"{name}.npz") == 5
        logged: Any = Logged.read(
            tmp_path / f"{name}.npz", family.observation_space, family.action_space
        )
        assert logged.rows == 5 and logged.columns == COLUMNS
        assert logged.terminations.tolist() == [False, True, False, False, False]
        assert logged.truncations.tolist() == [False, False, False, False, True]
        moved = logged.observations + 0.1 * logged.actions
        np.testing.assert_allclose(logged.next_observations, moved, atol=1e-6)
        files.append(logged)
    np.testing.assert_allclose(files[0].actions, files[1].actions, atol=1e-5)
    with pytest.raises(UserError, match="record=True"):
        run.player().save(tmp_path / "x")


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capsys):
    with pytest.raises(UserError, match="operation 'eigh'"):
        Writer().write(lambda x: jnp.linalg.eigh(x)[0], np.eye(2, dtype=np.float32))
    for function, given, said in (
        (lambda x: x.at[0].apply(jnp.sin), X, "'scatter' with a function of its own"),
        (lambda x: x.astype(jnp.bfloat16) * 2, X, "in a type that NumPy lacks"),
        (lambda x: lax.bitcast_convert_type(x, jnp.uint8), X, "between types of different sizes"),
        (lambda x: lax.scan(lambda c, r: (c, r), 0, x[:0]), X, "of no steps"),
        (
            lambda x: lax.conv_general_dilated(
                x[None], x[:, :1, None], (1,), "SAME", feature_group_count=3
            ),
            X.T,
            "with groups",
        ),
    ):
        with pytest.raises(UserError, match=said):
            Writer().write(function, given)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="is in the way"):
        export_numpy(stemrl.load("rl2-gridnavi"), tmp_path / "full")
    assert main(["export", "rl2-gridnavi", str(tmp_path / "x"), "--member", "1"]) == 2
    assert "--member means nothing to a folder of all agents" in capsys.readouterr().err
