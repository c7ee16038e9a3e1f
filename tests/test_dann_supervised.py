"""A classifier that crosses domains: the moons, both forms, what is reversed and what stands still."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stemrl.core import Examples, SupervisedProblem, UserError
from stemrl.tasks import Glyphs, Moons
from stemrl.transfer import DANNSupervised, reverse_validation

KEY = jax.random.key(0)
PROBLEM = SupervisedProblem(Moons(), Moons(angle=35.0))
SMALL = dict(features=15, hidden=(15,), activation="tanh", domain_hidden=(64,))
# An array, so that with λ = 0 it is the same program.
ON = jnp.asarray(1.0)
LEARNERS = {
    "shared": DANNSupervised(
        **SMALL, weight=ON, adapt_updates=1500, optimizer="sgd", learning_rate=0.03, rate_decay=0.75
    ),
    "separate": DANNSupervised(
        **SMALL, weight=ON, adapt_updates=750, form="separate", learning_rate=3e-4
    ),
}
SEEDS = 4


begun = eqx.filter_jit(lambda learner, key: learner.init(PROBLEM, key))
updated = eqx.filter_jit(lambda learner, state: learner.update(PROBLEM, state)[0])


@eqx.filter_jit
def trained(learner):
    """States of several seeds after twice the updates of the first phase."""
    updates = 2 * learner.adapt_updates

    def one(key):
        state = learner.init(PROBLEM, key)
        return jax.lax.fori_loop(0, updates, lambda _, s: learner.update(PROBLEM, s)[0], state)

    return jax.vmap(one)(jax.random.split(KEY, SEEDS))


@eqx.filter_jit
def accuracy(learner, states, family):
    """Of each seed on new examples."""
    examples = family.data(jax.random.key(9), family.sample(KEY, "test"), 500)

    def one(state):
        predict = learner.fit(PROBLEM, state.networks, Examples(examples.x[:0], examples.y[:0]))
        return family.score(predict(examples.x), examples.y)

    return jax.vmap(one)(states)


@pytest.fixture(scope="module")
def states():
    return {name: trained(learner) for name, learner in LEARNERS.items()}


@pytest.mark.parametrize("form", LEARNERS)
def test_it_crosses_to_the_rotated_moons_and_only_by_adapting(form: str, states):
    """The same program with λ = 0 knows the source and errs in the target."""
    learner = LEARNERS[form]
    off = eqx.tree_at(lambda x: x.weight, learner, jnp.asarray(0.0))
    plain = trained(off)
    target = np.asarray(accuracy(learner, states[form], PROBLEM.target))
    without = np.asarray(accuracy(off, plain, PROBLEM.target))
    assert np.asarray(accuracy(off, plain, PROBLEM.source)).min() > 0.97 or form == "separate"
    assert np.median(without) < 0.8
    assert np.median(target) > np.median(without) + 0.05, (target, without)


def test_labels_of_the_target_are_not_there_to_be_used(states):
    data = states["shared"].data
    assert data.target.shape == (SEEDS, 300, 2) and data.source.y.shape == (SEEDS, 300, 2)


def test_only_the_features_gradient_is_reversed():
    """By the shared loss: D descends in full, f ascends times λ_p, C does not care."""
    learner = LEARNERS["shared"]
    state = begun(learner, KEY)
    source, target = jax.tree.map(
        lambda x: np.asarray(x)[:8], (state.data.source, state.data.target)
    )

    @jax.jit
    def gradient(weight):
        now = dataclasses.replace(learner, weight=weight)
        return jax.grad(now.shared, has_aux=True)(state.networks, PROBLEM, source, target, 1.0)[0]

    grads = {weight: gradient(weight) for weight in (0.0, 2.0)}

    @jax.jit
    @jax.grad
    def domain(encoder):
        odds = [state.networks.domain(encoder(x))[..., 0] for x in (source.x, target)]
        return 0.5 * (jax.nn.softplus(odds[0]).mean() + jax.nn.softplus(-odds[1]).mean())

    own = domain(state.networks.encoder)
    lam = 2.0 * (2 / (1 + np.exp(-10.0)) - 1)
    reversed_ = jax.tree.map(
        lambda a, b: np.asarray(a) - np.asarray(b), grads[2.0].encoder, grads[0.0].encoder
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, -lam * b, rtol=2e-3, atol=1e-6), reversed_, own
    )
    jax.tree.map(np.testing.assert_array_equal, grads[2.0].domain, grads[0.0].domain)
    jax.tree.map(np.testing.assert_array_equal, grads[2.0].head, grads[0.0].head)


def test_the_source_stands_still_while_the_target_is_aligned(states):
    """In the separate form, after `adapt_updates`."""
    learner = dataclasses.replace(LEARNERS["separate"], adapt_updates=1)
    state = begun(learner, KEY)
    first = updated(learner, state)
    jax.tree.map(
        np.testing.assert_array_equal, first.networks.target_encoder, first.networks.encoder
    )
    jax.tree.map(np.testing.assert_array_equal, first.networks.domain, state.networks.domain)
    second = updated(learner, first)
    jax.tree.map(np.testing.assert_array_equal, second.networks.encoder, first.networks.encoder)
    jax.tree.map(np.testing.assert_array_equal, second.networks.head, first.networks.head)
    moved = (
        jax.tree.leaves(second.networks.target_encoder)[0]
        - jax.tree.leaves(first.networks.encoder)[0]
    )
    assert np.abs(moved).max() > 0


def test_half_the_weight_is_half_the_step_of_the_targets_encoder():
    """With Adam, to which half the loss would be all the same."""
    learner = dataclasses.replace(LEARNERS["separate"], adapt_updates=1)
    state = updated(learner, begun(learner, KEY))

    def step(weight: float):
        told = dataclasses.replace(learner, weight=jnp.asarray(weight))
        after = updated(told, state).networks.target_encoder
        return jax.tree.leaves(after)[0] - jax.tree.leaves(state.networks.target_encoder)[0]

    np.testing.assert_allclose(step(0.5), 0.5 * step(1.0), rtol=1e-2, atol=1e-6)
    np.testing.assert_array_equal(step(0.0), jnp.zeros_like(step(0.0)))


def test_reverse_validation_sees_nonsense_without_a_label_of_the_target(states):
    """The second training learns the source back from sensible guesses, and not from those of a network
    that has learned nothing."""
    learner = LEARNERS["shared"]

    @eqx.filter_jit
    def judged(states):
        keys = jax.random.split(KEY, SEEDS)
        return jax.vmap(lambda s, k: reverse_validation(learner, PROBLEM, s, 500, k))(states, keys)

    fresh = jax.jit(jax.vmap(lambda k: learner.init(PROBLEM, k)))(jax.random.split(KEY, SEEDS))
    assert float(jnp.mean(judged(states["shared"]))) > float(jnp.mean(judged(fresh))) + 0.1


def test_images_are_seen_by_convolutions():
    """In both forms every kernel learns; and what is no image is refused."""
    problem = SupervisedProblem(Glyphs(ways=2), Glyphs(ways=2))
    for learner in (
        DANNSupervised(channels=(2, 3), features=4, batch_size=4, examples=8, adapt_updates=1),
        DANNSupervised(
            channels=(2, 3), features=4, batch_size=4, examples=8, adapt_updates=1, form="separate"
        ),
    ):
        first = jax.jit(lambda learner=learner: learner.init(problem, KEY))()
        state = jax.jit(
            lambda s, learner=learner: jax.lax.fori_loop(
                0, 3, lambda _, s: learner.update(problem, s)[0], s
            )
        )(first)
        own = first.networks.target_encoder, state.networks.target_encoder
        shared = first.networks.encoder, state.networks.encoder
        old, new = own if learner.form == "separate" else shared
        assert [k.shape for k in new.images.kernels] == [(3, 3, 1, 2), (3, 3, 2, 3)]
        assert all(
            (a != b).any() for a, b in zip(old.images.kernels, new.images.kernels, strict=True)
        )
    with pytest.raises(UserError, match="channels are of images, and 'moons' has none"):
        DANNSupervised(channels=(2,)).init(PROBLEM, KEY)


def test_moons_by_hand():
    x, y = Moons(noise=0.0).data(KEY, {"angle": jnp.float32(0)}, 400)
    back = np.asarray(x) / 2 + [0.5, 0.25]
    upper = np.asarray(y)[:, 0] == 1
    np.testing.assert_allclose(np.linalg.norm(back[upper], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(back[~upper] - [1, 0.5], axis=1), 1, atol=1e-5)
    assert (back[upper][:, 1] >= -1e-6).all() and upper.mean() == 0.5
    shares = [
        np.asarray(Moons(lower_share=s).data(KEY, {"angle": jnp.float32(0)}, 400).y)[:, 1].mean()
        for s in (0.9, 0.0)
    ]
    np.testing.assert_allclose(shares, [0.9, 0.0], atol=1e-6)
    turned = Moons(noise=0.0).data(KEY, {"angle": jnp.float32(90)}, 400).x
    np.testing.assert_allclose(turned[:, 0], -x[:, 1], atol=1e-5)
    np.testing.assert_allclose(turned[:, 1], x[:, 0], atol=1e-5)


def test_a_burst_of_the_domains_loss_does_not_become_a_burst_of_steps():
    learner = dataclasses.replace(LEARNERS["shared"], max_gradient_norm=5.0)
    transform, start = learner.transform(), {"f": jnp.zeros(2)}
    for gradient, expected in (([3.0, 1.0], [3.0, 1.0]), ([300.0, 400.0], [3.0, 4.0])):
        found = transform.update({"f": jnp.asarray(gradient)}, transform.init(start))[0]
        np.testing.assert_allclose(found["f"], expected, rtol=1e-5)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="form must be one of shared, separate"):
        DANNSupervised(form="both")  # pyright: ignore
    with pytest.raises(UserError, match="lower_share must be in"):
        Moons(lower_share=1.5)
    with pytest.raises(UserError, match="channels must be at least 1"):
        DANNSupervised(channels=(4, 0))
    with pytest.raises(UserError, match="examples must be at least 1"):
        DANNSupervised(examples=0)
