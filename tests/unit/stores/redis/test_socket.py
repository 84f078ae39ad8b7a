"""A connection gives up on a silent server in time, and waits for one that is only slow.

The other end of a pair of sockets is the server; where time matters it passes by hand.
"""

import socket
import threading

import pytest

from nearcache.errors import StoreUnavailable
from nearcache.stores.redis import socket as redis_socket
from nearcache.stores.redis.socket import TimedSocket
from nearcache.stores.redis.store import RedisStore
from nearcache.stores.redis.timer import LONG, RoundTripTimer
from nearcache.testing import ManualClock


@pytest.fixture
def timer():
    return RoundTripTimer(0.05)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(redis_socket, "_clock", clock)
    return clock


def test_a_server_that_is_silent_is_given_up(pair, timer):
    sock = TimedSocket(pair[0], timer)
    sock.sendall(b"request")
    with pytest.raises(TimeoutError, match="no answer within"):
        sock.recv_into(bytearray(10))


def test_a_server_that_says_a_byte_now_and_then_is_given_up_too(pair, timer):
    """Each byte comes in time; the answer never does."""
    sock, stop = TimedSocket(pair[0], timer), threading.Event()

    def trickle():
        while not stop.wait(0.01):
            pair[1].send(b".")

    server = threading.Thread(target=trickle)
    server.start()
    try:
        sock.sendall(b"request")
        with pytest.raises(TimeoutError):
            while True:
                sock.recv_into(bytearray(10))
    finally:
        stop.set()
        server.join()


def test_a_server_that_goes_on_answering_is_listened_to(pair, clock):
    """A long answer over a slow line takes many times the time-out, and is no time-out."""
    sock = TimedSocket(pair[0], RoundTripTimer(1.0))
    sock.sendall(b"request")
    for _ in range(20):
        clock.advance(0.9)
        pair[1].sendall(bytes(100_000))
        left = 100_000
        while left:
            left -= sock.recv_into(bytearray(100_000))


def test_an_answer_that_came_while_this_process_stood_still_is_taken(pair, timer, clock):
    sock = TimedSocket(pair[0], timer)
    sock.sendall(b"request")
    pair[1].sendall(b"answer")
    clock.advance(10)
    assert sock.recv(10) == b"answer"


def test_who_waits_behind_a_long_answer_to_somebody_else_goes_on_waiting(pair, timer, clock):
    sock = TimedSocket(pair[0], timer)
    sock.sendall(b"request")
    clock.advance(0.04)
    timer.heard = clock()
    assert sock._prolonged() > clock() + 0.04
    clock.advance(100)
    timer.heard = clock()
    assert sock._prolonged() < clock()  # but not for ever


def test_a_round_trip_ends_with_the_first_bytes(pair, clock):
    timer = RoundTripTimer()
    sock = TimedSocket(pair[0], timer)
    sock.sendall(b"request")
    clock.advance(0.2)
    pair[1].sendall(b"ans")
    sock.recv(10)
    assert timer.usual == pytest.approx(0.2)
    clock.advance(0.5)
    pair[1].sendall(b"wer")
    sock.recv(10)
    assert timer.usual == pytest.approx(0.2)


@pytest.mark.parametrize("end", ["answer", "close"])
def test_a_long_request_is_under_way_until_its_answer_or_its_end(pair, end):
    timer = RoundTripTimer()
    timer.answered(0.001)
    sock = TimedSocket(pair[0], timer)
    reader = threading.Thread(target=pair[1].recv, args=(2 * LONG, socket.MSG_WAITALL))
    reader.start()
    sock.sendall(bytes(LONG))
    sock.sendall(bytes(LONG))
    reader.join()
    assert timer.within(10) > timer.timeout
    if end == "answer":
        pair[1].sendall(b"ok")
        sock.recv(10)
    else:
        sock.close()
    assert timer.within(10) == timer.timeout


def test_a_store_made_from_a_url_waits_like_this(one_server):
    store = RedisStore(one_server.url)
    try:
        store.now()
        assert 0 < store._node.timer.usual < 5
        assert isinstance(store._node._keeper.lend().connection._sock, TimedSocket)
    finally:
        store.close()


def test_a_time_out_in_the_url_is_the_users(one_server):
    store = RedisStore(f"{one_server.url}?socket_timeout=7")
    try:
        sock = store._node._keeper.lend().connection._sock
        assert (type(sock), sock.gettimeout()) == (socket.socket, 7)
    finally:
        store.close()


def test_a_server_that_accepts_and_never_shakes_hands_is_given_up():
    """TLS: the connection stands, and nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        store = RedisStore(f"rediss://127.0.0.1:{door.getsockname()[1]}", timeout=0.05)
        with pytest.raises(StoreUnavailable):
            store.now()
        store.close()
