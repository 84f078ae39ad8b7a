"""What holds for long: ``python -m bench.soak``."""
