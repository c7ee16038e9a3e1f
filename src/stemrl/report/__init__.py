"""Reports: what was learned, as one HTML page with curves and animations."""

from .html import report
from .record import Recording, record
from .scene import scene
from .story import Subject

__all__ = ["Recording", "Subject", "record", "report", "scene"]
