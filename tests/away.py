"""Every hyper-parameter of every method away from its default, from the registry.

What a method can be told tomorrow is in it by itself. `test_matrix.py` trains every method with as many of
them at once as go together; `test_hyper_parameters.py`, in `make long`, tries each value alone.
"""

from typing import Any, Literal, get_args, get_origin

from stemrl import registry
from stemrl.errors import UserError
from stemrl.naming import named_settings
from stemrl.runs import RunConfig
from stemrl.settings import Setting, settings_of

WORLDS = {"family": "point-conflict horizon=4", "reveal": "context"}
NEEDS: dict[str, dict[str, Any]] = {
    "heads": WORLDS,
    "gradient_surgery": WORLDS,
    "target_inner_kl": {"settings": {"inner_kl": 0.5}},
    "features": {"family": "glyphs"},
    "by_class": {"family": "glyphs"},
}
"""Other fields of `RunConfig` without which a hyper-parameter has no sense."""

VALUES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("her", "learner"): ("sac",),
    ("goal-dreaming", "learner"): ("dqn",),
}
"""Of methods' hyper-parameters that nobody can guess a value for: other values."""


def others(method: str, setting: Setting) -> tuple[Any, ...]:
    """The values of a hyper-parameter that `Entry.tiny` does not try: all other choices; of numbers one."""
    entry = registry.METHODS[method]
    assert entry.tiny is not None
    tiny = named_settings("methods", f"{method} {entry.tiny.settings}")[1]
    if (method, setting.name) in VALUES:
        return VALUES[method, setting.name]
    default = entry.preset.get(setting.name, eval(setting.default or "None"))
    now = tiny.get(setting.name, default)
    kinds = [k for k in (get_args(setting.kind) or (setting.kind,)) if k is not type(None)]
    if get_origin(setting.kind) is Literal:
        return tuple(choice for choice in kinds if choice != now)
    if now != default:
        return ()
    if bool in kinds:
        return (not now,)
    if get_origin(setting.kind) is tuple:
        return ((3, 2),)
    candidates: list[Any] = [2, 3, 1] if int in kinds else []
    if float in kinds:
        candidates += [0.5 * now, 2.0 * now] if now else [0.5, 0.01]
    allowed = setting.range
    good = [x for x in candidates if x != now and (allowed is None or x in allowed)]
    assert good, f"give VALUES in {__file__} another value for {method}'s {setting.name}"
    return tuple(good[:1])


CASES = [
    (method, setting.name, value)
    for method, entry in registry.METHODS.items()
    for setting in settings_of(entry.path)
    for value in others(method, setting)
]


def configured(method: str, settings: dict[str, Any]) -> RunConfig:
    """The tiny training of one update, with these settings over its own and what they need."""
    needed = {k: v for name in settings for k, v in NEEDS.get(name, {}).items()}
    entry = registry.METHODS[method]
    assert entry.tiny is not None
    tiny = named_settings("methods", f"{method} {entry.tiny.settings}")[1]
    fields = {"family": entry.tiny.family, **entry.tiny.others, **needed}
    settings = {**tiny, **fields.pop("settings", {}), **settings}
    config = RunConfig(method, settings=settings, evaluate_every=0, **fields)
    each = config.learner().steps_per_update(config.problem())
    return RunConfig(**{**vars(config), "steps": each})


def together(method: str) -> dict[str, Any]:
    """As many of the method's hyper-parameters away from their defaults as go together: all that
    `Entry.tiny` leaves, on the same family. What is switched on stays on."""
    tiny = named_settings("methods", f"{method} {registry.METHODS[method].tiny.settings}")[1]
    chosen: dict[str, Any] = {}
    for name, value in ((name, value) for m, name, value in CASES if m == method):
        if name in chosen or name in tiny or name in NEEDS or value is False:
            continue
        try:
            configured(method, {**chosen, name: value})
        except UserError:
            continue
        chosen[name] = value
    return chosen
