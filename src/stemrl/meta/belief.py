"""What is believed of an unknown task: a posterior over a latent ω that a memory updates step by step.

The memory of `history.py` reads the trial; a linear layer makes of its output h_t the posterior

    q(ω_t | s₀, a₀, r₀, …, s_t) = N(μ(h_t), σ²(h_t)),      N(0, I) before anything is seen,

and a feed-forward policy acts on the observation and what it is shown of that: a sample of ω_t, or the
whole belief, its mean and log-variance. How the encoder learns is the method's: from the policy's loss
(`variational_rnn.py`) or from a decoder (`varibad.py`). Both have a KL term that keeps the posterior
from saying more than is needed: to the posterior before the step, which is the prior of what the step
has to tell, or to N(0, I).
"""

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import Action, Context, Info, Obs, Problem, UserError
from ..networks import Activation, Linear
from ..rl import ActorCritic, DiagonalGaussian, Normalizer, perceive
from .history import History, HistoryAgent, HistoryMemory, HistoryReader
from .trials import AbstractTrialLearner, Lanes

Shown = Literal["sample", "belief"]
"""What a policy is shown of a posterior."""
Prior = Literal["previous", "standard"]
"""What a posterior's KL is taken to."""


class Inference(HistoryReader):
    """A memory, and the posterior over the task that it stands for."""

    posterior: Linear
    """A linear map from the memory's output to mean and log-deviation."""

    @classmethod
    def of(
        cls, problem: Problem, latent_size: int, *, key: PRNGKeyArray, **memory: Any
    ) -> "Inference":
        """Return fresh networks for the spaces of `problem`. `memory` are the settings of the
        memory, as in `HistoryReader.parts`."""
        encoder_key, cell_key, posterior_key = jax.random.split(key, 3)
        reader, _ = cls.parts(problem, **memory, encoder_key=encoder_key, cell_key=cell_key)
        size = reader["cell"].size
        return cls(**reader, posterior=Linear(size, 2 * latent_size, key=posterior_key))

    @property
    def latent_size(self) -> int:
        """How many entries ω has."""
        return self.posterior.bias.shape[-1] // 2

    def initial(self) -> DiagonalGaussian:
        """Return the belief before any step, N(0, I)."""
        zero = jnp.zeros(self.latent_size)
        return DiagonalGaussian(zero, zero)

    def believe(self, output: Float[Array, "... size"]) -> DiagonalGaussian:
        """Return the posterior after a step, from the memory's output then."""
        return DiagonalGaussian(*jnp.split(self.posterior(output), 2, axis=-1))

    def beliefs(self, lanes: Lanes) -> DiagonalGaussian:
        """Return the posterior at every step of some lanes, `[lanes, time, latent]`, by running the
        memory over them again."""
        inputs, previous, context, reset = jax.tree.map(
            lambda x: jnp.swapaxes(x, 0, 1),
            (lanes.inputs, lanes.previous, lanes.context, lanes.reset),
        )
        _, output = self.cell.unroll(lanes.hidden, self.read(inputs, previous, context), reset)
        return self.believe(jnp.swapaxes(output, 0, 1))


def latent(belief: DiagonalGaussian, noise: Float[Array, "... latent"]) -> Float[Array, "..."]:
    """Return ω = μ + σ · noise: a sample if the noise is standard normal, the mean if it is zero."""
    return belief.mean + jnp.exp(belief.log_std) * noise


def show(
    belief: DiagonalGaussian, noise: Float[Array, "... latent"], shown: Shown
) -> Float[Array, "... shown"]:
    """Return what the policy is shown: the sample, or mean and log-variance."""
    if shown == "sample":
        return latent(belief, noise)
    return jnp.concatenate([belief.mean, 2.0 * belief.log_std], axis=-1)


