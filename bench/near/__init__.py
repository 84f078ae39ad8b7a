"""Benchmarks of the near tier: one key, a batch, memory, cleaning up, the miss-ratio curve."""
