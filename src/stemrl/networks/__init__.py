"""Networks: pytrees of arrays that take any leading dimensions."""

from .mlp import MLP, Activation, ConvEncoder, Linear, activate

__all__ = ["MLP", "Activation", "ConvEncoder", "Linear", "activate"]
