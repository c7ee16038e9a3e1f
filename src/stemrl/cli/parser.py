"""What the commands share: parsing with errors of one line, and flags made from settings."""

import argparse
import ast
import contextlib
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..errors import UserError, nearest
from ..settings import Setting, metavar, read


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are `UserError`s that name the nearest flag."""

    def __init__(self, command: str, description: str, usage: str = ""):
        super().__init__(
            prog=f"stemrl {command}",
            description=description,
            usage=f"stemrl {command} {usage}" if usage else None,
            allow_abbrev=False,
            formatter_class=_Formatter,
            # A flag that was not given is no attribute, so that defaults stay in one place.
            argument_default=argparse.SUPPRESS,
        )
        # argparse does not know that -1e3 and -inf are numbers.
        self._negative_number_matcher = re.compile(r"^-(\d|\.\d|inf$).*$")

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+?)(/\S+)?: ", r"\1: ", message)
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all of `arguments`; `--some_flag` is `--some-flag`."""
        words = [_hyphened(word) for word in arguments]
        known, unknown = self.parse_known_args(words)
        if unknown:
            word = unknown[0].partition("=")[0]
            if not word.startswith("-"):
                self.error(f"unexpected argument '{word}'")
            flags = [f for f in self._option_string_actions if f.startswith("--")]
            close = nearest(word, flags)
            self.error(f"unknown flag '{word}'" + (close if "did you mean" in close else ""))
        return known

    def add_whole(
        self, flag: str, default: int | None, least: int, help: str, instead: str = ""
    ) -> None:
        """A flag that takes a whole number of at least `least`; `instead` says what it means where
        there is no default."""

        def whole(text: str) -> int:
            value = read(text, int)
            if not isinstance(value, int) or value < least:
                raise argparse.ArgumentTypeError(
                    f"must be a whole number of at least {least}, not '{text}'"
                )
            return value

        told = f"{help} (default: {instead or default})"
        self.add_argument(flag, type=whole, default=default, metavar="INT", help=told)

    def add_switch(self, flag: str, help: str) -> None:
        """A flag without a value."""
        self.add_argument(flag, action="store_true", default=False, help=help)

    def add_settings(
        self,
        title: str,
        settings: Iterable[Setting],
        *,
        group: str,
        bare: bool = False,
        preset: dict[str, Any] | None = None,
    ) -> None:
        """A flag for every setting. The values are found by `given`.

        **Arguments:** `group`: flags are `--group.name`; `bare`: they are `--name`, unless that is
        taken; `preset`: defaults other than the class's.
        """
        section = self.add_argument_group(title)
        for setting in settings:
            if setting.kind is None:
                continue
            name = setting.name.replace("_", "-")
            flag = f"--{name}"
            if not bare or flag in self._option_string_actions:
                flag = f"--{group}.{name}"
            default = (preset or {}).get(setting.name, setting.default)
            shown = "required" if default is None else f"default: {_as_flag(default)}"
            if setting.range is not None and str(setting.range):
                shown = f"{setting.range}; {shown}"
            options: dict[str, Any] = {"metavar": metavar(setting.kind)}
            if setting.kind is bool:
                options |= {"nargs": "?", "const": "true"}
            section.add_argument(
                flag,
                dest=f"{group}.{setting.name}",
                type=_reader(setting.kind),
                help=f"{setting.documentation} ({shown})".strip().replace("%", "%%"),
                **options,
            )
            if setting.kind is bool:
                prefix, _, rest = flag.removeprefix("--").rpartition(".")
                section.add_argument(
                    f"--{prefix}.no-{rest}" if prefix else f"--no-{rest}",
                    dest=f"{group}.{setting.name}",
                    action="store_false",
                    help=argparse.SUPPRESS,
                )


def given(parsed: argparse.Namespace, group: str) -> dict[str, Any]:
    """The settings of one group that were given, by name."""
    start = f"{group}."
    return {k.removeprefix(start): v for k, v in vars(parsed).items() if k.startswith(start)}


def _as_flag(default: Any) -> str:
    """A default as one would type it."""
    if isinstance(default, str):
        with contextlib.suppress(ValueError, SyntaxError):
            default = ast.literal_eval(default)
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)


def _reader(kind: Any) -> Any:
    return lambda text: read(text, kind)


def _hyphened(word: str) -> str:
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str):
        width = min(shutil.get_terminal_size().columns, 110) - 2
        super().__init__(prog, max_help_position=34, width=width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        # A value such as `state-action` stays in one piece.
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)
