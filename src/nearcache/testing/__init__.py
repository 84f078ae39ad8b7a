"""For tests of what builds on nearcache: a clock that moves when told, a store in memory, entries.

The contract suites of the near tier and of stores (``tests/contract``) need nothing else: subclass
one, say how your implementation is made, and pytest runs the specification on it.
"""

from nearcache.stores.memory import MemoryStore
from nearcache.testing.clock import ManualClock
from nearcache.testing.entries import mark_of, stored_entry

__all__ = ["ManualClock", "MemoryStore", "mark_of", "stored_entry"]
