"""Decision-pretrained transformers, DPT (Lee et al. 2023, 2306.14892).

The problem: learn a learning algorithm without reinforcement learning. The idea: where tasks can be
solved exactly, supervise. Draw a task, let *any* policy gather transitions D in it, draw a state s, and
predict the task's optimal action there:

    min_θ  E_{task, D, s, n ≤ |D|} [ −log p_θ(a*(s; task) ∣ s, D₁, …, D_n) ].

A network that does this well says how likely each action is to be the optimal one, by the prior over
tasks and what D tells. To sample from it, while D is filled with what one does oneself, *is*
Thompson's posterior sampling where episodes have one step, as on bandits (in longer ones PSRL would hold
one hypothesis, and here each step draws its own); to take the most likely action is to exploit.

In the paper the state is the transformer's first input; here the memory reads the transitions alone,
one after another, and a head sees what it says and the state. So a new state costs one pass of the
head, and not one over all of D.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractAgent,
    AbstractLearner,
    Action,
    Box,
    Carry,
    Context,
    Discrete,
    Info,
    Memory,
    Obs,
    Problem,
    Space,
    State,
    Transition,
    UserError,
)
from ..networks import MLP, AbstractMemoryCell, Cell, memory_cell
from ..optimal.choices import optimal_choice
from ..rl import Categorical, flatten, is_image, observation_size, play
from ..rl.experience import Trials
from ..rl.fitting import annealed, descend, optimizer, require_positive
from ..rl.inheriting import inherit_parts

Behavior = Literal["uniform", "mixture"]


class Predictor(eqx.Module):
    """The memory of the transitions, and the head that says which action is optimal."""

    cell: AbstractMemoryCell
    head: MLP

    def logits(
        self, output: Float[Array, "... size"], state: Float[Array, "... features"]
    ) -> Float[Array, "... actions"]:
        """Return the logits of each action being optimal where `state` is observed."""
        return self.head(jnp.concatenate([output, state], axis=-1))


class Held(NamedTuple):
    """What an agent keeps of a task: the memory, and what it last said."""

    state: Any
    output: Float[Array, " size"]


class DPTAgent(AbstractAgent):
    """An agent that samples an action as likely as it is to be optimal, by all transitions of the
    task so far. A greedy one takes the action that is most likely optimal."""

    predictor: Predictor
    observation_space: Space = eqx.field(static=True)
    action_space: Discrete = eqx.field(static=True)
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        nothing = jnp.zeros(inputs_of(self.observation_space, self.action_space))
        return Held(*self.predictor.cell.step(self.predictor.cell.initial(), nothing))

    def begin(self, memory: Held, key: PRNGKeyArray) -> Carry:
        return memory

    def act(
        self, memory: Held, carry: Held, obs: Obs, key: PRNGKeyArray
    ) -> tuple[Action, Carry, Info]:
        state = flatten(self.observation_space, obs)
        choice = Categorical(self.predictor.logits(carry.output, state))
        return choice.mode() if self.greedy else choice.sample(key), carry, {}

    def observe(self, memory: Held, carry: Held, transition: Transition) -> Held:
        x = read(self.observation_space, self.action_space, transition)
        return Held(*self.predictor.cell.step(carry.state, x))

    def adapt(
        self, memory: Held, carries: Held, episodes: Transition | None, key: PRNGKeyArray
    ) -> Held:
        return jax.tree.map(lambda x: x[0], carries)


class Wanderer(AbstractAgent):
    """Gathers contexts: by one distribution over actions for a whole task, whatever is seen."""

    actions: Discrete = eqx.field(static=True)
    mixture: bool = eqx.field(static=True)
    """Whether each task has a distribution of its own, more or less on one action (the authors' for
    bandits); else all actions are as likely."""
    episodes_per_round: int = eqx.field(static=True, default=1)
    greedy: bool = eqx.field(static=True, default=False)

    def start(self, context: Context, key: PRNGKeyArray) -> Memory:
        n = self.actions.n
        if not self.mixture:
            return jnp.zeros(n)
        spread_key, one_key, share_key = jax.random.split(key, 3)
        spread = jax.random.dirichlet(spread_key, jnp.ones(n))
        one = jax.nn.one_hot(jax.random.randint(one_key, (), 0, n), n)
        share = jax.random.randint(share_key, (), 0, 11) / 10
        return jnp.log((1 - share) * spread + share * one + 1e-6)

    def begin(self, memory: Memory, key: PRNGKeyArray) -> Carry:
        return ()

    def act(self, memory: Memory, carry: Carry, obs: Obs, key: PRNGKeyArray):
        return Categorical(memory).sample(key), carry, {}  # pyright: ignore[reportArgumentType]


class DPTState(eqx.Module):
    """Everything that DPT knows."""

    predictor: Predictor
    optimizer: optax.OptState
    updates: Int[Array, ""]
    key: PRNGKeyArray


class DPT(AbstractLearner):
    """A transformer over transitions, trained to predict optimal actions; for families whose optimal
    actions are known."""

    name: ClassVar[str] = "dpt"

    cell: Cell = eqx.field(static=True, default="transformer")
    """The memory: transformer, gru, lstm, delta, snail or ttt."""
    layers: int = eqx.field(static=True, default=4)
    """Layers of it."""
    hidden_size: int = eqx.field(static=True, default=32)
    """Entries of its output."""
    head_hidden: tuple[int, ...] = eqx.field(static=True, default=(64,))
    """Hidden layers between it and the actions (ReLU)."""
    batch_size: int = eqx.field(static=True, default=64)
    """Tasks an update."""
    context_length: int = eqx.field(static=True, default=100)
    """Transitions of each, in whole episodes; as many as it will see at test at most."""
    behavior: Behavior = eqx.field(static=True, default="uniform")
    """Who gathers them: uniform, any action, each as likely; mixture: each task with a distribution over
    actions of its own, more or less on one of them."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    anneal_updates: int | None = eqx.field(static=True, default=None)
    """Updates over which the step size falls linearly to zero; constant if none."""
    max_gradient_norm: float = 1.0
    """Bound on the gradient's global norm."""

    def __check_init__(self):
        require_positive(self, "layers", "hidden_size", "batch_size", "context_length")
        for name, kind in (("cell", Cell), ("behavior", Behavior)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise UserError(f"{name} must be one of {known}, not {getattr(self, name)!r}")

    def rounds(self, problem: Problem) -> int:
        """Return the number of episodes in which the transitions are gathered."""
        return -(-self.context_length // problem.source.horizon)

    def init(self, problem: Problem, key: PRNGKeyArray) -> DPTState:
        family = problem.source
        space, actions = family.observation_space, family.action_space
        if not isinstance(actions, Discrete):
            found = "continuous ones" if isinstance(actions, Box) else "several choices in each"
            raise UserError(f"'dpt' needs discrete actions, and '{family.name}' has {found}")
        if is_image(space):
            raise UserError(f"'dpt' cannot look at images, and '{family.name}' shows them")
        # Says which families are known before anything is compiled.
        jax.eval_shape(
            lambda k: self.label(problem, family.sample(k, "train"), zero_of(space)), key
        )
        cell_key, head_key, key = jax.random.split(key, 3)
        predictor = Predictor(
            memory_cell(
                self.cell,
                inputs_of(space, actions),
                self.hidden_size,
                length=self.rounds(problem) * family.horizon + 1,
                layers=self.layers,
                key=cell_key,
            ),
            MLP(
                self.hidden_size + observation_size(space),
                actions.n,
                self.head_hidden,
                "relu",
                final_scale=0.01,
                key=head_key,
            ),
        )
        state = optimizer(self.max_gradient_norm).init(predictor)  # pyright: ignore
        return DPTState(predictor, state, jnp.zeros((), jnp.int32), key)

    def label(self, problem: Problem, params: Any, obs: Obs) -> Float[Array, " actions"]:
        """Return the optimal action a*(s; task), as a distribution over actions: where several are
        as good, each has an equal share."""
        return optimal_choice(problem.source, params, obs)

    def inherit(
        self, problem: Problem, state: DPTState, donor: AbstractLearner, found: State
    ) -> tuple[DPTState, list[str]]:
        """Take over the transformer; a fresh optimizer."""
        parts, left = inherit_parts(state, found, "predictor")
        return dataclasses.replace(state, **parts), left

    def collect(self, problem: Problem, state: DPTState) -> tuple[DPTState, tuple[Any, Trials]]:
        key, task_key, play_key = jax.random.split(state.key, 3)
        family = problem.source
        params = family.tasks(task_key, "train", self.batch_size)
        assert isinstance(family.action_space, Discrete)
        wanderer = Wanderer(actions=family.action_space, mixture=self.behavior == "mixture")
        trials = play(wanderer, family, params, None, play_key, self.rounds(problem))
        return eqx.tree_at(lambda s: s.key, state, key), (params, trials)

    def learn(
        self, problem: Problem, state: DPTState, experience: tuple[Any, Trials]
    ) -> tuple[DPTState, dict[str, Array]]:
        params, trials = experience
        key, query_key = jax.random.split(state.key)
        # [tasks, rounds, 1, time, …] to [tasks, steps, …]
        steps = jax.tree.map(
            lambda x: x[:, :, 0].reshape(x.shape[0], -1, *x.shape[4:]), trials.transitions
        )
        queries = self.queries(steps, query_key)
        labels = jax.vmap(lambda p, s: jax.vmap(lambda o: self.label(problem, p, o))(s))(
            params, queries
        )

        def loss(predictor: Predictor) -> tuple[Float[Array, ""], Float[Array, ""]]:
            logits = self.predictions(problem, predictor, steps, queries)
            log_p = jax.nn.log_softmax(logits)
            counts = jnp.concatenate([jnp.ones_like(steps.valid[:, :1]), steps.valid], axis=1)
            weight = counts / jnp.sum(counts)
            hit = jnp.take_along_axis(labels, jnp.argmax(logits, -1)[..., None], -1)[..., 0] > 0
            return -jnp.sum(weight[..., None] * labels * log_p), jnp.sum(weight * hit)

        (value, right), gradient = jax.value_and_grad(loss, has_aux=True)(state.predictor)
        predictor, optimizer_state = descend(
            optimizer(self.max_gradient_norm),
            gradient,
            state.optimizer,
            state.predictor,
            annealed(self.learning_rate, self.anneal_updates, state.updates),
        )
        state = DPTState(predictor, optimizer_state, state.updates + 1, key)
        told = {"loss": value, "accuracy": right}
        return state, {"return": jnp.mean(trials.returns), **told}

    def queries(self, steps: Transition, key: PRNGKeyArray) -> Array:
        """Draw a state to ask about for each number of transitions, among those that were observed:
        `[tasks, steps + 1, …]`."""
        tasks, time = steps.valid.shape
        keys = jax.random.split(key, tasks)

        def draw(key: PRNGKeyArray, obs: Array, valid: Array) -> Array:
            return jax.random.choice(key, obs, (time + 1,), p=valid / jnp.sum(valid))

        return jax.vmap(draw)(keys, steps.obs, steps.valid)

    def predictions(
        self, problem: Problem, predictor: Predictor, steps: Transition, queries: Array
    ) -> Float[Array, "tasks steps1 actions"]:
        """Return the logits after each number of transitions, where `queries` are observed."""
        family = problem.source
        x = read(family.observation_space, family.action_space, steps)
        x = jnp.concatenate([jnp.zeros_like(x[:, :1]), x], axis=1)
        valid = jnp.concatenate([jnp.ones_like(steps.valid[:, :1]), steps.valid], axis=1)
        start = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (len(x), *leaf.shape)), predictor.cell.initial()
        )
        output = predictor.cell.unroll(
            start, jnp.swapaxes(x, 0, 1), valid=jnp.swapaxes(valid, 0, 1)
        )[1]
        features = flatten(family.observation_space, queries)
        return predictor.logits(jnp.swapaxes(output, 0, 1), features)

    def agent(self, problem: Problem, state: DPTState) -> DPTAgent:
        family = problem.source
        assert isinstance(family.action_space, Discrete)
        return DPTAgent(
            predictor=state.predictor,
            observation_space=family.observation_space,
            action_space=family.action_space,
        )

    def steps_per_update(self, problem: Problem) -> int:
        return self.batch_size * self.rounds(problem) * problem.source.horizon


def read(space: Space, actions: Space, steps: Transition) -> Float[Array, "... inputs"]:
    """Return transitions (s, a, r, s′) as the memory reads them."""
    parts = [
        flatten(space, steps.obs),
        flatten(actions, steps.action),
        steps.reward[..., None],
        flatten(space, steps.next_obs),
    ]
    return jnp.concatenate(parts, axis=-1)


def inputs_of(space: Space, actions: Space) -> int:
    """Return how many numbers `read` makes of a transition."""
    return 2 * observation_size(space) + observation_size(actions) + 1


def zero_of(space: Space) -> Array:
    """Return an observation of zeros."""
    return jnp.zeros(space.shape, space.dtype)
