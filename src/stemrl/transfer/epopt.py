"""EPOpt: robust policies from an ensemble of models (Rajeswaran et al. 2016, 1610.01283).

The problem: the target is one of many worlds that a simulator can be set to, and a policy that is
good on average may fail in just that one. The idea: play each episode in a world of its own, and
learn only from the worst of them. With R the return of an episode and y(ε) the ε quantile of R over
worlds and chance, maximize the conditional value at risk

    max_θ  E[R | R ≤ y(ε)]                                          (eq. 3)

by a policy gradient on the episodes below the quantile of each batch (Algorithm 1). The value, which
is the baseline, is fitted to *all* episodes: below the quantile it then finds less than it expected,
which is what moves the policy. The first updates take all episodes, ε = 1, for a policy that can do
nothing yet has no worst case worth avoiding. The policy gradient is PPO's or, as in the paper, TRPO's.

With a target and a budget, training alternates: every so many updates a few episodes of the target say
which worlds it may be (`source_distribution`), and the policy goes on in those (Algorithm 2). Where there
is no such simulator, a file of steps that were recorded in the target says it instead.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, AbstractLearner, BudgetUnit, Problem, State, UserError
from ..naming import make_named
from ..rl.experience import Trials
from ..rl.fitting import explained_variance, require_positive
from ..rl.on_policy import AbstractOnPolicy, OnPolicyState
from ..rl.play import play
from .source_distribution import (
    Beliefs,
    as_vectors,
    believe,
    log_likelihoods,
    parameter_names,
    require_replayable,
    seen_steps,
    worlds,
)

NAMED = 12
"""Parameters of which each has metrics of its own, at most."""


class EPOptState(eqx.Module):
    """Everything that EPOpt knows."""

    learner: OnPolicyState
    """The state of the policy gradient."""
    beliefs: Beliefs | None
    """Which worlds the target may be; `None` where there is neither a budget nor a file to find out
    by."""
    spent: Int[Array, ""] | None
    """Steps taken in the target, of the problem's budget; `None` likewise."""


class Taught(NamedTuple):
    """What an update saw of the target; scalars, zeros where nothing was played."""

    mean_return: Float[Array, ""]
    effective: Float[Array, ""]
    power: Float[Array, ""]
    """Both as in `Round`."""


class Both(NamedTuple):
    """The experience of one update."""

    source: Trials
    target: Taught | None
    """`None` where there is no budget."""


