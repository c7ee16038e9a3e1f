"""DANN: the reversed gradient, features from which the domain cannot be told, and what they are good
for; with λ = 0 it is PPO on the source."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import probes
from stemrl.cards.dann_biased import correlation, linear_probe
from stemrl.cli import main
from stemrl.core import Logged, Problem, UserError
from stemrl.rl import PPO, play
from stemrl.rl.tuning import layer_depths
from stemrl.runs import Run
from stemrl.tasks.pixels import PixelReach
from stemrl.tasks.point import Point2D
from stemrl.transfer import DANN
from stemrl.transfer.domain import (
    adaptation_weight,
    domain_loss,
    fooling_loss,
    learning_rate_factor,
    reverse_gradient,
)

KEY = jax.random.key(0)


# ---- formulas ----


def test_the_gradient_is_reversed_and_the_value_is_not():
    """Against finite differences: what comes before is moved up the loss, what comes after down it."""
    weight = jnp.asarray(0.3)

    def loss(before, after, reverse):
        features = jnp.tanh(before * jnp.arange(1.0, 4.0))
        features = reverse_gradient(features, weight) if reverse else features
        return jnp.sum((features * after) ** 2)

    at, h = (0.4, 1.3), 1e-3
    assert loss(*at, True) == loss(*at, False)
    slopes = [
        (loss(at[0] + h, at[1], False) - loss(at[0] - h, at[1], False)) / (2 * h),
        (loss(at[0], at[1] + h, False) - loss(at[0], at[1] - h, False)) / (2 * h),
    ]
    before, after = jax.grad(lambda b, a: loss(b, a, True), (0, 1))(*map(jnp.asarray, at))
    assert float(before) == pytest.approx(-0.3 * float(slopes[0]), rel=1e-2)
    assert float(after) == pytest.approx(float(slopes[1]), rel=1e-2)


def test_the_schedules_are_the_papers():
    np.testing.assert_allclose(adaptation_weight(0.0), 0.0, atol=1e-7)
    np.testing.assert_allclose(adaptation_weight(0.1), (np.e - 1) / (np.e + 1), rtol=1e-5)
    np.testing.assert_allclose(adaptation_weight(1.0), 0.99990920, rtol=1e-5)
    np.testing.assert_allclose(0.01 * learning_rate_factor(1.0), 0.01 / 11**0.75, rtol=1e-5)
    assert learning_rate_factor(0.5, 0.0) == 1.0


def test_each_domain_counts_half():
    source, target = jnp.asarray([-1.0, 2.0, -3.0]), jnp.asarray([0.5])
    log = lambda x: np.log1p(np.exp(x))  # noqa: E731
    loss, accuracy = domain_loss(source, target)
    np.testing.assert_allclose(
        loss, 0.5 * (np.mean([log(-1), log(2), log(-3)]) + log(-0.5)), rtol=1e-5
    )
    np.testing.assert_allclose(accuracy, 0.5 * (2 / 3 + 1))
    np.testing.assert_allclose(fooling_loss(target), log(0.5), rtol=1e-5)


def test_features_and_head_are_the_network():
    for family in (PixelReach(), Point2D()):
        problem = Problem.of(family)
        learner = PPO(num_envs=1, hidden=(5, 6))
        space = family.observation_space

        @eqx.filter_jit
        def parts(learner=learner, problem=problem, space=space):
            network = learner.init(problem, KEY).networks.policy.network
            x = jnp.ones((3, *space.shape), space.dtype)
            features = network.features(x)
            return features, network.head(features), network(x)

        features, in_two, whole = parts()
        assert features.shape == (3, 128 if len(space.shape) == 3 else 6)
        np.testing.assert_allclose(in_two, whole, rtol=1e-6)


# ---- learning ----


class Walk(probes.AbstractProbe):
    """A step to the right pays; where one is, is seen. At random one stays about the middle."""

    name: ClassVar[str] = "probe-walk"
    horizon: int = eqx.field(static=True, default=4)

    def sample(self, key, split):
        return {"task": jnp.zeros((1,))}

    def first(self, key, params):
        return jnp.zeros(())

    def move(self, key, state, action, params):
        step = jnp.where(action == 1, 1.0, -1.0)
        return state + 0.5 * step, step, False


SOURCE, TARGET = probes.TwoCues(), probes.TwoCues(target=True)
QUICK = PPO(
    num_envs=64, rollout_length=4, hidden=(16,), epochs=4, minibatches=2, learning_rate=3e-3,
    entropy_weight=0.1, normalize_observations=False,
)  # fmt: skip
UPDATES = 100


@eqx.filter_jit
def transferred(learner: DANN, problem: Problem, keys: Any) -> Any:
    """Returns in source and target after training, of each seed; and the last metrics."""

    def one(key):
        state = learner.init(problem, key)
        state, metrics = jax.lax.scan(
            lambda s, _: learner.update(problem, s), state, None, length=UPDATES
        )
        source, target = (
            play(learner.agent(problem, state), f, f.tasks(key, "test", 400), None, key, 1)
            for f in (SOURCE, TARGET)
        )
        last = jax.tree.map(lambda x: x[-1], metrics)
        return source.returns.mean(), target.returns.mean(), last

    return jax.vmap(one)(keys)


@pytest.mark.parametrize("form", ["shared", pytest.param("separate", marks=pytest.mark.long)])
def test_what_only_the_source_shows_is_not_relied_on(form: Any):
    """The loud cue is best in the source and says nothing in the target. With λ = 0, in the same
    program, the policy goes by it."""
    problem = Problem(SOURCE, TARGET, 10**6)
    learner = DANN(learner=QUICK, form=form, adapt_updates=50, source_to_target=1)
    keys = jax.random.split(KEY, 4)
    returns = {}
    for weight in (0.0, 3.0):
        now = dataclasses.replace(learner, weight=jnp.asarray(weight))
        source, returns[weight], metrics = transferred(now, problem, keys)
        assert source.min() > 0.9
        assert metrics["target_observations"].max() == learner.target_steps(problem, UPDATES)
    assert returns[3.0].mean() > 0.95 and returns[0.0].mean() < 0.85
    assert (returns[3.0] > returns[0.0] + 0.1).all()


def test_only_what_ppo_tunes_moves_in_the_shared_form():
    learner = DANN(learner=dataclasses.replace(QUICK, tune="head"))
    problem = Problem(SOURCE, TARGET, budget=10_000)
    before = eqx.filter_jit(learner.init)(problem, KEY)
    after, _ = eqx.filter_jit(learner.update)(problem, before)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), before.learner.networks, after.learner.networks
    )
    assert moved == jax.tree.map(lambda depth: depth == 0, layer_depths(before.learner.networks))
    assert all(
        jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), before.domain, after.domain))
    )


def test_a_file_of_frames_is_a_target_too():
    """The same from 500 observations that somebody recorded, with no step in the target."""
    keys = jax.random.split(KEY, 500)
    frames = jax.vmap(lambda k: TARGET.env.reset(k, TARGET.sample(k, "train"))[0])(keys)
    logged = Logged.of(
        {"observations": frames}, SOURCE.observation_space, SOURCE.action_space, "frames"
    )
    problem = Problem(SOURCE, SOURCE, logged=logged)
    learner = DANN(learner=QUICK, form="separate", weight=3.0, adapt_updates=33)
    assert learner.target_steps(problem, 1000) == 0
    _, target, metrics = transferred(learner, problem, jax.random.split(KEY, 2))
    assert target.min() > 0.95 and metrics["target_observations"][0] == 500


def test_the_source_is_seen_as_the_target_was():
    """The remedy for a target that was recorded by a bad driver: what is compared is what random actions
    show, on either side, while the policy goes elsewhere."""
    problem = Problem(Walk(), Walk(), 10**6)

    @eqx.filter_jit
    def frames(behavior: Any) -> tuple[Array, Array]:
        learner = DANN(learner=QUICK, behavior=behavior, source_to_target=1, capacity=256)
        state = learner.init(problem, KEY)
        state = jax.lax.fori_loop(0, 30, lambda _, s: learner.update(problem, s)[0], state)
        ours = state.matched_frames if behavior == "random" else state.frames
        return jnp.mean(ours.rows), jnp.mean(state.frames.rows)

    ours, theirs = frames("random")
    assert abs(ours) < 0.3 and abs(theirs) < 0.3
    assert frames("policy")[1] > 0.6


def test_the_target_head_is_the_sources():
    problem = Problem(SOURCE, TARGET, 1000)
    learner = DANN(learner=QUICK, form="separate", source_to_target=1)
    state = learner.init(problem, KEY)
    moved = jax.tree.map(lambda x: x + 1.0, state.encoder)
    agent: Any = learner.agent(problem, eqx.tree_at(lambda s: s.encoder, state, moved))
    head = lambda network: network.body.layers[-1].weight  # noqa: E731
    ours, theirs = agent.policy.network, state.learner.networks.policy.network
    np.testing.assert_array_equal(head(ours), head(theirs))
    np.testing.assert_array_equal(ours.body.layers[0].weight, moved.body.layers[0].weight)


@pytest.mark.long
def test_pictures_are_seen_by_both_forms():
    """One update of each on rendered pictures: finite, and the target's pictures are kept as bytes."""
    ppo = PPO(num_envs=4, rollout_length=4, hidden=(8,), epochs=1, minibatches=1)
    problem = Problem(PixelReach(horizon=4), PixelReach(looks="target", horizon=4), 100)
    both: tuple[Any, ...] = (("shared", "policy"), ("separate", "random"))
    for form, behavior in both:
        learner = DANN(
            learner=ppo, form=form, behavior=behavior, adapt_updates=1, source_to_target=2,
            alignment_steps=1, alignment_batch_size=4, capacity=16,
        )  # fmt: skip
        state = eqx.filter_jit(learner.init)(problem, KEY)
        update = eqx.filter_jit(lambda s, learner=learner: learner.update(problem, s))
        before = learner.agent(problem, state)
        for _ in range(2):
            state, metrics = update(state)
        assert np.isfinite(list(metrics.values())).all()
        assert state.frames.rows.dtype == jnp.uint8 and state.frames.size == (
            16 if form == "shared" else 8
        )
        # Under random actions, as many of the source's are kept beside them, and none of its steps counts.
        assert state.matched is None or state.matched_frames.size == state.frames.size
        assert state.collected == 2 * 16
        after = learner.agent(problem, state)
        encoders = [a.policy.network.encoder.project.weight for a in (before, after)]
        assert not np.array_equal(*encoders)


