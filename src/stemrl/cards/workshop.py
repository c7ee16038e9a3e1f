"""Where a card works: runs that can be resumed, evaluations, and the time they took.

Every training is an ordinary run in a folder of the card's own. A card that was interrupted goes on
where it was when it is started again; a finished card leaves nothing but its result. With a crew,
trainings go on beside one another and beside the card, so a card starts all of them before it asks
for the first's agents.
"""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from ..core import (
    AbstractAgent,
    AbstractFamily,
    AbstractLearner,
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    Problem,
    SupervisedProblem,
)
from ..errors import CannotResume, UserError
from ..evaluation import Evaluation, evaluate
from ..evaluation.statistics import t_interval
from ..runs import Run, RunConfig, train
from ..runs.crew import Crew, Job
from ..runs.files import write_whole, writing
from .card import Scale

Choice = TypeVar("Choice")
CLOCK = "seconds"
"""The file in a card's folder that says how long earlier calls have worked."""


@dataclass
class Workshop:
    """What a card works in: its scale and seeds, and the means to train, to evaluate and to draw.
    `Card.run` is given one."""

    folder: Path
    """The folder for the card's runs."""
    scale: Scale
    """`full`, or `quick`, which takes seconds and shows that everything runs."""
    seeds: tuple[int, ...]
    """The training seeds."""
    progress: bool = True
    """Whether trainings show their progress."""
    pictures: Path = Path()
    """The folder for pictures, beside the result."""
    crew: Crew | None = None
    """The processes that train, one for each seed. Without a crew this process trains, all seeds at
    once if it can."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the result will say of the setting; `train` adds its own."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Curves by figure, as `curve` adds them; a picture is made of each."""
    drawn: list[str] = field(default_factory=list)
    """The pictures that `picture` has named, in order."""
    name: str = "card"
    """The card's name, with which the names of its pictures begin."""
    origin: str = ""
    """What tells one version of the card from another: what an earlier one has kept is not used."""

    def __post_init__(self):
        self._began = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            self._began -= float((self.folder / CLOCK).read_text())

    @property
    def quick(self) -> bool:
        """Whether the scale is `quick`."""
        return self.scale == "quick"

    def pick(self, full: Any, quick: Any) -> Any:
        """Return the value for this scale: `full` or `quick`."""
        return quick if self.quick else full

    def best(self, choices: Sequence[Choice], score: Callable[[Choice], float]) -> Choice:
        """Return the one of `choices` with the highest score. A score that is not a number counts
        as the lowest. At the quick scale, return the first."""
        if self.quick or len(choices) == 1:
            return choices[0]
        scores = [score(choice) for choice in choices]
        return choices[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]

    def say(self, text: str) -> None:
        """Write a line to stderr."""
        if self.progress:
            print(text, file=sys.stderr, flush=True)

    def picture(self, name: str) -> Path:
        """Return where to draw a picture (PNG) that will stand below the card's table."""
        file = f"{self.name}-{name}.png".replace(" ", "-")
        if file not in self.drawn:
            self.drawn.append(file)
        with writing(self.pictures):
            self.pictures.mkdir(parents=True, exist_ok=True)
        return self.pictures / file

    def curve(
        self,
        figure: str,
        line: str,
        x: Sequence[float] | np.ndarray,
        values: np.ndarray | Sequence[Sequence[float]],
        *,
        x_label: str = "environment steps",
        y_label: str = "return",
    ) -> None:
        """Add a line to a figure of the result: mean and 95% t interval over seeds at each point.

        **Arguments:**

        - `figure`, `line`: their names; lines of one figure share its axes.
        - `x`: `[points]`.
        - `values`: `[seeds, points]`.
        """
        values = np.atleast_2d(np.asarray(values, float))
        band = [t_interval(v)[1:] if len(v) > 1 else (float(v[0]),) * 2 for v in values.T]
        lines = self.figures.setdefault(
            figure, {"x_label": x_label, "y_label": y_label, "lines": {}}
        )["lines"]
        lines[line] = {
            "x": np.asarray(x, float).tolist(),
            "mean": values.mean(0).tolist(),
            "low": [low for low, _ in band],
            "high": [high for _, high in band],
        }

    def train(
        self,
        label: str,
        method: str,
        family: str,
        *,
        steps: int,
        settings: Mapping[str, Any] | None = None,
        family_settings: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        start: "Trained | None" = None,
        **options: Any,
    ) -> "Trained":
        """Train `method` on `family` for every seed, with a family in pure JAX all in one compiled
        run; what is already trained is only loaded. With a crew every seed is a run of its own, this
        only begins, and what the result is asked for waits.

        **Arguments:**

        - `label`: of the folder and of the entry in the result's settings.
        - `steps`: environment steps per seed.
        - `settings`, `family_settings`: those other than the defaults.
        - `seeds`: fewer than all, for what only stands beside a claim.
        - `start`: what each seed begins from, its own seed of another training, which is waited for.
        - `options`: other fields of `RunConfig` (`reveal`, `target`, `budget`, …).
        """
        config = RunConfig(
            method=method,
            family=family,
            steps=steps,
            settings=dict(settings or {}),
            family_settings=dict(family_settings or {}),
            **{"evaluate_every": 0, **options},
        )
        problem = config.problem()
        self.settings[label] = {
            "method": method,
            "family": problem.source.identity,
            "steps": steps,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in (settings or {}).items()},
            **options,
        }
        together = self.crew is None and {
            problem.source.stepping,
            problem.target.stepping,
        } == {"jax"}
        seeds = self.seeds if seeds is None else tuple(seeds)
        if seeds != self.seeds:
            self.settings[label]["seeds"] = len(seeds)
        self._in_order(seeds)
        groups = [seeds] if together else [(seed,) for seed in seeds]
        runs = [self._run(label, config, group) for group in groups]
        if start is not None:
            self.settings[label]["start"] = start.label
            begun = zip(runs, start.runs, strict=True)
            runs = [
                Run(run.path, dataclasses.replace(run.config, start=str(donor.path)))
                for run, donor in begun
            ]
        if self.crew is None:
            for run in runs:
                self._train(label, run)
            return Trained(self, label, problem, tuple(runs))
        names = [f"{label}, seed {run.config.seed}" for run in runs]
        jobs = [
            self.crew.train(n, run.config, run.path) for n, run in zip(names, runs, strict=True)
        ]
        return Trained(self, label, problem, tuple(runs), tuple(jobs))

    def _run(self, label: str, config: RunConfig, seeds: tuple[int, ...]) -> Run:
        config = dataclasses.replace(config, seed=seeds[0], seeds=len(seeds))
        return Run(self.folder / f"{label}-seed{seeds[0]}", config)

    def _train(self, label: str, run: Run) -> None:
        config = run.config
        seeds = range(config.seed, config.seed + config.seeds)
        self.say(f"{label}: {config.method} on {config.family}, {_named(seeds)}")
        with self.resuming():
            train(
                config,
                run.path,
                resume=(run.path / "config.json").exists(),
                progress=self.progress,
            )
        self.tick()

    def train_supervised(
        self,
        label: str,
        learner: AbstractSupervisedLearner,
        family: AbstractSupervisedFamily,
        *,
        updates: int,
    ) -> "Trained":
        """Do the same as `train`, for a method that learns from labelled examples: `learner` as it
        is, for so many updates."""
        steps = updates * learner.steps_per_update(SupervisedProblem.of(family))
        fields = {f.name: getattr(learner, f.name) for f in dataclasses.fields(learner)}
        trained = self.train(
            label,
            learner.name,
            family.name,
            steps=steps,
            settings=fields,
            family_settings=family.settings(),
        )
        self.settings[label]["updates"] = updates
        return trained

    def evaluate(
        self, trained: "Trained", *, tasks: int, split: str = "test", **options: Any
    ) -> list[Evaluation]:
        """Evaluate every seed's agent on the same tasks, and return one evaluation of each;
        `options` are those of `stemrl.evaluate`."""
        agents, problem = trained.agents, trained.problem
        return self.judge(agents, problem, tasks=tasks, split=split, **options)

    def judge(
        self,
        agents: Sequence[AbstractAgent],
        problem: Problem,
        *,
        tasks: int,
        split: str = "test",
        **options: Any,
    ) -> list[Evaluation]:
        """Evaluate agents of any origin on the same tasks, and return one evaluation of each."""
        return [evaluate(a, problem, split=split, tasks=tasks, **options) for a in agents]

    @staticmethod
    def _in_order(seeds: tuple[int, ...]) -> None:
        if list(seeds) != list(range(seeds[0], seeds[0] + len(seeds))):
            raise UserError(f"a card's seeds follow one another, not {seeds}")

    @contextlib.contextmanager
    def resuming(self) -> Iterator[None]:
        """Turn an error that prevents going on into one in a card's words."""
        try:
            yield
        except CannotResume:
            raise UserError(
                f"{self.folder} holds an interrupted card of another setting; start it afresh"
                " with --fresh"
            ) from None

    def kept(self, name: str, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """Return the arrays that `compute` gives. They are computed once for all calls of this
        card, and kept: for work that is no training run. What another version of the card or
        other seeds have left is computed again."""
        path = self.folder / f"{name}.npz"
        mark, mine = path.with_suffix(".origin"), f"{self.origin} {self.seeds}\n"
        if path.exists() and (not mark.exists() or mark.read_text() != mine):
            self.say(
                f"{name} was computed by another version of the card, or with other seeds: again"
            )
            path.unlink()
        if not path.exists():
            arrays = {k: np.asarray(v) for k, v in compute().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **arrays)  # pyright: ignore[reportArgumentType]
            write_whole(mark, mine.encode())
            partial.replace(path)
            self.tick()
        with np.load(path, allow_pickle=False) as found:
            return {k: found[k] for k in found.files}

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole card so far, with those of earlier calls."""
        return time.monotonic() - self._began

    def tick(self) -> None:
        """Note the time, so that a call that goes on after this one was stopped knows it."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / CLOCK, f"{self.seconds:.1f}\n".encode())

    def clear(self) -> None:
        """Remove what the card leaves behind."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Trained:
    """What `Workshop.train` returns: one or several runs that together hold every seed."""

    workshop: Workshop
    label: str
    problem: Any
    """The problem that they are trained on."""
    _runs: tuple[Run, ...]
    _jobs: tuple[Job, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs. Asking for them waits until they are finished."""
        shop = self.workshop
        if shop.crew is not None:
            if any(not job.done.done() for job in self._jobs):
                shop.say(f"{self.label}: training")
            with shop.resuming():
                shop.crew.wait(self._jobs, shop.progress, shop.tick)
        return self._runs

    @property
    def agents(self) -> list[Any]:
        """One agent of each seed: an `AbstractAgent`, or a `FewShotAgent` of a supervised method."""
        return [run.agent("last", i) for run in self.runs for i in range(run.config.seeds)]

    @property
    def seconds(self) -> list[float]:
        """Wall-clock seconds of each seed's training from its first update on, which is compiled
        before. For seeds that were trained at once, it is the time of all of them together."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            for row in run.metrics():
                if row["kind"] == "update":
                    found.setdefault(row["seed"], []).append(row["wall/seconds"])
        return [times[-1] - times[0] for _, times in sorted(found.items())]

    def peak_memory(self) -> float:
        """Return the MiB that an update of one seed takes as XLA plans it: its state and its
        temporaries."""
        run = self.runs[0]
        learner, problem = run.learner, run.problem
        state = eqx.filter_eval_shape(lambda key: learner.init(problem, key), jax.random.key(0))
        update = jax.jit(lambda state: learner.update(problem, state))
        analysis = update.lower(state).compile().memory_analysis()
        assert analysis is not None
        return (analysis.temp_size_in_bytes + analysis.argument_size_in_bytes) / 2**20


def words(name: str, settings: Mapping[str, Any]) -> str:
    """Return a learner with settings, as one writes it on the command line."""
    told = (
        f"{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in settings.items()
    )
    return " ".join([name, *told])


def steps_of_target(
    learner: AbstractLearner, source: AbstractFamily, target: AbstractFamily, steps: int
) -> int:
    """Return what `learner` takes of the target (steps or observations) in so many steps of the source,
    rounded up to whole updates."""
    problem = Problem(source, target, 2**30)
    return learner.target_steps(problem, -(-steps // learner.steps_per_update(problem)))


def learning_curves(trained: "Trained", kind: str = "evaluation") -> tuple[np.ndarray, np.ndarray]:
    """Return environment steps `[rows]`, and each seed's return there, `[seeds, rows]`: of the
    evaluations on the way or, with `kind` `update`, what training reports of its own episodes
    (which is of unfinished ones where none ended in an update)."""
    curves: dict[int, list[tuple[float, float]]] = {}
    for run in trained.runs:
        for row in run.metrics():
            if row["kind"] == kind:
                value = row["score" if kind == "evaluation" else "return"]
                curves.setdefault(row["seed"], []).append((row["steps"], value))
    shortest = min(map(len, curves.values()))
    found = np.array([curves[seed][:shortest] for seed in sorted(curves)])
    return found[0, :, 0], found[:, :, 1]


def steps_to(
    steps: np.ndarray, returns: np.ndarray, threshold: float, *, smooth: int = 5
) -> list[float]:
    """Return steps until the mean return of `smooth` rows is first at the threshold, of each seed
    of `returns`; those of the whole training where it never is."""
    kernel = np.ones(smooth) / smooth
    found = []
    for curve in returns:
        means = np.convolve(curve, kernel, mode="valid") if len(curve) >= smooth else curve
        reached = np.flatnonzero(means >= threshold)
        ends = steps[len(curve) - len(means) :]
        found.append(float(ends[reached[0]] if len(reached) else steps[-1]))
    return found


def point_means(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Return the mean return over tasks and episodes at each point of adaptation, `[seeds,
    points]`."""
    return np.stack([e.scores.mean((0, 2)) for e in evaluations])


def trial_totals(evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Return the mean over tasks of the return of a whole trial, all its episodes summed,
    `[seeds]`."""
    return np.stack([e.scores.sum((1, 2)).mean() for e in evaluations])


def _named(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
