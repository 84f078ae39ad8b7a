"""ShortTermMemory when its store fails: what is not kept is said, what was kept stays."""

import asyncio

import pytest

from embedders import until
from nearcache import AsyncShortTermMemory, Options
from nearcache.errors import CodecError, StoreError, StoreUnavailable
from nearcache.testing import ChaosStore, MemoryStore
from short_term_fixtures import ANN, hears, is_near, memories

memory = pytest.fixture(memories)

WRITES = {
    "stash": lambda one: one.stash("key", "new", ANN),
    "stash_batch": lambda one: one.stash_batch({"key": "new"}, ANN),
    "stash of nothing": lambda one: one.stash("key", "new", ANN, ttl=0),
    "update": lambda one: one.update("key", lambda _: "new", ANN),
    "delete": lambda one: one.delete("key", ANN),
    "clear": lambda one: one.clear_working_memory(ANN),
}
READS = {
    "retrieve": lambda one: one.retrieve("key", ANN),
    "retrieve_batch": lambda one: one.retrieve_batch(["key"], ANN),
    "scan_keys": lambda one: one.scan_keys(ANN),
    "warm": lambda one: one.warm(["key"], ANN),
}


@pytest.fixture
def chaos():
    return ChaosStore(MemoryStore(), seed=3)


@pytest.mark.parametrize("use", WRITES.values(), ids=WRITES)
def test_a_write_that_was_not_made_raises_and_what_was_there_stays(memory, face, chaos, use):
    one = memory(face, chaos)
    hears(one)
    one.stash("key", "old", ANN)
    chaos.fail()
    for _ in range(3):
        with pytest.raises(StoreError):
            use(one)
    chaos.calm()
    assert one.retrieve("key", ANN) == "old"
    assert memory(face, chaos).retrieve("key", ANN) == "old"
    assert one.get_stats().undelivered == 0
    use(one)
    assert one.retrieve("key", ANN) in ("new", None)


@pytest.mark.parametrize("use", WRITES.values(), ids=WRITES)
def test_of_a_write_nobody_heard_of_all_say_the_same_afterwards(memory, face, chaos, use):
    one, other = memory(face, chaos), memory(face, chaos)
    hears(one, other)
    one.stash("key", "old", ANN)
    chaos.time_out(methods=["put", "commit", "commit_and_look", "revoke"])
    with pytest.raises(StoreError):
        use(one)
    chaos.calm()
    assert until(lambda: one.retrieve("key", ANN) == other.retrieve("key", ANN))
    fresh = memory(face, chaos).retrieve("key", ANN)
    assert fresh in ("old", "new", None)
    until(lambda: one.retrieve("key", ANN) == fresh)


def test_a_write_that_comes_late_replaces_nothing_newer(memory, face, chaos):
    one = memory(face, chaos)
    hears(one)
    one.stash("key", "old", ANN)
    chaos.late(methods=["put", "commit", "commit_and_look"])
    with pytest.raises(StoreError):
        one.stash("key", "late", ANN)
    chaos.calm()
    one.stash("key", "newer", ANN)
    chaos.deliver()
    assert memory(face, chaos).retrieve("key", ANN) == "newer"
    until(lambda: one.retrieve("key", ANN) == "newer")


@pytest.mark.parametrize("use", READS.values(), ids=READS)
def test_a_read_that_near_cannot_answer_raises(memory, face, chaos, use):
    one = memory(face, chaos, local_cache_enabled=False)
    one.stash("key", 1, ANN)
    chaos.fail()
    for _ in range(3):
        with pytest.raises(StoreError):
            use(one)
    chaos.calm()
    assert one.retrieve("key", ANN) == 1


def test_what_is_near_is_retrieved_for_a_while_whatever_the_store_does(memory, face, chaos):
    one = memory(face, chaos)
    hears(one)
    one.stash("key", 1, ANN)
    is_near(one, "key")
    chaos.fail()
    assert one.retrieve("key", ANN) == 1
    assert one.retrieve_batch(["key"], ANN) == {"key": 1}
    assert one.ping() is False


@pytest.mark.parametrize("late", ["stash", "update"])
def test_a_write_that_was_cancelled_does_not_overtake_what_comes_after(chaos, late):
    async def main():
        async with AsyncShortTermMemory(chaos, local_cache_enabled=False) as one:
            await one.stash("key", "first", ANN)
            writes = {
                "stash": lambda: one.stash("key", "cancelled", ANN),
                "update": lambda: one.update("key", lambda _: "cancelled", ANN),
            }
            chaos.slow(0.05, methods=["put", "commit", "commit_and_look"])
            writing = asyncio.create_task(writes[late]())
            slowed = chaos.counts.slowed
            while chaos.counts.slowed == slowed:
                await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            chaos.calm()
            assert await one.delete("key", ANN) is True
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
            assert await one.retrieve("key", ANN) is None

    asyncio.run(main())


def test_a_server_that_dies_is_no_absence_and_comes_back(memory, face, own_server):
    server = own_server()
    one = memory(face, server.url, local_cache_enabled=False)
    one.stash("key", 1, ANN)
    server.kill()
    for use in (*READS.values(), *WRITES.values()):
        with pytest.raises(StoreUnavailable):
            use(one)
    server.restart()
    one.stash("key", 2, ANN)
    assert one.retrieve("key", ANN) == 2
    assert one.get_metrics()["operations_failed"] == len(READS) + len(WRITES)


def test_bytes_that_cannot_be_read_are_an_error_and_stay(memory, face):
    store = MemoryStore()
    one = memory(face, store)
    one.stash("key", "value", ANN)
    store.edit(lambda name, value: value[:-1] + b"X" if b"key" in name else value)
    one.clear_local_cache()
    for use in (READS["retrieve"], READS["retrieve_batch"]):
        with pytest.raises(CodecError):
            use(one)
    assert one.scan_keys(ANN).items == ["key"]
    assert one.delete("key", ANN) is True
    assert one.retrieve("key", ANN) is None


def test_a_store_that_is_silent_costs_its_timeout_and_no_more(memory, face, own_server):
    server = own_server()
    one = memory(face, server.url, options=Options(store_timeout=0.2))
    one.stash("key", 1, ANN)
    server.pause()
    try:
        with pytest.raises(StoreError):
            one.stash("key", 2, ANN)
    finally:
        server.resume()
    until(lambda: one.ping())
    assert one.retrieve("key", ANN) in (1, 2)
