"""A clock for tests."""

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until it is advanced; give it wherever a clock is taken."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time it was set to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, at once."""
        if seconds < 0:
            msg = f"time does not go back, not by {-seconds} seconds"
            raise ValueError(msg)
        self._now += seconds
