"""Agents for machines without JAX."""

from .export import Exported, export_numpy

__all__ = ["Exported", "export_numpy"]
