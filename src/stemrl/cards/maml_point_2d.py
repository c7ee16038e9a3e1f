"""MAML on navigation in the plane (Finn et al. 1703.03400, §5.3.1)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..core import Carry, Transition
from ..meta.maml_agent import FastWeights, MAMLAgent
from .card import Card, Measure
from .workshop import Trained, Workshop, point_means

PUBLISHED = {
    "MAML": (-40.41, -11.68, -3.33, -3.23),
    "pretrained": (-40.81, -19.73, -11.72, -8.47),
    "random": (-82.66, -57.96, -53.84, -46.81),
}
"""Mean return after 0, 1, 2 and 3 gradient steps: the authors' raw results, on 40 goals."""
BARS = (-45.0, -11.7, -3.4, -3.3)
ORACLE = -2.29
"""Theirs, of a policy that is told its goal."""

# The authors' code: 20 episodes of 100 steps, inner rate 0.5, TRPO with 0.01, 100-100 ReLU. It
# has meta-batches of 40 tasks and 100 iterations; the run whose results were published had 20, says
# the name of its file. Here 20, and the environment steps of 40.
SETTINGS = {
    "meta_batch_size": 20,
    "inner_episodes": 20,
    "inner_learning_rate": 0.5,
    "hidden": (100, 100),
}
ITERATIONS = 200
# PPO that is told its goal, in large batches.
TOLD = {
    "num_envs": 160, "rollout_length": 100, "epochs": 4, "minibatches": 16, "learning_rate": 1e-3,
}  # fmt: skip
STEPS = 3
PLAIN_RATES = (0.5, 0.1, 0.02, 0.004, 0.001)
"""What the step size of pretraining is chosen from, on training tasks: its deviation has all but
gone, and at MAML's rate its first step leads nowhere."""
AUTHORS = (0.5,)
"""The authors' factor on the inner rate at the second and third step, which training takes none of."""
LATER_RATES = (0.35, 0.3, 0.25, 0.2)
"""Ours: for each policy and step the one of these that is best on training tasks."""
ADAPT_STEPS = 4_000
"""Environment steps that each gradient step at test is taken on: the authors' test says so, twice the
20 episodes of training while those last 100 steps, and more episodes when they reach the goal."""
MOST_EPISODES = 100
"""Of a gradient step; they suffice down to a mean length of 40."""


class ByTheStep(MAMLAgent):
    """Takes its gradient steps on the first episodes of a round that make up `ADAPT_STEPS`."""

    def adapt(
        self,
        memory: FastWeights,
        carries: Carry,
        episodes: Transition | None,
        key: PRNGKeyArray | None = None,
    ) -> FastWeights:
        assert episodes is not None
        lengths = jnp.sum(episodes.valid, axis=1)
        used = jnp.cumsum(lengths) - lengths < ADAPT_STEPS
        valid = episodes.valid & used[:, None]
        return super().adapt(memory, carries, eqx.tree_at(lambda e: e.valid, episodes, valid), key)


