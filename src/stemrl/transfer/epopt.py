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
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractAgent, AbstractLearner, Problem, State, UserError
from ..naming import make_named
from ..rl.fitting import explained_variance, require_positive
from ..rl.on_policy import AbstractOnPolicy, OnPolicyState
from ..rl.play import Trials, play


class EPOpt(AbstractLearner):
    """PPO or TRPO on the worst part of whole episodes, each in a world of its own; needs a family of many
    tasks, which are its worlds."""

    name: ClassVar[str] = "epopt"

    learner: str | AbstractLearner = eqx.field(static=True, default="ppo")
    """ppo, or (as in the paper) trpo, with hyper-parameters other than its defaults after the name (`ppo
    learning_rate=1e-3`); how much it plays is said by `episodes`. In Python, a learner."""
    episodes: int = eqx.field(static=True, default=240)
    """Episodes an update, each of a task drawn anew (the authors': 240)."""
    epsilon: float = 0.1
    """ε: the policy learns from this worst part of the episodes; 1: from all."""
    warm_up_updates: int = eqx.field(static=True, default=100)
    """Updates that take all episodes before that (the authors': 100)."""

    def __check_init__(self):
        require_positive(self, "episodes")
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
        """The policy gradient, on as many lanes as there are episodes."""
        return dataclasses.replace(
            self._named(), num_envs=self.episodes, rollout_length=problem.source.horizon
        )

    def init(self, problem: Problem, key: PRNGKeyArray) -> OnPolicyState:
        return self.inner(problem).init(problem, key)

    def collect(self, problem: Problem, state: OnPolicyState) -> tuple[OnPolicyState, Trials]:
        key, task_key, play_key = jax.random.split(state.key, 3)
        family = problem.source
        params = family.tasks(task_key, "train", self.episodes)
        context = jax.vmap(lambda p: problem.context(family, p))(params)
        trials = play(self.agent(problem, state), family, params, context, play_key, 1)
        return dataclasses.replace(state, key=key), trials

    def learn(
        self, problem: Problem, state: OnPolicyState, experience: Trials
    ) -> tuple[OnPolicyState, dict[str, Array]]:
        key, fit_key = jax.random.split(state.key)
        inner, returns = self.inner(problem), experience.returns[:, 0, 0]
        epsilon = jnp.where(state.updates < self.warm_up_updates, 1.0, self.epsilon)
        chosen = worst(returns, epsilon)
        # [episodes, 1, 1, time, …] to [time, episodes, …]
        steps = jax.tree.map(lambda x: jnp.swapaxes(x[:, 0, 0], 0, 1), experience.transitions)
        weight = jnp.broadcast_to(chosen, steps.reward.shape)
        state, rows, value = inner.prepare(problem, state, steps, policy_weight=weight)
        networks, optimizer_state, metrics = inner.improve(
            inner.loss, state.networks, state.optimizer, rows, state.updates, fit_key
        )
        metrics = {
            "return": jnp.mean(returns),
            "return/worst": jnp.sum(returns * chosen) / jnp.sum(chosen),
            **metrics,
            "epsilon": epsilon,
            "explained_variance": explained_variance(value, rows.target, rows.weight),
        }
        state = dataclasses.replace(
            state,
            networks=networks,
            optimizer=optimizer_state,
            updates=state.updates + 1,
            key=key,
        )
        return state, metrics

    def inherit(
        self, problem: Problem, state: OnPolicyState, donor: AbstractLearner, found: State
    ) -> tuple[OnPolicyState, list[str]]:
        return self.inner(problem).inherit(problem, state, donor, found)

    def agent(self, problem: Problem, state: OnPolicyState) -> AbstractAgent:
        return self.inner(problem).agent(problem, state)

    def steps_per_update(self, problem: Problem) -> int:
        return self.episodes * problem.source.horizon


def worst(returns: Float[Array, " episodes"], epsilon: float | Array) -> Float[Array, " episodes"]:
    """1 for the episodes whose return is at most the ε quantile of all, else 0; at least one is."""
    return (returns <= jnp.quantile(returns, epsilon, method="higher")).astype(jnp.float32)
