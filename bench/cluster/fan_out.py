"""What one write costs when many listen: the server, each listener, bytes and memory.

Listeners are bare sockets that track a namespace's prefixes as a link does, so that the server is
measured and not they. What a push costs the process that hears it is the processor time of a real
link's thread.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from bench.machine import log, one_core, other_core
from bench.report import Report, Table

__all__ = ["FAN", "measure"]

_SPACE = "a"
_PREFIXES = tuple(f"nc1:{{{_SPACE}{end}" for end in (":", "}", "/"))
_PIPELINE = 100

FAN: dict[str, float] = {}
"""Seconds and bytes by name; see ``measure``."""


def measure(report: Report, *, quick: bool) -> None:
    """Write with 0, 10, 50 and 200 listeners; then let a real link hear, and see who else pays."""
    from clusters import Node

    writes = 500 if quick else 4000
    table = Table(
        f"One SET of 100 bytes while others listen, {writes} each",
        [
            "listeners",
            "µs of the server, alone",
            f"µs of the server, {_PIPELINE} in a pipeline",
            "bytes out per listener",
            "server memory per listener, KB",
        ],
    )
    found: dict[int, tuple[float, float]] = {}
    log("cluster: listeners")
    with Node() as server, one_core():
        other_core(server.pid)
        for count in (0, 10, 50, 200):
            with _listeners(server, count) as memory:
                alone, out = _writes(server, writes, 1)
                piped, _ = _writes(server, writes, _PIPELINE)
            found[count] = alone, piped
            each = out / count if count else 0
            if count:
                FAN["bytes per push"] = each
                FAN["memory per link"] = memory
            table.rows.append([count, 1e6 * alone, 1e6 * piped, each, memory / 1024])
        FAN["ping"] = _pings(server, writes)
    FAN["write"], FAN["write in a pipeline"] = found[0]
    FAN["push"] = (found[200][0] - found[0][0]) / 200
    FAN["push in a pipeline"] = (found[200][1] - found[0][1]) / 200
    report.tables.append(table)
    _heard(report, writes)
    _topology(report)


@contextlib.contextmanager
def _listeners(server: Any, count: int) -> Iterator[float]:
    """Open listeners that read and forget; gives the server's memory for each."""
    selector = selectors.DefaultSelector()
    ended = threading.Event()
    with ExitStack() as stack, server.client(protocol=2) as client:
        before = client.info("memory")["used_memory"]
        for _ in range(count):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            prefixes = " ".join(f"PREFIX {prefix}" for prefix in _PREFIXES)
            wire.sendall(f"HELLO 3\r\nCLIENT TRACKING ON BCAST {prefixes}\r\n".encode())
            answer = b""
            while not answer.endswith(b"+OK\r\n"):
                answer += wire.recv(4096)
            selector.register(wire, selectors.EVENT_READ)

        def drain() -> None:
            while not ended.is_set():
                for key, _ in selector.select(0.05):
                    key.fileobj.recv(1 << 16)  # type: ignore[union-attr]

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        try:
            yield (client.info("memory")["used_memory"] - before) / count if count else 0.0
        finally:
            ended.set()
            thread.join()


def _busy(client: Any) -> tuple[float, int]:
    info = client.info("all")
    return info["used_cpu_user"] + info["used_cpu_sys"], info["total_net_output_bytes"]


def _writes(server: Any, count: int, at_once: int) -> tuple[float, float]:
    """Return the server's processor seconds per write, and bytes out per write."""
    value = b"x" * 100
    with server.client(protocol=2) as client:
        client.ping()
        cpu, out = _busy(client)
        for start in range(0, count, at_once):
            with client.pipeline(transaction=False) as pipe:
                for n in range(start, start + at_once):
                    pipe.set(f"nc1:{{{_SPACE}:{n % 64:02x}}}:k:key-{n}.", value)
                pipe.execute()
        then, later = _busy(client)
    replies = 5 * count  # +OK
    info = 7000  # the first INFO's own text; small beside the rest
    return (then - cpu) / count, max(0.0, later - out - replies - info) / count


