"""The hit ratio over the size, as a picture: in a terminal, as SVG, as PNG."""

import struct
import zlib
from collections.abc import Sequence
from html import escape
from math import log

import numpy as np
from numpy.typing import NDArray

__all__ = ["png", "short", "svg", "terminal"]

Points = Sequence[tuple[int, float]]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 360, 64, 44, 40, 24
_LINE, _MARK, _INK, _GRID = "#2563eb", "#dc2626", "#374151", "#d1d5db"
# five rows of three points
_FONT = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 7, 1, 7),
    "4": (5, 5, 7, 1, 1), "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 1, 1, 1),
    "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7), "%": (5, 1, 2, 4, 5), ".": (0, 0, 0, 0, 2),
    "k": (4, 5, 6, 5, 5), "M": (5, 7, 7, 5, 5), "G": (7, 4, 5, 5, 7), "-": (0, 0, 7, 0, 0),
}  # fmt: skip


def short(count: float) -> str:
    """Return a number in a few characters."""
    for limit, scale, unit in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if count < limit:
            return f"{count / scale:.3g}{unit}"
    return f"{count / 1e9:.3g}G"


def terminal(points: Points, size: int, *, width: int = 72, height: int = 10) -> str:
    """Return the curve as block characters, the present size marked below."""
    points = _sorted(points)
    if len(points) < 2:
        return ""
    columns = max(16, width - 7)
    low, high = points[0][0], points[-1][0]
    top = _top(points)
    ratios = [_at(points, _size_at(column / (columns - 1), low, high)) for column in range(columns)]
    rows = []
    for row in range(height, 0, -1):
        label = f"{100 * top * row / height:4.0f} %" if row in (height, height // 2) else " " * 6
        cells = "".join(
            _EIGHTHS[max(0, min(8, round(8 * (ratio / top * height - (row - 1)))))]
            for ratio in ratios
        )
        rows.append(f"{label} {cells}".rstrip())
    here = round(_place(size, low, high) * (columns - 1))
    mark = [" "] * columns
    mark[min(columns - 1, max(0, here))] = "▲"
    first, last = short(low), short(high)
    middle = f"now: {short(size)}"
    rows.append(" " * 7 + "".join(mark).rstrip())
    rows.append(" " * 7 + first + middle.center(columns - len(first) - len(last)) + last)
    return "\n".join(rows)


def svg(points: Points, size: int, title: str) -> str:
    """Return the curve as an SVG document of its own."""
    points = _sorted(points) or [(1, 0.0)]
    low, high, top = points[0][0], points[-1][0], _top(points)
    path = " ".join(f"{_x(entries, low, high):.1f},{_y(r, top):.1f}" for entries, r in points)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(top * step / 4, top):.1f}" '
        f'y2="{_y(top * step / 4, top):.1f}" stroke="{_GRID}"/>'
        f'<text x="{_LEFT - 8}" y="{_y(top * step / 4, top) + 4:.1f}" text-anchor="end">'
        f"{100 * top * step / 4:.0f} %</text>"
        for step in range(5)
    )
    ticks = "".join(
        f'<text x="{_x(entries, low, high):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
        f'text-anchor="middle">{short(entries)}</text>'
        for entries in _ticks(points)
    )
    here, ratio = _x(size, low, high), _at(points, size)
    spoken = escape(f"{title}: hit ratio over entries; {100 * ratio:.1f} % at {size:,}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{spoken}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="{_INK}"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>{grid}{ticks}'
        f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
        f'<line x1="{here:.1f}" x2="{here:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
        f'stroke="{_MARK}" stroke-dasharray="4 3"/>'
        f'<circle cx="{here:.1f}" cy="{_y(ratio, top):.1f}" r="4" fill="{_MARK}"/>'
        f'<text x="{min(here + 8, _WIDTH - 150):.1f}" y="{_TOP + 12}" fill="{_MARK}">'
        f"now: {size:,} entries, {100 * ratio:.1f} %</text>"
        f'<text x="{(_WIDTH + _LEFT) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "entries (logarithmic)</text></svg>\n"
    )


def png(points: Points, size: int) -> bytes:
    """Return the curve as a PNG image; the present size is the dashed line."""
    points = _sorted(points) or [(1, 0.0)]
    low, high, top = points[0][0], points[-1][0], _top(points)
    image = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    for step in range(5):
        y = round(_y(top * step / 4, top))
        image[y, _LEFT : _WIDTH - _RIGHT] = _colour(_GRID)
        text = f"{100 * top * step / 4:.0f}%"
        _write(image, text, _LEFT - 8 - 8 * len(text), y - 5)
    for entries in _ticks(points):
        text = short(entries)
        _write(image, text, round(_x(entries, low, high)) - 4 * len(text), _HEIGHT - _BOTTOM + 10)
    here = round(_x(size, low, high))
    for y in range(_TOP, _HEIGHT - _BOTTOM, 7):
        image[y : y + 4, here - 1 : here + 1] = _colour(_MARK)
    for x in range(_LEFT, _WIDTH - _RIGHT):
        # from the size under this column: a line without gaps, however steep
        share, following = (
            _size_at((at - _LEFT) / (_WIDTH - _RIGHT - _LEFT), low, high) for at in (x, x + 1)
        )
        ends = sorted(round(_y(_at(points, each), top)) for each in (share, following))
        image[ends[0] - 1 : ends[1] + 2, x] = _colour(_LINE)
    y = round(_y(_at(points, size), top))
    image[y - 4 : y + 5, here - 4 : here + 5] = _colour(_MARK)
    text = f"{100 * _at(points, size):.1f}%"
    _write(image, text, min(here + 10, _WIDTH - 80), max(_TOP, y - 20), _MARK)
    return _packed(image)


def _sorted(points: Points) -> list[tuple[int, float]]:
    return sorted((max(1, entries), ratio) for entries, ratio in points)


def _top(points: Points) -> float:
    """Return the top of the scale: a round one above the highest point."""
    most = max(ratio for _, ratio in points)
    return next((step for step in (0.1, 0.2, 0.4, 0.6, 0.8) if most <= step), 1.0)


def _ticks(points: Points) -> list[int]:
    low, high = points[0][0], points[-1][0]
    return sorted({round(_size_at(step / 4, low, high)) for step in range(5)})


def _size_at(share: float, low: int, high: int) -> float:
    return float(low * (high / low) ** share)


def _place(size: float, low: int, high: int) -> float:
    return min(1.0, max(0.0, log(max(size, 1) / low) / log(high / low))) if high > low else 0.5


def _at(points: Points, size: float) -> float:
    sizes, ratios = zip(*points, strict=True)
    return float(np.interp(size, sizes, ratios))


def _x(size: float, low: int, high: int) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * _place(size, low, high)


def _y(ratio: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * ratio / top


def _colour(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name[1:]))


def _write(image: NDArray[np.uint8], text: str, left: int, top: int, colour: str = _INK) -> None:
    """Write digits, each point of a letter two points wide."""
    for number, letter in enumerate(text):
        for row, bits in enumerate(_FONT.get(letter, (0,) * 5)):
            for column in range(3):
                if bits >> (2 - column) & 1:
                    y, x = top + 2 * row, left + 8 * number + 2 * column
                    image[y : y + 2, x : x + 2] = _colour(colour)


def _packed(image: NDArray[np.uint8]) -> bytes:
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = image.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
