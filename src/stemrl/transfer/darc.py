"""Domain adaptation with rewards from classifiers, DARC (Eysenbach et al. 2021, 2006.13916).

The problem: the target is dear, the source is cheap, and things happen in the source that cannot
happen in the target. The idea: learn in the source, but pay for each step what it says of the
target, so that behaviour which gives the source away is worth little (§4, eq. 3):

    r̃(s, a, s′) = r(s, a) + Δr(s, a, s′),   Δr = log p_target(s′|s, a) − log p_source(s′|s, a)

No model of either is needed. By Bayes' rule two classifiers of where a step was taken will do, the
second to cancel how much oftener (s, a) itself is met in one of the two:

    Δr = log q(target|s, a, s′) − log q(source|s, a, s′)
         − log q(target|s, a) + log q(source|s, a)

They are trained on the steps of both, a few of the target for many of the source. Learning is that
of any method that packs its lanes (`ppo`, `sac`): its experience of the source, with other rewards.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .. import registry
from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Discrete,
    Obs,
    Problem,
    Space,
    State,
    Transition,
    UserError,
)
from ..rl.fitting import descend, require_positive
from ..rl.normalize import Normalizer
from ..rl.policy import flatten, is_image, observation_size
from ..rl.replay import Replay, Row
from ..rl.rollout import Rollout, RolloutState, begin_rollout
from ..rl.sac import SAC
from ..settings import read, settings_of
from .classifiers import Classifiers, Step, classifier_inputs, classifier_loss

Correction = Literal["dynamics", "state-action"]


class Both(NamedTuple):
    """Experience of an update."""

    source: Any
    """What the learner collected."""
    target: Rollout
    within: Bool[Array, ""]
    """Whether the budget allowed for the steps in the target; otherwise none were taken."""


class DARCState(eqx.Module):
    """Everything that DARC knows."""

    learner: State
    """Of the learner in the source."""
    target_rollout: RolloutState
    """Worlds under way in the target."""
    classifiers: Classifiers
    optimizer: optax.OptState
    normalizer: Normalizer
    """Of what the classifiers see."""
    source_steps: Replay
    target_steps: Replay
    collected: Int[Array, ""]
    """Steps taken in the source."""
    spent: Int[Array, ""]
    """Steps taken in the target, of the problem's budget."""
    key: PRNGKeyArray


