"""Hostile input: every text is a program or a ProxyError, and none takes long."""

from .inputs import CHUNK, chunk, text_of
from .run import LIMIT, Report, fuzz

__all__ = ["CHUNK", "LIMIT", "Report", "chunk", "fuzz", "text_of"]
