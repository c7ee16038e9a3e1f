"""Domain-adversarial training (DANN; Ganin et al. 2016, 1505.07818) inside PPO, on what is seen.

The problem: the target looks different from the source and is otherwise the same, and of the target
there are observations alone: no reward, nothing to learn a policy from. The idea: let the policy decide
on features f(s) from which a domain head D cannot tell where s was seen; what is learned on them in the
source then holds in the target. With λ_p = λ (2 / (1 + e^(−10p)) − 1) over the progress p of training,

    min over policy, value and f,  max over D:   L_PPO(source) − λ_p L_domain(D(f(s)))

One backward pass does both: D descends its own loss in full, and on the way back into f its gradient is
reversed and multiplied by λ_p (*shared*: one encoder for both domains). The lecture's form has an encoder
for each (*separate*): the source is learned first, then stands still; a second encoder, a copy to begin
with, is trained on target observations alone until D takes its features for the source's, and the policy's
head is used on them as it is.

What the head then does in the target is right only as far as p(what to do | features) is the same in both.
Where the target was recorded by a bad driver and the source is driven well, what tells the domains apart is
how well one drives, and that is what the features then forget. The remedy: compare what was seen under the
same behavior (`behavior`), so that looks are all that differs.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int, PRNGKeyArray

from ..core import AbstractAgent, AbstractLearner, BudgetUnit, Problem, State, UserError
from ..naming import make_named
from ..networks import MLP
from ..rl.experience import RolloutState, zeros_of
from ..rl.fitting import require_positive
from ..rl.off_policy import Explorer
from ..rl.policy import Network, perceive
from ..rl.ppo import PPO
from ..rl.replay import Replay
from ..rl.tuning import tuned
from ..rl.visits import Schedule, Visit, Visits, begin_visits, kept, known_steps, visit
from .domain import Form, adaptation_weight, adversarial_loss, learning_rate_factor
from .target_encoder import align, with_encoder

Behavior = Literal["policy", "random"]
"""Who acts where features are compared."""


class SeenInBoth(NamedTuple):
    """Experience of an update."""

    source: Any
    """What PPO collected."""
    target: Visit | None
    """What was seen of the target; `None` where it is a file."""
    matched: Visit | None
    """What was seen of the source under random actions, if that is what is compared."""


class DANNState(eqx.Module):
    """Everything that DANN knows."""

    learner: Any
    """PPO's state. In the shared form its optimizer moves the domain head, too."""
    domain: MLP
    """D: the log-odds that features are the target's."""
    encoder: Network | None
    """The target's own encoder, in the separate form: a whole policy network, whose head is never
    moved."""
    optimizer: optax.OptState
    """The optimizer's state of encoder and domain head, in the separate form."""
    visits: Visits | None
    """Worlds of the target in the middle of being played; `None` where the target is a file."""
    frames: Replay | None
    """Observations of the target."""
    matched: Visits | None
    """Worlds of the source in the middle of being played by random actions, if those are what is
    compared."""
    matched_frames: Replay | None
    """Observations of those."""
    collected: Int[Array, ""]
    """Steps taken in the source."""
    key: PRNGKeyArray


