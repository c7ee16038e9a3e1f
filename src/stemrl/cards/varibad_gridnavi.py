"""VariBAD on the hidden goal of a 5×5 grid, against the exact Bayes optimum (1910.08348, §5.1); and what
teaches an encoder: a decoder, the policy, or the KL alone."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..meta import BeliefAgent
from ..meta.belief import latent
from ..optimal import best_search
from ..report.belief_map import belief_map, believed_rewards
from ..rl import play
from ..tasks.gridnavi import GridNavi
from .baselines import exact
from .card import Card, Measure, differences
from .workshop import Trained, Workshop, point_means, trial_totals

SHARE, AIM = 0.95, 0.98
"""Of the Bayes-optimal total, to be reached."""
CHANCE = 1 / 21
STEPS, STOPPED = 6_000_000, 1_000_000
PPO: dict[str, Any] = {"batch_steps": 12_000, "learning_rate": 2e-3, "entropy_weight": 0.01}
VARIBAD: dict[str, Any] = {
    "batch_steps": 2_400,
    "epochs": 4,
    "learning_rate": 1e-3,
    # Falling to nothing: at a constant 0.01 one of two seeds was certain before it had looked far.
    "entropy_weight": 0.03,
    "anneal_entropy": True,
    "latent_size": 16,
    "reward_inputs": "next_state",
    "hidden": (64, 64),
    "activation": "relu",
    "decoder_hidden": (64, 64),
    "decoder_features": 64,
    "vae_minibatches": 2,
    "vae_epochs": 3,
    "kl_weight": 0.1,
}
LONGER = 2
"""Times the trained number of episodes that trials are played on for."""
GOAL = (3, 4)
"""Of the trial that is drawn."""


def run(workshop: Workshop) -> Sequence[Measure]:
    """Trials of four episodes, and of eight; each seed plays every goal many times."""
    family = GridNavi()
    varibad = _train(workshop, "varibad", "varibad", STEPS, VARIBAD)
    others = {
        "RL²": _train(workshop, "rl2", "rl2", STEPS, PPO),
        "encoder only": _train(workshop, "encoder-only", "variational-rnn", STEPS, PPO),
    }
    stopped = _train(
        workshop, "stopped", "variational-rnn", STOPPED, {**PPO, "encode": 0.0, "noise": 1.0}
    )
    optimum = best_search(family.size, family.horizon, family.trial_episodes).value
    rows, ours = _played(workshop, "VariBAD", varibad)
    rows[0] = Measure(rows[0].name, ours, bar=SHARE * optimum, aim=AIM * optimum)
    for name, trained in others.items():
        more, theirs = _played(workshop, name, trained)
        rows += more
        rows.append(Measure(f"VariBAD − {name}, paired", differences(ours, theirs)))
    rows += _stopped(workshop, others["encoder only"], stopped)
    drawn: Any = varibad.agents[0]
    walk = believed_rewards(drawn, family, GOAL, jax.random.key(0), family.trial_episodes)
    belief_map({"VariBAD": walk}, workshop.picture("belief"))
    return [*rows, *exact(family)]


def _train(
    workshop: Workshop, label: str, method: str, steps: int, settings: dict[str, Any]
) -> Trained:
    # One number of updates for all, so that the two encoders are one program.
    small = {"batch_steps": 240, "epochs": 1, "hidden_size": 8, "minibatches": 2}
    small["anneal_updates"] = 2
    if method == "varibad":
        small |= {"vae_epochs": 1, "vae_minibatches": 2}
    settings = {**settings, "anneal_updates": steps // settings["batch_steps"]}
    settings |= workshop.pick({}, small)
    return workshop.train(
        label, method, "gridnavi", steps=workshop.pick(steps, 480), settings=settings
    )


def _played(workshop: Workshop, name: str, trained: Trained) -> tuple[list[Measure], list[float]]:
    """Rows on the totals of trials, episode by episode and past the trained number; and the totals."""
    episodes = trained.problem.source.trial_episodes
    tasks = workshop.pick(21 * 50, 21)
    found = workshop.evaluate(trained, tasks=tasks, episodes=LONGER * episodes - 1)
    each = point_means(found)  # [seeds, episodes]
    count = np.arange(1, each.shape[1] + 1)
    workshop.curve("episodes", name, count, each, x_label="episode", y_label="return")
    totals = each[:, :episodes].sum(1).tolist()
    return [
        Measure(f"{name}, total of {episodes} episodes", totals),
        Measure(f"{name}, episode 1", each[:, 0]),
        Measure(f"{name}, episode {episodes}", each[:, episodes - 1]),
        Measure(
            f"{name}, episodes {episodes + 1} to {each.shape[1]}, mean", each[:, episodes:].mean(1)
        ),
    ], totals


def _stopped(workshop: Workshop, taught: Trained, stopped: Trained) -> list[Measure]:
    """What the latent says where the policy's gradient does not reach the encoder, and where it does."""
    family = GridNavi()
    tasks = workshop.pick(21 * 100, 42)
    kl, rows = [], {}
    for name, trained in (("encoder only", taught), ("gradient stopped", stopped)):
        probed = [_probe(agent, family, tasks) for agent in trained.agents]
        rows[name] = [accuracy for accuracy, _ in probed]
        kl = [nats for _, nats in probed]
    found = workshop.evaluate(stopped, tasks=workshop.pick(21 * 50, 21))
    return [
        Measure("gradient stopped, total of 4 episodes", trial_totals(found)),
        Measure("gradient stopped, KL (nats a step)", kl, bar=0.01, direction="at most"),
        Measure(
            "gradient stopped, goals named by a linear probe of ω (chance 0.048)",
            rows["gradient stopped"], bar=0.1, direction="at most", proportion=True,
        ),
        Measure(
            "encoder only, goals named by the same probe", rows["encoder only"], proportion=True
        ),
    ]  # fmt: skip