def _pings(server: Any, count: int) -> float:
    """Return the server's processor seconds for what a link asks to know that it hears."""
    with server.client(protocol=2) as client:
        cpu, _ = _busy(client)
        for _ in range(count):
            with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("TIME")
                pipe.execute_command("PING")
                pipe.execute()
        then, _ = _busy(client)
    return (then - cpu) / count


def _heard(report: Report, writes: int) -> None:
    """Measure what a push costs the process that hears it."""
    from clusters import Cluster
    from nearcache import NearCache, Options

    table = Table(
        "A process that hears of a foreign write, µs of its link's thread",
        ["", "writes one by one", f"{_PIPELINE} in a pipeline"],
    )
    for nodes in (1, 3):
        log(f"cluster: hearing from {nodes}")
        with Cluster(primaries=nodes, replicas=0) as cluster, one_core():
            for node in cluster.nodes:
                other_core(node.pid)
            options = Options(link_timeout=20.0)
            with NearCache(cluster.url, namespace=_SPACE, ttl=None, options=options) as cache:
                cache.get("nothing")
                _until(lambda cache=cache: cache.link == "tracking")
                busy = _link_clock()
                row = []
                for at_once in (1, _PIPELINE):
                    before = busy()
                    _write_all(cluster, writes, at_once)
                    time.sleep(0.3)  # the last are still under way
                    row.append((busy() - before) / writes)
            FAN[f"heard from {nodes}"], FAN[f"heard from {nodes} in a pipeline"] = row
            table.rows.append([f"a cluster of {nodes}", *(1e6 * seconds for seconds in row)])
    report.tables.append(table)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            message = "the link does not track"
            raise TimeoutError(message)
        time.sleep(0.01)


def _link_clock() -> Callable[[], float]:
    (thread,) = [each for each in threading.enumerate() if each.name == "nearcache-link"]
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    return lambda: time.clock_gettime(clock)


def _write_all(cluster: Any, count: int, at_once: int) -> None:
    from clusters import slot_of

    by_port: dict[int, list[str]] = {}
    owners = {slot: node.port for node in cluster.nodes for slot in cluster.slots_of(node)}
    for n in range(count):
        key = f"nc1:{{{_SPACE}:{n % 64:02x}}}:k:key-{n}."
        by_port.setdefault(owners[slot_of(key.encode())], []).append(key)
    for port, keys in by_port.items():
        wire = cluster.wires()[port]
        for start in range(0, len(keys), at_once):
            with wire.pipeline(transaction=False) as pipe:
                for key in keys[start : start + at_once]:
                    pipe.set(key, b"x" * 100)
                pipe.execute()


def _topology(report: Report) -> None:
    """Measure what it costs to read who serves what, in clusters of 3 and of 100 primaries."""
    from nearcache.stores.redis.topology import topology_of

    table = Table("CLUSTER NODES, a replica for each primary", ["primaries", "bytes", "ms to read"])
    for primaries in (3, 100):
        lines = []
        for n in range(primaries):
            first, end = (16384 * k // primaries for k in (n, n + 1))
            name = f"{n:040x}"
            where = f"10.0.{n}.1:6379@16379,host-{n}"
            lines.append(f"{name} {where} master - 0 1700000000000 {n} connected {first}-{end - 1}")
            lines.append(f"{n + 1000:040x} {where} slave {name} 0 1700000000000 {n} connected")
        text = "\n".join(lines).encode()
        start = time.perf_counter()
        for _ in range(20):
            topology_of(text, ("10.0.0.1", 6379), by_name=False)
        seconds = (time.perf_counter() - start) / 20
        FAN[f"topology of {primaries}"] = seconds
        table.rows.append([primaries, len(text), 1000 * seconds])
    report.tables.append(table)
