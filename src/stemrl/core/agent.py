"""Contract three: the agent, the g_φ(MDP) → policy of meta-learning, which learns while it acts."""

import abc

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from .environment import Action, Info, Obs, Transition
from .family import Context

Memory = PyTree[Array]
"""What an agent keeps of a task from one adaptation to the next."""
Carry = PyTree[Array]
"""What an agent keeps inside an episode."""


class AbstractAgent(eqx.Module):
    """A learner of one task, seen one episode at a time; the rollout owns all batching.

    *Memory* is what lasts between adaptations (MAML: the fast weights; PEARL: the posterior; RL²:
    the hidden state); *carry* is what changes inside an episode. Both are pytrees of arrays, and
    neither holds a random key. The unit between two adaptations is a *round* of `episodes_per_round` episodes,
    in parallel where the world allows; a robot plays them one after another.
    """

    episodes_per_round: eqx.AbstractVar[int]
    """Static: episodes between two adaptations."""
    greedy: eqx.AbstractVar[bool]
    """Static: the most likely action instead of a sampled one
    (`dataclasses.replace(agent, greedy=True)`)."""

    @abc.abstractmethod
    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        """A new, unknown task. `context` is `None` where nothing is revealed."""

    @abc.abstractmethod
    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        """A new episode. RL²: the memory itself; PEARL: draw z; a plain policy: `()`."""

    @abc.abstractmethod
    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        """The action for one observation; continuous actions are in [−1, 1] per dimension."""

    def observe(self, memory: Memory, carry: Carry, transition: Transition) -> Carry:
        """What followed the action, `transition` without leading dimensions."""
        return carry

    def adapt(
        self, memory: Memory, carries: Carry, episodes: Transition | None, key: PRNGKeyArray
    ) -> Memory:
        """Learn from a round: last carries `[episodes, …]`, episodes `[episodes, time, …]` (padded; see
        `valid`). On `rollout`, which keeps no whole episodes, `episodes` is `None`."""
        return memory
