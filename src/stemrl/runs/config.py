"""What a run is made of, on paper: `config.json`, which repeats the run."""

import dataclasses
import functools
import json
import warnings
from pathlib import Path
from typing import Any

from .. import own_code, registry
from ..core import (
    AbstractFamily,
    AbstractLearner,
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    BudgetUnit,
    Logged,
    Problem,
    Reveal,
    SupervisedProblem,
    check_family,
)
from ..errors import CannotResume, CodeChanged, UserError, nearest
from ..machine import versions
from ..naming import located, named_settings
from ..places import changed_since, without_folders
from ..reading import at_home, read_configuration
from ..settings import refuse_out_of_range, settings_of
from . import starting, trust
from .fields import checked, coerce, field_kinds, hashable, plain

SCHEMA = 1
"""To be raised when a field changes its meaning."""

MOST_SEEDS = 4096
"""At once. One line of a file must not make us write billions of keys."""

MOVABLE = ("method", "family", "target", "target_data", "start")
"""What names files, which may be moved: what is in them is compared instead."""

_NAMES = (
    ("method", "settings", "methods"),
    ("family", "family_settings", "families"),
    ("target", "target_settings", "families"),
)
"""Fields that are names, the fields with their settings, and what they name."""

EXTENSIBLE = ("steps", "evaluate_every", "evaluate_tasks", "evaluate_episodes", "keep_every")
"""What a resumed run may change: nothing that training itself depends on."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A method, a family, and how long to train.

    It is frozen and made of plain values; `learner()` and `problem()` build what it names. Whatever
    is wrong with it is a `UserError` of one line.
    """

    method: str
    """The method's name, as `stemrl list methods` shows it. Like every name here, it may have
    settings after it (`ppo num_envs=8`), which then stand in `settings`."""
    family: str
    """The family's name, as `stemrl list families` shows it, or `path:Class`."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The method's hyper-parameters; those left out have their defaults."""
    family_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The family's settings; those left out have their defaults."""
    target: str | None = None
    """The family in which the agent is to do well, if it is not the one it is trained in."""
    target_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The target's settings."""
    target_data: str | None = None
    """A file of what was recorded in the target: a `.npz` with the columns observations, actions,
    rewards, terminations, next_observations (those that the method needs), or a Minari folder."""
    budget: int = 0
    """Environment steps that training may take in the target (or what `budget_unit` says), or rows of
    the target's data, of which 0 takes all; evaluations are not counted."""
    budget_unit: BudgetUnit = "steps"
    """What the budget counts: steps, observations without a reward, or labels."""
    start: str | None = None
    """A run to begin from, `RUN` or `RUN@STEPS`: what fits of its networks is taken over."""
    reveal: Reveal = "nothing"
    """What the agent is told of a task's parameters: nothing, or their context."""
    seed: int = 0
    """The first seed."""
    seeds: int = 1
    """How many seeds to train at once: `seed`, `seed` + 1, … (families in pure JAX only)."""
    devices: int = 1
    """How many devices share the run's tasks. The numbers are those of one, up to rounding."""
    steps: int = 5_000_000
    """Environment steps to train for (or what else the method counts: labelled examples where it is
    supervised), in whole updates, per seed."""
    evaluate_every: int = 500_000
    """Environment steps between two evaluations on held-out tasks; 0: never."""
    evaluate_tasks: int = 20
    """Held-out tasks of an evaluation."""
    evaluate_episodes: int | None = None
    """Episodes in each of them; by default as many as the method adapts in."""
    keep_every: int = 0
    """Environment steps between two checkpoints that are kept for good; 0: only last and best."""

    def __post_init__(self):
        for what, group, kind in _NAMES:
            text = getattr(self, what)
            if isinstance(text, str) and (settings := named_settings(kind, text))[1]:
                object.__setattr__(self, what, settings[0])
                given = getattr(self, group)
                if isinstance(given, dict):
                    object.__setattr__(self, group, {**settings[1], **given})
        for name, kind in field_kinds(RunConfig).items():
            value = getattr(self, name)
            if kind == dict[str, Any]:
                if not isinstance(value, dict):
                    raise UserError(f"{name} must be names with values, not {value!r}")
                object.__setattr__(self, name, {k: hashable(v) for k, v in value.items()})
            else:
                object.__setattr__(self, name, coerce(value, kind, name))
        smallest = {
            "seed": 0, "seeds": 1, "steps": 1, "evaluate_every": 0, "evaluate_tasks": 1,
            "evaluate_episodes": 1, "keep_every": 0, "budget": 0, "devices": 1,
        }  # fmt: skip
        for name, least in smallest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")
        if self.seeds > MOST_SEEDS:
            raise UserError(f"seeds must be at most {MOST_SEEDS}, not {self.seeds}")
        if self.seed + self.seeds > 2**31:
            raise UserError(f"seed must be below 2**31, not {self.seed}")

    @classmethod
    def tiny(cls, method: str, updates: int = 1, **changes: Any) -> "RunConfig":
        """Return the smallest training of a method of the registry, with so many updates and no
        evaluations; `changes` are other fields. Raise `UserError` for a method that has none."""
        tiny = registry.find("methods", method).tiny
        if tiny is None:
            raise UserError(f"'{method}' has no tiny setting: give its Entry in registry.py one")
        fields = {"family": tiny.family, "evaluate_every": 0, **tiny.others, **changes}
        config = cls(f"{method} {tiny.settings}", **fields)
        steps = updates * config.learner().steps_per_update(config.problem())
        return dataclasses.replace(config, steps=steps)

    def learner(self) -> Any:
        """Return the method with its settings: an `AbstractLearner` or `AbstractSupervisedLearner`."""
        return _build("methods", self.method, self.settings)

    def problem(self) -> Any:
        """Return what is to be learned: a `Problem` of the family, the target if there is one, and
        who may see the parameters; or a `SupervisedProblem` of supervised families."""
        target = source = self._family("family", self.family, self.family_settings)
        if self.target is not None:
            target = self._family("target", self.target, self.target_settings)
        elif self.target_settings:
            raise UserError("target_settings need a target; name the target family")
        elif self.budget and self.target_data is None:
            raise UserError("a budget is of steps in a target; name the target family")
        if any(isinstance(f, AbstractSupervisedFamily) for f in (source, target)):
            return self._supervised(source, target)
        logged = None
        if self.target_data is not None:
            spaces = source.observation_space, source.action_space
            logged = Logged.read(self.target_data, *spaces)
            logged = logged.first(self.budget or logged.rows)
        return Problem(source, target, self.budget, self.reveal, self.budget_unit, logged)

    def _supervised(self, source: Any, target: Any) -> SupervisedProblem:
        for family in (source, target):
            if not isinstance(family, AbstractSupervisedFamily):
                raise UserError(
                    f"source '{source.name}' and target '{target.name}' differ: one of them is an"
                    " environment, the other a supervised family"
                )
        if self.budget or self.reveal != "nothing" or self.target_data is not None:
            raise UserError(
                f"'{source.name}' is a supervised family: budget, reveal and target_data are of"
                " environments"
            )
        return SupervisedProblem(source, target)

    def refuse_mismatch(self) -> None:
        """Raise `UserError` if a method that acts is to learn from a supervised family, or a method
        that is given labels from an environment."""
        supervised = isinstance(self.problem(), SupervisedProblem)
        if supervised != isinstance(self.learner(), AbstractSupervisedLearner):
            wants, has = ("a supervised family", "an environment")
            if supervised:
                wants, has = has, wants
            raise UserError(
                f"'{self.method}' learns from {wants}, and '{self.family}' is {has};"
                " 'stemrl list' shows what there is of both kinds"
            )

    @staticmethod
    def _family(what: str, name: str, settings: dict[str, Any]) -> Any:
        family = _build("families", name, settings)
        if isinstance(family, AbstractFamily):
            check_family(family)
        return family

    def resolved(self) -> "RunConfig":
        """Return the same configuration with every hyper-parameter and setting written out. So
        neither a default that changes later nor another working folder changes the run."""
        problem = self.problem()
        return dataclasses.replace(
            self,
            method=located(self.method),
            family=located(self.family),
            target=self.target and located(self.target),
            target_data=self.target_data and str(Path(at_home(self.target_data)).resolve()),
            start=self.start and starting.resolved(self.start),
            settings=_fields(self.learner()),
            family_settings=_fields(problem.source),
            target_settings={} if self.target is None else _fields(problem.target),
        )

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """The files that a resolved configuration depends on, by their whole paths: code of one's
        own, with a digest of what was imported; models, folders, recorded data, and the run that it
        began from."""
        problem = self.problem()
        self.learner()
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found = {}
        for text in trust.names_code(fields):
            found |= own_code.behind(text)
        others = [*problem.source.files(), *problem.target.files()]
        others += [Path(self.target_data)] if self.target_data else []
        others += [starting.split_start(self.start)[0]] if self.start else []
        return found | {str(path): "" for path in others}

    def as_dict(
        self, out: Path | None = None, begun: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return what `config.json` holds: the resolved configuration, the identity of its
        families, the versions of the libraries, the files that it depends on, and, of a run in the
        folder `out`, where that is. Digests of code are those of the run's beginning, if `begun`
        holds them."""
        problem, resolved = self.problem(), self.resolved()
        fields = {f.name: getattr(resolved, f.name) for f in dataclasses.fields(self)}
        for name in ("settings", "family_settings", "target_settings"):
            fields[name] = {k: plain(v) for k, v in fields[name].items()}
        if files := resolved.files:
            fields["depends_on"] = files | {k: v for k, v in (begun or {}).items() if k in files}
            fields |= {} if out is None else {"folder": str(out.resolve())}
        signature = trust.signature_of(fields)
        return {
            "schema": SCHEMA,
            "versions": versions(),
            "identity": problem.source.identity,
            "target_identity": problem.target.identity,
            **({} if problem.logged is None else {"data_identity": problem.logged.digest}),
            **fields,
            **({} if signature is None else {"signature": signature}),
        }

    @property
    def trained_with(self) -> dict[str, Any]:
        """Everything that training depends on, as a checkpoint keeps it, but for the names of
        method and families, whose files may be moved."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if field.name in (*EXTENSIBLE, *MOVABLE):
                continue
            value = getattr(self, field.name)
            if isinstance(value, dict):
                found |= {f"{field.name}/{name}": plain(v) for name, v in value.items()}
            else:
                found[field.name] = value
        return without_folders(found, self.files)

    def refuse_other(self, trained_with: dict[str, Any], path: Path) -> None:
        """Raise `UserError` if a checkpoint was not trained with these settings: the configuration
        at `path` was then damaged, or changed by hand. Settings that only one of the two has belong
        to another version."""
        now = self.trained_with
        for name, was in trained_with.items():
            if name in now and now[name] != was:
                raise UserError(
                    f"{path} has {now[name]!r} for {name.rpartition('/')[2]}, and the checkpoint was"
                    f" trained with {was!r}; set it back"
                )

    def text(self, out: Path | None = None, begun: dict[str, str] | None = None) -> bytes:
        """Return `config.json` as it is written; see `as_dict`. Raise `UserError` for settings that
        JSON cannot express."""
        try:
            text = json.dumps(self.as_dict(out, begun), indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise UserError(f"the settings cannot be written to config.json: {error}") from None
        return text.encode()

    @classmethod
    def load(cls, path: Path) -> "RunConfig":
        """Read `config.json`. Raise `UserError` if it is of another version, or if its families are
        no longer what they were."""
        try:
            with trust.vouched(read_configuration(path), path) as content:
                config = cls.from_dict(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        for file in changed_since(content):
            warnings.warn(
                f"{file} has changed since {path.parent} was begun: what was trained or scored before"
                " may not be what this code makes of it",
                CodeChanged,
                stacklevel=2,
            )
        return config

    @classmethod
    def from_dict(cls, content: Any) -> "RunConfig":
        """Make it of what `as_dict` gave, or of its fields alone."""
        if not isinstance(content, dict):
            raise UserError("not a run's configuration: a JSON object is wanted")
        content = dict(content)
        schema = content.pop("schema", SCHEMA)
        written = content.pop("versions", None)
        for about in ("signature", "folder", "depends_on"):
            content.pop(about, None)
        identities = {name: content.pop(name, None) for name in ("identity", "target_identity")}
        data = content.pop("data_identity", None)
        if schema != SCHEMA:
            by = written.get("stemrl") if isinstance(written, dict) else None
            raise UserError(
                f"configuration of schema {schema!r}, this stemrl ({versions()['stemrl']}) reads"
                f" schema {SCHEMA}; open it with the version that wrote it"
                + (f" (stemrl {by})" if by else "")
            )
        known = field_kinds(cls)
        for name in content:
            if name not in known:
                raise UserError(f"unknown field '{name}'{nearest(name, known)}")
        for name in ("method", "family"):
            if name not in content:
                raise UserError(f"not a run's configuration: '{name}' is missing")
        config = cls(**content)
        problem = config.problem()
        config.learner()
        for name, family in (("identity", problem.source), ("target_identity", problem.target)):
            was = identities[name]
            if was is not None and was != family.identity:
                raise UserError(
                    f"the family '{family.name}' is not what it was: this run has {was}, here it"
                    f" is {family.identity}; use the version of stemrl that made the run"
                )
        logged = problem.logged
        if data is not None and logged is not None and not logged.absent and logged.digest != data:
            raise UserError(
                f"{logged.where} is not what it was when this run was trained on it ({data} then,"
                f" {logged.digest} now); put the old file back"
            )
        return config

    def refuse_change(self, new: "RunConfig") -> None:
        """Raise `CannotResume` if the configuration `new` cannot continue a run of this one. Both
        must be resolved."""
        for field in dataclasses.fields(self):
            name = field.name
            old, now = getattr(self, name), getattr(new, name)
            if old == now or name in EXTENSIBLE:
                continue
            if name == "target_data" and None not in (old, now):
                ours, theirs = self.problem().logged, new.problem().logged
                if ours and theirs and (ours.absent or ours.digest == theirs.digest):
                    continue
            if isinstance(old, dict):
                changed = next(k for k in {**old, **now} if old.get(k) != now.get(k))
                name, old, now = changed, old.get(changed), now.get(changed)
            raise CannotResume(
                f"cannot resume with another {name} ({old!r} before, {now!r} now); only"
                f" {', '.join(EXTENSIBLE)} may change: start a new run in another folder"
            )


def _build(kind: str, name: str, settings: dict[str, Any]) -> Any:
    entry = registry.find(kind, name)
    made = registry.class_of(kind, name)
    if missing := _missing(made):
        raise UserError(
            f"'{name}' lacks {', '.join(missing)}, which every {registry.ONE_OF[kind]} has"
        )
    # In Python both are arguments of `train`.
    beside = field_kinds(RunConfig) if kind == "methods" else ()
    settings = checked(made, {**entry.preset, **settings}, name, beside)
    refuse_out_of_range(settings, settings_of(entry.path), name)
    for required in _required(made):
        if required not in settings:
            raise UserError(f"'{name}' needs a value for its setting '{required}'")
    return made(**settings)


def _missing(cls: type) -> list[str]:
    """What a class must define and does not."""
    absent = {*getattr(cls, "__abstractmethods__", ()), *getattr(cls, "__abstractvars__", ())}
    if issubclass(cls, AbstractFamily | AbstractLearner) and not hasattr(cls, "name"):
        absent.add("name")
    return sorted(absent)


def _required(cls: type) -> list[str]:
    """The fields that a class has no defaults for."""
    none = dataclasses.MISSING
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return [f.name for f in fields if f.init and f.default is none and f.default_factory is none]


def _fields(module: Any) -> dict[str, Any]:
    """The settings of a method or family; what they name is found from any other folder too."""
    values = {f.name: getattr(module, f.name) for f in dataclasses.fields(module) if f.init}
    for name in getattr(module, "paths", ()):
        if isinstance(values.get(name), str) and values[name]:
            values[name] = str(module.place(values[name]))
    return {k: located(v) if isinstance(v, str) else v for k, v in values.items()}
