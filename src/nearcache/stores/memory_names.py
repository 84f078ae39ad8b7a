"""Names in a row: read a page at a time while some come and go."""

from bisect import bisect_right

__all__ = ["Names"]

_FEW = 64


class Names:
    """Distinct names in the order they came; each has a number, which a cursor can be.

    Cost: a page takes as long as the names it passes, whatever else there is. Not thread-safe.
    """

    def __init__(self) -> None:
        self._last = 0
        self.clear()

    def clear(self) -> None:
        """Drop all names; numbers go on, so that no cursor means another place."""
        self._numbers: dict[bytes, int] = {}
        self._row: list[int] = []  # ascending
        self._names: list[bytes | None] = []  # in step with the row; None: removed

    def add(self, name: bytes) -> None:
        """Put a name at the end, unless it is there."""
        if name not in self._numbers:
            self._last += 1
            self._numbers[name] = self._last
            self._row.append(self._last)
            self._names.append(name)

    def remove(self, name: bytes) -> None:
        """Take out a name that is there."""
        self._names[bisect_right(self._row, self._numbers.pop(name)) - 1] = None
        if len(self._row) > 2 * len(self._numbers) + _FEW:
            self._row = list(self._numbers.values())
            self._names = list(self._numbers)

    def page(self, after: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0: the end) and the names at ``count`` places after one."""
        first = bisect_right(self._row, after)
        end = min(first + count, len(self._row))
        page = [name for name in self._names[first:end] if name is not None]
        return (self._row[end - 1] if end < len(self._row) else 0), page
