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
of any method that packs its lanes (`ppo`, `sac`): its experience of the source, with other rewards. The
paper's baseline, importance weighting, is beside it (`apply_to`): rewards as they are, and each step of the
source counts by exp(Δr) = p_target/p_source.
"""

import dataclasses
import inspect
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

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
from ..naming import make_named
from ..rl.fitting import descend, require_positive
from ..rl.inheriting import inherit_parts
from ..rl.normalize import Normalizer
from ..rl.policy import flatten, is_image, observation_size
from ..rl.replay import Replay, Row
from ..rl.visits import Schedule, Visit, Visits, begin_visits, visit
from .classifiers import Classifiers, Step, classifier_inputs, classifier_loss, miscalibration

Correction = Literal["dynamics", "transition", "state-action"]
ApplyTo = Literal["reward", "weight"]
SATURATED = 10.0
"""Nats beyond which Δr says that a classifier is certain, and no longer how much likelier a step is: by
then one domain has been seen to do a thing 20,000 times as often as the other."""


class Both(NamedTuple):
    """The experience of one update."""

    source: Any
    """What the learner collected."""
    target: Visit | None
    """What was seen of the target; `None` where it is a file."""


class DARCState(eqx.Module):
    """Everything that DARC knows."""

    learner: State
    """The state of the learner in the source."""
    visits: Visits | None
    """Worlds of the target in the middle of being played, and what was spent there; `None` where
    the target is a file."""
    classifiers: Classifiers
    optimizer: optax.OptState
    normalizer: Normalizer
    """The normalizer of what the classifiers see."""
    source_steps: Replay
    target_steps: Replay | None
    collected: Int[Array, ""]
    """Steps taken in the source."""
    key: PRNGKeyArray


class DARC(AbstractLearner):
    """A learner in the source that is paid less for steps which the target could not take; it needs
    a target and a budget."""

    name: ClassVar[str] = "darc"

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """The method that learns in the source, ppo, (as in the paper) sac, td3 or dqn, with
    hyper-parameters other than their defaults after it (`sac num_envs=8 hidden=64,64`); in Python, a learner."""
    correction: Correction = eqx.field(static=True, default="dynamics")
    """Δr by both classifiers (dynamics); or, as ablations, by the one on (s, a, s′) without taking
    away the (s, a) term (transition), or by the one on (s, a) alone (state-action)."""
    apply_to: ApplyTo = eqx.field(static=True, default="reward")
    """What Δr changes: what a step earns (reward, DARC); or how much it counts in learning (weight: the
    paper's baseline, importance weighting by exp(Δr)), which ppo and trpo can."""
    source_to_target: int = eqx.field(static=True, default=10)
    """Steps in the source for each in the target."""
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
        if self.apply_to not in get_args(ApplyTo):
            known = " or ".join(get_args(ApplyTo))
            raise UserError(f"apply_to must be {known}, not {self.apply_to!r}")
        inner = self.inner
        if self.apply_to == "weight" and "weight" not in _options(inner):
            raise UserError(
                f"'{inner.name}' cannot weight its steps; with apply_to weight, take ppo or trpo as learner"
            )

    @property
    def inner(self) -> Any:
        """The learner in the source."""
        named = isinstance(self.learner, str)
        return _in_lanes(make_named("methods", self.learner) if named else self.learner)

    def schedule(self, problem: Problem) -> Schedule:
        """Return when the target is visited, and for how long."""
        inner = self.inner
        return Schedule.of(
            self.steps_per_update(problem),
            self.source_to_target,
            inner.num_envs,
            inner.rollout_length,
        )

    def init(self, problem: Problem, key: PRNGKeyArray) -> DARCState:
        space = problem.source.observation_space
        if is_image(space):
            raise UserError(f"'darc' cannot look at images, and '{problem.source.name}' shows them")
        learner_key, target_key, classifier_key, key = jax.random.split(key, 4)
        classifiers = Classifiers.of(problem, self.classifier_hidden, key=classifier_key)
        actions = problem.source.action_space
        row = Step(*(_zero(s) for s in (space, actions, space)))
        source = self.steps_per_update(problem)
        learner = self.inner.init(problem, learner_key)
        visits = target_steps = None
        if problem.logged is None:
            schedule = self.schedule(problem)
            explorer = self.inner.explorer(problem, learner)
            visits = begin_visits(explorer, problem, schedule, target_key)
            target_steps = Replay.of(row, -(-self.capacity // schedule.steps) * schedule.steps)
        else:
            problem.logged.require("actions", "next_observations", by=self.name)
        return DARCState(
            learner=learner,
            visits=visits,
            classifiers=classifiers,
            optimizer=optax.scale_by_adam().init(classifiers),  # pyright: ignore
            normalizer=Normalizer.of(observation_size(space)),
            source_steps=Replay.of(row, -(-self.capacity // source) * source),
            target_steps=target_steps,
            collected=jnp.zeros((), jnp.int32),
            key=key,
        )

    def collect(self, problem: Problem, state: DARCState) -> tuple[DARCState, Both]:
        key, visit_key = jax.random.split(state.key)
        visits, target = state.visits, None
        if visits is not None:
            explorer = self.inner.explorer(problem, state.learner)
            visits, target = visit(
                explorer, problem, visits, self.schedule(problem), state.collected, visit_key
            )
        learner, source = self.inner.collect(problem, state.learner)
        state = dataclasses.replace(state, learner=learner, visits=visits, key=key)
        return state, Both(source, target)

    def learn(
        self, problem: Problem, state: DARCState, experience: Both
    ) -> tuple[DARCState, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        space = problem.source.observation_space
        source, told = _steps(experience.source.transitions), {}
        normalizer, target_steps = state.normalizer.update(flatten(space, source.obs)), None
        if experience.target is not None:
            target, taken = _steps(experience.target.transitions), experience.target.taken
            weight = jnp.broadcast_to(taken, target.obs.shape[:1])
            normalizer = normalizer.update(flatten(space, target.obs), weight)
            target_steps = lax.cond(
                taken, lambda held: held.add(target), lambda held: held, state.target_steps
            )
            told = {"return/target": experience.target.mean_return}
        state = dataclasses.replace(
            state,
            normalizer=normalizer,
            source_steps=state.source_steps.add(source),
            target_steps=target_steps,
            collected=state.collected + self.steps_per_update(problem),
            key=key,
        )
        state, classified = self._classify(problem, state, fit_key)

        correct = jnp.where(state.collected > self.warm_up_steps, 1.0, 0.0)

        def reward(steps: Row | Transition) -> Float[Array, "..."]:
            """r + Δr."""
            correction = self.correct(problem, state, steps.obs, steps.action, steps.next_obs)
            return steps.reward + correct * correction

        def counts(steps: Transition) -> Float[Array, "..."]:
            """exp(Δr) over its mean; padding has none."""
            correction = self.correct(problem, state, steps.obs, steps.action, steps.next_obs)
            return importance_weights(correct * correction, steps.valid)

        # A replay outlives many classifiers: Δr is that of those at hand when a step is drawn.
        changed = {"reward": reward} if self.apply_to == "reward" else {"weight": counts}
        learner, metrics = self.inner.learn(problem, state.learner, experience.source, **changed)
        correction = self.correct(problem, state, *source)
        metrics = {
            **metrics,
            **told,
            **diagnosed(correction),
            "target_steps": self._spent(problem, state),
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
            state.source_steps.steps(source_key, shape),
            self._of_target(problem, state, target_key, shape),
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
        # Without noise, as Δr is made: by the steps of the last batch.
        last = classifiers(pair[-1], next_inputs[-1])
        for name, log_odds in zip(("state_action", "transition"), last, strict=True):
            classified[f"miscalibration/{name}"] = miscalibration(log_odds, is_target)
        return state, jax.tree.map(jnp.mean, classified)

    def _of_target(
        self, problem: Problem, state: DARCState, key: PRNGKeyArray, shape: tuple[int, ...]
    ) -> Step:
        """Steps of the target, drawn uniformly from those that were taken, or from the file."""
        if state.target_steps is not None:
            return state.target_steps.steps(key, shape)
        assert problem.logged is not None
        return Step(
            *problem.logged.draw(key, shape, "observations", "actions", "next_observations")
        )

    def _spent(self, problem: Problem, state: DARCState) -> Array:
        """Steps of the target that are known."""
        if state.visits is not None:
            return state.visits.spent
        assert problem.logged is not None
        return jnp.asarray(problem.logged.rows)

    def correct(
        self, problem: Problem, state: DARCState, obs: Obs, action: Action, next_obs: Obs
    ) -> Float[Array, "..."]:
        """Return Δr of steps, with any leading dimensions; the action is in an agent's units.

        It has no lower bound: where the target cannot take such a step at all, Δr goes on falling
        for as long as the classifiers learn.
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
        if self.correction == "dynamics":
            return whole - state_action
        return whole if self.correction == "transition" else state_action

    def agent(self, problem: Problem, state: DARCState) -> AbstractAgent:
        return self.inner.agent(problem, state.learner)

    def inherit(
        self, problem: Problem, state: DARCState, donor: AbstractLearner, found: State
    ) -> tuple[DARCState, list[str]]:
        """Take over what the learner in the source inherits; from another DARC, the classifiers
        too."""
        learner, left = self.inner.inherit(problem, state.learner, donor, found)
        state = dataclasses.replace(state, learner=learner)
        if isinstance(found, DARCState):
            parts, missing = inherit_parts(state, found, "classifiers", "normalizer")
            state, left = dataclasses.replace(state, **parts), left + missing
        return state, left

    @property
    def learns_until(self) -> int | None:
        """As the inner learner's."""
        return self.inner.learns_until

    def steps_per_update(self, problem: Problem) -> int:
        return self.inner.steps_per_update(problem)

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        if problem.logged is not None:
            return 0
        return self.schedule(problem).total(updates)


def importance_weights(
    log_ratio: Float[Array, "..."], valid: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """Return the ratios p_target/p_source of some steps over their mean, and 0 where a step is not
    `valid`: self-normalized, so that a constant in the log-ratio changes nothing and none
    overflows."""
    share = jax.nn.softmax(log_ratio, axis=None, where=valid)
    return jnp.sum(valid) * share


def diagnosed(correction: Float[Array, "..."]) -> dict[str, Float[Array, ""]]:
    """Summarize Δr of some steps in a few numbers: quantiles, and how much of it lies beyond 1, 3
    and 10 nats; when to trust it is on DARC's page."""
    size = jnp.abs(correction)
    low, middle, high = jnp.quantile(correction, jnp.asarray([0.05, 0.5, 0.95]))
    return {
        "correction": jnp.mean(correction),
        "correction/lowest": jnp.min(correction),
        "correction/5%": low,
        "correction/50%": middle,
        "correction/95%": high,
        "correction/beyond_1": jnp.mean(size > 1.0),
        "correction/beyond_3": jnp.mean(size > 3.0),
        "correction/saturated": jnp.mean(size > SATURATED),
    }


def correction_table(
    learner: DARC, problem: Problem, state: DARCState
) -> Float[Array, "states actions states"]:
    """Return Δr of every (s, a, s′) of a problem with discrete observations and actions."""
    states, actions = problem.source.observation_space, problem.source.action_space
    if not (isinstance(states, Discrete) and isinstance(actions, Discrete)):
        raise UserError(f"'{problem.source.name}' is not tabular: Δr has no table")
    s, a, after = jnp.meshgrid(*map(jnp.arange, (states.n, actions.n, states.n)), indexing="ij")
    return learner.correct(problem, state, s, a, after)


def _steps(transitions: Transition) -> Step:
    """`[time, lanes, …]` in one row, without what the classifiers do not see."""
    steps = Step(transitions.obs, transitions.action, transitions.next_obs)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)


def _zero(space: Space) -> Array:
    return jnp.zeros(space.shape, space.dtype)


def _in_lanes(learner: Any) -> Any:
    """The learner, if its experience is packed lanes and its rewards can be said anew."""
    if not isinstance(learner, AbstractLearner):
        raise UserError(
            f"the learner in the source must be a method's name or a learner, not {learner!r}"
        )
    fields = {field.name for field in dataclasses.fields(learner)}
    if not {"num_envs", "rollout_length"} <= fields or "reward" not in _options(learner):
        raise UserError(
            f"'{learner.name}' cannot learn in the source of 'darc'; 'ppo' and 'sac' can"
        )
    return learner


def _options(learner: AbstractLearner) -> set[str]:
    """What can be handed to how it learns."""
    return set(inspect.signature(type(learner).learn).parameters)
