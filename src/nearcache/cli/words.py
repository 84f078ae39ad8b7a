"""Figures as people read them in a terminal."""

from collections.abc import Sequence
from math import isnan

__all__ = ["ago", "amount", "duration", "long_duration", "share", "size", "sparkline"]

_BLOCKS, _PLAIN = "▁▂▃▄▅▆▇█", "._-=+*#@"


def share(part: float, whole: float) -> str:
    """Return a part of a whole in per cent; a dash where there is no whole."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{min(percent, 99.9):.1f} %"


def duration(seconds: float | None) -> str:
    """Return how long something took, with two digits."""
    if seconds is None or isnan(seconds):
        return "–"
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        figure = seconds * scale
        if figure < 999.5:
            return f"{figure:.1f} {unit}" if 0 < figure < 9.95 else f"{figure:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 99.95 else long_duration(seconds)


def long_duration(seconds: float) -> str:
    """Return seconds, minutes, hours or days, the two largest units of them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 10 and seconds != whole else f"{whole} s"
    for unit, length, below, short in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            rest = whole % length // short
            return f"{whole // length} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    """Return how long ago something was."""
    return "now" if seconds < 1 else f"{long_duration(int(seconds))} ago"


def amount(money: float, currency: str) -> str:
    """Return an amount of money; of a small one the first two digits."""
    shown = f"{money:,.2f}" if money >= 0.995 or not money else f"{money:.2g}"
    return f"{shown} {currency}".rstrip()


def size(count: float | None) -> str:
    """Return bytes, with their unit."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def sparkline(shares: Sequence[float | None], *, width: int, plain: bool = False) -> str:
    """Return the last ``width`` shares, 0 to 1, a character each; a blank where there is none."""
    steps = _PLAIN if plain else _BLOCKS
    last = len(steps) - 1
    return "".join(
        " " if each is None else steps[min(last, int(each * len(steps)))]
        for each in shares[len(shares) - min(width, len(shares)) :]
    )
