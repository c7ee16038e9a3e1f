"""The agent of methods that do not adapt: one policy for every task."""

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from ..core import AbstractAgent, Action, Carry, Context, Info, Memory, Obs, Space
from .distributions import AbstractDistribution
from .normalize import Normalizer
from .policy import perceive


class PolicyAgent(AbstractAgent):
    """An agent that follows a fixed policy of the observation and, if it is revealed, of the
    context.

    Its memory is the context (or `None`), its carry `()`. The `info` of a step holds `log_prob` (of
    the action, under the distribution that it was drawn from) and `context`.
    """

    policy: eqx.Module
    """The policy: called with what `perceive` gives and a context, it returns a distribution over
    actions."""
    normalizer: Normalizer | None
    space: Space = eqx.field(static=True)
    """The observation space."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        return context

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        inputs = perceive(self.space, self.normalizer, obs)
        distribution: AbstractDistribution = self.policy(inputs, memory)  # pyright: ignore[reportCallIssue]
        action = distribution.mode() if self.greedy else distribution.sample(key)
        log_prob = distribution.log_prob(jax.lax.stop_gradient(action))
        return action, carry, {"log_prob": log_prob, "context": memory}
