"""Which runs may have Python code imported: those whose user has vouched for it.

A run's configuration may name code: a method or family of one's own (`file.py:Class`,
`package.module:Class`), or a setting that names one. To open the run is to import that code, and to
import it is to run it. So what a configuration names is signed when the configuration is written,
with a key that lies in the user's own folder and in no run; a run that comes from elsewhere cannot
have the signature, and opens only if it names nothing but what stemrl itself knows, or once
`stemrl trust RUN` has signed it.
"""

import contextlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import UserError
from ..reading import read_configuration
from .files import write_whole

_NAMING = ("method", "family", "target", "settings", "family_settings", "target_settings")

_ours: set[str] = set()
"""What this process has signed, for where no key can be kept."""


def names_code(content: Any) -> list[str]:
    """Every text in a configuration that could name code, sorted: those with a colon, but for
    ranges (`gravity=5.0:15.0`), which are signed along and may be shown."""
    fields = content if isinstance(content, dict) else {}
    found: set[str] = set()
    left = [fields.get(name) for name in _NAMING]
    while left:
        value = left.pop()
        if isinstance(value, str) and ":" in value:
            found.add(value)
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    return sorted(found)


def signature_of(content: Any) -> str | None:
    """The signature of what a configuration names, which vouches for it; `None` if it names
    nothing or no key can be kept (then this process alone will open the run)."""
    names = json.dumps(names_code(content))
    if names == "[]":
        return None
    _ours.add(names)
    key = _key(make=True)
    return None if key is None else hmac.new(key, names.encode(), "sha256").hexdigest()


@contextlib.contextmanager
def only_ours(content: Any, path: Path) -> Iterator[None]:
    """Within this, code that a configuration names (the one read from `path`) is imported only if
    it carries this user's signature."""
    if _signed(content):
        yield
        return
    registry.refused.append(
        f"comes from elsewhere and names code, which opening it would run; if you trust that code:"
        f" stemrl trust {path.parent}"
    )
    try:
        yield
    finally:
        registry.refused.pop()


def _signed(content: Any) -> bool:
    names = json.dumps(names_code(content))
    if names in _ours:
        return True
    found = content.get("signature") if isinstance(content, dict) else None
    key = _key(make=False)
    if key is None or not isinstance(found, str):
        return False
    right = hmac.new(key, names.encode(), "sha256").hexdigest()
    return hmac.compare_digest(right.encode(), found.encode(errors="replace"))


def key_file() -> Path | None:
    """Where this user's key is: `stemrl/key` under `XDG_CONFIG_HOME` or `~/.config`."""
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    except RuntimeError:  # nobody's home
        return None
    return Path(base) / "stemrl" / "key"


def _key(make: bool) -> bytes | None:
    path = key_file()
    if path is None:
        return None
    with contextlib.suppress(OSError):
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            side = path.with_name(f"key.{secrets.token_hex(8)}")
            with open(os.open(side, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            # Whole or not at all; of two processes the first one's stays.
            with contextlib.suppress(FileExistsError):
                os.link(side, path)
            side.unlink()
        key = path.read_bytes()
        return key if len(key) == 32 else None
    return None


def trust(folder: str | Path) -> list[str]:
    """Sign the configuration of the run in `folder`, whose code this user trusts; returns what it
    names. Imports nothing."""
    path = Path(folder) / "config.json"
    content = read_configuration(path)
    names = names_code(content)
    if not isinstance(content, dict) or not names:
        return []
    signature = signature_of(content)
    if signature is None:
        raise UserError(f"there is no key to sign with: {key_file()} cannot be written")
    text = json.dumps(content | {"signature": signature}, indent=2) + "\n"
    write_whole(path, text.encode())
    return names
