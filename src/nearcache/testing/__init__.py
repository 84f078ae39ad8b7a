"""For tests of what builds on nearcache: clocks, stores and networks that do what they are told.

``nearcache.testing.contracts`` holds the specifications of stores and near tiers as pytest suites,
for those who write their own. Nothing else here needs pytest.
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
