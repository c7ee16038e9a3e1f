"""Running a card: what `stemrl reproduce` does."""

import contextlib
import hashlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import jax

from .. import registry
from ..errors import UserError
from ..machine import cores, machine, versions
from ..report.curves import draw_curves
from ..runs import enable_compilation_cache
from ..runs.crew import Crew
from ..runs.files import write_whole, writing
from .card import Card, Scale
from .workshop import Workshop

RESULTS = Path("results/cards")
"""Where full results go, from where the command is run."""
WORK = Path("runs/cards")
"""Where cards train, and where quick results go."""


def find_card(name: str) -> Card:
    """The card called `name`, or one's own as `file.py:CARD`."""
    card = registry.find("cards", name).load()
    if not isinstance(card, Card):
        raise UserError(f"'{name}' is a {type(card).__name__}, not a card")
    return card


def reproduce(
    name: str,
    *,
    scale: Scale = "full",
    seeds: int | None = None,
    first_seed: int | None = None,
    results: str | Path | None = None,
    fresh: bool = False,
    keep: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Run a card. Return its result, and the file that the result was written to.

    - `scale`: `full`, or `quick`, which takes seconds; its numbers mean nothing, and are kept apart
      from full results.
    - `seeds`: how many training seeds there are; by default the card's own number.
    - `first_seed`: the first of them; by default the card's own, which is 0 for most.
    - `results`: the folder to write to.
    - `fresh`: forget what an interrupted call has left, instead of going on from there.
    - `keep`: leave the card's runs in `runs/cards`, where one can look at them, and where the card
      finds them when it is run again.
    - `workers`: how many trainings go on at once, each in a process with a thread of its own. By
      default, at the full scale and where there is no accelerator, there is one for each core. With
      1 this process trains, several seeds at once.

    Raises `UserError` for an unknown card or scale, and for a folder that cannot be written or that
    holds a result of more seeds; `stemrl.runs.Interrupted` after SIGINT.
    """
    card = find_card(name)
    if scale not in get_args(Scale):
        raise UserError(f"scale must be quick or full, not {scale!r}")
    seeds = (1 if scale == "quick" else card.seeds) if seeds is None else seeds
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}")
    first = card.first_seed if first_seed is None else first_seed
    if first < 0:
        raise UserError(f"first_seed must be at least 0, not {first}")
    enable_compilation_cache()
    quick_results = WORK / "quick"
    folder = (
        Path(results) if results is not None else quick_results if scale == "quick" else RESULTS
    )
    if scale == "quick" and folder.resolve() == RESULTS.resolve():
        raise UserError("quick results are not kept among the full ones; name another folder")
    path = folder / f"{card.name}.json"
    if scale == "full" and (there := _seeds_of(path)) > seeds:
        raise UserError(
            f"{path} has a result of {there} seeds, which {seeds} would overwrite; name another"
            " folder with --results"
        )
    if workers is None:
        alone = scale == "quick" or jax.default_backend() != "cpu"
        workers = 1 if alone else cores()
    if workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    home = WORK / f"{card.name}-{scale}"
    if fresh or scale == "quick":
        shutil.rmtree(home, ignore_errors=True)
    with Crew(workers) if workers > 1 else contextlib.nullcontext() as crew:
        workshop = Workshop(
            home, scale, tuple(range(first, first + seeds)), progress, folder, crew, name=card.name,
            origin=_origin(card),
        )  # fmt: skip
        try:
            measures = card.run(workshop)
        except KeyboardInterrupt:
            workshop.say(
                "stopping, and saving what is trained; the same command goes on from there"
            )
            raise
    for figure, content in workshop.figures.items():
        draw_curves(content, workshop.picture(figure))
    result = card.result(
        measures,
        scale=scale,
        seeds=seeds,
        first_seed=first,
        seconds=workshop.seconds,
        settings=workshop.settings | ({"trainings at once": workers} if workers > 1 else {}),
        machine=machine(),
        versions=versions(),
        figures=workshop.figures,
        pictures=workshop.drawn,
    )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
        write_whole(path, (text + "\n").encode())
    if not keep:
        workshop.clear()
    # No other card has a use for its programs, and a process may not load any number of them: each
    # takes three of the 65,530 mappings that Linux allows.
    jax.clear_caches()
    return result, path


def _origin(card: Card) -> str:
    """A digest of the file that the card is written in; empty where there is none."""
    file = inspect.getsourcefile(card.run)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""


def _seeds_of(path: Path) -> int:
    """Of the result that is there; 0 if there is none that can be read."""
    try:
        return int(json.loads(path.read_text("utf-8"))["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else str(value)
