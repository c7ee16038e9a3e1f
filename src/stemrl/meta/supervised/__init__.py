"""Supervised meta-learning, g_φ(D_train) → f: what learns to make a predictor of a few examples."""

from .maml import SupervisedMAML, SupervisedMAMLState

__all__ = ["SupervisedMAML", "SupervisedMAMLState"]
