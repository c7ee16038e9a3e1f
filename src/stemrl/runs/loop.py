"""Training: one loop for every learner, family and number of seeds.

In the order in which it runs: begin or restore the state; then, until the steps are done, evaluate
where that is due, save where that is due, run a chunk of updates and write down what they gave.
Neither evaluating nor saving, stopping or resuming changes a bit of what is learned.
"""

import bisect
import contextlib
import functools
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import SimulatorError, UserError, simulating
from ..evaluate import evaluate
from ..rl import devices
from . import checkpoint, hosts, programs
from .config import RunConfig
from .files import write_whole, writing
from .metrics import MetricsFile, read_rows
from .progress import ProgressDisplay
from .run import CHECKPOINTS, CONFIG, METRICS, Run, one_seed
from .signals import StopSignals
from .trackers import Trackers

CHUNK_SECONDS = 1.0
"""What a chunk of updates should take: how long a stop may wait, how often the bar moves."""

SAVE_SECONDS = 60.0
"""At most this much training is lost to a crash."""


class NonFinite(UserError):
    """A loss or parameter became infinite or not a number. The last good checkpoint is whole."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM stopped the training, after the chunk was finished and saved."""

    def __init__(self, run: Run | None, received: signal.Signals, message: str):
        super().__init__(message)
        self.run = run
        self.message = message
        self.exit_status = 128 + received
        """As shells expect it: 130 for SIGINT, 143 for SIGTERM."""


