"""RL²: fast reinforcement learning via slow reinforcement learning (Duan et al. 2016, 1611.02779;
the same idea as Wang et al. 2016, 1611.05763).

The problem: an agent meets a task drawn from a distribution, plays a *trial* of several episodes on
it and should do well over all of them, exploration included. The idea: make the learning algorithm
itself a recurrent network. At each step it reads the observation and what came of its previous
action (that action, its reward, whether the episode ended), and its hidden state lives on from
episode to episode of a trial; at a new task it is cleared. Trained by an ordinary RL method to
maximize the return of whole trials,

    max_θ  E_{M ∼ p(M)} E_{π_θ} [ Σ_{t=0}^{trial} γᵗ r_t ],

the network comes to implement a learning algorithm for p(M) in its activations. Here the ordinary
method is PPO on whole lanes, with the gradient through all of a chunk's steps.

The unit is the trial: an episode's end inside a trial cuts neither the return nor the memory; the
trial's end is terminal; where a chunk ends in the middle of a trial, the value stands in.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Problem, UserError
from ..rl import Normalizer
from ..rl.fitting import weighted_mean
from ..rl.on_policy import value_loss
from ..rl.ppo import clipped_policy_loss
from .history import HistoryAgent, RecurrentActorCritic, history_agent
from .trials import AbstractTrialLearner, Chunk, Lanes, TrialState


def evaluate_lanes(
    networks: RecurrentActorCritic, lanes: Lanes
) -> tuple[Float[Array, "time lanes"], Float[Array, "time lanes"], Float[Array, "time lanes"]]:
    """Return log-probability of the actions taken, entropy and value at every step, `[time,
    lanes]`, by running the memory over the lanes again."""
    inputs, previous, context, reset, action = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1),
        (lanes.inputs, lanes.previous, lanes.context, lanes.reset, lanes.action),
    )
    x = networks.read(inputs, previous, context)
    _, output = networks.cell.unroll(lanes.hidden, x, reset)
    distribution, value = networks.heads(output, x)
    return distribution.log_prob(action), distribution.entropy(), value


def rl2_loss(
    networks: RecurrentActorCritic,
    lanes: Lanes,
    clip: float | Array,
    value_weight: float | Array,
    entropy_weight: float | Array,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return PPO's objective on some lanes, and its parts."""
    log_prob, entropy, value = evaluate_lanes(networks, lanes)
    one = jnp.ones_like(value)
    policy, moved = clipped_policy_loss(log_prob, lanes.log_prob.T, lanes.advantage.T, one, clip)
    fitted = value_loss(value, lanes.target.T, one)
    entropy = weighted_mean(entropy, one)
    loss = policy + value_weight * fitted - entropy_weight * entropy
    return loss, {"loss/policy": policy, "loss/value": fitted, "entropy": entropy, **moved}


class RL2(AbstractTrialLearner):
    """RL² with PPO: a recurrent policy that reads the history of a whole trial."""

    name: ClassVar[str] = "rl2"

    head_hidden_size: int = eqx.field(static=True, default=0)
    """Entries of a ReLU layer between the memory and the heads, which sees the input too; none if 0."""

    def __check_init__(self):
        if self.head_hidden_size < 0:
            raise UserError(f"head_hidden_size must be at least 0, not {self.head_hidden_size}")

    def fresh_networks(self, problem: Problem, key: PRNGKeyArray) -> RecurrentActorCritic:
        return RecurrentActorCritic.of(
            problem,
            **self.memory_settings(problem),
            initial_std=self.initial_std,
            head_hidden_size=self.head_hidden_size,
            key=key,
        )

    def agent_of(
        self,
        problem: Problem,
        networks: RecurrentActorCritic,
        observations: Normalizer,
        rewards: Normalizer,
    ) -> HistoryAgent:
        return history_agent(problem.source, networks, observations, rewards)

    def improve(
        self, problem: Problem, state: TrialState, lanes: Lanes, chunk: Chunk, key: PRNGKeyArray
    ) -> tuple[RecurrentActorCritic, Any, dict[str, Array]]:
        def loss(networks: RecurrentActorCritic, lanes: Lanes, entropy_weight: float | Array):
            return rl2_loss(networks, lanes, self.clip, self.value_weight, entropy_weight)

        return self.fit(loss, state.networks, state.optimizer, lanes, state.updates, key)