# ---- the run ----


@pytest.mark.long
def test_from_the_command_line(tmp_path: Path):
    words = (
        "train dann pixel-reach --target pixel-reach --target.looks target --budget 32"
        " --budget-unit observations --steps 160 --quiet --evaluate-tasks 1 --family.horizon 5"
        f" --target.horizon 5 --form separate --adapt-updates 1 --out {tmp_path / 'run'}"
        " --alignment-steps 2 --alignment-batch-size 4 --capacity 64"
    ).split()
    ppo = "ppo num_envs=4 rollout_length=10 epochs=1 minibatches=1 hidden=8"
    assert main([*words, "--learner", ppo]) == 0
    run = Run.open(tmp_path / "run")
    assert run.state().visits.spent == 12
    assert run.metrics()[-1]["kind"] == "evaluation"
    # From a PPO that was trained on the source: aligned from the first update on.
    source = (
        f"train PPO pixel-reach --family.horizon 5 --steps 40 --quiet --evaluate-every 0"
        f" --out {tmp_path / 'ppo'}"
    ).split()
    assert main([ppo if w == "PPO" else w for w in source]) == 0
    words[words.index(str(tmp_path / "run"))] = str(tmp_path / "again")
    assert main([*words, "--learner", ppo, "--start", str(tmp_path / "ppo")]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learner": "sac"}, "'sac' cannot learn in the source of 'dann'; 'ppo' can"),
        ({"form": "both"}, "form must be one of shared, separate"),
        ({"behavior": "bad"}, "behavior must be policy or random, not 'bad'"),
        ({"domain_share": 0.0}, r"domain_share must be in \(0, 1\], not 0"),
        ({"adapt_updates": 0}, "adapt_updates must be at least 1"),
        (
            {"learner": "ppo gradient_surgery=true"},
            "gradient_surgery has no place in the shared form",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        DANN(**settings)


def test_a_target_is_needed():
    with pytest.raises(UserError, match="name a target and give --budget"):
        DANN(learner=QUICK).init(Problem(SOURCE, SOURCE), KEY)


def test_a_probe_of_the_source_sees_what_one_of_the_target_does_not():
    features = np.random.default_rng(0).normal(size=(400, 3))
    quality = features @ [1.0, 2.0, 0.0] + 5.0
    turned = -features  # as informative as before, and the opposite to who reads it as before
    here, there = (linear_probe(x[:200], quality[:200]) for x in (features, turned))
    assert correlation(here(features[200:]), quality[200:]) > 0.99
    assert correlation(here(turned), quality) < -0.99
    assert correlation(there(turned[200:]), quality[200:]) > 0.99
    assert correlation(np.zeros(400), quality) == 0.0
