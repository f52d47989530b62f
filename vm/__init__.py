"""Compiler to bytecode, verifier, and the backends that run programs over a statistics cache."""
