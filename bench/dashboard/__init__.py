"""The dashboard: from the click to drawn figures, with many workers and a full hour."""

from bench.dashboard.loading import run

__all__ = ["run"]
