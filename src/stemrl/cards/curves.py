"""A card's curves as a picture."""

from pathlib import Path
from typing import Any


def draw_curves(figure: dict[str, Any], path: Path) -> None:
    """Draw one of a result's figures: lines with their bands.

    **Arguments:**

    - `figure`: as `Workshop.curve` makes it: `x_label`, `y_label`, and `lines` by name, each with
      `x`, `mean`, `low` and `high` of one length.
    - `path`: a PNG file.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = picture.add_subplot()
    for name, line in figure["lines"].items():
        (drawn,) = axes.plot(line["x"], line["mean"], label=name, linewidth=1.6)
        axes.fill_between(
            line["x"], line["low"], line["high"], color=drawn.get_color(), alpha=0.18, linewidth=0
        )
    axes.set_xlabel(figure["x_label"])
    axes.set_ylabel(figure["y_label"])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    picture.savefig(path, dpi=130)
