"""Search strategies, one file each. Importing this package registers them all."""

from . import adaptive_elite, automl_zero, distinct_elite, elitism_preserve, evolution, probe_model, random
from .base import STRATEGIES, make_strategy

__all__ = [
    "STRATEGIES",
    "adaptive_elite",
    "automl_zero",
    "distinct_elite",
    "elitism_preserve",
    "evolution",
    "make_strategy",
    "probe_model",
    "random",
]
