"""Spaces entry by entry: what is sent is inside its bounds, and what is seen is one array of numbers."""

from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from jaxtyping import Array, PRNGKeyArray

from probes import AbstractProbe
from stemrl.core import (
    Box,
    Dict,
    Discrete,
    MultiDiscrete,
    Params,
    Problem,
    Tuple,
    UserError,
    as_seen,
    check_family,
    clip_action,
    flatten,
    observation_size,
    scale_action,
    see,
    unscale_action,
)
from stemrl.evaluation import evaluate
from stemrl.optimal import reference_agent
from stemrl.rl import PPO, SAC, play
from stemrl.rl.distributions import Categorical, MultiCategorical, outputs_for
from stemrl.tasks import AbstractGymnasiumFamily
from stemrl.tasks.gymnasium import as_taken

INF = float("inf")


def test_each_entry_is_scaled_by_its_own_bounds():
    space = Box((5,), (-INF, 0.0, -3.0, -INF, 0.0), (INF, INF, 0.9, 5.0, 90.0))
    sent = unscale_action(space, jnp.asarray([[-2.0] * 5, [0.0] * 5, [1.0] * 5, [2.0] * 5]))
    expected = [
        [-2.0, 0.0, -3.0, 2.0, 0.0],
        [0.0, 1.0, -1.05, 4.0, 45.0],
        [1.0, 2.0, 0.9, 5.0, 90.0],
        [2.0, 3.0, 0.9, 5.0, 90.0],
    ]
    np.testing.assert_allclose(sent, expected, rtol=1e-6)
    inside = jnp.linspace(-0.9, 0.9, 5)
    np.testing.assert_allclose(
        scale_action(space, unscale_action(space, inside)), inside, atol=1e-6
    )
    clipped = clip_action(space, jnp.full(5, 7.0))
    np.testing.assert_array_equal(clipped, [7.0, 7.0, 1.0, 1.0, 1.0])


def test_no_rounding_error_oversteps_a_declared_bound():
    steps = np.arange(-30, 30) / 10
    low, high = (bound[np.triu_indices(len(steps), 1)] for bound in np.meshgrid(steps, steps)[::-1])
    space = Box(low.shape, tuple(low.tolist()), tuple(high.tolist()))
    sent = jax.vmap(lambda a: unscale_action(space, a))(
        jnp.outer(jnp.asarray([-5.0, -1, 1, 5]), jnp.ones(len(low)))
    )
    assert (np.asarray(sent, float) >= low).all() and (np.asarray(sent, float) <= high).all()


def test_a_float_image_is_read_as_its_bytes_are():
    image = jax.random.randint(jax.random.key(0), (4, 4, 1), 0, 256).astype(jnp.uint8)
    as_bytes = flatten(Box((4, 4, 1), 0, 255, "uint8"), image)
    assert as_bytes.dtype == jnp.uint8
    for space, same in (
        (Box((4, 4, 1), 0.0, 1.0), image / 255.0),
        (Box((4, 4, 1), -1.0, 1.0), image / 127.5 - 1.0),
        (Box((4, 4, 1)), image / 255.0),
    ):
        np.testing.assert_allclose(flatten(space, same), as_bytes, atol=1e-4)


def test_several_choices_are_a_product_of_categoricals():
    space = MultiDiscrete((2, 3, 1))
    logits = jnp.asarray([0.1, 0.5, 1.0, 2.0, 3.0, 7.0])
    whole, parts = (
        MultiCategorical(logits, space),
        [Categorical(logits[a:b]) for a, b in ((0, 2), (2, 5), (5, 6))],
    )
    other = MultiCategorical(-logits, space)
    others = [Categorical(-part.logits) for part in parts]
    action = jnp.asarray([1, 0, 0])
    np.testing.assert_allclose(
        [whole.log_prob(action), whole.entropy(), whole.kl(other)],
        [
            sum(part.log_prob(a) for part, a in zip(parts, action, strict=True)),
            sum(part.entropy() for part in parts),
            sum(one.kl(two) for one, two in zip(parts, others, strict=True)),
        ],
        rtol=1e-5,
    )
    assert whole.mode().tolist() == [1, 2, 0]
    drawn = jax.vmap(whole.sample)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(
        flatten(space, drawn).mean(0), jnp.concatenate([jax.nn.softmax(p.logits) for p in parts]), atol=0.05
    )  # fmt: skip
    gradient = jax.grad(lambda x: MultiCategorical(x, space).entropy())(logits)
    assert np.isfinite(gradient).all()
    assert outputs_for(space) == observation_size(space) == 6


def test_what_agents_see_of_several_spaces():
    space = Dict(
        {"b": Discrete(3, 5), "a": Tuple((Box((2,), -1, 4), MultiDiscrete((2, 2), (1, 1))))}
    )
    seen = as_seen(space)
    assert seen == Box((9,), (-1.0, -1.0, *[0.0] * 7), (4.0, 4.0, *[1.0] * 7))
    obs = {"b": jnp.asarray(6), "a": (jnp.asarray([2.0, 3.0]), jnp.asarray([2, 1]))}
    assert see(space, obs).tolist() == [2, 3, 0, 1, 1, 0, 0, 1, 0]
    assert as_seen(Discrete(3, 5)) == Discrete(3) and see(Discrete(3, 5), jnp.asarray(7)) == 2
    assert unscale_action(Discrete(3, 5), jnp.asarray(2)) == 7
    assert unscale_action(MultiDiscrete((2, 2), (1, 0)), jnp.asarray([1, 1])).tolist() == [2, 1]
    with pytest.raises(UserError, match="as one vector"):
        outputs_for(Box((2, 3)))


