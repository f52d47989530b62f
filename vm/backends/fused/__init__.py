"""The fused kernel for GPUs: its source, what is launched of a program, and the proof that it may be used."""
