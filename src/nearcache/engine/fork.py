"""What happens at ``fork``: only the calling thread goes on in the child.

Before it, every member's locks are taken, so that the child copies nothing half done; after it the
child starts anew without the threads, flights and connections that stayed in the parent.
"""

import os
import threading
import weakref
from typing import Protocol

__all__ = ["Member", "join", "leave", "members"]


class Member(Protocol):
    """Who wants to know of forks."""

    def before_fork(self) -> None:
        """Take the locks."""

    def after_fork(self) -> None:
        """Let the locks go."""

    def start_anew(self) -> None:
        """Let go, in the child, of what belongs to the parent's threads."""


_members: "weakref.WeakSet[Member]" = weakref.WeakSet()
_locked: list[Member] = []
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
    for member in list(_members):
        member.before_fork()
        _locked.append(member)


def _after_in_parent() -> None:
    _guard.release()
    while _locked:
        _locked.pop().after_fork()


def _after_in_child() -> None:
    _guard.release()
    while _locked:
        member = _locked.pop()
        member.after_fork()
        member.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