class Echo(AbstractProbe):
    """Optimum 2: repeat the two whole numbers that are seen, of 2 and 3, counted from 1 and from −1."""

    name: ClassVar[str] = "echo"
    observations: ClassVar[Any] = Dict(
        {"numbers": MultiDiscrete((2, 3), (1, -1)), "noise": Box((1,), 0.0, 1.0)}
    )
    actions: ClassVar[Any] = MultiDiscrete((2, 3), (1, -1))
    horizon: int = eqx.field(static=True, default=1)

    def first(self, key: PRNGKeyArray, params: Params) -> Any:
        return self.actions.sample(key)

    def see(self, state: Array) -> Any:
        return {"numbers": state, "noise": jnp.full(1, 0.5)}

    def move(self, key: PRNGKeyArray, state: Any, action: Array, params: Params) -> Any:
        return state, jnp.sum(action == state), True


def test_a_family_in_jax_may_be_observed_in_a_dictionary_and_take_several_choices():
    problem = Problem.of(Echo())
    check_family(problem.source)
    learner = PPO(
        num_envs=64, rollout_length=4, epochs=2, minibatches=2, learning_rate=0.02, hidden=(16,)
    )
    state = learner.init(problem, jax.random.key(0))
    update = eqx.filter_jit(lambda s: learner.update(problem, s))
    for _ in range(40):
        state, metrics = update(state)
    assert float(metrics["return"]) > 1.7, metrics["return"]  # chance: 0.83
    score = evaluate(learner.agent(problem, state), problem, tasks=50, most_likely=True)
    assert score.scores.mean() > 1.9
    with pytest.raises(UserError, match="several choices"):
        SAC().init(problem, jax.random.key(0))


def test_what_a_dictionary_lacks_is_named():
    class Lacking(Echo):
        def see(self, state: Array) -> Any:
            return {"numbers": state}

    with pytest.raises(UserError, match="dict with numbers, its space says"):
        check_family(Lacking())


class Strict(gymnasium.Env):
    """Refuses actions that are not of its space; observed in a dictionary."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-1.0, 1.0, (2,)),
            "kind": spaces.Discrete(3, start=4),
            "image": spaces.Box(0, 255, (2, 2), np.uint8),
            "pair": spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]))),
        }
    )

    def __init__(self, action_space: Any):
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), 1.0, False, False, {}


ACTIONS = {
    "multi": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "bits": spaces.MultiBinary((2, 3)),
    "start": spaces.Discrete(3, start=-1),
    "odd": spaces.Box(np.float32([-3, 0, -1]), np.float32([0.9, np.inf, 0.7])),
    "matrix": spaces.Box(-0.3, 0.1, (2, 2), np.float64),
    "whole": spaces.Box(-2, 5, (2,), np.int32),
}


class StrictFamily(AbstractGymnasiumFamily):
    name: ClassVar[str] = "strict"
    actions: str = eqx.field(static=True, default="multi")
    horizon: int = eqx.field(static=True, default=5)

    def sample(self, key: PRNGKeyArray, split: Any) -> Params:
        return {"nothing": jnp.zeros(1)}

    def make(self, params: Params) -> Any:
        return Strict(ACTIONS[self.actions])


def test_whole_numbers_share_their_range_evenly():
    """Actions in [−1, 1], as they are sent: cast to an integer, the last would never be taken."""
    space = spaces.Box(np.array([[-1, 0]]), np.array([[1, 2]]), dtype=np.int64)
    known = Box((2,), (-1.0, 0.0), (1.0, 2.0))
    across = np.repeat(np.linspace(-1.0, 1.0, 300)[:, None], 2, axis=1)
    taken = [as_taken(space, np.asarray(unscale_action(known, x))) for x in across]
    assert all(space.contains(one) for one in taken)
    for column, first in enumerate((-1, 0)):
        numbers, often = np.unique([one[0, column] for one in taken], return_counts=True)
        assert numbers.tolist() == [first, first + 1, first + 2] and often.tolist() == [100] * 3


@pytest.mark.parametrize("actions", ACTIONS)
def test_whatever_a_gymnasium_environment_takes_it_is_sent(actions: str):
    family = StrictFamily(actions)
    assert family.observation_space.shape == (2 + 3 + 4 + 4 + 5,)
    agent: Any = reference_agent("random", family)
    params = family.tasks(jax.random.key(0), "test", 3)
    trials = play(agent, family, params, None, jax.random.key(1), 1)
    assert trials.returns.tolist() == [[[5.0]]] * 3
    obs = np.asarray(trials.transitions.obs).reshape(-1, 18)
    assert obs.min() >= -1 and obs.max() > 1  # bytes; parts are sorted by name
    assert (obs[:, 4:7].sum(1) == 1).all() and (obs[:, 11:13].sum(1) == 1).all()


def test_what_gymnasium_has_and_we_do_not_is_said_with_the_right_advice():
    ACTIONS["dict"] = spaces.Dict({"a": spaces.Discrete(2)})
    try:
        with pytest.raises(UserError, match=r"action space Dict.*ActionWrapper"):
            _ = StrictFamily("dict").action_space
    finally:
        del ACTIONS["dict"]
