"""The Redis store beyond the contract: URLs, clients, time-outs, and what servers refuse."""

import pickle
import socket
import threading
import time
from contextlib import suppress

import pytest
import redis

from nearcache.errors import (
    ConfigError,
    StoreError,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from nearcache.stores.base import TAKEN, WRITTEN
from nearcache.stores.redis.clock import Reading
from nearcache.stores.redis.store import RedisStore
from nearcache.stores.redis.timer import RoundTripTimer
from nearcache.testing import FaultProxy, stored_entry
from nearcache.testing.contracts.stores import (
    GROUPS,
    LOG,
    LONG,
    MARK,
    NEW,
    OLD,
    at_once,
    eventually,
)

TOKEN = b"sixteen bytes ok"
CALLS = {
    "fetch": lambda store: store.fetch([b"a"], GROUPS),
    "lease": lambda store: store.lease([b"a"], b"token", LONG, MARK),
    "fill": lambda store: store.fill([b"a"], [OLD], b"token", MARK, None),
    "write": lambda store: store.write([b"a"], [OLD], None, LOG, [b""]),
    "forget": lambda store: store.forget([b"a"], LOG, [b""]),
    "forget group": lambda store: store.forget_group(GROUPS[0], LOG, b""),
    "drop corrupt": lambda store: store.drop_corrupt([b"a"], [OLD]),
    "renew": lambda store: store.renew([b"a"], b"token", LONG),
    "release": lambda store: store.release([b"a"], b"token"),
    "changes": lambda store: store.changes(LOG, b""),
    "look": lambda store: store.look([b"a"], []),
    "look with groups": lambda store: store.look([b"a"], GROUPS),
    "heads": lambda store: store.heads([b"a"], GROUPS),
    "epochs": lambda store: store.epochs(GROUPS, LONG),
    "claim": lambda store: store.claim([b"a"], [b""], TOKEN, LONG),
    "expect": lambda store: store.expect([b"a"], TOKEN, LONG),
    "commit": lambda store: store.commit([b"a"], [OLD], [TOKEN], None, LOG),
    "put": lambda store: store.put([b"a"], [OLD], None, LOG, store.now() + LONG, GROUPS),
    "touch": lambda store: store.touch([b"a"], LONG),
    "revoke": lambda store: store.revoke([b"a"], LOG),
    "bump": lambda store: store.bump(GROUPS[0], TOKEN, LOG),
}


SCRIPTS = ("epochs", "claim", "expect", "commit", "heads", "put", "touch", "revoke")


@pytest.fixture
def connect():
    """Make stores; they are closed when the test is over."""
    stores = []

    def connect(where, **options):
        stores.append(RedisStore(where, **options))
        return stores[-1]

    yield connect
    for store in stores:
        store.close()


def works(store) -> bool:
    store.write([b"a"], [OLD], None, LOG, [b""])
    return store.fetch([b"a"], GROUPS).values == [OLD]


# -- scripts and round trips ---------------------------------------------------------------------


def test_scripts_the_server_has_forgotten_are_sent_again(redis_server, connect):
    store = connect(redis_server.url, timeout=30.0)
    with redis_server.client() as client:
        for _ in range(2):
            client.script_flush()
            assert store.lease([b"a"], b"token", LONG, MARK) == [TAKEN]
            client.script_flush()
            assert store.fill([b"a"], [OLD], b"token", MARK, None) == [WRITTEN]
            client.script_flush()
            store.write([b"a"], [NEW], None, LOG, [b""])
            client.script_flush()
            store.renew([b"a"], b"token", LONG)
            client.script_flush()
            store.drop_corrupt([b"a"], [NEW])
            names = (
                "epochs",
                "claim",
                "expect",
                "commit",
                "heads",
                "put",
                "touch",
                "revoke",
                "bump",
            )
            for name in names:
                client.script_flush()
                CALLS[name](store)
            assert store.fetch([b"a"], GROUPS).values == [None]


def test_a_batch_is_one_round_trip_whatever_its_size(redis_server, connect):
    store = connect(redis_server.url, timeout=30.0)
    keys = [b"%d" % i for i in range(500)]
    values = [stored_entry(key) for key in keys]
    for call in (
        lambda: store.fetch(keys, GROUPS),
        lambda: store.lease(keys, b"token", LONG, MARK),
        lambda: store.renew(keys, b"token", LONG),
        lambda: store.fill(keys, values, b"token", MARK, None),
        lambda: store.write(keys, values, LONG, LOG, keys),
        lambda: store.release(keys, b"token"),
        lambda: store.drop_corrupt(keys, values),
        lambda: store.look(keys, GROUPS),
        lambda: store.heads(keys, GROUPS),
        lambda: store.epochs(keys, LONG),
        lambda: store.claim(keys, [b""] * 500, TOKEN, LONG),
        lambda: store.expect(keys, TOKEN, LONG),
        lambda: store.commit(keys, values, [TOKEN] * 500, None, LOG),
        lambda: store.revoke(keys, LOG),
    ):
        call()
        sent = []
        exchange = store._node.ask
        store._node.ask = lambda *a, sent=sent, exchange=exchange, **k: (
            sent.append(a[0]),
            exchange(*a, **k),
        )[1]
        call()
        del store._node.ask
        assert len(sent) == 1
        assert len(sent[0]) <= 2


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_redis_and_valkey_urls_name_the_same_server(one_server, connect, scheme):
    store = connect(f"{scheme}://127.0.0.1:{one_server.port}/0")
    assert works(store)
    assert store.address == f"{scheme}://127.0.0.1:{one_server.port}/0"


def test_a_unix_socket_is_a_url(one_server, connect):
    assert works(connect(one_server.unix_url))


def test_a_url_chooses_its_database(one_server, connect):
    zero = connect(f"redis://127.0.0.1:{one_server.port}/0")
    three = connect(f"redis://127.0.0.1:{one_server.port}/3")
    assert works(zero)
    assert three.fetch([b"a"], GROUPS).values == [None]
    with one_server.client(db=3) as client:
        assert client.dbsize() == 2  # the two epochs


def test_a_password_in_a_url_is_used_and_never_shown(own_server, connect):
    server = own_server(password="s3cret")
    store = connect(server.url)
    assert works(store)
    for text in (repr(store), str(store), store.address):
        assert "s3cret" not in text
    wrong = connect(server.url.replace("s3cret", "wr0ng"))
    for name, call in CALLS.items():
        with pytest.raises(StoreUnavailable) as caught:
            call(wrong)
        assert "wr0ng" not in str(caught.value), name
    none = connect(server.url.replace(":s3cret@", ""))
    with pytest.raises(StoreUnavailable, match=r"(?i)auth"):
        none.fetch([b"a"], GROUPS)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/not-a-number", "redis://host:port/0"])
def test_a_url_that_says_nothing_is_refused_before_any_connection(url):
    with pytest.raises(ConfigError):
        RedisStore(url)


@pytest.mark.parametrize("what", [None, 3, b"redis://", object(), ["redis://"]])
def test_what_is_neither_url_nor_client_is_refused(what):
    with pytest.raises(ConfigError, match=r"URL or a redis\.Redis"):
        RedisStore(what)


def test_making_a_store_connects_to_nothing():
    store = RedisStore("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        store.fetch([b"a"], GROUPS)
    store.close()


# -- clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"decode_responses": True, "encoding": "latin-1"},
        {"protocol": 3},
        {"protocol": 3, "decode_responses": True},
    ],
    ids=str,
)
def test_a_client_of_the_users_own_is_used_however_it_decodes(one_server, connect, options):
    with one_server.client(**options) as client:
        store = connect(client)
        binary = stored_entry(bytes(range(256)))
        store.write([b"\xff\0"], [binary], None, LOG, [b"\xfe"])
        assert store.fetch([b"\xff\0"], GROUPS).values == [binary]
        cursor = store.changes(LOG, b"").cursor
        store.forget([b"\xff\0"], LOG, [b"\xfe\0"])
        assert store.changes(LOG, cursor).entries == [b"\xfe\0"]
        assert store.lease([b"b"], b"\xff", LONG, MARK) == [TAKEN]
        assert store.fill([b"b"], [binary], b"\xff", MARK, None) == [WRITTEN]
        assert str(one_server.port) in store.address


