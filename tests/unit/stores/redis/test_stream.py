"""The stream of changes from Redis beyond the contract: servers that refuse, lie, stop or die."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from redis._parsers import _RESP3Parser

from nearcache.errors import (
    StoreCannotTell,
    StoreError,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from nearcache.stores.base import EVERYTHING, PONG, Changed
from nearcache.stores.redis import stream as redis_stream
from nearcache.stores.redis.store import RedisStore
from nearcache.testing.contracts.store_parts import LOG, eventually
from nearcache.testing.contracts.stores_mutable import ONE, put
from nearcache.testing.contracts.streams import KEY, OPEN_SECONDS, PREFIXES, hear, names


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


@pytest.fixture
def listen():
    """Open streams; they are closed when the test is over."""
    streams = []

    def listen(store, *prefixes: bytes, seconds=OPEN_SECONDS):
        streams.append(store.stream())
        streams[-1].open(prefixes or PREFIXES, seconds)
        return streams[-1]

    yield listen
    for stream in streams:
        stream.close()


def hears(store, stream) -> bool:
    store.bump(KEY, b"t" * 16, LOG)
    return names(stream, KEY) == [KEY]


# -- whose connection it is ----------------------------------------------------------------------


def test_a_stream_uses_a_unix_socket_like_the_store(one_server, connect, listen):
    store = connect(one_server.unix_url)
    assert hears(store, listen(store))


def test_a_stream_logs_in_as_the_store_does(own_server, connect, listen):
    server = own_server(password="s3cret")
    store = connect(server.url)
    assert hears(store, listen(store))
    with pytest.raises(StoreUnavailable) as caught:
        listen(connect(server.url.replace("s3cret", "wr0ng")))
    assert not isinstance(caught.value, StoreCannotTell)
    assert "wr0ng" not in str(caught.value)


def test_changes_of_another_database_with_the_same_names_are_told_too(one_server, connect, listen):
    zero, three = (connect(f"redis://127.0.0.1:{one_server.port}/{db}") for db in (0, 3))
    stream = listen(three)
    assert hears(three, stream)
    assert hears(zero, stream)  # servers do not tell databases apart: one drop too many, no more


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"protocol": 3},
        {"protocol": 3, "decode_responses": True},
        {"protocol": 2, "decode_responses": True, "encoding": "latin-1"},
        {"health_check_interval": 1, "client_name": "mine"},
    ],
    ids=str,
)
def test_a_client_of_the_users_own_lends_its_way_to_connect(redis_server, connect, listen, options):
    with redis_server.client(**options) as client:
        store = connect(client)
        stream = listen(store)
        assert hears(store, stream)
        client.flushall()
        assert EVERYTHING in hear(stream)


def test_a_stream_reads_without_hiredis(redis_server, connect, listen):
    with redis_server.client() as client:
        store = connect(client)
        store._node.pool.connection_kwargs["parser_class"] = _RESP3Parser
        stream = listen(store)
        assert isinstance(stream._connection._parser, _RESP3Parser)
        assert hears(store, stream)
        stream.watch(b"more:")
        client.set("more:1", "x")
        client.flushall()
        client.set(KEY, "x")
        told = hear(stream)
        assert Changed([b"more:1"]) in told
        assert told[-2:] == [EVERYTHING, Changed([KEY])]
        assert stream.read(0) == []


# -- the server's time ---------------------------------------------------------------------------


def test_a_ping_tells_the_store_the_servers_time(one_server, connect, listen):
    store = connect(one_server.url)
    stream = listen(store)
    store._clock.forget()
    hear(stream)
    one_server.reset_counts()
    put(store, KEY, ONE)
    found = store.look([KEY], [])
    assert found.values == [ONE]
    counts = one_server.command_counts()
    assert counts["get"] == 1
    assert "time" not in counts
    assert "mget" not in counts
    with one_server.client() as client:
        seconds, microseconds = client.time()
        assert found.now == pytest.approx(seconds + microseconds / 1e6, abs=1)


# -- who cannot tell -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["valkey-9.1", "redis-8.2", "redis-7.0", "redis-6.2"])
def test_a_user_who_may_not_track_is_told_so(own_server, connect, listen, kind):
    server = own_server(kind)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-client")
    store = connect(f"redis://u:p@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreCannotTell, match=r"(?i)permission"):
        listen(store)
    put(store, KEY, ONE)  # the store itself is of use


def test_a_replica_cannot_be_listened_to(own_server, connect, listen):
    primary = own_server("valkey-9.1", "--repl-diskless-sync-delay", "0")
    replica = own_server("valkey-9.1", "--replicaof", "127.0.0.1", str(primary.port))
    with replica.client() as client:
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
    with pytest.raises(StoreReadOnly, match="primary"):  # it may be promoted in a moment
        listen(connect(replica.url))


HELLO = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"


@pytest.mark.parametrize(
    "replies,reason",
    [
        pytest.param({b"HELLO": b"-ERR unknown command 'HELLO'\r\n"}, "unknown", id="no HELLO"),
        pytest.param({b"HELLO": b"-NOPROTO unsupported\r\n"}, "unsupported", id="no RESP3"),
        pytest.param({b"HELLO": HELLO.replace(b":3", b":2")}, "RESP version", id="RESP2 after all"),
        pytest.param({b"HELLO": b"*2\r\n$5\r\nproto\r\n:2\r\n"}, "does not say", id="no mapping"),
        pytest.param({b"CLIENT": b"-ERR unknown subcommand\r\n"}, "subcommand", id="no tracking"),
        pytest.param({}, "does not tell", id="no push"),
    ],
)
def test_a_server_that_cannot_tell_is_found_out(connect, listen, replies, reason):
    with fake_server(replies) as url:
        with pytest.raises(StoreCannotTell, match=reason):
            listen(connect(url, timeout=OPEN_SECONDS))


def test_pushes_that_come_together_are_told_in_order(connect, listen):
    def push(*keys):
        return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys) + b"".join(
            b"$%d\r\n%b\r\n" % (len(key), key) for key in keys
        )

    nothing = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
    other = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"
    time_reply = b"*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n"
    pongs = [
        push(b"nc1:{ns:canary") + time_reply,
        push(b"a", b"b") + other + nothing + push(b"c") + time_reply + push(b"d"),
    ]
    with fake_server({}, pongs=pongs) as url:
        store = connect(url, timeout=OPEN_SECONDS)
        stream = store.stream()
        stream._write_canary = lambda key, seconds: None
        with pytest.raises(StoreCannotTell):  # not its own canary
            stream.open(PREFIXES, OPEN_SECONDS)
        pongs.insert(0, pongs[0])
        stream = store.stream()
        stream._write_canary = lambda key, _: pongs.__setitem__(0, push(key) + time_reply)
        stream.open(PREFIXES, OPEN_SECONDS)
        stream.read(0)
        stream.ping()
        heard = []
        while len(heard) < 5:
            heard += stream.read(1.0)
        assert heard == [
            Changed([b"a", b"b"]),
            EVERYTHING,
            Changed([b"c"]),
            PONG,
            Changed([b"d"]),
        ]
        stream.close()


@contextmanager
def fake_server(replies: dict[bytes, bytes], *, pongs: list[bytes] | None = None):
    """A server that answers each command by its name; ``pongs`` answer TIME, one after another."""
    usual = {b"HELLO": HELLO, b"TIME": b"*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n"}
    ended = threading.Event()

    def serve(wire):
        with wire, wire.makefile("rb") as stream:
            while line := stream.readline():
                words = [
                    stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))
                ]
                name = words[0].upper()
                if name == b"TIME" and pongs:
                    wire.sendall(pongs.pop(0))
                elif name == b"CLIENT" and words[1].upper() != b"TRACKING":
                    wire.sendall(b"+OK\r\n")
                else:
                    wire.sendall(replies.get(name) or usual.get(name, b"+OK\r\n"))

    def accept():
        while not ended.is_set():
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(wire,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# -- who stops, and who dies ---------------------------------------------------------------------


def test_a_server_that_stopped_is_a_time_out_within_its_seconds(own_server, connect, listen):
    server = own_server()
    store = connect(server.url)
    server.pause()
    started = time.monotonic()
    with pytest.raises(StoreTimeout):
        listen(store, seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 5
    server.resume()


def test_a_server_that_stopped_answers_no_ping_and_the_stream_goes_on_later(
    own_server, connect, listen
):
    server = own_server()
    store = connect(server.url)
    stream = listen(store)
    server.pause()
    stream.ping()
    assert PONG not in stream.read(0.05)
    server.resume()
    hear(stream)
    assert hears(store, stream)


def test_a_server_that_is_not_there_is_unavailable(connect, listen):
    with pytest.raises(StoreUnavailable):
        listen(connect("redis://127.0.0.1:1/0"))


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_a_lost_connection_ends_the_stream_for_good(own_server, connect, listen, how):
    server = own_server()
    store = connect(server.url)
    stream = listen(store)
    if how == "killed":
        server.kill()
        server.restart()
    else:
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "SKIPME", "yes")

    def ended():
        try:
            stream.read(0.1)
        except StoreUnavailable:
            return True
        return False

    eventually(ended)
    for call in (lambda: stream.read(0), stream.ping, lambda: stream.watch(b"x")):
        with pytest.raises(StoreUnavailable):
            call()
    eventually(lambda: answers(store))
    assert hears(store, listen(store))


def answers(store) -> bool:
    try:
        store.look([], [b"group"])
    except StoreError:
        return False
    return True


def test_closing_does_not_wait_for_the_server_to_say_something(
    own_server, connect, listen, monkeypatch
):
    monkeypatch.setattr(redis_stream, "_CANARY_LIFE", 600.0)  # its end would wake the read
    server = own_server()
    stream = listen(connect(server.url))
    hear(stream)
    waiting, ended = threading.Event(), threading.Event()

    def wait():
        waiting.set()
        with pytest.raises(StoreUnavailable):
            stream.read(600)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    waiting.wait()
    eventually(stream._busy.locked)
    stream.close()
    assert ended.wait(20)
    with server.client() as client:  # and the connection is gone
        eventually(lambda: tracking_clients(client) == 0)


def test_a_prefix_that_overlaps_another_ends_the_stream_with_the_servers_words(
    one_server, connect, listen
):
    stream = listen(connect(one_server.url))
    stream.watch(PREFIXES[0] + b"0")
    with pytest.raises(StoreUnavailable, match=r"(?i)overlap"):
        hear(stream)
    with pytest.raises(StoreUnavailable):
        stream.read(0)


def test_streams_that_failed_to_open_leave_no_connection(own_server, connect):
    server = own_server()
    store = connect(server.url)
    for _ in range(3):
        stream = store.stream()
        stream._write_canary = lambda key, seconds: None
        with pytest.raises(StoreCannotTell):
            stream.open(PREFIXES, OPEN_SECONDS)
    with server.client() as client:
        eventually(lambda: tracking_clients(client) == 0)


def tracking_clients(client) -> int:
    return client.info("clients")["tracking_clients"]