def belief_kl(
    belief: DiagonalGaussian,
    first: DiagonalGaussian,
    reset: Bool[Array, "lanes time"],
    prior: Prior,
) -> Float[Array, "lanes time"]:
    """Return the KL of the posterior at each step, in nats.

    **Arguments:**

    - `belief`: `[lanes, time, latent]`.
    - `first`: the posterior before the first step, `[lanes, latent]`.
    - `reset`: where a trial starts: the prior there is N(0, I).
    - `prior`: `previous`: KL(q_t ‖ q_{t−1}), whose sum over a trial is what the whole trial has told,
      in the filtering ELBO of VariBAD; `standard`: KL(q_t ‖ N(0, I)), of what is known by then.
    """
    if prior == "standard":
        return belief.kl(DiagonalGaussian(*jax.tree.map(jnp.zeros_like, (belief.mean,) * 2)))

    def before(x: Array, first: Array) -> Array:
        shifted = jnp.concatenate([first[:, None], x[:, :-1]], axis=1)
        return jnp.where(reset[..., None], 0.0, shifted)

    return belief.kl(
        DiagonalGaussian(before(belief.mean, first.mean), before(belief.log_std, first.log_std))
    )


class BeliefAgent(HistoryAgent):
    """An agent that acts on the observation and on what it believes of the task.

    Its `networks` are an `Inference`. Beside what `HistoryAgent` has, the `info` of a step holds
    the posterior (`belief`), the one before it (`prior`) and the `noise` with which ω was drawn.
    """

    actor_critic: ActorCritic = eqx.field(kw_only=True)
    noise: Float[Array, ""] = eqx.field(kw_only=True)
    """What the noise of ω is multiplied by: 1, or 0 for an ω without randomness."""
    shown: Shown = eqx.field(static=True, default="sample", kw_only=True)

    def start(self, context: Context, key: PRNGKeyArray) -> HistoryMemory:
        memory = super().start(context, key)
        belief = self.networks.initial()
        return memory._replace(history=memory.history._replace(belief=belief))

    def act(
        self, memory: HistoryMemory, carry: History, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, History, Info]:
        noise_key, action_key = jax.random.split(key)
        inputs = perceive(self.observation_space, self.observations, obs)
        x = self.networks.read(inputs, self.perceive_previous(carry.previous), memory.context)
        hidden, output = self.networks.cell.step(carry.hidden, x)
        belief = self.networks.believe(output)
        noise = (0.0 if self.greedy else self.noise) * jax.random.normal(
            noise_key, belief.mean.shape
        )
        shown = show(belief, noise, self.shown)
        distribution = self.actor_critic.policy(inputs, shown)
        action = distribution.mode() if self.greedy else distribution.sample(action_key)
        info = {
            "log_prob": distribution.log_prob(action),
            "value": self.actor_critic.values(inputs, shown),
            "previous": carry.previous,
            "context": memory.context,
            "belief": belief,
            "prior": carry.belief,
            "noise": noise,
        }
        return action, carry._replace(hidden=hidden, belief=belief), info


class BeliefSettings(AbstractTrialLearner):
    """The settings of learners with a latent task beside those of any trial's."""

    latent_size: int = eqx.field(static=True, default=5)
    """Entries of ω, in [1, inf]."""
    prior: Prior = eqx.field(static=True, default="previous")
    """What the KL is taken to: previous, the posterior a step before, or standard, N(0, I)."""
    kl_weight: float = 0.01
    """Weight of the KL (nats a step)."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(64, 64))
    """Hidden layers of policy and value, which see observation and latent."""
    activation: Activation = eqx.field(static=True, default="tanh")
    """Their activation: tanh, relu, elu, silu or gelu."""

    def __check_init__(self):
        if self.prior not in get_args(Prior):
            raise UserError(
                f"prior must be one of {', '.join(get_args(Prior))}, not {self.prior!r}"
            )

    def parts(
        self, problem: Problem, shown: Shown, key: PRNGKeyArray
    ) -> tuple[Inference, ActorCritic]:
        """Return a fresh encoder, and a policy and value that are shown what it believes."""
        inference_key, policy_key = jax.random.split(key)
        inference = Inference.of(
            problem, self.latent_size, **self.memory_settings(problem), key=inference_key
        )
        networks = ActorCritic.of(
            problem,
            self.hidden,
            self.activation,
            initial_std=self.initial_std,
            context=self.latent_size * (1 if shown == "sample" else 2),
            key=policy_key,
        )
        return inference, networks


def agent_fields(problem: Problem, observations: Normalizer, rewards: Normalizer) -> dict[str, Any]:
    """Return what every agent with a memory needs to know of `problem`, and the scales of its
    inputs."""
    return {
        "observations": observations,
        "rewards": rewards,
        "observation_space": problem.source.observation_space,
        "action_space": problem.source.action_space,
    }