class EPOpt(AbstractLearner):
    """PPO or TRPO on the worst part of whole episodes, each in a world of its own; needs a family of many
    tasks, which are its worlds."""

    name: ClassVar[str] = "epopt"
    budget_units: ClassVar[tuple[BudgetUnit, ...]] = ("steps",)

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """ppo, or (as in the paper) trpo, with hyper-parameters other than its defaults after the name (`ppo
    learning_rate=1e-3`); how much it plays is said by `episodes`. In Python, a learner."""
    episodes: int = eqx.field(static=True, default=240)
    """Episodes an update, each of a task drawn anew (the authors': 240)."""
    epsilon: float = 0.1
    """ε: the policy learns from this worst part of the episodes; 1: from all."""
    warm_up_updates: int = eqx.field(static=True, default=100)
    """Updates that take all episodes before that (the authors': 100)."""
    updates_per_round: int = eqx.field(static=True, default=10)
    """With a target's budget: updates, after the warm-up, from one look at the target to the next."""
    target_episodes: int = eqx.field(static=True, default=1)
    """Episodes of the target in each look, a round (the authors': 1)."""
    particles: int = eqx.field(static=True, default=200)
    """Worlds that are tried out for how well they explain a round."""
    likelihood_steps: int = eqx.field(static=True, default=100)
    """Steps of a round, drawn from all, that each of them is tried out on."""
    observation_error: float = 0.1
    """Deviation of the target's observations from a right world's, as a share of how much each feature
    changes in a step, in (0, inf)."""
    widen: float = 1.5
    """How much wider than the source distribution the worlds that are tried out are drawn, in [1, inf)."""
    effective: float = 0.2
    """Share of the particles that must keep weight, of those that have it before the likelihood counts; the
    likelihood is tempered for it, in (0, 1)."""
    narrowest: float = 0.05
    """The source distribution's least deviation, as a share of its first one, in [0, 1]."""

    def __check_init__(self):
        require_positive(self, "episodes", "updates_per_round", "target_episodes")
        require_positive(self, "particles", "likelihood_steps")
        # An array is a value among several that are tried at once.
        plain = isinstance(self.epsilon, int | float)
        if plain and not 0 < self.epsilon <= 1:
            raise UserError(f"epsilon must be in (0, 1], not {self.epsilon}")
        if self.warm_up_updates < 0:
            raise UserError(f"warm_up_updates must be at least 0, not {self.warm_up_updates}")
        if plain and self.epsilon * self.episodes < 1:
            raise UserError(
                f"epsilon × episodes must leave at least one episode to learn from,"
                f" not {self.epsilon * self.episodes:g}"
            )
        _ = self._named()

    def _named(self) -> AbstractOnPolicy:
        named = isinstance(self.learner, str)
        made: Any = make_named("methods", self.learner) if named else self.learner
        if not isinstance(made, AbstractOnPolicy):
            raise UserError(f"'{made.name}' cannot learn inside 'epopt'; 'ppo' and 'trpo' can")
        return made

    def inner(self, problem: Problem) -> AbstractOnPolicy:
        """Return the policy gradient learner, on as many lanes as there are episodes."""
        return dataclasses.replace(
            self._named(), num_envs=self.episodes, rollout_length=problem.source.horizon
        )

    def init(self, problem: Problem, key: PRNGKeyArray) -> EPOptState:
        beliefs = spent = None
        if problem.logged is not None:
            problem.logged.require("actions", "next_observations", by=self.name)
        if problem.budget > 0 or problem.logged is not None:
            require_replayable(problem.source, self.name)
            if problem.logged is None and problem.budget < self.steps_per_round(problem):
                raise UserError(
                    f"a look at the target takes up to {self.steps_per_round(problem)} steps"
                    f" (target_episodes × horizon) and the budget is {problem.budget}; raise --budget"
                )
            key, beliefs_key = jax.random.split(key)
            beliefs, spent = Beliefs.of(problem.source, beliefs_key), jnp.zeros((), jnp.int32)
        return EPOptState(self.inner(problem).init(problem, key), beliefs, spent)

    def collect(self, problem: Problem, state: EPOptState) -> tuple[EPOptState, Both]:
        state, taught = self._look(problem, state)
        key, task_key, play_key = jax.random.split(state.learner.key, 3)
        family = problem.source
        if state.beliefs is None:
            params = family.tasks(task_key, "train", self.episodes)
        else:
            params = worlds(state.beliefs, family, task_key, self.episodes)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        trials = play(self.agent(problem, state), family, params, context, play_key, 1)
        state = eqx.tree_at(lambda s: s.learner.key, state, key)
        return state, Both(trials, taught)

    def _look(self, problem: Problem, state: EPOptState) -> tuple[EPOptState, Taught | None]:
        """A round in the target, if one is due and within the budget, and what it teaches."""
        known, spent = state.beliefs, state.spent
        if known is None or spent is None:
            return state, None
        key, play_key, step_key, world_key, noise_key = jax.random.split(state.learner.key, 5)
        state = eqx.tree_at(lambda s: s.learner.key, state, key)
        since = state.learner.updates - self.warm_up_updates
        due = (since >= 0) & (since % self.updates_per_round == 0)
        logged, n = problem.logged, self.likelihood_steps
        if logged is None:
            due &= spent + self.steps_per_round(problem) <= problem.budget
        else:
            # As much news as there are rows: each is asked once, on average.
            due &= (known.rounds == 0) | ((known.rounds + 1) * n <= logged.rows)
        agent, target = self.agent(problem, state), problem.target

        def observed() -> tuple[tuple[Any, Any, Any, Array], Array, Array]:
            """Steps of the target, how many were played for them, and the episodes' mean return."""
            if logged is not None:
                columns = ("observations", "actions", "next_observations")
                obs, action, after = logged.draw(step_key, (n,), *columns)
                steps = (obs, action, after, jnp.ones(n))
                return steps, jnp.zeros((), jnp.int32), jnp.zeros(())
            task_key, episodes_key = jax.random.split(play_key)
            tasks = target.tasks(task_key, "train", self.target_episodes)
            context = jax.vmap(lambda p: problem.context(target, p))(tasks)
            trials = play(agent, target, tasks, context, episodes_key, 1)
            steps = seen_steps(trials.transitions, n, step_key)
            return steps, jnp.sum(trials.lengths), jnp.mean(trials.returns)

        def look(beliefs: Beliefs) -> tuple[Beliefs, Array, Taught]:
            steps, played, mean_return = observed()
            tried = worlds(beliefs, problem.source, world_key, self.particles, self.widen)
            likelihood = log_likelihoods(problem, tried, *steps, self.observation_error, noise_key)
            beliefs, told = believe(
                beliefs,
                as_vectors(tried),
                likelihood,
                widen=self.widen,
                effective=self.effective,
                narrowest=self.narrowest,
            )
            return beliefs, played, Taught(mean_return, *told)

        def rest(beliefs: Beliefs) -> tuple[Beliefs, Array, Taught]:
            zero = jnp.zeros(())
            return beliefs, jnp.zeros((), jnp.int32), Taught(zero, zero, zero)

        if logged is None and target.stepping == "host":
            beliefs, steps, taught = (look if bool(due) else rest)(known)
        else:
            beliefs, steps, taught = jax.lax.cond(due, look, rest, known)
        return EPOptState(state.learner, beliefs, spent + steps), taught

    def learn(
        self, problem: Problem, state: EPOptState, experience: Both
    ) -> tuple[EPOptState, dict[str, Array]]:
        trials, learner = experience.source, state.learner
        key, fit_key = jax.random.split(learner.key)
        inner, returns = self.inner(problem), trials.returns[:, 0, 0]
        epsilon = jnp.where(learner.updates < self.warm_up_updates, 1.0, self.epsilon)
        chosen = worst(returns, epsilon)
        # [episodes, 1, 1, time, …] to [time, episodes, …]
        steps = jax.tree.map(lambda x: jnp.swapaxes(x[:, 0, 0], 0, 1), trials.transitions)
        weight = jnp.broadcast_to(chosen, steps.reward.shape)
        learner, rows, value = inner.prepare(problem, learner, steps, policy_weight=weight)
        networks, optimizer_state, metrics = inner.improve(
            inner.loss, learner.networks, learner.optimizer, rows, learner.updates, fit_key
        )
        metrics = {
            "return": jnp.mean(returns),
            "return/worst": jnp.sum(returns * chosen) / jnp.sum(chosen),
            **metrics,
            "epsilon": epsilon,
            "explained_variance": explained_variance(value, rows.target, rows.weight),
            **self._told(problem, state, experience.target),
        }
        learner = dataclasses.replace(
            learner,
            networks=networks,
            optimizer=optimizer_state,
            updates=learner.updates + 1,
            key=key,
        )
        return dataclasses.replace(state, learner=learner), metrics

    def _told(self, problem: Problem, state: EPOptState, taught: Taught | None) -> dict[str, Array]:
        """The source distribution as it stands, and the last round; nothing without a budget."""
        beliefs = state.beliefs
        if beliefs is None or taught is None or state.spent is None:
            return {}
        unit = jnp.where(beliefs.first_std > 0, beliefs.first_std, 1.0)
        varied = jnp.sum(beliefs.first_std > 0)
        told = {
            "return/target": taught.mean_return,
            "target_steps": state.spent.astype(jnp.float32),
            "source/rounds": beliefs.rounds.astype(jnp.float32),
            "source/width": jnp.sum(beliefs.std / unit) / varied,
            "source/shift": jnp.sum(jnp.abs(beliefs.mean - beliefs.first_mean) / unit) / varied,
            "source/effective": taught.effective,
            "source/power": taught.power,
        }
        names = parameter_names(problem.source)
        for index, name in enumerate(names if len(names) <= NAMED else ()):
            told[f"source/mean/{name}"] = beliefs.mean[index]
            told[f"source/std/{name}"] = beliefs.std[index]
        return told

    def inherit(
        self, problem: Problem, state: EPOptState, donor: AbstractLearner, found: State
    ) -> tuple[EPOptState, list[str]]:
        learner, left = self.inner(problem).inherit(problem, state.learner, donor, found)
        return dataclasses.replace(state, learner=learner), left

    def agent(self, problem: Problem, state: EPOptState) -> AbstractAgent:
        return self.inner(problem).agent(problem, state.learner)

    @property
    def learns_until(self) -> int | None:
        """As the inner learner's."""
        return self._named().learns_until

    def steps_per_update(self, problem: Problem) -> int:
        return self.episodes * problem.source.horizon

    def steps_per_round(self, problem: Problem) -> int:
        """Return how many steps in the target a round takes at most."""
        return self.target_episodes * problem.target.horizon

    def target_steps(self, problem: Problem, updates: int = 1) -> int:
        """Return how many steps in the target so many updates take at most: an episode may end
        before the horizon, and looks at the target end with the budget. It is 0 where the target is
        a file."""
        if problem.logged is not None:
            return 0
        looks = -(-max(0, updates - self.warm_up_updates) // self.updates_per_round)
        return min(problem.budget, looks * self.steps_per_round(problem))


def worst(returns: Float[Array, " episodes"], epsilon: float | Array) -> Float[Array, " episodes"]:
    """Return 1 for the worst ε of the episodes, else 0: of n episodes ⌊ε (n − 1)⌋ + 1, and those with
    the same return as the best of them."""
    return (returns <= jnp.quantile(returns, epsilon, method="lower")).astype(jnp.float32)