class DANN(AbstractLearner):
    """PPO on features from which nobody can tell source and target; needs a target and a budget of
    observations, or a file of them."""

    name: ClassVar[str] = "dann"
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ("steps", "observations")

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """PPO with hyper-parameters other than its defaults after the name (`ppo num_envs=16`); in Python,
    a learner."""
    form: Form = eqx.field(static=True, default="shared")
    """One encoder for both domains (shared), or one of its own for the target (separate)."""
    weight: float = 1.0
    """How much being told apart counts in the features, λ; 0 turns the adaptation off."""
    adapt_updates: int = eqx.field(static=True, default=100)
    """Shared: updates over which λ_p rises. Separate: updates after which the source stands still and
    the target's encoder learns."""
    rate_decay: float = 0.0
    """Power of (1 + 10p) by which PPO's step size falls meanwhile; 0.75 in the paper, whose SGD begins
    at 0.01."""
    domain_hidden: tuple[int, ...] = eqx.field(static=True, default=(64,))
    """Hidden layers of the domain head (ReLU)."""
    domain_share: float = eqx.field(static=True, default=0.25)
    """Shared: observations of each domain that D is shown in a gradient step, as a share of a minibatch's
    steps, in (0, 1]. Showing it all costs as much as PPO itself."""
    alignment_learning_rate: float = 1e-4
    """Separate: Adam's step size for the target's encoder and the domain head."""
    alignment_steps: int = eqx.field(static=True, default=64)
    """Separate: gradient steps an update."""
    alignment_batch_size: int = eqx.field(static=True, default=128)
    """Separate: observations of each domain in a gradient step."""
    source_to_target: int = eqx.field(static=True, default=10)
    """Steps in the source for each observation of the target."""
    capacity: int = eqx.field(static=True, default=20_000)
    """Observations of the target that are kept, the latest; rounded up to whole visits."""
    behavior: Behavior = eqx.field(static=True, default="policy")
    """Who acts in what is compared: the policy, in both domains; or random actions (random), in both, for
    a target that was recorded so. The source's random steps are as many as the target's visits would be, and are
    not learned from nor counted."""

    def __check_init__(self):
        require_positive(
            self, "adapt_updates", "alignment_steps", "alignment_batch_size",
            "source_to_target", "capacity",
        )  # fmt: skip
        if self.form not in get_args(Form):
            known = ", ".join(get_args(Form))
            raise UserError(f"form must be one of {known}, not {self.form!r}")
        if not 0 < self.domain_share <= 1:
            raise UserError(f"domain_share must be in (0, 1], not {self.domain_share:g}")
        if self.behavior not in get_args(Behavior):
            known = " or ".join(get_args(Behavior))
            raise UserError(f"behavior must be {known}, not {self.behavior!r}")
        if self.inner.gradient_surgery and self.form == "shared":
            raise UserError(
                "gradient_surgery has no place in the shared form of 'dann', whose loss is not one of tasks alone"
            )

    @property
    def inner(self) -> PPO:
        """The learner in the source."""
        named = isinstance(self.learner, str)
        made: Any = make_named("methods", self.learner) if named else self.learner
        if not isinstance(made, PPO):
            raise UserError(f"'{made.name}' cannot learn in the source of 'dann'; 'ppo' can")
        return made

    def schedule(self, problem: Problem) -> Schedule:
        """Return when the target is visited, and for how long."""
        steps, inner = self.steps_per_update(problem), self.inner
        return Schedule.of(steps, self.source_to_target, inner.num_envs, inner.rollout_length)

    def init(self, problem: Problem, key: PRNGKeyArray) -> DANNState:
        learner_key, domain_key, visit_key, key = jax.random.split(key, 4)
        space = problem.source.observation_space
        learner = self.inner.init(problem, learner_key)
        network = learner.networks.policy.network

        def features(lanes: RolloutState) -> Array:
            return network.features(perceive(space, learner.normalizer, lanes.obs), lanes.context)

        size = jax.eval_shape(features, learner.rollout_state).shape[-1]
        domain = MLP(size, 1, self.domain_hidden, "relu", final_scale=0.01, key=domain_key)
        visits = frames = matched = matched_frames = encoder = None
        alignment = optax.EmptyState()
        schedule = self.schedule(problem)
        visitor = self.visitor(problem, self.inner.agent(problem, learner))
        row = jnp.zeros(space.shape, space.dtype)
        if problem.logged is None:
            visits = begin_visits(visitor, problem, schedule, visit_key)
            frames = Replay.of(row, self.capacity, chunk=schedule.steps)
        if self.behavior == "random":
            key, matched_key = jax.random.split(key)
            matched = begin_visits(visitor, at_home(problem), schedule, matched_key)
            matched_frames = Replay.of(row, self.capacity, chunk=schedule.steps)
        if self.form == "shared":
            moments = self.inner.fresh_optimizer((learner.networks, domain))
            learner = dataclasses.replace(learner, optimizer=moments)
        else:
            encoder = network
            alignment = optax.scale_by_adam().init((encoder, domain))  # pyright: ignore
        return DANNState(
            learner,
            domain,
            encoder,
            alignment,
            visits,
            frames,
            matched,
            matched_frames,
            jnp.zeros((), jnp.int32),
            key,
        )

    def visitor(self, problem: Problem, agent: AbstractAgent) -> AbstractAgent:
        """Return who acts in what is compared: the agent itself, or random actions."""
        if self.behavior == "policy":
            return agent
        return Explorer(policy=agent, random=jnp.ones(()), actions=problem.source.action_space)

    def collect(self, problem: Problem, state: DANNState) -> tuple[DANNState, SeenInBoth]:
        key, visit_key = jax.random.split(state.key)
        # The separate form has no use for the target before its encoder learns.
        waiting = 0 if self.form == "shared" else self._waiting(problem)
        due, schedule = state.collected - waiting, self.schedule(problem)
        visitor = self.visitor(problem, self.agent(problem, state))
        visits, target = state.visits, None
        if visits is not None:
            visits, target = visit(visitor, problem, visits, schedule, due, visit_key)
        matched, ours = state.matched, None
        if matched is not None:
            key, matched_key = jax.random.split(key)
            matched, ours = visit(visitor, at_home(problem), matched, schedule, due, matched_key)
        learner, source = self.inner.collect(problem, state.learner)
        state = dataclasses.replace(state, learner=learner, visits=visits, matched=matched, key=key)
        return state, SeenInBoth(source, target, ours)

    def learn(
        self, problem: Problem, state: DANNState, experience: SeenInBoth
    ) -> tuple[DANNState, dict[str, Array]]:
        key, frames_key, learn_key = jax.random.split(state.key, 3)
        update = self._shared if self.form == "shared" else self._separate
        state = dataclasses.replace(
            state,
            frames=_with(state.frames, experience.target),
            matched_frames=_with(state.matched_frames, experience.matched),
            collected=state.collected + self.steps_per_update(problem),
            key=key,
        )
        state, metrics = update(problem, state, experience.source, frames_key, learn_key)
        spent = known_steps(problem, state.visits)
        return state, {**metrics, "target_observations": jnp.asarray(spent, jnp.float32)}

    def _shared(
        self, problem: Problem, state: DANNState, source: Any, frames_key: Any, key: Any
    ) -> tuple[DANNState, dict[str, Array]]:
        """PPO's epochs, with one more loss on the features of the policy's network."""
        inner, learner = self.inner, state.learner
        progress = jnp.minimum(learner.updates / self.adapt_updates, 1.0)
        weight = self.weight * adaptation_weight(progress)
        factor = learning_rate_factor(progress, self.rate_decay)
        unfrozen = learner.updates // inner.updates_per_layer
        learning = tuned(learner.networks, inner.tune, unfrozen)
        if learning is None:
            learning = jax.tree.map(lambda _: 1.0, learner.networks)
        factors = jax.tree.map(
            lambda x: x * factor, (learning, jax.tree.map(lambda _: 1.0, state.domain))
        )
        learner, rows, _ = inner.prepare(problem, learner, source.transitions)
        count = (rows.weight.shape[0],)
        frames = self._frames(problem, state, frames_key, count)
        ours = rows.inputs
        if state.matched_frames is not None:
            key, ours_key = jax.random.split(key)
            ours = self._seen(problem, state, state.matched_frames.steps(ours_key, count))

        def loss(both: tuple[Any, MLP], batch: tuple) -> tuple[Array, dict[str, Array]]:
            networks, domain = both
            rows, ours, frames = batch
            value, metrics = inner.loss(networks, rows)
            # Rows come in random order.
            shown = max(1, round(self.domain_share * rows.weight.shape[0]))
            ours, frames, context = jax.tree.map(lambda x: x[:shown], (ours, frames, rows.context))
            network = networks.policy.network
            features = network.features(ours, context), network.features(frames, context)
            domains, accuracy = adversarial_loss(domain, *features, weight)
            told = {"loss/domain": domains, "domain_accuracy": accuracy}
            return value + domains, {**metrics, **told}

        (networks, domain), moments, metrics = inner.improve(
            loss,
            (learner.networks, state.domain),
            learner.optimizer,
            (rows, ours, frames),
            learner.updates,
            key,
            factors=factors,
        )
        learner = dataclasses.replace(
            learner, networks=networks, optimizer=moments, updates=learner.updates + 1
        )
        state = dataclasses.replace(state, learner=learner, domain=domain)
        metrics = {"return": source.mean_return(), **metrics, "adaptation_weight": weight}
        return state, metrics

    def _separate(
        self, problem: Problem, state: DANNState, source: Any, frames_key: Any, key: Any
    ) -> tuple[DANNState, dict[str, Array]]:
        """First PPO, then the target's encoder against the source's, which stands still."""
        inner, ready = self.inner, state.collected > self._waiting(problem)

        def learning(state: DANNState) -> tuple[DANNState, dict[str, Array]]:
            learner, metrics = inner.learn(problem, state.learner, source)
            encoder = learner.networks.policy.network
            nothing = {"loss/domain": jnp.zeros(()), "domain_accuracy": jnp.zeros(())}
            return dataclasses.replace(state, learner=learner, encoder=encoder), metrics | nothing

        def aligning(state: DANNState) -> tuple[DANNState, dict[str, Array]]:
            zeros = zeros_of(lambda state: learning(state)[1], state)
            state, metrics = self._align(problem, state, source.transitions, frames_key, key)
            return state, {**zeros, "return": source.mean_return(), **metrics}

        return lax.cond(ready, aligning, learning, state)

    def _align(
        self, problem: Problem, state: DANNState, steps: Any, frames_key: Any, key: Any
    ) -> tuple[DANNState, dict[str, Array]]:
        """Gradient steps of the domain head and of the target's encoder, each against the other."""
        shape = (self.alignment_steps, self.alignment_batch_size)
        frames = self._frames(problem, state, frames_key, shape)
        seen = steps.obs, steps.info["context"]
        ours, context = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        if state.matched_frames is None:
            index = jax.random.randint(key, shape, 0, ours.shape[0])
            ours = ours[index]
        else:
            index_key, ours_key = jax.random.split(key)
            index = jax.random.randint(index_key, shape, 0, ours.shape[0])
            ours = state.matched_frames.steps(ours_key, shape)
        context = jax.tree.map(lambda x: x[index], context)
        descent = align(
            state.learner.networks.policy.network,
            state.encoder,  # pyright: ignore[reportArgumentType]
            state.domain,
            state.optimizer,
            (self._seen(problem, state, ours), context, frames),
            weight=self.weight,
            learning_rate=self.alignment_learning_rate,
        )
        encoder, domain = descent.parameters
        state = dataclasses.replace(
            state, encoder=encoder, domain=domain, optimizer=descent.optimizer_state
        )
        return state, jax.tree.map(jnp.mean, descent.metrics)

    def _frames(
        self, problem: Problem, state: DANNState, key: PRNGKeyArray, shape: tuple[int, ...]
    ) -> Array:
        """Observations of the target as the networks see them, `[*shape, …]`."""
        if state.frames is None:
            assert problem.logged is not None
            frames = problem.logged.draw(key, shape, "observations")[0]
        else:
            frames = state.frames.steps(key, shape)
        return self._seen(problem, state, frames)

    def _seen(self, problem: Problem, state: DANNState, frames: Array) -> Array:
        """Observations as the networks see them."""
        return perceive(problem.source.observation_space, state.learner.normalizer, frames)

    def _waiting(self, problem: Problem) -> int:
        """Steps in the source before the separate form begins to align."""
        return self.adapt_updates * self.steps_per_update(problem)

    def agent(self, problem: Problem, state: DANNState) -> AbstractAgent:
        """Return the policy for the target: on the shared features, or on those of the target's
        encoder."""
        agent = self.inner.agent(problem, state.learner)
        return agent if state.encoder is None else with_encoder(agent, state.encoder)

    def inherit(
        self, problem: Problem, state: DANNState, donor: AbstractLearner, found: State
    ) -> tuple[DANNState, list[str]]:
        """Take over what PPO inherits. In the separate form the target's encoder begins as the
        source's."""
        learner, left = self.inner.inherit(problem, state.learner, donor, found)
        encoder = None if state.encoder is None else learner.networks.policy.network
        return dataclasses.replace(state, learner=learner, encoder=encoder), left

    @property
    def learns_until(self) -> int | None:
        """As the inner learner's."""
        return self.inner.learns_until

    def steps_per_update(self, problem: Problem) -> int:
        return self.inner.steps_per_update(problem)

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        if problem.logged is not None:
            return 0
        waiting = 0 if self.form == "shared" else self.adapt_updates
        return self.schedule(problem).total(updates - waiting)


def at_home(problem: Problem) -> Problem:
    """Return the source as its own target, for steps there that are compared and not learned from."""
    return Problem(problem.source, problem.source, 2**30, problem.reveal)


def _with(frames: Replay | None, seen: Visit | None) -> Replay | None:
    """The frames with those of a visit."""
    if frames is None or seen is None:
        return frames
    obs = seen.transitions.obs
    return kept(frames, seen, obs.reshape(-1, *obs.shape[2:]))