def _probe(agent: BeliefAgent, family: GridNavi, tasks: int) -> tuple[float, float]:
    """Share of goals that a linear classifier names from ω at the end of a trial, on other trials than
    it has learned from; and the KL to the posterior a step before, in nats a step."""
    goals = family.goals("test")

    @eqx.filter_jit
    def run(agent: BeliefAgent) -> tuple[Array, Array, Array]:
        key, task_key = jax.random.split(jax.random.key(1))
        params = family.tasks(task_key, "test", tasks)
        steps = play(agent, family, params, None, key, family.trial_episodes).transitions
        info = steps.info
        omega = latent(info["belief"], info["noise"])[:, -1, 0, -1]
        label = jnp.argmax(jnp.all(params["goal"][:, None] == goals, axis=-1), axis=1)
        return omega, label, jnp.mean(info["belief"].kl(info["prior"]))

    omega, label, kl = run(agent)
    return float(_linear_accuracy(omega, label, len(goals))), float(kl)


@eqx.filter_jit
def _linear_accuracy(x: Array, label: Array, classes: int) -> Array:
    """Of multinomial logistic regression, fitted on the first half, on the second."""
    half = len(x) // 2
    x = (x - x[:half].mean(0)) / (x[:half].std(0) + 1e-8)
    adam = optax.adam(0.05)
    weights = (jnp.zeros((x.shape[1], classes)), jnp.zeros(classes))

    def loss(weights: Any) -> Array:
        logits = x[:half] @ weights[0] + weights[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, label[:half]).mean()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        weights, state = carry
        updates, state = adam.update(jax.grad(loss)(weights), state)
        return (optax.apply_updates(weights, updates), state), None

    (weights, _), _ = jax.lax.scan(step, (weights, adam.init(weights)), None, length=1_000)
    named = jnp.argmax(x[half:] @ weights[0] + weights[1], axis=1)
    return jnp.mean(named == label[half:])


CARD = Card(
    name="varibad-gridnavi",
    title="VariBAD searches a grid nearly as the Bayes-optimal agent; what teaches its encoder",
    source="GridNavi of VariBAD (Zintgraf et al. 2020, 1910.08348), §5.1; the optimum is exact",
    run=run,
    note=(
        "The paper has a curve: VariBAD at the optimum from the third episode on, and no loss past the"
        " trained number of episodes, where RL² loses. *Encoder only* is `variational-rnn`: the policy"
        " teaches, with the KL; with its gradient *stopped* the KL alone is left. The probe is a linear"
        " classifier of the goal by the ω that the policy is shown at a trial's end."
    ),
    differs=(
        "A latent of 16, not 5; updates of 2,400 steps, not 960; a KL weight of 0.1, not 0.01; no buffer of"
        " earlier trials for the autoencoder; 6 million steps, not 20.",
        "The decoder is a product of two networks with a Gaussian error, where the authors' has an output for"
        " every cell and the probability of the goal.",
        "What stands beside VariBAD has the settings that RL² has on `rl2-gridnavi`, not VariBAD's: updates of 12,000"
        " steps with a constant entropy weight of 0.01, where VariBAD's are of 2,400 and its weight falls from 0.03."
        " So the paired rows compare methods as each is set, not one change alone. With the gradient stopped there is"
        " 1 million steps.",
    ),
    tried=(
        (
            "entropy weight 0.01, constant (another seed, 4M steps)",
            "31.4: it stops searching halfway",
        ),
        ("latent 5, as the authors (one seed, 3M steps, training goals)", "33.3"),
        ("latent 16 (the same; entropy weight 0.01, constant)", "36.2"),
        ("latent 5, KL weight 0.01, tanh, updates of 12,000 steps (the same)", "26.9"),
        ("latent 5, KL weight 1 (one seed, 1.2M steps; weight 0.1 had 30.5 after 1.1M)", "23.8"),
    ),
)
