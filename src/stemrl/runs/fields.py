"""From what a user wrote (JSON, a dictionary) to the typed fields of a method or family, and back.

The fields' own annotations are the schema: `int`, `float`, `bool`, `str`, `Literal`, `tuple` and
`X | None`. Everything that does not fit is one line that names the setting.
"""

import dataclasses
import math
import numbers
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import UserError, nearest


def checked(
    cls: type, settings: dict[str, Any], owner: str, beside: Iterable[str] = ()
) -> dict[str, Any]:
    """Return `settings` as the fields of `cls` want them. Raises `UserError` for a name that is not
    a field, with the nearest that is, or that stands `beside` them, and for a value of another
    type."""
    kinds = field_kinds(cls)
    typed = {}
    for name, value in settings.items():
        if name not in kinds:
            raise UserError(f"'{owner}' has no setting '{name}'{nearest(name, {*kinds, *beside})}")
        typed[name] = coerce(value, kinds[name], f"{owner}: {name}")
    return typed


def field_kinds(cls: type) -> dict[str, Any]:
    """Return the annotation of every field that a user may set."""
    try:
        hints = get_type_hints(cls)
    except NameError:  # an annotation that only a type checker can see
        hints = {}
    fields = [f for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []
    return {f.name: hints.get(f.name, f.type) for f in fields}


def coerce(value: Any, kind: Any, what: str) -> Any:
    """Return `value` as a `kind`; lists become tuples and whole numbers floats where those are
    wanted."""
    fitted = _fit(value, kind)
    if fitted is not _MISFIT:
        return fitted
    hint = ""
    if get_origin(kind) is Literal and isinstance(value, str):
        hint = nearest(value, [str(choice) for choice in get_args(kind)])
    raise UserError(f"{what} must be {describe(kind)}, not {value!r}{hint}")


def describe(kind: Any) -> str:
    """Return a kind in a user's words: `a whole number`, `one of tanh, relu`, …"""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if kind in words:
        return words[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join("nothing (null)" if k is type(None) else describe(k) for k in inner)
    if origin is tuple:
        one = describe(inner[0]).removeprefix("a ") if inner else "value"
        return f"a list with a {one} each"
    return str(getattr(kind, "__name__", kind))


_MISFIT = object()


def _fit(value: Any, kind: Any) -> Any:
    """`value` as a `kind`, or `_MISFIT`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        # The exact type first: True is not a 1 to be, nor 1 a 1.0.
        exact = [k for k in inner if isinstance(k, type) and type(value) is k]
        for choice in (*exact, *inner):
            fitted = _fit(value, choice)
            if fitted is not _MISFIT:
                return fitted
        return _MISFIT
    if origin is Literal:
        return next((c for c in inner if c == value and type(c) is type(value)), _MISFIT)
    if origin is tuple:
        return _fit_tuple(value, inner)
    if kind in (None, type(None)):
        return None if value is None else _MISFIT
    if kind is float:
        if isinstance(value, str) and value in ("inf", "-inf"):  # how JSON is given them
            return float(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
            return _MISFIT
        return float(value)
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)  # NumPy's too
    if kind in (int, bool, str):
        return value if type(value) is kind else _MISFIT
    return hashable(value)


def _fit_tuple(value: Any, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _MISFIT
    if not inner:
        return hashable(value)
    kinds = inner
    if len(inner) == 2 and inner[1] is Ellipsis:
        kinds = (inner[0],) * len(value)
    if len(kinds) != len(value):
        return _MISFIT
    fitted = tuple(_fit(v, k) for v, k in zip(value, kinds, strict=True))
    return _MISFIT if any(f is _MISFIT for f in fitted) else fitted


def hashable(value: Any) -> Any:
    """Return a value of whatever kind, with JSON's lists as tuples, as fields must have them."""
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """Return a setting as JSON has it: tuples as lists, infinities as text."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
