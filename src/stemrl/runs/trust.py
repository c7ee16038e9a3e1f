"""Which runs may have Python code imported: those whose user has vouched for it.

A run's configuration may name code: a method or family of one's own (`file.py:Class`,
`package.module:Class`), or a setting that names one. To open the run is to import that code, and to
import it is to run it. So what a configuration names is signed when the configuration is written,
with a key that lies in the user's own folder and in no run; a run that comes from elsewhere cannot
have the signature, and opens only if it names nothing but what stemrl itself knows, or once
`stemrl trust RUN` has signed it. Signed along is a digest of each file of code: where a folder was moved,
code is imported from its new place if it is, to the byte, what was signed.
"""

import contextlib
import hmac
import json
import os
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import own_code
from ..errors import UserError
from ..places import digests_of_code, relocated
from ..reading import at_home, digest_of, read_configuration
from .files import write_whole

_NAMING = ("method", "family", "target", "settings", "family_settings", "target_settings")

_ours: set[str] = set()
"""What this process has signed, for where no key can be kept."""


def names_code(content: Any) -> list[str]:
    """Return every text in a configuration that could name code, sorted: those with a colon, but
    for ranges (`gravity=5.0:15.0`), which are signed along and may be shown."""
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
    """Return the signature of what a configuration names, which vouches for it; `None` if it names
    nothing or no key can be kept (then this process alone will open the run)."""
    signed = _signed_text(content)
    if signed is None:
        return None
    _ours.add(signed)
    key = _key(make=True)
    return None if key is None else hmac.new(key, signed.encode(), "sha256").hexdigest()


def without_key(content: Any) -> str | None:
    """Return what to tell whoever makes a run whose code cannot be signed; `None` where it can, or
    where there is nothing to sign."""
    if not names_code(content) or _key(make=True) is not None:
        return None
    return (
        f"there is no key to sign with, since {_no_key()}: only this process will open the run,"
        " any other will call it one from elsewhere; set XDG_CONFIG_HOME to a folder that you can"
        " write, and keep it"
    )


@contextlib.contextmanager
def vouched(content: Any, path: Path) -> Iterator[Any]:
    """Return the configuration `content`, read from `path`, with files that were moved along with
    its folder where they are now. Within this, code that it names is imported only if it carries
    this user's signature."""
    signed = _signed(content)
    content, moved = relocated(content, path)
    then = digests_of_code(content)
    changed = [new for new in moved if then.get(new, "") != digest_of(Path(new))]
    if signed and not any(name.endswith(".py") for name in changed):
        if moved:
            _ours.add(_signed_text(content) or "")
        yield content
        return
    keyless = bool(names_code(content)) and _key(make=True) is None
    advice = f" (after setting XDG_CONFIG_HOME, since {_no_key()})" if keyless else ""
    own_code.refused.append(
        f"comes from elsewhere and names code, which opening it would run; if you trust that code:"
        f" stemrl trust {shlex.quote(str(path.parent))}{advice}"
    )
    try:
        yield content
    finally:
        own_code.refused.pop()


def _signed_text(content: Any) -> str | None:
    """What a signature is of: all names of code, and what was in the files behind them."""
    names = names_code(content)
    if not names:
        return None
    code = digests_of_code(content)
    return json.dumps([names, code] if code else names, sort_keys=True)


def _signed(content: Any) -> bool:
    signed = _signed_text(content) or "[]"
    if signed in _ours:
        return True
    found = content.get("signature") if isinstance(content, dict) else None
    key = _key(make=False)
    if key is None or not isinstance(found, str):
        return False
    right = hmac.new(key, signed.encode(), "sha256").hexdigest()
    return hmac.compare_digest(right.encode(), found.encode(errors="replace"))


def _no_key() -> str:
    path = key_file()
    return "there is no home folder" if path is None else f"{path} cannot be written"


def key_file() -> Path | None:
    """Return where this user's key is: `stemrl/key` under `XDG_CONFIG_HOME` or `~/.config`."""
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
    path = Path(at_home(str(folder))) / "config.json"
    content, _ = relocated(read_configuration(path), path)
    names = names_code(content)
    if not isinstance(content, dict) or not names:
        return []
    if code := digests_of_code(content):
        # As they are now: that is the code one has read.
        now = {name: digest_of(Path(name)) for name in code}
        content["depends_on"] = content["depends_on"] | now
    signature = signature_of(content)
    if signature is None:
        raise UserError(
            f"there is no key to sign with, since {_no_key()}; set XDG_CONFIG_HOME to a folder that"
            " you can write"
        )
    text = json.dumps(content | {"signature": signature}, indent=2) + "\n"
    write_whole(path, text.encode())
    return names
