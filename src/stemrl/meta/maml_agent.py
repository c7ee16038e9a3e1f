"""MAML's inner loop: an agent whose memory is its policy network and whose adaptation is a gradient
step (Finn et al. 1703.03400, Algorithm 3).

With θ the parameters before a round of episodes and θ' those after it,

    θ' = θ + α ∇_θ J(θ; round)

where J is a surrogate for the expected return, whose gradient at θ is a policy gradient. The three
surrogates have the same gradient and differ in the *derivative* of that gradient, which the outer
loop takes. With ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t) and advantages A:

- `log_likelihood`, mean(log π_θ(a_t|s_t) A_t): MAML's. Its second derivative misses the terms by
  which θ decides what is sampled.
- `likelihood_ratio`, mean(ρ_t A_t): the low-variance curvature of ProMP (Rothfuss et al.
  1810.06784, §5), which keeps each step's own term.
- `dice`, mean((Π_{k≤t} ρ_k − Π_{k<t} ρ_k) A_t): DiCE (Foerster et al. 1802.05098) with advantages
  (loaded DiCE, Farquhar et al. 1909.10549, eq. 16, without decay). All derivatives are unbiased
  where the advantages are, at the price of a variance that grows with the episode's length.

Where the originals stop gradients in the denominator, π_old here is the recorded probability of what
acted: the same at θ, and at other θ an importance weight instead of a constant, so that J is a true
function of θ, which a line search can evaluate.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Action, Carry, Context, Info, Obs, Space, Transition
from ..rl.baseline import episode_advantages
from ..rl.normalize import Normalizer
from ..rl.policy import Policy, is_image, perceive

Surrogate = Literal["log_likelihood", "likelihood_ratio", "dice"]


class Initialization(eqx.Module):
    """What is meta-learned: θ, and α if the rates are learned."""

    policy: Policy
    rates: Policy | None
    """The inner learning rate of each tensor of the policy, scalars in the policy's structure;
    `None` where the rate is fixed."""


class FastWeights(eqx.Module):
    """MAML's memory of a task: the adapted policy."""

    policy: Policy
    context: Context
    steps: Int[Array, ""]
    """Gradient steps that were taken in this task so far."""


class Batch(NamedTuple):
    """A round of one task, prepared for learning: no leaf depends on θ. Every leaf
    `[episodes · time, …]`, episode by episode."""

    inputs: Array
    """What the network is given."""
    action: Array
    log_prob: Float[Array, " steps"]
    """Under the policy that acted."""
    advantage: Float[Array, " steps"]
    """Standardized."""
    weight: Float[Array, " steps"]
    """Of each step in a mean over all: sums to 1, 0 on padding."""


def log_ratios(policy: Policy, context: Context, batch: Batch) -> Float[Array, " steps"]:
    """Return log ρ of each step; 0 on padding, whose actions may be anything."""
    log_prob = policy(batch.inputs, context).log_prob(batch.action)
    return jnp.where(batch.weight > 0, log_prob - batch.log_prob, 0.0)


def surrogate_return(
    policy: Policy, context: Context, batch: Batch, surrogate: Surrogate, episodes_per_round: int
) -> Float[Array, ""]:
    """Return J(θ; round); `episodes_per_round` is the number of episodes in the batch."""
    log_ratio = log_ratios(policy, context, batch)
    return surrogate_of(log_ratio, batch.weight * batch.advantage, surrogate, episodes_per_round)


def surrogate_of(
    log_ratio: Float[Array, " steps"],
    gain: Float[Array, " steps"],
    surrogate: Surrogate,
    episodes_per_round: int,
) -> Float[Array, ""]:
    """Return J of a round by the log ratio of each of its steps, 0 on padding, and each one's
    weighted advantage, `gain`."""
    if surrogate == "log_likelihood":
        # Up to a constant, log π_old, which moves no gradient.
        moved = log_ratio
    elif surrogate == "likelihood_ratio":
        moved = jnp.exp(log_ratio)
    else:
        per_step = log_ratio.reshape(episodes_per_round, -1)
        upto = jnp.cumsum(per_step, axis=1)
        moved = (jnp.exp(upto) - jnp.exp(upto - per_step)).reshape(-1)
    return jnp.sum(moved * gain)


class MAMLAgent(AbstractAgent):
    """An agent that starts every task from the meta-learned θ. Each adaptation is one gradient
    step."""

    initialization: Initialization
    normalizer: Normalizer | None
    inner_learning_rate: Float[Array, ""]
    """The step size α, where it is not learned."""
    later_step_factor: Float[Array, "*steps"]
    """What α is multiplied by at steps beyond the `inner_steps` that training took: one number for
    all, or `[steps]`, one for each, of which the last holds for all later ones."""
    discount: Float[Array, ""]
    gae_lambda: Float[Array, ""]
    space: Space = eqx.field(static=True)
    """The observation space."""
    inner_steps: int = eqx.field(static=True)
    surrogate: Surrogate = eqx.field(static=True)
    first_order: bool = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray | None = None) -> FastWeights:
        return FastWeights(self.initialization.policy, context, jnp.zeros((), jnp.int32))

    def begin(self, memory: FastWeights, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: FastWeights, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        distribution = memory.policy(perceive(self.space, self.normalizer, obs), memory.context)
        action = distribution.mode() if self.greedy else distribution.sample(key)
        return action, carry, {"log_prob": distribution.log_prob(action)}

    def adapt(
        self,
        memory: FastWeights,
        carries: Carry,
        episodes: Transition | None,
        key: PRNGKeyArray | None = None,
    ) -> FastWeights:
        if episodes is None:
            return memory
        return self.step(memory, self.prepare(episodes))

    def prepare(self, episodes: Transition) -> Batch:
        """Return a round `[episodes, time, …]` of one task with its advantages, over a baseline
        that is fitted to this round alone."""
        inputs = perceive(self.space, self.normalizer, episodes.obs)
        valid = episodes.valid
        advantage = episode_advantages(
            None if is_image(self.space) else inputs,
            episodes.reward,
            valid,
            self.discount,
            self.gae_lambda,
        )
        weight = valid / jnp.maximum(jnp.sum(valid), 1)
        batch = Batch(inputs, episodes.action, episodes.info["log_prob"], advantage, weight)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        return lax.stop_gradient(flat)

    def step(self, memory: FastWeights, batch: Batch) -> FastWeights:
        """Take one gradient step, θ' = θ + α ∇J(θ), and return the next memory. The outer loop
        differentiates through this very function."""
        gradient = jax.grad(surrogate_return)(
            memory.policy, memory.context, batch, self.surrogate, self.episodes_per_round
        )
        if self.first_order:
            gradient = lax.stop_gradient(gradient)
        beyond, factors = memory.steps - self.inner_steps, jnp.atleast_1d(self.later_step_factor)
        later = jnp.where(beyond < 0, 1.0, factors[jnp.clip(beyond, 0, len(factors) - 1)])
        rates = self.initialization.rates
        if rates is None:
            rates = jax.tree.map(lambda _: self.inner_learning_rate, memory.policy)
        policy = jax.tree.map(
            lambda p, rate, g: p + later * rate * g, memory.policy, rates, gradient
        )
        return FastWeights(policy, memory.context, memory.steps + 1)