def test_a_store_does_not_close_a_client_it_did_not_make(one_server):
    with one_server.client() as client:
        store = RedisStore(client)
        assert works(store)
        store.close()
        assert client.ping()
        assert works(store)


def refusals(make_client):
    """How often a store of a client's tries a server that hangs up on everybody."""
    with socket.create_server(("127.0.0.1", 0)) as hangs_up:
        tries = []

        def refuse():
            with suppress(OSError):
                while True:
                    caller, _ = hangs_up.accept()
                    tries.append(caller.getpeername())
                    caller.close()

        refusing = threading.Thread(target=refuse, daemon=True)
        refusing.start()
        with make_client(hangs_up.getsockname()[1]) as client:
            store = RedisStore(client)
            with pytest.raises(StoreUnavailable):
                store.fetch([b"k"], [])
            store.close()
        hangs_up.shutdown(socket.SHUT_RDWR)
    refusing.join(5)
    return len(tries)


def test_through_a_client_a_server_that_refuses_is_tried_once(own_server):
    assert refusals(lambda port: redis.Redis(port=port)) == 1
    assert refusals(lambda port: redis.Redis.from_url(f"redis://127.0.0.1:{port}")) == 1


@pytest.mark.parametrize(
    "kind, limit",
    [(redis.ConnectionPool, 2), (redis.BlockingConnectionPool, 2)],
    ids=["limited", "blocking"],
)
def test_a_limit_of_a_clients_pool_holds_and_its_callers_take_turns(
    one_server, connect, kind, limit
):
    pool = kind(port=one_server.port, max_connections=limit)
    with redis.Redis(connection_pool=pool) as client, one_server.client() as other:
        store = connect(client)
        before = other.info("clients")["connected_clients"]
        found = at_once(8, lambda n: [store.fetch([b"k%d" % n], []) for _ in range(20)])
        assert len(found) == 8
        assert other.info("clients")["connected_clients"] <= before + limit
        assert store._node.pool is not pool


