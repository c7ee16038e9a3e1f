"""PEARL's posterior over a task, and the agent that acts on samples of it (Rakelly et al. 2019, 1903.08254, §4).

Every transition cₙ = (s, a, r) of the task is one Gaussian factor, in whatever order they came:

    q_φ(z | c₁…c_N) ∝ Π_n N(z; μ_φ(cₙ), σ²_φ(cₙ)),       prior N(0, I) before any

A product of Gaussians is a Gaussian whose natural parameters are the sums of the factors': so two vectors
are all that the agent has to remember of a task, and an episode adds its own to them. Acting, z is drawn
once an episode and held: posterior sampling, so that exploration is as directed as what has been learned
of the task admits.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import AbstractAgent, Action, Carry, Context, Info, Obs, Space, Transition
from ..networks import MLP
from ..rl.policy import flatten, observation_size, perceive
from ..rl.soft_networks import SoftPolicy
from .history import action_taken


class Factors(NamedTuple):
    """A product of Gaussian factors, kept as its natural parameters, which add up."""

    precision: Float[Array, "... latent"]
    """Σ 1/σ²"""
    weighted: Float[Array, "... latent"]
    """Σ μ/σ²"""

    def posterior(self) -> tuple[Float[Array, "... latent"], Float[Array, "... latent"]]:
        """Return mean and variance of the product. Where there is no factor yet they are those of
        the prior, N(0, I)."""
        none = self.precision <= 0.0
        precision = jnp.where(none, 1.0, self.precision)
        return self.weighted / precision, 1.0 / precision


class Encoder(eqx.Module):
    """A network that makes one Gaussian factor of each transition."""

    network: MLP
    observations: Space = eqx.field(static=True)
    actions: Space = eqx.field(static=True)

    def __init__(
        self,
        observations: Space,
        actions: Space,
        latent_size: int,
        hidden: tuple[int, ...],
        *,
        key: PRNGKeyArray,
    ):
        """Make a fresh encoder for these spaces."""
        self.observations, self.actions = observations, actions
        inputs = observation_size(observations) + observation_size(actions) + 1
        self.network = MLP(inputs, 2 * latent_size, hidden, "relu", final_scale=0.1, key=key)

    def __call__(
        self,
        obs: Obs,
        action: Action,
        reward: Float[Array, "... steps"],
        counts: Float[Array, "... steps"] | None = None,
    ) -> Factors:
        """Return the product of the factors of transitions `[…, steps]`; those whose `counts` is 0
        are left out."""
        action = action_taken(self.actions, action)
        x = jnp.concatenate([flatten(self.observations, obs), action, reward[..., None]], axis=-1)
        mean, raw = jnp.split(self.network(x), 2, axis=-1)
        precision = 1.0 / jnp.maximum(jax.nn.softplus(raw), 1e-7)
        if counts is not None:
            precision = precision * counts[..., None]
        return Factors(jnp.sum(precision, axis=-2), jnp.sum(mean * precision, axis=-2))


def prior_kl(
    mean: Float[Array, "... latent"], variance: Float[Array, "... latent"]
) -> Float[Array, "..."]:
    """Return KL(N(mean, variance) ‖ N(0, I)), in nats."""
    return 0.5 * jnp.sum(variance + mean**2 - 1.0 - jnp.log(variance), axis=-1)


class Belief(NamedTuple):
    """What is known of a task; it is the agent's memory."""

    factors: Factors
    episodes: Int[Array, ""]
    """How many episodes were played on it."""
    paid: Bool[Array, ""]
    """Whether one of them had a reward."""


class PEARLAgent(AbstractAgent):
    """An agent that draws a z from what is known of the task for each episode, and acts as if the
    task were that z."""

    policy: SoftPolicy
    encoder: Encoder
    prior_episodes: Int[Array, ""]
    """How many episodes of a task are played with z from the prior, whatever is known by then."""
    space: Space = eqx.field(static=True)
    """The observation space."""
    until_paid: bool = eqx.field(static=True, default=False)
    """Whether z is drawn from the prior until a reward was met."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Belief:
        nothing = jnp.zeros(self.encoder.network.layers[-1].bias.shape[0] // 2)
        return Belief(Factors(nothing, nothing), jnp.zeros((), jnp.int32), jnp.asarray(False))

    def begin(self, memory: Belief, key: PRNGKeyArray) -> Carry:
        early = memory.episodes < self.prior_episodes
        if self.until_paid:
            early = early | ~memory.paid
        known = jax.tree.map(lambda x: jnp.where(early, 0.0, x), memory.factors)
        mean, variance = known.posterior()
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)

    def act(
        self, memory: Belief, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        distribution = self.policy(perceive(self.space, None, obs), carry)
        action = distribution.mode() if self.greedy else distribution.sample(key)
        return action, carry, {}

    def adapt(
        self, memory: Belief, carries: Carry, episodes: Transition | None, key: PRNGKeyArray
    ) -> Belief:
        if episodes is None:
            raise ValueError("'pearl' adapts on whole episodes: use play")
        new = self.encoder(
            episodes.obs, episodes.action, episodes.reward, episodes.valid.astype(jnp.float32)
        )
        # [episodes, latent] each: those of all episodes of the round.
        factors = jax.tree.map(lambda old, x: old + jnp.sum(x, axis=0), memory.factors, new)
        paid = memory.paid | jnp.any((episodes.reward != 0.0) & episodes.valid)
        return Belief(factors, memory.episodes + episodes.valid.shape[0], paid)
