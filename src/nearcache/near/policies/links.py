"""Doubly linked lists of slots over two columns of 32-bit numbers.

The lists are circular. List ``-k`` begins and ends at the number ``-k`` itself, which Python finds
at the end of the columns: slots need no offset, and no end of a list is a special case.
"""

from array import array
from collections.abc import Iterator

__all__ = ["Links", "resize"]


def resize(column: bytearray, capacity: int) -> None:
    """Cut a column, or lengthen it with zeros, in place."""
    del column[capacity:]
    column.extend(bytes(capacity - len(column)))


class Links:
    """``lists`` lists, named -1, -2, …; a slot is in at most one of them.

    ``after[list]`` is its first slot, ``before[list]`` its last, the list's own number when empty.
    """

    __slots__ = ("_lists", "after", "before")

    def __init__(self, lists: int = 1) -> None:
        self._lists = lists
        self.reset(0)

    @property
    def capacity(self) -> int:
        """How many slots there are, linked or not."""
        return len(self.after) - self._lists

    def reset(self, capacity: int) -> None:
        """Empty every list."""
        self.after = array("i", bytes(4 * capacity)) + array("i", range(-self._lists, 0))
        self.before = self.after[:]

    def reserve(self, capacity: int) -> None:
        """Allow the slots below ``capacity``."""
        for column in (self.after, self.before):
            have = len(column) - self._lists
            if capacity < have:
                del column[capacity:have]
            else:
                column[have:have] = array("i", bytes(4 * (capacity - have)))

    def append(self, slot: int, to: int = -1) -> None:
        """Make ``slot`` the last of a list."""
        last = self.before[to]
        self.before[slot] = last
        self.after[slot] = to
        self.after[last] = slot
        self.before[to] = slot

    def unlink(self, slot: int) -> None:
        """Take ``slot`` out of its list."""
        before, after = self.before[slot], self.after[slot]
        self.after[before] = after
        self.before[after] = before

    def move(self, source: int, target: int) -> None:
        """Put ``target`` in the place of ``source``."""
        self.before[target] = before = self.before[source]
        self.after[target] = after = self.after[source]
        self.after[before] = target
        self.before[after] = target

    def walk(self, name: int = -1) -> Iterator[int]:
        """Go through a list, first to last, and check it on the way.

        Raises: AssertionError where the links disagree.
        """
        previous, slot = name, self.after[name]
        while slot != name:
            assert 0 <= slot < self.capacity, "a list holds slots, and only its own end"
            assert self.before[slot] == previous, "links agree both ways"
            yield slot
            previous, slot = slot, self.after[slot]
        assert self.before[name] == previous, "a list ends where it says"

    def survivors(self, live: set[int], name: int = -1) -> list[int]:
        """Take out of ``live`` those that a torn list still leads to, and return them in order.

        One operation that was cut off tears a list in one place: what lies behind it is found from
        the other end.
        """
        forward, backward = [], []
        slot = self.after[name]
        while slot in live:
            live.remove(slot)
            forward.append(slot)
            slot = self.after[slot]
        slot = self.before[name]
        while slot in live:
            live.remove(slot)
            backward.append(slot)
            slot = self.before[slot]
        return forward + backward[::-1]
