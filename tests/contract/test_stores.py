"""The store contract on every store: memory, calm chaos, SQLite, and Redis on the four servers."""

import sqlite3
from contextlib import closing

import pytest

from acl import grant
from nearcache.errors import StoreError, StoreUnavailable
from nearcache.stores.base import TAKEN, WRITTEN
from nearcache.stores.redis.store import RedisStore
from nearcache.stores.sqlite import SQLiteStore
from nearcache.testing import ChaosStore, ManualClock, MemoryStore
from nearcache.testing.contracts.boards import BOARD
from nearcache.testing.contracts.stores import (
    GROUPS,
    LOG,
    LONG,
    MARK,
    NEW,
    OLD,
    StoreContract,
    while_it_lives,
)
from nearcache.testing.contracts.stores_mutable import ABSENT, ONE, OTHER, TWO, V1
from nearcache.testing.contracts.stores_scan import START, keep, name, pages, scan
from nearcache.testing.contracts.streams import KEY, KEY_2, commit


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

    def test_what_came_and_went_costs_nothing(self, store):
        for n in range(1000):
            keep(store, [name(b"%d" % n)])
            store.revoke([name(b"%d" % n)], b"")
        assert store.scan(START, 0, 100) == (0, [])


class TestChaosStore(StoreContract):
    """Calm, it is what it wraps."""

    shared = False

    @pytest.fixture
    def handles(self):
        store = ChaosStore(MemoryStore())
        return lambda: store


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

    def test_what_changes_is_named_in_the_log(self, store):
        cursor = store.changes(LOG, b"").cursor
        commit(store, KEY, ONE)
        store.commit([KEY, KEY_2], [TWO] * 2, [V1, V1], None, LOG)
        store.revoke([KEY, KEY_2], LOG)
        store.bump(GROUPS[0], ABSENT, LOG)
        named = [KEY, KEY, KEY, KEY_2, GROUPS[0]]
        assert store.changes(LOG, cursor).entries == named
        assert store.changes(b"other log", cursor).entries == []

    def test_a_touch_of_what_has_time_enough_writes_nothing(self, store, tmp_path):
        keep(store, [b"a"], 100.0)
        with closing(sqlite3.connect(tmp_path / "store.db")) as watcher:

            def commits():
                return watcher.execute("PRAGMA data_version").fetchone()[0]

            before = commits()
            store.touch([b"a"], 105.0)
            assert commits() == before
            store.touch([b"a"], 200.0)
            assert commits() != before