def _updates(config: RunConfig, learner: Any, problem: Any) -> int:
    """How many whole updates `config` asks for; refuses what cannot be done."""
    if config.seeds > 1 and {problem.source.stepping, problem.target.stepping} != {"jax"}:
        raise UserError(
            f"several seeds at once need a family in pure JAX, and '{config.family}' is not;"
            f" run seeds {config.seed} to {config.seed + config.seeds - 1} one after another"
        )
    if config.devices > 1:
        if "host" in (problem.source.stepping, problem.target.stepping):
            raise UserError(
                f"'{config.family}' is stepped on the host, which several devices cannot share;"
                " set devices to 1"
            )
        if config.seeds > 1:
            raise UserError("several seeds at once need one device; set devices or seeds to 1")
    # The learner's own refusals, which know more than ours: its first state, without computing it.
    keys = jax.eval_shape(lambda: programs.seed_keys(config.seed, config.seeds))
    programs.shape_of_state(learner, problem, keys)
    per_update = units_per_update(learner, problem)
    updates = -(-config.steps // per_update)
    wanted = learner.target_steps(problem, updates)
    if wanted > problem.budget:
        # Not one update more than the budget allows for.
        within = lambda n: learner.target_steps(problem, n) > problem.budget  # noqa: E731
        possible = (bisect.bisect_left(range(updates + 1), True, key=within) - 1) * per_update
        raise UserError(
            f"{updates} updates would take {wanted} steps in the target, the budget"
            f" is {problem.budget}; raise the budget"
            + (f" or lower steps to {possible}" if possible else "")
        )
    return updates


def units_per_update(learner: Any, problem: Any) -> int:
    """By how much an update moves a run on: environment steps, or 1 for a learner whose unit is the
    update. Raises `UserError` for a learner that takes no steps and does not say so."""
    if learner.unit == "updates":
        return 1
    steps = learner.steps_per_update(problem)
    if steps < 1:
        raise UserError(
            f"an update of '{learner.name}' takes {steps} environment steps; a learner that takes"
            " none must have the unit 'updates'"
        )
    return steps


class Training:
    """One call of `train`. Made, it has refused what cannot be done and touched nothing."""

    def __init__(self, config: RunConfig, out: Path, shown: bool, tracked: list[str]):
        self.config, self.out, self.shown, self.tracked = config, out, shown, tracked
        self.learner, self.problem = config.learner(), config.problem()
        self.total = _updates(config, self.learner, self.problem)
        together = config.devices > 1 or jax.process_count() > 1
        self.mesh = devices.mesh_of(config.devices) if together else None
        self.writes = hosts.first()
        self.per_update = units_per_update(self.learner, self.problem)
        self.seeded = config.seeds > 1
        self.run = Run(out, config)
        self.written = config.text()
        self.update, self.seconds = 0, 0.0
        self.score: float | None = None  # of the state as it is, once it was evaluated
        self.saved: tuple[int, float | None] = (-1, None)  # update and score
        self.diverged = 0  # episodes whose simulation broke down

    def _begin(self, resume: bool) -> None:
        """The state, begun or restored, and the files."""
        config, out = self.config, self.out
        self.saved_at = time.monotonic()
        keys = programs.seed_keys(config.seed, config.seeds)
        damaged: list[str] = []
        begun = resume and bool(checkpoint.saved(out / CHECKPOINTS))
        if begun:
            self.state, manifest, damaged = self.run.restore("last")
            config.refuse_other(manifest.trained_with, out / CONFIG)
            self.update, self.seconds = manifest.update, manifest.seconds
            self.score = manifest.score
            self.saved = (self.update, self.score)
        if self.writes:
            write_whole(out / CONFIG, self.written)
        if not begun:
            self.state = programs.begin(self.learner, self.problem, keys)
        exempt = jnp.asarray(programs.exempt(self.state, self.seeded))
        self.state, self.exempt = devices.placed((self.state, exempt), self.mesh)
        self.metrics = (
            MetricsFile(out / METRICS, self.update, self.score is not None) if self.writes else None
        )
        self.display = ProgressDisplay(
            self.total * self.per_update,
            self.update * self.per_update,
            self.shown,
            unit=self.learner.unit,
        )
        for line in damaged:
            self.display.warn(f"warning: {line}; going on from step {self.steps}")
        self._set_aside(damaged)
        rows = read_rows(out / METRICS) if self.tracked else []
        self.trackers = Trackers(self.tracked, out, config, rows, resume, self.display.warn)

    @property
    def steps(self) -> int:
        """Environment steps done, or updates where the learner takes no steps."""
        return self.update * self.per_update

    def run_to_end(self, resume: bool) -> Run:
        """Begin, or go on; then the loop."""
        self._begin(resume)
        with (
            contextlib.closing(self.metrics) if self.metrics else contextlib.nullcontext(),
            contextlib.closing(self.trackers),
            StopSignals(self._announce) as stop,
            self.display,
        ):
            chunks, finished, received = self._chunks(), False, 0
            try:
                with simulating():
                    while not (finished or received):
                        if self._due(self.config.evaluate_every) and self.score is None:
                            self._evaluate()
                            self._save()
                        old = time.monotonic() - self.saved_at > SAVE_SECONDS
                        if self._due(self.config.keep_every) or old:
                            self._save()
                        finished = self.update >= self.total
                        if not finished:
                            next(chunks)
                        received = hosts.agreed(stop.received or 0)
                self._save()
            except NonFinite:
                raise
            except UserError as error:
                raise type(error)(
                    f"stopped after update {self.update}: {error}; {self._good()}"
                ) from error
        if received and not finished:
            received = signal.Signals(received)
            message = (
                f"stopped by {received.name} after {self.steps} {self.learner.unit}, saved; go on with:"
                f" stemrl train --resume --out {shlex.quote(str(self.out))}"
            )
            self.display.warn(message)
            raise Interrupted(self.run, received, message)
        return self.run

    def _announce(self, received: signal.Signals) -> None:
        self.display.say(f"{received.name}: finishing the chunk and saving; once more to kill")

    # Evaluating and saving.

    def _due(self, every: int) -> bool:
        """Whether `every` steps ended with the last update; at the end of training in any case."""
        if not every or not self.update:
            return False
        crossed = self.steps // every > (self.steps - self.per_update) // every
        return crossed or self.update >= self.total

    def _next_due(self) -> int:
        """The update before which no chunk may go on: something is due there."""
        after = [self.total]
        for every in (self.config.evaluate_every, self.config.keep_every):
            if every:
                after.append(-(-(self.steps // every + 1) * every // self.per_update))
        return min(after)

    def _evaluate(self) -> None:
        """Let every seed's agent adapt to held-out tasks, with randomness of their own."""
        self.display.doing("evaluating")
        began, rows = time.monotonic(), []
        for index in range(self.config.seeds):
            state = devices.here(one_seed(self.state, self.config, index), self.mesh)
            seed = self.config.seed + index
            result = evaluate(
                self.learner.agent(self.problem, state),
                self.problem,
                split="test",
                tasks=self.config.evaluate_tasks,
                episodes=self.config.evaluate_episodes,
                seed=_evaluation_seed(seed),
                method=self.config.method,
            )
            points = result.points
            rows.append(
                {
                    "kind": "evaluation",
                    "update": self.update,
                    "steps": self.steps,
                    "seed": seed,
                    "split": "test",
                    "tasks": self.config.evaluate_tasks,
                    "score": points[-1]["mean"],
                    "points": points,
                    "wall/seconds": round(time.monotonic() - began, 3),
                }
            )
        self._write_down(rows)
        self.score = sum(row["score"] for row in rows) / len(rows)
        self.display.say(f"{self.steps} {self.learner.unit}: {self.score:.4g} on held-out tasks")

    def _save(self) -> None:
        """A checkpoint of the state as it is, unless there is one that knows as much."""
        if self.saved == (self.update, self.score) or self.metrics is None:
            return
        self.display.doing("saving")
        self.metrics.sync()  # first: a checkpoint promises the rows before it
        manifest = checkpoint.Manifest(
            update=self.update,
            steps=self.steps,
            seconds=round(self.seconds, 3),
            identity=self.problem.source.identity,
            method=self.config.method,
            score=self.score,
            trained_with=self.config.trained_with,
        )
        state = devices.here(self.state, self.mesh)
        checkpoint.save(self.out / CHECKPOINTS, state, manifest)
        checkpoint.prune(self.out / CHECKPOINTS, self.config.keep_every)
        self.saved, self.saved_at = (self.update, self.score), time.monotonic()

    def _set_aside(self, damaged: list[str]) -> None:
        """Rename checkpoints that could not be read, so that they do not pass for the newest."""
        folder = self.out / CHECKPOINTS
        for path in checkpoint.saved(folder):
            if damaged and int(path.name) > self.steps and self.writes:
                with writing(path):
                    path.rename(folder / f"damaged-{path.name}-{time.time_ns()}")

    # Updates.

    def _chunks(self) -> Iterator[None]:
        """Run one chunk of about `CHUNK_SECONDS` at each `next`."""
        jax_only = self.problem.source.stepping == self.problem.target.stepping == "jax"
        run_chunk = self._advance if jax_only else self._step_by_step
        length, compiling = 1, True
        while True:
            wanted = min(hosts.agreed(length), programs.CHUNK, self._next_due() - self.update)
            began = time.monotonic()
            with devices.sharing(self.mesh):
                rows, fine = run_chunk(wanted)
            took = time.monotonic() - began
            self._record(rows, took, compiling)
            if not fine.all():
                self._refuse(rows[-1], fine)
            each = took / len(rows)
            if not compiling:
                length = max(1, min(2 * length, round(CHUNK_SECONDS / max(each, 1e-6))))
            compiling = False
            yield

    def _advance(self, updates: int) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """A chunk as one compiled loop."""
        count = devices.placed(jnp.int32(updates), self.mesh)
        fixed = (self.learner, self.problem, self.exempt, count, self.seeded)
        self.state, done, rows, fine = programs.advance(fixed, self.state)
        rows = jax.device_get(rows)
        return [{k: v[i] for k, v in rows.items()} for i in range(int(done))], np.asarray(fine)

    def _step_by_step(self, updates: int) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """A chunk as a Python loop of collecting and learning."""
        rows, fine, began = [], np.array(True), time.monotonic()
        host = "host" in (self.problem.source.stepping, self.problem.target.stepping)
        for _ in range(updates):
            try:
                with simulating():
                    metrics, finite = self._collect_and_learn(host)
            except SimulatorError:
                if rows:
                    self._record(rows, time.monotonic() - began, True)
                raise
            rows.append(metrics)
            fine = np.asarray(finite)
            if not fine.all():
                break
        return rows, fine

    def _collect_and_learn(self, host: bool) -> tuple[dict[str, np.ndarray], Array]:
        """An update in two steps: its metrics, and which quantities are finite."""
        if host:
            state, experience = self.learner.collect(self.problem, self.state)
            learn = programs.learn_keeping
        else:
            state, experience = programs.collect((self.learner, self.problem), self.state)
            learn = programs.learn
        fixed = (self.learner, self.problem, experience, self.exempt)
        self.state, metrics, finite = learn(fixed, state)
        return jax.device_get(metrics), finite

    def _record(self, rows: list[dict[str, np.ndarray]], took: float, compiling: bool) -> None:
        """Write down what a chunk of updates gave, up to and with the first that is not finite."""
        lines = []
        each = took / len(rows)
        for metrics in rows:
            self.update += 1
            self.seconds += each
            for index in range(self.config.seeds):
                values = {k: float(v[index] if self.seeded else v) for k, v in metrics.items()}
                lines.append(
                    {
                        "kind": "update",
                        "update": self.update,
                        "steps": self.steps,
                        "seed": self.config.seed + index,
                        **values,
                        "wall/seconds": round(self.seconds, 4),  # compiling included
                    }
                )
        self._write_down(lines)
        diverged = sum(
            int(np.sum(metrics["diverged"])) for metrics in rows if "diverged" in metrics
        )
        if diverged and not self.diverged:
            self.display.warn(
                f"warning: {diverged} simulation(s) diverged up to update {self.update}; such an"
                " episode ends and the others go on; 'diverged' in metrics.jsonl counts them"
            )
        self.diverged += diverged
        self.score = None
        rate = None if compiling else self.config.seeds * self.per_update / each
        mean = np.mean(rows[-1]["return"]) if "return" in rows[-1] else None
        self.display.advance(self.steps, rate, None if mean is None else float(mean))

    def _write_down(self, rows: list[dict[str, Any]]) -> None:
        if self.metrics:
            self.metrics.append(rows)
        self.trackers.append(rows)

    def _refuse(self, metrics: dict[str, np.ndarray], fine: np.ndarray) -> None:
        """Say what is not finite."""
        names = programs.quantities(self.state, metrics, self.seeded)
        seed, quantity = np.argwhere(~fine.reshape(self.config.seeds, -1))[0]
        which = f" of seed {self.config.seed + seed}" if self.seeded else ""
        raise NonFinite(
            f"stopped in update {self.update}: '{names[quantity]}'{which} is not finite;"
            f" {self._good()}; lower the learning rate or clip gradients"
        )

    def _good(self) -> str:
        """What is there to go on with after a mishap."""
        found = checkpoint.saved(self.out / CHECKPOINTS)
        return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"


@functools.cache
def _evaluation_seed(seed: int) -> int:
    """The seed of the held-out tasks that training is watched on: one for all of a run, so that
    its points compare, and none that a user would choose for the final evaluation."""
    return int(jax.random.bits(jax.random.fold_in(jax.random.key(seed), 0xE7A1)) >> 1)
