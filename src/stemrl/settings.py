"""What a method or family can be told, read from its source without running it.

`stemrl train maml half-cheetah-vel --help` must answer at once, and importing a method imports JAX.
So the fields of its class (name, type, default, and the docstring below each) are read from the
syntax tree instead; names of types are followed through imports.
"""

import ast
import functools
import importlib.machinery
import inspect
import math
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from .errors import UserError, nearest
from .reading import syntax_tree


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be, as an interval: `[0, 1]` with its ends, `(0, inf)` without
    them."""

    low: float
    high: float
    open_low: bool
    open_high: bool
    """Whether the ends themselves are left out."""

    @classmethod
    def of(cls, text: str) -> "Range":
        """Read it from how an interval is written."""
        found = _INTERVAL.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no interval")
        return cls(_number(found[2]), _number(found[3]), found[1] == "(", found[4] == ")")

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        """In words, to follow "must be"."""
        low = f"{'above' if self.open_low else 'at least'} {_shown(self.low)}"
        high = f"{'below' if self.open_high else 'at most'} {_shown(self.high)}"
        if math.isinf(self.high):
            finite = ["finite"] if self.open_high else []
            return " and ".join(([low] if math.isfinite(self.low) else []) + finite)
        if math.isinf(self.low):
            return high
        if not (self.open_low or self.open_high):
            return f"between {_shown(self.low)} and {_shown(self.high)}"
        return f"{low} and {high}"


_INTERVAL = re.compile(r"([\[(])\s*([-−]?[\d.e-]+|[-−]inf)\s*,\s*([-−]?[\d.e-]+|inf)\s*([\])])")
_OWN_RANGE = re.compile(rf"\bin ({_INTERVAL.pattern})")
"""In a setting's docstring: "Share of the steps that are thrown away, in [0, 1)"."""


def _number(text: str) -> float:
    return float(text.replace("−", "-"))


def _shown(value: float) -> str:
    return str(int(value)) if abs(value) < 1e16 and value == int(value) else f"{value:g}"


_FROM_ONE, _FROM_ZERO, _ABOVE_ZERO = (
    Range.of("[1, inf]"),
    Range.of("[0, inf)"),
    Range.of("(0, inf)"),
)
_SHARE, _LIMIT = Range.of("[0, 1]"), Range.of("(0, inf]")
"""A limit may be infinite, and then limits nothing."""

WHOLE = Range.of("[-inf, 2147483647]")
"""Of every whole number: what 32 bits can hold."""

RANGES: dict[str, Range] = {
    **dict.fromkeys(("discount", "gae_lambda", "exploration", "target_rate"), _SHARE),
    **dict.fromkeys(("learning_rate", "value_weight", "kl_weight", "damping"), _FROM_ZERO),
    **dict.fromkeys(("exploration_noise", "target_noise"), _FROM_ZERO),
    **dict.fromkeys(("initial_std", "min_std", "max_kl", "initial_temperature"), _ABOVE_ZERO),
    **dict.fromkeys(("update_to_data",), _ABOVE_ZERO),
    **dict.fromkeys(("clip", "max_gradient_norm", "target_kl"), _LIMIT),
    **dict.fromkeys(("hidden", "hidden_size", "horizon", "anneal_updates"), _FROM_ONE),
    **dict.fromkeys(("decay_updates", "num_envs", "rollout_length", "epochs"), _FROM_ONE),
    **dict.fromkeys(("minibatches", "batch_size", "capacity", "gradient_steps"), _FROM_ONE),
    **dict.fromkeys(("meta_batch_size", "inner_episodes", "batch_steps"), _FROM_ONE),
    **dict.fromkeys(("entropy_weight", "reward_scale"), Range.of("(-inf, inf)")),
    "warm_up_steps": Range.of("[0, inf]"),
    "inner_steps": Range.of("[0, inf]"),
    "size": _ABOVE_ZERO,
}
"""What the field's common hyper-parameters may be, by name, in everybody's methods and families. A
rate of zero freezes what would learn. Names that end like one of these (`inner_learning_rate`,
`classifier_hidden`) have its range, and a docstring that says another one ("in [0, 1)") comes first."""

