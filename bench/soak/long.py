"""What ``make soak`` found."""

from bench.report import Report

__all__ = ["LongReport"]


class LongReport(Report):
    """A report of a run that is no benchmark: ``make bench`` leaves it out."""

    @property
    def command(self) -> str:
        """The command that makes these figures again."""
        return f"make soak{' SHORT=1' if self.quick else ''}"
