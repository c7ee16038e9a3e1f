"""Training: one loop for every learner, family and number of seeds.

In the order in which it runs: begin or restore the state; then, until the steps are done, evaluate
where that is due, save where that is due, run a chunk of updates and write down what they gave. When
something is due is said by a `Schedule`, where it is written down is a `Recorder`'s business, and
what goes from one step to the next is `InHand`. Neither evaluating nor saving, stopping or resuming changes a bit of what is learned.
"""

import bisect
import contextlib
import functools
import json
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..core import AbstractLearner, FewShotAgent, State, check_learner
from ..errors import SimulatorError, UserError, simulating
from ..evaluation import evaluate, evaluate_few_shot
from ..machine import refuse_beyond_memory
from ..places import files_of, relocated
from ..reading import read_configuration
from ..rl import devices
from ..rl.worlds import WorldState, drop
from . import checkpoint, hosts, programs, trust
from .config import RunConfig
from .donor import begin_from
from .files import write_whole, writing
from .recorder import Callback, Metrics, Recorder
from .run import CHECKPOINTS, CONFIG, Run, one_seed
from .schedule import Schedule
from .signals import StopSignals

CHUNK_SECONDS = 1.0
"""What a chunk of updates should take: how long a stop may wait, how often the bar moves."""

LARGE = 10**7
"""Environment steps an update, from which on it is asked whether memory holds them."""

SAVE_SECONDS = 60.0
"""At most this much training is lost to a crash."""


class NonFinite(UserError):
    """A loss or parameter became infinite or not a number. The last good checkpoint is complete."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM stopped the training. The chunk was finished and saved before."""

    def __init__(self, run: Run | None, received: signal.Signals, message: str):
        super().__init__(message)
        self.run = run
        self.message = message
        self.exit_status = 128 + received
        """As shells expect it: 130 for SIGINT, 143 for SIGTERM."""


