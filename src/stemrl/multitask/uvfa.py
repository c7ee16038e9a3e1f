"""Universal value function approximators (Schaul et al. 2015, PMLR 37).

The problem: a value for every state *and* every goal, also for goals that were never trained on. The
idea: goals live in a space of their own, and values have structure in it, so let one network embed
states and actions, another goals, and let the value be their product,

    Q(s, a, g) ≈ φ(s, a) · ψ(g),      φ, ψ ∈ ℝʳᵃⁿᵏ.

Three ways to fit it (§3.2, §5), by `form`:

    two-stage      the table of exact values M[(s, a), g] of the training goals is factorized,
                   M ≈ F Gᵀ (singular values, `rank` of them), then φ is regressed on the rows of F
                   and ψ on those of G
    end-to-end     E[(φ(s, a) · ψ(g) − M[(s, a), g])²] is descended directly
    bootstrapped   no table is known: each step taken is learned from for goals drawn at random,
                   towards r + γ maxₐ′ φ̄(s′, a′) · ψ̄(g)

The table of exact values comes from dynamic programming on the family, so the first two take no
steps in an environment: what an update consumes is entries of the table, and these are counted.
"""

from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractGoalFamily,
    AbstractLearner,
    Context,
    Discrete,
    Problem,
    Space,
    UserError,
)
from ..networks import MLP
from ..optimal import optimal_goal_values
from ..rl.dqn import QAgent, bellman_targets
from ..rl.experience import Rollout, RolloutState
from ..rl.fitting import descend, require_positive
from ..rl.policy import context_size, flatten, observation_size
from ..rl.returns import lowest_value
from ..rl.rollout import begin_rollout, rollout

Form = Literal["two-stage", "end-to-end", "bootstrapped"]
"""How the value is fitted."""


class TwoStreams(eqx.Module):
    """The product φ(s, ·) · ψ(g): a network that takes the place of a Q-network, and is called with
    an observation and a goal."""

    state: MLP
    """A network from an observation to `actions · rank` numbers."""
    goal: MLP
    """A network from a goal to `rank` numbers."""
    actions: int = eqx.field(static=True)

    def __init__(
        self,
        observations: int,
        goals: int,
        actions: int,
        rank: int,
        hidden: tuple[int, ...],
        *,
        key: PRNGKeyArray,
    ):
        """**Arguments:** entries of an observation and of a goal, number of actions, entries of an
        embedding, hidden layers of each stream (ReLU)."""
        state_key, goal_key = jax.random.split(key)
        self.state = MLP(observations, actions * rank, hidden, "relu", key=state_key)
        self.goal = MLP(goals, rank, hidden, "relu", key=goal_key)
        self.actions = actions

    def phi(self, inputs: Float[Array, "... observations"]) -> Float[Array, "... actions rank"]:
        """Return the embedding of each action in the states that were observed."""
        out = self.state(inputs)
        return out.reshape(*out.shape[:-1], self.actions, -1)

    def __call__(self, inputs: Array, context: Context) -> Float[Array, "... actions"]:
        """Return Q(s, ·, g); `inputs` and `context` have the same leading dimensions."""
        return jnp.einsum("...ar,...r->...a", self.phi(inputs), self.goal(context))


class Table(eqx.Module):
    """What the first two forms learn from."""

    inputs: Float[Array, "states observations"]
    goals: Float[Array, "goals context"]
    """Of the goals assigned in training."""
    values: Float[Array, "states actions goals"]
    """M, exact."""
    left: Float[Array, "states actions rank"]
    """F, in two stages: its rows are what φ should be."""
    right: Float[Array, "goals rank"]
    """G: its rows are what ψ should be."""


class UVFAState(eqx.Module):
    """Everything that a UVFA knows."""

    network: TwoStreams
    target: TwoStreams
    """A slow copy, for bootstrapping."""
    optimizer: optax.OptState
    table: Table | None
    """`None` where values are bootstrapped."""
    rollout_state: RolloutState | None
    key: PRNGKeyArray


