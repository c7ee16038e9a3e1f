"""What was recorded in a target: transitions, or frames alone, in a file, with no simulator at all.

A plain `.npz` with named columns of equally many rows: `observations`, and whatever else there is of
`actions`, `rewards`, `terminations`, `truncations` and `next_observations`; or a Minari data set's
folder. Actions in a file are in the units of the action space; here they are in an agent's.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..errors import UserError
from ..reading import at_home, open_regular
from .spaces import Box, Discrete, MultiDiscrete, Space, scale_action, unscale_action

COLUMNS = (
    "observations", "actions", "rewards", "terminations", "truncations", "next_observations",
)  # fmt: skip
"""The names of a file's columns. Only the first must be there."""
_ALSO = {"terminals": "terminations", "timeouts": "truncations"}
"""Older names for the same, as D4RL has them."""
_FLAGS = {
    "terminations": "1 where a step ended the task itself, else 0; zeros where episodes never terminate",
    "truncations": "1 where a time limit cut the episode, else 0",
}
"""The columns of yes and no, and what they hold."""


class Logged(eqx.Module):
    """Steps that somebody recorded. Every column is `[rows, …]`, or `None` if it was not recorded."""

    observations: Array
    actions: Array | None = None
    """Actions in an agent's units: each dimension in [−1, 1]."""
    rewards: Float[Array, " rows"] | None = None
    terminations: Bool[Array, " rows"] | None = None
    truncations: Bool[Array, " rows"] | None = None
    next_observations: Array | None = None
    digest: str = eqx.field(static=True, default="")
    """A hash of all rows: the identity of the data."""
    where: str = eqx.field(static=True, default="the target data")
    """The name of the file, for messages."""
    absent: bool = eqx.field(static=True, default=False)
    """Whether the file is not there, or no longer. One row of zeros then stands for it. That is
    enough to open a run that was trained on it, but not to train."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.observations.shape[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that were recorded."""
        return tuple(name for name in COLUMNS if getattr(self, name) is not None)

    def require(self, *columns: str, by: str) -> None:
        """Raise `UserError` unless all of these columns are there. `by` is the name of the method
        that needs them."""
        for name in () if self.absent else columns:
            if name not in self.columns:
                holds = f" ({_FLAGS[name]})" if name in _FLAGS else ""
                raise UserError(
                    f"{self.where} has no column '{name}', which '{by}' needs{holds}; it has:"
                    f" {', '.join(self.columns)}"
                )

    def first(self, rows: int) -> "Logged":
        """Return the first `rows` rows alone, for a budget that allows for no more."""
        if rows >= self.rows:
            return self
        cut = {name: getattr(self, name)[:rows] for name in self.columns}
        return Logged(**cut, digest=f"{self.digest}[:{rows}]", where=self.where)

    def draw(self, key: PRNGKeyArray, shape: tuple[int, ...], *columns: str) -> tuple[Array, ...]:
        """Draw rows uniformly with replacement, and return the named columns of them, each
        `[*shape, …]`."""
        index = jax.random.randint(key, shape, 0, self.rows)
        return tuple(getattr(self, name)[index] for name in columns)

    def save(self, path: str | Path, action_space: Space) -> None:
        """Write a `.npz` that `read` reads. In the file actions are in the units of `action_space`."""
        columns: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in self.columns}
        if self.actions is not None:
            columns["actions"] = np.asarray(unscale_action(action_space, self.actions))
        np.savez_compressed(path, **columns)

    @classmethod
    def of(
        cls,
        columns: dict[str, Any],
        observation_space: Space,
        action_space: Space,
        where: str = "the target data",
    ) -> "Logged":
        """Make recorded steps of columns by name, with actions in the units of `action_space`.
        Raise `UserError` if they do not fit the spaces. `where` names their origin in messages."""
        columns = {_ALSO.get(name, name): np.asarray(x) for name, x in columns.items()}
        found = {name: columns[name] for name in COLUMNS if name in columns}
        if "observations" not in found:
            there = ", ".join(sorted(columns)) or "nothing"
            raise UserError(f"{where} has no column 'observations'; it has: {there}")
        rows = len(found["observations"]) if found["observations"].ndim else 0
        if not rows:
            raise UserError(f"{where} is empty: it has no rows")
        spaces: dict[str, Space] = dict.fromkeys(
            ("observations", "next_observations"), observation_space
        )
        spaces["actions"] = action_space
        digest = hashlib.sha256()
        for name, column in found.items():
            space = spaces.get(name)
            shape = (rows, *(() if space is None else space.shape))
            if column.shape != shape:
                wanted = "one for each observation" if space is None else f"{space}"
                raise UserError(
                    f"{where}: '{name}' has the shape {column.shape}, not {shape} ({wanted})"
                )
            found[name] = _typed(column, space, name, where)
            digest.update(f"{name} {found[name].dtype} {shape}".encode())
            digest.update(np.ascontiguousarray(found[name]).tobytes())
        arrays: dict[str, Any] = {name: jnp.asarray(column) for name, column in found.items()}
        if "actions" in arrays:
            arrays["actions"] = scale_action(action_space, arrays["actions"])
        return cls(**arrays, digest=digest.hexdigest()[:16], where=where)

    @classmethod
    def read(cls, path: str | Path, observation_space: Space, action_space: Space) -> "Logged":
        """Read a `.npz` with named columns, or the folder of a Minari data set. Raise `UserError`
        if it is damaged or does not fit the spaces. If it does not exist, the result is `absent`.
        """
        path = Path(at_home(str(path)))
        if not path.exists():
            zeros = jnp.zeros((1, *observation_space.shape), observation_space.dtype)
            action = jnp.zeros(
                (1, *action_space.shape), "float32" if isinstance(action_space, Box) else "int32"
            )
            no = jnp.zeros(1, bool)
            return cls(zeros, action, jnp.zeros(1), no, no, zeros, where=str(path), absent=True)
        columns = _minari(path) if path.is_dir() else _npz(path)
        return cls.of(columns, observation_space, action_space, str(path))


