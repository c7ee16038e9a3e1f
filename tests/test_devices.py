"""Several devices: what they compute together is what one computes alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from stemrl.core import UserError
from stemrl.runs import Run, RunConfig, hosts, train

HERE = Path(__file__).parent

UPDATES = """
import sys
import jax, jax.numpy as jnp, numpy as np
import equinox as eqx
from stemrl import make_family, make_learner
from stemrl.core import Problem, UserError
from stemrl.rl.devices import here, mesh_of, placed, sharing
from stemrl.runs import programs

SETTINGS = {
    # On so few steps conjugate gradient is ill-conditioned: in ten iterations the difference between
    # two orders of summation grows to 1e-3, and that is no difference between devices.
    "maml": {"meta_batch_size": 4, "inner_episodes": 3, "hidden": (8,), "cg_iterations": 3},
    "ppo": {"num_envs": 4, "rollout_length": 24, "minibatches": 2, "epochs": 2, "hidden": (8,)},
    "rl2": {"hidden_size": 8, "episodes": 2, "batch_steps": 64, "minibatches": 2, "epochs": 2},
}

def numbers(tree):
    leaves = jax.tree.leaves(tree)
    keys = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return [np.asarray(keys(x)) for x in leaves]

def one_update(learner, problem, mesh, learns):
    state = programs.begin(learner, problem, jax.random.key(0))
    exempt = programs.exempt(state, False)
    state = placed(state, mesh)
    with sharing(mesh):
        state, experience = programs.collect((learner, problem), state)
        leaf = jax.tree.leaves(experience)[0]
        assert len(leaf.sharding.device_set) == (1 if mesh is None else 2)
        assert mesh is None or not leaf.is_fully_replicated
        seen = numbers(experience)
        if learns:
            state, metrics, _ = programs.learn((learner, problem, experience, exempt), state)
    return seen, numbers(here(state, mesh))

def difference(ours, theirs):
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    return max(
        float(np.max(np.abs(a.astype(float) - b.astype(float)), initial=0.0))
        for a, b in zip(ours, theirs, strict=True)
    )

worst = {}
for method, family in (what.split() for what in sys.argv[1:]):
    learner = make_learner(method, **SETTINGS[method])
    problem = Problem.of(make_family(family, horizon=8))
    alone = one_update(learner, problem, None, family == "point-2d")
    shared = one_update(learner, problem, mesh_of(2), family == "point-2d")
    worst[f"{method} {family}"] = [difference(*pair) for pair in zip(shared, alone)]
    assert any(float(np.std(x)) > 0 for x in alone[0])

learner = make_learner("maml", **SETTINGS["maml"] | {"meta_batch_size": 3})
try:
    one_update(learner, Problem.of(make_family("point-2d")), mesh_of(2), False)
except UserError as error:
    worst["refused"] = str(error)
import json
print(json.dumps(worst))
"""


# What is shared: an update over tasks and a rollout of lanes.
FEW = ("maml point-2d", "ppo point-2d")  # PPO, and so fine-tuning, whose training is PPO's own
# Lanes again, by other learners and simulators.
MORE = ("rl2 point-2d", "ppo half-cheetah-dir")


def on_two_devices(what: tuple[str, ...]) -> dict:
    """What one update in float64 differs by, between two devices and one: of the experience and of
    the state."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", UPDATES, *what],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def two_devices() -> dict:
    return on_two_devices(FEW)


@pytest.mark.parametrize("what", FEW)
def test_an_update_on_two_devices_is_that_on_one(two_devices, what):
    assert max(two_devices[what]) <= 1e-10


@pytest.mark.long
def test_more_updates_on_two_devices_are_those_on_one():
    """But for half-cheetahs the whole update; for them, what was played."""
    found = on_two_devices(MORE)
    assert max(max(found[what]) for what in MORE) <= 1e-10


def test_shares_must_be_equal(two_devices):
    assert "3 tasks or lanes cannot be shared equally among 2 devices" in two_devices["refused"]


def configuration(**changes) -> RunConfig:
    """A few updates of the smallest learner, in worlds that a callback steps."""
    here = Path(__file__).parent
    fields = {
        "method": f"{here / 'tiny.py'}:Tiny",
        "family": f"{here / 'tiny.py'}:CallbackPoint",
        "settings": {"tasks": 4},
        "steps": 4 * 40,
        "evaluate_every": 80,
        "evaluate_tasks": 2,
        "keep_every": 40,
    }
    return RunConfig(**fields | changes)


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from test_devices import configuration, hosts, train
if len(sys.argv) > 3:
    train(configuration(), sys.argv[2], progress=False)
else:
    hosts.join()
    train(configuration(devices=2), sys.argv[2], progress=False)
"""


def test_a_run_on_two_hosts_is_that_on_one(tmp_path):
    """Two processes, one device each; only the first of them writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for index, variables in enumerate(2 * [dict(os.environ)]):
        variables |= dict(zip(hosts.VARIABLES, (address, "2", str(index)), strict=True))
        words = [sys.executable, "-c", PROCESS, Path(__file__).parent, tmp_path / str(index)]
        processes.append(
            subprocess.Popen(
                words, env=variables | {"JAX_ENABLE_X64": "1"}, stderr=subprocess.PIPE, text=True
            )
        )
    # In a process of its own too: what other tests have compiled here is for float32.
    words = [sys.executable, "-c", PROCESS, Path(__file__).parent, tmp_path / "alone", "alone"]
    variables = os.environ | {"JAX_ENABLE_X64": "1"}
    processes.append(
        subprocess.Popen([*map(str, words)], env=variables, stderr=subprocess.PIPE, text=True)
    )
    for process in processes:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said[-3000:]
    assert not (tmp_path / "1").exists()
    alone, together = Run.open(tmp_path / "alone"), Run.open(tmp_path / "0")
    assert together.config.devices == 2
    first = [
        load_file(run.path / "checkpoints" / "000000000040" / "state.safetensors")
        for run in (alone, together)
    ]
    for name, theirs in first[0].items():
        np.testing.assert_allclose(first[1][name], theirs, rtol=0, atol=1e-10)
    assert first[0]["weight"].dtype == np.float64
    # From then on the world, which rounds to float32, may round to either side.
    scores = [
        [row["score"] for row in run.metrics() if "score" in row] for run in (alone, together)
    ]
    assert len(scores[0]) == 2
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    (
        ({"devices": 2}, r"1 devices here, not 2; a CPU counts as several with XLA_FLAGS="),
        ({"devices": 2, "seeds": 2, "family": "point-2d"}, "several seeds at once need one device"),
        ({"devices": 2, "family": "gymnasium"}, "stepped on the host"),
        ({"devices": 0}, "devices must be at least 1"),
    ),
)
def test_mistakes_are_one_line(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(configuration(**changes), tmp_path / "run", progress=False)


def test_joining_nobody_is_one_line(monkeypatch):
    for name in hosts.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda: (_ for _ in ()).throw(ValueError("x"))
    )
    with pytest.raises(UserError, match=r"cannot join .* set JAX_COORDINATOR_ADDRESS"):
        hosts.join()
