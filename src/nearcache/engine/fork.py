"""What happens at ``fork``: only the calling thread goes on in the child.

Before it, every member's locks are taken, so that the child copies nothing half done; after it the
child starts anew without the threads, flights and connections that stayed in the parent.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Member", "join", "leave", "members"]


class Lock(Protocol):
    """A lock."""

    def acquire(self) -> bool:
        """Take it."""

    def release(self) -> None:
        """Let it go."""


class Member(Protocol):
    """Who wants to know of forks."""

    def fork_locks(self) -> Sequence[Lock]:
        """Return the locks to take, in lock order; the same number for every member."""

    def start_anew(self) -> None:
        """Let go, in the child, of what belongs to the parent's threads."""


_members: "weakref.WeakSet[Member]" = weakref.WeakSet()
_held: list[Lock] = []
_forking: list[Member] = []
_guard = threading.Lock()


def join(member: Member) -> None:
    """Tell ``member`` of forks as long as it lives."""
    with _guard:
        _members.add(member)


def leave(member: Member) -> None:
    """Tell ``member`` no more."""
    with _guard:
        _members.discard(member)


def members() -> list[Member]:
    """Return who is told."""
    with _guard:
        return list(_members)


def _before() -> None:
    _guard.acquire()
    _forking.extend(_members)
    # level by level, not member by member: members may share a lock of the second level, and a
    # thread that holds a first-level lock of one may be waiting for it
    for level in zip(*(member.fork_locks() for member in _forking), strict=True):
        for lock in level:
            lock.acquire()
            _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    _forking.clear()
    _guard.release()


def _after_in_child() -> None:
    members_here = list(_forking)
    _after_in_parent()
    for member in members_here:
        member.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
