"""What this process knows of the epochs of groups: of tags, scopes, everything.

A group's epoch is a token in the store that never repeats (``coherence/epochs.py``). An entry near
holds the group and the very token object it was read under, so a hit compares by identity; to hear
that a group was bumped is to forget its token, and with it every member at once. When the token is
read again and is the same (the store only touched its epoch), the old object comes back, and the
members with it.
"""

import os
import threading
from collections.abc import Iterable
from hashlib import blake2b
from itertools import count

from nearcache.coherence.link import ALWAYS, DEAD, Epoch

__all__ = [
    "BUMP_LIFE",
    "TOKEN_BYTES",
    "Group",
    "Groups",
    "Ticket",
    "bump_token",
    "bumped_since",
    "digest_of_group",
    "next_moment",
]

TOKEN_BYTES = 16
_MOST = 100_000


def digest_of_group(name: bytes) -> bytes:
    """Return the 16 bytes that stand for a group's name."""
    return blake2b(name, digest_size=16).digest()


next_moment = count(1).__next__
"""The next of the moments of this process, which no two of a clock's readings need be."""

BUMP_LIFE = 3600.0
"""Seconds that a token of a bump stays, for loads that were under way; longer ones are not kept."""
_BUMPED = b"bump"
_MARGIN = 1.0  # seconds: the bumper only estimates the store's time


def bump_token(now: float) -> bytes:
    """Return a new token that tells when, in the store's time, its group was bumped."""
    return _BUMPED + int(now * 1000).to_bytes(6, "big") + os.urandom(6)


def bumped_since(token: bytes, start: float) -> bool:
    """Say whether a group may have been bumped since ``start``, by its token.

    For groups that a loader names only with its value: their tokens are read after the load, and
    so would hide that they were bumped during it.
    """
    return token[:4] == _BUMPED and int.from_bytes(token[4:10], "big") / 1000 > start - _MARGIN


class Group:
    """One group. ``token`` is None while it is not known; ``ticket`` rises when it is forgotten.

    It was read under ``epoch``, at the monotonic time ``read_at``; its key in the store lives until
    ``lives_until`` at least.
    """

    __slots__ = (
        "_last",
        "bumped",
        "digest",
        "dropped",
        "epoch",
        "lives_until",
        "name",
        "read_at",
        "seen",
        "seen_at",
        "ticket",
        "token",
    )

    def __init__(self, name: bytes, digest: bytes) -> None:
        self.name = name
        self.digest = digest
        self.token: bytes | None = None
        self.epoch: Epoch = DEAD
        self.read_at = self.lives_until = float("-inf")
        self.ticket = 0
        self.bumped = 0
        self._last: bytes | None = None
        self.dropped = False
        self.seen, self.seen_at = b"", 0

    def note(self, token: bytes) -> None:
        """Remember since when this token is known to be the group's, or to have been."""
        if token != self.seen:
            self.seen, self.seen_at = token, next_moment()

    def was_seen(self, token: bytes, before: int) -> bool:
        """Say whether the store had this token before a moment: it was not bumped since."""
        return token == self.seen and self.seen_at < before

    @property
    def good_at(self) -> float:
        """Until when its token is known to have been the store's own."""
        return max(self.read_at, self.epoch.heard)

    def forget(self) -> None:
        """Know its token no more."""
        self.token = None
        self.ticket += 1
        self.lives_until = float("-inf")

    def drop(self) -> None:
        """Never know a token again: who still holds this object would not hear of its end."""
        self.dropped = True
        self.forget()

    def was_another(self, token: bytes) -> bool:
        """Say whether ``token`` is not the one that was known last, if any was."""
        return self._last is not None and token != self._last

    def learn(self, token: bytes, epoch: Epoch, read_at: float) -> bytes:
        """Take a token that was read, and return the object that stands for it."""
        if token != self._last:
            self._last = token
        assert self._last is not None, "a token was given"
        if not self.dropped:
            self.token, self.epoch, self.read_at = self._last, epoch, read_at
        return self._last


Ticket = list[tuple[Group, int]]


class Groups:
    """The groups of one namespace.

    Thread-safe where the caller holds the lock of its flight table around ``changed``, ``forget``
    and ``learn``: what was heard and what was read must not mix.
    """

    def __init__(self) -> None:
        self._groups: dict[bytes, Group] = {}
        self.by_tag: dict[str, Group] = {}
        self.bumps = 0
        self._lock = threading.Lock()

    def start_anew(self) -> None:
        """Take a new lock: after a fork another thread may have held the old one."""
        self._lock = threading.Lock()

    def group(self, name: bytes, digest: bytes = b"") -> Group:
        """Return the group of this name."""
        group = self._groups.get(name)
        if group is None:
            with self._lock:
                if len(self._groups) >= _MOST:
                    self._drop_oldest()
                group = self._groups.setdefault(name, Group(name, digest))
        return group

    def name(self, tag: str, group: Group) -> None:
        """Remember the group of a tag, as long as it is one of ours."""
        with self._lock:
            if self._groups.get(group.name) is group:
                self.by_tag[tag] = group

    def _drop_oldest(self) -> None:
        # who is dropped will not hear of changes, so nobody may go on believing it
        self.by_tag.clear()
        for name in list(self._groups)[: _MOST // 10]:
            self._groups.pop(name).drop()

    def bump(self, group: Group) -> None:
        """Note that this process forgets a group: ``bumped`` is its number among ``bumps``."""
        self.bumps += 1
        group.bumped = self.bumps
        group.forget()

    def alone(self, group: Group) -> bytes:
        """Return a group's token where no other process has a say; made once."""
        with self._lock:
            return group.token or group.learn(os.urandom(TOKEN_BYTES), ALWAYS, 0.0)

    def known(self, name: bytes) -> Group | None:
        """Return the group of this name, if anybody asked for it."""
        return self._groups.get(name)

    def forget(self) -> None:
        """Forget what is known of every group."""
        for group in list(self._groups.values()):
            group.forget()

    @staticmethod
    def ticket(groups: Iterable[Group]) -> Ticket:
        """Return what to give back with the tokens that are about to be read."""
        return [(group, group.ticket) for group in groups]

    @staticmethod
    def learn(ticket: Ticket, tokens: Iterable[bytes], epoch: Epoch, read_at: float) -> None:
        """Take tokens that were read; not those of groups that were bumped meanwhile.

        ::

            reader                          link
            takes its ticket, sends
                                            "the group was bumped": forget it
            the answer: the token before
        """
        for (group, number), token in zip(ticket, tokens, strict=True):
            if group.ticket == number and len(token) == TOKEN_BYTES:
                group.learn(token, epoch, read_at)
