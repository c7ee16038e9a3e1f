"""VariBAD: variational Bayes-adaptive deep RL (Zintgraf et al. 2020, 1910.08348).

The problem: the best that one can do in an unknown task is Bayes-optimal: to act on the posterior over
tasks, so that exploring is paid for by what it will be good for. Exact posteriors are rarely to be had.
The idea: learn one. An RNN reads the trial and gives q_φ(m | τ_{:t}) over a latent m; a decoder must be
able to tell from m what the *whole* trial, past and future, pays (and, as an option, where it leads).
That is an ELBO at every step t (eq. 7 to 10):

    ELBO_t = E_{m ~ q_φ(m|τ_{:t})} [ Σ_{k<H⁺} log p_ψ(r_{k+1} | s_k, a_k, s_{k+1}, m) ]
             − β KL( q_φ(m|τ_{:t}) ‖ q_φ(m|τ_{:t−1}) ),           q_φ(m|τ_{:−1}) = N(0, I)

The policy acts on the belief itself, π(a | s, μ_t, log σ_t²), and is trained by PPO for the return of
whole trials; its gradient does not reach the encoder (§3.4). Encoder and decoder learn from the ELBO
with an optimizer of their own.

The decoder here is a product, r̂(s, a, s′, m) = f(s, a, s′) · g(m), as the authors' for grids has an
output for every cell: f once a step, g once a posterior, and all T² predictions of a trial are one
product of matrices.
"""

from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import Action, Obs, Problem, Space, Transition, UserError, is_image
from ..core import observation_size as size_of
from ..networks import MLP
from ..rl import ActorCritic, DiagonalGaussian, Normalizer, perceive
from ..rl.fitting import annealed, fit, optimizer, require_positive
from ..rl.on_policy import Rows
from ..rl.ppo import ppo_loss
from .belief import BeliefAgent, BeliefSettings, Inference, agent_fields, belief_kl, latent, show
from .history import action_taken
from .trials import Chunk, Lanes, TrialState

RewardInputs = Literal["step", "next_state"]
"""What a reward is predicted from: (s, a, s′), or s′ alone."""


class Decoder(eqx.Module):
    """The product f(x) · g(m) for each of several targets: what it predicts of a step x if the task
    is m."""

    features: MLP
    """f, a network that reads a step."""
    heads: MLP
    """g, a network that reads the latent; the last entry for each target is a bias."""
    targets: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        inputs: int,
        latent_size: int,
        targets: int,
        hidden: tuple[int, ...],
        features: int,
        *,
        key: PRNGKeyArray,
    ) -> "Decoder":
        """Return a fresh decoder, from `inputs` entries of a step to `features`, whose products
        with the heads are the predictions of so many targets."""
        step_key, head_key = jax.random.split(key)
        return cls(
            features=MLP(inputs, features, hidden, "relu", key=step_key),
            heads=MLP(latent_size, targets * (features + 1), hidden, "relu", key=head_key),
            targets=targets,
        )

    def __call__(
        self, x: Float[Array, "... steps inputs"], m: Float[Array, "... latents latent"]
    ) -> Float[Array, "... latents steps targets"]:
        """Return the predictions of every latent for every step."""
        f = self.features(x)
        f = jnp.concatenate([f, jnp.ones_like(f[..., :1])], axis=-1)
        g = self.heads(m)
        g = g.reshape(*g.shape[:-1], self.targets, f.shape[-1]) / f.shape[-1] ** 0.5
        return jnp.einsum("...kf,...tdf->...tkd", f, g)


class Decoders(eqx.Module):
    """The decoder of rewards, and one of transitions if that is wanted."""

    reward: Decoder
    transition: Decoder | None
    """The decoder of the change of the observation, from (s, a)."""


class VariBADNetworks(eqx.Module):
    """All networks that gradients move."""

    inference: Inference
    actor_critic: ActorCritic
    decoders: Decoders


class Optimizers(eqx.Module):
    """Of the policy, and of encoder and decoders."""

    policy: Any
    vae: Any


class Trial(NamedTuple):
    """What encoder and decoders learn from, every leaf `[lanes, time, …]` but the second."""

    lanes: Lanes
    prior: DiagonalGaussian
    """Before the first step, `[lanes, latent]`."""
    noise: Float[Array, "lanes time latent"]
    """With which m is drawn."""
    step: Float[Array, "lanes time inputs"]
    """What rewards are predicted from."""
    reward: Float[Array, "lanes time"]
    """As the encoder reads it."""
    taken: Float[Array, "lanes time inputs"]
    """What transitions are predicted from: (s, a)."""
    change: Float[Array, "lanes time observations"]
    """s′ − s."""


