"""Benchmarks: networks, and what they reached when they were trained."""