@pytest.mark.impatient
@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_a_limited_client_of_a_server_that_hangs_ends_in_time(own_server, kind):
    server = own_server()
    with redis.Redis(connection_pool=kind(port=server.port, max_connections=3)) as client:
        store = RedisStore(client)
        assert works(store)
        server.pause()
        with pytest.raises(StoreTimeout):  # it is not resumed before
            store.fetch([b"k"], [])
        server.resume()
        store.close()


def test_a_plain_client_has_as_many_connections_as_callers(one_server, connect):
    with one_server.client() as client:
        store = connect(client)
        assert store._node.pool.max_connections > 10_000


def test_no_report_takes_the_connection_that_a_caller_would_have_had():
    assert not RedisStore("redis://127.0.0.1?max_connections=3").reportable
    assert RedisStore("redis://127.0.0.1").reportable
    with redis.Redis(max_connections=3) as client:  # its callers take turns
        assert RedisStore(client).reportable


class PoolOfTheUsers(redis.ConnectionPool):
    """It does what we cannot know."""


def test_a_pool_of_an_unknown_kind_is_used_as_it_is(one_server, connect):
    pool = PoolOfTheUsers(port=one_server.port)
    with redis.Redis(connection_pool=pool) as client:
        store = connect(client)
        assert works(store)
        assert store._node.pool is pool


def test_a_store_around_a_client_cannot_be_pickled(one_server):
    with one_server.client() as client:
        with pytest.raises(TypeError, match="URL"):
            pickle.dumps(RedisStore(client))