class VariBADAgent(BeliefAgent):
    """An agent that acts on the observation and on the mean and log-variance of what it believes;
    it can also say what it believes."""

    decoders: Decoders = eqx.field(kw_only=True)
    reward_inputs: RewardInputs = eqx.field(static=True, default="step", kw_only=True)

    def expect(
        self, belief: DiagonalGaussian, obs: Obs, action: Action, next_obs: Obs
    ) -> Float[Array, "... steps"]:
        """Return the rewards that the mean of a belief predicts for some steps `[steps, …]`."""
        space = self.observation_space
        inputs, following = (perceive(space, self.observations, x) for x in (obs, next_obs))
        taken = action_taken(self.action_space, action)
        x = reward_inputs(self.reward_inputs, inputs, taken, following)
        predicted = self.decoders.reward(x, belief.mean[..., None, :])[..., 0, :, 0]
        return predicted * self.rewards.std[0] + self.rewards.mean[0]


def reward_inputs(kind: RewardInputs, inputs: Array, action: Array, following: Array) -> Array:
    """Return what a reward is predicted from."""
    return following if kind == "next_state" else jnp.concatenate([inputs, action, following], -1)


class VariBAD(BeliefSettings):
    """VariBAD: PPO on a learned posterior over tasks, whose decoder predicts a trial's rewards."""

    name: ClassVar[str] = "varibad"

    vae_learning_rate: float = 1e-3
    """Adam's step size for encoder and decoders."""
    vae_epochs: int = eqx.field(static=True, default=1)
    """Passes over the lanes of an update."""
    vae_minibatches: int = eqx.field(static=True, default=8)
    """Gradient steps a pass, each on a share of the lanes."""
    decoder_hidden: tuple[int, ...] = eqx.field(static=True, default=(32, 32))
    """Hidden layers (ReLU) of both factors of a decoder."""
    decoder_features: int = eqx.field(static=True, default=32)
    """Entries in the product of the two, in [1, inf]."""
    reward_inputs: RewardInputs = eqx.field(static=True, default="step")
    """What rewards are predicted from: step, (s, a, s′), or next_state, s′ alone (the authors' on grids)."""
    reward_weight: float = 1.0
    """Weight of the rewards' reconstruction, in [0, inf); 0, and no transitions either: the KL alone
    teaches the encoder, an ablation."""
    transitions: bool = eqx.field(static=True, default=False)
    """Whether a second decoder predicts the next observation."""
    transition_weight: float = 1.0
    """Weight of its reconstruction, in [0, inf)."""

    def __check_init__(self):
        require_positive(self, "vae_epochs", "vae_minibatches", "decoder_features")
        if self.reward_inputs not in get_args(RewardInputs):
            raise UserError(
                f"reward_inputs must be one of {', '.join(get_args(RewardInputs))},"
                f" not {self.reward_inputs!r}"
            )

    def fresh_networks(self, problem: Problem, key: PRNGKeyArray) -> VariBADNetworks:
        family = problem.source
        space = family.observation_space
        if is_image(space):
            raise UserError(f"'varibad' cannot decode images, and '{family.name}' shows them")
        key, reward_key, transition_key = jax.random.split(key, 3)
        seen, acted = size_of(space), size_of(family.action_space)
        step = seen if self.reward_inputs == "next_state" else 2 * seen + acted

        def decoder(inputs: int, targets: int, key: PRNGKeyArray) -> Decoder:
            return Decoder.of(
                inputs,
                self.latent_size,
                targets,
                self.decoder_hidden,
                self.decoder_features,
                key=key,
            )

        transition = decoder(seen + acted, seen, transition_key) if self.transitions else None
        decoders = Decoders(decoder(step, 1, reward_key), transition)
        inference, actor_critic = self.parts(problem, "belief", key)
        return VariBADNetworks(inference, actor_critic, decoders)

    def fresh_optimizer(self, networks: VariBADNetworks) -> Optimizers:
        adam = optimizer(self.max_gradient_norm)
        vae: Any = (networks.inference, networks.decoders)
        return Optimizers(adam.init(networks.actor_critic), adam.init(vae))  # pyright: ignore

    def agent_of(
        self,
        problem: Problem,
        networks: VariBADNetworks,
        observations: Normalizer,
        rewards: Normalizer,
    ) -> VariBADAgent:
        return VariBADAgent(
            networks=networks.inference,
            actor_critic=networks.actor_critic,
            decoders=networks.decoders,
            noise=jnp.zeros(()),
            shown="belief",
            reward_inputs=self.reward_inputs,
            **agent_fields(problem, observations, rewards),
        )

    def improve(
        self, problem: Problem, state: TrialState, lanes: Lanes, chunk: Chunk, key: PRNGKeyArray
    ) -> tuple[VariBADNetworks, Optimizers, dict[str, Array]]:
        policy_key, noise_key, vae_key = jax.random.split(key, 3)
        networks, steps = state.networks, chunk.rollout.transitions
        actor_critic, policy_optimizer, metrics = self.fit(
            self.policy_loss,
            networks.actor_critic,
            state.optimizer.policy,
            self.rows_of(lanes, steps),
            state.updates,
            policy_key,
        )
        (inference, decoders), vae_optimizer, vae_metrics = fit(
            lambda vae, trial: self.vae_loss(vae[0], vae[1], trial),
            (networks.inference, networks.decoders),
            state.optimizer.vae,
            self.trial_of(problem, state, lanes, steps, noise_key),
            vae_key,
            epochs=self.vae_epochs,
            minibatches=self.vae_minibatches,
            learning_rate=annealed(self.vae_learning_rate, self.anneal_updates, state.updates),
            max_gradient_norm=self.max_gradient_norm,
        )
        return (
            VariBADNetworks(inference, actor_critic, decoders),
            Optimizers(policy_optimizer, vae_optimizer),
            {**metrics, **vae_metrics},
        )

    def rows_of(self, lanes: Lanes, steps: Transition) -> Rows:
        """Return the steps as rows for the policy, whose context is the belief that it acted on."""
        belief = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps.info["belief"])
        one = jnp.ones_like(lanes.advantage)
        rows = Rows(
            inputs=lanes.inputs,
            context=show(belief, jnp.zeros(()), "belief"),
            action=lanes.action,
            log_prob=lanes.log_prob,
            advantage=lanes.advantage,
            target=lanes.target,
            weight=one,
            policy_weight=one,
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)

    def policy_loss(
        self, networks: ActorCritic, rows: Rows, entropy_weight: float | Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return PPO's loss."""
        return ppo_loss(networks, rows, self.clip, self.value_weight, entropy_weight)

    def trial_of(
        self,
        problem: Problem,
        state: TrialState,
        lanes: Lanes,
        steps: Transition,
        key: PRNGKeyArray,
    ) -> Trial:
        """Return the lanes with what the decoders read of their steps, and what they have to
        predict."""
        space: Space = problem.source.observation_space
        by_lane = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
        following = perceive(space, state.observations, by_lane.next_obs)
        action = action_taken(problem.source.action_space, by_lane.action)
        return Trial(
            lanes=lanes,
            prior=jax.tree.map(lambda x: x[0], steps.info["prior"]),
            noise=jax.random.normal(key, by_lane.info["noise"].shape),
            step=reward_inputs(self.reward_inputs, lanes.inputs, action, following),
            reward=state.rewards(by_lane.reward[..., None])[..., 0],
            taken=jnp.concatenate([lanes.inputs, action], axis=-1),
            change=following - lanes.inputs,
        )

    def vae_loss(
        self, inference: Inference, decoders: Decoders, trial: Trial
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return −ELBO, the mean over the steps t at which it is taken, and the metrics. The ELBO
        of a step decodes the trial that the step is in, as far as the lane holds it."""
        belief = inference.beliefs(trial.lanes)
        kl = jnp.mean(belief_kl(belief, trial.prior, trial.lanes.reset, self.prior))
        m = latent(belief, trial.noise)
        same = same_trial(trial.lanes.reset)

        def reconstruction(decoder: Decoder, x: Array, target: Array) -> Array:
            """−log p up to a constant, of a unit Gaussian: summed over the trial, mean over t."""
            error = 0.5 * jnp.sum((decoder(x, m) - target[:, None]) ** 2, axis=-1)
            return jnp.mean(jnp.sum(error * same, axis=-1))

        decoded = jnp.mean(jnp.sum(same, axis=-1))
        reward = reconstruction(decoders.reward, trial.step, trial.reward[..., None])
        loss = self.reward_weight * reward + self.kl_weight * kl
        metrics = {
            "loss/reward": reward / decoded,
            "latent/kl": kl,
            "latent/std": jnp.mean(jnp.exp(belief.log_std)),
        }
        if decoders.transition is not None:
            transition = reconstruction(decoders.transition, trial.taken, trial.change)
            loss = loss + self.transition_weight * transition
            metrics["loss/transition"] = transition / decoded
        return loss, {**metrics, "elbo": -loss}


def same_trial(reset: Bool[Array, "lanes time"]) -> Float[Array, "lanes time time"]:
    """Return 1 for two steps of a lane that are in one trial."""
    number: Int[Array, "lanes time"] = jnp.cumsum(reset, axis=1)
    return (number[:, :, None] == number[:, None, :]).astype(jnp.float32)