class DARC(AbstractLearner):
    """Learn in the source, paid for what the target could do too; needs a target and a budget."""

    name: ClassVar[str] = "darc"

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """The method that learns in the source, ppo or (as in the paper) sac; in Python, a learner."""
    learner_settings: str = eqx.field(static=True, default="")
    """Its hyper-parameters other than their defaults, such as 'num_envs=8 hidden=64,64'."""
    correction: Correction = eqx.field(static=True, default="dynamics")
    """Δr by both classifiers (dynamics), or as an ablation by the one on (s, a) alone
    (state-action)."""
    source_to_target: int = eqx.field(static=True, default=10)
    """Steps in the source for each in the target, at least."""
    warm_up_steps: int = eqx.field(static=True, default=10_000)
    """Steps in the source before rewards are corrected; the classifiers already learn."""
    classifier_hidden: tuple[int, ...] = eqx.field(static=True, default=(32,))
    """Hidden layers of each classifier (ReLU)."""
    classifier_learning_rate: float = 3e-4
    """Adam's step size for the classifiers."""
    classifier_gradient_steps: int = eqx.field(static=True, default=64)
    """Gradient steps of the classifiers an update."""
    classifier_batch_size: int = eqx.field(static=True, default=256)
    """Steps in each of them, half from the source and half from the target."""
    classifier_noise: float = 1.0
    """Standard deviation of the noise on the classifiers' inputs, in training only."""
    capacity: int = eqx.field(static=True, default=300_000)
    """Steps of each domain that the classifiers learn from, the latest; rounded up to whole
    updates."""

    def __check_init__(self):
        require_positive(self, "source_to_target", "classifier_gradient_steps", "capacity")
        if self.classifier_batch_size < 2:
            raise UserError(
                f"classifier_batch_size must be at least 2, not {self.classifier_batch_size}"
            )
        if self.correction not in get_args(Correction):
            known = ", ".join(get_args(Correction))
            raise UserError(f"correction must be one of {known}, not {self.correction!r}")
        if self.inner.rollout_length < self.source_to_target:
            raise UserError(
                f"with {self.inner.rollout_length} steps an environment in an update there is less than"
                f" one in the target at source_to_target {self.source_to_target};"
                " raise rollout_length in learner_settings"
            )

    @property
    def inner(self) -> Any:
        """The learner in the source."""
        if isinstance(self.learner, str):
            return _made(self.learner, self.learner_settings)
        return _with_lanes(self.learner)

    @property
    def in_target(self) -> Any:
        """The same learner as it collects in the target: as many lanes, fewer steps."""
        steps = self.inner.rollout_length // self.source_to_target
        learns = {f.name for f in dataclasses.fields(self.inner)} & {"minibatches"}
        # It does not learn there, so there need be nothing to divide.
        return dataclasses.replace(self.inner, rollout_length=steps, **dict.fromkeys(learns, 1))

    def init(self, problem: Problem, key: PRNGKeyArray) -> DARCState:
        space = problem.source.observation_space
        if is_image(space):
            raise UserError(f"'darc' cannot look at images, and '{problem.source.name}' shows them")
        if problem.budget < self.target_steps(problem):
            named = problem.source.identity != problem.target.identity
            raise UserError(
                f"'darc' takes {self.target_steps(problem)} steps in the target each update and the"
                f" budget is {problem.budget}; {'' if named else 'name a target and '}give --budget"
                f" (about steps / {self.source_to_target})"
            )
        learner_key, target_key, classifier_key, key = jax.random.split(key, 4)
        classifiers = Classifiers.of(problem, self.classifier_hidden, key=classifier_key)
        actions = problem.source.action_space
        row = Step(*(_zero(s) for s in (space, actions, space)))
        source, target = self.steps_per_update(problem), self.target_steps(problem)
        learner = self.inner.init(problem, learner_key)
        agent = self.inner.agent(problem, learner)
        return DARCState(
            learner=learner,
            target_rollout=begin_rollout(
                agent, problem, problem.target, target_key, self.inner.num_envs
            ),
            classifiers=classifiers,
            optimizer=optax.scale_by_adam().init(classifiers),  # pyright: ignore
            normalizer=Normalizer.of(observation_size(space)),
            source_steps=Replay.of(row, -(-self.capacity // source) * source),
            target_steps=Replay.of(row, -(-self.capacity // target) * target),
            collected=jnp.zeros((), jnp.int32),
            spent=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: DARCState) -> tuple[DARCState, Both]:
        learner, source = self.inner.collect(problem, state.learner)

        # The target is where the same learner would collect if that were its source.
        def visit(
            rollout_state: RolloutState, key: PRNGKeyArray
        ) -> tuple[RolloutState, PRNGKeyArray, Rollout]:
            there = eqx.tree_at(lambda s: (s.rollout_state, s.key), learner, (rollout_state, key))
            there, experience = self.in_target.collect(_swapped(problem), there)
            return there.rollout_state, there.key, experience

        def stay(
            rollout_state: RolloutState, key: PRNGKeyArray
        ) -> tuple[RolloutState, PRNGKeyArray, Rollout]:
            shapes = jax.eval_shape(visit, rollout_state, key)[2]
            return rollout_state, key, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        within = state.spent + self.target_steps(problem) <= problem.budget
        if problem.target.stepping == "host":
            if not within:
                raise UserError(f"the budget of {problem.budget} steps in the target is spent")
            rollout_state, key, target = visit(state.target_rollout, learner.key)
        else:
            rollout_state, key, target = lax.cond(
                within, visit, stay, state.target_rollout, learner.key
            )
        learner = eqx.tree_at(lambda s: s.key, learner, key)
        state = eqx.tree_at(
            lambda s: (s.learner, s.target_rollout), state, (learner, rollout_state)
        )
        return state, Both(source, target, within)

    def learn(
        self, problem: Problem, state: DARCState, experience: Both
    ) -> tuple[DARCState, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        space = problem.source.observation_space
        source, target = (_steps(e.transitions) for e in (experience.source, experience.target))
        source_steps = state.source_steps.add(source)
        target_steps = lax.cond(
            experience.within,
            lambda replay: replay.add(target),
            lambda replay: replay,
            state.target_steps,
        )
        weight = jnp.broadcast_to(experience.within, (_count(target),))
        normalizer = state.normalizer.update(flatten(space, source.obs))
        normalizer = normalizer.update(flatten(space, target.obs), weight)
        state = dataclasses.replace(
            state,
            normalizer=normalizer,
            source_steps=source_steps,
            target_steps=target_steps,
            collected=state.collected + self.steps_per_update(problem),
            spent=state.spent + jnp.where(experience.within, self.target_steps(problem), 0),
            key=key,
        )
        state, classified = self._classify(problem, state, fit_key)

        correct = jnp.where(state.collected > self.warm_up_steps, 1.0, 0.0)

        def reward(steps: Row | Transition) -> Float[Array, "..."]:
            """r + Δr."""
            correction = self.correct(problem, state, steps.obs, steps.action, steps.next_obs)
            return steps.reward + correct * correction

        if isinstance(self.inner, SAC):
            # A replay outlives many classifiers: Δr is that of those at hand when a step is drawn.
            learner, metrics = self.inner.learn(problem, state.learner, experience.source, reward)
        else:
            steps = experience.source.transitions
            paid = experience.source._replace(transitions=steps._replace(reward=reward(steps)))
            learner, metrics = self.inner.learn(problem, state.learner, paid)
        correction = self.correct(problem, state, *source)
        metrics = {
            **metrics,
            "return/target": experience.target.mean_return(),
            "correction": jnp.mean(correction),
            "correction/lowest": jnp.min(correction),
            "target_steps": state.spent,
            **classified,
        }
        return eqx.tree_at(lambda s: s.learner, state, learner), metrics

    def _classify(
        self, problem: Problem, state: DARCState, key: PRNGKeyArray
    ) -> tuple[DARCState, dict[str, Array]]:
        """Gradient steps of the classifiers on steps of both domains, as many of each."""
        source_key, target_key, noise_key = jax.random.split(key, 3)
        shape = (self.classifier_gradient_steps, self.classifier_batch_size // 2)
        drawn = (
            state.source_steps.sample(source_key, shape),
            state.target_steps.sample(target_key, shape),
        )
        pair, next_inputs = classifier_inputs(
            problem.source.observation_space,
            problem.source.action_space,
            state.normalizer,
            *jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *drawn),
        )
        is_target = jnp.arange(2 * shape[1]) >= shape[1]

        def step(carry: tuple, batch: tuple[Array, Array, PRNGKeyArray]):
            classifiers, optimizer_state = carry
            *inputs, key = batch
            (_, classified), gradient = jax.value_and_grad(classifier_loss, has_aux=True)(
                classifiers, *inputs, is_target, self.classifier_noise, key
            )
            stepped = descend(
                optax.scale_by_adam(),
                gradient,
                optimizer_state,
                classifiers,
                self.classifier_learning_rate,
            )
            return stepped, classified

        (classifiers, optimizer_state), classified = lax.scan(
            step,
            (state.classifiers, state.optimizer),
            (pair, next_inputs, jax.random.split(noise_key, shape[0])),
        )
        state = dataclasses.replace(state, classifiers=classifiers, optimizer=optimizer_state)
        return state, jax.tree.map(jnp.mean, classified)

    def correct(
        self, problem: Problem, state: DARCState, obs: Obs, action: Action, next_obs: Obs
    ) -> Float[Array, "..."]:
        """Δr of steps, with any leading dimensions; the action is in an agent's units.

        Not bounded: where the target can do nothing of the kind, it falls as long as one learns.
        """
        pair, next_inputs = classifier_inputs(
            problem.source.observation_space,
            problem.source.action_space,
            state.normalizer,
            obs,
            action,
            next_obs,
        )
        # log q(target|·) − log q(source|·) is the log-odds itself.
        state_action, whole = state.classifiers(pair, next_inputs)
        return whole - state_action if self.correction == "dynamics" else state_action

    def agent(self, problem: Problem, state: DARCState) -> AbstractAgent:
        return self.inner.agent(problem, state.learner)

    def steps_per_update(self, problem: Problem) -> int:
        return self.inner.steps_per_update(problem)

    def target_steps(self, problem: Problem) -> int:
        return self.in_target.steps_per_update(_swapped(problem))


def correction_table(
    learner: DARC, problem: Problem, state: DARCState
) -> Float[Array, "states actions states"]:
    """Δr of every (s, a, s′) of a problem with discrete observations and actions."""
    states, actions = problem.source.observation_space, problem.source.action_space
    if not (isinstance(states, Discrete) and isinstance(actions, Discrete)):
        raise UserError(f"'{problem.source.name}' is not tabular: Δr has no table")
    s, a, after = jnp.meshgrid(*map(jnp.arange, (states.n, actions.n, states.n)), indexing="ij")
    return learner.correct(problem, state, s, a, after)


def _steps(transitions: Transition) -> Step:
    """`[time, lanes, …]` in one row, without what the classifiers do not see."""
    steps = Step(transitions.obs, transitions.action, transitions.next_obs)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)


def _count(steps: Step) -> int:
    return steps.obs.shape[0]


def _zero(space: Space) -> Array:
    return jnp.zeros(space.shape, space.dtype)


def _swapped(problem: Problem) -> Problem:
    """The target as the source."""
    return Problem(problem.target, problem.target, 0, problem.reveal)


@functools.cache
def _made(name: str, settings: str) -> Any:
    """A learner by name and its settings as one types them."""
    kinds = {s.name: s.kind for s in settings_of(registry.find("methods", name).path)}
    given = {}
    for word in settings.split():
        field, equals, value = word.partition("=")
        field = field.replace("-", "_")
        if not equals or field not in kinds:
            raise UserError(f"learner_settings: '{word}' is not setting=value of '{name}'")
        taken = read(value, kinds[field])
        given[field] = tuple(taken) if isinstance(taken, list) else taken
    try:
        return _with_lanes(registry.make("methods", name, **given))
    except TypeError:
        raise UserError(f"learner_settings: '{settings}' has a value of the wrong kind") from None


def _with_lanes(learner: AbstractLearner) -> Any:
    """The learner, if it is one whose experience is packed lanes."""
    fields = {field.name for field in dataclasses.fields(learner)}
    if not {"num_envs", "rollout_length"} <= fields or isinstance(learner, DARC):
        raise UserError(
            f"'{learner.name}' cannot learn in the source of 'darc'; 'ppo' and 'sac' can"
        )
    return learner
