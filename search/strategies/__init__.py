"""Search strategies, one file each. Importing this package registers them all."""

from . import elitism_preserve, random
from .base import STRATEGIES, make_strategy

__all__ = ["STRATEGIES", "elitism_preserve", "make_strategy", "random"]
