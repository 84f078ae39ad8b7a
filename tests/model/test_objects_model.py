"""The near tier for any value against a model, and its two implementations against each other."""

import random
from collections import OrderedDict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nearcache.near.objects import ObjectTier
from nearcache.testing import ManualClock

try:
    from nearcache.near._native import ObjectTier as NativeTier
except ImportError:
    NativeTier = None

# not adaptive: whom it evicts depends on hashes, and each of the two has its own, with a secret
POLICIES = ("lru", "fifo", "random", "sieve", "s3fifo", "lfu")
ROOMY = 2**40
STEPS = 35_000

needs_native = pytest.mark.skipif(NativeTier is None, reason="the native core is not built")
keys = st.one_of(st.sampled_from("abcdefghijkl"), st.integers(0, 3), st.tuples(st.integers(0, 1)))
batches = st.lists(keys, max_size=6)
ttls = st.sampled_from([None, None, 0.125, 1.0, 2.0, 5.0])
times = st.sampled_from([0.0625, 0.5, 1.0, 3.0])


class Model:
    """What the tier should hold: key → [value, expiry, hits], the least recently used first."""

    def __init__(self, most: int, clock: ManualClock) -> None:
        self.most, self.clock = most, clock
        self.entries: OrderedDict[object, list] = OrderedDict()
        self.hits = self.misses = self.evictions = self.expirations = 0

    def expired(self, key) -> bool:
        return 0 < self.entries[key][1] <= self.clock()

    def alive(self, key) -> bool:
        if key in self.entries and self.expired(key):
            del self.entries[key]
            self.expirations += 1
        return key in self.entries

    def get(self, key):
        if not self.alive(key):
            self.misses += 1
            return None
        self.hits += 1
        self.entries[key][2] += 1
        self.entries.move_to_end(key)
        return self.entries[key][0]

    def shrink(self, most: int) -> int:
        before = self.evictions
        while len(self.entries) > most:
            ended = [key for key in self.entries if self.expired(key)]
            if ended:  # the one whose life ended first
                del self.entries[min(ended, key=lambda key: self.entries[key][1])]
                self.expirations += 1
            else:
                self.entries.popitem(last=False)
                self.evictions += 1
        return self.evictions - before

    def put(self, key, value, expiry) -> int:
        if not self.most:
            return 0
        evicted = 0 if key in self.entries else self.shrink(self.most - 1)
        hits = self.entries[key][2] if key in self.entries else 0
        self.entries[key] = [value, expiry, hits]
        self.entries.move_to_end(key)
        return evicted

    def drop(self, key) -> bool:
        return self.alive(key) and bool(self.entries.pop(key))

    def expire(self) -> int:
        gone = [key for key in self.entries if self.expired(key)]
        for key in gone:
            self.alive(key)
        return len(gone)


class ModelMachine(RuleBasedStateMachine):
    kind = ObjectTier

    @initialize(most=st.sampled_from([0, 1, 3, 6, 10, 100]))
    def begin(self, most):
        self.clock = ManualClock()
        self.tier = self.kind(max_entries=most, max_bytes=ROOMY, clock=self.clock, policy="lru")
        self.model = Model(most, self.clock)
        self.number = 0

    def ends(self, ttl):
        self.number += 1
        # no two lives end at once: which of them goes first is nobody's promise
        return 0.0 if ttl is None else self.clock() + ttl + self.number * 2**-30

    @rule(key=keys, ttl=ttls)
    def put(self, key, ttl):
        end = self.ends(ttl)
        value = (key, self.number)
        assert self.tier.put(key, value, end, 7) == self.model.put(key, value, end)

    @rule(key=keys)
    def get(self, key):
        assert self.tier.get(key) == self.model.get(key)

    @rule(batch=batches)
    def get_many(self, batch):
        assert self.tier.get_many(batch) == [self.model.get(key) for key in batch]

    @rule(key=keys)
    def contains(self, key):
        assert (key in self.tier) == self.model.alive(key)

    @rule(batch=batches)
    def drop(self, batch):
        assert self.tier.drop_many(batch) == sum([self.model.drop(key) for key in batch])

    @rule()
    def clear(self):
        assert self.tier.clear() == len(self.model.entries)
        self.model.entries.clear()

    @rule(most=st.sampled_from([0, 1, 2, 5, 10, 100]))
    def resize(self, most):
        self.tier.resize(most, ROOMY)
        self.model.most = most
        self.model.expire()
        self.model.shrink(most)

    @rule(seconds=times)
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
        tier, model = self.tier, self.model
        assert dict(tier.items()) == {key: entry[2] for key, entry in model.entries.items()}
        for key, (value, expiry, hits) in model.entries.items():
            assert tier.peek(key)[:3] == (value, expiry, hits)
        for name in ("hits", "misses", "evictions", "expirations"):
            assert getattr(tier, name) == getattr(model, name), name


class NativeModelMachine(ModelMachine):
    kind = NativeTier


