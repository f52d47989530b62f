"""Whether a backend computes what the reference defines, on random programs and hostile data."""