_ENDINGS = ("learning_rate", "hidden", "gradient_steps", "minibatches", "epochs", "batch_size")


def range_by_name(name: str, documentation: str = "") -> Range | None:
    """Return the interval that a docstring names, or else the usual one of such a name."""
    if found := _OWN_RANGE.search(documentation):
        return Range.of(found[1])
    if name in RANGES:
        return RANGES[name]
    return next((RANGES[ending] for ending in _ENDINGS if name.endswith(f"_{ending}")), None)


@dataclass(frozen=True)
class Setting:
    """One field of a method or family."""

    name: str
    kind: Any
    """`int`, `float`, `bool`, `str`, a `Literal`, a `tuple` or a union of them; `None` where the
    annotation is something else, which no command line can give."""
    default: str | None
    """As the source has it; `None` where the field must be given."""
    documentation: str
    """Its docstring, in one line."""

    @property
    def range(self) -> Range | None:
        """What its numbers may be; `None` for what is no number, or may be any."""
        if not _numbers(self.kind):
            return None
        return range_by_name(self.name, self.documentation)

    def refuse(self, value: Any, owner: str) -> None:
        """Raise `UserError` for a number out of range, one of several included."""
        allowed, is_each = self.range, isinstance(value, tuple | list)
        for one in value if is_each else (value,):
            if isinstance(one, bool) or not isinstance(one, int | float):
                continue
            for interval in (allowed, WHOLE if isinstance(one, int) else None):
                if interval is not None and one not in interval:
                    each = " each" if is_each else ""
                    raise UserError(
                        f"{owner}: {self.name} must be {interval}{each}, not {_shown(one)}"
                    )


def refuse_out_of_range(settings: Mapping[str, Any], known: Iterable[Setting], owner: str) -> None:
    """Raise `UserError` for the first of `settings` whose number is out of its range."""
    by_name = {setting.name: setting for setting in known}
    for name, value in settings.items():
        if name in by_name:
            by_name[name].refuse(value, owner)


def _numbers(kind: Any) -> bool:
    """Whether a kind's values may be numbers."""
    return kind in (int, float) or any(_numbers(inner) for inner in get_args(kind))


def settings_of(path: str) -> list[Setting]:
    """Return the settings of `package.module:Class` or `file.py:Class`, inherited ones first."""
    module_name, _, name = path.rpartition(":")
    module = _module(module_name)
    found = _resolve(module, name) if module else None
    if found is None:
        raise UserError(
            f"there is no '{name}' in {module_name}{nearest(name, classes_in(module_name))}"
        )
    if not isinstance(found[1], ast.ClassDef):
        return []
    return list(_fields(found[0], found[1]).values())


def classes_in(name: str) -> list[str]:
    """Return the names of the classes that a module or file defines, without running it."""
    module = _module(name)
    statements = _statements(module.tree.body) if module else ()
    return [statement.name for statement in statements if isinstance(statement, ast.ClassDef)]


def read(text: str, kind: Any) -> Any:
    """Return what a user typed as a `kind`; unchanged if it is none, for the run's configuration to
    refuse.

    Tuples are given with commas, nothing at all as `none`.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in inner and text.lower() in ("none", "null"):
            return None
        values = [read(text, k) for k in inner if k is not type(None)]
        return next((v for v in values if not isinstance(v, str)), text)
    if origin is Literal:
        return next((choice for choice in inner if str(choice) == text), text)
    if origin is tuple:
        return [read(part, inner[0]) for part in text.strip("()[] ").split(",") if part.strip()]
    if kind is bool:
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    try:
        if kind is int:
            return int(text) if "e" not in text.lower() else _whole(text)
        return float(text) if kind is float else text
    except (ValueError, OverflowError):
        return text


def metavar(kind: Any) -> str:
    """Return a kind as `--help` shows it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return "|".join("none" if k is type(None) else metavar(k) for k in inner)
    if origin is Literal:
        return "|".join(str(choice) for choice in inner)
    if origin is tuple:
        one = metavar(inner[0])
        return f"{one},{one},…"
    return {int: "INT", float: "FLOAT", bool: "true|false", str: "TEXT"}.get(kind, "VALUE")


