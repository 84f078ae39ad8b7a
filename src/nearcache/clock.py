"""Time as nearcache sees it: one monotonic clock per process, injectable for tests."""

import time
from collections.abc import Callable

__all__ = ["Clock", "monotonic"]

Clock = Callable[[], float]
"""Returns seconds that never step; only differences mean anything."""

monotonic: Clock = time.monotonic
