"""Ctrl-C, or no memory, at any line of an operation leaves no text that finds another's row."""

import sys

import numpy as np
import pytest

from nearcache.keys import content_digest
from nearcache.near.vectors import VectorTier
from nearcache.testing import ManualClock

MOST_LINES = 20_000


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt."""


def interrupted(operation, at: int) -> bool:
    """Run an operation and interrupt it at its ``at``-th line in ``near/``; False if it ended."""
    lines = 0

    def trace(frame, event, _arg):
        nonlocal lines
        if "/near/" not in frame.f_code.co_filename or frame.f_code.co_name == "repair":
            return None
        if event == "line":
            lines += 1
            if lines == at:
                sys.settrace(None)
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        operation()
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def row(text: str) -> np.ndarray:
    return np.frombuffer(content_digest(text), np.uint8).astype(np.float32)


def put(tier, texts, ttl=0.0):
    rows = np.array([row(text) for text in texts])
    digests = [content_digest(text) for text in texts]
    packed, scale = (rows, None)
    if tier._scaled:
        scale = np.abs(rows).max(axis=1) / np.float32(127)
        packed = np.rint(rows / scale[:, None]).astype(np.int8)
    tier.put("m", texts, digests, packed, scale, np.full(len(texts), ttl))


def texts(*numbers: int) -> list[str]:
    return [f"text {n}" * (1 if n % 5 else 900) for n in numbers]


OPERATIONS = {
    "new": lambda tier, _: put(tier, texts(*range(20, 26))),
    "overwriting": lambda tier, _: put(tier, texts(*range(3, 9)), 50.0),
    "evicting": lambda tier, _: put(tier, texts(*range(100, 120))),
    "dropping": lambda tier, _: tier.drop("m", [content_digest(t) for t in texts(*range(12))]),
    "a shelf": lambda tier, _: tier.drop_shelves(["m"]),
    "expiring": lambda tier, clock: (clock.advance(60), tier.expire()),
    "resizing": lambda tier, _: tier.resize(2, 2**20),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_cut_off_at_any_line_leaves_no_wrong_row(name, scaled):
    everything = texts(*range(130))
    for at in range(1, MOST_LINES):
        clock = ManualClock()
        tier = VectorTier(
            dtype=np.dtype(np.int8 if scaled else np.float32),
            scaled=scaled,
            max_entries=16,
            max_bytes=2**20,
            clock=clock,
        )
        put(tier, texts(*range(6)))
        put(tier, texts(*range(6, 16)), clock() + 40.0)
        cut = interrupted(lambda tier=tier, clock=clock: OPERATIONS[name](tier, clock), at)
        tier.check()
        found, rows = tier.get_some("m", everything, [content_digest(t) for t in everything])
        for position, got in zip(found, rows if rows is not None else (), strict=True):
            assert np.allclose(got, row(everything[position]), atol=2 if scaled else 0)
        put(tier, texts(200, 201))
        tier.check()
        if not cut:
            return
    pytest.fail("the operation never ended")
