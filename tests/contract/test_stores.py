"""The store contract on every store: memory, SQLite, and Redis on the four servers."""

import pytest

from contract.stores import GROUPS, LOG, LONG, MARK, NEW, OLD, StoreContract
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import TAKEN, WRITTEN
from nearcache.stores.redis import RedisStore
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing import ManualClock, MemoryStore


class TestMemoryStore(StoreContract):
    shared = False

    @pytest.fixture
    def handles(self):
        store = MemoryStore()
        return lambda: store


class TestMemoryStoreWithAManualClock(StoreContract):
    shared = False

    @pytest.fixture
    def clock(self):
        return ManualClock(0.5)

    @pytest.fixture
    def handles(self, clock):
        store = MemoryStore(clock=clock)
        store.clock_for_tests = clock
        return lambda: store

    def pass_time(self, store, seconds):
        store.clock_for_tests.advance(seconds)

    def test_a_fetch_says_when_in_the_stores_time_and_in_ours(self, store, clock):
        assert store.fetch([b"a"], GROUPS).now == store.fetch([], GROUPS).sent == clock()


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def handles(self, tmp_path):
        yield from _closing(lambda: SQLiteStore(tmp_path / "store.db"))

    def test_a_log_that_was_lost_is_a_gap(self, store, handles, tmp_path):
        store.forget([b"a"], LOG, [b"1"])
        cursor = store.changes(LOG, b"").cursor
        store.close()
        for file in tmp_path.iterdir():
            file.unlink()
        later = handles()
        later.forget([b"a"], LOG, [b"2"])
        gap = later.changes(LOG, cursor)
        assert gap.entries is None
        assert later.changes(LOG, gap.cursor).entries == []


class TestRedisStore(StoreContract):
    @pytest.fixture
    def handles(self, redis_server):
        yield from _closing(lambda: RedisStore(redis_server.url, timeout=30.0))

    @pytest.fixture
    def client(self, redis_server):
        with redis_server.client() as client:
            yield client

    @pytest.fixture(autouse=True)
    def _flush(self, redis_server):
        self.flush = lambda _: redis_server.flush

    def test_a_log_that_was_lost_is_a_gap(self, store, client):
        store.forget([b"a"], LOG, [b"1"])
        cursor = store.changes(LOG, b"").cursor
        client.delete(LOG)
        gap = store.changes(LOG, cursor)
        assert gap.entries is None
        store.forget([b"a"], LOG, [b"2"])
        assert store.changes(LOG, gap.cursor).entries == [b"2"]

    def test_a_log_that_was_lost_and_begun_again_is_a_gap(self, store, client):
        store.forget([b"a"], LOG, [b"1"])
        cursor = store.changes(LOG, b"").cursor
        client.delete(LOG)
        self.pass_time(store, 0)  # entries are named by the millisecond
        store.forget([b"a"], LOG, [b"2"])
        assert store.changes(LOG, cursor).entries is None

    @pytest.mark.parametrize("kind", ["list", "hash"])
    def test_another_type_under_a_value_key_is_absent_and_gives_way(self, store, client, kind):
        for key in ("leased", "written", "forgotten", "corrupt"):
            client.rpush(key, "x") if kind == "list" else client.hset(key, "x", "y")
        assert store.fetch([b"leased", b"written"], GROUPS).values == [None, None]
        assert store.lease([b"leased"], b"token", LONG, MARK) == [TAKEN]
        assert store.fill([b"leased"], [OLD], b"token", MARK, None) == [WRITTEN]
        store.write([b"written"], [NEW], None, LOG, [b"changed"])
        assert store.fetch([b"leased", b"written"], GROUPS).values == [OLD, NEW]
        store.forget([b"forgotten"], LOG, [])
        assert not client.exists("forgotten")
        store.drop_corrupt([b"corrupt"], [b"x"])

    def test_another_type_under_an_epoch_is_an_error_until_the_group_is_forgotten(
        self, store, client
    ):
        client.rpush(GROUPS[0], "x")
        with pytest.raises(StoreUnavailable, match="epoch"):
            store.fetch([b"a"], GROUPS)
        store.forget_group(GROUPS[0], LOG, b"")
        assert len(store.fetch([b"a"], GROUPS).epochs) == 2

    def test_another_type_under_the_log_is_an_error(self, store, client):
        client.set(LOG, "x")
        with pytest.raises(StoreError):
            store.changes(LOG, b"")
        with pytest.raises(StoreError):
            store.forget([b"a"], LOG, [b"entry"])

    def test_another_type_under_a_lease_is_no_reason_to_fail(self, store, client):
        client.rpush(b"a:lease", "x")
        assert store.lease([b"a"], b"token", LONG, MARK) == [TAKEN]
        store.renew([b"a"], b"token", LONG)
        assert store.fill([b"a"], [OLD], b"token", MARK, None) == [WRITTEN]


def _closing(make):
    made = []

    def handle():
        made.append(make())
        return made[-1]

    yield handle
    for store in made:
        store.close()
