"""stemrl: transfer, multi-task and meta reinforcement learning in JAX."""

__version__ = "0.1.0"