def _whole(text: str) -> int:
    """5e6 is a whole number too."""
    value = float(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


@dataclass(frozen=True)
class _Module:
    name: str
    package: str
    """What relative imports start from."""
    tree: ast.Module


@functools.cache
def _module(name: str) -> _Module | None:
    """A module's syntax tree; its packages' `__init__`s are not run. `None` if there is none."""
    if name.endswith(".py"):
        file, package = Path(name), ""
    else:
        spec, where, full = None, None, ""
        for part in name.split("."):
            full = f"{full}.{part}" if full else part
            spec = importlib.machinery.PathFinder.find_spec(full, where)
            if spec is None:
                # Not found along sys.path (an editable install, say): as loaded, if it is.
                loaded = sys.modules.get(full)
                spec = getattr(loaded, "__spec__", None)
            if spec is None:
                return None
            where = spec.submodule_search_locations
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            return None
        file = Path(spec.origin)
        package = name if where is not None else name.rpartition(".")[0]
    try:
        return _Module(name, package, syntax_tree(file.read_text(encoding="utf-8")))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise UserError(f"there is no Python file {file}") from None
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{file} is not a Python file: {error}") from None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's top level, with what stands under `if TYPE_CHECKING` or `try`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements([*statement.body, *statement.orelse])
        for handler in statement.handlers if isinstance(statement, ast.Try) else ():
            yield from _statements(handler.body)


def _resolve(module: _Module, name: str, depth: int = 8) -> tuple[_Module, ast.AST] | None:
    """Where `name` is defined, and as what: a class, a function, or a type alias's value."""
    for statement in _statements(module.tree.body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        ):
            return module, statement.value
        if isinstance(statement, ast.AnnAssign) and _last_name(statement.target) == name:
            return (module, statement.value) if statement.value else None
        if isinstance(statement, ast.ImportFrom) and depth:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    origin = _found(module, _absolute(module, statement))
                    return _resolve(origin, alias.name, depth - 1) if origin else None
    return None


def _meant(module: _Module, node: ast.AST, depth: int) -> tuple[_Module, ast.AST] | None:
    """What an expression such as `Arm` or `robots.arm.Arm` names, where it is defined."""
    if isinstance(node, ast.Subscript):  # a generic class, `Arm[int]`
        node = node.value
    if isinstance(node, ast.Attribute):
        origin = _imported(module, ast.unparse(node.value))
        return _resolve(origin, node.attr, depth) if origin else None
    return _resolve(module, node.id, depth) if isinstance(node, ast.Name) else None


def _imported(module: _Module, called: str) -> _Module | None:
    """The module that `module` calls by this name, with its dots."""
    for statement in _statements(module.tree.body):
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        for alias in statement.names:
            if isinstance(statement, ast.ImportFrom):
                bound, whole = alias.name, f"{_absolute(module, statement)}.{alias.name}"
            else:
                # `import robots.arm` binds `robots`, through which what is in it is reached.
                bound, whole = alias.name.partition(".")[0], alias.name.partition(".")[0]
            if alias.asname:
                bound = alias.asname
                whole = alias.name if isinstance(statement, ast.Import) else whole
            if called == bound or called.startswith(f"{bound}."):
                return _found(module, whole + called.removeprefix(bound))
    return None


def _absolute(module: _Module, statement: ast.ImportFrom) -> str:
    """The full name of the module that is imported from."""
    if not statement.level:
        return statement.module or ""
    parts = module.package.split(".")
    base = ".".join(parts[: len(parts) - statement.level + 1])
    return f"{base}.{statement.module}" if statement.module else base


def _found(module: _Module, name: str) -> _Module | None:
    """The module of this name, which a user's file may also import from the folder in which it
    lies."""
    found = _module(name) if name else None
    if found is not None or not name or not module.name.endswith(".py"):
        return found
    file = Path(module.name).resolve().parent.joinpath(*name.split("."))
    for path in (file.with_suffix(".py"), file / "__init__.py"):
        if path.is_file():
            return _module(str(path))
    return None


def _fields(module: _Module, node: ast.ClassDef, depth: int = 8) -> dict[str, Setting]:
    """A class's fields by name, those of its bases first."""
    fields: dict[str, Setting] = {}
    for base in reversed(node.bases):
        found = _meant(module, base, depth) if depth else None
        if found and isinstance(found[1], ast.ClassDef):
            fields.update(_fields(found[0], found[1], depth - 1))
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        outer = statement.annotation
        if isinstance(outer, ast.Subscript) and _last_name(outer.value) in (
            *("ClassVar", "AbstractVar", "AbstractClassVar"),
        ):
            continue
        given, default = _default(statement.value)
        if not given:
            continue
        name = statement.target.id
        fields[name] = Setting(name, _kind(module, outer), default, _docstring(following))
    return fields


def _default(value: ast.expr | None) -> tuple[bool, str | None]:
    """Whether a field may be given at all, and its default's source."""
    if isinstance(value, ast.Call) and _last_name(value.func) == "field":
        keywords = {k.arg: k.value for k in value.keywords}
        init = keywords.get("init")
        if isinstance(init, ast.Constant) and init.value is False:
            return False, None
        if "default_factory" in keywords:
            return True, ast.unparse(keywords["default_factory"]) + "()"
        value = keywords.get("default")
    return True, None if value is None else ast.unparse(value)


def _docstring(statement: ast.stmt | None) -> str:
    value = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return " ".join(inspect.cleandoc(value.value).split())
    return ""


def _kind(module: _Module, node: ast.AST, depth: int = 8) -> Any:
    """The type that an annotation names, or `None`."""
    if isinstance(node, ast.Constant):
        if node.value is None:
            return type(None)
        if isinstance(node.value, str):
            [written] = syntax_tree(node.value).body
            return _kind(module, written.value, depth) if isinstance(written, ast.Expr) else None
        return None
    if isinstance(node, ast.BinOp):
        sides = [_kind(module, side, depth) for side in (node.left, node.right)]
        known = [side for side in sides if side is not None]
        return Union[tuple(known)] if known else None  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _subscript(module, node, depth)
    name = _last_name(node)
    if name in ("int", "float", "bool", "str"):
        return {"int": int, "float": float, "bool": bool, "str": str}[name]
    found = _meant(module, node, depth) if depth else None
    if found is None or isinstance(found[1], ast.ClassDef | ast.FunctionDef):
        return None
    return _kind(*found, depth - 1)


def _subscript(module: _Module, node: ast.Subscript, depth: int) -> Any:
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    name = _last_name(node.value)
    if name == "Literal":
        return Literal[tuple(e.value for e in inner if isinstance(e, ast.Constant))]  # pyright: ignore
    if name == "Optional":
        return Union[_kind(module, inner[0], depth), None]  # noqa: UP007
    if name == "tuple":
        kinds = [_kind(module, e, depth) for e in inner if not _is_ellipsis(e)]
        if not kinds or None in kinds:
            return None
        return tuple[kinds[0], ...] if _is_ellipsis(inner[-1]) else tuple[tuple(kinds)]  # pyright: ignore
    return None


def _is_ellipsis(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def _last_name(node: ast.AST) -> str:
    """`field` of `eqx.field`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
