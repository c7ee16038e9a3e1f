"""What stands beside a method in its card's table: exact optima, reference agents and the plain
alternative, a pretrained policy that is fine-tuned on the episodes of the trial.

Each function gives rows without a bar. All numbers are totals over a trial: the returns of all its
episodes summed, averaged over tasks.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core import AbstractFamily, UserError
from ..evaluation import Evaluation
from ..optimal import (
    bayes_optimal_value,
    best_search,
    goal_known_return,
    problem_of,
    reference_agent,
)
from ..runs import RunConfig
from ..tasks.bandit import Bandit
from ..tasks.gridnavi import GridNavi
from .card import Measure
from .workshop import Workshop, trial_totals

TITLES = {
    "random": "random",
    "greedy": "greedy",
    "epsilon-greedy": "ε-greedy",
    "thompson": "Thompson sampling",
    "ucb1": "UCB1, c = 2",
    "ucb1-tuned": "UCB1 with the prior, c tuned",
    "gittins": "Gittins index, γ = 0.99",
    "psrl": "PSRL",
    "psrl-published": "PSRL with prior mean 0, as published",
    "bayes-optimal": "Bayes-optimal agent",
    "known-task": "the optimum of the known task",
}
"""Names of rows. `ucb1-tuned` is `ucb1` with the best constant of a few, as in RL²'s table, and with
the prior's pulls, without which ten pulls of five arms cannot give the number published there;
`psrl-published` is `psrl` with the prior of that table."""
CONSTANTS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Of UCB1, to choose from."""
STEP_SIZES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Of fine-tuning, to choose from."""


def exact(family: AbstractFamily, *, episodes: int | None = None) -> list[Measure]:
    """Return the exact optima of a trial, averaged over the distribution of tasks: the
    Bayes-optimal one (where it can be solved), and that with the task known. It is for `bandit` and
    `gridnavi`."""
    episodes = family.trial_episodes if episodes is None else episodes
    rows = []
    if isinstance(family, GridNavi):
        rows.append(("Bayes-optimal", best_search(family.size, family.horizon, episodes).value))
        known = episodes * goal_known_return(family.size, family.horizon)
    elif isinstance(family, Bandit):
        with contextlib.suppress(UserError):  # too large to solve
            rows.append(("Bayes-optimal", bayes_optimal_value(family.arms, episodes)))
        known = episodes * family.arms / (family.arms + 1)  # the mean of the largest of uniforms
    else:
        raise UserError(f"{family.name} has no optimum in closed form; play 'known-task'")
    rows.append(("optimum of the known task", known))
    return [Measure(f"{name} (exact)", [value]) for name, value in rows]


def classical(
    workshop: Workshop,
    family: AbstractFamily,
    published: Mapping[str, float | None],
    *,
    trials: int,
    episodes: int | None = None,
) -> list[Measure]:
    """Return the mean total of reference agents on the same tasks, through the evaluator.

    - `published`: which reference agents, by the names of `TITLES`, and the paper's number of each.
    - `trials`: how many trials to play; the standard errors that remain go to the workshop's
      settings.
    - `episodes`: how many episodes a trial has; by default the family's own number.
    """
    episodes = family.trial_episodes if episodes is None else episodes

    def play(name: str, seed: int, tasks: int, **settings: float) -> tuple[float, float]:
        agent = reference_agent(name, family, episodes=episodes, **settings)
        problem = problem_of(name, family)
        options: dict[str, Any] = {"episodes": episodes - 1, "seed": seed}
        (evaluation,) = workshop.judge([agent], problem, tasks=tasks, **options)
        return expected_total(evaluation)

    def compute() -> dict[str, np.ndarray]:
        results = {}
        for name in published:
            workshop.say(f"{TITLES[name]} on {family.identity}")
            if name == "ucb1-tuned":
                # On tasks of their own: the best of several is not to be judged by what chose it.
                constant = workshop.best(
                    CONSTANTS,
                    lambda c: play("ucb1", 1, max(1, trials // 5), constant=c, prior=True)[0],
                )
                result = (*play("ucb1", 0, trials, constant=constant, prior=True), constant)
            elif name == "psrl-published":
                result = (*play("psrl", 0, trials, prior_mean=0.0), math.nan)
            else:
                result = (*play(name, 0, trials), math.nan)
            results[name] = np.array(result)
        return results

    label = f"reference agents of {family.identity}, {episodes} episodes"
    found = workshop.kept(f"references-{_slug(family)}-{episodes}", compute)
    chosen = {TITLES[n]: float(found[n][2]) for n in published if not math.isnan(found[n][2])}
    workshop.settings[label] = {
        "trials": trials,
        "standard_errors": {TITLES[name]: float(found[name][1]) for name in published},
        **({"tuned": chosen} if chosen else {}),
    }
    return [Measure(TITLES[name], [float(found[name][0])], published[name]) for name in published]


def finetuning(
    workshop: Workshop,
    family: str,
    *,
    steps: int,
    tasks: int,
    episodes_per_round: int,
    episodes: int | None = None,
    published: float | None = None,
    family_settings: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    label: str = "finetune",
    step_sizes: Sequence[float] = STEP_SIZES,
    seeds: Sequence[int] | None = None,
) -> Callable[[], Measure]:
    """Begin to train the plain alternative: PPO on all the training tasks for `steps` steps, then
    PPO on the episodes of the trial, `episodes_per_round` at a time. Return a function that gives
    the row: one value a seed, the mean total of a trial.

    The step size of the adaptation is the best of `step_sizes` on training tasks.

    - `tasks`: how many tasks are played to judge it.
    - `episodes_per_round`: must divide the episodes of a trial. An adaptation's advantages are
      standardized, so a round must hold at least two steps to learn from.
    - `episodes`: how many episodes a trial has; by default the family's own number.
    - `settings`: those of `finetune` that differ from the defaults.
    - `seeds`: fewer than all, as in `Workshop.train`.
    """
    config = RunConfig("finetune", family, family_settings=dict(family_settings or {}))
    target: Any = config.problem().target
    total: int = target.trial_episodes if episodes is None else episodes
    if total % episodes_per_round:
        raise UserError(f"rounds of {episodes_per_round} episodes do not fill a trial of {total}")
    if episodes_per_round * target.horizon < 2:
        raise UserError("fine-tuning on one step at a time learns nothing; take a larger width")
    settings = {"adapt_minibatches": 1, "entropy_weight": 0.01, **(settings or {})}
    trained = workshop.train(
        label,
        "finetune",
        family,
        steps=steps,
        settings={**settings, "episodes_per_round": episodes_per_round},
        family_settings=family_settings,
        seeds=seeds,
    )

    def totals(step_size: float, split: str, tasks: int) -> np.ndarray:
        agents = [with_step_size(agent, step_size) for agent in trained.agents]
        options: dict[str, Any] = {"episodes": total - episodes_per_round, "split": split}
        return trial_totals(workshop.judge(agents, trained.problem, tasks=tasks, **options))

    def compute() -> dict[str, np.ndarray]:
        few = max(1, tasks // 5)
        best = workshop.best(step_sizes, lambda size: totals(size, "train", few).mean())
        return {"step_size": np.array(best), "totals": totals(best, "test", tasks)}

    def measure() -> Measure:
        found = workshop.kept(f"{label}-totals-{episodes}", compute)
        workshop.settings[label]["adapt_learning_rate"] = float(found["step_size"])
        name = f"PPO pretrained on all tasks, then fine-tuned every {episodes_per_round} episodes"
        name = name.replace("every 1 episodes", "every episode")
        return Measure(name, found["totals"], published)

    return measure


def expected_total(evaluation: Evaluation) -> tuple[float, float]:
    """Return the mean total of a trial over the distribution of tasks, and its standard error.

    On `bandit` most of the variation between trials is in the arms, whose mean and best have known
    expectations. They serve as control variates: the mean stays unbiased (up to the regression's
    1/tasks), and the error becomes several times smaller.
    """
    totals = evaluation.scores.sum((1, 2)) / evaluation.agents
    if not isinstance(evaluation.target, Bandit) or evaluation.split == "ood":
        return float(totals.mean()), float(totals.std(ddof=1) / math.sqrt(len(totals)))
    arms = np.asarray(evaluation.params["probability"], float)
    k = arms.shape[1]
    known = np.stack([arms.mean(axis=1) - 1 / 2, arms.max(axis=1) - k / (k + 1)], axis=1)
    return adjusted_mean(totals, known)


def adjusted_mean(
    values: Float[np.ndarray, " n"], controls: Float[np.ndarray, "n controls"]
) -> tuple[float, float]:
    """Return the mean of `values` and its standard error, by regression on control variates with an
    expectation of zero: it is the intercept of the least squares fit."""
    design = np.column_stack([np.ones(len(values)), controls])
    if len(values) <= design.shape[1]:
        raise UserError(f"{len(values)} trials are too few; play more")
    fitted = np.linalg.lstsq(design, values, rcond=None)[0]
    left = values - design @ fitted
    variance = left @ left / (len(values) - design.shape[1])
    return float(fitted[0]), float(math.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0]))


def with_step_size(agent: Any, step_size: float) -> Any:
    """A fine-tuned agent that adapts with this step size."""
    return dataclasses.replace(agent, learning_rate=jnp.asarray(step_size))


def _slug(family: AbstractFamily) -> str:
    """A family and its settings, fit for a file's name."""
    return "-".join([family.name, *(f"{k}{v}" for k, v in family.settings().items())])
