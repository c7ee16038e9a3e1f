"""Domain adaptation with rewards from classifiers, DARC (Eysenbach et al. 2021, 2006.13916).

The problem: the target is dear, the source is cheap, and things happen in the source that cannot
happen in the target. The idea: learn in the source, but pay for each step what it says of the
target, so that behaviour which gives the source away is worth little (§4, eq. 3):

    r̃(s, a, s′) = r(s, a) + Δr(s, a, s′),   Δr = log p_target(s′|s, a) − log p_source(s′|s, a)

No model of either is needed. By Bayes' rule two classifiers of where a step was taken will do, the
second to cancel how much oftener (s, a) itself is met in one of the two:

    Δr = log q(target|s, a, s′) − log q(source|s, a, s′)
         − log q(target|s, a) + log q(source|s, a)

Here s′ is the whole outcome of a step: what is observed next, and whether the step ended the task
(`classifiers`). They are trained on the steps of both, a few of the target for many of the source. Learning is that
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
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    BudgetUnit,
    Discrete,
    Problem,
    State,
    Transition,
    UserError,
)
from ..naming import make_named
from ..rl.fitting import require_positive
from ..rl.inheriting import inherit_parts
from ..rl.normalize import Normalizer
from ..rl.policy import flatten, is_image, observation_size
from ..rl.replay import Replay, Row
from ..rl.visits import Schedule, Visit, Visits, begin_visits, kept, known_steps, visit
from .classifiers import (
    Classifiers,
    Step,
    classifier_inputs,
    diagnosed,
    fit_classifiers,
    importance_weights,
)

Correction = Literal["dynamics", "transition", "state-action"]
ApplyTo = Literal["reward", "weight"]
RECORDED = ("observations", "actions", "next_observations", "terminations")
"""The columns of a file that a `Step` is made of."""


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
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ("steps",)

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """The method that learns in the source, ppo, (as in the paper) sac, td3 or dqn, with
    hyper-parameters other than their defaults after it (`sac num_envs=8 hidden=64,64`); in Python, a learner."""
    correction: Correction = eqx.field(static=True, default="dynamics")
    """Δr by both classifiers (dynamics); or, as ablations, by the one on (s, a, s′) without taking
    away the (s, a) term (transition), or by the one on (s, a) alone (state-action)."""
    apply_to: ApplyTo = eqx.field(static=True, default="reward")
    """What Δr changes: what a step earns (reward, DARC); or how much it counts in learning (weight: the
    paper's baseline, importance weighting by exp(Δr)), which ppo and trpo can."""
    correction_scale: float = 1.0
    """What Δr is multiplied by where it is added to the reward: a nat in units of reward, above 0 (the authors'
    `delta_r_scale`)."""
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
    """Standard deviation of the noise on the classifiers' inputs, in training only; none is on whether a
    step terminated."""
    capacity: int = eqx.field(static=True, default=300_000)
    """Steps of each domain that the classifiers learn from, the latest; rounded up to whole
    updates."""

    def __check_init__(self):
        require_positive(self, "source_to_target", "classifier_gradient_steps", "capacity")
        scale = self.correction_scale
        if isinstance(scale, (int, float)) and not scale > 0:
            raise UserError(f"correction_scale must be above 0, not {scale:g}")
        if self.apply_to == "weight" and isinstance(scale, (int, float)) and scale != 1:
            raise UserError("correction_scale is of rewards: leave it out with apply_to weight")
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
        if problem.logged is not None:
            problem.logged.require(*RECORDED[1:], by=self.name)
        learner_key, target_key, classifier_key, key = jax.random.split(key, 4)
        classifiers = Classifiers.of(problem, self.classifier_hidden, key=classifier_key)
        row = Step.empty(problem)
        learner = self.inner.init(problem, learner_key)
        visits = target_steps = None
        if problem.logged is None:
            schedule = self.schedule(problem)
            explorer = self.inner.explorer(problem, learner)
            visits = begin_visits(explorer, problem, schedule, target_key)
            target_steps = Replay.of(row, self.capacity, chunk=schedule.steps)
        return DARCState(
            learner=learner,
            visits=visits,
            classifiers=classifiers,
            optimizer=optax.scale_by_adam().init(classifiers),  # pyright: ignore
            normalizer=Normalizer.of(observation_size(space)),
            source_steps=Replay.of(row, self.capacity, chunk=self.steps_per_update(problem)),
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
        source = Step.of(experience.source.transitions)
        state = dataclasses.replace(
            self._remember(problem, state, source, experience.target),
            collected=state.collected + self.steps_per_update(problem),
            key=key,
        )
        state, classified = self._classify(problem, state, fit_key)

        correct = jnp.where(state.collected > self.warm_up_steps, 1.0, 0.0)

        def correction(steps: Row | Transition) -> Float[Array, "..."]:
            """Δr."""
            step = Step(steps.obs, steps.action, steps.next_obs, steps.terminated)
            return self.correct(problem, state, step)

        def reward(steps: Row | Transition) -> Float[Array, "..."]:
            """r + Δr, in units of r."""
            return steps.reward + correct * self.correction_scale * correction(steps)

        def counts(steps: Transition) -> Float[Array, "..."]:
            """exp(Δr) over its mean; padding has none."""
            return importance_weights(correct * correction(steps), steps.valid)

        # A replay outlives many classifiers: Δr is that of those at hand when a step is drawn.
        changed = {"reward": reward} if self.apply_to == "reward" else {"weight": counts}
        learner, metrics = self.inner.learn(problem, state.learner, experience.source, **changed)
        visit = experience.target
        metrics = {
            **metrics,
            **({} if visit is None else {"return/target": visit.mean_return}),
            **diagnosed(self.correct(problem, state, source)),
            "target_steps": known_steps(problem, state.visits),
            **classified,
        }
        return eqx.tree_at(lambda s: s.learner, state, learner), metrics

    def _remember(
        self, problem: Problem, state: DARCState, source: Step, visit: Visit | None
    ) -> DARCState:
        """Store what the classifiers learn from: steps of the source, and of a visit of the target."""
        space = problem.source.observation_space
        normalizer = state.normalizer.update(flatten(space, source.obs))
        target_steps = state.target_steps
        if visit is not None and target_steps is not None:
            target = Step.of(visit.transitions)
            weight = jnp.broadcast_to(visit.taken, target.obs.shape[:1])
            normalizer = normalizer.update(flatten(space, target.obs), weight)
            target_steps = kept(target_steps, visit, target)
        return dataclasses.replace(
            state,
            normalizer=normalizer,
            source_steps=state.source_steps.add(source),
            target_steps=target_steps,
        )

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
        drawn = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *drawn)
        classifiers, optimizer_state, classified = fit_classifiers(
            state.classifiers,
            state.optimizer,
            *self._inputs(problem, state, drawn),
            is_target=jnp.arange(2 * shape[1]) >= shape[1],
            noise=self.classifier_noise,
            learning_rate=self.classifier_learning_rate,
            key=noise_key,
        )
        state = dataclasses.replace(state, classifiers=classifiers, optimizer=optimizer_state)
        return state, classified

    def _of_target(
        self, problem: Problem, state: DARCState, key: PRNGKeyArray, shape: tuple[int, ...]
    ) -> Step:
        """Steps of the target, drawn uniformly from those that were taken, or from the file."""
        if state.target_steps is not None:
            return state.target_steps.steps(key, shape)
        assert problem.logged is not None
        return Step(*problem.logged.draw(key, shape, *RECORDED))

    def _inputs(self, problem: Problem, state: DARCState, step: Step) -> tuple[Array, Array]:
        """Steps as the classifiers see them."""
        family = problem.source
        spaces = family.observation_space, family.action_space
        return classifier_inputs(*spaces, state.normalizer, step)

    def correct(self, problem: Problem, state: DARCState, step: Step) -> Float[Array, "..."]:
        """Return Δr of steps (nats), with any leading dimensions; the action is in an agent's units.

        It has no lower bound: where the target cannot take such a step at all, Δr goes on falling
        for as long as the classifiers learn.
        """
        # log q(target|·) − log q(source|·) is the log-odds itself.
        state_action, whole = state.classifiers(*self._inputs(problem, state, step))
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


def correction_table(
    learner: DARC, problem: Problem, state: DARCState, terminated: bool | Array = False
) -> Float[Array, "states actions states"]:
    """Return Δr of every (s, a, s′) of a problem with discrete observations and actions.

    - `terminated`: whether the step ends the task, of each (s, a, s′) or of what broadcasts to them, such
      as of each s′.
    """
    states, actions = problem.source.observation_space, problem.source.action_space
    if not (isinstance(states, Discrete) and isinstance(actions, Discrete)):
        raise UserError(f"'{problem.source.name}' is not tabular: Δr has no table")
    s, a, after = jnp.meshgrid(*map(jnp.arange, (states.n, actions.n, states.n)), indexing="ij")
    ended = jnp.broadcast_to(jnp.asarray(terminated, bool), s.shape)
    return learner.correct(problem, state, Step(s, a, after, ended))


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