class UVFA(AbstractLearner):
    """A value of states and goals as a product of two embeddings, on families whose transition
    probabilities are known (two-stage, end-to-end) or not (bootstrapped); reveal must be `context`."""

    name: ClassVar[str] = "uvfa"

    form: Form = eqx.field(static=True, default="two-stage")
    """two-stage, end-to-end or bootstrapped."""
    rank: int = eqx.field(static=True, default=7)
    """Entries of an embedding."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(128, 128))
    """Hidden layers of each stream (ReLU)."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    discount: float = 0.95
    """Discount factor γ."""
    batch_size: int = eqx.field(static=True, default=256)
    """Entries of the table, or steps with a goal each, in a gradient step."""
    gradient_steps: int = eqx.field(static=True, default=8)
    """Gradient steps an update."""
    num_envs: int = eqx.field(static=True, default=16)
    """Bootstrapped: environments side by side."""
    rollout_length: int = eqx.field(static=True, default=16)
    """Bootstrapped: steps in each environment between two updates."""
    exploration: float = 0.5
    """Bootstrapped: probability of a random action while collecting."""
    target_rate: float = 0.05
    """Bootstrapped: how far the target moves towards the network after each update."""
    clip_targets: bool = eqx.field(static=True, default=True)
    """Bootstrapped: whether targets are kept in [−1/(1 − γ), 0]. Where rewards are −1 and 0, they can only be
    there; with other rewards, switch it off."""

    def __check_init__(self):
        require_positive(self, "rank", "batch_size", "gradient_steps", "num_envs", "rollout_length")
        if self.form not in get_args(Form):
            raise UserError(f"form must be one of {', '.join(get_args(Form))}, not {self.form!r}")

    def init(self, problem: Problem, key: PRNGKeyArray) -> UVFAState:
        family = _require_goals(self, problem)
        network_key, rollout_key, key = jax.random.split(key, 3)
        network = TwoStreams(
            observation_size(family.observation_space),
            context_size(problem),
            family.action_space.n,
            self.rank,
            self.hidden,
            key=network_key,
        )
        table = rollout_state = None
        if self.form == "bootstrapped":
            agent = self._agent(problem, network, 1.0)
            rollout_state = begin_rollout(agent, problem, family, rollout_key, self.num_envs)
        else:
            table = self._table(problem)
        return UVFAState(
            network=network,
            target=network,
            optimizer=optax.scale_by_adam().init(network),  # pyright: ignore[reportArgumentType]
            table=table,
            rollout_state=rollout_state,
            key=key,
        )

    def _table(self, problem: Problem) -> Table:
        """Exact values of every state, action and training goal, and their best factors."""
        family: Any = problem.source
        if not hasattr(family, "transition_probabilities"):
            raise UserError(
                f"'{family.name}' does not know its transition probabilities, so there are no exact"
                " values to factorize; take form 'bootstrapped'"
            )
        free, goals = jnp.asarray(family.free), jnp.asarray(family.assigned[0])
        exact = optimal_goal_values(family.transition_probabilities(), self.discount)
        values = jnp.transpose(exact[goals][:, free], (1, 2, 0))
        matrix = values.reshape(-1, goals.shape[0])
        u, s, v = jnp.linalg.svd(matrix, full_matrices=False)
        rank = min(self.rank, s.shape[0])
        scale = jnp.pad(jnp.sqrt(s[:rank]), (0, self.rank - rank))
        left = jnp.pad(u[:, :rank], ((0, 0), (0, self.rank - rank))) * scale
        right = jnp.pad(v[:rank].T, ((0, 0), (0, self.rank - rank))) * scale
        space = family.observation_space
        context = jax.vmap(lambda g: problem.context(family, {"goal": g}))
        return Table(
            inputs=flatten(space, jax.vmap(family.observation_of)(free)),
            goals=context(goals),
            values=values,
            left=left.reshape(*values.shape[:2], self.rank),
            right=right,
        )

    def collect(self, problem: Problem, state: UVFAState) -> tuple[UVFAState, Rollout | None]:
        if state.rollout_state is None:
            return state, None
        key, rollout_key = jax.random.split(state.key)
        agent = self._agent(problem, state.network, self.exploration)
        rollout_state, experience = rollout(
            agent, problem, problem.source, state.rollout_state, rollout_key, self.rollout_length
        )
        return eqx.tree_at(
            lambda s: (s.rollout_state, s.key), state, (rollout_state, key)
        ), experience

    def learn(
        self, problem: Problem, state: UVFAState, experience: Rollout | None
    ) -> tuple[UVFAState, dict[str, Array]]:
        key, draw_key = jax.random.split(state.key)
        keys = jax.random.split(draw_key, self.gradient_steps)
        if experience is None:
            loss = self._table_loss(state)
        else:
            loss = self._bootstrapped_loss(problem, state, experience)

        def step(carry: tuple, key: PRNGKeyArray):
            network, optimizer_state = carry
            value, gradient = jax.value_and_grad(loss)(network, key)
            stepped = descend(
                optax.scale_by_adam(), gradient, optimizer_state, network, self.learning_rate
            )
            return stepped, value

        (network, optimizer_state), losses = lax.scan(step, (state.network, state.optimizer), keys)
        target = jax.tree.map(
            lambda slow, now: slow + self.target_rate * (now - slow), state.target, network
        )
        metrics = {"loss/value": jnp.mean(losses)}
        if experience is None:
            assert state.table is not None
            fitted = network(state.table.inputs[:, None], state.table.goals[None])
            exact = jnp.swapaxes(state.table.values, 1, 2)
            metrics["value_error"] = jnp.sqrt(jnp.mean((fitted - exact) ** 2))
            # No episode is played: what acting by the exact values would return, on average.
            metrics["return"] = jnp.mean(jnp.max(fitted, axis=-1))
        else:
            metrics["return"] = experience.mean_return()
        state = UVFAState(
            network=network,
            target=target,
            optimizer=optimizer_state,
            table=state.table,
            rollout_state=state.rollout_state,
            key=key,
        )
        return state, metrics

    def _table_loss(self, state: UVFAState):
        """The regression of one minibatch of entries of the table, by network and key."""
        table = state.table
        assert table is not None
        states, goals = table.inputs.shape[0], table.goals.shape[0]

        def loss(network: TwoStreams, key: PRNGKeyArray) -> Float[Array, ""]:
            state_key, goal_key = jax.random.split(key)
            s = jax.random.randint(state_key, (self.batch_size,), 0, states)
            g = jax.random.randint(goal_key, (self.batch_size,), 0, goals)
            if self.form == "end-to-end":
                error = network(table.inputs[s], table.goals[g]) - table.values[s, :, g]
                return jnp.mean(error**2)
            left = jnp.mean((network.phi(table.inputs[s]) - table.left[s]) ** 2)
            return left + jnp.mean((network.goal(table.goals[g]) - table.right[g]) ** 2)

        return loss

    def _bootstrapped_loss(self, problem: Problem, state: UVFAState, experience: Rollout):
        """Q-learning on a minibatch of steps, each for a goal drawn at random."""
        family = problem.source
        assert isinstance(family, AbstractGoalFamily)
        steps, space = experience.transitions, family.observation_space
        flat = jax.tree.map(
            lambda x: x.reshape(steps.action.size, *x.shape[2:]),
            (steps.obs, steps.action, steps.next_obs),
        )

        def loss(network: TwoStreams, key: PRNGKeyArray) -> Float[Array, ""]:
            row_key, goal_key = jax.random.split(key)
            row = jax.random.randint(row_key, (self.batch_size,), 0, steps.action.size)
            obs, action, next_obs = jax.tree.map(lambda x: x[row], flat)
            params = family.tasks(goal_key, "train", self.batch_size)
            context = jax.vmap(lambda p: problem.context(family, p))(params)
            reward, terminated = jax.vmap(family.reward)(obs, action, next_obs, params)
            target = bellman_targets(
                reward,
                1.0 - terminated.astype(jnp.float32),
                state.target(flatten(space, next_obs), context),
                self.discount,
            )
            if self.clip_targets:
                target = jnp.clip(target, lowest_value(self.discount), 0.0)
            values = network(flatten(space, obs), context)
            taken = jnp.take_along_axis(values, action[:, None], axis=1)[:, 0]
            return jnp.mean((taken - target) ** 2)

        return loss

    def agent(self, problem: Problem, state: UVFAState) -> QAgent:
        return self._agent(problem, state.network, 0.0)

    def _agent(self, problem: Problem, network: Any, exploration: float) -> QAgent:
        return QAgent(
            network=network,
            exploration=jnp.asarray(exploration, jnp.float32),
            space=problem.source.observation_space,
        )

    def values(self, problem: Problem, state: UVFAState) -> Float[np.ndarray, "goals states a"]:
        """Return Q(s, a, g) for every cell as goal and as state, `[cells, cells, actions]`, for
        maps and for `stemrl.optimal.policy_quality`. The family must have numbered cells."""
        family: Any = problem.source
        cells = jnp.arange(family.states)
        inputs = flatten(family.observation_space, jax.vmap(family.observation_of)(cells))
        goals = jax.vmap(lambda g: problem.context(family, {"goal": g}))(cells)
        return np.asarray(
            jax.vmap(
                lambda g: state.network(inputs, jnp.broadcast_to(g, (inputs.shape[0], *g.shape)))
            )(goals)
        )

    def steps_per_update(self, problem: Problem) -> int:
        """Return the environment steps of an update where values are bootstrapped; otherwise the
        entries of the table."""
        if self.form == "bootstrapped":
            return self.num_envs * self.rollout_length
        return self.gradient_steps * self.batch_size


def _require_goals(learner: AbstractLearner, problem: Problem) -> Any:
    """The source. Raises `UserError` unless it has goals and a few actions, and the goal is seen."""
    family = problem.source
    actions: Space = family.action_space
    if not isinstance(family, AbstractGoalFamily) or not isinstance(actions, Discrete):
        raise UserError(
            f"'{learner.name}' needs a family with goals and discrete actions, such as 'goal-grid';"
            f" '{family.name}' is none"
        )
    if problem.reveal != "context":
        raise UserError(
            f"the policy of '{learner.name}' must be told its goal: train with reveal 'context'"
        )
    return family
