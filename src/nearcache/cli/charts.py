"""Bar charts as inline SVG: they fit any width, and need no script and no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "log_bars", "share_bars"]

_ROW = 50
_LABEL, _TOP, _HEIGHT = 16, 24, 14  # within a row: the label's baseline, the bar's top and height
_FOOT = 26


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a chart: what it is, how long it is, and what is written at its end."""

    label: str
    value: float
    shown: str
    quiet: bool = False
    """Drawn in the neutral colour: what the others are compared with."""


def log_bars(title: str, bars: Sequence[Bar]) -> str:
    """Return bars over a logarithmic axis of whole decades."""
    low = math.floor(min(_decades(bar.value) for bar in bars))
    high = math.ceil(max(_decades(bar.value) for bar in bars))
    if _decades(min(bar.value for bar in bars)) - low < 0.2:  # the shortest bar is to be seen
        low -= 1
    span = max(1, high - low)
    height = _ROW * len(bars)
    lines = []
    for number in range(span + 1):
        at = 100 * number / span
        anchor = "start" if number == 0 else "end" if number == span else "middle"
        lines.append(
            f'<line class="grid" x1="{at:.3f}%" x2="{at:.3f}%" y1="4" y2="{height}"/>'
            f'<text class="tick" x="{at:.3f}%" y="{height + 18}" text-anchor="{anchor}">'
            f"{_power(low + number)}</text>"
        )
    rows = [_row(n, bar, (_decades(bar.value) - low) / span) for n, bar in enumerate(bars)]
    return _svg(title, bars, height + _FOOT, [*lines, *rows])


def share_bars(title: str, bars: Sequence[Bar], wholes: Sequence[float]) -> str:
    """Return bars in tracks: each shows its share of a whole, the tracks what the whole is."""
    most = max(*wholes, 1)
    rows = []
    for number, (bar, whole) in enumerate(zip(bars, wholes, strict=True)):
        y = number * _ROW + _TOP
        rows.append(
            f'<rect class="track" x="0" y="{y}" width="{100 * whole / most:.3f}%" '
            f'height="{_HEIGHT}" rx="3"/>'
        )
        rows.append(_row(number, bar, bar.value / most))
    return _svg(title, bars, _ROW * len(bars), rows)


def _row(number: int, bar: Bar, share: float) -> str:
    y = number * _ROW
    kind = "bar quiet" if bar.quiet else "bar"
    label, shown = escape(bar.label), escape(bar.shown)
    drawn = (
        f'<rect class="{kind}" x="0" y="{y + _TOP}" width="{100 * share:.3f}%" '
        f'height="{_HEIGHT}" rx="3"><title>{label}: {shown}</title></rect>'
    )
    return (
        (drawn if share > 0 else "")
        + f'<text class="label" x="0" y="{y + _LABEL}">{label}</text>'
        + f'<text class="value" x="100%" y="{y + _LABEL}" text-anchor="end">{shown}</text>'
    )


def _svg(title: str, bars: Sequence[Bar], height: int, parts: Sequence[str]) -> str:
    spoken = escape(f"{title}. " + "; ".join(f"{bar.label}: {bar.shown}" for bar in bars))
    # Lengths in per cent and no viewBox: on a telephone the bars shrink and the letters do not.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{spoken}" '
        f'width="100%" height="{height}">{"".join(parts)}</svg>'
    )


def _decades(value: float) -> float:
    return math.log10(max(value, 1e-9))


def _power(exponent: int) -> str:
    for step, unit in ((6, "M"), (3, "k"), (0, "")):
        if exponent >= step:
            return f"{10 ** (exponent - step)}{unit}"
    return f"{10.0**exponent:g}"