def _typed(column: np.ndarray, space: Space | None, name: str, where: str) -> np.ndarray:
    """A column in the type in which it is used."""
    wrong = column.dtype.kind not in "biuf"
    if not wrong and not np.isfinite(column).all():
        raise UserError(f"{where}: '{name}' holds values that are not finite numbers")
    if not wrong and name in _FLAGS and not np.isin(column, (0, 1)).all():
        raise UserError(f"{where}: '{name}' holds other values than 0 and 1 ({_FLAGS[name]})")
    if space is None:
        typed = column.astype(np.float32 if name == "rewards" else bool) if not wrong else column
    elif isinstance(space, Box):
        typed = column.astype(space.dtype) if not wrong else column
        if not wrong and name == "actions":
            low, high = (np.broadcast_to(x, space.shape) for x in space.limits())
            room = np.where(np.isfinite(high - low), 0.5 * (high - low), np.inf)
            if beyond := int(
                ((column < low - room) | (column > high + room))
                .reshape(len(column), -1)
                .any(1)
                .sum()
            ):
                raise UserError(
                    f"{where}: {beyond:,} of {len(column):,} actions lie far outside of {space}; are they in"
                    " its units?"
                )
        if not wrong and np.dtype(space.dtype).kind == "u":
            wrong = bool((typed != column).any())
    else:
        wrong = (
            wrong
            or column.dtype.kind == "f"
            or bool(
                (column < _first(space)).any() or (column >= _first(space) + _many(space)).any()
            )
        )
        typed = column if wrong else column.astype(space.dtype)
    if wrong:
        raise UserError(f"{where}: '{name}' holds {column.dtype} values that are not of {space}")
    return typed


def _first(space: Discrete | MultiDiscrete) -> Any:
    return space.start if isinstance(space, Discrete) else np.asarray(space.starts or 0)


def _many(space: Discrete | MultiDiscrete) -> Any:
    return space.n if isinstance(space, Discrete) else np.asarray(space.sizes)


def _npz(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `.npz`, of which only those that are known are read."""
    try:
        with open_regular(path) as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name")
            known = {*COLUMNS, *_ALSO}
            return {name: archive[name] if name in known else np.zeros(0) for name in archive.files}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no .npz file with columns by name (numpy.savez): {error}"
        ) from None


def _minari(path: Path) -> dict[str, np.ndarray]:
    """The columns of a Minari data set: episodes of an HDF5 file, whose observations are one more
    than its actions."""
    found = [p for p in (path / "data" / "main_data.hdf5", path / "main_data.hdf5") if p.is_file()]
    if not found:
        raise UserError(f"{path} is no Minari data set: there is no main_data.hdf5 in it")
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{path}: reading Minari's files needs h5py; pip install h5py") from None
    with h5py.File(found[0]) as file:
        episodes = list(_episodes(file, path))
    if not episodes:
        raise UserError(f"{path} is empty: it has no episodes")
    return {name: np.concatenate([e[name] for e in episodes]) for name in episodes[0]}


def _episodes(file: Any, path: Path) -> Iterator[dict[str, np.ndarray]]:
    for name in sorted(file, key=lambda name: int(name.rpartition("_")[2])):
        episode, columns = file[name], {}
        for column in ("observations", "actions", "rewards", "terminations", "truncations"):
            if hasattr(episode[column], "keys"):
                raise UserError(f"{path}: '{column}' is a dictionary; flatten it first")
            columns[column] = np.asarray(episode[column])
        columns["next_observations"] = columns["observations"][1:]
        columns["observations"] = columns["observations"][:-1]
        yield columns
