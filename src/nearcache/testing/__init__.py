"""For tests of what builds on nearcache: clocks, stores and networks that do what they are told.

The contract suites of the near tier and of stores (``tests/contract``) need nothing else: subclass
one, say how your implementation is made, and pytest runs the specification on it.
"""

from nearcache.stores.memory import MemoryStore
from nearcache.testing.chaos import ChaosCounts, ChaosStore
from nearcache.testing.clock import ManualClock
from nearcache.testing.entries import mark_of, stored_entry
from nearcache.testing.proxy import FaultProxy

__all__ = [
    "ChaosCounts",
    "ChaosStore",
    "FaultProxy",
    "ManualClock",
    "MemoryStore",
    "mark_of",
    "stored_entry",
]
