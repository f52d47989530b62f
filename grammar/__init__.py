"""The proxy language: syntax, types, the op table, canonical form. Loads neither torch nor numba."""