def run(workshop: Workshop) -> Sequence[Measure]:
    """Meta-train, then adapt to goals that were never met. Beside it the same with an inner rate of
    0, which is pretraining on all goals; a policy that was never trained; PPO told its goal."""
    tasks = workshop.pick(800, 8)
    settings = SETTINGS | workshop.pick({}, {"meta_batch_size": 2, "inner_episodes": 4})
    family = {"horizon": workshop.pick(100, 20)}
    iterations = workshop.pick(ITERATIONS, 2)
    trained_on = settings["inner_episodes"]
    steps = iterations * settings["meta_batch_size"] * 2 * trained_on * family["horizon"]
    rate = settings["inner_learning_rate"]

    def train(label: str, method: str, settings: dict[str, Any], **options: Any) -> Trained:
        fixed = {"steps": steps, "settings": settings, "family_settings": family}
        return workshop.train(label, method, "point-2d", **{**fixed, **options})

    meta = train("maml", "maml", settings)
    # What only stands beside is of fewer seeds, and judged on fewer tasks.
    pretrained = train(
        "pretrained",
        "maml",
        settings | {"inner_learning_rate": 0.0},
        seeds=workshop.seeds[:3],
    )
    few = workshop.pick(50, 4)
    episodes_per_round = workshop.pick(2 * trained_on, trained_on)
    informed = train(
        "oracle",
        "finetune",
        {"episodes_per_round": episodes_per_round, **TOLD}
        | workshop.pick({}, {"num_envs": 2, "minibatches": 2}),
        reveal="context",
        steps=-(-steps // 4),
        seeds=workshop.seeds[:1],
    )

    def points(agents: Sequence[Any], steps: int = STEPS, **options: Any) -> np.ndarray:
        """Mean return after each of so many gradient steps, `[steps + 1, seeds]`."""
        options = {"tasks": tasks, "episodes": steps * agents[0].episodes_per_round, **options}
        return point_means(workshop.judge(agents, meta.problem, **options)).T

    def by_the_step(
        agents: Sequence[Any], factors: Sequence[float], rate: float = rate, **options: Any
    ) -> np.ndarray:
        """Theirs, with those factors on the inner rate at the second and the third step."""
        changes = {
            "episodes_per_round": workshop.pick(MOST_EPISODES, trained_on),
            "inner_learning_rate": jnp.asarray(rate),
            "later_step_factor": jnp.asarray(factors),
        }
        return points([ByTheStep(**_parts(agent) | changes) for agent in agents], **options)

    def chosen(agent: Any) -> tuple[float, float]:
        """The best factors for one policy, one step after the other, on training tasks."""

        def after(steps: int, *factors: float) -> float:
            options = {"steps": steps, "split": "train", "tasks": tasks // 10}
            return by_the_step([agent], factors, **options)[steps].item()

        second = workshop.best(LATER_RATES, lambda f: after(2, f))
        third = workshop.best(LATER_RATES, lambda f: after(3, second, f))
        return second, third

    later = [chosen(agent) for agent in meta.agents]
    workshop.settings["maml"] |= {
        "later_rates": later,
        "steps_of_a_gradient_step_at_test": ADAPT_STEPS,
    }
    maml = np.concatenate(
        [by_the_step([a], factors) for a, factors in zip(meta.agents, later, strict=True)], 1
    )
    authors = by_the_step(meta.agents, AUTHORS, tasks=few)
    as_trained = [
        dataclasses.replace(agent, later_step_factor=jnp.asarray(factors))
        for agent, factors in zip(meta.agents, later, strict=True)
    ]
    fewer = points(as_trained, tasks=tasks // 4)

    def plainly(rate: float, **options: Any) -> np.ndarray:
        return by_the_step(pretrained.agents, AUTHORS, rate, tasks=few, **options)

    plain_rate = workshop.best(PLAIN_RATES, lambda rate: plainly(rate, split="train")[1:].mean())
    workshop.settings["pretrained"]["rate_at_test"] = plain_rate
    plain = plainly(plain_rate)
    untrained = by_the_step(_untrained(meta), AUTHORS, tasks=few)
    (told,) = workshop.judge(informed.agents, informed.problem, tasks=tasks, episodes=0)
    after = [f"after {i} gradient step{'s' * (i != 1)}" for i in range(STEPS + 1)]
    return [
        *(
            Measure(f"MAML {after[i]}", maml[i], PUBLISHED["MAML"][i], BARS[i])
            for i in range(STEPS + 1)
        ),
        *(
            Measure(f"MAML {after[i]}, rate then halved as the authors'", authors[i])
            for i in range(2, STEPS + 1)
        ),
        *(
            Measure(f"MAML {after[i]}, on {trained_on} episodes a step as in training", fewer[i])
            for i in range(1, STEPS + 1)
        ),
        *(
            Measure(f"pretrained on all goals, {after[i]}", plain[i], PUBLISHED["pretrained"][i])
            for i in range(STEPS + 1)
        ),
        *(
            Measure(f"never trained, {after[i]}", untrained[i], PUBLISHED["random"][i])
            for i in range(STEPS + 1)
        ),
        Measure("told its goal", [float(told.scores.mean())], ORACLE),
    ]


def _parts(agent: Any) -> dict[str, Any]:
    return {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}


def _untrained(trained: Trained) -> list[Any]:
    """An agent of each seed before the first update."""
    agents = []
    for run in trained.runs:
        for i in range(run.config.seeds):
            state = run.learner.init(run.problem, jax.random.key(run.config.seed + i))
            agents.append(run.learner.agent(run.problem, state))
    return agents


CARD = Card(
    name="maml-point-2d",
    title="MAML finds goals in the plane after one gradient step and more",
    source="Finn et al. 2017 (1703.03400), §5.3.1; numbers of the authors' raw results",
    run=run,
    seeds=5,
    note=(
        "Goals differ much: the deviation over goals is 2.6, so that the 800 goals here leave an error"
        " of 0.07 and the published 40 one of 0.28. What is left after two steps are goals in the"
        " corners, which two steps are too short for, and some near the start, which the first step"
        " runs away from. The best factor on a later step depends on the policy's deviation (0.46"
        " after 100 iterations, 0.36 after 200), for the gradient is as much longer as that is smaller."
    ),
    differs=(
        "The setting is the authors' code's, its test included, which takes a gradient step on 4,000"
        " environment steps.",
        "20 tasks an iteration, as in the run that was published (its file's name says so), and 200"
        " iterations, which makes the environment steps of the code's 40 tasks × 100.",
        "The second and third step, which training takes none of, are taken each with a factor on the"
        " inner rate that is chosen for each policy on training tasks. For pretraining and for what"
        " was never trained it is the authors' ½; pretraining's rate is chosen in the same way.",
        "Pretraining is MAML with an inner rate of 0, on the same steps, of three seeds; the policy"
        " that is told its goal is of one.",
    ),
    tried=(
        ("two steps, one factor for both and for all policies", "−3.53 [−3.91, −3.15]"),
        ("the same seeds trained in one program, which rounds otherwise", "−3.33 [−3.72, −2.94]"),
        ("one factor for each step (five seeds)", "−3.48 [−3.69, −3.28]"),
        (
            "one for each step and policy, chosen on 50 training goals",
            "−3.37 [−3.68, −3.07] on 400 test goals, −3.48 [−3.83, −3.13] on 600 others",
        ),
        ("40 tasks × 100 iterations", "−3.86 [−4.19, −3.54]"),
        (
            "100 iterations at the best of four factors (60 training goals, four seeds)",
            "−3.65 at 0.4",
        ),
        ("175 iterations", "−3.23 at 0.3"),
        ("200 iterations", "−3.19 at 0.3, −3.74 at 0.22, where the third step is best"),
        ("mean weights of the last 50 iterations", "0.05 better than the last (60 training goals)"),
    ),
    revised=(
        "the factors on later steps came in, and the goals of a choice and of a test became more,"
        " after earlier recipes had missed it on test goals. The row is a coin toss at its bar."
    ),
)
