"""py-key-value: what its interface promises, of our store.

Its own store tests are in its repository alone, in no release: they cannot be installed. What they
ask for is said here; of them two do not fit: that a store of many keys drops some (this one keeps
what it was given), and that a life of two seconds ends within two (here it ends by a clock).
"""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.errors import InvalidTTLError, SerializationError
from key_value.aio.protocols.key_value import AsyncEnumerateKeysProtocol, AsyncKeyValueProtocol
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper
from pydantic import BaseModel

from embedders import until
from nearcache import StoreUnavailable
from nearcache.integrations.key_value import NearCacheStore

VALUES = [
    {},
    {"s": "text", "n": None, "b": True, "i": 2**70, "f": 0.1},
    {"list": [1, [2, {"a": []}]], "dict": {"ü": "ß", "": "empty"}},
    {"large": "x" * 1_000_000},
]


@pytest.fixture
def run(store):
    """Run ``work(kv)`` on an event loop, with a store that is closed afterwards."""

    def go(work, **options):
        async def whole():
            async with NearCacheStore(store, **options) as kv:
                return await work(kv)

        return asyncio.run(whole())

    return go


def test_it_is_a_store_that_can_list_its_keys():
    kv = NearCacheStore()
    assert isinstance(kv, AsyncKeyValueProtocol)
    assert isinstance(kv, AsyncEnumerateKeysProtocol)
    asyncio.run(kv.close())


def test_nothing_is_there_at_first(run):
    async def work(kv):
        assert await kv.get("k", collection="c") is None
        assert await kv.get_many(["k", "l"]) == [None, None]
        assert await kv.ttl("k") == (None, None)
        assert await kv.delete("k") is False
        assert await kv.delete_many(["k", "l"]) == 0
        assert await kv.keys() == []

    run(work)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:20])
def test_values_come_back_as_they_were(run, value):
    async def work(kv):
        await kv.put("k", value)
        found = await kv.get("k")
        assert found == value
        found["more"] = 1
        assert await kv.get("k") == value

    run(work)


def test_one_key_after_the_other_and_many_at_once(run):
    async def work(kv):
        await kv.put("a", {"n": 1})
        await kv.put_many(["b", "c"], ({"n": 2}, {"n": 3}))
        assert await kv.get_many(["c", "x", "a", "a"]) == [{"n": 3}, None, {"n": 1}, {"n": 1}]
        await kv.put("a", {"n": 4})
        assert await kv.get("a") == {"n": 4}
        assert await kv.delete("a") is True
        assert await kv.delete("a") is False
        assert await kv.delete_many(["a", "b", "c"]) == 2
        assert await kv.get_many(["a", "b", "c"]) == [None] * 3
        with pytest.raises(ValueError, match="different number"):
            await kv.put_many(["a"], [])

    run(work)


def test_collections_are_apart_whatever_they_are_called(run):
    names = ["c", "c:", "c*", "c/d", "!@#$%^&*()", "x" * 3000, "ü"]

    async def work(kv):
        for name in names:
            for key in names:
                await kv.put(key, {"at": [name, key]}, collection=name)
        for name in names:
            assert sorted(await kv.keys(name)) == sorted(names)
            for key in names:
                assert await kv.get(key, collection=name) == {"at": [name, key]}
        assert await kv.delete("c", collection="c")
        assert await kv.get("c", collection="c*") is not None

    run(work)


def test_keys_are_listed_up_to_a_limit(run):
    async def work(kv):
        wanted = {f"key {n}" for n in range(1100)}
        await kv.put_many(list(wanted), [{}] * 1100)
        assert set(await kv.keys()) == wanted
        some = await kv.keys(limit=7)
        assert len(some) == 7
        assert set(some) < wanted

    run(work)