TestPureModel = ModelMachine.TestCase
TestNativeModel = needs_native(NativeModelMachine.TestCase)
TestPureModel.settings = TestNativeModel.settings = settings(
    max_examples=30, stateful_step_count=50, deadline=None
)


# The two implementations


class Twins:
    """The same operations on both, with the same outcome."""

    def __init__(self, policy: str, most: int, size: int, seed: int) -> None:
        self.clock = ManualClock()
        self.pure, self.native = (
            kind(max_entries=most, max_bytes=100 * most, clock=self.clock, policy=policy, seed=seed)
            for kind in (ObjectTier, NativeTier)
        )
        self.number = 0
        self.resize(most, size)

    def both(self, call):
        pure, native = call(self.pure), call(self.native)
        assert pure == native
        self.compare()
        return pure

    def compare(self):
        for name in ("misses", "evictions", "expirations"):
            assert getattr(self.pure, name) == getattr(self.native, name), name
        assert len(self.pure) == len(self.native)

    def compare_all(self):
        self.compare()
        self.pure.check()
        self.native.check()
        assert self.pure.hits == self.native.hits
        pure = {key: (hits, self.pure.peek(key)[:2]) for key, hits in self.pure.items()}
        assert pure == {key: (hits, self.native.peek(key)[:2]) for key, hits in self.native.items()}

    def put(self, key, ttl):
        self.number += 1
        end = 0.0 if ttl is None else self.clock() + ttl + self.number * 1e-9
        number = self.number
        # a life costs them different bytes: what both charge for an entry is made the same
        self.both(lambda tier: tier.put(key, number, end, self.size_of(tier, bool(end))))

    def size_of(self, tier, bounded):
        return COST - (PURE_COSTS if tier is self.pure else NATIVE_COSTS)[bounded]

    def resize(self, most, size):
        self.both(lambda tier: tier.resize(most, size * COST))


def costs_of(kind):
    if kind is None:
        return (0, 0)
    tier = kind(max_entries=9, max_bytes=ROOMY, clock=ManualClock(), policy="lru")
    tier.put(0, 0)
    tier.put(1, 0, 2000.0)
    return (tier.peek(0)[3], tier.peek(1)[3])


COST = 1000
PURE_COSTS, NATIVE_COSTS = costs_of(ObjectTier), costs_of(NativeTier)


@needs_native
@pytest.mark.parametrize("policy", POLICIES)
def test_twins_do_the_same(policy):
    rng = random.Random(policy)
    twins = Twins(policy, 40, 1000, 7)
    most = 40
    for step in range(STEPS):
        act, key = rng.random(), int(120 * rng.random() ** 2)
        if act < 0.45:
            twins.both(lambda tier, key=key: tier.get(key))
        elif act < 0.85:
            twins.put(key, rng.choice([None, None, 0.1, 0.4, 3.0]))
        elif act < 0.92:
            twins.both(lambda tier, key=key: tier.drop(key))
        elif act < 0.94:
            twins.both(lambda tier, key=key: key in tier)
        elif act < 0.98:
            twins.clock.advance(rng.choice([0.01, 0.1, 0.3]))
        elif act < 0.99:
            twins.both(lambda tier: tier.expire())
        elif act < 0.998:
            most = rng.choice([1, 10, 40, 60])
            twins.resize(most, rng.choice([most // 2, most, 1000]))
        elif step % 4 == 0:
            twins.both(lambda tier: tier.clear())
        if step % 100 == 0:
            twins.compare_all()
    twins.compare_all()
    assert twins.pure.evictions > 1000
    assert twins.pure.expirations > 1000


class TwinMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(POLICIES),
        most=st.sampled_from([1, 2, 5, 10, 300]),
        seed=st.integers(0, 2**64 - 1),
    )
    def begin(self, policy, most, seed):
        self.twins = Twins(policy, most, 1000, seed)

    @rule(key=keys, ttl=ttls)
    def put(self, key, ttl):
        self.twins.put(key, ttl)

    @rule(batch=batches)
    def get_many(self, batch):
        self.twins.both(lambda tier: tier.get_many(batch))

    @rule(batch=batches)
    def drop_many(self, batch):
        self.twins.both(lambda tier: tier.drop_many(batch))

    @rule(key=keys)
    def contains(self, key):
        self.twins.both(lambda tier: key in tier)

    @rule(most=st.sampled_from([0, 1, 3, 10, 300]), size=st.sampled_from([0, 1, 3, 300]))
    def resize(self, most, size):
        self.twins.resize(most, size)

    @rule(seconds=times)
    def time_passes(self, seconds):
        self.twins.clock.advance(seconds)

    @rule()
    def expire(self):
        self.twins.both(lambda tier: tier.expire())

    @rule()
    def clear(self):
        self.twins.both(lambda tier: tier.clear())

    @invariant()
    def both_hold_the_same(self):
        if hasattr(self, "twins"):
            self.twins.compare_all()


TestTwins = needs_native(TwinMachine.TestCase)
TestTwins.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
