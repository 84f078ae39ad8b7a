"""The contract of an eviction policy: who leaves when a budget is full.

A policy knows slots: small ints that the tier hands out, takes back and uses again. It never sees a
key or a value. It exists twice, here and in ``near/native/policy.h``; both decide the same, to the
last victim, for the same hashes (``tests/unit/near/policies/test_twins.py``).
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAMES", "OnHit", "Policy", "Slots", "by_name"]

OnHit = Literal["nothing", "log", "mark", "call", "lock"]
"""What a tier has to do on a hit, from the cheapest to the dearest:

``"nothing"``  the policy does not look at hits: do not even call ``touch``.
``"log"``      append the slot to a bounded log, of which the oldest may be lost when hits come much
               faster than anything else, and give it to ``touch_many``, while the tier's lock is
               held, before the next call of the policy. No lock for the hit.
``"mark"``     ``if marks[slot] < most: marks[slot] += 1``, written out where the hit is; ``touch``
               does the same, and the call costs more than what it does. No lock.
``"call"``     ``touch(slot)``, no lock.
``"lock"``     ``touch(slot)`` while the tier's lock is held.
"""

Slots = NDArray[np.intp]


class Policy(Protocol):
    """Decides which slot leaves.

    Thread-safe: no; the tier holds its lock, except for a hit (see ``OnHit``). A hit that comes
    late, for a slot that has been freed or given to another key meanwhile, is harmless; beyond the
    end of columns that ``reserve`` has shortened meanwhile it is an IndexError.
    Interrupted (Ctrl-C, no memory): ``rebuild`` makes a consistent policy of whatever was left.
    """

    name: ClassVar[str]
    on_hit: ClassVar[OnHit]
    most: ClassVar[int]
    """The highest mark; 0 where there are no marks."""

    @property
    def marks(self) -> bytearray:
        """One byte per slot where ``on_hit`` is ``"mark"``, else empty.

        The same object for as long as the policy lives: it grows and shrinks in place, so a tier
        may keep it. No numpy view of it may outlive an expression, or it could not grow.
        """
        ...

    def __len__(self) -> int: ...

    def reserve(self, capacity: int) -> None:
        """Allow the slots below ``capacity``; every slot in use is below it."""

    def insert(self, slot: int, key_hash: int) -> None:
        """Take in a key that was missing. ``key_hash``: 64 well-mixed bits of the key."""

    def touch(self, slot: int) -> None:
        """Note a hit, or that the value was overwritten in place."""

    def touch_many(self, slots: Slots) -> None:
        """Note hits, in order; a slot that comes twice was hit twice."""

    def remove(self, slot: int) -> None:
        """Forget a slot that was deleted or has expired: nothing is remembered of it."""

    def evict(self) -> int | None:
        """Choose a victim, forget it and return it; None when there is nobody."""

    def move(self, source: int, target: int) -> None:
        """Give what is in ``source`` the free slot ``target``; the order stays."""

    def clear(self) -> None:
        """Forget everybody, those remembered after they left too."""

    def rebuild(self, live: Sequence[tuple[int, int]]) -> None:
        """Start again with these (slot, key_hash), whatever state an interrupted call left.

        The order is kept where it can still be read.
        """

    def check(self) -> None:
        """Raise AssertionError where the policy is inconsistent; for tests."""


def _classes() -> dict[str, Any]:
    from nearcache.near.policies.adaptive import Adaptive
    from nearcache.near.policies.fifo import FIFO
    from nearcache.near.policies.lfu import LFU
    from nearcache.near.policies.lru import LRU
    from nearcache.near.policies.random import Random
    from nearcache.near.policies.s3fifo import S3FIFO
    from nearcache.near.policies.sieve import Sieve

    return {kind.name: kind for kind in (Adaptive, LRU, LFU, FIFO, Random, Sieve, S3FIFO)}


NAMES = ("adaptive", "lru", "lfu", "fifo", "random", "sieve", "s3fifo")


def by_name(name: str, seed: int = 0) -> Policy:
    """Return a new policy. ``seed`` (64 bits) is for those that draw lots.

    Raises: ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"no eviction policy {name!r}: choose one of {', '.join(NAMES)}")
    policy: Policy = _classes()[name](seed)
    return policy
