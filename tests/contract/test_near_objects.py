"""The contract of the near tier for any value, run on every implementation there is."""

import gc
import itertools
import tracemalloc

import pytest

from nearcache.near import objects
from nearcache.near.policies.sieve import Sieve
from nearcache.testing import ManualClock
from nearcache.testing.contracts.near_objects import ROOMY, NearObjectsContract

try:
    from nearcache.near._native import ObjectTier as NativeTier
except ImportError:
    NativeTier = None


def maker(kind):
    def tier(policy, max_entries, max_bytes, clock):
        return kind(
            max_entries=max_entries, max_bytes=max_bytes, clock=clock, policy=policy, seed=1
        )

    return tier


class TestPure(NearObjectsContract):
    @pytest.fixture
    def make(self):
        return maker(objects.ObjectTier)

    def test_a_policy_may_be_given_itself(self, tier_of):
        tier = tier_of(max_entries=2, policy=Sieve())
        assert tier.policy == "sieve"
        self.fill(tier, "ab")
        tier.get("a")
        self.fill(tier, "c")
        assert self.here(tier, "abc") == "ac"

    @pytest.mark.parametrize("name", ["adaptive", "lru", "s3fifo"])
    @pytest.mark.parametrize("life", [0, 100], ids=["for ever", "limited"])
    def test_an_entry_costs_what_it_says(self, tier_of, name, life):
        count = 25_000
        tier = tier_of(max_entries=count, policy=name)
        keys = list(range(count))
        gc.collect()
        tracemalloc.start()
        try:
            for key in keys:
                tier.put(key, None, 2000.0 + key * 1e-3 if life else 0.0)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        shadows = 700_000 if name == "adaptive" else 0  # in a cache of any size
        assert taken - shadows == pytest.approx(tier.used_bytes, rel=0.1)


@pytest.mark.skipif(NativeTier is None, reason="the native core is not built")
class TestNative(NearObjectsContract):
    @pytest.fixture
    def make(self):
        return maker(NativeTier)

    @pytest.mark.parametrize("name", ["adaptive", "lru", "s3fifo", "lfu"])
    def test_without_memory_nothing_is_lost(self, name):
        testcapi = pytest.importorskip("_testcapi", reason="this interpreter always has memory")
        if not hasattr(testcapi, "set_nomemory"):
            pytest.skip("this interpreter cannot run out of memory")
        clock = ManualClock()
        for at in itertools.count():
            tier = NativeTier(max_entries=1000, max_bytes=ROOMY, clock=clock, policy=name, seed=1)
            for i in range(256):  # so that the next one needs more room
                tier.put(i, i)
            failed = False
            testcapi.set_nomemory(at, at + 1)
            try:
                tier.put(300, 300, 2000.0)
                tier.put(301, 301, 2000.0)
                tier.drop(5)
            except MemoryError:
                failed = True
            finally:
                testcapi.remove_mem_hooks()
            tier.check()
            assert [tier.get(i) for i in range(6, 256)] == list(range(6, 256))
            for i in (5, 300, 301):
                assert tier.get(i, i) == i
            tier.put(302, 302)
            assert tier.get(302) == 302
            if not failed and at > 60:
                break