def test_a_pickled_store_finds_the_same_server(one_server, connect):
    store = connect(one_server.url, timeout=7.5)
    assert works(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.fetch([b"a"], GROUPS).values == [OLD]
    assert copy._node.patience() == 7.5
    copy.close()


def test_replies_are_never_mixed_up_between_threads(one_server, connect):
    store = connect(one_server.url, timeout=30.0)

    def work(number):
        keys = [b"%d-%d" % (number, i) for i in range(20)]
        values = [stored_entry(key) for key in keys]
        store.write(keys, values, None, LOG, keys)
        return all(store.fetch(keys, GROUPS).values == values for _ in range(30))

    assert all(at_once(8, work))


# -- connections kept at hand ----------------------------------------------------------------------


def test_a_look_at_one_key_is_one_plain_get_on_the_connection_at_hand(one_server, connect):
    store = connect(one_server.url)
    store.write([b"a"], [OLD], None, LOG, [b""])
    store.look([b"a"], [])
    one_server.reset_counts()
    for _ in range(20):
        assert store.look([b"a"], []).values == [OLD]
    assert one_server.command_counts() == {"get": 20}


def test_a_clock_that_is_too_old_is_read_along(one_server, connect):
    store = connect(one_server.url)
    for call in (lambda: store.look([b"a"], []), lambda: store.heads([b"a"], [])):
        call()
        now, sent, _ = store._clock.reading
        old = Reading(now - 100, sent - 11, sent - 11)  # eleven seconds old, and far off
        store._clock._reading = old
        one_server.reset_counts()
        found = call()
        assert one_server.command_counts()["time"] == 1
        assert found.now > now
        call()
        assert one_server.command_counts()["time"] == 1


@pytest.mark.parametrize("name", CALLS)
def test_a_connection_the_server_closed_meanwhile_is_replaced_unnoticed(
    redis_server, connect, name
):
    store = connect(redis_server.url)
    CALLS[name](store)
    with redis_server.client() as client:
        client.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        for lent in store._node._keeper._kept:
            eventually(lambda lent=lent: lent.look(0))  # the news is here
        CALLS[name](store)


def test_connections_that_died_in_silence_cost_one_timeout_and_not_one_each(one_server, connect):
    with FaultProxy.of(one_server.url) as proxy:
        store = connect(proxy.url, timeout=0.3)
        keeper = store._node._keeper
        for lent in [keeper.lend() for _ in range(8)]:
            keeper.take_back(lent)
        proxy.half_open()  # as when a firewall forgot them: those that are open say nothing more
        with pytest.raises(StoreTimeout):
            store.look([b"a"], [])
        assert store.look([b"a"], []).values == [None]
        assert proxy.connections == 1


def test_more_threads_than_a_hundred_have_a_connection_each(one_server, connect):
    store = connect(one_server.url)
    keeper = store._node._keeper
    for lent in [keeper.lend() for _ in range(120)]:
        keeper.take_back(lent)
    assert store.look([b"a"], []).values == [None]


def test_a_reply_that_nobody_waited_for_is_nobody_elses(one_server, connect):
    store = connect(one_server.url)
    store.write([b"a", b"b"], [OLD, NEW], None, LOG, [b"", b""])
    lent = store._node._keeper.lend()
    lent.connection.send_command("GET", "b")  # and then Ctrl-C
    eventually(lambda: lent.look(0))
    store._node._keeper.take_back(lent)
    assert store.look([b"a"], []).values == [OLD]
    lent = store._node._keeper.lend()
    lent.connection.send_command("GET", "b")
    store._node._keeper.drop(lent)
    assert store.look([b"a"], []).values == [OLD]


def test_threads_share_the_connections_at_hand_and_never_one(one_server, connect):
    store = connect(one_server.url, timeout=30.0)
    keys = [b"%d" % i for i in range(8)]
    store.write(keys, [stored_entry(key) for key in keys], None, LOG, keys)

    def work(number):
        key = keys[number]
        return all(store.look([key], []).values == [stored_entry(key)] for _ in range(200))

    assert all(at_once(8, work))
    with one_server.client() as client:
        assert client.info("clients")["connected_clients"] <= 10
        store.close()
        eventually(lambda: client.info("clients")["connected_clients"] == 1)


def test_a_clients_own_pool_has_its_connections_back_after_every_call(one_server, connect):
    with one_server.client(max_connections=1) as client:
        store = connect(client)
        for call in CALLS.values():
            call(store)
            assert client.ping()


# -- servers that do not answer ------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_server_that_does_not_answer_is_a_time_out_and_the_next_answer_is_the_right_one(
    own_server, connect, name
):
    server = own_server()
    store = connect(server.url, timeout=0.05)
    store.write([b"a"], [OLD], None, LOG, [b""])
    CALLS[name](store)
    store.write([b"a"], [OLD], None, LOG, [b""])
    server.pause()
    with pytest.raises(StoreTimeout):
        CALLS[name](store)
    server.resume()
    eventually(lambda: answers(store))
    assert store.fetch([b"missing"], GROUPS).values == [None]  # no late reply of another call


def answers(store) -> bool:
    try:
        store.fetch([], GROUPS)
    except StoreError:
        return False
    return True


def test_a_server_that_is_gone_is_unavailable_and_one_that_is_back_is_found(own_server, connect):
    server = own_server()
    store = connect(server.url)
    assert works(store)
    server.kill()
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            call(store)
    server.restart()
    eventually(lambda: answers(store))
    assert works(store)


def test_a_dead_server_is_not_asked_again_and_again(connect):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        attempts = []
        store = connect(f"redis://127.0.0.1:{port}/0")
        make = store._node.pool.make_connection

        def counted():
            attempts.append(1)
            return make()

        store._node.pool.make_connection = counted
        with pytest.raises(StoreUnavailable):
            store.fetch([b"a"], GROUPS)
        assert len(attempts) == 1


def test_a_server_that_speaks_nonsense_is_unavailable(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def nonsense():
            with listener.accept()[0] as wire:
                wire.recv(1000)
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=nonsense)
        thread.start()
        store = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", timeout=1.0)
        with pytest.raises(StoreUnavailable):
            store.fetch([b"a"], GROUPS)
        thread.join()


# -- what servers refuse -------------------------------------------------------------------------


