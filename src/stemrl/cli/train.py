"""`stemrl train METHOD FAMILY`."""

import dataclasses
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import UserError
from ..naming import located, named_settings
from ..places import relocated
from ..reading import read_configuration
from ..settings import settings_of
from .output import as_json, only_answers, remark
from .parser import Parser, given

if TYPE_CHECKING:
    from ..runs import RunConfig

# Given by the words of the command, or by flags of their own.
NOT_FLAGS = ("method", "family", "settings", "family_settings", "target_settings")
SWITCHES = ("--resume", "--distributed", "--json", "--quiet", "--help", "-h")
CONFIGURATION = "stemrl.runs.config:RunConfig"


def run(arguments: list[str]) -> int:
    """Train, and say where the run is and what to do with it."""
    names, flags = _split(arguments)
    file = _value(flags, "--config")
    if file is None and not names and "--resume" in flags:
        file = _value(flags, "--out")
    kept = _names_in(Path(file)) if file is not None and len(names) < 2 else {}
    method, typed = _named("methods", names[0] if names else kept.get("method"))
    family, typed_too = _named("families", names[1] if len(names) > 1 else kept.get("family"))
    target = _named("families", _value(flags, "--target") or kept.get("target"))[0]
    options = _parser(method, family, target).parse(flags)
    options.typed = {"settings": typed, "family_settings": typed_too}
    if method is None:
        raise UserError(
            "name a method and a family: stemrl train METHOD FAMILY ('stemrl list' shows them)"
        )
    if family is None:
        raise UserError(
            f"name a family: stemrl train {method} FAMILY ('stemrl list families' shows them)"
        )
    with only_answers():
        finished = _train(method, family, file, options)
    if finished is None:
        return 0
    if options.json:
        print(as_json(finished))
    else:
        print(f"{finished['path']}: {finished['steps']} {finished['unit']} of {method} on {family}")
        path = quote(finished["path"])
        remark(f"next: stemrl evaluate {path}   stemrl report {path}")
    return 0


def _train(method: str, family: str, file: str | None, options: Any) -> dict[str, Any] | None:
    """The finished run in a few numbers; `None` in a process that is not the one to tell."""
    from ..api import default_folder
    from ..runs import RunConfig, enable_compilation_cache, hosts, train

    if options.distributed:
        hosts.join()
    changes: dict[str, Any] = given(options, "run")
    if file is None and options.resume:
        file = getattr(options, "out", None) or str(
            default_folder(RunConfig(method, family, **changes))
        )
    if file is None:
        config = RunConfig(method, family)
    else:
        config = RunConfig.load(_config_file(Path(file)))
        for what, name in (("method", method), ("family", family)):
            if located(name) != getattr(config, what):
                raise UserError(
                    f"{file} is a run of the {what} '{getattr(config, what)}', not '{name}'"
                )
    config = _changed(config, options, changes).resolved()
    enable_compilation_cache()
    chosen = getattr(options, "out", None)
    out = default_folder(config) if chosen is None else chosen

    def begun() -> None:
        if chosen is None:
            remark(f"writing to {out} (--out FOLDER chooses another)")

    finished = train(
        config,
        out,
        resume=options.resume,
        progress=not options.quiet,
        track=options.track,
        begun=begun,
    )
    return finished.summary if hosts.first() else None


def _changed(config: "RunConfig", options: Any, changes: dict[str, Any]) -> "RunConfig":
    for field, group in (
        ("settings", "method"),
        ("family_settings", "family"),
        ("target_settings", "target"),
    ):
        typed = options.typed.get(field, {})
        changes[field] = {**getattr(config, field), **typed, **given(options, group)}
    if changes.get("target") is not None and located(changes["target"]) != config.target:
        changes["target_settings"] = given(options, "target")
    return dataclasses.replace(config, **changes)


def _parser(method: str | None, family: str | None, target: str | None) -> Parser:
    parser = Parser(
        "train",
        "Train METHOD on tasks of FAMILY, in whole updates, into a run's folder. Every"
        " hyper-parameter is a flag: name both for the full list.",
        "METHOD FAMILY [--out DIR] [flags]",
    )
    parser.prog = " ".join(["stemrl train", *(name for name in (method, family) if name)])
    run = parser.add_argument_group("run")
    run.add_argument("--out", metavar="DIR", help="default: runs/METHOD-FAMILY-seedN")
    run.add_argument(
        "--config", metavar="FILE", help="repeat a run from its config.json; other flags change it"
    )
    run.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="NAME",
        help="mirror the metrics to tensorboard, wandb or mlflow; may be given several times",
    )
    parser.add_switch("--resume", "go on with the run in --out, exactly as if it had not stopped")
    parser.add_switch(
        "--distributed",
        "one of several processes that run this same command, each on devices of its own (--devices"
        " is the number of all); JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say"
        " who is who, or Slurm, Open MPI, Kubernetes or Cloud TPUs do",
    )
    parser.add_switch("--quiet", "no progress")
    parser.add_switch("--json", "print a summary of the finished run as JSON")
    configuration = [s for s in settings_of(CONFIGURATION) if s.name not in NOT_FLAGS]
    parser.add_settings("run's configuration", configuration, group="run", bare=True)
    for kind, name, group in (
        ("methods", method, "method"),
        ("families", family, "family"),
        ("families", target, "target"),
    ):
        if name is not None:
            entry = registry.find(kind, name)
            parser.add_settings(
                f"{'hyper-parameters' if group == 'method' else 'settings'} of {name}",
                settings_of(entry.path),
                group=group,
                bare=group == "method",
                preset=entry.preset,
            )
    return parser


def _named(kind: str, text: str | None) -> tuple[str | None, dict[str, Any]]:
    """A name, and the settings that stand after it."""
    return (None, {}) if text is None else named_settings(kind, text)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The names, METHOD and FAMILY, which may stand anywhere, and everything else."""
    names, rest, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            names.append(word)
            continue
        rest.append(word)
        takes_value = word.startswith("--") and "=" not in word and word not in SWITCHES
        if takes_value and words and not words[0].startswith("--"):
            # A hyper-parameter that is on or off may stand without a value, before a name.
            missing = 2 - len(names)
            known = words[0] in registry.METHODS or words[0] in registry.FAMILIES
            if word == "--target" or not (known and missing):
                rest.append(words.pop(0))
    if len(names) > 2:
        raise UserError(f"unexpected argument '{names[2]}' (see stemrl train --help)")
    return names, rest


def _value(flags: list[str], flag: str) -> str | None:
    """The value that a flag is given, before all flags are known."""
    for index, word in enumerate(flags):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag and index + 1 < len(flags):
            return flags[index + 1]
    return None


def _config_file(path: Path) -> Path:
    return path / "config.json" if path.is_dir() else path


def _names_in(path: Path) -> dict[str, Any]:
    """Method and family of a configuration, to know the flags; `RunConfig` reads it in earnest."""
    path = _config_file(path)
    content, _ = relocated(read_configuration(path), path)
    names, wanted = content if isinstance(content, dict) else {}, ("method", "family", "target")
    return {k: v for k, v in names.items() if k in wanted and isinstance(v, str)}
