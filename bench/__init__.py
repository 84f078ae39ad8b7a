"""Benchmarks: nearcache and what people use today, side by side in one run.

``python -m bench`` runs them all; see ``bench/README.md``.
"""
