"""The same as on the command line, in a few lines of Python.

import stemrl

run = stemrl.train("maml", "half-cheetah-vel", out="runs/x", steps=1_000_000)
print(stemrl.evaluate(run, episodes=40).points)
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from . import evaluation, own_code, registry, runs
from .agents import open_agent
from .core import (
    AbstractAgent,
    AbstractFamily,
    AbstractLearner,
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    AbstractTasks,
    FewShotAgent,
    Params,
    Problem,
)
from .errors import UserError, nearest
from .evaluation import Evaluation, FewShotEvaluation
from .evaluation.playing import Progress
from .naming import split_name
from .reading import at_home
from .runs import Run, RunConfig
from .runs.run import Which
from .settings import settings_of

Learner = AbstractLearner | AbstractSupervisedLearner
"""Whatever can be trained."""
Family = AbstractFamily | AbstractSupervisedFamily
"""Whatever it can be trained on."""


def make_family(name: str, **settings: Any) -> Any:
    """Return a family by its name, or one of your own by `file.py:Class`. `settings` are those that
    differ from the defaults. Raises `UserError` for an unknown name or setting."""
    return RunConfig(method="", family=name, family_settings=settings).problem().source


def make_learner(name: str, **settings: Any) -> Any:
    """Return a method by its name, or one of your own by `file.py:Class`, with these
    hyper-parameters. Raises `UserError` for an unknown name or hyper-parameter."""
    return RunConfig(method=name, family="", settings=settings).learner()


def load(path: str | Path) -> Run:
    """Return the run in the folder `path`, or the trained agent of that name (`stemrl list
    agents`). Raises `UserError` if there is neither."""
    path = _path_of(path, "a run")
    name = str(path)
    if not path.exists():
        if name in registry.AGENTS:
            return open_agent(name)
        if path.name == name:
            raise UserError(
                f"there is no run in {name}: it is no folder, nor the name of a trained agent"
                + nearest(name, registry.AGENTS)
            )
    return Run.open(path)


def train(
    method: str | Learner | type[Learner],
    family: str | Family | type[Family] | gymnasium.Env,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    family_settings: Mapping[str, Any] | None = None,
    target: str | Family | type[Family] | gymnasium.Env | None = None,
    target_settings: Mapping[str, Any] | None = None,
    track: str | Iterable[str] = (),
    callback: Callable[[dict[str, Any]], Any] | None = None,
    **options: Any,
) -> Run:
    """Train a method on a family, and return the finished run.

    **Arguments:**

    - `method`, `family`, `target`: names; or classes or instances of your own, defined in a file
      from which the run can be opened again. A family may also be a `gymnasium.Env` that
      `gymnasium.make` has made: it is then one task, in which nothing differs. It is made anew by its
      name: attributes that were set on the object are lost, and where it has no time limit of its own an
      episode ends after 200 steps.
    - `out`: the run's folder; by default `runs/METHOD-FAMILY-seedN`.
    - `resume`: go on with the run in `out`.
    - `family_settings`, `target_settings`: settings that differ from the defaults.
    - `track`: `tensorboard`, `wandb` or `mlflow`, or several of them, to which the metrics are
      mirrored; each is an extra of the package.
    - `callback`: is called with every row of `metrics.jsonl`, a dictionary: of `kind` `update`, with the
      metrics by name, or `evaluation`, with `score` and `points`. If it returns False, training stops at
      the end of the chunk of updates that the row belongs to (about a second's), is saved, and can be
      resumed; if it raises, that is raised once the run is saved. Rows after that it is not called with.
    - `options`: fields of `RunConfig` (`steps`, `seed`, `seeds`, `reveal`, …) and hyper-parameters
      of the method, by name.

    Raises `UserError` for what cannot be trained, `stemrl.runs.Interrupted` after SIGINT.
    """
    if own_code.being_read:
        raise UserError(
            f"{own_code.being_read[-1]} trains when it is imported; put that under"
            " if __name__ == '__main__':"
        )
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    config: dict[str, Any] = {name: v for name, v in options.items() if name in fields}
    hyper = {name: v for name, v in options.items() if name not in fields}
    config["method"], defaults = _named("methods", method)
    config["settings"] = {**defaults, **config.get("settings", {}), **hyper}
    config["family"], defaults = _named("families", family)
    config["family_settings"] = {**defaults, **(family_settings or {})}
    if target is not None:
        config["target"], defaults = _named("families", target)
        config["target_settings"] = {**defaults, **(target_settings or {})}
    _refuse_misplaced(hyper, config)
    made = RunConfig(**config)
    track = (track,) if isinstance(track, str) else track
    folder = default_folder(made) if out is None or out == "" else _path_of(out, "out")
    return runs.train(
        made, folder, resume=resume, progress=progress, track=track, callback=callback
    )


def _refuse_misplaced(hyper: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise `UserError` for a setting of the family that was given as one of the method's."""
    of_method, of_family = (
        {setting.name for setting in settings_of(registry.find(kind, split_name(name)[0]).path)}
        for kind, name in (("methods", config["method"]), ("families", config["family"]))
    )
    for name, value in hyper.items():
        if name not in of_method and name in of_family:
            raise UserError(
                f"'{name}' is a setting of the family '{config['family']}', not of the method:"
                f" family_settings={{{name!r}: {value!r}}}"
            )


def _path_of(path: Any, what: str) -> Path:
    """A path with the home folder written out. Raises `UserError` for what is none."""
    if not isinstance(path, str | Path):
        raise UserError(f"{what} is a folder, a text or pathlib.Path, not {path!r}")
    return Path(at_home(str(path)))


def _refuse_fractions(**numbers: Any) -> None:
    """Raise `UserError` for what must be a whole number, where it is given, and is none."""
    for name, value in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not whole:
            raise UserError(f"{name} must be a whole number, not {value!r}")


def default_folder(config: RunConfig) -> Path:
    """Return the folder in which a run is made if no other is given."""
    names = (name.rpartition(":")[2] for name in (config.method, config.family))
    return Path("runs") / f"{'-'.join(names)}-seed{config.seed}"


def evaluate(
    what: Run | AbstractAgent | FewShotAgent | str | Path,
    problem: Problem | str | Family | type[Family] | gymnasium.Env | None = None,
    *,
    split: str = "test",
    tasks: int = 100,
    episodes: int | None = None,
    seed: int = 0,
    most_likely: bool = False,
    which: Which = "last",
    method: str = "",
    oracle: Run | str | Path | None = None,
    shots: int | None = None,
    gradient_steps: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Let what was trained adapt to held-out tasks, and return an `Evaluation`, or a
    `FewShotEvaluation` of what learned from labelled examples. See `stemrl.evaluation.evaluate`.

    **Arguments:**

    - `what`: a run, its folder, the name of a trained agent (`stemrl list agents`), or an agent
      (then together with the `problem` or family to play).
    - `problem`: another problem than the run's own, or another family to play in, as `train` takes it: another
      simulator of the same robot, say. Its spaces must be those of the run.
    - `split`, `tasks`, `episodes`, `seed`, `most_likely`: as in `stemrl.evaluation.evaluate`.
    - `which`: a run's `last` or `best` checkpoint, or that after so many environment steps. All
      agents of a run with several seeds play the same tasks, and are evaluated together.
    - `method`: an agent's name, for the result.
    - `oracle`: a run, its folder, or the name of a trained agent, on the same family and trained
      with `reveal="context"`. It plays the same tasks, and the result has the gap to it.
    - `shots`, `gradient_steps`: for what learned from labelled examples: how many shots it is given
      of a task, and how many steps it takes on them; by default as in training.
    - `progress`: is called with the number of tasks that have been played and that of all, whenever
      some have.

    Raises `UserError` for a run that cannot be opened, and for options that do not fit.
    """
    _refuse_fractions(
        tasks=tasks, episodes=episodes, seed=seed, shots=shots, gradient_steps=gradient_steps
    )
    if isinstance(what, list | tuple):
        raise UserError("one run is evaluated; compare takes several")
    run = load(what) if isinstance(what, str | Path) else what
    if isinstance(run, FewShotAgent) or (isinstance(run, Run) and run.supervised):
        evaluation.refuse_acting(
            _said(run), episodes=episodes, most_likely=most_likely, oracle=oracle
        )
        given = {"shots": shots, "gradient_steps": gradient_steps, "progress": progress}
        return _few_shot(run, which, method, split=split, tasks=tasks, seed=seed, **given)
    evaluation.refuse_examples(_said(run), shots=shots, gradient_steps=gradient_steps)
    if isinstance(run, Run):
        method, problem = run.config.method, run.problem if problem is None else problem
        agents = [run.agent(which, index) for index in range(run.config.seeds)]
    else:
        agents = [run]
    if problem is None:
        raise UserError("an agent is evaluated on a problem or family; give one")
    if not isinstance(problem, Problem):
        problem = _played_in(problem, run)
    options: dict[str, Any] = {
        "split": split,
        "tasks": tasks,
        "seed": seed,
        "most_likely": most_likely,
        "progress": progress,
    }
    oracle_run = None if oracle is None else _oracle(oracle, problem)
    parts = [
        evaluation.evaluate(agent, problem, episodes=episodes, method=method, **options)
        for agent in agents
    ]
    result = Evaluation.together(parts) if len(parts) > 1 else parts[0]
    runs.forget_programs()
    if oracle_run is None:
        return result
    # On about as many episodes: told the task, it is none the better for more.
    used = int(result.points[-1]["episodes_used"])
    # A number of steps is of the run's own training, not of the oracle's.
    options["which"] = which if isinstance(which, str) else "last"
    episodes_per_round = oracle_run.agent(options["which"]).episodes_per_round
    played = evaluate(
        oracle_run, episodes=used // episodes_per_round * episodes_per_round, **options
    )
    return dataclasses.replace(result, oracle=played)


def _few_shot(
    what: Run | FewShotAgent, which: Which, method: str, **options: Any
) -> FewShotEvaluation:
    agents: list[Any] = [what]
    if isinstance(what, Run):
        agents = [what.agent(which, index) for index in range(what.config.seeds)]
        method = what.config.method
    parts = [evaluation.evaluate_few_shot(one, method=method, **options) for one in agents]
    return FewShotEvaluation.together(parts)


def _said(what: Any) -> str:
    return str(what.path) if isinstance(what, Run) else f"a {type(what).__name__}"


def _oracle(oracle: Run | str | Path, problem: Problem) -> Run:
    run = oracle if isinstance(oracle, Run) else load(oracle)
    if run.problem.reveal != "context":
        raise UserError(f"{run.path} is no oracle: it was trained without --reveal context")
    ours, theirs = problem.target.identity, run.problem.target.identity
    if ours != theirs:
        raise UserError(f"{run.path} is no oracle here: it is of {theirs}, not of {ours}")
    return run


def adapt(
    run: Run | str | Path,
    task: Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    tasks: int = 1,
    episodes: int | None = None,
    seed: int = 0,
    most_likely: bool = False,
    which: Which = "last",
    member: int = 0,
    shots: int | None = None,
    gradient_steps: int | None = None,
) -> tuple[Params, np.ndarray]:
    """Adapt to tasks one by one. Return their parameters `[tasks, …]` and the returns of the
    episodes, `[tasks, rounds, episodes]`, with one adaptation between two rounds. For a supervised
    run, return the scores `[tasks, points, 1]` after more and more examples instead of returns (see
    `FewShotEvaluation.shots`).

    **Arguments:**

    - `task`: values for some of the parameters, by name; the others are drawn.
    - `member`: which of a run's seeds, counted from 0.
    - the rest are as for `evaluate`.
    """
    _refuse_fractions(
        tasks=tasks,
        episodes=episodes,
        seed=seed,
        member=member,
        shots=shots,
        gradient_steps=gradient_steps,
    )
    if task is not None and not isinstance(task, Mapping):
        raise UserError(f"task gives values by the names of parameters, not {task!r}")
    run = run if isinstance(run, Run) else load(run)
    if run.supervised:
        evaluation.refuse_acting(_said(run), episodes=episodes, most_likely=most_likely)
        found = adapt_few_shot(
            run,
            task,
            split=split,
            tasks=tasks,
            seed=seed,
            which=which,
            member=member,
            shots=shots,
            gradient_steps=gradient_steps,
        )
        return found.params, found.scores
    evaluation.refuse_examples(_said(run), shots=shots, gradient_steps=gradient_steps)
    agent, family = run.agent(which, member), run.problem.target
    rounds = (
        evaluation.episodes_to_adapt(agent.episodes_per_round, family, episodes)
        // agent.episodes_per_round
        + 1
    )
    params, key = evaluation.draw_tasks(family, split, tasks, seed)
    params = with_values(params, task or {}, family)
    if most_likely:
        agent = dataclasses.replace(agent, greedy=True)
    return params, evaluation.play_tasks(agent, run.problem, params, key, rounds)[0]


def adapt_few_shot(
    run: Run,
    task: Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    tasks: int = 1,
    seed: int = 0,
    which: Which = "last",
    member: int = 0,
    shots: int | None = None,
    gradient_steps: int | None = None,
) -> FewShotEvaluation:
    """Do what `adapt` does, with one agent of a supervised run."""
    agent = run.agent(which, member)
    params = None  # those that the evaluation draws
    if task:
        family, most = run.problem.target, agent.learner.shots if shots is None else shots
        drawn = evaluation.draw_few_shot(family, split, tasks, most, 1, seed)[0]
        params = with_values(drawn, task, family)
    return evaluation.evaluate_few_shot(
        agent,
        split=split,
        tasks=tasks,
        seed=seed,
        shots=shots,
        gradient_steps=gradient_steps,
        method=run.config.method,
        params=params,
    )


def named_parameters(
    params: Params, entries: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Return the parameters of some tasks, `[tasks, …]`, by their path in the tree, such as `goal`
    or `body/mass`; of a vector whose `entries` have names (`AbstractTasks.parameter_names`), each
    entry by its own."""
    named = {}
    for name, leaf in _leaves(params).items():
        own = (entries or {}).get(name, ())
        if own and leaf.shape[1:] == (len(own),):
            named |= {entry: leaf[:, i] for i, entry in enumerate(own)}
        else:
            named[name] = leaf
    return named


def with_values(params: Params, values: Mapping[str, Any], family: AbstractTasks) -> Params:
    """Return `params`, `[tasks, …]`, with some leaves, or some entries that the family has names
    for, set to the same value in every task. Raises `UserError` for a name or a value that does not
    fit, and for a task that cannot be."""
    leaves = _leaves(params)
    places = {
        entry: (name, index)
        for name, own in family.parameter_names().items()
        if name in leaves and leaves[name].shape[1:] == (len(own),)
        for index, entry in enumerate(own)
    }
    for name, value in values.items():
        if name not in leaves and name not in places:
            raise UserError(f"a task has no parameter '{name}'{nearest(name, {*places, *leaves})}")
        whole, index = places.get(name, (name, ...))
        old = leaves[whole]
        shape = old.shape[1:] if index is ... else ()
        counts = jnp.issubdtype(old.dtype, jnp.integer)
        try:
            given = np.asarray(value, float)
            finite = np.isfinite(given).all()
            new = np.broadcast_to(np.asarray(value, old.dtype if finite else float), shape)
        except (TypeError, ValueError, OverflowError):
            wanted = "one number" if shape == () else f"numbers of shape {shape}"
            raise UserError(f"the parameter '{name}' takes {wanted}, not {value!r}") from None
        if not finite:
            raise UserError(f"the parameter '{name}' takes finite numbers, not {value!r}")
        if counts and (new != given).any():
            raise UserError(f"the parameter '{name}' takes whole numbers, not {value!r}")
        leaves[whole] = jnp.asarray(old).at[:, index].set(new)
    described = jax.tree.unflatten(jax.tree.structure(params), leaves.values())
    if values:
        family.refuse_tasks(described)
    return described


def _leaves(params: Params) -> dict[str, Any]:
    """The leaves by their path in the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") or "parameter": leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }


def _played_in(thing: Any, run: Any) -> Problem:
    """The problem of playing in another family, told as much as in training."""
    family = thing
    if not isinstance(thing, AbstractFamily):
        name, settings = _named("families", thing)
        family = registry.make("families", name, **settings)
    if not isinstance(family, AbstractFamily):
        raise UserError(f"an agent plays in environments, and {thing!r} has none")
    if isinstance(run, Run):
        return Problem(run.problem.source, family, reveal=run.problem.reveal)
    return Problem.of(family)


def _named(kind: str, thing: Any) -> tuple[str, dict[str, Any]]:
    """The name by which a run finds a method or family again, and its settings."""
    if isinstance(thing, str):
        return thing, {}
    what = "method" if kind == "methods" else "family"
    if kind == "families" and isinstance(thing, gymnasium.Env):
        return "gymnasium", _as_it_is(thing)
    wanted = (AbstractLearner, AbstractSupervisedLearner) if kind == "methods" else AbstractTasks
    if not (issubclass(thing, wanted) if isinstance(thing, type) else isinstance(thing, wanted)):
        raise UserError(
            f"the {what} must be a name ('stemrl list {kind}' shows them), a class or an object of one,"
            f" not {thing!r}"
        )
    cls = thing if isinstance(thing, type) else type(thing)
    settings = {}
    if not isinstance(thing, type):
        settings = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing) if f.init}
    known = registry.METHODS if kind == "methods" else registry.FAMILIES
    path = f"{cls.__module__}:{cls.__qualname__}"
    for name, entry in known.items():
        # A preset's name stands for an instance, whose settings are all given, not for the class.
        if entry.path == path and (settings or not entry.preset):
            return name, settings
    return _path(cls), settings


def _as_it_is(env: gymnasium.Env) -> dict[str, Any]:
    """The settings by which the family `gymnasium` makes this environment again, as one task. Raises
    `UserError` for one that a name does not make."""
    spec = env.spec
    made = {} if spec is None else {k: v for k, v in spec.kwargs.items() if k != "render_mode"}
    if spec is None or made or spec.additional_wrappers:
        why = "has arguments or wrappers of its own" if spec else "was not made by gymnasium.make"
        raise UserError(
            f"{env} {why}, so a name alone does not make it again: put what makes it into the `make` of"
            " a class AbstractGymnasiumFamily in a file (docs/own-family.md), and give that class"
        )
    horizon = {} if spec.max_episode_steps is None else {"horizon": spec.max_episode_steps}
    return {"environment": spec.id, "ranges": "", **horizon}


def _path(cls: type) -> str:
    """`package.module:Class`, or `file.py:Class` for one in a script. A class that a function has
    made is found by the name that its module calls it by."""
    module = sys.modules.get(cls.__module__)
    name = cls.__qualname__
    if "<locals>" in name:
        names = [n for n, value in vars(module).items() if value is cls] if module else []
        if not names:
            raise UserError(
                f"{name} is defined inside a function, where a run cannot find it again;"
                " move it to the top level of a file"
            )
        name = names[0]
    if "." in cls.__module__:
        return f"{cls.__module__}:{name}"
    file = getattr(module, "__file__", None)
    if file is None:
        raise UserError(
            f"{name} is defined in an interactive session, where a run cannot find it"
            " again; put it into a file"
        )
    return f"{Path(file).resolve()}:{name}"
