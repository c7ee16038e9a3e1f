"""Reports: what was learned, as one HTML page with curves and animations."""

from .belief_map import Walk, belief_map, believed_rewards
from .correction_map import correction_map
from .curves import adaptation_curves, learning_curves, names_of, write_figure
from .gather import report
from .record import Recording, record
from .scene import scene
from .source_picture import draw_source, source_history
from .story import Subject

__all__ = [
    "Recording",
    "Subject",
    "Walk",
    "adaptation_curves",
    "belief_map",
    "believed_rewards",
    "correction_map",
    "draw_source",
    "learning_curves",
    "names_of",
    "record",
    "report",
    "scene",
    "source_history",
    "write_figure",
]
