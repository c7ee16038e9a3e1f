"""A variational RNN for meta-RL: RL² through a random bottleneck, without a decoder.

The problem: meta-RL is a POMDP whose hidden state holds the task. RL² puts the history through an RNN
and acts on what comes out. The idea: let the RNN give a *posterior* over a latent task variable,

    q_φ(ω_t | s₀, a₀, r₀, …, s_t) = N(μ_φ(h_t), σ²_φ(h_t)),      ω_t = μ_t + σ_t ε_t,

and let the policy act on a sample of it. A variational autoencoder would learn q from its ELBO, whose
reconstruction term asks what ω says of the transitions. Here it is left out, as if the decoder were
perfect, and only the KL stays; what ω has to say the policy's own loss teaches, through ω:

    min_{θ, φ}  L_PPO(π_θ(a | s, ω_t))  +  β E[ KL(q_φ(ω_t | history) ‖ prior) ]

So q does not collapse to its prior as long as the policy earns more by knowing than β takes for it; cut
off from the policy (`encode` = 0), the KL alone is left, and it must. The noise in ω is said to help the
policy out of the deadlock in which nothing is found, nothing is inferred and so nothing is tried
(`noise` = 0 makes ω deterministic).

Gradients are those of RL²: PPO on whole lanes, through the memory of a whole trial, with the ε_t that
acted, so that the first ratio is 1.

After: the third of three meta-learners in a lecture on meta-RL, between RL² (Duan et al. 2016,
1611.02779) and VariBAD (Zintgraf et al. 2020, 1910.08348); the variational RNN is Chung et al. 2015,
1506.02216.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import Problem
from ..rl import ActorCritic, DiagonalGaussian, Normalizer
from ..rl.fitting import weighted_mean
from ..rl.on_policy import value_loss
from ..rl.ppo import clipped_policy_loss
from .belief import BeliefAgent, BeliefSettings, Inference, agent_fields, belief_kl, latent
from .trials import Chunk, Lanes, TrialState


class VariationalNetworks(eqx.Module):
    """All networks that gradients move."""

    inference: Inference
    actor_critic: ActorCritic


class Sampled(NamedTuple):
    """Lanes, and how ω was drawn in them."""

    lanes: Lanes
    prior: DiagonalGaussian
    """Before the first step, `[lanes, latent]`."""
    noise: Float[Array, "lanes time latent"]


class VariationalRNN(BeliefSettings):
    """RL² whose policy sees a posterior over a latent task instead of the memory, taught by PPO's
    loss and a KL."""

    name: ClassVar[str] = "variational-rnn"

    encode: float = 1.0
    """0 cuts the gradient of policy and value off from the encoder, so that the KL alone teaches it: an
    ablation. In [0, 1]."""
    noise: float = 1.0
    """What the noise of ω is multiplied by, in training and at test: 0 for a deterministic ω. In [0, 1]."""

    def fresh_networks(self, problem: Problem, key: PRNGKeyArray) -> VariationalNetworks:
        return VariationalNetworks(*self.parts(problem, "sample", key))

    def agent_of(
        self,
        problem: Problem,
        networks: VariationalNetworks,
        observations: Normalizer,
        rewards: Normalizer,
    ) -> BeliefAgent:
        return BeliefAgent(
            networks=networks.inference,
            actor_critic=networks.actor_critic,
            noise=jnp.asarray(self.noise, jnp.float32),
            shown="sample",
            **agent_fields(problem, observations, rewards),
        )

    def improve(
        self, problem: Problem, state: TrialState, lanes: Lanes, chunk: Chunk, key: PRNGKeyArray
    ) -> tuple[VariationalNetworks, Any, dict[str, Array]]:
        rows = self.sampled(lanes, chunk)
        return self.fit(self.loss, state.networks, state.optimizer, rows, state.updates, key)

    def sampled(self, lanes: Lanes, chunk: Chunk) -> Sampled:
        """Return the lanes with the noise that ω was drawn with when they were played in `chunk`."""
        info = chunk.rollout.transitions.info
        prior = jax.tree.map(lambda x: x[0], info["prior"])
        return Sampled(lanes, prior, jnp.swapaxes(info["noise"], 0, 1))

    def loss(
        self, networks: VariationalNetworks, rows: Sampled, entropy_weight: float | Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return PPO's objective, with ω drawn by the same noise as before, plus the KL; and the
        metrics."""
        lanes = rows.lanes
        belief = networks.inference.beliefs(lanes)
        omega = latent(belief, rows.noise)
        omega = self.encode * omega + (1.0 - self.encode) * lax.stop_gradient(omega)
        distribution = networks.actor_critic.policy(lanes.inputs, omega)
        value = networks.actor_critic.values(lanes.inputs, omega)
        one = jnp.ones_like(value)
        log_prob = distribution.log_prob(lanes.action)
        policy, moved = clipped_policy_loss(
            log_prob, lanes.log_prob, lanes.advantage, one, self.clip
        )
        fitted = value_loss(value, lanes.target, one)
        entropy = weighted_mean(distribution.entropy(), one)
        kl = jnp.mean(belief_kl(belief, rows.prior, lanes.reset, self.prior))
        loss = policy + self.value_weight * fitted - entropy_weight * entropy
        return loss + self.kl_weight * kl, {
            "loss/policy": policy,
            "loss/value": fitted,
            "entropy": entropy,
            **moved,
            "latent/kl": kl,
            "latent/std": jnp.mean(jnp.exp(belief.log_std)),
        }
