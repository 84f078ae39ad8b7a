"""Names in a row: read a page at a time while some come and go."""

from bisect import bisect_right
from operator import itemgetter

__all__ = ["Names"]

_FEW = 64
_number = itemgetter(0)


class Names:
    """Distinct names in the order they came; each has a number, which a cursor can be.

    Cost: a page takes as long as the names it passes, whatever else there is. Not thread-safe.
    Interrupted (Ctrl-C) at any point it is in order: a name is there if it has a number.
    """

    def __init__(self) -> None:
        self._last = 0
        self.clear()

    def clear(self) -> None:
        """Drop all names; numbers go on, so that no cursor means another place."""
        self._numbers: dict[bytes, int] = {}
        self._row: list[tuple[int, bytes]] = []  # ascending; of names long gone, too

    def add(self, name: bytes) -> None:
        """Put a name at the end, unless it is there."""
        if name not in self._numbers:
            self._last += 1
            self._row.append((self._last, name))
            self._numbers[name] = self._last

    def remove(self, name: bytes) -> None:
        """Take out a name, if it is there."""
        self._numbers.pop(name, None)
        if len(self._row) > 2 * len(self._numbers) + _FEW:
            self._row = [(number, name) for name, number in self._numbers.items()]

    def page(self, after: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0: the end) and the names at ``count`` places after one."""
        first = bisect_right(self._row, after, key=_number)
        end = min(first + count, len(self._row))
        there = self._numbers.get
        page = [name for number, name in self._row[first:end] if there(name) == number]
        return (self._row[end - 1][0] if end < len(self._row) else 0), page