def test_a_read_only_replica_is_read_and_every_write_refused(own_server, connect):
    primary = own_server("valkey-9.1", "--repl-diskless-sync-delay", "0")
    replica = own_server("valkey-9.1", "--replicaof", "127.0.0.1", str(primary.port))
    source = connect(primary.url)
    assert works(source)
    store = connect(replica.url)
    with replica.client() as client:
        eventually(lambda: client.get("a") == OLD)
    assert store.fetch([b"a"], GROUPS).values == [OLD]
    assert store.lease([b"a"], b"token", LONG, MARK) == [OLD]
    for call in (
        lambda: store.lease([b"b"], b"token", LONG, MARK),
        lambda: store.write([b"a"], [NEW], None, LOG, [b""]),
        lambda: store.forget([b"a"], LOG, [b""]),
        lambda: store.forget_group(GROUPS[0], LOG, b""),
    ):
        with pytest.raises(StoreReadOnly, match="primary"):
            call()
    assert store.fetch([b"a"], GROUPS).values == [OLD]


def test_a_full_server_is_read_and_its_refusals_say_what_helps(own_server, connect):
    server = own_server("valkey-9.1", "--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
    store = connect(server.url, timeout=30.0)
    store.write([b"a"], [OLD], None, LOG, [b""])
    with pytest.raises(StoreReadOnly, match="maxmemory"):
        for i in range(100):
            store.write([b"%d" % i], [stored_entry(bytes(200_000))], None, LOG, [b""])
    assert store.fetch([b"a"], GROUPS[:0]).values == [OLD]


def test_a_server_that_evicts_loses_values_and_nothing_else_goes_wrong(own_server, connect):
    server = own_server("valkey-9.1", "--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    store = connect(server.url, timeout=30.0)
    keys = [b"%d" % i for i in range(200)]
    for key in keys:
        store.write([key], [stored_entry(key + bytes(50_000))], None, LOG, [key])
    values = store.fetch(keys, GROUPS).values
    assert None in values
    for key, value in zip(keys, values, strict=True):
        assert value in (None, stored_entry(key + bytes(50_000)))


def test_every_refusal_leaves_the_connection_usable(one_server, connect):
    store = connect(one_server.url)
    with one_server.client() as client:
        client.rpush(LOG, "x")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"WRONGTYPE|wrong kind"):
                store.forget([b"a"], LOG, [b"1", b"2", b"3"])
            assert store.fetch([b"a"], GROUPS).values == [None]
        assert client.info("clients")["connected_clients"] <= 3


# -- the time-out that follows the server --------------------------------------------------------


@pytest.mark.impatient
def test_the_first_answer_is_waited_for_longer_than_any_healthy_server_takes():
    assert RoundTripTimer().timeout >= 1


@pytest.mark.impatient
def test_quick_answers_bring_the_time_out_down_to_its_floor():
    timer = RoundTripTimer()
    for _ in range(50):
        timer.answered(0.001)
    assert 0.05 <= timer.timeout <= 0.25


@pytest.mark.impatient
def test_slow_answers_bring_it_up():
    timer = RoundTripTimer()
    for _ in range(50):
        timer.answered(0.3)
    assert timer.timeout >= 0.3


@pytest.mark.impatient
def test_an_answer_that_is_late_once_does_not_make_it_forget():
    timer = RoundTripTimer()
    for _ in range(50):
        timer.answered(0.1)
    steady = timer.timeout
    timer.answered(0.5)
    assert timer.timeout > steady
    for _ in range(50):
        timer.answered(0.1)
    assert timer.timeout == pytest.approx(steady, rel=0.5)


@pytest.mark.impatient
def test_every_further_time_out_doubles_it_up_to_a_bound_and_an_answer_ends_that():
    timer = RoundTripTimer()
    for _ in range(50):
        timer.answered(0.001)
    before = timer.timeout
    timer.timed_out()  # nobody shall wait longer than the first
    assert timer.timeout == before
    timer.timed_out()
    assert timer.timeout == pytest.approx(2 * before)
    for _ in range(20):
        timer.timed_out()
    assert timer.timeout <= 5
    timer.answered(0.001)
    assert timer.timeout < 1


def test_the_servers_clock_is_asked_for_only_now_and_then(one_server, connect):
    store = connect(one_server.url)
    store.fetch([], GROUPS)
    one_server.reset_counts()
    times = [store.now() for _ in range(20)]
    assert times == sorted(times)
    assert one_server.command_counts().get("time", 0) == 0
    with one_server.client() as client:
        seconds, microseconds = client.time()
        assert store.now() == pytest.approx(seconds + microseconds / 1e6, abs=1)


def test_asking_is_bounded_by_the_users_own_time_out(own_server, connect):
    server = own_server()
    store = connect(server.url, timeout=0.02)
    assert answers(store)
    server.pause()
    before = time.monotonic()
    with pytest.raises(StoreTimeout):
        store.fetch([b"a"], GROUPS)
    assert time.monotonic() - before >= 0.02
    server.resume()