def _updates(config: RunConfig, learner: Any, problem: Any) -> int:
    """How many whole updates `config` asks for; refuses what cannot be done."""
    config.refuse_mismatch()
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
    if (problem.budget or problem.logged is not None) and not learner.budget_units:
        if type(learner).target_steps is not AbstractLearner.target_steps:
            raise UserError(
                f"'{config.method}' takes steps of a target and does not say in what it counts them; write"
                ' budget_units = ("steps",) in its class'
            )
        raise UserError(
            f"'{config.method}' takes nothing from a target, neither steps nor recorded data (DARC, DANN and"
            " EPOpt do); leave budget and target_data out"
        )
    if problem.budget and problem.budget_unit not in learner.budget_units:
        raise UserError(
            f"'{config.method}' counts a target's budget in {' or '.join(learner.budget_units)}, not in"
            f" {problem.budget_unit}; set budget_unit"
        )
    if problem.logged is not None and problem.logged.absent:
        raise UserError(
            f"there are no target data in {problem.logged.where}; give --target-data where they are"
        )
    if isinstance(learner, AbstractLearner):
        check_learner(learner, problem)
    # The learner's own refusals, which know more than ours: its first state, without computing it.
    keys = jax.eval_shape(lambda: programs.seed_keys(config.seed, config.seeds))
    shape = programs.shape_of_state(learner, problem, keys)
    smaller = "take smaller networks, fewer environments or seeds, or a smaller replay"
    refuse_beyond_memory("the state of learning", checkpoint.bytes_of(shape), smaller)
    per_update = units_per_update(learner, problem)
    large = isinstance(learner, AbstractLearner) and per_update * config.seeds > LARGE
    if large and "host" not in (problem.source.stepping, problem.target.stepping):
        # To trace it takes a moment, so that it is asked only where it may be much.
        one = jax.eval_shape(lambda: programs.seed_keys(config.seed, 1))
        state = programs.shape_of_state(learner, problem, one)
        played = eqx.filter_eval_shape(learner.collect, problem, state)
        refuse_beyond_memory(
            f"the experience of an update ({per_update:,} steps)",
            checkpoint.bytes_of(played) * config.seeds,
            "take fewer steps an update",
        )
    updates = -(-config.steps // per_update)
    wanted = learner.target_steps(problem, updates)
    if wanted > problem.budget:
        # Not one update more than the budget allows for.
        within = lambda n: learner.target_steps(problem, n) > problem.budget  # noqa: E731
        possible = (bisect.bisect_left(range(updates + 1), True, key=within) - 1) * per_update
        raise UserError(
            f"{updates} updates would take {wanted} steps in the target, the budget is"
            f" {problem.budget}; {f'lower steps to {possible} or ' if possible else ''}give a new run"
            " a larger budget"
        )
    return updates


def units_per_update(learner: Any, problem: Any) -> int:
    """Return by how much an update moves a run on: environment steps, or 1 for a learner whose unit
    is the update. Raises `UserError` for a learner that takes no steps and does not say so."""
    if learner.unit == "updates":
        return 1
    steps = learner.steps_per_update(problem)
    if steps < 1:
        raise UserError(
            f"an update of '{learner.name}' takes {steps} environment steps; a learner that takes"
            " none must have the unit 'updates'"
        )
    return steps


@dataclass(frozen=True)
class InHand:
    """What goes from one step of the loop to the next."""

    state: State
    """Of learning, of all seeds."""
    update: int = 0
    """Updates done."""
    seconds: float = 0.0
    """Of training."""
    score: float | None = None
    """Of the state as it is, once it was evaluated."""


class Training:
    """One call of `train`. Made, it has refused what cannot be done and touched nothing."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        shown: bool,
        tracked: list[str],
        callback: Callback | None = None,
    ):
        self.config, self.out, self.shown, self.tracked = config, out, shown, tracked
        self.callback = callback
        self.learner, self.problem = config.learner(), config.problem()
        self.schedule = Schedule(
            _updates(config, self.learner, self.problem),
            units_per_update(self.learner, self.problem),
            config.evaluate_every,
            config.keep_every,
            self.learner.updates_per_row,
        )
        together = config.devices > 1 or jax.process_count() > 1
        self.mesh = devices.mesh_of(config.devices) if together else None
        self.writes = hosts.first()
        self.seeded = config.seeds > 1
        self.run = Run(out, config)
        self.written = config.text(out)
        self.saved: tuple[int, float | None] = (-1, None)  # update and score

    @property
    def update(self) -> int:
        """Updates done."""
        return self.now.update

    @property
    def steps(self) -> int:
        """Environment steps done, or whatever else the learner's unit is."""
        return self.schedule.steps(self.now.update)

    def run_to_end(self, resume: bool) -> Run:
        """Begin, or go on; then the loop."""
        self._begin(resume)
        received, finished, enough, chunks = 0, False, 0, self._chunks()
        with (
            contextlib.closing(self.recorder),
            StopSignals(self.recorder.announce) as stop,
            self.recorder.display,
        ):
            try:
                with simulating():
                    while not (received or finished or enough):
                        finished = self._ended()
                        enough = hosts.agreed(int(self.recorder.enough))
                        if not (finished or enough):
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
                f"stopped by {received.name} after {self.steps} {self.learner.unit}, saved;"
                " go on with:"
                f" stemrl train --resume --out {shlex.quote(str(self.out))}"
            )
            self.recorder.display.warn(message)
            raise Interrupted(self.run, received, message)
        if enough and not finished:
            self.recorder.display.warn(
                f"stopped by its callback after {self.steps} {self.learner.unit}, saved"
            )
        if self.recorder.raised is not None:
            raise self.recorder.raised
        return self.run

    def let_go(self) -> None:
        """Close the Python environments in which the run was playing."""
        now = getattr(self, "now", None)
        for state in jax.tree.leaves(
            now and now.state, is_leaf=lambda x: isinstance(x, WorldState)
        ):
            if isinstance(state, WorldState):
                for number in np.ravel(np.asarray(state.number)):
                    drop(int(number))

    def _ended(self) -> bool:
        """Do what is due between two chunks; whether there is no further one."""
        if self.schedule.evaluation_due(self.update) and self.now.score is None:
            self._evaluate()
            self._save()
        old = time.monotonic() - self.saved_at > SAVE_SECONDS
        if self.schedule.keeping_due(self.update) or old:
            self._save()
        return self.schedule.ended(self.update)

    # Beginning.

    def _begin(self, resume: bool) -> None:
        """The state, begun or restored, and the files."""
        config, out = self.config, self.out
        self.saved_at = time.monotonic()
        damaged: list[str] = []
        begun = resume and bool(checkpoint.saved(out / CHECKPOINTS))
        if begun:
            state, manifest, damaged = self.run.restore("last")
            config.refuse_other(manifest.trained_with, out / CONFIG)
            self.now = InHand(state, manifest.update, manifest.seconds, manifest.score)
            self.saved = (manifest.update, manifest.score)
            # Code is compared with what it was when the run was begun, however often it was resumed.
            found, _ = relocated(read_configuration(out / CONFIG), out / CONFIG)
            self.written = config.text(out, files_of(found))
        said = ""
        if not begun:
            keys = programs.seed_keys(config.seed, config.seeds)
            state = programs.begin(self.learner, self.problem, keys)
            if config.start is not None:
                state, said = begin_from(config, self.learner, self.problem, state)
            self.now = InHand(state)
        if self.writes:
            write_whole(out / CONFIG, self.written)
        exempt = jax.device_put(programs.exempt(self.now.state, self.seeded))
        state, self.exempt = devices.placed((self.now.state, exempt), self.mesh)
        self.now = replace(self.now, state=state)
        self.recorder = Recorder(
            out,
            config,
            self.schedule,
            update=self.update,
            evaluated=self.now.score is not None,
            tracked=self.tracked,
            resumed=resume,
            unit=self.learner.unit,
            shown=self.shown,
            writes=self.writes,
            callback=self.callback,
        )
        if said:
            self.recorder.display.say(said)
        for line in damaged:
            self.recorder.display.warn(f"warning: {line}; going on from step {self.steps}")
        for line in self._doubts():
            self.recorder.display.warn(f"warning: {line}")
        self._set_aside(damaged)

    def _doubts(self) -> list[str]:
        """What one would want to know before training, though nothing of it is forbidden."""
        doubts = []
        if line := trust.without_key(json.loads(self.written)):
            doubts.append(line)
        tune = getattr(self.learner, "tune", "all")
        # FineTune's `tune` is of its adaptation.
        if tune != "all" and hasattr(self.learner, "updates_per_layer") and not self.config.start:
            doubts.append(
                f"tune is '{tune}', and there is nothing that was learned before (--start): what is frozen"
                " stays as it was drawn"
            )
        until = self.learner.learns_until
        if until is not None and until < self.schedule.updates:
            doubts.append(
                f"step sizes have fallen to zero after {until} updates (anneal_updates), so that"
                f" {self.schedule.updates - max(until, self.update)} of the updates to come teach"
                " nothing; a new run with more anneal_updates would learn on"
            )
        return doubts

    def _set_aside(self, damaged: list[str]) -> None:
        """Rename checkpoints that could not be read, so that they do not pass for the newest."""
        folder = self.out / CHECKPOINTS
        for path in checkpoint.saved(folder):
            if damaged and int(path.name) > self.steps and self.writes:
                with writing(path):
                    path.rename(folder / f"damaged-{path.name}-{time.time_ns()}")

    # Evaluating and saving.

    def _evaluate(self) -> None:
        """Let every seed's agent adapt to held-out tasks, with randomness of their own."""
        self.recorder.display.doing("evaluating")
        results, seconds, began = [], [], time.monotonic()
        for index in range(self.config.seeds):
            state = devices.here(one_seed(self.now.state, self.config, index), self.mesh)
            results.append(self._evaluated(state, _evaluation_seed(self.config.seed + index)))
            seconds.append(time.monotonic() - began)
        self.recorder.evaluation(self.update, results, seconds)
        score = sum(result["score"] for result in results) / len(results)
        self.now = replace(self.now, score=score)
        self.recorder.display.say(
            f"{self.steps} {self.learner.unit}: {score:.4g} on held-out tasks"
        )

    def _evaluated(self, state: State, seed: int) -> dict[str, Any]:
        """What one seed's agent makes of held-out tasks: `score`, higher is better, and `points`."""
        agent = self.learner.agent(self.problem, state)
        tasks, method = self.config.evaluate_tasks, self.config.method
        if isinstance(agent, FewShotAgent):
            few = evaluate_few_shot(agent, tasks=tasks, seed=seed, method=method)
            return {"score": few.score, "points": few.points}
        result = evaluate(
            agent,
            self.problem,
            split="test",
            tasks=tasks,
            episodes=self.config.evaluate_episodes,
            seed=seed,
            method=method,
        )
        return {"score": result.points[-1]["mean"], "points": result.points}

    def _save(self) -> None:
        """A checkpoint of the state as it is, unless there is one that knows as much."""
        now = self.now
        if self.saved == (now.update, now.score) or not self.writes:
            return
        self.recorder.display.doing("saving")
        self.recorder.sync()
        manifest = checkpoint.Manifest(
            update=now.update,
            steps=self.steps,
            seconds=round(now.seconds, 3),
            identity=self.problem.source.identity,
            method=self.config.method,
            score=now.score,
            trained_with=self.config.trained_with,
        )
        state = devices.here(now.state, self.mesh)
        checkpoint.save(self.out / CHECKPOINTS, state, manifest)
        checkpoint.prune(self.out / CHECKPOINTS, self.config.keep_every)
        self.saved, self.saved_at = (now.update, now.score), time.monotonic()

    # Updates.

    def _chunks(self) -> Iterator[None]:
        """Run one chunk of about `CHUNK_SECONDS` at each `next`."""
        jax_only = self.problem.source.stepping == self.problem.target.stepping == "jax"
        run_chunk = self._advance if jax_only else self._step_by_step
        length, compiling = 1, True
        while True:
            wanted = self.schedule.chunk(self.update, hosts.agreed(length))
            began = time.monotonic()
            with devices.sharing(self.mesh):
                rows, bad = run_chunk(wanted)
            took = time.monotonic() - began
            self._record(rows, took, compiling)
            if (bad >= 0).any():
                self._refuse(rows[-1], bad)
            each = took / len(rows)
            if not compiling:
                length = max(1, min(2 * length, round(CHUNK_SECONDS / max(each, 1e-6))))
            compiling = False
            yield

    def _advance(self, updates: int) -> tuple[list[Metrics], np.ndarray]:
        """A chunk as one compiled loop."""
        count = devices.placed(jnp.int32(updates), self.mesh)
        fixed = (self.learner, self.problem, self.exempt, count, self.seeded)
        state, done, rows, bad = programs.advance(fixed, self.now.state)
        self.now = replace(self.now, state=state)
        rows = jax.device_get(rows)
        return [{k: v[i] for k, v in rows.items()} for i in range(int(done))], np.asarray(bad)

    def _step_by_step(self, updates: int) -> tuple[list[Metrics], np.ndarray]:
        """A chunk as a Python loop of collecting and learning."""
        rows, bad, began = [], np.array(-1), time.monotonic()
        host = "host" in (self.problem.source.stepping, self.problem.target.stepping)
        for _ in range(updates):
            try:
                with simulating():
                    metrics, places = self._collect_and_learn(host)
            except SimulatorError:
                if rows:
                    self._record(rows, time.monotonic() - began, True)
                raise
            rows.append(metrics)
            bad = np.asarray(places)
            if (bad >= 0).any():
                break
        return rows, bad

    def _collect_and_learn(self, host: bool) -> tuple[Metrics, Array]:
        """An update in two steps: its metrics, and where which quantity is not finite."""
        if host:
            state, experience = self.learner.collect(self.problem, self.now.state)
            learn = programs.learn_keeping
        else:
            state, experience = programs.collect((self.learner, self.problem), self.now.state)
            learn = programs.learn
        fixed = (self.learner, self.problem, experience, self.exempt)
        state, metrics, bad = learn(fixed, state)
        self.now = replace(self.now, state=state)
        return jax.device_get(metrics), bad

    def _record(self, rows: list[Metrics], took: float, compiling: bool) -> None:
        """Write down what a chunk of updates gave, up to and with the first that is not finite."""
        before, each = self.now, took / len(rows)
        # First: what goes wrong in writing is said of the updates that were done.
        self.now = replace(
            before, update=before.update + len(rows), seconds=before.seconds + took, score=None
        )
        self.recorder.updates(before.update, before.seconds, rows, each, not compiling)

    def _refuse(self, metrics: Metrics, bad: np.ndarray) -> None:
        """Say what is not finite, and whose fault it is."""
        seed, quantity, where = programs.not_finite(bad, self.now.state, metrics, self.seeded)
        which = f" of seed {self.config.seed + seed}" if self.seeded else ""
        if where and quantity != "action":
            names = {self.problem.source.name, self.problem.target.name}
            family = " or ".join(f"'{name}'" for name in sorted(names))
            raise NonFinite(
                f"stopped in update {self.update}: the {quantity} of the family {family} is not"
                f" finite at {where}{which}; {self._good()}; mend the family, not the learner"
            )
        if where:
            quantity = f"{quantity} at {where}"
        raise NonFinite(
            f"stopped in update {self.update}: '{quantity}'{which} is not finite;"
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
