"""Groups of entries that can be forgotten at once: a model, everything.

A group's epoch is a random token in the store that never repeats. An entry carries the stamp of the
epochs seen *before its load started*; it is valid while they are still the current ones. So
forgetting a group is one write however many entries it has, and a load that was under way while
its group was forgotten is dead on arrival::

    loader                          forgetter
    reads epochs e1
    loads v                         sets epoch e2
    writes v stamped with e1
                                    reads v: stamp of e1, epoch e2: a miss

An epoch is no counter: a store that loses one (eviction, failover) would count to the same number
again and revive what was forgotten.
"""

from collections.abc import Sequence
from hashlib import blake2b

__all__ = ["stamp"]


def stamp(epochs: Sequence[bytes]) -> bytes:
    """Return the 8 bytes that stand for these epochs, in this order, in an entry's head."""
    state = blake2b(digest_size=8)
    for epoch in epochs:
        state.update(len(epoch).to_bytes(2, "little") + epoch)
    return state.digest()