def test_a_life_ends(run):
    async def work(kv):
        await kv.put("k", {"n": 1}, ttl=100)
        value, left = await kv.ttl("k")
        assert value == {"n": 1}
        assert 90 < left <= 100
        assert (await kv.ttl_many(["k", "x"]))[1] == (None, None)
        await kv.put("k", {"n": 2})
        assert await kv.ttl("k") == ({"n": 2}, None)
        await kv.put_many(["a", "b"], [{}, {}], ttl=0.05)
        while await kv.get_many(["a", "b"]) != [None, None]:
            await asyncio.sleep(0.01)
        for wrong in (-100, 0):
            with pytest.raises(InvalidTTLError):
                await kv.put("k", {}, ttl=wrong)

    run(work)


def test_what_json_does_not_take_is_refused(run):
    async def work(kv):
        await kv.put("k", {"n": 1})
        for wrong in (object(), b"bytes", {1, 2}, datetime.now(UTC), uuid4()):
            with pytest.raises(SerializationError):
                await kv.put("k", {"n": wrong})
        assert await kv.get("k") == {"n": 1}

    run(work)


def test_many_tasks_at_once(run):
    async def work(kv):
        async def worker(who):
            for n in range(5):
                key = f"{who}:{n}"
                await kv.put(key, {"n": n})
                assert await kv.get(key) == {"n": n}
                await kv.put(key, {"n": -n})
                assert await kv.get(key) == {"n": -n}
                assert await kv.delete(key)
                assert await kv.get(key) is None

        await asyncio.gather(*map(worker, range(5)))

    run(work)


def test_one_store_serves_several_event_loops():
    kv = NearCacheStore()
    asyncio.run(kv.put("k", {"n": 1}))
    assert asyncio.run(kv.get("k")) == {"n": 1}
    asyncio.run(kv.close())


def test_other_processes_see_it(shared):
    async def work():
        async with NearCacheStore(shared) as first, NearCacheStore(shared) as second:
            await first.put("k", {"n": 1})
            assert await second.get("k") == {"n": 1}
            await first.put("k", {"n": 2})
            while await second.get("k") != {"n": 2}:
                await asyncio.sleep(0.002)

    asyncio.run(asyncio.wait_for(work(), 20))


def test_seeds_adapters_and_wrappers_work_on_it(run):
    class User(BaseModel):
        name: str

    async def work(kv):
        assert await kv.get("k", collection="seeded") == {"n": 1}
        users = PydanticAdapter(key_value=kv, pydantic_model=User)
        await users.put("u", User(name="Ada"))
        assert await users.get("u") == User(name="Ada")
        prefixed = PrefixKeysWrapper(key_value=kv, prefix="p")
        await prefixed.put("k", {"n": 2})
        assert await prefixed.get("k") == {"n": 2}
        assert await kv.get("k") is None

    run(work, seed={"seeded": {"k": {"n": 1}}})


def test_what_is_kept_is_json_and_ends_on_the_server_too(one_server):
    async def work():
        async with NearCacheStore(one_server.url) as kv:
            await kv.put("k", {"n": 1}, ttl=100)

    asyncio.run(work())
    with one_server.client() as client:
        (name,) = client.keys("*:k:*")
        kept = client.get(name)
        assert 90_000 < client.pttl(name) <= 110_000
    data = json.loads(json.loads(kept[kept.index(b'"{') :]))
    assert data["value"] == {"n": 1}


@pytest.mark.impatient
def test_a_store_that_is_down_is_an_error():
    async def work():
        async with NearCacheStore("redis://127.0.0.1:1") as kv:
            with pytest.raises(StoreUnavailable):
                await kv.get("k")
            with pytest.raises(StoreUnavailable):
                await kv.put("k", {})

    asyncio.run(work())


def test_close_ends_the_store(tmp_path):
    async def work():
        kv = NearCacheStore(f"sqlite:///{tmp_path / 'kv.db'}")
        await kv.put("k", {"n": 1})
        await kv.close()
        return kv

    kv = asyncio.run(work())
    until(lambda: kv._memory._cache._tiers.engine.closed)
