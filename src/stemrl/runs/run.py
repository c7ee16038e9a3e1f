"""A run's folder, opened: its configuration, metrics, checkpoints and agents."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, Literal, Self

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..core import State, SupervisedProblem
from ..errors import UserError
from ..lazy import data_frame
from ..machine import refuse_forked
from ..reading import at_home
from ..rl.player import Player
from . import checkpoint
from .config import RunConfig
from .metrics import read_rows
from .programs import begin, seed_keys, shape_of_state

CONFIG, METRICS, CHECKPOINTS = "config.json", "metrics.jsonl", "checkpoints"
AGENTS = "agents"
"""Instead of `checkpoints` in an exported run (see `export`)."""

Which = Literal["last", "best"] | int
"""A checkpoint: the last, the best by the evaluations while training, or that of so many steps."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: what training left in a folder, which is `config.json`, `metrics.jsonl` and
    `checkpoints/`. Or what was exported of it, with `agents/` instead of the checkpoints; that can
    play, but not learn.

    Everything is read when it is asked for. Whatever is wrong with the folder is a `UserError` of
    one line.
    """

    path: Path
    """The folder."""
    config: RunConfig
    """The configuration that it was trained with."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run in the folder `path`."""
        refuse_forked()
        path = Path(at_home(str(path)))
        if not path.is_dir():
            raise UserError(f"there is no run in {path}: it is no folder")
        if not (path / CONFIG).exists():
            what = "it is empty" if not any(path.iterdir()) else f"it holds no {CONFIG}"
            raise UserError(f"there is no run in {path}: {what}; give the folder that --out named")
        return cls(path, RunConfig.load(path / CONFIG))

    @functools.cached_property
    def learner(self) -> Any:
        """The method with the run's settings: an `AbstractLearner` or `AbstractSupervisedLearner`."""
        return self.config.learner()

    @functools.cached_property
    def problem(self) -> Any:
        """What it was trained on: a `Problem` or `SupervisedProblem`."""
        return self.config.problem()

    @property
    def supervised(self) -> bool:
        """Whether it learned from labelled examples, and not by acting."""
        return isinstance(self.problem, SupervisedProblem)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of `metrics.jsonl`. A row of kind `update` has `update`, `steps`, `seed`
        and the method's metrics. A row of kind `evaluation` has `update`, `steps`, `seed`, `score`
        (the mean return after the last adaptation) and `points`, the adaptation curve on held-out
        tasks."""
        return read_rows(self.path / METRICS)

    def to_frame(self) -> Any:
        """Return the `metrics` as a pandas DataFrame, with a row for each update or evaluation and
        seed; the `points` of evaluations are left out. Raise `UserError` if pandas is not
        installed."""
        rows = [{k: v for k, v in row.items() if k != "points"} for row in self.metrics()]
        return data_frame(rows)

    def state(self, which: Which = "last") -> State:
        """Return the whole state of learning at the `last` or `best` checkpoint. If that is
        damaged, the next good one takes its place. A number asks for the checkpoint after so many
        environment steps, and nothing takes its place. With several seeds every leaf has a leading
        dimension `[seeds]`. Raise `UserError` for an exported run, which has no state."""
        return self.restore(which)[0]

    def agent(self, which: Which = "last", seed: int = 0) -> Any:
        """Return what was learned, ready for a new task: an `AbstractAgent`, or a `FewShotAgent` of
        a supervised run. `seed` counts the run's seeds from 0."""
        if not 0 <= seed < self.config.seeds:
            raise UserError(
                f"{self.path} has {self.config.seeds} seed(s), counted from 0; there is no {seed}"
            )
        if self.exported:
            shape, rest = shape_of_agent(self)
            agents = self._restore(which, {str(i): shape for i in range(self.config.seeds)})[0]
            return eqx.combine(agents[str(seed)], rest)
        return self.learner.agent(self.problem, one_seed(self.state(which), self.config, seed))

    def player(
        self,
        env: Any = None,
        *,
        which: Which = "last",
        member: int = 0,
        task: Mapping[str, Any] | None = None,
        context: Any = None,
        most_likely: bool = False,
        horizon: int | None = None,
        seed: int = 0,
        record: bool = False,
    ) -> Player:
        """Return a player of what was learned, step by step in a world that somebody else steps: a
        `gymnasium.Env`, a robot.

        **Arguments:** `which` and `member`: the checkpoint, and which of the run's seeds (from 0); the
        rest, see `stemrl.Player`. Raises `UserError` of a supervised run, which does not act.
        """
        if self.supervised:
            raise UserError(f"{self.path} learned from labelled examples, and does not act")
        return Player(
            self.agent(which, member),
            self.problem,
            env,
            task=task,
            context=context,
            most_likely=most_likely,
            horizon=horizon,
            seed=seed,
            record=record,
        )

    @property
    def exported(self) -> bool:
        """Whether the run was exported, so that it holds agents alone and cannot learn."""
        return (self.path / AGENTS).is_dir()

    def restore(self, which: Which = "last") -> tuple[State, checkpoint.Manifest, list[str]]:
        """Return state and manifest of a checkpoint, and a line for each damaged one that was
        skipped."""
        self.refuse_exported()
        keys = jax.eval_shape(lambda: seed_keys(self.config.seed, self.config.seeds))
        return self._restore(which, shape_of_state(self.learner, self.problem, keys))

    def refuse_exported(self) -> None:
        """Raise `UserError` if the run was exported, so that there is no state to go on from."""
        if self.exported:
            raise UserError(
                f"{self.path} is an exported run, whose agents play but cannot learn on; train anew"
                f" with: stemrl train --config {quote(str(self.path / CONFIG))} --out FOLDER"
            )

    def _restore(
        self, which: Which, template: PyTree[Any]
    ) -> tuple[Any, checkpoint.Manifest, list[str]]:
        paths = self.ranked(which)
        damaged = []
        for path in paths:
            try:
                return *checkpoint.load(path, template), damaged
            except checkpoint.Damaged as error:
                damaged.append(f"checkpoint {path.name} is damaged ({error})")
        advice = "train it anew" if isinstance(which, str) else "ask for another"
        raise UserError(f"no checkpoint of {self.path} can be read: {'; '.join(damaged)}; {advice}")

    def ranked(self, which: Which = "last") -> list[Path]:
        """Return the checkpoints in the order in which they are tried: newest first, or best first
        and then newest first, or the one that was asked for."""
        if isinstance(which, bool) or (
            not isinstance(which, int) and which not in ("last", "best")
        ):
            raise UserError(
                f"a checkpoint is 'last', 'best' or a number of environment steps, not {which!r}"
            )
        folder = self.path / (AGENTS if self.exported else CHECKPOINTS)
        paths = checkpoint.saved(folder)[::-1]
        if not paths:
            raise UserError(f"{self.path} has no checkpoint yet; train it further")
        if isinstance(which, int):
            at = [path for path in paths if int(path.name) == which]
            if not at:
                there = ", ".join(str(int(path.name)) for path in reversed(paths))
                raise UserError(
                    f"{self.path} has no checkpoint of {which} steps; there are: {there}"
                    " (--keep-every keeps more of them)"
                )
            return at
        if which == "last":
            return paths
        readable = []
        for path in paths:
            try:
                readable.append((path, checkpoint.read_manifest(path)))
            except checkpoint.Damaged:
                continue
        best = [path for path, m in checkpoint.best_first(readable) if m.score is not None]
        if not best:
            raise UserError(
                f"{self.path} has no evaluated checkpoint, so none is best; ask for the last"
            )
        return best

    def _saved(self) -> tuple[int, int]:
        """Updates and steps of the newest checkpoint, which knows where rows are lost."""
        for path in [] if self.exported else checkpoint.saved(self.path / CHECKPOINTS)[::-1]:
            with contextlib.suppress(checkpoint.Damaged, UserError):
                manifest = checkpoint.read_manifest(path)
                return manifest.update, manifest.steps
        return 0, 0

    @property
    def summary(self) -> dict[str, Any]:
        """Return a few numbers for a line or a table: how far training got, and the scores."""
        rows = self.metrics()
        updates = [row for row in rows if row["kind"] == "update"]
        scores = [row["score"] for row in rows if row["kind"] == "evaluation"]
        scores = [score for score in scores if score is not None]
        last = [row for row in updates if row["update"] == updates[-1]["update"]]
        reached = max(
            (updates[-1]["update"], updates[-1]["steps"]) if updates else (0, 0), self._saved()
        )
        returns = [row["return"] for row in last if row.get("return") is not None]
        return {
            "path": str(self.path),
            "method": self.config.method,
            "family": self.config.family,
            "seeds": self.config.seeds,
            "updates": reached[0],
            "steps": reached[1],
            "unit": self.learner.unit,
            "seconds": updates[-1].get("wall/seconds") if updates else 0.0,
            "return": sum(returns) / len(returns) if returns else None,
            "score": scores[-1] if scores else None,
            "best_score": max(scores) if scores else None,
        }


def shape_of_agent(run: Run) -> tuple[PyTree[Any], PyTree[Any]]:
    """Return one seed's agent as `jax.ShapeDtypeStruct`s, and all in it that is no array."""
    keys = jax.eval_shape(lambda: jax.random.key(0))
    agent = eqx.filter_eval_shape(
        lambda key: run.learner.agent(run.problem, begin(run.learner, run.problem, key)), keys
    )
    return eqx.partition(agent, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))


def one_seed(state: State, config: RunConfig, seed: int) -> State:
    """Return one seed's part of the state of a run."""
    return state if config.seeds == 1 else jax.tree.map(lambda x: x[seed], state)
