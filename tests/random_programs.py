"""Random typed expressions and small in-memory sources, for property tests."""

from __future__ import annotations

from proxforge.bench.agreement.programs import random_layer_value, random_score, random_source

__all__ = ["random_layer_value", "random_score", "random_source"]