class TestRedisStore(StoreContract):
    """As the user that docs/operations.md names; but the contract's keys begin with anything."""

    @pytest.fixture
    def handles(self, redis_server):
        url = grant(redis_server, "~*")
        yield from _closing(lambda: RedisStore(url, timeout=30.0))

    @pytest.fixture
    def client(self, redis_server):
        with redis_server.client() as client:
            yield client

    def test_a_board_keeps_nothing_that_has_ended_and_ends_itself(self, store, client):
        def life(number):
            board = b"nc1:{board %d!}:reports" % number
            store.report(board, b"short", b"1", 0.05)
            return client.pttl(board)

        assert 0 < while_it_lives(0.05, life) <= 50
        store.report(BOARD, b"short", b"1", 0.05)
        store.report(BOARD, b"long", b"2", LONG)
        self.pass_time(store, 0.05)
        store.report(BOARD, b"long", b"3", LONG)
        assert client.hgetall(BOARD) == {b"long": b"3"}
        assert client.zcard(BOARD + b":ends") == 1
        assert min(client.pttl(BOARD), client.pttl(BOARD + b":ends")) > 1000 * LONG - 1000

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

    @pytest.mark.parametrize("kind", ["list", "hash"])
    def test_another_type_under_the_key_of_a_changing_value_is_absent_and_gives_way(
        self, store, client, kind
    ):
        keys = [b"claimed", b"expected", b"revoked"]
        for key in keys:
            client.rpush(key, "x") if kind == "list" else client.hset(key, "x", "y")
        store.look([], [])  # the time is known, so that a look at one key is a GET
        for key in keys:
            assert store.look([key], []).values == [None]
        assert store.look(keys, GROUPS).values == [None] * 3
        assert store.heads(keys, GROUPS).values == [None] * 3
        assert store.claim(keys[:1], [b""], ABSENT, LONG) == [TAKEN]
        assert store.commit(keys[:1], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert store.expect(keys[1:2], ABSENT, LONG) == [ABSENT]
        assert store.commit(keys[1:2], [TWO], [ABSENT], None, LOG) == [WRITTEN]
        store.revoke(keys[2:], LOG)
        assert store.look(keys, []).values == [ONE, TWO, None]

    def test_another_type_under_a_token_is_no_token(self, store, client):
        for key in ("a", "b", "c"):
            client.rpush(f"{key}:lease", "x")
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [TAKEN]
        assert store.expect([b"b"], ABSENT, LONG) == [ABSENT]
        assert store.commit([b"c"], [ONE], [OTHER], None, LOG) == [b""]
        assert store.commit([b"c"], [ONE], [OTHER], None, LOG, ABSENT, LONG) == [ABSENT]
        assert store.commit([b"a", b"b", b"c"], [ONE] * 3, [ABSENT] * 3, None, LOG) == [True] * 3

    def test_another_type_under_an_epoch_is_absence_until_it_is_made(self, store, client):
        client.rpush(GROUPS[0], "x")
        client.set(GROUPS[1], "")
        assert store.look([b"a"], GROUPS).epochs == [b"", b""]
        assert store.heads([b"a"], GROUPS).epochs == [b"", b""]
        made = store.epochs(GROUPS, LONG)
        assert [len(epoch) for epoch in made] == [16, 16]
        assert store.look([], GROUPS).epochs == made
        client.delete(GROUPS[0])
        client.rpush(GROUPS[0], "x")
        store.bump(GROUPS[0], ABSENT, LOG)
        assert store.look([], GROUPS[:1]).epochs == [ABSENT]

    def test_an_epoch_that_was_lost_comes_back_as_another(self, store, client):
        made = store.epochs(GROUPS, None)
        client.flushall()
        assert set(store.epochs(GROUPS, None)).isdisjoint(made)

    def test_epochs_lie_on_the_server_as_long_as_was_asked(self, store, client):
        store.epochs(GROUPS[:1], LONG)
        assert LONG * 1000 <= client.pttl(GROUPS[0]) <= 2 * LONG * 1000
        store.epochs(GROUPS[:1], LONG / 2)
        assert client.pttl(GROUPS[0]) > LONG * 1000
        store.epochs(GROUPS[:1], 3 * LONG)
        assert client.pttl(GROUPS[0]) > 5 * LONG * 1000
        assert store.epochs(GROUPS[:1], None)
        assert client.pttl(GROUPS[0]) == -1
        store.bump(GROUPS[0], ABSENT, LOG, LONG)
        assert 0 < client.pttl(GROUPS[0]) <= LONG * 1000
        store.bump(GROUPS[0], OTHER, LOG)
        assert client.pttl(GROUPS[0]) == -1

    def test_a_put_between_the_deletes_of_a_forget_cannot_happen(self, store, client):
        """A load that fills between the deletes of value and lease would outlive the forget."""
        store.lease([b"a"], b"token", LONG, MARK)
        with client.monitor() as monitor:
            store.forget([b"a"], LOG, [])
            seen = []
            while len(seen) < 2:
                words = monitor.next_command()["command"].split()
                if words[0] == "DEL":
                    seen.append(words[1])
        assert seen == ["a:lease", "a"]

    def test_a_step_is_one_command_and_so_is_a_touch(self, store, redis_server):
        keep(store, [name(b"%d" % n) for n in range(10)], 100.0)
        store.touch([b"none"], 1.0)
        redis_server.reset_counts()
        store.scan(START, 0, 5)
        assert redis_server.command_counts() == {"scan": 1}
        redis_server.reset_counts()
        store.touch([name(b"%d" % n) for n in range(10)], 105.0)  # nine tenths are left
        assert redis_server.command_counts() == {"evalsha": 1, "pttl": 10}
        redis_server.reset_counts()
        store.touch([name(b"1")], 200.0)
        assert redis_server.command_counts() == {"evalsha": 1, "pttl": 1, "pexpire": 1}

    def test_other_types_under_names_do_no_harm(self, store, redis_server):
        with redis_server.client() as client:
            client.rpush(name(b"list"), "x")
            client.rpush(name(b"lease") + b":lease", "x")
        keep(store, [name(b"x")])
        assert {name(b"x")} <= set(scan(store)) <= {name(b"x"), name(b"list")}
        assert list(pages(store, leases=True))
        store.touch([name(b"list")], 1.0)


def _closing(make):
    made = []

    def handle():
        made.append(make())
        return made[-1]

    yield handle
    for store in made:
        store.close()
