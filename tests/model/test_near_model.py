"""The near tier against a model: a dict and an exact LRU order, operation by operation."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nearcache.codecs.vectors import by_name
from nearcache.keys import content_digest
from nearcache.near import pick, vectors
from nearcache.testing import ManualClock
from nearcache.testing.contracts.near_rows import digests

TEXTS = [chr(97 + i) for i in range(14)]
SHELVES = {"one": 4, "two": 4, "three": 6}

texts = st.sampled_from(TEXTS)
batches = st.lists(texts, min_size=1, max_size=9)
shelves = st.sampled_from(list(SHELVES))
ttls = st.sampled_from([None, None, 1.0, 2.0, 5.0])


class Model:
    """What the tier should hold: (shelf, text) → (number, expiry), the oldest first."""

    def __init__(self, most: int, clock: ManualClock) -> None:
        self.most, self.clock = most, clock
        self.rows: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def expired(self, key) -> bool:
        expiry = self.rows[key][1]
        return 0 < expiry <= self.clock()

    def expire(self) -> int:
        gone = [key for key in self.rows if self.expired(key)]
        for key in gone:
            del self.rows[key]
        return len(gone)

    def put(self, shelf, batch, numbers, ttl) -> None:
        if not self.most:
            return
        expiry = 0.0 if ttl is None else self.clock() + ttl
        for text, number in zip(batch, numbers, strict=True):
            key = (shelf, text)
            if key not in self.rows and len(self.rows) >= self.most:
                self.expire()
                while len(self.rows) >= self.most:
                    self.rows.popitem(last=False)
            self.rows[key] = (number, expiry)
            self.rows.move_to_end(key)

    def get(self, shelf, text) -> int | None:
        key = (shelf, text)
        if key not in self.rows:
            return None
        if self.expired(key):
            del self.rows[key]
            return None
        self.rows.move_to_end(key)
        return self.rows[key][0]


class NearMachine(RuleBasedStateMachine):
    kind = vectors.VectorTier

    @initialize(
        most=st.sampled_from([0, 1, 3, 6, 10, 100]),
        precision=st.sampled_from(["float32", "float16", "int8"]),
    )
    def begin(self, most, precision):
        self.clock = ManualClock()
        self.precision = by_name(precision)
        self.tier = self.kind(
            dtype=self.precision.dtype,
            scaled=self.precision.scaled,
            max_entries=most,
            max_bytes=2**30,
            clock=self.clock,
        )
        self.model = Model(most, self.clock)
        self.number = 0

    def row(self, shelf, number):
        row = np.zeros(SHELVES[shelf], np.float32)
        row[:3] = (number // 100, number % 100, 127)  # exact at every precision
        return row

    def check(self, shelf, row, number):
        if number is None:
            assert row is None
        else:
            assert row.tolist() == self.row(shelf, number).tolist()

    @rule(shelf=shelves, batch=batches, ttl=ttls)
    def put(self, shelf, batch, ttl):
        numbers = [(self.number + i) % 10_000 for i in range(len(batch))]
        self.number += len(batch)
        packed = self.precision.pack(np.array([self.row(shelf, n) for n in numbers]))
        expires = np.full(len(batch), 0.0 if ttl is None else self.clock() + ttl)
        self.tier.put(shelf, batch, digests(batch), packed.data, packed.scale, expires)
        self.model.put(shelf, batch, numbers, ttl)

    @rule(shelf=shelves, batch=batches)
    def get_all(self, shelf, batch):
        got = self.tier.get_all(shelf, batch)
        keys = [(shelf, text) for text in batch]
        if all(key in self.model.rows and not self.model.expired(key) for key in keys):
            for row, text in zip(got, batch, strict=True):
                self.check(shelf, row, self.model.get(shelf, text))
        else:
            assert got is None

    @rule(shelf=shelves, batch=batches)
    def get_some(self, shelf, batch):
        found, rows = self.tier.get_some(shelf, batch, digests(batch))
        numbers = [self.model.get(shelf, text) for text in batch]
        assert found == [i for i, number in enumerate(numbers) if number is not None]
        for i, row in zip(found, [] if rows is None else rows, strict=True):
            self.check(shelf, row, numbers[i])

    @rule(shelf=shelves, text=texts)
    def get_one(self, shelf, text):
        self.check(shelf, self.tier.get_one(shelf, text), self.model.get(shelf, text))

    @rule(shelf=shelves, text=texts)
    def get_digest(self, shelf, text):
        row = self.tier.get_digest(shelf, content_digest(text))
        self.check(shelf, row, self.model.get(shelf, text))

    @rule(shelf=shelves, batch=batches)
    def drop(self, shelf, batch):
        here = {text for text in batch if (shelf, text) in self.model.rows}
        assert self.tier.drop(shelf, digests(batch)) == len(here)
        for text in here:
            del self.model.rows[shelf, text]

    @rule(names=st.lists(shelves, max_size=2, unique=True))
    def drop_shelves(self, names):
        gone = [key for key in self.model.rows if key[0] in names]
        assert self.tier.drop_shelves(names) == len(gone)
        for key in gone:
            del self.model.rows[key]

    @rule(most=st.sampled_from([0, 1, 2, 5, 10, 100]))
    def resize(self, most):
        self.tier.resize(most, 2**30)
        self.model.most = most
        self.model.expire()
        while len(self.model.rows) > most:
            self.model.rows.popitem(last=False)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def expire(self):
        assert self.tier.expire() == self.model.expire()

    @invariant()
    def both_hold_the_same(self):
        if not hasattr(self, "tier"):
            return
        self.tier.check()
        listed = sorted(self.tier.listing())
        assert listed == sorted((s, content_digest(t).hex()) for s, t in self.model.rows)
        assert len(self.tier) == len(self.model.rows)
        for (shelf, text), (_, expiry) in self.model.rows.items():
            assert self.tier.peek(shelf, content_digest(text))[0] == pytest.approx(expiry)


SETTINGS = settings(max_examples=150, stateful_step_count=80, deadline=None)

TestPure = NearMachine.TestCase
TestPure.settings = SETTINGS

if pick.native is not None:

    class NativeMachine(NearMachine):
        kind = pick.native.VectorTier

    TestNative = NativeMachine.TestCase
    TestNative.settings = SETTINGS
