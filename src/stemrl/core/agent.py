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
    """A learner of one task. It meets the task one episode at a time, and no method sees a batch
    dimension: the rollout batches it.

    *Memory* lasts from one adaptation to the next (MAML: the adapted weights; PEARL: the posterior;
    RL²: the hidden state). *Carry* changes inside an episode. Both are pytrees of arrays, and
    neither holds a random key. Between two adaptations lies a *round* of `episodes_per_round`
    episodes. They are played in parallel where the world allows it; a robot plays them one after
    another.
    """

    episodes_per_round: eqx.AbstractVar[int]
    """How many episodes lie between two adaptations (static)."""
    greedy: eqx.AbstractVar[bool]
    """Whether it takes the most likely action instead of a sampled one (static); set it by
    `dataclasses.replace(agent, greedy=True)`."""

    @abc.abstractmethod
    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        """Return the memory with which a new, unknown task begins. `context` is what is revealed of
        the task, or `None`."""

    @abc.abstractmethod
    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        """Return the carry with which an episode begins: of RL² the memory itself, of PEARL a z
        that is drawn from it, of a plain policy `()`."""

    @abc.abstractmethod
    def act(
        self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        """Choose an action for one observation. Return it with the next carry and with whatever the
        learner wants stored beside the step (`Transition.info`). Each dimension of a continuous
        action is in [−1, 1]; discrete actions count from 0."""

    def observe(self, memory: Memory, carry: Carry, transition: Transition) -> Carry:
        """Take note of what followed the action, and return the next carry. `transition` is one
        step, without leading dimensions. By default the carry stays as it is."""
        return carry

    def adapt(
        self, memory: Memory, carries: Carry, episodes: Transition | None, key: PRNGKeyArray
    ) -> Memory:
        """Learn from a round of episodes, and return the next memory. By default it stays as it is.

        - `carries`: the last carry of each episode, `[episodes, …]`.
        - `episodes`: their steps, `[episodes, time, …]`, padded past each end (see
          `Transition.valid`). `rollout` keeps no whole episodes and gives `None`.
        """
        return memory
