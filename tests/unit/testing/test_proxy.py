"""A proxy that does to connections what networks do."""

import contextlib
import os
import random
import socket
import struct
import threading
import time
import warnings

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedders import until
from nearcache.testing import FaultProxy

TRACK = b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n"


class Echo:
    """A server that sends back what it gets, and remembers how connections ended."""

    def __init__(self, prefix=b""):
        self.prefix = prefix
        self.ends = []
        self.sent = 0
        self.open = []
        self.threads = []
        self.closing = False
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        self.start(self.accept)

    def start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        self.threads.append(thread)

    def accept(self):
        while True:
            wire, _ = self.door.accept()
            if self.closing:
                wire.close()
                return
            self.open.append(wire)
            self.start(self.serve, wire)

    def serve(self, wire):
        end = "end"
        try:
            while chunk := wire.recv(65536):
                wire.sendall(self.prefix + chunk)
                self.sent += len(self.prefix + chunk)
        except OSError:
            end = "reset"
        self.ends.append(end)
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
        self.open.remove(wire)
        wire.close()

    def close(self):
        if self.closing:
            return
        self.closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.threads[0].join()
        self.door.close()
        for wire in list(self.open):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo):
    with FaultProxy("127.0.0.1", echo.port) as made:
        yield made


@pytest.fixture
def connect(proxy):
    """Open connections through the proxy; they are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def start():
            wire = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a chunk is a chunk
            return stack.enter_context(wire)

        yield start


@pytest.fixture
def client(connect):
    """A connection that works."""
    wire = connect()
    assert talk(wire, b"hello") == b"hello"
    return wire


def talk(wire, data):
    wire.sendall(data)
    return hear(wire, len(data))


def hear(wire, count):
    parts = []
    while count:
        part = wire.recv(count)
        assert part, "the connection ended"
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def tracked(connect):
    wire = connect()
    assert talk(wire, TRACK) == TRACK
    return wire


# Traffic


def test_bytes_pass_unchanged_in_both_directions(connect):
    wire = connect()
    data = random.Random(1).randbytes(5_000_000)
    sender = threading.Thread(target=wire.sendall, args=(data,))
    sender.start()
    assert hear(wire, len(data)) == data
    sender.join()


def test_who_reads_late_gets_everything(connect, proxy, echo):
    wire = connect()
    data = random.Random(2).randbytes(20_000_000)  # more than all the buffers on the way
    sender = threading.Thread(target=wire.sendall, args=(data,))
    sender.start()
    until(lambda: echo.sent > 1_000_000)
    assert hear(wire, len(data)) == data
    sender.join()


def test_a_client_that_has_said_all_still_hears_the_answer(client, echo):
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert hear(client, 10) == b"last words"
    assert client.recv(1) == b""
    assert echo.ends == ["end"]


def test_the_url_is_the_servers_with_the_proxys_port(echo):
    with FaultProxy.of(f"redis://user:p%40ss@localhost:{echo.port}/3?timeout=1") as proxy:
        assert proxy.url == f"redis://user:p%40ss@127.0.0.1:{proxy.port}/3?timeout=1"
    with FaultProxy("127.0.0.1", echo.port) as proxy:
        assert proxy.url == f"redis://127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("url", ["unix:///tmp/socket", "localhost", "redis://"])
def test_a_url_without_a_host_is_refused(url):
    with pytest.raises(ValueError, match="with a host"):
        FaultProxy.of(url)


def test_connections_and_bytes_are_counted(connect, proxy):
    assert (proxy.connections, proxy.accepted) == (0, 0)
    one, other = connect(), connect()
    assert (proxy.connections, proxy.accepted) == (2, 2)
    talk(one, b"12345")
    talk(other, b"67")
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (7, 7)
    one.close()
    until(lambda: proxy.connections == 1)
    assert proxy.accepted == 2


# Delay


def test_a_delayed_direction_is_late_and_the_other_is_not(client, proxy, echo):
    proxy.delay(to_client=0.15)
    before = time.monotonic()
    client.sendall(b"x")
    until(lambda: proxy.bytes_to_server == 6)
    at_server = time.monotonic() - before
    assert hear(client, 1) == b"x"
    assert time.monotonic() - before >= 0.15
    assert at_server < 0.15
    proxy.delay(to_server=0.1, to_client=0.1)
    before = time.monotonic()
    assert talk(client, b"y") == b"y"
    assert time.monotonic() - before >= 0.2


def test_a_delay_is_no_queue_for_chunks(client, proxy):
    proxy.delay(to_client=0.2, to_server=0.2)
    before = time.monotonic()
    for number in range(200):
        client.sendall(b"%04d" % number)
        assert proxy.connections == 1  # the proxy has read this one: each is a chunk of its own
    assert hear(client, 800) == b"".join(b"%04d" % number for number in range(200))
    assert time.monotonic() - before < 20  # and not 200 times 0.4


def test_changing_the_delay_does_not_reorder(client, proxy):
    sent = b""
    for number in range(60):
        proxy.delay(to_server=[0.1, 0.0, 0.01][number % 3])
        client.sendall(word := b"<%d>" % number)
        sent += word
    assert hear(client, len(sent)) == sent


def test_healing_delivers_at_once_what_was_late(client, proxy):
    proxy.delay(to_client=1000.0)
    client.sendall(b"late")
    until(lambda: proxy.bytes_to_server == 9)
    proxy.heal()
    assert hear(client, 4) == b"late"


def test_the_end_of_a_connection_is_as_late_as_its_bytes(client, proxy, echo):
    proxy.delay(to_server=1000.0)
    client.sendall(b"bye")
    client.close()
    assert proxy.bytes_to_server == 5
    assert echo.ends == []
    proxy.heal()
    until(lambda: echo.ends)
    assert proxy.bytes_to_server == 8


def test_a_narrow_lane_takes_its_time_and_keeps_the_order(client, proxy):
    sent = random.Random(3).randbytes(200_000)
    proxy.narrow(to_client=1e6)
    before = time.monotonic()
    assert talk(client, sent) == sent
    assert time.monotonic() - before >= 0.15


def test_a_narrow_lane_is_shared_by_all_connections(connect, proxy):
    proxy.narrow(to_client=1e6)
    first, second = connect(), connect()
    before = time.monotonic()
    for wire in (first, second):
        wire.sendall(bytes(100_000))
    for wire in (first, second):
        hear(wire, 100_000)
    assert time.monotonic() - before >= 0.15


def test_a_healed_lane_is_wide_again(client, proxy):
    proxy.narrow(to_client=10.0)
    client.sendall(b"slow")
    proxy.heal()
    assert hear(client, 4) == b"slow"


def test_a_negative_rate_is_refused(proxy):
    with pytest.raises(ValueError, match="at least 0 bytes"):
        proxy.narrow(to_client=-1)


def test_a_negative_delay_is_refused(proxy):
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0"):
            proxy.delay(to_client=wrong)


# Black holes


def test_a_black_hole_holds_the_answers_until_it_is_healed(client, proxy, echo):
    proxy.black_hole(to_server=False)
    for number in range(10):
        client.sendall(b"%d" % number)
    until(lambda: echo.sent == 15)
    assert proxy.bytes_to_client == 5  # hello, and no more
    proxy.heal()
    assert hear(client, 10) == b"0123456789"
    assert talk(client, b"on") == b"on"


def test_a_black_hole_holds_the_questions_until_it_is_healed(client, proxy, echo):
    proxy.black_hole(to_client=False)
    client.sendall(b"one")
    assert proxy.bytes_to_server == 5
    client.sendall(b"two")
    assert (proxy.bytes_to_server, echo.sent) == (5, 5)
    proxy.heal()
    assert hear(client, 6) == b"onetwo"


def test_who_sends_into_a_black_hole_is_blocked_in_the_end_and_nothing_is_lost(client, proxy):
    proxy.black_hole()
    client.settimeout(0.05)
    data = random.Random(3).randbytes(1 << 20)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 1 << 30:
            sent += client.send(data[sent % len(data) :])
    assert sent < 100_000_000
    client.settimeout(20)
    proxy.heal()
    expected = (data * (sent // len(data) + 1))[:sent]
    assert hear(client, sent) == expected


def test_a_black_hole_hides_how_connections_end(connect, client, proxy, echo):
    gone = connect()
    talk(gone, b"I was here")
    proxy.black_hole()
    client.close()
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    assert proxy.connections == 2
    assert echo.ends == []
    proxy.heal()
    until(lambda: len(echo.ends) == 2)
    assert sorted(echo.ends) == ["end", "reset"]
    until(lambda: proxy.connections == 0)


def test_new_connections_are_accepted_by_a_black_hole_and_hear_nothing(connect, proxy, echo):
    proxy.black_hole()
    wire = connect()
    wire.sendall(b"anyone?")
    assert (proxy.accepted, proxy.bytes_to_server, proxy.bytes_to_client) == (1, 0, 0)
    proxy.heal()
    assert hear(wire, 7) == b"anyone?"


def test_a_server_that_is_not_there_is_hidden_by_a_black_hole_too(connect, proxy, echo):
    echo.close()
    proxy.black_hole()
    wire = connect()
    wire.settimeout(0.05)
    with pytest.raises(TimeoutError):
        wire.recv(1)
    wire.settimeout(20)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        wire.recv(1)


@pytest.mark.parametrize("end", ["heal", "black_hole"])
def test_what_a_dropping_black_hole_swallowed_ends_the_connection(client, connect, proxy, end):
    proxy.black_hole(to_client=True, to_server=False, drop=True)
    late = connect()
    for wire in (client, late):
        wire.sendall(b"lost")
    until(lambda: proxy.bytes_to_server == 13)
    assert (proxy.bytes_to_client, proxy.connections) == (5, 2)
    proxy.heal() if end == "heal" else proxy.black_hole(False, False)
    for wire in (client, late):
        with pytest.raises(ConnectionResetError):
            wire.recv(1)
    assert talk(connect(), b"new") == b"new"


def test_what_was_said_before_a_fault_is_passed_on_before_it(client, proxy):
    for _ in range(50):
        client.sendall(b"before")
        proxy.black_hole(to_client=False)
        assert proxy.bytes_to_server % 6 == 5  # hello, and every "before"
        assert hear(client, 6) == b"before"
        proxy.heal()


# Ends


def test_a_reset_reaches_both_ends(client, connect, proxy, echo):
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    until(lambda: echo.ends == ["reset"])
    assert proxy.connections == 0
    assert talk(connect(), b"new") == b"new"


def test_a_half_open_connection_is_closed_for_the_server_alone(client, connect, proxy, echo):
    proxy.half_open()
    until(lambda: echo.ends == ["end"])
    for _ in range(10):
        client.sendall(b"is anybody there?")
    assert proxy.connections == 1
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (5, 5)
    assert talk(connect(), b"new") == b"new"  # those that come are as ever
    proxy.half_open()  # again: nothing changes for who is half open already
    assert proxy.connections == 2
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_client_may_leave_a_half_open_connection(client, proxy):
    proxy.half_open()
    client.close()
    until(lambda: proxy.connections == 0)


def test_who_is_refused_may_come_again_to_the_same_port(client, connect, proxy):
    port = proxy.port
    proxy.refuse()
    proxy.refuse()
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            connect()
    assert talk(client, b"still") == b"still"
    proxy.heal()
    proxy.heal()
    assert proxy.port == port
    assert talk(connect(), b"again") == b"again"


def test_retargeted_connections_go_to_another_server(client, connect, proxy):
    other = Echo(prefix=b"2")
    try:
        proxy.retarget("127.0.0.1", other.port)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        proxy.heal()  # a failover is not taken back
        wire = connect()
        wire.sendall(b"?")
        assert hear(wire, 2) == b"2?"
    finally:
        wire.close()
        proxy.close()
        other.close()


def test_a_connection_to_a_server_that_is_gone_is_reset(client, connect, proxy, echo):
    echo.close()
    assert client.recv(1) == b""
    with pytest.raises(ConnectionResetError):
        connect().recv(1)
    until(lambda: proxy.connections == 1)  # the client's, which has not said that it is done
    client.close()
    until(lambda: proxy.connections == 0)


def test_who_writes_to_a_server_that_has_left_is_reset():
    with socket.create_server(("127.0.0.1", 0)) as door:
        with FaultProxy("127.0.0.1", door.getsockname()[1]) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as wire:
                door.accept()[0].close()
                assert wire.recv(1) == b""
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    until(lambda: wire.send(b"are you there?") == 0)
            assert proxy.connections == 0


# Tracked and untracked


def test_a_connection_is_tracked_from_its_tracking_command_on(client, connect, proxy):
    other = tracked(connect)
    proxy.black_hole(only="tracked")
    other.sendall(b"held")
    assert talk(client, b"passes") == b"passes"
    client.sendall(TRACK)  # becomes tracked: held with this very command
    assert proxy.bytes_to_server == len(b"hello" + TRACK + b"passes")
    proxy.heal()
    assert hear(other, 4) == b"held"
    assert hear(client, len(TRACK)) == TRACK


def test_a_tracking_command_in_pieces_and_in_small_letters_is_seen(connect, proxy):
    wire = connect()
    for byte in TRACK.lower():
        assert talk(wire, bytes([byte])) == bytes([byte])
    proxy.reset(only="untracked")
    assert talk(wire, b"mine") == b"mine"
    proxy.reset(only="tracked")
    with pytest.raises(ConnectionResetError):
        wire.recv(1)


def test_every_fault_can_be_for_one_class(client, connect, proxy, echo):
    other = tracked(connect)

    proxy.delay(to_client=1000.0, only="tracked")
    other.sendall(b"late")
    assert talk(client, b"soon") == b"soon"
    proxy.heal()
    assert hear(other, 4) == b"late"

    proxy.black_hole(only="untracked")
    client.sendall(b"held")
    assert talk(other, b"passes") == b"passes"
    assert proxy.bytes_to_client == len(b"hello" + TRACK + b"late" + b"soon" + b"passes")
    proxy.heal()
    assert hear(client, 4) == b"held"

    proxy.half_open(only="tracked")
    until(lambda: echo.ends == ["end"])
    assert talk(client, b"on") == b"on"
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        other.recv(1)

    proxy.refuse(only="tracked")
    other = connect()
    assert talk(other, b"welcome") == b"welcome"
    other.sendall(TRACK)
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    proxy.heal()

    other = tracked(connect)
    proxy.retarget("127.0.0.1", echo.port, only="tracked")
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert talk(client, b"on") == b"on"


def test_a_class_that_does_not_exist_is_refused(proxy):
    for fault in (proxy.delay, proxy.black_hole, proxy.reset, proxy.half_open, proxy.refuse):
        with pytest.raises(ValueError, match="only="):
            fault(only="both")
    with pytest.raises(ValueError, match="begins untracked"):
        proxy.refuse(only="untracked")


# Its life


def test_closing_leaves_no_thread_and_no_socket(echo):
    def sockets():
        return len([c for c in psutil.Process().net_connections("all") if c.fd >= 0])

    before = sockets()
    proxy = FaultProxy("127.0.0.1", echo.port)
    wires = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(10)]
    assert talk(wires[0], b"x") == b"x"
    proxy.half_open()
    wires.append(socket.create_connection(("127.0.0.1", proxy.port)))
    proxy.black_hole()
    wires[-1].sendall(b"held")
    proxy.refuse()
    proxy.close()
    proxy.close()
    assert proxy.connections == 0
    assert proxy.accepted == 11
    with pytest.raises(RuntimeError, match="closed"):
        proxy.heal()
    for wire in wires:
        with contextlib.suppress(ConnectionResetError):
            assert wire.recv(1) == b""
        wire.close()
    until(lambda: not echo.open)
    assert not [t for t in threading.enumerate() if t.name.startswith("fault-proxy")]
    until(lambda: sockets() == before)


def test_a_child_process_does_not_keep_connections_open(client, proxy, echo):
    hold, let_go = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork with threads
        child = os.fork()
    if child == 0:  # knows only that it was born; waits until the parent has seen enough
        code = 1
        with contextlib.suppress(BaseException):
            proxy.close()
            os.close(let_go)
            os.read(hold, 1)
            code = 0
        os._exit(code)
    try:
        os.close(hold)
        assert talk(client, b"alive") == b"alive"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        until(lambda: echo.ends == ["reset"])
    finally:
        os.close(let_go)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_it_survives_clients_and_servers_that_vanish_at_any_point(echo, proxy):
    # Threads that talk, hang up and reset at random, while faults come and go at random. What a
    # connection hears must be the beginning of what it said.
    stop = threading.Event()
    wrong = []

    def visit(seed):
        dice = random.Random(seed)
        while not stop.is_set():
            said, heard = b"", b""
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.02) as wire:
                    for _ in range(dice.randrange(5)):
                        said += (part := dice.choice([TRACK, dice.randbytes(dice.randrange(9999))]))
                        wire.sendall(part)
                        heard += wire.recv(dice.choice([1, 100, 99999]))
                    if dice.random() < 0.5:
                        wire.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
            if not said.startswith(heard):
                wrong.append((said, heard))

    def vanish():
        dice = random.Random(0)
        while not stop.wait(0.002):
            for wire in dice.sample(open_ := list(echo.open), len(open_) // 4):
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(6)]
    threads.append(threading.Thread(target=vanish))
    for thread in threads:
        thread.start()
    dice = random.Random(7)
    try:
        for _ in range(400):
            only = dice.choice(["tracked", "untracked", None])
            dice.choice(
                [
                    proxy.heal,
                    lambda only=only: proxy.delay(0.004, 0.002, only=only),
                    lambda only=only: proxy.delay(only=only),
                    lambda only=only: proxy.black_hole(only=only),
                    lambda only=only: proxy.black_hole(False, True, drop=True, only=only),
                    lambda only=only: proxy.black_hole(False, False, only=only),
                    lambda only=only: proxy.reset(only=only),
                    lambda only=only: proxy.half_open(only=only),
                    proxy.refuse,
                    lambda: proxy.refuse(only="tracked"),
                    lambda: proxy.retarget("127.0.0.1", echo.port),
                ]
            )()
            proxy.connections
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    proxy.heal()
    until(lambda: proxy.connections == 0)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as wire:
        assert talk(wire, b"hello again") == b"hello again"


def test_faults_and_close_at_the_same_time_hurt_nobody(echo):
    for _ in range(20):
        proxy = FaultProxy("127.0.0.1", echo.port)
        begin = threading.Barrier(4)

        def toggle(proxy=proxy, begin=begin):
            begin.wait()
            with contextlib.suppress(RuntimeError):
                while True:
                    proxy.black_hole()
                    proxy.heal()

        threads = [threading.Thread(target=toggle) for _ in range(3)]
        for thread in threads:
            thread.start()
        begin.wait()
        proxy.close()
        for thread in threads:
            thread.join()


# A real server


def one_try(to, seconds=20):
    """A client that does not try again by itself."""
    return redis.Redis.from_url(
        to.url, socket_timeout=seconds, retry=Retry(NoBackoff(), 0), protocol=3
    )


def test_a_real_server_is_itself_through_the_proxy(redis_server):
    value = random.Random(4).randbytes(3_000_000)
    with FaultProxy.of(redis_server.url) as proxy, one_try(proxy) as client:
        client.set("k", value)
        assert client.get("k") == value
        with client.pipeline(transaction=False) as pipe:
            for number in range(1000):
                pipe.set(f"k{number}", number)
            assert pipe.execute() == [True] * 1000
        assert proxy.bytes_to_server > len(value) < proxy.bytes_to_client


def test_a_tracked_connection_of_a_real_client_is_cut_while_the_pool_goes_on(redis_server):
    with FaultProxy.of(redis_server.url) as proxy, one_try(proxy) as client:
        pushes = []
        link = client.connection_pool.get_connection()
        link._parser.set_invalidation_push_handler(pushes.append)
        link.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "k")
        assert link.read_response() == b"OK"

        def hears(key):
            client.set(key, "x")
            link.send_command("PING")
            assert link.read_response() == b"PONG"
            return pushes.pop()

        assert hears("k1")[1] == [b"k1"]
        proxy.black_hole(to_server=False, only="tracked")
        for _ in range(10):
            client.set("k2", "x")
        assert not link.can_read(0)
        proxy.heal()
        assert hears("k3")[1] == [b"k3"]
        proxy.reset(only="tracked")
        with pytest.raises(redis.ConnectionError):
            link.send_command("PING", check_health=False)
            link.read_response()
        assert client.get("k2") == b"x"
        client.connection_pool.release(link)


def test_a_killed_server_is_noticed_and_found_again(own_server):
    server = own_server()
    with FaultProxy.of(server.url) as proxy, one_try(proxy) as client:
        client.set("k", "1")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        server.restart()
        assert client.get("k") is None


def test_a_paused_server_answers_late_through_the_proxy(own_server):
    server = own_server()
    with FaultProxy.of(server.url) as proxy, one_try(proxy) as client:
        client.ping()
        with one_try(server, seconds=0.05) as direct:
            server.pause()
            with pytest.raises(redis.TimeoutError):
                direct.get("k")
        before = proxy.bytes_to_client
        answers = []
        asker = threading.Thread(target=lambda: answers.append(client.get("k")))
        asker.start()
        assert proxy.bytes_to_client == before
        server.resume()
        asker.join()
        assert answers == [None]
