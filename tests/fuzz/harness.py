"""What every fuzz target shares: reading choices from bytes, and changing bytes without a fuzzer.

A target is a module ``fuzz_<what>`` with ``SEEDS``, inputs to begin with, and ``one(data)``, which
tries one input and raises when the promise is broken: a value or an error of our tree, never
another exception, never a wrong value. ``python -m fuzz`` gives the inputs to atheris, which looks
for new paths through the code; the suite gives each some hundreds of fixed ones.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["TARGETS", "Choices", "changed", "inputs", "mangled"]

T = TypeVar("T")

TARGETS = (
    "vectors", "values", "codecs", "typed", "keys", "urls", "replies", "stream", "topology",
    "sqlite", "log",
)  # fmt: skip

_ODD = (b"\x00", b"\xff", b"\x80", b"\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff" * 8)


class Choices:
    """An input read as a row of choices; what is beyond its end is zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def part(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += count
        return part.ljust(count, b"\0")

    def number(self, below: int) -> int:
        """A number from 0; of one byte where that is enough."""
        width = max(1, ((below - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.part(width), "little") % below

    def flag(self) -> bool:
        return bool(self.number(2))

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.number(len(things))]

    def float(self) -> float:
        return float(struct.unpack("<d", self.part(8))[0])

    def some(self, most: int) -> bytes:
        """At most ``most`` bytes."""
        return self.part(self.number(most + 1))

    def text(self, most: int) -> str:
        """Text of any characters, lone surrogates too."""
        return "".join(map(self._character, range(self.number(most + 1))))

    def _character(self, _: int) -> str:
        if self.number(4):
            return chr(self.number(128))
        return chr(self.number(0x110000))

    def rest(self) -> bytes:
        part = self._data[self._at :]
        self._at = len(self._data)
        return part

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)


def changed(data: bytes, choices: Choices) -> bytes:
    """Bytes that were damaged on their way, as the choices say; perhaps not at all."""
    for _ in range(choices.number(4)):
        at = choices.number(max(1, len(data) + 1))
        kind = choices.number(5)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << choices.number(8),)) + data[at + 1 :]
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            data = data[:at] + choices.some(16) + data[at:]
        elif kind == 3:
            part = choices.some(16)
            data = data[:at] + part + data[at + len(part) :]
        else:
            data = data[:at] + data[at + choices.number(16) :]
    return data


def mangled(data: bytes, rng: random.Random) -> bytes:
    """Another input that looks much like this one."""
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        act = rng.random()
        if act < 0.35 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
        elif act < 0.5:
            data = data[:at] + rng.randbytes(rng.choice((1, 1, 2, 8))) + data[at:]
        elif act < 0.6:
            data = data[:at] + data[at + rng.choice((1, 1, 2, 8)) :]
        elif act < 0.75:
            part = rng.choice(_ODD)
            data = data[:at] + part + data[at + len(part) :]
        elif act < 0.85:
            data = data[:at]
        else:
            to = rng.randrange(len(data) + 1)
            data = data[:to] + data[at : at + 16] + data[to:]
    return data


def inputs(target: Any, count: int, seed: int = 0) -> Iterator[bytes]:
    """A target's seeds, and ``count`` more made of them; the same every time."""
    rng = random.Random(seed)
    seeds: list[bytes] = list(target.SEEDS)
    yield from seeds
    for _ in range(count):
        data = rng.choice(seeds) if rng.random() < 0.9 else rng.randbytes(rng.randrange(64))
        yield mangled(data, rng)
