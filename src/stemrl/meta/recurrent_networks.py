"""An actor and a critic, each with a memory of its own that reads the history of a trial.

The heads see what the memory says and what it has just read, so that nothing of the present has to go
through the memory. And the memory can be taken away from both, in the same program: what is left is the
same method without it.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import Context, Problem
from ..networks import MLP, Cell
from ..rl import outputs_for
from ..rl.distributions import AbstractDistribution
from .history import HistoryReader


class Remembering(HistoryReader):
    """A reader that can be made to forget all but what it sees."""

    remembers: Float[Array, ""]
    """Factor on what the memory says, and on what came of the step before: 0 leaves the present
    observation alone. Not learned."""

    def read(self, inputs: Array, previous: Array, context: Context) -> Float[Array, "... inputs"]:
        return super().read(inputs, lax.stop_gradient(self.remembers) * previous, context)

    def hear(
        self,
        inputs: Float[Array, "time batch ..."],
        previous: Float[Array, "time batch previous"],
        context: Context,
        valid: Bool[Array, "time batch"],
    ) -> tuple[Float[Array, "time batch size"], Float[Array, "time batch inputs"]]:
        """Read whole trials from their start. Return at every time what the memory says then, and
        what it has just read; it passes over what is not `valid`. `context` is `[batch, …]`."""
        if context is not None:
            context = jnp.broadcast_to(context, (inputs.shape[0], *context.shape))
        x = self.read(inputs, previous, context)
        start = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (x.shape[1], *leaf.shape)), self.cell.initial()
        )
        return self.cell.unroll(start, x, valid=valid)[1], x

    def top(self, output: Array, *others: Array) -> Float[Array, "... entries"]:
        """Return what the heads are given."""
        return jnp.concatenate([lax.stop_gradient(self.remembers) * output, *others], axis=-1)


class Actor(Remembering):
    """A memory under a head that sees its output and its input: the policy μ(h) or π(·|h)."""

    head: MLP
    noise: Float[Array, ""]
    """Deviation that a policy explores with. Not learned."""
    kind: type = eqx.field(static=True)
    """What its outputs are: `kind.of(outputs, noise)` is a distribution over actions."""

    def distribution(self, output: Array, x: Array) -> AbstractDistribution:
        """Return the distribution over actions, from what the memory says after reading `x`."""
        return self.kind.of(self.head(self.top(output, x)), lax.stop_gradient(self.noise))

    def heads(self, output: Array, x: Array) -> tuple[AbstractDistribution, Float[Array, "..."]]:
        """Return the distribution, and no value: the critic has those."""
        return self.distribution(output, x), jnp.zeros(x.shape[:-1])


class Critic(Remembering):
    """A memory of its own under two heads: Q₁ and Q₂ of a history and an action."""

    heads: tuple[MLP, MLP]

    def value(self, output: Array, x: Array, action: Array) -> Float[Array, "two ..."]:
        """Return both values."""
        inputs = self.top(output, x, action)
        return jnp.stack([head(inputs)[..., 0] for head in self.heads])


class ControlNetworks(NamedTuple):
    """All networks that gradients move."""

    actor: Actor
    critic: Critic

    @classmethod
    def of(
        cls,
        problem: Problem,
        cell: Cell,
        size: int,
        hidden: tuple[int, ...],
        *,
        kind: type,
        outputs: int,
        length: int,
        remembers: float | Array,
        keys: list[PRNGKeyArray],
    ) -> "ControlNetworks":
        """Return fresh networks for the spaces of `problem`.

        **Arguments:**

        - `cell`, `size`: each memory, and the entries of its output.
        - `hidden`: hidden layers of the heads.
        - `kind`, `outputs`: what the actor's outputs stand for (see `Actor.kind`), and how many
          there are.
        - `length`: how many inputs a memory reads in a trial.
        - `remembers`: see `Remembering`.
        - `keys`: five.
        """

        def reader(key: PRNGKeyArray) -> tuple[dict[str, Any], int]:
            encoder_key, cell_key = jax.random.split(key)
            return HistoryReader.parts(
                problem, cell, size, length=length, encoder_key=encoder_key, cell_key=cell_key
            )

        memory = jnp.asarray(remembers, jnp.float32)
        actor_key, policy_key, critic_key, *value_keys = keys
        fields, inputs = reader(actor_key)
        seen = size + inputs
        actor = Actor(
            **fields,
            head=MLP(seen, outputs, hidden, "relu", final_scale=0.01, key=policy_key),
            noise=jnp.zeros(()),
            remembers=memory,
            kind=kind,
        )
        judged = seen + outputs_for(problem.source.action_space)
        first, second = (MLP(judged, 1, hidden, "relu", key=key) for key in value_keys)
        critic = Critic(**reader(critic_key)[0], heads=(first, second), remembers=memory)
        return cls(actor, critic)
